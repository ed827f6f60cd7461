//! The one list of configuration keys: name, default, meaning.

use crate::types::duration::parse_duration;
use crate::types::size::parse_size;

/// Every environment variable of ours starts so.
pub const VARIABLE_PREFIX: &str = "POSTRIDER_";

/// One key of `postrider.toml`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it stands in the file.
    pub name: &'static str,
    /// As it would be written; `{data}` stands for the data folder, empty for "not set".
    pub default: &'static str,
    /// One line for the documentation.
    pub meaning: &'static str,
    /// Whether the whole value is a password, which is never shown.
    pub is_secret: bool,
}

impl Key {
    /// The environment variable that overrides the key.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// Whether the file may give a bare number: where the default is a count, a size, a span of
    /// time, or `none` of them.
    pub fn takes_number(&self) -> bool {
        let default = self.default;
        default == "none" || parse_size(default).is_some() || parse_duration(default).is_some()
    }

    /// Whether the file may give a bare `true` or `false`.
    pub fn takes_truth(&self) -> bool {
        matches!(self.default, "true" | "false")
    }
}

/// A shorter way to write the table below.
const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, default, meaning, is_secret: false }
}

/// A key without a default whose value is never shown.
const fn secret(name: &'static str, meaning: &'static str) -> Key {
    Key { name, default: "", meaning, is_secret: true }
}

/// All keys, in the order of the documentation.
pub const KEYS: &[Key] = &[
    key("data", "./data", "Folder of the database, messages, search index, lock and admin socket"),
    key(
        "role",
        "all",
        "What this process does: `all`, or some of api, push, receive, ingest, deliver, index, events with commas between",
    ),
    key("http_listen", "127.0.0.1:8080", "Where HTTP (JMAP, push, health, metrics) listens"),
    key("smtp_listen", "127.0.0.1:2525", "Where mail from other servers comes in; `off` for not at all"),
    key(
        "submission_listen",
        "127.0.0.1:2587",
        "Where mail clients hand in mail (STARTTLS); `off` for not at all",
    ),
    key("https_listen", "off", "Where HTTPS listens; off without a certificate"),
    key("submissions_listen", "off", "Where submission with implicit TLS listens; off without a certificate"),
    key("tls_cert", "", "PEM file of the certificate chain; read again when it changes"),
    key("tls_key", "", "PEM file of the certificate's private key"),
    key(
        "public_url",
        "",
        "URL by which clients reach HTTP, such as https://mail.example.org; else taken from the request",
    ),
    key(
        "hostname",
        "",
        "Our name in SMTP and mail headers; else the host of public_url, else the machine's name",
    ),
    key(
        "database_url",
        "sqlite:{data}/postrider.db",
        "Metadata, queues and change log: `sqlite:PATH`, or `postgres://user:password@host:port/database` with one host or several behind commas",
    ),
    key(
        "database_connections",
        "20",
        "Connections to each PostgreSQL host that this process opens at the most",
    ),
    key(
        "blob_url",
        "file:{data}/blobs",
        "Messages and uploads: `file:PATH`, or a bucket of an S3 service: `s3://bucket/prefix?endpoint=https://host:port&region=NAME&path_style=true`, all but the bucket optional",
    ),
    key(
        "s3_access_key_id",
        "",
        "Who may read and write the bucket; else AWS_ACCESS_KEY_ID and the like, or the role of the machine",
    ),
    secret("s3_secret_access_key", "The password of s3_access_key_id"),
    key(
        "cache_url",
        "memory:",
        "Cache and change bus: `memory:`, or Redis or Valkey: `redis://[user:password@]host:port[/database]`, `redis+sentinel://host:port,host:port/master`, `redis+cluster://host:port,host:port`; `rediss` for TLS",
    ),
    key(
        "search_url",
        "tantivy:{data}/index",
        "Full-text index: `tantivy:PATH`, or Meilisearch: `meilisearch:http://host:port?index=NAME` with one instance or several behind commas, the name optional",
    ),
    secret("search_key", "The key that Meilisearch wants"),
    key("dns", "system", "Resolver: `system`, or `host:port` of a DNS server"),
    key(
        "relay",
        "",
        "`smtp://[user:password@]host:port`, or `smtps://` for TLS from the start: all outgoing mail goes there instead of to MX hosts",
    ),
    key("mx_port", "25", "Port of other mail servers; anything but 25 is for closed networks and tests"),
    key("retry_first", "5m", "Wait before the second try of a delivery; later waits grow from it"),
    key("retry_for", "5d", "How long delivery is tried before the sender is told that it failed"),
    key(
        "trusted_proxies",
        "",
        "Addresses or networks whose forwarded headers are believed: `127.0.0.1, 10.0.0.0/8`",
    ),
    key(
        "push_networks",
        "",
        "Addresses or networks beside the public internet to which web pushes and webhooks may go: `10.1.2.3, fd00::/8`",
    ),
    key(
        "allow_plaintext_auth",
        "false",
        "Whether SMTP passwords may be sent without TLS from other machines",
    ),
    key("max_message_size", "50MiB", "Largest message, by SMTP and JMAP"),
    key("max_upload_size", "50MiB", "Largest JMAP upload"),
    key("default_quota", "none", "Quota of new accounts, such as `10GB`; `none` for no limit"),
    key("recipients_per_hour", "1000", "How many recipients a login may send to in an hour"),
    key("connections_per_address", "20", "SMTP connections that one address may have open"),
    key(
        "keep_changes",
        "30d",
        "How long the change log is kept; clients that were away longer load all anew",
    ),
    key(
        "keep_events",
        "30d",
        "How long the logs of events are kept from which the REST API and webhooks tell what happened to mail",
    ),
    key("log_format", "text", "`text` or `json`; what is logged is set by RUST_LOG"),
];

/// The key of a name.
pub fn key_of(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known key whose name is most like `name`.
pub fn nearest(name: &str) -> &'static str {
    let name: Vec<char> = name.to_lowercase().chars().take(LONGEST_COMPARED).collect();
    let same_beginning = |known: &str| name.iter().zip(known.chars()).take_while(|(a, b)| **a == *b).count();
    let likeness = |known: &&str| (distance(&name, known), std::cmp::Reverse(same_beginning(known)));
    KEYS.iter().map(|key| key.name).min_by_key(likeness).unwrap_or_default()
}

/// Characters of an unknown name that are looked at.
const LONGEST_COMPARED: usize = 64;

/// How many characters must be put in, taken out or replaced to make `to` of `from`.
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (line, wanted) in to.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, given) in row.iter_mut().skip(1).zip(from) {
            let replaced = diagonal + usize::from(*given != wanted);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The list as a Markdown table: the configuration chapter of the documentation.
pub fn markdown_table() -> String {
    let mut table = String::from("| key | variable | default | meaning |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        table.push_str(&format!("| `{}` | `{}` | {default} | {} |\n", key.name, key.variable(), key.meaning));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        for (given, meant) in
            [("http_listne", "http_listen"), ("DATABASE", "database_url"), ("tls_certificate", "tls_cert")]
        {
            assert_eq!(nearest(given), meant);
        }
        assert!(key_of(nearest(&"x".repeat(100_000))).is_some());
    }

    #[test]
    fn the_readme_has_this_very_table() {
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&markdown_table()), "put this into README.md:\n{}", markdown_table());
    }
}
