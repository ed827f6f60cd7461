//! What the tests are written with: the program as a child process, clients that speak to it, and
//! the servers that it speaks to.

#![allow(dead_code, reason = "a harness offers more than the tests of one day use")]

pub mod dns;
pub mod events;
pub mod http;
pub mod jmap;
pub mod message;
pub mod ports;
pub mod postgres;
pub mod push_service;
pub mod receiver;
pub mod relay;
pub mod rest;
pub mod s3;
pub mod server;
pub mod smtp;
pub mod smtp_sink;
pub mod stack;
pub mod tls;
pub mod websocket;

use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once: long enough for a busy
/// machine, short enough for a person.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; `None` when patience runs out.
pub fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(200));
    }
}

/// The number that the database knows an object by, of which the id is shown (13 digits of base32, the
/// alphabet and then 2 to 7).
pub fn number_of(id: &str) -> i64 {
    id.bytes().fold(0, |number, byte| {
        let digit = if byte.is_ascii_digit() { byte - b'2' + 26 } else { byte - b'a' };
        (number << 5) | i64::from(digit)
    })
}

/// As [`poll`], but running out of patience fails the test.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    match poll(ask) {
        Some(answer) => answer,
        None => panic!("did not happen within {PATIENCE:?}: {what}"),
    }
}
