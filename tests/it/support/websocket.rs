//! A WebSocket client (RFC 8887), every message of it in the test's control.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::support::PATIENCE;
use crate::support::jmap::Client;
use crate::support::server::Server;

/// An open connection.
pub struct Socket {
    socket: WebSocket<TcpStream>,
    /// What came while something else was waited for.
    pushed: Vec<Value>,
    next_id: u32,
}

impl Socket {
    /// Connects with these header fields; else the status that the server answered with.
    pub fn try_open(server: &Server, path: &str, headers: &[(&str, &str)]) -> Result<Socket, u16> {
        let mut request = format!("ws://{}{path}", server.http()).into_client_request().expect("a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "jmap".parse().expect("text"));
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().expect("a name");
            request.headers_mut().insert(name, value.parse().expect("text"));
        }
        let stream = TcpStream::connect(server.http()).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        match client::client(request, stream) {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                assert_eq!(protocol.and_then(|value| value.to_str().ok()), Some("jmap"));
                Ok(Socket { socket, pushed: Vec::new(), next_id: 0 })
            }
            Err(tokio_tungstenite::tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("the handshake: {error}"),
        }
    }

    /// Connects as a client.
    #[track_caller]
    pub fn open(server: &Server, client: &Client) -> Socket {
        match Socket::try_open(server, "/jmap/ws", &[("Authorization", &client.authorization)]) {
            Ok(socket) => socket,
            Err(status) => panic!("the handshake was answered with {status}"),
        }
    }

    /// The connection below, for what no client would do.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Sends any message.
    #[track_caller]
    pub fn send(&mut self, message: Message) {
        if let Err(error) = self.socket.send(message) {
            panic!("a message cannot be sent: {error}");
        }
    }

    /// Sends a JSON message.
    #[track_caller]
    pub fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string()));
    }

    /// Sends a request; its id.
    #[track_caller]
    pub fn ask(&mut self, using: &[&str], calls: &Value) -> String {
        self.next_id += 1;
        let id = format!("r{}", self.next_id);
        self.say(&json!({ "@type": "Request", "id": id, "using": using, "methodCalls": calls }));
        id
    }

    /// The next message of any kind that is none of the protocol's own; the close code when the server
    /// ends it, 0 for an end without one.
    pub fn hear(&mut self) -> Result<Value, u16> {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    return Ok(serde_json::from_str(text.as_str()).expect("messages are JSON"));
                }
                Ok(Message::Close(frame)) => return Err(frame.map_or(0, |frame| code(frame.code))),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing was heard within {PATIENCE:?}");
                }
                Err(_) => return Err(0),
            }
        }
    }

    /// The next message that is a pong.
    pub fn pong(&mut self) -> Vec<u8> {
        self.until_pong().1
    }

    /// What came before the next pong, and the pong.
    pub fn until_pong(&mut self) -> (Vec<Value>, Vec<u8>) {
        let mut before = Vec::new();
        loop {
            match self.socket.read().expect("a message") {
                Message::Pong(octets) => return (before, octets.to_vec()),
                Message::Text(text) => {
                    before.push(serde_json::from_str(text.as_str()).expect("messages are JSON"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next message of a type that is for a request; changes that are pushed meanwhile are kept.
    #[track_caller]
    pub fn answer_to(&mut self, id: &str) -> Value {
        loop {
            let message = self.hear().expect("still open");
            if message["@type"] == "StateChange" {
                self.pushed.push(message);
            } else if message["requestId"] == id {
                return message;
            } else {
                panic!("not asked for: {message}");
            }
        }
    }

    /// The answer to one call.
    #[track_caller]
    pub fn call(&mut self, method: &str, arguments: &Value) -> Value {
        let using = ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"];
        let id = self.ask(&using, &json!([[method, arguments, "0"]]));
        let answer = self.answer_to(&id);
        assert_eq!(answer["methodResponses"][0][0], method, "{answer}");
        answer["methodResponses"][0][1].clone()
    }

    /// Asks for changes to be pushed. Without a state the present ones are told at once: they are given back.
    #[track_caller]
    pub fn enable(&mut self, types: &Value, push_state: Option<&str>) -> Option<Value> {
        let enable = json!({ "@type": "WebSocketPushEnable", "dataTypes": types, "pushState": push_state });
        self.say(&enable);
        // What is said after it is answered after it.
        self.call("Core/echo", &json!({}));
        (push_state.is_none() && !self.pushed.is_empty()).then(|| self.pushed.remove(0))
    }

    /// The StateChanges that have come while something else was waited for.
    pub fn take_pushed(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.pushed)
    }

    /// The next StateChange.
    #[track_caller]
    pub fn pushed(&mut self) -> Value {
        if !self.pushed.is_empty() {
            return self.pushed.remove(0);
        }
        let message = self.hear().expect("still open");
        assert_eq!(message["@type"], "StateChange", "{message}");
        message
    }

    /// The next StateChange, when one comes in time.
    pub fn pushed_within(&mut self, time: Duration) -> Option<Value> {
        if !self.pushed.is_empty() {
            return Some(self.pushed.remove(0));
        }
        let start = Instant::now();
        self.stream().set_read_timeout(Some(time)).expect("a socket");
        let mut found = None;
        while found.is_none() && start.elapsed() < time {
            match self.socket.read() {
                Ok(Message::Text(text)) => found = serde_json::from_str(text.as_str()).ok(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.stream().set_read_timeout(Some(PATIENCE)).expect("a socket");
        found
    }
}

fn code(code: CloseCode) -> u16 {
    code.into()
}
