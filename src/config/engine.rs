//! The four addresses that choose the engines, and where each engine keeps its data.

use std::path::PathBuf;

/// Where metadata, queues and the change log are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatabaseUrl {
    /// One file.
    Sqlite(PathBuf),
}

/// Where messages and uploads are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobUrl {
    /// A folder.
    File(PathBuf),
}

/// Where the cache and the change bus are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheUrl {
    /// In this process.
    Memory,
}

/// Where the full-text index is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SearchUrl {
    /// A folder.
    Tantivy(PathBuf),
}

/// Reads `sqlite:PATH`.
pub fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    local_path(text, "sqlite").map(DatabaseUrl::Sqlite)
}

/// Reads `file:PATH`.
pub fn blob_url(text: &str) -> Result<BlobUrl, String> {
    local_path(text, "file").map(BlobUrl::File)
}

/// Reads `memory:`.
pub fn cache_url(text: &str) -> Result<CacheUrl, String> {
    match after_scheme(text, "memory")? {
        "" => Ok(CacheUrl::Memory),
        _ => Err("nothing follows memory:".to_owned()),
    }
}

/// Reads `tantivy:PATH`.
pub fn search_url(text: &str) -> Result<SearchUrl, String> {
    local_path(text, "tantivy").map(SearchUrl::Tantivy)
}

/// A path after a scheme; `scheme:path` and `scheme://path` are the same.
fn local_path(text: &str, scheme: &str) -> Result<PathBuf, String> {
    let path = after_scheme(text, scheme)?;
    if path.is_empty() || path == ":memory:" {
        return Err(format!(
            "a path must follow {scheme}:, for example {scheme}:/var/lib/postrider/{scheme}"
        ));
    }
    Ok(PathBuf::from(path))
}

/// What follows the scheme, which must be the one that this build has. The rest of a wrong value
/// is not repeated: it may hold a password.
fn after_scheme<'t>(text: &'t str, scheme: &str) -> Result<&'t str, String> {
    match text.split_once(':') {
        Some((given, rest)) if given == scheme => Ok(rest.strip_prefix("//").unwrap_or(rest)),
        Some((given, _)) if given.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Err(format!("this build has {scheme}: only, not {given}:"))
        }
        _ => Err(format!("an address must start with its engine; this build has {scheme}: only")),
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
    fn other_engines_are_refused_without_repeating_their_password() {
        let told = database_url("postgres://me:geheim@host/db").expect_err("not built");
        assert!(told.contains("sqlite: only") && !told.contains("geheim"));
        for text in ["", "sqlite", "sqlite:", "sqlite::memory:", "/a/b.db", "redis:"] {
            assert!(database_url(text).is_err(), "{text}");
        }
        assert!(cache_url("redis://localhost").is_err() && cache_url("memory:x").is_err());
        assert!(blob_url("s3://bucket").is_err() && search_url("meilisearch:http://x").is_err());
    }
}
