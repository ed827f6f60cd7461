//! The address of Redis or Valkey: one server, Sentinels that know the master, or a Cluster.

use std::fmt;

use crate::config::value::{percent_decode, split_port};
use crate::types::secret::Secret;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where Redis is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisUrl {
    /// Whom to ask first: the server, the Sentinels, or some nodes of the Cluster. At least one.
    pub hosts: Vec<RedisHost>,
    /// What they are.
    pub topology: Topology,
    /// An ACL user; without one the password is that of the user `default`.
    pub user: Option<String>,
    /// Of the servers.
    pub password: Option<Secret>,
    /// Of the Sentinels.
    pub sentinel_password: Option<Secret>,
    /// The database's number; 0 in a Cluster, which has no other.
    pub database: i64,
    /// Whether connections are TLS from the start.
    pub is_tls: bool,
    /// What the names of all keys and channels begin with.
    pub prefix: String,
}

/// One host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisHost {
    /// A name, or an address without brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

/// How the servers belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels watch a master of this name.
    Sentinel {
        /// As the Sentinels call it.
        master: String,
    },
    /// Keys are spread over nodes.
    Cluster,
}

impl fmt::Display for RedisUrl {
    /// For logs: without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{}:{}", if number == 0 { "" } else { "," }, host.name, host.port)?;
        }
        Ok(())
    }
}

impl RedisUrl {
    /// For each host the address that a Redis client takes: of the server itself, a Sentinel, or a
    /// node. They speak RESP3, in which one connection may publish and listen.
    pub fn asked(&self) -> Vec<Secret> {
        let is_sentinel = matches!(self.topology, Topology::Sentinel { .. });
        let (user, password, database) = if is_sentinel {
            (None, &self.sentinel_password, 0)
        } else {
            (self.user.as_deref(), &self.password, self.database)
        };
        let login = password.as_ref().map_or(String::new(), |password| {
            format!("{}:{}@", percent_encode(user.unwrap_or_default()), percent_encode(password.reveal()))
        });
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        let address = |host: &RedisHost| {
            let RedisHost { name, port } = host;
            let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            Secret::new(format!("{scheme}://{login}{name}:{port}/{database}?protocol=resp3"))
        };
        self.hosts.iter().map(address).collect()
    }
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Reads `redis://[user:password@]host[:port][/database]`, `redis+sentinel://…/master[/database]`
/// or `redis+cluster://…`, each also with `rediss` for TLS and `?prefix=…`; `None` for another
/// scheme. The value is not repeated in errors: it may hold a password.
pub fn redis_url(text: &str) -> Option<Result<RedisUrl, String>> {
    let (scheme, rest) = text.split_once(':')?;
    let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let is_tls = match base {
        "redis" => false,
        "rediss" => true,
        _ => return None,
    };
    Some(match (kind, rest.strip_prefix("//")) {
        ("" | "sentinel" | "cluster", Some(rest)) => read(kind, is_tls, rest),
        (_, None) => Err("// must follow the scheme: redis://host:port".to_owned()),
        _ => Err("redis:, redis+sentinel: and redis+cluster: can be used here, each with rediss for TLS"
            .to_owned()),
    })
}

fn read(kind: &str, is_tls: bool, rest: &str) -> Result<RedisUrl, String> {
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    };
    let (user, password) = match login {
        Some(login) => read_login(login)?,
        None => (None, None),
    };
    let usual_port = if kind == "sentinel" { SENTINEL_PORT } else { REDIS_PORT };
    let hosts: Vec<RedisHost> =
        hosts.split(',').map(|host| read_host(host, usual_port)).collect::<Result<_, _>>()?;
    let (topology, database) = match kind {
        "sentinel" => {
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err("the name of the master must follow the Sentinels: \
                            redis+sentinel://host:26379,host:26379/mymaster"
                    .to_owned());
            }
            (Topology::Sentinel { master: master.to_owned() }, database)
        }
        "cluster" => (Topology::Cluster, path),
        _ => (Topology::Single, path),
    };
    let database = read_database(&topology, database)?;
    let (prefix, sentinel_password) = read_options(options)?;
    if topology == Topology::Single && hosts.len() > 1 {
        return Err("one host is wanted here; several are of redis+sentinel: or redis+cluster:".to_owned());
    }
    if kind != "sentinel" && sentinel_password.is_some() {
        return Err("sentinel_password is for redis+sentinel: alone".to_owned());
    }
    Ok(RedisUrl { hosts, topology, user, password, sentinel_password, database, is_tls, prefix })
}

fn read_login(login: &str) -> Result<(Option<String>, Option<Secret>), String> {
    let wrong = || {
        "what stands before @ is no user:password or :password; write special characters as %40 for @"
            .to_owned()
    };
    let (user, password) = login.split_once(':').ok_or_else(wrong)?;
    let user = percent_decode(user).ok_or_else(wrong)?;
    let password = percent_decode(password).filter(|password| !password.is_empty()).ok_or_else(wrong)?;
    Ok(((!user.is_empty()).then_some(user), Some(Secret::new(password))))
}

fn read_host(host: &str, usual_port: u16) -> Result<RedisHost, String> {
    let wrong = || "a host is wrong; give host:port, or several behind commas".to_owned();
    let (name, port) = split_port(host).filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let is_legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
        None => usual_port,
    };
    if is_legal { Ok(RedisHost { name: name.to_owned(), port }) } else { Err(wrong()) }
}

fn read_database(topology: &Topology, text: &str) -> Result<i64, String> {
    let database = match text {
        "" => 0,
        text => text
            .parse::<u16>()
            .map(i64::from)
            .map_err(|_| "the database after the last slash is a number, 0 when it is left out".to_owned())?,
    };
    if database != 0 && *topology == Topology::Cluster {
        return Err("a Cluster has only database 0; keep installations apart by ?prefix=NAME".to_owned());
    }
    Ok(database)
}

/// The prefix and the password of the Sentinels.
fn read_options(options: &str) -> Result<(String, Option<Secret>), String> {
    let mut prefix = "postrider".to_owned();
    let mut sentinel_password = None;
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("prefix", name)) if is_prefix(name) => prefix = name.to_owned(),
            Some(("prefix", _)) => {
                return Err("a prefix has 1 to 64 of the characters a-z, A-Z, 0-9, -, _ and .".to_owned());
            }
            Some(("sentinel_password", password)) => {
                let password = percent_decode(password).filter(|password| !password.is_empty());
                let password = password.ok_or("sentinel_password is empty or cut short after a %")?;
                sentinel_password = Some(Secret::new(password));
            }
            _ => return Err("the options after ? are prefix=NAME and sentinel_password=PASSWORD".to_owned()),
        }
    }
    Ok((prefix, sentinel_password))
}

fn is_prefix(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisUrl {
        redis_url(text).expect("an address of Redis").expect(text)
    }

    fn host(name: &str, port: u16) -> RedisHost {
        RedisHost { name: name.to_owned(), port }
    }

    #[test]
    fn one_server() {
        let url = read("redis://cache.test");
        assert_eq!((url.hosts, url.topology), (vec![host("cache.test", 6379)], Topology::Single));
        assert_eq!((url.user, url.password, url.database, url.is_tls), (None, None, 0, false));
        assert_eq!(url.prefix, "postrider");
        let url = read("rediss://me:geh%40eim@[::1]:7000/3?prefix=mail");
        assert_eq!((url.hosts.clone(), url.database, url.is_tls), (vec![host("::1", 7000)], 3, true));
        assert_eq!((url.user.as_deref(), url.password.clone()), (Some("me"), Some(Secret::new("geh@eim"))));
        assert_eq!(url.prefix, "mail");
        assert_eq!(url.asked(), [Secret::new("rediss://me:geh%40eim@[::1]:7000/3?protocol=resp3")]);
        assert!(!format!("{url:?} {url}").contains("eim"));
        assert_eq!(read("redis://:p@host").user, None);
    }

    #[test]
    fn sentinels_and_clusters() {
        let url = read("redis+sentinel://:p@one,two:5000/mymaster/2");
        assert_eq!(url.hosts, [host("one", 26379), host("two", 5000)]);
        assert_eq!(
            (url.topology.clone(), url.database),
            (Topology::Sentinel { master: "mymaster".into() }, 2)
        );
        let asked: Vec<String> = url.asked().iter().map(|address| address.reveal().to_owned()).collect();
        assert_eq!(asked, ["redis://one:26379/0?protocol=resp3", "redis://two:5000/0?protocol=resp3"]);
        let url = read("redis+sentinel://one/m?sentinel_password=p%2Fw");
        assert_eq!(url.asked(), [Secret::new("redis://:p%2Fw@one:26379/0?protocol=resp3")]);
        let url = read("rediss+cluster://one,two:7001");
        assert_eq!(url.hosts, [host("one", 6379), host("two", 7001)]);
        assert_eq!((url.topology, url.is_tls), (Topology::Cluster, true));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for (text, hint) in [
            ("redis:geheim@host", "//"),
            ("redis+other://me:geheim@host", "redis+sentinel:"),
            ("redis://geheim@host", "user:password"),
            ("redis://me:geheim%4@host", "%40"),
            ("redis://me:@host", "user:password"),
            ("redis://me:geheim@", "host:port"),
            ("redis://me:geheim@host:0", "host:port"),
            ("redis://me:geheim@ho st", "host:port"),
            ("redis://me:geheim@one,two", "redis+cluster:"),
            ("redis://me:geheim@host/mail", "number"),
            ("redis+cluster://me:geheim@host/1", "?prefix=NAME"),
            ("redis+sentinel://me:geheim@host", "master"),
            ("redis://me:geheim@host?timeout=1", "prefix=NAME"),
            ("redis://me:geheim@host?prefix=a:b", "characters"),
            ("redis://host?sentinel_password=geheim", "redis+sentinel:"),
        ] {
            let told = redis_url(text).expect("a scheme of Redis").expect_err(text);
            assert!(told.contains(hint) && !told.contains("geheim"), "{text}: {told}");
        }
        assert_eq!(redis_url("memory:"), None);
    }
}
