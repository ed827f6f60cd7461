//! The configuration: `postrider.toml`, each key overridden by its environment variable.
//!
//! [`keys::KEYS`] is the one list of what can be set; the documentation is printed from it.
//! [`settings::Settings`] gathers texts and where they come from, [`Config`] is what they mean.
//! Nothing here opens a database or a socket; relative paths are relative to the working folder.

pub mod engine;
pub mod keys;
pub mod redis_url;
pub mod role;
pub mod s3;
pub mod settings;
pub mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::engine::{BlobUrl, CacheUrl, DatabaseUrl, SearchUrl};
use crate::config::role::Roles;
use crate::config::s3::S3Credentials;
use crate::config::settings::Settings;
use crate::config::value::{Dns, LogFormat, Relay};
use crate::types::network::Network;
use crate::types::secret::Secret;

/// Everything that can be configured, checked. The fields are the keys of [`keys::KEYS`] and are
/// documented there.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: PathBuf,
    pub role: Roles,
    pub http_listen: SocketAddr,
    /// `None` when it was turned off, as for all other listeners.
    pub smtp_listen: Option<SocketAddr>,
    pub submission_listen: Option<SocketAddr>,
    /// `None` without a certificate, whatever the key says.
    pub https_listen: Option<SocketAddr>,
    /// `None` without a certificate, whatever the key says.
    pub submissions_listen: Option<SocketAddr>,
    pub tls: Option<TlsFiles>,
    /// Without a slash at its end. `None`: absolute URLs are made from the request.
    pub public_url: Option<String>,
    /// In lower-case A-labels.
    pub hostname: String,
    pub database_url: DatabaseUrl,
    pub database_connections: u32,
    pub blob_url: BlobUrl,
    /// `None`: those that the standard variables name, or the machine's own.
    pub s3_credentials: Option<S3Credentials>,
    pub cache_url: CacheUrl,
    pub search_url: SearchUrl,
    pub search_key: Option<Secret>,
    pub dns: Dns,
    pub relay: Option<Relay>,
    pub mx_port: u16,
    pub retry_first: Duration,
    pub retry_for: Duration,
    pub trusted_proxies: Vec<Network>,
    pub push_networks: Vec<Network>,
    pub allow_plaintext_auth: bool,
    /// Octets.
    pub max_message_size: u64,
    /// Octets.
    pub max_upload_size: u64,
    /// Octets; `None` is no limit.
    pub default_quota: Option<u64>,
    pub recipients_per_hour: u64,
    pub connections_per_address: u64,
    pub keep_changes: Duration,
    /// How long the logs of events are kept.
    pub keep_events: Duration,
    pub log_format: LogFormat,
    /// What is legal but surely not meant; `serve` logs each.
    pub warnings: Vec<String>,
}

/// The certificate and its key, both PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// All that is wrong with a configuration: one line for each problem, each saying where it
/// stands and how to mend it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<String>,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the settings as what they mean. Errors name every value that cannot be used.
    pub fn from_settings(settings: &Settings) -> Result<Config, ConfigError> {
        let mut reader = Reader { settings, problems: Vec::new() };
        let config = reader.read();
        match config {
            Some(config) if reader.problems.is_empty() => Ok(config),
            _ => Err(ConfigError { problems: reader.problems }),
        }
    }
}

/// Reads key after key and collects what is wrong, so that one start shows all of it.
struct Reader<'s> {
    settings: &'s Settings,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// The value of a key; after a problem, the value of its default, so that reading goes on.
    fn key<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let setting = self.settings.get(name)?;
        match parse(&setting.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(format!("{}: {problem}", setting.place()));
                parse(&self.settings.default_of(name)?).ok()
            }
        }
    }

    /// `None` only after a problem was noted.
    fn read(&mut self) -> Option<Config> {
        let tls = self.tls()?;
        let mut warnings = Vec::new();
        let mut with_certificate = |listen: Option<SocketAddr>, name: &str| {
            if listen.is_some() && tls.is_none() {
                warnings.push(format!("{name} is off: it needs tls_cert and tls_key"));
            }
            listen.filter(|_| tls.is_some())
        };
        let https_listen = with_certificate(self.key("https_listen", value::listen_or_off)?, "https_listen");
        let submissions_listen =
            with_certificate(self.key("submissions_listen", value::listen_or_off)?, "submissions_listen");
        let public_url = self.key("public_url", value::public_url)?;
        let hostname = self.key("hostname", value::hostname)?;
        Some(Config {
            data: self.key("data", value::path)?,
            role: self.key("role", role::roles)?,
            http_listen: self.key("http_listen", value::listen)?,
            smtp_listen: self.key("smtp_listen", value::listen_or_off)?,
            submission_listen: self.key("submission_listen", value::listen_or_off)?,
            https_listen,
            submissions_listen,
            hostname: hostname.unwrap_or_else(|| value::default_hostname(public_url.as_deref())),
            public_url,
            tls,
            database_url: self.key("database_url", engine::database_url)?,
            database_connections: self.key("database_connections", value::connections)?,
            blob_url: self.key("blob_url", engine::blob_url)?,
            s3_credentials: self.s3_credentials()?,
            cache_url: self.key("cache_url", engine::cache_url)?,
            search_url: self.key("search_url", engine::search_url)?,
            search_key: self.key("search_key", value::text_or_none)?.map(Secret::new),
            dns: self.key("dns", value::dns)?,
            relay: self.key("relay", value::relay)?,
            mx_port: self.key("mx_port", value::port)?,
            retry_first: self.key("retry_first", value::duration)?,
            retry_for: self.key("retry_for", value::duration)?,
            trusted_proxies: self.key("trusted_proxies", value::networks)?,
            push_networks: self.key("push_networks", value::networks)?,
            allow_plaintext_auth: self.key("allow_plaintext_auth", value::yes_or_no)?,
            max_message_size: self.key("max_message_size", value::size)?,
            max_upload_size: self.key("max_upload_size", value::size)?,
            default_quota: self.key("default_quota", value::size_or_none)?,
            recipients_per_hour: self.key("recipients_per_hour", value::count)?,
            connections_per_address: self.key("connections_per_address", value::count)?,
            keep_changes: self.key("keep_changes", value::duration)?,
            keep_events: self.key("keep_events", value::duration)?,
            log_format: self.key("log_format", value::log_format)?,
            warnings,
        })
    }

    /// Name and secret: both or neither.
    fn s3_credentials(&mut self) -> Option<Option<S3Credentials>> {
        let id = self.key("s3_access_key_id", value::text_or_none)?;
        let secret = self.key("s3_secret_access_key", value::text_or_none)?;
        Some(match (id, secret) {
            (Some(access_key_id), Some(secret)) => {
                Some(S3Credentials { access_key_id, secret_access_key: Secret::new(secret) })
            }
            (None, None) => None,
            (id, _) => {
                let both = ["s3_access_key_id", "s3_secret_access_key"];
                let [given, missing] = if id.is_some() { both } else { [both[1], both[0]] };
                let place = self.settings.get(given)?.place();
                self.problems.push(format!("{place}: `{missing}` is missing; give both or neither"));
                None
            }
        })
    }

    /// Certificate and key: both or neither.
    fn tls(&mut self) -> Option<Option<TlsFiles>> {
        let cert = self.key("tls_cert", value::path_or_none)?;
        let key = self.key("tls_key", value::path_or_none)?;
        Some(match (cert, key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (cert, _) => {
                let (given, missing) =
                    if cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
                let place = self.settings.get(given)?.place();
                self.problems.push(format!("{place}: `{missing}` is missing; give both files or neither"));
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let vars = vars.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Config::from_settings(&Settings::gather(None, vars)?)
    }

    fn problem(vars: &[(&str, &str)]) -> String {
        config(vars).expect_err("a wrong value").to_string()
    }

    #[test]
    fn defaults_are_all_legal() {
        let config = config(&[]).expect("defaults");
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.smtp_listen.map(|at| at.to_string()).as_deref(), Some("127.0.0.1:2525"));
        assert_eq!(config.submission_listen.map(|at| at.to_string()).as_deref(), Some("127.0.0.1:2587"));
        assert_eq!(config.database_url, DatabaseUrl::Sqlite("./data/postrider.db".into()));
        assert_eq!(config.retry_first, Duration::from_secs(300));
        assert_eq!(config.max_message_size, 52_428_800);
        assert!(config.https_listen.is_none() && config.warnings.is_empty());
    }

    #[test]
    fn engines_follow_the_data_folder() {
        let config = config(&[("POSTRIDER_DATA", "/srv/mail")]).expect("legal");
        assert_eq!(config.database_url, DatabaseUrl::Sqlite("/srv/mail/postrider.db".into()));
        assert_eq!(config.blob_url, BlobUrl::File("/srv/mail/blobs".into()));
        assert_eq!(config.search_url, SearchUrl::Tantivy("/srv/mail/index".into()));
    }

    #[test]
    fn the_host_name_follows_the_public_url() {
        let config = config(&[("POSTRIDER_PUBLIC_URL", "https://Mail.Example.test:8443/")]).expect("legal");
        assert_eq!(config.hostname, "mail.example.test");
        assert_eq!(config.public_url.as_deref(), Some("https://Mail.Example.test:8443"));
    }

    #[test]
    fn every_wrong_value_is_told_at_once() {
        let error =
            config(&[("POSTRIDER_HTTP_LISTEN", "8080"), ("POSTRIDER_RETRY_FIRST", "5")]).expect_err("wrong");
        assert_eq!(error.problems.len(), 2);
        assert_eq!(
            error.problems[0],
            "POSTRIDER_HTTP_LISTEN: `8080` is no address to listen on; give host:port, for example 127.0.0.1:8080"
        );
    }

    #[test]
    fn one_half_of_a_certificate_is_an_error_and_none_turns_tls_ports_off() {
        assert!(problem(&[("POSTRIDER_TLS_CERT", "a.pem")]).contains("`tls_key` is missing"));
        let config = config(&[("POSTRIDER_HTTPS_LISTEN", "127.0.0.1:8443")]).expect("legal");
        assert_eq!(config.https_listen, None);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn half_of_the_s3_credentials_is_an_error_and_the_secret_is_not_shown() {
        let told = problem(&[("POSTRIDER_S3_SECRET_ACCESS_KEY", "geheim")]);
        assert_eq!(
            told,
            "POSTRIDER_S3_SECRET_ACCESS_KEY: `s3_access_key_id` is missing; give both or neither"
        );
        let both = [("POSTRIDER_S3_ACCESS_KEY_ID", "me"), ("POSTRIDER_S3_SECRET_ACCESS_KEY", "geheim")];
        let config = config(&both).expect("legal");
        assert!(!format!("{config:?}").contains("geheim"));
        assert_eq!(config.s3_credentials.map(|them| them.access_key_id).as_deref(), Some("me"));
    }

    #[test]
    fn an_engine_that_nobody_has_is_told_with_those_that_are_there() {
        let told = problem(&[("POSTRIDER_DATABASE_URL", "mysql://localhost/mail")]);
        assert_eq!(told, "POSTRIDER_DATABASE_URL: sqlite: and postgres: can be used here, not mysql:");
    }

    #[test]
    fn the_password_of_the_relay_is_not_shown() {
        let config = config(&[("POSTRIDER_RELAY", "smtp://me:geh%65im@relay.test:587")]).expect("legal");
        assert!(!format!("{config:?}").contains("geheim"));
        let (user, password) = config.relay.and_then(|relay| relay.login).expect("a login");
        assert_eq!((user.as_str(), password.reveal()), ("me", "geheim"));
    }
}
