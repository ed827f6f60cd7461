//! Buckets of S3 services: Amazon's own, and those that speak the same (MinIO, Garage, Ceph).

mod client;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use crate::blob::BlobError;
use crate::blob::s3::client::Connector;
use crate::config::s3::{S3Credentials, S3Url};

/// Tries of one request after the first.
const RETRIES: usize = 3;
/// After this time no further try is begun.
const RETRY_TIME: Duration = Duration::from_secs(6);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The standard variables that say who we are and where; nothing else of a request is taken from the
/// environment.
const STANDARD: [(&str, AmazonS3ConfigKey); 13] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
    ("AWS_METADATA_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
    ("AWS_DEFAULT_REGION", AmazonS3ConfigKey::DefaultRegion),
    ("AWS_REGION", AmazonS3ConfigKey::Region),
];

/// The objects of a bucket. Asks nobody: a service that is down does not keep the server from
/// starting.
pub fn open(url: &S3Url, credentials: Option<&S3Credentials>) -> Result<Arc<dyn ObjectStore>, BlobError> {
    let mut builder = AmazonS3Builder::new();
    for (variable, key) in STANDARD {
        let is_ours = credentials.is_some() && !matches!(variable, "AWS_REGION" | "AWS_DEFAULT_REGION");
        if let Some(value) = std::env::var(variable).ok().filter(|value| !value.is_empty() && !is_ours) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(S3Credentials { access_key_id, secret_access_key }) = credentials {
        builder =
            builder.with_access_key_id(access_key_id).with_secret_access_key(secret_access_key.reveal());
    }
    if let Some(region) = &url.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &url.endpoint {
        builder = builder.with_endpoint(endpoint_of(url, endpoint));
    }
    let backoff = BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, base: 2.0 };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIME };
    let store = builder
        .with_bucket_name(&url.bucket)
        .with_virtual_hosted_style_request(!url.is_path_style)
        .with_retry(retry)
        // The sweep deletes one object at a time, and not every service deletes many at once.
        .with_disable_bulk_delete(true)
        .with_http_connector(Connector::new()?)
        .build()
        .map_err(|error| BlobError::of_write(&error))?;
    Ok(match url.prefix.as_str() {
        "" => Arc::new(store),
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    })
}

/// Without path style the bucket is the first label of the host.
fn endpoint_of(url: &S3Url, endpoint: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !url.is_path_style => format!("{scheme}://{}.{host}", url.bucket),
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests;
