//! Sending a push to the URL of a subscription (RFC 8030, 5).

use std::time::Duration;

use hyper::StatusCode;

use crate::callback::{Callback, NoAnswer, retry_after};
use crate::types::callback_url::CallbackUrl;

/// For a push service to take a push.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A push as it travels.
pub struct Push {
    /// The content, encrypted when the device has given keys.
    pub body: Vec<u8>,
    pub is_encrypted: bool,
    /// Who pushes.
    pub authorization: String,
    /// Seconds for which it is worth keeping.
    pub ttl: u32,
    /// `very-low`, `low`, `normal` or `high` (RFC 8030, 5.3).
    pub urgency: &'static str,
    /// A later push of the same topic takes the place of this one, if it still waits.
    pub topic: Option<String>,
}

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Posted {
    /// The push service has it.
    Taken,
    /// The subscription is no more.
    Gone,
    /// Not now; with the seconds to wait, if it says.
    NotNow(Option<u64>),
    /// It will not take this push.
    Refused(String),
    /// It could not be asked, or fails at present.
    Failed(String),
}

/// Sends pushes.
#[derive(Clone)]
pub struct Endpoint(Callback);

impl Endpoint {
    /// By the means with which URLs of others are asked.
    pub fn new(callback: Callback) -> Endpoint {
        Endpoint(callback)
    }

    /// Sends a push.
    pub async fn post(&self, url: &CallbackUrl, push: Push) -> Posted {
        let mut headers = vec![
            ("authorization", push.authorization),
            ("ttl", push.ttl.to_string()),
            ("urgency", push.urgency.to_owned()),
        ];
        if push.is_encrypted {
            headers.push(("content-encoding", "aes128gcm".to_owned()));
        }
        headers.extend(push.topic.map(|topic| ("topic", topic)));
        match self.0.post(url, headers, push.body.into(), ANSWER_TIME).await {
            Ok(response) => outcome(response.status(), response.headers()),
            Err(NoAnswer::Forbidden(why)) => Posted::Refused(why),
            Err(NoAnswer::Failed(why)) => Posted::Failed(why),
        }
    }
}

fn outcome(status: StatusCode, headers: &hyper::HeaderMap) -> Posted {
    match status {
        status if status.is_success() => Posted::Taken,
        StatusCode::NOT_FOUND | StatusCode::GONE => Posted::Gone,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Posted::NotNow(retry_after(headers))
        }
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            Posted::Failed(format!("it answered {status}"))
        }
        // A redirect too: a push service answers itself.
        status => Posted::Refused(format!("it answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_is_to_be_done() {
        let of = |status: u16, retry: &str| {
            let mut headers = hyper::HeaderMap::new();
            headers.insert(hyper::header::RETRY_AFTER, retry.parse().unwrap());
            outcome(StatusCode::from_u16(status).unwrap(), &headers)
        };
        for status in [200, 201, 202, 204] {
            assert_eq!(of(status, "1"), Posted::Taken);
        }
        assert_eq!((of(404, "1"), of(410, "1")), (Posted::Gone, Posted::Gone));
        assert_eq!((of(429, "120"), of(503, "120")), (Posted::NotNow(Some(120)), Posted::NotNow(Some(120))));
        assert_eq!(of(429, "Wed, 21 Oct 2015 07:28:00 GMT"), Posted::NotNow(None));
        for status in [408, 500, 502, 504] {
            assert!(matches!(of(status, "1"), Posted::Failed(_)), "{status}");
        }
        for status in [301, 302, 307, 400, 401, 403, 413] {
            assert!(matches!(of(status, "1"), Posted::Refused(_)), "{status}");
        }
    }
}
