//! How requests reach Meilisearch: the SDK's client over the connections that we use everywhere, with
//! an end to every wait and a bound on every answer.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::AsyncReadExt;
use futures_util::io::AsyncRead;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method as Verb, Request};
use meilisearch_sdk::errors::Error;
use meilisearch_sdk::request::{HttpClient, Method, parse_response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::https;
use crate::types::secret::Secret;

/// From the request to the end of its answer, and so long for each octet that goes before it.
const ANSWER_TIME: Duration = Duration::from_secs(5);
const OCTETS_PER_SECOND: usize = 512 * 1024;
/// Longest answer that is read: a few million ids.
const MAX_ANSWER: usize = 256 << 20;

/// The client of one instance.
#[derive(Clone)]
pub struct Http {
    client: https::Client<Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

/// No answer, or none that can be read: nothing that Meilisearch itself has said.
#[derive(Debug)]
struct NoAnswer(String);

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

fn no_answer(why: impl std::fmt::Display) -> Error {
    Error::Other(Box::new(NoAnswer(why.to_string())))
}

impl Http {
    /// A client that shows this key, if there is one.
    pub fn new(key: Option<&Secret>) -> Result<Http, String> {
        let authorization = match key {
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))
                    .map_err(|_| "search_key holds what no HTTP header can".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let client = https::client().map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Http { client, authorization })
    }

    /// Status and body of an answer.
    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<(u16, String), Error> {
        let answer = self.client.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            no_answer(cause.unwrap_or_else(|| error.to_string()))
        })?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(no_answer)?;
        let body = String::from_utf8(body.to_bytes().into()).map_err(no_answer)?;
        // What the SDK reads an empty answer as.
        Ok((status, if body.is_empty() { "null".to_owned() } else { body }))
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn stream_request<
        Query: Serialize + Send + Sync,
        Body: AsyncRead + Send + Sync + 'static,
        Output: DeserializeOwned + 'static,
    >(
        &self,
        url: &str,
        method: Method<Query, Body>,
        content_type: &str,
        expected_status_code: u16,
    ) -> Result<Output, Error> {
        let url = format!("{url}{}", yaup::to_string(method.query())?);
        let verb = match &method {
            Method::Get { .. } => Verb::GET,
            Method::Post { .. } => Verb::POST,
            Method::Patch { .. } => Verb::PATCH,
            Method::Put { .. } => Verb::PUT,
            Method::Delete { .. } => Verb::DELETE,
        };
        let mut octets = Vec::new();
        let mut request = Request::builder().method(verb).uri(&url);
        if let Some(body) = method.into_body() {
            std::pin::pin!(body).read_to_end(&mut octets).await.map_err(no_answer)?;
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let time = ANSWER_TIME + Duration::from_secs((octets.len() / OCTETS_PER_SECOND) as u64);
        let request = request.body(Full::new(Bytes::from(octets))).map_err(no_answer)?;
        match tokio::time::timeout(time, self.ask(request)).await {
            Ok(answer) => {
                let (status, body) = answer?;
                parse_response(status, expected_status_code, &body, url)
            }
            Err(_) => Err(no_answer(format_args!("no answer within {time:?}"))),
        }
    }
}
