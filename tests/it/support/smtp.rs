//! An SMTP client that sends exactly the bytes it is given.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;

use crate::support::tls::{self, Stream};

/// How long a reply may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A reply, all of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// The text of each line, without the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// The lines as one text.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// Whether a line of an EHLO reply names the extension.
    pub fn offers(&self, extension: &str) -> bool {
        self.lines.iter().any(|line| line.split(' ').next().is_some_and(|word| word == extension))
    }

    /// Fails the test unless the code is the one given.
    #[track_caller]
    pub fn expect(self, code: u16) -> Reply {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// As [`Reply::expect`], with the enhanced status code that the text must begin with.
    #[track_caller]
    pub fn expect_enhanced(self, code: u16, enhanced: &str) -> Reply {
        assert_eq!(self.code, code, "{self}");
        assert!(self.text().starts_with(enhanced), "no {enhanced}: {self}");
        self
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

/// A connection to an SMTP server.
pub struct Smtp {
    reader: BufReader<Stream>,
}

impl Smtp {
    /// Connects and takes the greeting, which must be 220.
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Smtp {
        let mut smtp = Smtp::open(to);
        smtp.reply().expect(220);
        smtp
    }

    /// Connects and reads nothing.
    #[track_caller]
    pub fn open(to: SocketAddr) -> Smtp {
        match Smtp::try_open(to) {
            Ok(smtp) => smtp,
            Err(error) => panic!("SMTP to {to}: {error}"),
        }
    }

    /// As [`Smtp::open`] for a server that may not be there.
    pub fn try_open(to: SocketAddr) -> io::Result<Smtp> {
        let stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Smtp { reader: BufReader::new(Stream::Plain(stream)) })
    }

    /// Changes how long a reply may take.
    pub fn set_timeout(&mut self, time: Duration) {
        let _ = self.reader.get_ref().tcp().set_read_timeout(Some(time));
    }

    /// Sends bytes as they stand.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.reader.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Reads a reply.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        match self.try_reply() {
            Ok(reply) => reply,
            Err(error) => panic!("no SMTP reply: {error}"),
        }
    }

    /// Reads a reply; the end of the connection is an error.
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            self.reader.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            if !line.ends_with(b"\r\n") {
                return Err(io::Error::other(format!("reply line without CRLF: {line:?}")));
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let code = line
                .get(..3)
                .and_then(|code| code.parse::<u16>().ok())
                .filter(|code| (200..600).contains(code));
            let Some(code) = code else {
                return Err(io::Error::other(format!("no reply code: {line:?}")));
            };
            lines.push(line.get(4..).unwrap_or("").to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Sends a line and reads the reply.
    #[track_caller]
    pub fn command(&mut self, line: &str) -> Reply {
        match self.try_command(line) {
            Ok(reply) => reply,
            Err(error) => panic!("{line:?}: {error}"),
        }
    }

    /// As [`Smtp::command`] for a server that may go away.
    pub fn try_command(&mut self, line: &str) -> io::Result<Reply> {
        self.send_raw(format!("{line}\r\n").as_bytes())?;
        self.try_reply()
    }

    /// Says EHLO.
    #[track_caller]
    pub fn ehlo(&mut self) -> Reply {
        self.command("EHLO client.test").expect(250)
    }

    /// STARTTLS and the handshake; any certificate will do.
    #[track_caller]
    pub fn starttls(self) -> Smtp {
        let mut plain = self;
        plain.command("STARTTLS").expect(220);
        let Stream::Plain(stream) = plain.reader.into_inner() else { panic!("TLS within TLS") };
        match tls::connect(stream, "localhost") {
            Ok(stream) => Smtp { reader: BufReader::new(stream) },
            Err(error) => panic!("TLS: {error}"),
        }
    }

    /// AUTH PLAIN.
    pub fn auth_plain(&mut self, login: &str, password: &str) -> Reply {
        let token = base64::engine::general_purpose::STANDARD.encode(format!("\0{login}\0{password}"));
        self.command(&format!("AUTH PLAIN {token}"))
    }

    /// MAIL, RCPT, DATA and the message; the reply after the final dot. An empty sender is `<>`.
    pub fn try_send(&mut self, from: &str, to: &[&str], message: &[u8]) -> io::Result<Reply> {
        let mut parameters = String::new();
        if message.iter().any(|byte| !byte.is_ascii()) {
            parameters.push_str(" BODY=8BITMIME");
        }
        if !from.is_ascii() || to.iter().any(|to| !to.is_ascii()) {
            parameters.push_str(" SMTPUTF8");
        }
        let mut reply = self.try_command(&format!("MAIL FROM:<{from}>{parameters}"))?;
        if reply.code != 250 {
            return Ok(reply);
        }
        for to in to {
            reply = self.try_command(&format!("RCPT TO:<{to}>"))?;
            if reply.code != 250 {
                return Ok(reply);
            }
        }
        reply = self.try_command("DATA")?;
        if reply.code != 354 {
            return Ok(reply);
        }
        self.send_raw(&dot_stuffed(message))?;
        self.try_reply()
    }
}

/// A message as it goes after DATA: dots doubled, the final dot added. Its line ends are left
/// alone.
pub fn dot_stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 8);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// Sends one message over a connection of its own; the server must take it.
#[track_caller]
pub fn send(server: SocketAddr, from: &str, to: &[&str], message: impl AsRef<[u8]>) {
    let mut smtp = Smtp::connect(server);
    smtp.ehlo();
    match smtp.try_send(from, to, message.as_ref()) {
        Ok(reply) => reply.expect(250),
        Err(error) => panic!("SMTP from {from} to {to:?}: {error}"),
    };
    let _ = smtp.try_command("QUIT");
}
