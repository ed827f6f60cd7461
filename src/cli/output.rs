//! What commands print: aligned tables for people, JSON for programs, errors with an exit code.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::admin::request::{AdminError, AdminResponse};
use crate::config::ConfigError;

/// Why a command failed: what is told on stderr, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// What failed, where, and how to mend it.
    pub message: String,
    /// 1: it could not be done; 2: it was asked wrongly.
    pub code: u8,
}

impl Failure {
    /// It could not be done.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 1 }
    }

    /// It was asked wrongly.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: 2 }
    }

    /// The answer is none that this request has: the server is of another version.
    pub fn unexpected(answer: &AdminResponse) -> Failure {
        let answer = serde_json::to_value(answer).unwrap_or_default();
        let kind = answer.get("answer").and_then(serde_json::Value::as_str).unwrap_or("unknown");
        Failure::new(format!(
            "the server gave an answer of another kind ({kind}); are both of the same version?"
        ))
    }

    /// Prints the message and gives the exit code.
    pub fn report(&self) -> ExitCode {
        for line in self.message.lines() {
            eprintln!("postrider: {line}");
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Failure {
        let AdminError { message, see, .. } = error;
        Failure::new(see.map_or(message.clone(), |command| format!("{message}; see `{command}`")))
    }
}

/// Writes a text to stdout. A reader that has left (`… | head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("the answer cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a value as indented JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("the answer cannot be shown as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Prints rows as JSON or, for people, as a table with `none` in place of an empty one.
pub fn print_rows<Row: Serialize, const COLUMNS: usize>(
    rows: &[Row],
    json: bool,
    titles: [&str; COLUMNS],
    cells: impl Fn(&Row) -> [String; COLUMNS],
    none: &str,
) -> Result<(), Failure> {
    if json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        return print(&format!("{none}\n"));
    }
    let rows: Vec<_> = rows.iter().map(cells).collect();
    print(&table(titles, &rows))
}

/// A table with columns as wide as their widest cell, two spaces between them.
fn table<const COLUMNS: usize>(titles: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let mut widths = titles.map(width);
    for row in rows {
        for (wide, cell) in widths.iter_mut().zip(row) {
            *wide = (*wide).max(width(&printable(cell)));
        }
    }
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        let start = text.len();
        for (cell, wide) in cells.zip(widths) {
            let padding = wide.saturating_sub(width(&cell)) + 2;
            text.push_str(&cell);
            text.extend(std::iter::repeat_n(' ', padding));
        }
        let end = text.get(start..).map_or(start, |line| start + line.trim_end().len());
        text.truncate(end);
        text.push('\n');
    };
    line(&mut titles.iter().map(|title| (*title).to_owned()));
    for row in rows {
        line(&mut row.iter().map(|cell| printable(cell)));
    }
    text
}

/// A cell without control characters: what others wrote must not steer the terminal.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How many columns of a terminal a text takes, nearly: wide East Asian characters take two.
fn width(text: &str) -> usize {
    let wide = |c: char| {
        matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd)
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["alice@example.test".into(), "1 GB".into()], ["日本".into(), String::new()]];
        assert_eq!(
            table(["ADDRESS", "QUOTA"], &rows),
            "ADDRESS             QUOTA\nalice@example.test  1 GB\n日本\n"
        );
    }

    #[test]
    fn cells_cannot_steer_the_terminal() {
        assert_eq!(table(["A"], &[["\u{1b}[2J".into()]]), "A\n\u{fffd}[2J\n");
    }
}
