//! The line that begins each message of an mbox file: `From sender date`.

use crate::cli::import::message::parse_time;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Words at the end of the line in which the date is looked for; a sender may have spaces.
const DATE_WORDS: usize = 8;

/// What the line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FromLine {
    /// Milliseconds since 1970.
    pub time_ms: Option<i64>,
}

/// Reads a line, with or without its end. `None` when it begins no message: a `From ` without a
/// date is a line of text that some program forgot to quote. Newer Thunderbird writes nothing
/// behind `From `.
pub fn parse(line: &[u8]) -> Option<FromLine> {
    let rest = std::str::from_utf8(line.strip_prefix(b"From ")?).ok()?.trim();
    if rest.is_empty() || rest == "-" {
        return Some(FromLine { time_ms: None });
    }
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let words = words.get(words.len().saturating_sub(DATE_WORDS)..)?;
    let weekday = words.iter().position(|word| WEEKDAYS.contains(word))?;
    let [month, day, time, rest @ ..] = words.get(weekday + 1..)? else { return None };
    // Year and zone stand in either order, the zone may be missing or a name, which tells nothing.
    let year = rest.iter().find(|word| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit()))?;
    let is_offset = |word: &str| {
        word.len() == 5
            && word.starts_with(['+', '-'])
            && word.bytes().skip(1).all(|byte| byte.is_ascii_digit())
    };
    let zone = rest.iter().find(|word| is_offset(word)).unwrap_or(&"+0000");
    let time_ms = parse_time(&format!("{day} {month} {year} {time} {zone}"));
    // 1969 and the like are dates too, only none to keep.
    let looks_like_time = time.len() >= 4 && time.contains(':');
    (time_ms.is_some() || looks_like_time).then_some(FromLine { time_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_programs_write() {
        for line in [
            "From alice@example.test Thu Nov 10 12:00:00 2005",
            "From alice@example.test Thu Nov 10 12:00:00 2005\r\n",
            "From alice@example.test  Thu Nov 10 14:00:00 +0200 2005\n",
            "From alice@example.test Thu Nov 10 14:00:00 2005 +0200",
            "From \"a b\"@example.test Thu Nov 10 12:00:00 GMT 2005",
            "From - Thu Nov 10 12:00:00 2005",
        ] {
            assert_eq!(parse(line.as_bytes()), Some(FromLine { time_ms: Some(1_131_624_000_000) }), "{line}");
        }
        assert_eq!(parse(b"From \r\n"), Some(FromLine { time_ms: None }));
        assert_eq!(parse(b"From 1@xxx Wed Dec 31 23:59:59 +0000 1969"), Some(FromLine { time_ms: None }));
    }

    #[test]
    fn text_begins_no_message() {
        for line in [
            "From the beginning",
            "From: alice@example.test",
            "From here to Sun City",
            "from a Thu Nov 10 12:00:00 2005",
            ">From a Thu Nov 10 12:00:00 2005",
            "From Mon to Fri we work 2005",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }
}
