//! The four addresses that choose the engines, and where each engine keeps its data.

use std::path::PathBuf;

use crate::config::redis_url::{RedisUrl, redis_url};
use crate::config::s3::{S3Url, s3_url};
use crate::config::value::http_host;
use crate::types::secret::Secret;

/// Where metadata, queues and the change log are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatabaseUrl {
    /// One file.
    Sqlite(PathBuf),
    /// PostgreSQL, or Citus: one or more nodes of which any serves.
    Postgres(PostgresUrl),
}

/// Where a PostgreSQL database is: one address for each host, with its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostgresUrl(Vec<Secret>);

impl PostgresUrl {
    /// An address for each host, in the order in which they were given; at least one.
    pub fn hosts(&self) -> &[Secret] {
        &self.0
    }
}

/// Where messages and uploads are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobUrl {
    /// A folder.
    File(PathBuf),
    /// A bucket of an S3 service.
    S3(S3Url),
}

/// Where the cache and the change bus are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheUrl {
    /// In this process.
    Memory,
    /// Redis or Valkey, shared by all nodes.
    Redis(RedisUrl),
}

/// Where the full-text index is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SearchUrl {
    /// A folder.
    Tantivy(PathBuf),
    /// Meilisearch, shared by all processes.
    Meilisearch(MeilisearchUrl),
}

/// One Meilisearch instance, or several among which the accounts are divided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeilisearchUrl {
    /// `http://` or `https://` with host and port, no slash at its end; at least one. Their order says
    /// which accounts are where.
    pub instances: Vec<String>,
    /// What the name of the index begins with.
    pub index: String,
}

/// Reads `sqlite:PATH` or `postgres://user:password@host:port,host:port/database?option=value`.
pub fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    match text.split_once("://") {
        Some(("postgres" | "postgresql", rest)) => postgres_url(rest).map(DatabaseUrl::Postgres),
        _ => local_path(text, "sqlite", "sqlite: and postgres:").map(DatabaseUrl::Sqlite),
    }
}

fn postgres_url(rest: &str) -> Result<PostgresUrl, String> {
    let (authority, path) =
        rest.split_once('/').ok_or("a database must follow the host: postgres://host/name")?;
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    if hosts.split(',').any(str::is_empty) || path.split('?').next().is_none_or(str::is_empty) {
        return Err("host and database are wanted: postgres://user:password@host:5432/name".to_owned());
    }
    let address = |host: &str| Secret::new(format!("postgres://{user}{host}/{path}"));
    Ok(PostgresUrl(hosts.split(',').map(address).collect()))
}

/// Reads `file:PATH`, or `s3://bucket/prefix?option=value`.
pub fn blob_url(text: &str) -> Result<BlobUrl, String> {
    match text.split_once("://") {
        Some(("s3", rest)) => s3_url(rest).map(BlobUrl::S3),
        _ => local_path(text, "file", "file: and s3:").map(BlobUrl::File),
    }
}

/// Reads `memory:`, or an address of Redis.
pub fn cache_url(text: &str) -> Result<CacheUrl, String> {
    if let Some(url) = redis_url(text) {
        return url.map(CacheUrl::Redis);
    }
    match after_scheme(text, "memory", "memory: and redis:")? {
        "" => Ok(CacheUrl::Memory),
        _ => Err("nothing follows memory:".to_owned()),
    }
}

/// Reads `tantivy:PATH`, or `meilisearch:http://host:port,http://host:port?index=NAME`.
pub fn search_url(text: &str) -> Result<SearchUrl, String> {
    match text.strip_prefix("meilisearch:") {
        Some(rest) => meilisearch_url(rest).map(SearchUrl::Meilisearch),
        None => local_path(text, "tantivy", "tantivy: and meilisearch:").map(SearchUrl::Tantivy),
    }
}

fn meilisearch_url(rest: &str) -> Result<MeilisearchUrl, String> {
    let (instances, option) = rest.split_once('?').unwrap_or((rest, "index=postrider"));
    let Some(index) = option.strip_prefix("index=") else {
        return Err("the one option of meilisearch: is ?index=NAME".to_owned());
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if index.is_empty() || index.len() > 100 || !index.bytes().all(is_name) {
        return Err("the name of an index has up to 100 letters, digits, - and _".to_owned());
    }
    let instances: Option<Vec<String>> = instances.split(',').map(http_host).collect();
    let instances = instances.ok_or(
        "the instances are http:// or https:// with host and port, commas between: \
         meilisearch:http://search:7700; give their key as search_key",
    )?;
    Ok(MeilisearchUrl { instances, index: index.to_owned() })
}

/// A path after a scheme; `scheme:path` and `scheme://path` are the same.
fn local_path(text: &str, scheme: &str, known: &str) -> Result<PathBuf, String> {
    let path = after_scheme(text, scheme, known)?;
    if path.is_empty() || path == ":memory:" {
        return Err(format!(
            "a path must follow {scheme}:, for example {scheme}:/var/lib/postrider/{scheme}"
        ));
    }
    Ok(PathBuf::from(path))
}

/// What follows the scheme, which must be that one. The rest of a wrong value is not repeated: it may hold a password.
fn after_scheme<'t>(text: &'t str, scheme: &str, known: &str) -> Result<&'t str, String> {
    match text.split_once(':') {
        Some((given, rest)) if given == scheme => Ok(rest.strip_prefix("//").unwrap_or(rest)),
        Some((given, _)) if given.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Err(format!("{known} can be used here, not {given}:"))
        }
        _ => Err(format!("an address must start with its engine: {known}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_scheme() {
        assert_eq!(database_url("sqlite:a/b.db"), Ok(DatabaseUrl::Sqlite("a/b.db".into())));
        assert_eq!(database_url("sqlite:///a/b.db"), Ok(DatabaseUrl::Sqlite("/a/b.db".into())));
        assert_eq!(blob_url("file:/srv/blobs"), Ok(BlobUrl::File("/srv/blobs".into())));
        assert_eq!(cache_url("memory:"), Ok(CacheUrl::Memory));
        assert_eq!(search_url("tantivy:index"), Ok(SearchUrl::Tantivy("index".into())));
    }

    #[test]
    fn several_hosts_have_an_address_each() {
        let Ok(DatabaseUrl::Postgres(url)) =
            database_url("postgres://me:geheim@one:5432,two/db?sslmode=require")
        else {
            panic!("two hosts are read");
        };
        let shown: Vec<&str> = url.hosts().iter().map(Secret::reveal).collect();
        let wanted = [
            "postgres://me:geheim@one:5432/db?sslmode=require",
            "postgres://me:geheim@two/db?sslmode=require",
        ];
        assert_eq!(shown, wanted);
        assert!(!format!("{url:?}").contains("geheim"));
        for text in ["postgres://host", "postgres://host/", "postgres:///db", "postgres://me@a,,b/db"] {
            assert!(database_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn meilisearch_has_instances_and_an_index() {
        let read = |text| match search_url(text) {
            Ok(SearchUrl::Meilisearch(url)) => (url.instances.join(" "), url.index),
            other => panic!("{text}: {other:?}"),
        };
        let own = |instances: &str, index: &str| (instances.to_owned(), index.to_owned());
        assert_eq!(read("meilisearch:http://one:7700/"), own("http://one:7700", "postrider"));
        let two = read("meilisearch:http://one:7700,https://two?index=mail");
        assert_eq!(two, own("http://one:7700 https://two", "mail"));
        for text in
            ["", "one:7700", "http://", "http://a,", "http://a?x=b", "http://a?index=", "http://:geheim@a"]
        {
            let told = search_url(&format!("meilisearch:{text}")).expect_err(text);
            assert!(!told.contains("geheim"), "{told}");
        }
    }

    #[test]
    fn other_engines_are_refused_without_repeating_their_password() {
        let told = database_url("mysql://me:geheim@host/db").expect_err("not built");
        assert!(told.contains("sqlite: and postgres:") && !told.contains("geheim"));
        for text in ["", "sqlite", "sqlite:", "sqlite::memory:", "/a/b.db", "redis:"] {
            assert!(database_url(text).is_err(), "{text}");
        }
        let told = cache_url("memcached://me:geheim@host").expect_err("not built");
        assert!(told.contains("memory: and redis:") && !told.contains("geheim"));
        assert!(cache_url("memory:x").is_err());
        assert!(blob_url("gs://bucket").is_err() && search_url("elastic:http://x").is_err());
    }
}
