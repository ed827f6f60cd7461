//! An SMTP server for what the program sends: it records everything, and answers what a test's
//! script says.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::support::ports::free_port;
use crate::support::tls::{Certificate, Stream};
use crate::support::{eventually, poll};

/// Where in a session a reply is due.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    Greeting,
    Hello,
    StartTls,
    Auth,
    Mail,
    Recipient,
    Data,
    /// After the final dot.
    Message,
    Other,
}

/// What the server does at a stage.
#[derive(Clone, Debug)]
pub enum Step {
    /// The usual success.
    Accept,
    /// This reply, code and text.
    Reply(&'static str),
    /// Closes the connection without a word.
    Disconnect,
    /// Says nothing for so long, then closes.
    Hang(Duration),
    /// Waits, then accepts.
    Delay(Duration),
}

/// A message that was accepted after its final dot.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    pub hello: String,
    /// The address in MAIL FROM, without its brackets.
    pub from: String,
    /// What followed the address.
    pub from_parameters: String,
    /// The recipients that were accepted.
    pub to: Vec<String>,
    /// The message, dots undone.
    pub message: Vec<u8>,
    pub tls: bool,
    /// Login and password of AUTH PLAIN as sent, if any.
    pub auth: Option<String>,
    /// When it was accepted.
    pub at: Option<Instant>,
}

impl Delivery {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }
}

type Script = Box<dyn FnMut(Stage, &str) -> Step + Send>;

struct Shared {
    script: Mutex<Script>,
    extensions: Mutex<Vec<String>>,
    deliveries: Mutex<Vec<Delivery>>,
    lines: Mutex<Vec<String>>,
    connections: Mutex<Vec<TcpStream>>,
    certificate: Option<Certificate>,
    stopped: AtomicBool,
}

/// The running server.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Sink {
    /// Accepts everything, with the extensions of a usual server but without TLS.
    pub fn start() -> Sink {
        Sink::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), None)
    }

    /// As [`Sink::start`], offering STARTTLS.
    pub fn start_tls() -> Sink {
        let certificate = Certificate::make(&["sink.test", "localhost"]);
        Sink::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())), Some(certificate))
    }

    /// At an address of its own: the whole of 127.0.0.0/8 is ours.
    #[track_caller]
    pub fn start_at(address: SocketAddr, certificate: Option<Certificate>) -> Sink {
        // A program that another test starts at this moment may hold the socket that found the port free
        // until it is replaced by what it runs.
        let listener = eventually("the sink's address is free", || TcpListener::bind(address).ok());
        let extensions = ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 100000000"];
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(|_, _| Step::Accept)),
            extensions: Mutex::new(extensions.map(str::to_owned).to_vec()),
            deliveries: Mutex::default(),
            lines: Mutex::default(),
            connections: Mutex::default(),
            certificate,
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if let Ok(copy) = stream.try_clone() {
                    lock(&accepting.connections).push(copy);
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    let copy = stream.try_clone();
                    // However the peer leaves: what counts is what was recorded.
                    let _ = serve(&shared, stream);
                    // The copies kept elsewhere would hold the connection open.
                    if let Ok(copy) = copy {
                        let _ = copy.shutdown(std::net::Shutdown::Both);
                    }
                });
            }
        });
        Sink { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// The value of `POSTRIDER_RELAY` that sends everything here.
    pub fn relay(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// From now on, the script says what happens at each stage. It gets the line as it came.
    pub fn script(&self, script: impl FnMut(Stage, &str) -> Step + Send + 'static) {
        *lock(&self.shared.script) = Box::new(script);
    }

    /// A script of one rule: a step at a stage, as often as said; all else is accepted.
    pub fn fail(&self, at: Stage, step: Step, times: usize) {
        let mut left = times;
        self.script(move |stage, _| {
            if stage == at && left > 0 {
                left -= 1;
                return step.clone();
            }
            Step::Accept
        });
    }

    /// Accepts everything again.
    pub fn accept(&self) {
        self.script(|_, _| Step::Accept);
    }

    /// What EHLO offers, besides STARTTLS where there is a certificate.
    pub fn set_extensions(&self, extensions: &[&str]) {
        *lock(&self.shared.extensions) = extensions.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Everything accepted so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.shared.deliveries).clone()
    }

    /// Every line received so far but those of messages.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.shared.lines).clone()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Waits for the delivery to a recipient.
    #[track_caller]
    pub fn wait_for(&self, recipient: &str) -> Delivery {
        eventually(&format!("delivery to {recipient}"), || {
            self.deliveries().into_iter().find(|delivery| delivery.to.iter().any(|to| to == recipient))
        })
    }

    /// Waits until so many messages have been accepted.
    #[track_caller]
    pub fn wait_for_count(&self, count: usize) -> Vec<Delivery> {
        let found = poll(|| {
            let deliveries = self.deliveries();
            (deliveries.len() >= count).then_some(deliveries)
        });
        match found {
            Some(deliveries) => deliveries,
            None => panic!("{} deliveries instead of {count}", self.deliveries().len()),
        }
    }

    /// Waits until a command line that begins so has come (`RCPT TO:<bob`).
    #[track_caller]
    pub fn wait_for_line(&self, start: &str) -> String {
        eventually(&format!("the line {start}"), || {
            self.lines()
                .into_iter()
                .find(|line| line.to_ascii_uppercase().starts_with(&start.to_ascii_uppercase()))
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for connection in lock(&self.shared.connections).iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the thread that accepts, so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

/// Does what the script says at a stage; whether the command was accepted.
fn answer(
    shared: &Shared,
    out: &mut impl Write,
    stage: Stage,
    line: &str,
    success: &str,
) -> io::Result<bool> {
    let step = (lock(&shared.script))(stage, line);
    match step {
        Step::Accept => write!(out, "{success}\r\n")?,
        Step::Reply(reply) => {
            write!(out, "{reply}\r\n")?;
            out.flush()?;
            // 421 announces that the channel is closing (RFC 5321, 3.8).
            if reply.starts_with("421") {
                return Err(gone());
            }
            return Ok(matches!(reply.as_bytes().first(), Some(b'2' | b'3')));
        }
        Step::Disconnect => return Err(gone()),
        Step::Hang(time) => {
            std::thread::sleep(time);
            return Err(gone());
        }
        Step::Delay(time) => {
            std::thread::sleep(time);
            write!(out, "{success}\r\n")?;
        }
    }
    out.flush()?;
    Ok(true)
}

fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut reader = BufReader::new(Stream::Plain(stream));
    if !answer(shared, reader.get_mut(), Stage::Greeting, "", "220 sink.test ESMTP")? {
        return Err(gone());
    }
    let mut session = Delivery::default();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        lock(&shared.lines).push(line.clone());
        let upper = line.to_ascii_uppercase();
        let verb = upper.split(' ').next().unwrap_or("");
        match verb {
            "EHLO" | "HELO" | "LHLO" => {
                let mut lines = vec!["sink.test".to_owned()];
                if verb == "EHLO" {
                    lines.extend(lock(&shared.extensions).iter().cloned());
                    if shared.certificate.is_some() && !session.tls {
                        lines.push("STARTTLS".into());
                    }
                }
                let last = lines.pop().unwrap_or_default();
                let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
                reply.push_str(&format!("250 {last}"));
                if answer(shared, reader.get_mut(), Stage::Hello, &line, &reply)? {
                    let tls = session.tls;
                    session = Delivery {
                        hello: rest(&line),
                        tls,
                        auth: session.auth.take(),
                        ..Delivery::default()
                    };
                }
            }
            "STARTTLS" => {
                let offered = shared.certificate.is_some() && !session.tls;
                let reply = if offered { "220 go ahead" } else { "502 5.5.1 not here" };
                let accepted = answer(shared, reader.get_mut(), Stage::StartTls, &line, reply)?;
                if let (true, true, Some(certificate)) = (accepted, offered, &shared.certificate) {
                    let Stream::Plain(plain) = reader.into_inner() else { return Err(gone()) };
                    reader = BufReader::new(certificate.accept(plain)?);
                    session = Delivery { tls: true, ..Delivery::default() };
                }
            }
            "AUTH" => {
                if answer(shared, reader.get_mut(), Stage::Auth, &line, "235 2.7.0 welcome")? {
                    session.auth = Some(line.split(' ').nth(2).unwrap_or("").to_owned());
                }
            }
            "MAIL" => {
                if answer(shared, reader.get_mut(), Stage::Mail, &line, "250 2.1.0 ok")? {
                    let (address, parameters) = path(&line);
                    session.from = address;
                    session.from_parameters = parameters;
                    session.to.clear();
                }
            }
            "RCPT" => {
                if answer(shared, reader.get_mut(), Stage::Recipient, &line, "250 2.1.5 ok")? {
                    session.to.push(path(&line).0);
                }
            }
            "DATA" => {
                let reply = if session.to.is_empty() { "554 5.5.1 no recipients" } else { "354 go on" };
                let accepted = answer(shared, reader.get_mut(), Stage::Data, &line, reply)?;
                if accepted && !session.to.is_empty() {
                    session.message = read_message(&mut reader)?;
                    // Recorded before the reply: the peer may act on the reply at once.
                    let step = (lock(&shared.script))(Stage::Message, "");
                    if matches!(step, Step::Accept | Step::Delay(_)) {
                        if let Step::Delay(time) = step {
                            std::thread::sleep(time);
                        }
                        session.at = Some(Instant::now());
                        lock(&shared.deliveries).push(session.clone());
                        write!(reader.get_mut(), "250 2.0.0 taken\r\n")?;
                        reader.get_mut().flush()?;
                    } else {
                        let mut once = Some(step);
                        play(&mut once, reader.get_mut())?;
                    }
                    session.from.clear();
                    session.to.clear();
                    session.message.clear();
                }
            }
            "RSET" => {
                session.from.clear();
                session.to.clear();
                answer(shared, reader.get_mut(), Stage::Other, &line, "250 2.0.0 ok")?;
            }
            "QUIT" => {
                answer(shared, reader.get_mut(), Stage::Other, &line, "221 2.0.0 bye")?;
                return Ok(());
            }
            "NOOP" => {
                answer(shared, reader.get_mut(), Stage::Other, &line, "250 2.0.0 ok")?;
            }
            _ => {
                answer(shared, reader.get_mut(), Stage::Other, &line, "500 5.5.2 what?")?;
            }
        }
    }
}

/// A step that refuses the message.
fn play(step: &mut Option<Step>, out: &mut impl Write) -> io::Result<()> {
    match step.take() {
        Some(Step::Reply(reply)) => {
            write!(out, "{reply}\r\n")?;
            out.flush()
        }
        Some(Step::Hang(time)) => {
            std::thread::sleep(time);
            Err(gone())
        }
        _ => Err(gone()),
    }
}

fn read_message(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(gone());
        }
        if line == b".\r\n" {
            return Ok(message);
        }
        let line = if line.first() == Some(&b'.') { &line[1..] } else { &line[..] };
        message.extend_from_slice(line);
    }
}

fn rest(line: &str) -> String {
    line.split_once(' ').map_or("", |(_, rest)| rest).to_owned()
}

/// The address between the brackets and what follows them.
fn path(line: &str) -> (String, String) {
    let inner = line.split_once('<').map_or("", |(_, inner)| inner);
    let (address, parameters) = inner.rsplit_once('>').unwrap_or((inner, ""));
    (address.to_owned(), parameters.trim().to_owned())
}
