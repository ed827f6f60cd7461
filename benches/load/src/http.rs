//! HTTP/1.1 over one kept connection, as little as JMAP needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine;
use serde_json::Value;

pub struct Connection {
    stream: BufReader<TcpStream>,
    head: String,
    body: Vec<u8>,
}

impl Connection {
    pub fn open(server: SocketAddr, login: &str, password: &str) -> Connection {
        let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("{server}: {error}"));
        stream.set_nodelay(true).expect("nodelay");
        let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{login}:{password}"));
        let head = format!(
            "Host: {server}\r\nAuthorization: Basic {credentials}\r\nContent-Type: application/json\r\n"
        );
        Connection { stream: BufReader::with_capacity(1 << 16, stream), head, body: Vec::new() }
    }

    /// Sends a request and reads its answer, which must be a 200.
    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> &[u8] {
        let status = self.ask(method, path, body);
        assert_eq!(status, Some(200), "{}", String::from_utf8_lossy(&self.body));
        &self.body
    }

    /// Sends a request of the REST API that makes or removes something; what is told of it.
    pub fn created(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let status = self.ask(method, path, body.to_string().as_bytes());
        assert!(matches!(status, Some(200..300)), "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Sends a request and reads its answer; the status.
    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Option<u16> {
        let head = format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n", self.head, body.len());
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request).expect("sent");
        let mut line = String::new();
        let mut length = None;
        let mut status = None;
        loop {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).expect("an answer"), 0, "the connection was closed");
            let trimmed = line.trim_end();
            if status.is_none() {
                status = trimmed.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
            } else if trimmed.is_empty() {
                break;
            } else if let Some((name, value)) = trimmed.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok();
            }
        }
        // A 204 has none.
        self.body.resize(length.unwrap_or_default(), 0);
        self.stream.read_exact(&mut self.body).expect("a whole answer");
        status
    }

    pub fn json(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.send(method, path, body.to_string().as_bytes());
        serde_json::from_slice(answer).expect("JSON")
    }
}
