//! Look-ups in the DNS: where a domain takes its mail, addresses, TXT, names of addresses.
//!
//! One resolver with one cache serves everybody: delivery through `Dns`, and the verification of
//! SPF, DKIM, DMARC and ARC through `Dns::authenticator`. An answer is one of three: something is
//! there, nothing is there, or nobody knows at present.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as HickoryError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use mail_auth::MessageAuthenticator;
use rand::seq::SliceRandom;

use crate::config::value as config;

/// Most hosts of a domain that are considered, and most addresses of a host: a domain may list
/// thousands to keep its senders busy.
const MAX_HOSTS: usize = 20;

/// Why a look-up gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsError {
    /// The name does not exist, has no such records, or is no name.
    NotFound,
    /// No server could be asked, or it failed: worth asking again later.
    Temporary(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::NotFound => f.write_str("no such name or record"),
            DnsError::Temporary(reason) => write!(f, "the look-up failed: {reason}"),
        }
    }
}

impl std::error::Error for DnsError {}

/// A host that takes mail for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailHost {
    /// Lower is tried first.
    pub preference: u16,
    /// The host's name without final dot, in lower case, or an address in brackets.
    pub name: String,
}

/// Where a domain takes its mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailRoute {
    /// At these hosts, in the order in which they are to be tried.
    Hosts(Vec<MailHost>),
    /// Nowhere, and says so (RFC 7505).
    NullMx,
}

/// The resolver.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns { .. }")
    }
}

impl Dns {
    /// A resolver as configured: the machine's own configuration, or one server.
    pub fn new(which: &config::Dns) -> Result<Dns, DnsError> {
        match which {
            config::Dns::System => {
                let (config, options) = read_system_conf().map_err(failure)?;
                Dns::with_config(config, options)
            }
            config::Dns::Server(address) => Dns::with_server(*address),
        }
    }

    /// A resolver that asks one server.
    pub fn with_server(address: SocketAddr) -> Result<Dns, DnsError> {
        let mut options = ResolverOpts::default();
        options.use_hosts_file = ResolveHosts::Never;
        Dns::with_config(only(address), options)
    }

    fn with_config(config: ResolverConfig, options: ResolverOpts) -> Result<Dns, DnsError> {
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(failure)?;
        Ok(Dns { resolver })
    }

    /// The verifier of SPF, DKIM, DMARC and ARC. It asks through this resolver and its cache.
    pub fn authenticator(&self) -> MessageAuthenticator {
        MessageAuthenticator(self.resolver.clone())
    }

    /// The hosts that take mail for a domain, best first, equals in random order (RFC 5321, 5.1).
    /// Without MX records the domain's own address counts; an address literal is its own host.
    pub async fn mail_route(&self, domain: &str) -> Result<MailRoute, DnsError> {
        if literal(domain).is_some() {
            return Ok(MailRoute::Hosts(vec![MailHost { preference: 0, name: domain.to_owned() }]));
        }
        let mut hosts = match self.look_up(domain, RecordType::MX).await {
            Ok(lookup) => mail_hosts(&lookup),
            Err(DnsError::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        if hosts.is_empty() {
            self.addresses(domain).await?;
            let name = shown(domain);
            return Ok(MailRoute::Hosts(vec![MailHost { preference: 0, name }]));
        }
        // RFC 7505, 3: the root as the only exchange. Beside others it names no host at all.
        hosts.retain(|host| !host.name.is_empty());
        if hosts.is_empty() {
            return Ok(MailRoute::NullMx);
        }
        hosts.shuffle(&mut rand::rng());
        hosts.sort_by_key(|host| host.preference);
        hosts.truncate(MAX_HOSTS);
        Ok(MailRoute::Hosts(hosts))
    }

    /// The addresses of a host, IPv6 first; those of either kind are enough.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        let (six, four) =
            tokio::join!(self.look_up(host, RecordType::AAAA), self.look_up(host, RecordType::A));
        let mut addresses = Vec::new();
        for lookup in [&six, &four].into_iter().flatten() {
            addresses.extend(lookup.answers().iter().filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            }));
        }
        addresses.truncate(MAX_HOSTS);
        match (addresses.is_empty(), six, four) {
            (false, _, _) => Ok(addresses),
            (true, Err(error @ DnsError::Temporary(_)), _)
            | (true, _, Err(error @ DnsError::Temporary(_))) => Err(error),
            (true, _, _) => Err(DnsError::NotFound),
        }
    }

    /// The TXT records of a name, the strings of each joined.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let lookup = self.look_up(name, RecordType::TXT).await?;
        let texts: Vec<String> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
                _ => None,
            })
            .collect();
        if texts.is_empty() { Err(DnsError::NotFound) } else { Ok(texts) }
    }

    /// The hosts to which the mail of a domain goes, each behind its preference.
    pub async fn mail_hosts(&self, domain: &str) -> Result<Vec<String>, DnsError> {
        let lookup = self.look_up(domain, RecordType::MX).await?;
        let host = |record: &Record| match &record.data {
            RData::MX(mx) => Some(format!("{} {}", mx.preference, mx.exchange)),
            _ => None,
        };
        Ok(lookup.answers().iter().filter_map(host).collect())
    }

    /// The hosts of a service (RFC 2782): priority, weight, port, name.
    pub async fn services(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let lookup = self.look_up(name, RecordType::SRV).await?;
        let host = |record: &Record| match &record.data {
            RData::SRV(srv) => Some(format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target)),
            _ => None,
        };
        Ok(lookup.answers().iter().filter_map(host).collect())
    }

    /// The names of an address, without final dots.
    pub async fn names_of(&self, address: IpAddr) -> Result<Vec<String>, DnsError> {
        let lookup = self.resolver.reverse_lookup(Name::from(address)).await.map_err(failure)?;
        let names: Vec<String> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::PTR(name) => Some(shown(&name.0.to_ascii())),
                _ => None,
            })
            .take(MAX_HOSTS)
            .collect();
        if names.is_empty() { Err(DnsError::NotFound) } else { Ok(names) }
    }

    async fn look_up(&self, name: &str, record_type: RecordType) -> Result<Lookup, DnsError> {
        let mut name = Name::from_utf8(name).map_err(|_| DnsError::NotFound)?;
        // A relative name would be tried below the machine's search domains, too.
        name.set_fqdn(true);
        self.resolver.lookup(name, record_type).await.map_err(failure)
    }
}

fn only(address: SocketAddr) -> ResolverConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn mail_hosts(lookup: &Lookup) -> Vec<MailHost> {
    lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::MX(mx) => {
                Some(MailHost { preference: mx.preference, name: shown(&mx.exchange.to_ascii()) })
            }
            _ => None,
        })
        .collect()
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321, 4.1.3).
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
            inner.get(5..)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn shown(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn failure(error: NetError) -> DnsError {
    match &error {
        NetError::Dns(HickoryError::NoRecordsFound(none))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            DnsError::NotFound
        }
        NetError::Dns(HickoryError::ResponseCode(ResponseCode::NXDomain)) => DnsError::NotFound,
        _ => DnsError::Temporary(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, MX, PTR, TXT};
    use tokio::net::UdpSocket;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("name")
    }

    fn answer(asked: &str, record_type: RecordType) -> Result<Vec<RData>, ResponseCode> {
        let mx = |preference, host| RData::MX(MX::new(preference, name(host)));
        Ok(match (asked, record_type) {
            ("many.test.", RecordType::MX) => {
                vec![mx(20, "c.test."), mx(10, "A.test."), mx(20, "b.test."), mx(5, ".")]
            }
            ("null.test.", RecordType::MX) => vec![mx(0, ".")],
            ("bare.test." | "v4.test.", RecordType::A) => vec![RData::A(A::new(192, 0, 2, 1))],
            ("bare.test." | "v4.test." | "empty.test.", _) => vec![],
            ("broken.test.", _) => return Err(ResponseCode::ServFail),
            ("half.test.", RecordType::A) => vec![],
            ("half.test.", _) => return Err(ResponseCode::ServFail),
            ("text.test.", RecordType::TXT) => {
                vec![RData::TXT(TXT::new(vec!["v=spf1 ".to_owned(), "-all".to_owned()]))]
            }
            ("1.2.0.192.in-addr.arpa.", RecordType::PTR) => vec![RData::PTR(PTR(name("Bare.test.")))],
            _ => return Err(ResponseCode::NXDomain),
        })
    }

    async fn dns() -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let address = socket.local_addr().expect("address");
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).expect("query");
                let question = query.queries[0].clone();
                let mut reply = Message::new(query.id, MessageType::Response, OpCode::Query);
                reply.metadata.recursion_available = true;
                reply.add_query(question.clone());
                match answer(&question.name().to_ascii().to_lowercase(), question.query_type()) {
                    Ok(data) => {
                        for data in data {
                            reply.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                        }
                    }
                    Err(code) => reply.metadata.response_code = code,
                }
                socket.send_to(&reply.to_vec().expect("reply"), from).await.expect("sends");
            }
        });
        Dns::new(&config::Dns::Server(address)).expect("resolver")
    }

    async fn hosts(dns: &Dns, domain: &str) -> Vec<(u16, String)> {
        match dns.mail_route(domain).await {
            Ok(MailRoute::Hosts(hosts)) => {
                hosts.into_iter().map(|host| (host.preference, host.name)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn mail_hosts_are_sorted_and_equals_are_shuffled() {
        let dns = dns().await;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..64 {
            let hosts = hosts(&dns, "many.test").await;
            assert_eq!(hosts.len(), 3);
            assert_eq!(hosts[0], (10, "a.test".to_owned()));
            seen.insert(hosts[1].1.clone());
        }
        assert_eq!(seen.len(), 2);
    }

    #[tokio::test]
    async fn domains_without_mx_records() {
        let dns = dns().await;
        assert_eq!(dns.mail_route("null.test").await, Ok(MailRoute::NullMx));
        assert_eq!(hosts(&dns, "Bare.test").await, [(0, "bare.test".to_owned())]);
        assert_eq!(hosts(&dns, "[192.0.2.7]").await, [(0, "[192.0.2.7]".to_owned())]);
        assert_eq!(dns.mail_route("empty.test").await, Err(DnsError::NotFound));
        assert_eq!(dns.mail_route("none.test").await, Err(DnsError::NotFound));
        assert_eq!(dns.mail_route("no name..test").await, Err(DnsError::NotFound));
        assert!(matches!(dns.mail_route("broken.test").await, Err(DnsError::Temporary(_))));
    }

    #[tokio::test]
    async fn addresses_texts_and_names() {
        let dns = dns().await;
        let v4: IpAddr = "192.0.2.1".parse().expect("address");
        assert_eq!(dns.addresses("v4.test").await, Ok(vec![v4]));
        assert_eq!(dns.addresses("[192.0.2.1]").await, Ok(vec![v4]));
        assert_eq!(dns.addresses("none.test").await, Err(DnsError::NotFound));
        assert!(matches!(dns.addresses("half.test").await, Err(DnsError::Temporary(_))));
        assert_eq!(dns.txt("text.test").await, Ok(vec!["v=spf1 -all".to_owned()]));
        assert_eq!(dns.txt("bare.test").await, Err(DnsError::NotFound));
        assert_eq!(dns.names_of(v4).await, Ok(vec!["bare.test".to_owned()]));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_temporary_failure() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let address = socket.local_addr().expect("address");
        drop(socket);
        let mut options = ResolverOpts::default();
        options.timeout = std::time::Duration::from_millis(50);
        let dns = Dns::with_config(only(address), options).expect("resolver");
        assert!(matches!(dns.mail_route("many.test").await, Err(DnsError::Temporary(_))));
    }
}
