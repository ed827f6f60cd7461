//! What the tests of this folder talk to: a mail server on the loopback that does as it is told, and
//! a DNS server that leads there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::dns::Dns;
use crate::smtp::stream::MaybeTls;

/// What a server does at a line. The line is empty for the greeting, `.` for the end of a message.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The usual success.
    Yes,
    /// The usual success, so much later.
    Later(Duration),
    /// The usual success, when the test says so.
    When(CancellationToken),
    /// This reply.
    Say(&'static str),
    /// Nothing, for ever.
    Silence,
    /// The end of the connection.
    HangUp,
}

type Script = Box<dyn FnMut(&str) -> Answer + Send>;

/// A message that was taken.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub message: String,
    pub login: String,
    pub is_encrypted: bool,
}

struct Inner {
    script: Mutex<Script>,
    offers: Mutex<Vec<&'static str>>,
    taken: Mutex<Vec<Taken>>,
    lines: Mutex<Vec<String>>,
    connections: Mutex<Connections>,
    tls: Mutex<Tls>,
}

#[derive(Default)]
struct Connections {
    open: usize,
    most: usize,
    all: usize,
}

/// What a server does about TLS.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// It breaks off the handshake.
    #[default]
    Broken,
    /// With STARTTLS.
    Works,
    /// From the first octet.
    Implicit,
}

/// The server.
#[derive(Clone)]
pub struct Sink {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl Sink {
    /// Takes everything, at a port of its own choice.
    pub async fn start(ip: Ipv4Addr, port: u16) -> Sink {
        let listener = TcpListener::bind((ip, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            script: Mutex::new(Box::new(|_| Answer::Yes)),
            offers: Mutex::new(vec!["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 1000000"]),
            taken: Mutex::default(),
            lines: Mutex::default(),
            connections: Mutex::default(),
            tls: Mutex::default(),
        });
        let sink = Sink { address, inner };
        let accepting = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = accepting.clone();
                tokio::spawn(async move {
                    sink.count(1);
                    let _ = sink.serve(stream).await;
                    sink.count(-1);
                });
            }
        });
        sink
    }

    fn count(&self, change: isize) {
        let mut connections = self.inner.connections.lock().unwrap();
        connections.open = connections.open.saturating_add_signed(change);
        connections.most = connections.most.max(connections.open);
        connections.all += usize::from(change > 0);
    }

    /// How many connections there have been.
    pub fn all_connections(&self) -> usize {
        self.inner.connections.lock().unwrap().all
    }

    pub fn tls(&self, tls: Tls) {
        *self.inner.tls.lock().unwrap() = tls;
    }

    /// The most connections that were open at once.
    pub fn most_connections(&self) -> usize {
        self.inner.connections.lock().unwrap().most
    }

    /// From now on this says what happens. It must not wait: threads that wait in it hold up the timers
    /// of the test.
    pub fn script(&self, script: impl FnMut(&str) -> Answer + Send + 'static) {
        *self.inner.script.lock().unwrap() = Box::new(script);
    }

    /// An answer to lines that begin so, so many times.
    pub fn answer(&self, start: &'static str, answer: Answer, mut times: usize) {
        self.script(move |line| {
            if line.starts_with(start) && times > 0 {
                times -= 1;
                return answer.clone();
            }
            Answer::Yes
        });
    }

    pub fn offer(&self, offers: &[&'static str]) {
        *self.inner.offers.lock().unwrap() = offers.to_vec();
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.inner.taken.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.inner.lines.lock().unwrap().clone()
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let tls = *self.inner.tls.lock().unwrap();
        let mut stream = BufReader::new(match tls {
            Tls::Implicit => encrypted(stream).await?,
            Tls::Works | Tls::Broken => MaybeTls::Plain(stream),
        });
        let mut taken = Taken::default();
        let mut line = String::new();
        loop {
            let verb = line.split([' ', '\r']).next().unwrap_or_default().to_owned();
            let success = match verb.as_str() {
                "" => "220 sink.test".to_owned(),
                "EHLO" => {
                    let offers = self.inner.offers.lock().unwrap().join("\r\n250-");
                    format!("250-sink.test\r\n250-{offers}\r\n250 HELP")
                }
                "AUTH" => "235 welcome".to_owned(),
                "STARTTLS" => "220 go".to_owned(),
                "DATA" => "354 go on".to_owned(),
                "." => "250 2.0.0 taken".to_owned(),
                _ => "250 ok".to_owned(),
            };
            let answer = (self.inner.script.lock().unwrap())(line.trim_end());
            let reply = match answer {
                Answer::Yes => success,
                Answer::Later(wait) => {
                    tokio::time::sleep(wait).await;
                    success
                }
                Answer::When(said) => {
                    said.cancelled().await;
                    success
                }
                Answer::Say(reply) => reply.to_owned(),
                Answer::Silence => std::future::pending().await,
                Answer::HangUp => return Ok(()),
            };
            let is_yes = reply.starts_with(['2', '3']);
            let rest = line.trim_end().splitn(2, ['<', ' ']).last().unwrap_or_default().to_owned();
            match verb.as_str() {
                "MAIL" => {
                    taken = Taken {
                        from: line.trim_end().to_owned(),
                        login: taken.login,
                        is_encrypted: matches!(stream.get_ref(), MaybeTls::Tls(_)),
                        ..Taken::default()
                    }
                }
                "RCPT" if is_yes => taken.to.push(line.trim_end().to_owned()),
                "AUTH" => taken.login = rest,
                "." if is_yes => self.inner.taken.lock().unwrap().push(taken.clone()),
                _ => {}
            }
            stream.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await?;
            if verb == "STARTTLS" && is_yes {
                taken = Taken::default();
                let MaybeTls::Plain(plain) = stream.into_inner() else { return Ok(()) };
                if tls == Tls::Broken {
                    return Ok(());
                }
                stream = BufReader::new(encrypted(plain).await?);
            }
            if verb == "DATA" && is_yes {
                taken.message.clear();
                loop {
                    line.clear();
                    if stream.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    taken.message.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                continue;
            }
            line.clear();
            if stream.read_line(&mut line).await? == 0 || line.starts_with("QUIT") {
                return Ok(());
            }
            self.inner.lines.lock().unwrap().push(line.trim_end().to_owned());
        }
    }
}

/// The server's side of a handshake, with a certificate that nobody vouches for.
async fn encrypted(stream: TcpStream) -> std::io::Result<MaybeTls<TcpStream>> {
    let made = rcgen::generate_simple_self_signed(vec!["mx.remote.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    Ok(MaybeTls::Tls(Box::new(stream.into())))
}

/// What the DNS server knows.
#[derive(Clone, Default)]
pub struct Zone {
    hosts: HashMap<String, IpAddr>,
    mail: HashMap<String, Vec<(u16, String)>>,
}

impl Zone {
    /// A domain with its mail hosts and their addresses; the null MX has no name.
    pub fn with(mut self, domain: &str, hosts: &[(u16, &str, Ipv4Addr)]) -> Zone {
        let mail = hosts.iter().map(|(preference, name, _)| (*preference, format!("{name}.")));
        self.mail.insert(format!("{domain}."), mail.collect());
        for (_, name, address) in hosts {
            self.hosts.insert(format!("{name}."), IpAddr::V4(*address));
        }
        self
    }

    fn records(&self, name: &str, record_type: RecordType) -> Option<Vec<RData>> {
        let is_known = self.hosts.contains_key(name) || self.mail.contains_key(name);
        is_known.then(|| match (record_type, self.hosts.get(name), self.mail.get(name)) {
            (RecordType::A, Some(IpAddr::V4(address)), _) => vec![RData::A(A(*address))],
            (RecordType::MX, _, Some(hosts)) => hosts
                .iter()
                .map(|(preference, host)| RData::MX(MX::new(*preference, Name::from_ascii(host).unwrap())))
                .collect(),
            _ => Vec::new(),
        })
    }

    /// A resolver that knows this and nothing else.
    pub async fn serve(self) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries[0].clone();
                let mut reply = Message::new(query.id, MessageType::Response, OpCode::Query);
                reply.metadata.recursion_available = true;
                reply.add_query(question.clone());
                let name = question.name().to_ascii().to_lowercase();
                match self.records(&name, question.query_type()) {
                    Some(found) => {
                        for data in found {
                            reply.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                        }
                    }
                    None => reply.metadata.response_code = ResponseCode::NXDomain,
                }
                let _ = socket.send_to(&reply.to_vec().unwrap(), from).await;
            }
        });
        Dns::with_server(address).unwrap()
    }
}

/// Asks until the answer is there, for ten seconds.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1_000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}
