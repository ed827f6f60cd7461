//! Where the mail for a domain goes: to the relay, or to the hosts that its MX records name, or, for
//! want of those, to its own address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use futures_util::future::join_all;

use crate::config::value::Relay;
use crate::deliver::report::Report;
use crate::dns::{Dns, DnsError, MailHost, MailRoute};
use crate::smtp::reply::EnhancedCode;

/// Any port will do where nothing is sent; this one discards (RFC 863).
const DISCARD_PORT: u16 = 9;

/// Who we are, so that we do not send to ourselves.
#[derive(Clone, Debug)]
pub struct Ourselves {
    /// Our name, in lower-case A-labels.
    pub host_name: String,
    /// Where we take mail from other servers.
    pub smtp_listen: Option<SocketAddr>,
}

/// A host to be tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Its name, or an address in brackets.
    pub name: String,
    /// Its addresses, in the order in which they are tried.
    pub addresses: Vec<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Where mail goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// To the first of these hosts that takes it; at least one.
    Hosts(Vec<Hop>),
    /// Nowhere, or nobody knows at present.
    Nowhere(Report),
}

/// The relay as the only host.
pub async fn to_relay(dns: &Dns, relay: &Relay) -> Route {
    let addresses = match relay.host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) => dns.addresses(&relay.host).await,
    };
    match addresses {
        Ok(addresses) => Route::Hosts(vec![Hop { name: relay.host.clone(), addresses, port: relay.port }]),
        // The relay is what somebody has configured: whatever is wrong with it, no mail fails for it.
        Err(error) => {
            let text = format!("The relay {} was not found: {error}", relay.host);
            Route::Nowhere(Report::later(EnhancedCode(4, 4, 3), &text))
        }
    }
}

/// The hosts of a domain (RFC 5321, 5.1).
pub async fn to_domain(dns: &Dns, ourselves: &Ourselves, port: u16, domain: &str) -> Route {
    let hosts = match dns.mail_route(domain).await {
        Ok(MailRoute::Hosts(hosts)) => hosts,
        // RFC 7505, 4.1
        Ok(MailRoute::NullMx) => {
            let text = format!("{domain} accepts no mail");
            return Route::Nowhere(Report::failed(EnhancedCode(5, 1, 10), &text));
        }
        Err(DnsError::NotFound) => {
            let text = format!("The domain {domain} was not found");
            return Route::Nowhere(Report::failed(EnhancedCode(5, 1, 2), &text));
        }
        Err(DnsError::Temporary(reason)) => {
            let text = format!("The look-up of {domain} failed: {reason}");
            return Route::Nowhere(Report::later(EnhancedCode(4, 4, 3), &text));
        }
    };
    let addresses = join_all(hosts.iter().map(|host| dns.addresses(&host.name))).await;
    choose(ourselves, port, domain, hosts.into_iter().zip(addresses).collect())
}

/// The hosts that may be tried of those that a domain names.
fn choose(
    ourselves: &Ourselves,
    port: u16,
    domain: &str,
    mut hosts: Vec<(MailHost, Result<Vec<IpAddr>, DnsError>)>,
) -> Route {
    let is_us = |(host, addresses): &(MailHost, Result<Vec<IpAddr>, DnsError>)| {
        host.name == ourselves.host_name
            || addresses.iter().flatten().any(|address| ourselves.listens_at(*address, port))
    };
    // RFC 5321, 5.1: with us go all hosts that are not better than we, else mail would go in circles.
    let ours = hosts.iter().filter(|host| is_us(host)).map(|(host, _)| host.preference).min();
    if let Some(ours) = ours {
        hosts.retain(|(host, _)| host.preference < ours);
        if hosts.is_empty() {
            let text = format!("Mail for {domain} leads back to this server, which has no such domain");
            return Route::Nowhere(Report::failed(EnhancedCode(5, 4, 6), &text));
        }
    }
    let mut reason = None;
    let mut hops = Vec::new();
    for (host, addresses) in hosts {
        match addresses {
            Ok(addresses) => hops.push(Hop { name: host.name, addresses, port }),
            Err(DnsError::NotFound) => {}
            Err(DnsError::Temporary(error)) => reason = Some(error),
        }
    }
    match (hops.is_empty(), reason) {
        (false, _) => Route::Hosts(hops),
        (true, Some(reason)) => {
            let text = format!("The mail hosts of {domain} could not be looked up: {reason}");
            Route::Nowhere(Report::later(EnhancedCode(4, 4, 3), &text))
        }
        (true, None) => {
            let text = format!("None of the mail hosts of {domain} exists");
            Route::Nowhere(Report::failed(EnhancedCode(5, 4, 4), &text))
        }
    }
}

impl Ourselves {
    /// Whether our own server for other servers' mail answers there.
    fn listens_at(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        match self.smtp_listen {
            Some(listen) if listen.port() != port => false,
            Some(listen) if listen.ip().is_unspecified() => is_of_this_machine(address),
            Some(listen) => listen.ip().to_canonical() == address,
            None => false,
        }
    }
}

/// Whether packets to an address would stay on this machine: then their source is that very address.
/// Connecting a UDP socket sends nothing. (To bind the address proves nothing: a machine may be set
/// up so that it can bind foreign ones.)
fn is_of_this_machine(address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, DISCARD_PORT))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip().to_canonical() == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::report::Fate;

    type Found = Result<Vec<IpAddr>, DnsError>;

    fn found(address: &str) -> Found {
        Ok(vec![address.parse().unwrap()])
    }

    fn names(hosts: &[(u16, &str, Found)], listen: &str) -> Result<Vec<String>, (Fate, String)> {
        let ourselves = Ourselves {
            host_name: "mail.example.test".to_owned(),
            smtp_listen: Some(listen.parse().unwrap()),
        };
        let hosts = hosts.iter().map(|(preference, name, addresses)| {
            (MailHost { preference: *preference, name: (*name).to_owned() }, addresses.clone())
        });
        match choose(&ourselves, 25, "remote.test", hosts.collect()) {
            Route::Hosts(hops) => Ok(hops.into_iter().map(|hop| hop.name).collect()),
            Route::Nowhere(report) => Err((report.fate, report.status)),
        }
    }

    #[test]
    fn all_hosts_are_tried_in_order() {
        let hosts = [(5, "a.test", found("198.51.100.1")), (10, "b.test", found("198.51.100.2"))];
        assert_eq!(names(&hosts, "0.0.0.0:25"), Ok(vec!["a.test".to_owned(), "b.test".to_owned()]));
    }

    #[test]
    fn where_we_are_among_the_hosts_only_better_ones_are_left() {
        let with = |name, address| {
            [
                (5, "a.test", found("198.51.100.1")),
                (10, "equal.test", found("198.51.100.2")),
                (10, name, found(address)),
                (20, "worse.test", found("198.51.100.3")),
            ]
        };
        let better = Ok(vec!["a.test".to_owned()]);
        assert_eq!(names(&with("mail.example.test", "198.51.100.9"), "198.51.100.7:25"), better);
        assert_eq!(names(&with("alias.test", "198.51.100.7"), "198.51.100.7:25"), better);
        assert_eq!(names(&with("alias.test", "127.0.0.1"), "0.0.0.0:25"), better);
        assert_eq!(
            names(&with("alias.test", "198.51.100.7"), "198.51.100.7:2525").map(|names| names.len()),
            Ok(4)
        );
        let only = [(10, "mail.example.test", found("198.51.100.9"))];
        assert_eq!(names(&only, "198.51.100.7:25"), Err((Fate::Failed, "5.4.6".to_owned())));
    }

    #[test]
    fn hosts_that_do_not_exist() {
        let lost = || Err(DnsError::Temporary("no answer".to_owned()));
        let hosts = [(5, "a.test", Err(DnsError::NotFound)), (10, "b.test", found("198.51.100.2"))];
        assert_eq!(names(&hosts, "198.51.100.7:25"), Ok(vec!["b.test".to_owned()]));
        let hosts = [(5, "a.test", Err(DnsError::NotFound)), (10, "b.test", lost())];
        assert_eq!(names(&hosts, "198.51.100.7:25"), Err((Fate::Later, "4.4.3".to_owned())));
        let hosts = [(5, "a.test", Err(DnsError::NotFound))];
        assert_eq!(names(&hosts, "198.51.100.7:25"), Err((Fate::Failed, "5.4.4".to_owned())));
    }
}
