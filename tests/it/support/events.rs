//! An EventSource client (RFC 8620, 7.3): a thread reads the stream, tests wait for what it tells.

use std::io::{BufRead, BufReader};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::http::Request;

/// One event as it stood in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: Option<String>,
}

impl Event {
    /// The data as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or(Value::Null)
    }

    /// The new state of a type for an account, when this event tells one.
    pub fn state_of(&self, account_id: &str, kind: &str) -> Option<String> {
        self.json()["changed"][account_id][kind].as_str().map(str::to_owned)
    }
}

/// An open stream.
pub struct EventStream {
    pub headers: Vec<(String, String)>,
    events: Receiver<Event>,
    connection: TcpStream,
}

impl EventStream {
    /// Opens the stream at a path. The server must answer 200.
    #[track_caller]
    pub fn open(server: SocketAddr, request: Request) -> EventStream {
        let (status, headers, body) = match request.header("Accept", "text/event-stream").open(server) {
            Ok(opened) => opened,
            Err(error) => panic!("event source: {error}"),
        };
        assert_eq!(status, 200, "event source: {headers:?}");
        let connection = match body.stream().try_clone() {
            Ok(connection) => connection,
            Err(error) => panic!("event source: {error}"),
        };
        // Streams are silent for as long as nothing happens.
        let _ = connection.set_read_timeout(None);
        let (sender, events) = channel();
        std::thread::spawn(move || {
            let mut event = Event::default();
            for line in BufReader::new(body).lines() {
                let Ok(line) = line else { return };
                if line.is_empty() {
                    let done = std::mem::take(&mut event);
                    if done != Event::default() && sender.send(done).is_err() {
                        return;
                    }
                    continue;
                }
                let (field, value) = line.split_once(':').unwrap_or((&line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "event" => event.name = value.to_owned(),
                    "id" => event.id = Some(value.to_owned()),
                    "data" => {
                        if !event.data.is_empty() {
                            event.data.push('\n');
                        }
                        event.data.push_str(value);
                    }
                    _ => {}
                }
            }
        });
        EventStream { headers, events, connection }
    }

    /// The next event of any name; `None` when none came in time or the stream ended.
    pub fn next_within(&self, time: Duration) -> Option<Event> {
        self.events.recv_timeout(time).ok()
    }

    /// Waits for an event that fits; those before it are dropped.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> T {
        self.look_for(what, fits).unwrap_or_else(|seen| panic!("stream ended before {what}; saw {seen:?}"))
    }

    /// Waits for an event; what was seen when the server ends the stream before.
    #[track_caller]
    pub fn look_for<T>(&self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> Result<T, Vec<Event>> {
        let start = Instant::now();
        let mut seen = Vec::new();
        while let Some(left) = PATIENCE.checked_sub(start.elapsed()) {
            match self.events.recv_timeout(left) {
                Ok(event) => match fits(&event) {
                    Some(found) => return Ok(found),
                    None => seen.push(event),
                },
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(seen),
            }
        }
        panic!("no event: {what}; saw {seen:?}");
    }

    /// Waits until the server ends the stream; whether it did in time.
    pub fn ended_within(&self, time: Duration) -> bool {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            match self.events.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
        false
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let _ = self.connection.shutdown(Shutdown::Both);
    }
}
