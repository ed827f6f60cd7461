//! HTTP/1.1 by hand: one connection for each request, every byte of it in the test's control.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer, read to its end.
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of a name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All headers of a name.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {self:?}"),
        }
    }

    /// Fails the test unless the status is the one given.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        let shown: String = text.chars().take(2000).collect();
        write!(f, "HTTP {} {:?}\n{shown}", self.status, self.headers)
    }
}

/// A request in the making.
#[derive(Clone)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Request {
        Request { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(path: &str) -> Request {
        Request::new("GET", path)
    }

    pub fn post(path: &str) -> Request {
        Request::new("POST", path)
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn basic(self, login: &str, password: &str) -> Request {
        let value = basic(login, password);
        self.header("Authorization", &value)
    }

    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self.header("Content-Type", kind)
    }

    pub fn json(self, body: &Value) -> Request {
        self.body("application/json", body.to_string())
    }

    /// Sends it and reads the whole answer.
    #[track_caller]
    pub fn send(self, to: SocketAddr) -> Response {
        match self.try_send(to) {
            Ok(response) => response,
            Err(error) => panic!("HTTP to {to}: {error}"),
        }
    }

    /// As [`Request::send`] for a server that may not be there.
    pub fn try_send(self, to: SocketAddr) -> io::Result<Response> {
        let (status, headers, mut body) = self.open(to)?;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes)?;
        Ok(Response { status, headers, body: bytes })
    }

    /// Sends it and reads the head of the answer only; the body is read as it comes.
    pub fn open(self, to: SocketAddr) -> io::Result<Head> {
        let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let has = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !has("host") {
            head.push_str(&format!("Host: {to}\r\n"));
        }
        if !has("connection") {
            head.push_str("Connection: close\r\n");
        }
        if !has("content-length") && (self.method != "GET" || !self.body.is_empty()) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        // A server may answer and close before it has read everything: the answer counts.
        let sent = stream.write_all(&bytes);
        read_head(stream).map_err(|error| sent.err().unwrap_or(error))
    }
}

/// Sends bytes as they stand and reads the answer.
pub fn raw(to: SocketAddr, bytes: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let sent = stream.write_all(bytes);
    let (status, headers, mut body) = read_head(stream).map_err(|error| sent.err().unwrap_or(error))?;
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes)?;
    Ok(Response { status, headers, body: bytes })
}

/// The value of an Authorization header.
pub fn basic(login: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{login}:{password}"));
    format!("Basic {pair}")
}

/// The path and query of an absolute URL, or what was given when it is none.
pub fn path_of(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return url };
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// Percent-encodes everything but unreserved characters.
pub fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Status, headers, and the body still to be read.
type Head = (u16, Vec<(String, String)>, Body);

fn read_head(stream: TcpStream) -> io::Result<Head> {
    let mut reader = BufReader::new(stream);
    loop {
        let line = read_line(&mut reader)?;
        let status: u16 = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut reader)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let length = find("content-length").and_then(|value| value.parse().ok());
        let framing = if find("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            Framing::Chunked { left: 0, first: true }
        } else if status == 204 || status == 304 {
            Framing::Length(0)
        } else {
            length.map_or(Framing::ToEnd, Framing::Length)
        };
        return Ok((status, headers, Body { reader, framing }));
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

enum Framing {
    Length(u64),
    Chunked { left: u64, first: bool },
    ToEnd,
}

/// A body, its framing taken off.
pub struct Body {
    reader: BufReader<TcpStream>,
    framing: Framing,
}

impl Body {
    /// The connection below, to set time-outs or to close it.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.framing {
            Framing::ToEnd => self.reader.read(out),
            Framing::Length(0) => Ok(0),
            Framing::Length(left) => {
                let most = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let count = self.reader.read(&mut out[..most])?;
                if count == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                *left -= count as u64;
                Ok(count)
            }
            Framing::Chunked { left, first } => {
                if *left == 0 {
                    if !*first {
                        read_line(&mut self.reader)?;
                    }
                    *first = false;
                    let line = read_line(&mut self.reader)?;
                    *left = u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                        .map_err(|_| io::Error::other(format!("no chunk size: {line:?}")))?;
                    if *left == 0 {
                        self.framing = Framing::Length(0);
                        return Ok(0);
                    }
                }
                let most = out.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let count = self.reader.read(&mut out[..most])?;
                if count == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                *left -= count as u64;
                Ok(count)
            }
        }
    }
}
