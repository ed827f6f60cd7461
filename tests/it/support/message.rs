//! Plain messages to send.

use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A word that no other call in this process has been given.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A text message with the usual headers and a Message-ID of its own.
pub fn text(from: &str, to: &str, subject: &str, body: &str) -> String {
    let id = unique("m");
    with_headers(
        &[
            ("From", from),
            ("To", to),
            ("Subject", subject),
            ("Date", "Tue, 04 Mar 2025 10:20:30 +0100"),
            ("Message-ID", &format!("<{id}.{}@sender.test>", std::process::id())),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
        ],
        body,
    )
}

/// A message of the headers given and nothing else.
pub fn with_headers(headers: &[(&str, &str)], body: &str) -> String {
    let mut out = String::new();
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    for line in body.lines() {
        out.push_str(line);
        out.push_str("\r\n");
    }
    out
}
