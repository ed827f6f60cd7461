//! Spans of time as people write them in a configuration: `90s`, `5m`, `1h30m`, `5d`.

use std::time::Duration;

/// Units, longest first, with their length in milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number with a unit (`ms`, `s`, `m`, `h`, `d`, `w`), or several of them after
/// each other. `None` for anything else, a bare number included: its unit would be a guess.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total_ms = total_ms.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit_ms)?)?;
        rest = after.trim_start();
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a span in the form that [`parse_duration`] reads.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut shown = String::new();
    for (name, unit_ms) in UNITS {
        if rest >= unit_ms {
            shown.push_str(&format!("{}{name}", rest / unit_ms));
            rest %= unit_ms;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, ms) in [("500ms", 500), ("5m", 300_000), ("1h30m", 5_400_000), ("5d", 432_000_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(parse_duration(" 1h 30m "), Some(Duration::from_secs(5400)));
        assert_eq!(show_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in
            ["", "5", "m", "5x", "-5m", "5.5m", "5m5", "99999999999999999999s", "9999999999999999w", "5é"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
