//! What has been acknowledged is on the disk, and not only with the system: the calls by which the
//! server asks for that come before its answers. (A `kill -9` proves nothing of it, since what a
//! process has written outlives the process.)

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::server::Server;
use crate::support::smtp::Smtp;
use crate::support::{message, poll, stack};

/// The system calls of a running server, as strace tells them.
struct Trace {
    strace: Child,
    path: std::path::PathBuf,
}

impl Trace {
    /// `None` where there is no strace, or where it may not look at other processes.
    fn start(server: &Server) -> Option<Trace> {
        if stack::is_postgres() {
            eprintln!("left out: PostgreSQL syncs its log in processes of its own");
            return None;
        }
        let path = server.folder().join("trace");
        let strace = Command::new("strace")
            .args(["-f", "-y", "-s", "24", "-e"])
            .arg("trace=fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto,sendmsg")
            .arg("-o")
            .arg(&path)
            .args(["-p", &server.pid()?.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut trace = Trace { strace, path };
        // Something that it sees, or its end.
        let seen = poll(|| {
            if trace.strace.try_wait().ok()?.is_some() {
                return Some(false);
            }
            let _ = Smtp::open(server.smtp()).try_command("EHLO x");
            (!trace.lines().is_empty()).then_some(true)
        });
        (seen == Some(true)).then_some(trace)
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// What happened, in order: each sync where it was done, each write where it began.
    fn events(&self) -> Vec<String> {
        let mut begun = std::collections::HashMap::new();
        let mut events = Vec::new();
        for line in self.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            if call.starts_with("<... f") {
                events.extend(begun.remove(thread));
            } else if call.starts_with('f') && call.ends_with("<unfinished ...>") {
                begun.insert(thread.to_owned(), call.to_owned());
            } else {
                events.push(call.to_owned());
            }
        }
        events
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Told to end, it lets the server go on.
        let _ = Command::new("sh").arg("-c").arg(format!("kill {}", self.strace.id())).status();
        let _ = self.strace.wait();
    }
}

/// The place of the first event from `from` on that contains all of these.
fn place(events: &[String], from: usize, parts: &[&str]) -> Option<usize> {
    let found = events[from..].iter().position(|event| parts.iter().all(|part| event.contains(part)));
    found.map(|place| from + place)
}

/// What is watched here are the program's own files, whatever the other tests run over.
fn over_files() -> Server {
    Server::builder().env("POSTRIDER_BLOB_URL", "file:data/blobs").start()
}

#[test]
fn a_message_and_its_row_are_synced_before_the_250() {
    let server = over_files();
    let client = server.account();
    // Once without a trace, so that whatever is made once is there.
    server.deliver(
        "a@sender.test",
        &client.address,
        message::text("a@sender.test", &client.address, "0", "x"),
    );
    client.wait_for_subject("0");
    let Some(trace) = Trace::start(&server) else { return };
    for (round, size) in [(1, 100), (2, 200_000), (3, 100), (4, 300_000)] {
        // Nothing else is under way whose syncs could be taken for this message's.
        std::thread::sleep(Duration::from_millis(700));
        let from = trace.events().len();
        let subject = format!("round {round}");
        let mail = message::text("a@sender.test", &client.address, &subject, &"text ".repeat(size / 5));
        server.deliver("a@sender.test", &client.address, mail);
        let events = poll(|| {
            let events = trace.events();
            place(&events, from, &["\"250 2.0.0 Queued"]).map(|_| events)
        });
        let events = events.unwrap_or_else(|| panic!("no 250 in {:#?}", trace.events()));
        let shown = || format!("round {round}: {:#?}", &events[from..]);
        let ready = place(&events, from, &["\"354"]).unwrap_or_else(|| panic!("no 354 in {}", shown()));
        let told = place(&events, ready, &["\"250 2.0.0 Queued"]).unwrap_or_default();
        let mut before = ready;
        if size > 65_536 {
            for parts in [&["sync(", "/blobs/", "#"][..], &["rename", "/blobs/"], &["sync(", "/blobs/"]] {
                let found = place(&events, before, parts).filter(|place| *place < told);
                before = found.unwrap_or_else(|| panic!("no {parts:?} before the 250; {}", shown())) + 1;
            }
        }
        let row = place(&events, before, &["sync(", "-wal>"]).filter(|place| *place < told);
        assert!(row.is_some(), "the row is not synced before the 250; {}", shown());
        client.wait_for_subject(&subject);
    }
}

#[test]
fn an_upload_is_synced_before_its_answer() {
    let server = over_files();
    let client = server.account();
    let Some(trace) = Trace::start(&server) else { return };
    std::thread::sleep(Duration::from_millis(500));
    let from = trace.events().len();
    client.upload("application/octet-stream", vec![7; 300_000]);
    let events = poll(|| {
        let events = trace.events();
        place(&events, from, &["\"HTTP/1.1 201"]).map(|_| events)
    });
    let events = events.unwrap_or_else(|| panic!("no 201 in {:#?}", trace.events()));
    let told = place(&events, from, &["\"HTTP/1.1 201"]).unwrap_or_default();
    let mut before = from;
    for parts in
        [&["sync(", "/blobs/", "#"][..], &["rename", "/blobs/"], &["sync(", "/blobs/"], &["sync(", "-wal>"]]
    {
        let found = place(&events, before, parts).filter(|place| *place < told);
        before = found.unwrap_or_else(|| panic!("no {parts:?} before the 201: {:#?}", &events[from..])) + 1;
    }
}
