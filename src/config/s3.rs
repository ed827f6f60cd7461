//! The address of a bucket: `s3://bucket/prefix?endpoint=…&region=…&path_style=…`.

use crate::config::value::{http_host, percent_decode};
use crate::types::secret::Secret;

/// A bucket, and how it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Url {
    /// The bucket.
    pub bucket: String,
    /// What all names begin with, without a slash at its ends; may be empty.
    pub prefix: String,
    /// `http://` or `https://` with host and port, no slash at its end; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// `None`: the standard variable's, else us-east-1, which is what most other services take.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request, else in its host name.
    pub is_path_style: bool,
}

/// Whoever may read and write the bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S3Credentials {
    /// Their public name.
    pub access_key_id: String,
    /// Their password.
    pub secret_access_key: Secret,
}

const OPTIONS: &str = "endpoint, region and path_style";

/// Reads what follows `s3://`.
pub fn s3_url(rest: &str) -> Result<S3Url, String> {
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.contains(['@', ':']) {
        return Err("only the bucket stands after s3://; give credentials as s3_access_key_id and \
                    s3_secret_access_key, and a host as ?endpoint=https://host:port"
            .to_owned());
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
        return Err("a bucket must follow s3://, such as s3://mail or s3://mail/blobs".to_owned());
    }
    let prefix = prefix.trim_matches('/');
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_name);
    if !prefix.is_empty() && !prefix.split('/').all(is_part) {
        return Err("the prefix of a bucket has letters, digits and -._ between its slashes".to_owned());
    }
    let (mut endpoint, mut region, mut is_path_style) = (None, None, None);
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = percent_decode(value).ok_or_else(|| format!("the value of {name} cannot be read"))?;
        match name {
            "endpoint" => endpoint = Some(endpoint_of(&value)?),
            "region" if !value.is_empty() && value.bytes().all(is_name) => region = Some(value),
            "region" => return Err("region has the name of a region, such as eu-central-1".to_owned()),
            "path_style" => {
                is_path_style = Some(match value.as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err("path_style is true or false".to_owned()),
                });
            }
            other => return Err(format!("`{other}` is no option of s3:; there are {OPTIONS}")),
        }
    }
    // Host names for each bucket want a DNS that few services of one's own have.
    let is_path_style = is_path_style.unwrap_or(endpoint.is_some());
    Ok(S3Url { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint, region, is_path_style })
}

fn endpoint_of(text: &str) -> Result<String, String> {
    http_host(text).ok_or_else(|| {
        "endpoint is http:// or https:// with host and port, such as https://s3.example.org:9000".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_prefixes_and_options() {
        let amazon = s3_url("mail").expect("a bucket");
        assert_eq!((amazon.bucket.as_str(), amazon.prefix.as_str()), ("mail", ""));
        assert!(amazon.endpoint.is_none() && amazon.region.is_none() && !amazon.is_path_style);
        let own = s3_url("mail/a/b/?endpoint=http://127.0.0.1:9000/&region=garage").expect("an endpoint");
        assert_eq!(own.prefix, "a/b");
        assert_eq!(own.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(own.region.as_deref(), Some("garage"));
        assert!(own.is_path_style, "an endpoint of one's own has one host name");
        let encoded = s3_url("mail?endpoint=https%3A%2F%2Fs3.test&path_style=false").expect("encoded");
        assert_eq!(encoded.endpoint.as_deref(), Some("https://s3.test"));
        assert!(!encoded.is_path_style);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        let told = s3_url("mail?endpiont=http://a&region=b").expect_err("a slip");
        assert_eq!(told, "`endpiont` is no option of s3:; there are endpoint, region and path_style");
        let told = s3_url("key:geheim@mail").expect_err("credentials");
        assert!(told.contains("s3_secret_access_key") && !told.contains("geheim"));
        for text in [
            "",
            "ab",
            "a b c",
            "mail/../other",
            "mail/a//b",
            "mail?endpoint=ftp://host",
            "mail?endpoint=host:9000",
            "mail?endpoint=http://",
            "mail?endpoint=http://me:geheim@host",
            "mail?endpoint=http://host/path",
            "mail?path_style=yes",
            "mail?region=",
        ] {
            let told = s3_url(text).expect_err(text);
            assert!(!told.contains("geheim"), "{told}");
        }
    }
}
