//! A push service on the loopback (RFC 8030), and devices that read what was pushed to them with
//! another library than the one that encrypts (RFC 8291).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use web_push_native::p256::SecretKey;
use web_push_native::p256::elliptic_curve::sec1::ToEncodedPoint;
use web_push_native::{Auth, decrypt};

use crate::support::PATIENCE;
use crate::support::server::Builder;
use crate::support::tls::{Certificate, Stream};

/// One push as it came.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Pushed {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The content of a push that is not encrypted.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

#[derive(Default)]
struct State {
    pushed: Vec<Pushed>,
    taken: usize,
    /// What the next pushes are answered with; 201 when there is nothing.
    answers: VecDeque<String>,
    connections: usize,
}

/// The service.
pub struct PushService {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    folder: TempDir,
}

impl PushService {
    /// On a free port, with a certificate for `push.test`, `localhost` and 127.0.0.1.
    pub fn start() -> PushService {
        PushService::on(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    /// Another one at the same port of another address of the loopback, with a certificate of its own.
    #[track_caller]
    pub fn beside(&self, host: Ipv4Addr) -> PushService {
        let at = SocketAddr::from((host, self.address.port()));
        PushService::on(TcpListener::bind(at).unwrap_or_else(|error| panic!("{at}: {error}")))
    }

    fn on(listener: TcpListener) -> PushService {
        let certificate = Certificate::make(&["push.test", "localhost", "127.0.0.1"]);
        let folder = TempDir::with_prefix("postrider-push-").expect("temporary folder");
        std::fs::write(folder.path().join("ca.pem"), &certificate.certificate_pem).expect("written");
        let address = listener.local_addr().expect("address");
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, certificate) = (Arc::clone(&state), Arc::new(certificate));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, certificate) = (Arc::clone(&shared), Arc::clone(&certificate));
                std::thread::spawn(move || {
                    lock(&state).connections += 1;
                    let _ = serve(stream, &certificate, &state);
                });
            }
        });
        PushService { address, state, folder }
    }

    /// Has a server in the making push here.
    pub fn trusted_by(&self, builder: Builder) -> Builder {
        builder
            .env("SSL_CERT_FILE", self.certificate().to_string_lossy())
            .env("POSTRIDER_PUSH_NETWORKS", "127.0.0.0/8")
    }

    /// The file that makes the service trusted.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A URL of the service.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}/{path}", self.address)
    }

    /// Answers the next push so: a status, and header fields behind it.
    pub fn answer(&self, answer: &str) {
        lock(&self.state).answers.push_back(answer.to_owned());
    }

    /// The next push, in the order in which they came.
    #[track_caller]
    pub fn next(&self) -> Pushed {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("nothing was pushed within {PATIENCE:?}"))
    }

    /// The next push, when one comes in time.
    pub fn next_within(&self, time: Duration) -> Option<Pushed> {
        let start = Instant::now();
        loop {
            let mut state = lock(&self.state);
            if let Some(pushed) = state.pushed.get(state.taken).cloned() {
                state.taken += 1;
                return Some(pushed);
            }
            drop(state);
            if start.elapsed() > time {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, certificate: &Certificate, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream: BufReader<Stream> = BufReader::new(certificate.accept(stream)?);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            let name = name.to_ascii_lowercase();
            if name == "content-length" {
                length = value.parse().unwrap_or_default();
            }
            headers.push((name, value.to_owned()));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let answer = {
            let mut state = lock(state);
            state.pushed.push(Pushed { path, headers, body });
            state.answers.pop_front().unwrap_or_else(|| "201 Created".to_owned())
        };
        if answer == "hang up" {
            return Ok(());
        }
        write!(stream.get_mut(), "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
}

/// A device with keys of its own.
pub struct Device {
    secret: SecretKey,
    auth: [u8; 16],
}

impl Device {
    pub fn new() -> Device {
        let secret = loop {
            // Nearly every number is a key.
            if let Ok(secret) = SecretKey::from_slice(&rand::random::<[u8; 32]>()) {
                break secret;
            }
        };
        Device { secret, auth: rand::random() }
    }

    /// As they stand in a PushSubscription.
    pub fn keys(&self) -> Value {
        let point = self.secret.public_key().to_encoded_point(false);
        json!({
            "p256dh": URL_SAFE_NO_PAD.encode(point.as_bytes()),
            "auth": URL_SAFE_NO_PAD.encode(self.auth),
        })
    }

    /// Reads a push.
    #[track_caller]
    pub fn read(&self, pushed: &Pushed) -> Value {
        assert_eq!(pushed.header("content-encoding"), Some("aes128gcm"), "{pushed:?}");
        let text = decrypt(pushed.body.clone(), &self.secret, &Auth::from(self.auth));
        let text = text.unwrap_or_else(|error| panic!("{error}: {pushed:?}"));
        serde_json::from_slice(&text).expect("JSON")
    }
}
