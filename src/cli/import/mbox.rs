//! mbox files (RFC 4155 and its relatives), read as a stream: a file may be larger than memory.

use std::io::{BufRead, Read};

use crate::cli::import::from_line::{self, FromLine};
use crate::cli::import::headers::fields;
use crate::cli::import::labels::is_no_mail;
use crate::cli::import::message::{Broken, ImportedMessage, Known, ReadMessage, push_with_crlf, too_large};

/// Octets of a line that are read at once; a longer line comes in parts.
const LINE_PART: u64 = 64 << 10;

/// Reads the messages of an mbox file one after the other.
pub struct Mbox<Source> {
    source: Source,
    /// The file, for people.
    name: String,
    /// What is known of every message of the file.
    known: Known,
    max_size: u64,
    /// The line that begins the next message.
    next: Option<FromLine>,
    /// Octets read.
    offset: u64,
    has_started: bool,
    has_ended: bool,
}

impl<Source: BufRead> Mbox<Source> {
    /// A reader of a file from its beginning.
    pub fn new(source: Source, name: String, known: Known, max_size: u64) -> Self {
        let known = Known { has_status_fields: true, ..known };
        Mbox { source, name, known, max_size, next: None, offset: 0, has_started: false, has_ended: false }
    }

    /// A line or a part of one; false at the end of the file.
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Broken> {
        line.clear();
        match self.source.by_ref().take(LINE_PART).read_until(b'\n', line) {
            Ok(read) => {
                self.offset += read as u64;
                Ok(read > 0)
            }
            Err(error) => {
                // What follows is unknown: the rest of the file is given up.
                self.has_ended = true;
                Err(self.broken(self.offset, format!("cannot be read: {error}")))
            }
        }
    }

    fn broken(&self, offset: u64, why: String) -> Broken {
        Broken { place: format!("{} at octet {offset}", self.name), why }
    }

    /// Skips to the first `From ` line; tells of anything else that stood before it.
    fn start(&mut self) -> Result<(), Broken> {
        self.has_started = true;
        let mut line = Vec::new();
        let mut is_line_start = true;
        let mut has_other = false;
        while self.read_line(&mut line)? {
            if is_line_start && line.starts_with(b"From ") {
                self.next = Some(from_line::parse(&line).unwrap_or(FromLine { time_ms: None }));
                break;
            }
            is_line_start = line.ends_with(b"\n");
            has_other |= !line.trim_ascii().is_empty();
        }
        if has_other {
            return Err(self.broken(0, "octets before the first line that starts with \"From \"".to_owned()));
        }
        Ok(())
    }

    /// The octets of the message whose `From ` line was read last.
    fn read_message(&mut self) -> Result<Vec<u8>, Broken> {
        let start = self.offset;
        let mut raw = Vec::new();
        let mut line = Vec::new();
        let mut is_line_start = true;
        let mut is_too_large = false;
        while self.read_line(&mut line)? {
            let mut text = line.as_slice();
            if is_line_start {
                if let Some(from_line) = from_line::parse(text) {
                    self.next = Some(from_line);
                    break;
                }
                // mboxrd: one `>` was put before every line of `>`s and "From ".
                let unquoted = without_quotes(text);
                if unquoted.len() < text.len() && unquoted.starts_with(b"From ") {
                    text = text.get(1..).unwrap_or_default();
                }
            }
            is_line_start = line.ends_with(b"\n");
            if !is_too_large {
                push_with_crlf(&mut raw, text);
                is_too_large = raw.len() as u64 > self.max_size;
            }
        }
        if is_too_large {
            return Err(self.broken(start, too_large(self.max_size)));
        }
        // RFC 4155: an empty line stands before each `From ` line and is no part of the message.
        if raw.ends_with(b"\r\n\r\n") {
            raw.truncate(raw.len() - 2);
        }
        Ok(raw)
    }
}

/// A line without the `>`s at its beginning.
fn without_quotes(line: &[u8]) -> &[u8] {
    let start = line.iter().take_while(|byte| **byte == b'>').count();
    line.get(start..).unwrap_or_default()
}

impl<Source: BufRead> Iterator for Mbox<Source> {
    type Item = ReadMessage;

    fn next(&mut self) -> Option<ReadMessage> {
        if !self.has_started
            && let Err(broken) = self.start()
        {
            return Some(Err(broken));
        }
        loop {
            if self.has_ended {
                return None;
            }
            let from_line = self.next.take()?;
            let start = self.offset;
            let raw = match self.read_message() {
                Ok(raw) => raw,
                Err(broken) => return Some(Err(broken)),
            };
            if is_no_mail(&fields(&raw)) {
                continue;
            }
            let known = Known { from_line_ms: from_line.time_ms, ..self.known.clone() };
            let place = format!("{} at octet {start}", self.name);
            return Some(ImportedMessage::assemble(raw, known, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8], max_size: u64) -> Vec<ReadMessage> {
        let known = Known { mailbox: vec!["Box".into()], ..Known::default() };
        Mbox::new(file, "f".into(), known, max_size).collect()
    }

    fn bodies(file: &str) -> Vec<String> {
        let messages = read(file.as_bytes(), 1_000_000);
        messages
            .into_iter()
            .map(|message| match message {
                Ok(message) => String::from_utf8(message.raw).expect("text"),
                Err(broken) => format!("broken: {}: {}", broken.place, broken.why),
            })
            .collect()
    }

    const FROM: &str = "From a@b.test Thu Nov 10 12:00:00 2005\n";

    #[test]
    fn messages_are_split_and_unquoted() {
        let file = format!(
            "{FROM}Subject: 1\n\nFrom the start\n>From here\n>>From there\n> From\n\n{FROM}Subject: 2\n\n\nbody\n"
        );
        assert_eq!(
            bodies(&file),
            [
                "Subject: 1\r\n\r\nFrom the start\r\nFrom here\r\n>From there\r\n> From\r\n",
                "Subject: 2\r\n\r\n\r\nbody\r\n"
            ]
        );
        let crlf = file.replace('\n', "\r\n");
        assert_eq!(bodies(&crlf), bodies(&file));
    }

    #[test]
    fn time_flags_and_mailbox_are_taken_along() {
        let file = format!("{FROM}Subject: 1\nStatus: RO\nX-Status: F\n\nx\n\n");
        let messages = read(file.as_bytes(), 1_000);
        let [Ok(message)] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!(message.received_at_ms, 1_131_624_000_000);
        assert_eq!(message.keywords, ["$flagged", "$seen"]);
        assert_eq!(message.mailboxes, [["Box"]]);
    }

    #[test]
    fn broken_messages_do_not_stop_the_file() {
        let file =
            format!("rubbish\n{FROM}{FROM}Subject: big\n\n{}\n{FROM}Subject: 2\n\nx\n", "y".repeat(200_000));
        let messages = read(file.as_bytes(), 100_000);
        let whys: Vec<_> =
            messages.iter().map(|message| message.as_ref().map_err(|broken| broken.why.as_str())).collect();
        assert!(
            matches!(whys.as_slice(), [Err(_), Err(_), Err(large), Ok(_)] if large.starts_with("larger")),
            "{whys:?}"
        );
    }

    #[test]
    fn a_long_line_may_hold_from_at_a_part_boundary() {
        let mut line = vec![b'x'; LINE_PART as usize];
        line.extend_from_slice(FROM.as_bytes());
        let file = [FROM.as_bytes(), b"Subject: 1\n\n", &line, b"end\n"].concat();
        assert_eq!(read(&file, 1_000_000).len(), 1);
    }

    #[test]
    fn empty_files_have_no_messages() {
        assert!(read(b"", 10).is_empty() && read(b"\n\n", 10).is_empty());
        assert!(matches!(read(b"no mbox at all", 10).as_slice(), [Err(_)]));
    }

    /// The messages as a program would write them into a file, in the manner of mboxrd.
    fn written(messages: &[Vec<String>]) -> String {
        let mut file = String::new();
        for lines in messages {
            file.push_str(FROM);
            file.push_str("Subject: x\n\n");
            for line in lines {
                let is_quoted = line.trim_start_matches('>').starts_with("From ");
                file.push_str(if is_quoted { ">" } else { "" });
                file.push_str(line);
                file.push('\n');
            }
            file.push('\n');
        }
        file
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read(
            messages in proptest::collection::vec(
                proptest::collection::vec("(>{0,2}From (a Thu Nov 10 12:00:00 2005)?|[a-z >]{0,20}|)", 0..6),
                0..5,
            )
        ) {
            let wanted: Vec<String> = messages
                .iter()
                .map(|lines| {
                    let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
                    format!("Subject: x\r\n\r\n{body}")
                })
                .collect();
            proptest::prop_assert_eq!(bodies(&written(&messages)), wanted);
        }

        #[test]
        fn any_octets_are_read_to_their_end(
            file in proptest::collection::vec("(From |From a Thu Nov 10 12:00:00 2005|Subject: x|X-Gmail-Labels: ,\"|\r|>|\n|\n\n|\\PC)", 0..60)
        ) {
            for message in read(file.concat().as_bytes(), 50).into_iter().flatten() {
                proptest::prop_assert!(message.raw.len() <= 50 && !message.mailboxes.is_empty());
            }
        }
    }
}
