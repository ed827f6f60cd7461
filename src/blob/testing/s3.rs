//! An S3 server in this process, over real HTTP, in front of which faults can be put. It names
//! nothing of the program, so that the black-box tests take this very file.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::runtime::Runtime;

/// Who may do everything.
pub const KEY_ID: &str = "postrider";
/// Their password.
pub const SECRET: &str = "geheim/geheim+geheim";

/// What is wrong with the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fault {
    #[default]
    None,
    /// Answers 503 to everything.
    Busy,
    /// Takes requests and never answers.
    Hangs,
    /// Answers after this time.
    Slow(Duration),
    /// Sends half of each object that is asked for, then cuts the connection.
    Truncates,
    /// Cuts the connection instead of answering.
    Cuts,
    /// Answers 503 to parts of objects, and nothing else.
    RefusesParts,
}

/// A server; buckets are the folders of its root. It runs to the end of the process.
#[derive(Clone)]
pub struct S3Server {
    address: SocketAddr,
    front: Arc<Front>,
}

/// What stands in front of the service.
#[derive(Default)]
struct Front {
    root: PathBuf,
    fault: Mutex<Fault>,
    requests: AtomicUsize,
    parts: AtomicUsize,
}

impl S3Server {
    /// Starts it on a free port.
    pub fn start(root: &Path) -> S3Server {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let front = Arc::new(Front { root: root.to_owned(), ..Front::default() });
        let server = S3Server { address: listener.local_addr().unwrap(), front };
        runtime().spawn(serve(listener, service, server.front.clone()));
        server
    }

    /// The address of a bucket, with a prefix behind a slash if that is wanted.
    pub fn url(&self, place: &str) -> String {
        format!("s3://{place}?endpoint=http://{}", self.address)
    }

    /// From now on something is wrong with it, or nothing.
    pub fn set(&self, fault: Fault) {
        *self.front.fault.lock().unwrap() = fault;
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.front.requests.load(Ordering::SeqCst)
    }

    /// How many of them carried a part of an object.
    pub fn parts(&self) -> usize {
        self.front.parts.load(Ordering::SeqCst)
    }
}

/// Apart from the tests' own runtimes, which end with their tests.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

async fn serve(listener: TcpListener, service: S3Service, front: Arc<Front>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (service, front) = (service.clone(), front.clone());
        let answer = service_fn(move |request| {
            let (service, front) = (service.clone(), front.clone());
            async move { answer(&service, &front, request).await }
        });
        tokio::spawn(async move {
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

fn cut() -> std::io::Error {
    std::io::Error::other("cut by the test")
}

/// An error ends the connection.
async fn answer(
    service: &S3Service,
    front: &Front,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    front.requests.fetch_add(1, Ordering::SeqCst);
    let is_part = request.uri().query().is_some_and(|query| query.contains("partNumber="));
    front.parts.fetch_add(usize::from(is_part), Ordering::SeqCst);
    let fault = *front.fault.lock().unwrap();
    match fault {
        Fault::Busy => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Fault::RefusesParts if is_part => {
            return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
        }
        Fault::Hangs => std::future::pending().await,
        Fault::Cuts => return Err(cut()),
        Fault::Slow(time) => tokio::time::sleep(time).await,
        Fault::None | Fault::Truncates | Fault::RefusesParts => {}
    }
    // The service behind makes a bucket by writing to it, which S3 does not.
    let bucket = request.uri().path().split('/').nth(1).unwrap_or_default();
    if !front.root.join(bucket).is_dir() {
        return Ok(refusal(StatusCode::NOT_FOUND, "NoSuchBucket"));
    }
    let is_get = request.method() == Method::GET;
    let response = service.call(request.map(s3s::Body::from)).await.map_err(|_| cut())?;
    let (head, body) = response.into_parts();
    if fault != Fault::Truncates || !is_get || !head.status.is_success() {
        return Ok(Response::from_parts(head, body.map_err(|_| cut()).boxed_unsync()));
    }
    // The head tells the full length.
    let whole = body.collect().await.map_err(|_| cut())?.to_bytes();
    let half = Ok(Frame::data(whole.slice(..whole.len() / 2)));
    let frames = StreamBody::new(stream::iter([half, Err(cut())]));
    Ok(Response::from_parts(head, BodyExt::boxed_unsync(frames)))
}

fn refusal(status: StatusCode, code: &str) -> Response<Body> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No</Message></Error>");
    let body = Full::new(Bytes::from(text)).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}
