//! The admin socket: how commands reach the server that owns the data folder.
//!
//! A request is one line of JSON, at most [`MAX_REQUEST_LINE`] octets. After an import request
//! follow the messages themselves, back to back, each as long as its `size` says. The answer is
//! one line: `{"Ok": …}` or `{"Err": …}`. A connection carries any number of them in turn. Only
//! the user who runs the server (and root) can open the socket: its mode is 0600, and the peer's
//! user is looked at as well, since the mode is set a moment after the socket is made.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin::request::{AdminError, AdminRequest, AdminResponse};

/// Longest line of a request.
pub const MAX_REQUEST_LINE: usize = 1 << 20;
/// Longest line of an answer: an account list may be long.
const MAX_ANSWER_LINE: usize = 256 << 20;
/// Octets of messages that a command sends with one request, unless one message is larger.
pub const IMPORT_BATCH: u64 = 8 << 20;
/// Connections served at a time; others wait.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may be silent between requests: a command may be reading a slow disk.
const IDLE: Duration = Duration::from_secs(600);
/// How long the messages of one request may take.
const TRANSFER: Duration = Duration::from_secs(120);

/// The name of the socket in the data folder.
const NAME: &str = "admin.sock";
/// Longest path that every system takes for a socket, in octets.
const MAX_SOCKET_PATH: usize = 100;

/// The path of the socket, and the open folder that a shortened path goes through.
fn socket_path(data: &Path, name: &str) -> io::Result<(PathBuf, Option<File>)> {
    let path = data.join(name);
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok((path, None));
    }
    // sockaddr_un holds 108 octets. Linux lets a long path be reached through an open folder.
    let folder = File::open(data)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
    Ok((path, Some(folder)))
}

/// Opens the socket of a data folder. The caller holds the folder's lock, so that a socket that
/// is already there is left over from a server that died.
pub fn listen(data: &Path) -> io::Result<UnixListener> {
    let (made, _folder) = socket_path(data, "admin.sock.new")?;
    let _ = std::fs::remove_file(&made);
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(data.join("admin.sock.new"), data.join(NAME))?;
    Ok(listener)
}

/// Serves requests until `stop`, then removes the socket. `max_message` bounds one imported
/// message.
pub async fn serve_admin<Handler, Answer>(
    data: &Path,
    listener: UnixListener,
    max_message: u64,
    stop: CancellationToken,
    handle: Handler,
) where
    Handler: Fn(AdminRequest) -> Answer + Clone + Send + Sync + 'static,
    Answer: Future<Output = Result<AdminResponse, AdminError>> + Send,
{
    let owner = std::fs::metadata(data.join(NAME)).map(|metadata| metadata.uid()).ok();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let running = tokio_util::task::TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = stream.peer_cred().map(|peer| peer.uid()).ok();
        if peer.is_none_or(|peer| peer != 0 && Some(peer) != owner) {
            tracing::warn!(?peer, "another user was refused at the admin socket");
            continue;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let (handle, stop) = (handle.clone(), stop.clone());
        running.spawn(async move {
            if let Err(error) = serve_connection(stream, max_message, stop, handle).await {
                tracing::debug!(%error, "an admin connection ended early");
            }
            drop(slot);
        });
    }
    running.close();
    running.wait().await;
    let _ = std::fs::remove_file(data.join(NAME));
}

async fn serve_connection<Handler, Answer>(
    stream: UnixStream,
    max_message: u64,
    stop: CancellationToken,
    handle: Handler,
) -> io::Result<()>
where
    Handler: Fn(AdminRequest) -> Answer,
    Answer: Future<Output = Result<AdminResponse, AdminError>>,
{
    let mut stream = BufReader::new(stream);
    loop {
        // A request that has begun is answered even when the server stops.
        let line =
            match stop.run_until_cancelled(timeout(IDLE, read_line(&mut stream, MAX_REQUEST_LINE))).await {
                None | Some(Err(_)) => return Ok(()),
                Some(Ok(line)) => line?,
            };
        let Some(line) = line else { return Ok(()) };
        let answer = match serde_json::from_slice::<AdminRequest>(&line) {
            Ok(mut request) => {
                timeout(TRANSFER, read_messages(&mut stream, &mut request, max_message)).await??;
                handle(request).await
            }
            Err(error) => Err(AdminError::failed(format!(
                "the server does not know this request ({error}); are both of the same version?"
            ))),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
    }
}

/// Reads what follows an import request.
async fn read_messages(
    stream: &mut BufReader<UnixStream>,
    request: &mut AdminRequest,
    max_message: u64,
) -> io::Result<()> {
    let AdminRequest::Import { messages, .. } = request else { return Ok(()) };
    let total = messages.iter().fold(0_u64, |total, message| total.saturating_add(message.size));
    if total > max_message.max(IMPORT_BATCH) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many octets in one import request"));
    }
    for message in messages {
        let mut raw = Vec::new();
        (&mut *stream).take(message.size).read_to_end(&mut raw).await?;
        if raw.len() as u64 != message.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        message.raw = Bytes::from(raw);
    }
    Ok(())
}

/// A line without its end; `None` when the stream ended before it.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(max as u64 + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() >= max => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"))
        }
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A connection to the server of a data folder.
#[derive(Debug)]
pub struct AdminClient {
    stream: BufReader<UnixStream>,
}

impl AdminClient {
    /// Connects.
    pub async fn connect(data: &Path) -> io::Result<AdminClient> {
        let (path, _folder) = socket_path(data, NAME)?;
        Ok(AdminClient { stream: BufReader::new(UnixStream::connect(path).await?) })
    }

    /// Asks the server and waits for its answer.
    pub async fn ask(&mut self, request: &AdminRequest) -> Result<AdminResponse, AdminError> {
        let lost =
            |error: io::Error| AdminError::failed(format!("the connection to the server was lost: {error}"));
        let mut line = serde_json::to_vec(request).map_err(|error| AdminError::failed(error.to_string()))?;
        if line.len() > MAX_REQUEST_LINE {
            return Err(AdminError::failed("the request is too long"));
        }
        line.push(b'\n');
        let stream = self.stream.get_mut();
        stream.write_all(&line).await.map_err(lost)?;
        if let AdminRequest::Import { messages, .. } = request {
            for message in messages {
                stream.write_all(&message.raw).await.map_err(lost)?;
            }
        }
        let answer = read_line(&mut self.stream, MAX_ANSWER_LINE).await.map_err(lost)?;
        let answer =
            answer.ok_or_else(|| AdminError::failed("the server closed the connection: is it stopping?"))?;
        serde_json::from_slice::<Result<AdminResponse, AdminError>>(&answer)
            .map_err(|error| AdminError::failed(format!("the server's answer is not understood: {error}")))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::request::{ImportItem, ImportOutcome};

    async fn answer(request: AdminRequest) -> Result<AdminResponse, AdminError> {
        match request {
            AdminRequest::Import { messages, .. } => Ok(AdminResponse::Imported(
                messages
                    .iter()
                    .map(|message| ImportOutcome::Failed(String::from_utf8_lossy(&message.raw).into_owned()))
                    .collect(),
            )),
            AdminRequest::DomainRemove { domain } => Ok(AdminResponse::Done(domain)),
            _ => Err(AdminError::failed("no")),
        }
    }

    struct Served {
        data: PathBuf,
        stop: CancellationToken,
        server: tokio::task::JoinHandle<()>,
        _folder: tempfile::TempDir,
    }

    fn serve(depth: usize) -> Served {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("x".repeat(depth));
        std::fs::create_dir_all(&data).expect("made");
        let listener = listen(&data).expect("a socket");
        let stop = CancellationToken::new();
        let server = {
            let (data, stop) = (data.clone(), stop.clone());
            tokio::spawn(async move { serve_admin(&data, listener, 100, stop, answer).await })
        };
        Served { data, stop, server, _folder: folder }
    }

    #[tokio::test]
    async fn requests_and_messages_arrive_and_are_answered() {
        let served = serve(3);
        let mode = std::fs::metadata(served.data.join(NAME)).expect("a socket").mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut client = AdminClient::connect(&served.data).await.expect("connected");
        let message = |raw: &'static str| ImportItem {
            mailboxes: vec![vec!["Inbox".into()]],
            keywords: Vec::new(),
            received_at_ms: 0,
            key: "k".into(),
            size: raw.len() as u64,
            raw: Bytes::from_static(raw.as_bytes()),
        };
        let import = AdminRequest::Import {
            account: "a@b.test".into(),
            messages: vec![message("one\n"), message("two")],
            begins: true,
        };
        let Ok(AdminResponse::Imported(outcomes)) = client.ask(&import).await else { panic!("not imported") };
        assert_eq!(outcomes, [ImportOutcome::Failed("one\n".into()), ImportOutcome::Failed("two".into())]);
        let remove = AdminRequest::DomainRemove { domain: "b.test".into() };
        assert!(matches!(client.ask(&remove).await, Ok(AdminResponse::Done(domain)) if domain == "b.test"));
        assert_eq!(client.ask(&AdminRequest::DomainList).await.err(), Some(AdminError::failed("no")));
        drop(client);
        served.stop.cancel();
        served.server.await.expect("ended");
        assert!(!served.data.join(NAME).exists());
    }

    #[tokio::test]
    async fn a_long_path_is_no_hindrance() {
        let served = serve(200);
        assert!(AdminClient::connect(&served.data).await.is_ok());
    }

    #[tokio::test]
    async fn bad_requests_are_refused() {
        let served = serve(3);
        let mut stream = UnixStream::connect(served.data.join(NAME)).await.expect("connected");
        stream.write_all(b"{\"do\":\"format-disk\"}\n").await.expect("written");
        let mut answer = BufReader::new(stream);
        let line = read_line(&mut answer, 1000).await.expect("read").expect("a line");
        assert!(line.starts_with(b"{\"Err\":"));
        let endless = vec![b'x'; MAX_REQUEST_LINE + 100];
        let _ = answer.get_mut().write_all(&endless).await;
        let mut rest = Vec::new();
        let _ = answer.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn an_import_that_claims_too_much_is_cut() {
        let served = serve(3);
        let mut stream = UnixStream::connect(served.data.join(NAME)).await.expect("connected");
        let huge = r#"{"do":"import","account":"a","messages":[{"mailboxes":[],"keywords":[],"received_at_ms":0,"key":"","size":99999999999}]}"#;
        stream.write_all(format!("{huge}\n").as_bytes()).await.expect("written");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
}
