//! The HTTP client to S3: time-outs for everything that can hang, and figures of each request. Retries
//! are the object store's.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};

use crate::blob::BlobError;
use crate::https;

/// From the request to the head of its answer, and so long for each octet that goes before it.
const ANSWER_TIME: Duration = Duration::from_secs(4);
const OCTETS_PER_SECOND: usize = 512 * 1024;
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(4);
/// Makes the client; all requests share its connections.
#[derive(Clone)]
pub struct Connector {
    client: https::Client<HttpRequestBody>,
}

impl Connector {
    /// A connector, unless TLS cannot be set up.
    pub fn new() -> Result<Connector, BlobError> {
        Ok(Connector { client: https::client().map_err(|error| BlobError::unavailable(&error))? })
    }

    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let octets = request.body().content_length();
        let time = ANSWER_TIME + Duration::from_secs((octets / OCTETS_PER_SECOND) as u64);
        let response = match tokio::time::timeout(time, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => {
                return Err(HttpError::new(HttpErrorKind::Connect, error));
            }
            Ok(Err(error)) => return Err(HttpError::new(HttpErrorKind::Interrupted, error)),
            Err(_) => return Err(silent(time)),
        };
        let (head, body) = response.into_parts();
        Ok(HttpResponse::from_parts(head, watched(body)))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Connector {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let method = request.method().to_string();
            let begin = Instant::now();
            let answer = self.answer(request).await;
            metrics::counter!("postrider_object_store_requests_total", "method" => method).increment(1);
            metrics::histogram!("postrider_object_store_request_seconds")
                .record(begin.elapsed().as_secs_f64());
            let cause = match &answer {
                Ok(response) if response.status().is_server_error() => Some(response.status().to_string()),
                // Of the client's errors these two say that something is wrong: 404 is an answer.
                Ok(response) if matches!(response.status().as_u16(), 403 | 429) => {
                    Some(response.status().to_string())
                }
                Ok(_) => None,
                Err(error) => Some(format!("{:?}", error.kind()).to_ascii_lowercase()),
            };
            if let Some(cause) = cause {
                metrics::counter!("postrider_object_store_errors_total", "cause" => cause).increment(1);
            }
            answer
        })
    }
}

/// The body of an answer, with an end to silence. hyper tells a body that ends too early.
fn watched(body: Incoming) -> HttpResponseBody {
    let frames = stream::try_unfold(body, |mut body| async move {
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => Ok(Some((frame, body))),
            Ok(Some(Err(error))) => Err(HttpError::new(HttpErrorKind::Interrupted, error)),
            Ok(None) => Ok(None),
            Err(_) => Err(silent(SILENCE)),
        }
    });
    HttpResponseBody::new(StreamBody::new(frames))
}

fn silent(time: Duration) -> HttpError {
    let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {time:?}"));
    let error: Box<dyn Error + Send + Sync> = Box::new(error);
    HttpError::new_boxed(HttpErrorKind::Timeout, error)
}
