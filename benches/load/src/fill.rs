//! Made-up mail: the same for the same number, so that runs can be compared.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

const WORDS: [&str; 32] = [
    "harbour", "meeting", "invoice", "garden", "holiday", "report", "ticket", "release", "question",
    "answer", "lamp", "river", "winter", "paper", "engine", "bridge", "letter", "window", "market", "orange",
    "station", "morning", "project", "budget", "picture", "recipe", "concert", "weather", "island", "forest",
    "journey", "library",
];

/// Numbers that look random and are always the same.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    fn words(&mut self, count: usize) -> String {
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.below(WORDS.len())]).collect();
        words.join(" ")
    }
}

/// A mail of about `octets`; one of four answers an earlier one.
pub fn message(number: usize, to: &str, octets: usize) -> String {
    let mut dice = Dice::new(number as u64 + 1);
    let sender = dice.below(500);
    let (subject, answers) = match (dice.below(4), number) {
        (0, 1..) => {
            let earlier = number - 1 - dice.below(number.min(50));
            let mut there = Dice::new(earlier as u64 + 1);
            let _ = (there.below(500), there.below(4));
            (
                format!("Re: {} {earlier}", there.words(4)),
                format!("In-Reply-To: <{earlier}@load.example>\r\n"),
            )
        }
        _ => (format!("{} {number}", dice.words(4)), String::new()),
    };
    let (day, hour, minute, second) =
        (number / 86_400 % 28 + 1, number / 3_600 % 24, number / 60 % 60, number % 60);
    let mut text = format!(
        "From: Sender {sender} <sender{sender}@load.example>\r\nTo: {to}\r\nSubject: {subject}\r\n\
         Date: {day:02} Mar 2025 {hour:02}:{minute:02}:{second:02} +0000\r\n\
         Message-ID: <{number}@load.example>\r\n{answers}MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    while text.len() < octets {
        text.push_str(&dice.words(10));
        text.push_str("\r\n");
    }
    text
}

/// Writes `count` mails of 1 kB, three of four read.
pub fn write_mbox(count: usize, path: &Path) {
    let file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut out = BufWriter::new(file);
    for number in 0..count {
        let (day, hour, minute, second) =
            (number / 86_400 % 28 + 1, number / 3_600 % 24, number / 60 % 60, number % 60);
        let status = if number % 4 == 3 { "O" } else { "RO" };
        let text = message(number, "me@example.test", 1_000).replacen(
            "MIME-Version",
            &format!("Status: {status}\r\nMIME-Version"),
            1,
        );
        write!(
            out,
            "From load@load.example Sat Mar {day:2} {hour:02}:{minute:02}:{second:02} 2025\n{}\n",
            text.replace("\r\n", "\n")
        )
        .expect("written");
    }
    out.flush().expect("written");
}
