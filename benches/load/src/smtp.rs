//! A sender of mail: one message after the other over one connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

pub struct Sender {
    stream: BufReader<TcpStream>,
}

impl Sender {
    pub fn open(server: SocketAddr) -> Sender {
        let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("{server}: {error}"));
        stream.set_nodelay(true).expect("nodelay");
        let mut sender = Sender { stream: BufReader::new(stream) };
        sender.expect("220");
        sender.command("EHLO load.example\r\n", "250");
        sender
    }

    fn expect(&mut self, code: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).expect("a reply"), 0, "the connection was closed");
            assert!(line.starts_with(code), "wanted {code}, got {line}");
            if line.as_bytes().get(3) != Some(&b'-') {
                return;
            }
        }
    }

    fn command(&mut self, text: &str, code: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("sent");
        self.expect(code);
    }

    /// Hands in one message for some recipients, and waits for its 250.
    pub fn send(&mut self, from: &str, to: &[&str], message: &str) {
        // Pipelined (RFC 2920), as real servers do.
        let recipients: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        self.command(&format!("MAIL FROM:<{from}>\r\n{recipients}DATA\r\n"), "250");
        for _ in to {
            self.expect("250");
        }
        self.expect("354");
        self.command(&format!("{message}\r\n.\r\n"), "250");
    }
}
