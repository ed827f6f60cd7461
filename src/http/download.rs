//! `GET /jmap/download/{accountId}/{blobId}/{name}` (RFC 8620, 6.2). Blobs never change, so they may
//! be kept for ever; they come from strangers, so a browser is told to trust nothing in them.

use std::ops::Range;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::blob::{BlobError, Blobs};
use crate::http::auth::Shown;
use crate::http::error::HttpError;
use crate::http::state::HttpState;
use crate::http::ticket::Purpose;
use crate::store::blob::Reader;
use crate::types::blob_id::BlobId;
use crate::types::scope::Scope;

/// Types that a browser may show in the page: none of them can hold a script.
const HARMLESS: [&str; 9] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "text/plain",
    "audio/mpeg",
    "video/mp4",
];

#[derive(Deserialize)]
pub struct Parameters {
    r#type: Option<String>,
}

/// Serves a blob, or a range of it.
pub async fn get(
    State(http): State<HttpState>,
    Path((account_text, blob_text, name)): Path<(String, String, String)>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Result<Response, HttpError> {
    let (mut parts, _) = request.into_parts();
    let purpose = Purpose::Download { account: account_text.clone(), blob: blob_text.clone() };
    let caller = Shown::of(&parts, &http, &purpose)?.enter(&mut parts, &http).await?;
    caller.needs(Scope::Read)?;
    let account = account_text.parse().ok().and_then(|id| caller.account(id)).ok_or(HttpError::NotFound)?;
    let blob: BlobId = blob_text.parse().map_err(|_| HttpError::NotFound)?;
    let reader = Reader::login(account.id, caller.login_id);
    serve(&http, reader, &blob, &name, parameters.r#type.as_deref(), &parts.headers).await
}

/// Serves what a reader may read of a blob, under a name and a media type, as these headers ask for it.
pub async fn serve(
    http: &HttpState,
    reader: Reader,
    blob: &BlobId,
    name: &str,
    media_type: Option<&str>,
    asked: &HeaderMap,
) -> Result<Response, HttpError> {
    let etag = format!("\"{blob}\"");
    let mut headers = headers(media_type, name, &etag);
    if has_etag(asked, &etag) {
        // Still subject to access: the blob must be there for this caller.
        http.jmap.blobs.size(reader, &blob.hash).await?.ok_or(HttpError::NotFound)?;
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let content = open(&http.jmap.blobs, reader, blob).await?.ok_or(HttpError::NotFound)?;
    let size = content.size();
    let range = match asked.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) => read_range(text, size).map_err(|()| HttpError::RangeNotSatisfiable { size })?,
        None => None,
    };
    let sent = range.clone().unwrap_or(0..size);
    let body = match content {
        Content::Part(octets) => Body::from(octets.slice(sent.start as usize..sent.end as usize)),
        Content::Whole(_) => {
            let stream = http.jmap.blobs.stream_range(reader, &blob.hash, range.clone()).await?;
            Body::from_stream(stream.ok_or(HttpError::NotFound)?.pieces)
        }
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(sent.end - sent.start));
    let status = if range.is_some() {
        let last = sent.end.saturating_sub(1);
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {}-{last}/{size}", sent.start)) {
            headers.insert(header::CONTENT_RANGE, value);
        }
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    Ok((status, headers, body).into_response())
}

/// What is served: a whole blob, which is streamed, or a part cut from one.
enum Content {
    Whole(u64),
    Part(bytes::Bytes),
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Content::Whole(size) => *size,
            Content::Part(octets) => octets.len() as u64,
        }
    }
}

async fn open(blobs: &Blobs, reader: Reader, id: &BlobId) -> Result<Option<Content>, BlobError> {
    if id.is_whole() {
        return Ok(blobs.size(reader, &id.hash).await?.map(Content::Whole));
    }
    Ok(blobs.read_part(reader, id).await?.map(Content::Part))
}

fn headers(media_type: Option<&str>, name: &str, etag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let given = media_type.unwrap_or("application/octet-stream");
    let media_type = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let content_type = HeaderValue::from_str(given)
        .ok()
        .filter(|_| given.contains('/') && given.is_ascii() && given.len() <= 200)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, content_type);
    let kind = if HARMLESS.contains(&media_type.as_str()) { "inline" } else { "attachment" };
    if let Ok(value) = HeaderValue::from_str(&disposition(kind, name)) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Ok(value) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, immutable, max-age=31536000"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'; style-src 'unsafe-inline'"),
    );
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    headers
}

/// RFC 6266: a plain name for old clients, and the exact one in RFC 8187 form.
fn disposition(kind: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .take(150)
        .map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' })
        .collect();
    let mut exact = String::new();
    for byte in name.chars().take(150).collect::<String>().bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            exact.push(char::from(byte));
        } else {
            exact.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

fn has_etag(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(',').any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag
    })
}

/// RFC 9110, 14.2: one range of bytes. Anything else of the form is ignored, which is allowed; a
/// range beyond the end cannot be satisfied.
fn read_range(text: &str, size: u64) -> Result<Option<Range<u64>>, ()> {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.start >= size || range.is_empty() { Err(()) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(read_range("bytes=0-9", 100), Ok(Some(0..10)));
        assert_eq!(read_range("bytes=90-", 100), Ok(Some(90..100)));
        assert_eq!(read_range("bytes=-5", 100), Ok(Some(95..100)));
        assert_eq!(read_range("bytes=0-999", 100), Ok(Some(0..100)));
        assert_eq!(read_range("bytes=100-", 100), Err(()));
        assert_eq!(read_range("bytes=-0", 100), Err(()));
        for ignored in ["lines=1-2", "bytes=5-1", "bytes=0-1,5-6", "bytes=x-"] {
            assert_eq!(read_range(ignored, 100), Ok(None), "{ignored}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_the_header() {
        let header = disposition("attachment", "a\"\r\nX: y/ü.txt");
        assert_eq!(
            header,
            "attachment; filename=\"a___X: y/_.txt\"; filename*=UTF-8''a%22%0D%0AX%3A%20y%2F%C3%BC.txt"
        );
    }
}
