//! The Date form (RFC 8621, 4.1.2.6; RFC 5322, 3.3 and 4.3).

use crate::mail::fields::{unfolded, without_comments};
use crate::types::date::parse_date;

/// A date as the sender wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentDate {
    /// RFC 3339 with the sender's offset (RFC 8620, 1.4).
    pub text: String,
    /// Milliseconds since 1970.
    pub ms: i64,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Reads a date-time, the obsolete spellings included. `None` when it is none: also for days that
/// no month has and for years outside 1 to 9999.
pub fn as_date(value: &[u8]) -> Option<SentDate> {
    // Real dates are far shorter; the bound spares what follows from thinking about length.
    let text = unfolded(value.get(..500).unwrap_or(value));
    let text = without_comments(&text);
    // The day of the week says nothing that the date does not.
    let text = match text.split_once(',') {
        Some((_, date)) => date,
        None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == ' '),
    };
    let text = text.replace(':', " : ").replace('-', " -").replace('+', " +");
    let mut words = text.split_ascii_whitespace().peekable();

    let day = number(words.next()?, 2)?;
    let month = words.next()?.trim_start_matches('-').to_ascii_lowercase();
    let month = MONTHS.iter().position(|known| month.get(..3) == Some(known))? + 1;
    let year_digits = words.next()?.trim_start_matches('-');
    let year = number(year_digits, 4)?;
    // RFC 5322, 4.3: years of two and three digits.
    let year = match year_digits.len() {
        2 if year < 50 => year + 2000,
        2 | 3 => year + 1900,
        4 => year,
        _ => return None,
    };
    let hour = number(words.next()?, 2)?;
    words.next_if_eq(&":")?;
    let minute = number(words.next()?, 2)?;
    let second = match words.next_if_eq(&":") {
        Some(_) => number(words.next()?.split('.').next()?, 2)?,
        None => 0,
    };
    let offset = words.next().map_or(Some(0), offset_minutes)?;

    let zone = match offset {
        0 => "Z".to_owned(),
        _ => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        }
    };
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}");
    let ms = parse_date(&text)?;
    Some(SentDate { text, ms })
}

fn number(digits: &str, most: usize) -> Option<u32> {
    let is_number = (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Minutes east of Greenwich.
fn offset_minutes(zone: &str) -> Option<i32> {
    if let Some(digits) = zone.strip_prefix(['+', '-']) {
        let value = number(digits, 4).filter(|_| digits.len() == 4)? as i32;
        let (hours, minutes) = (value / 100, value % 100);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let total = hours * 60 + minutes;
        return Some(if zone.starts_with('-') { -total } else { total });
    }
    // RFC 5322, 4.3. All zones but these mean as much as -0000.
    Some(match zone.to_ascii_uppercase().as_str() {
        "EDT" => -4 * 60,
        "EST" | "CDT" => -5 * 60,
        "CST" | "MDT" => -6 * 60,
        "MST" | "PDT" => -7 * 60,
        "PST" => -8 * 60,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_rfc_and_of_the_wild() {
        for (value, wanted) in [
            (" Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"),
            ("Tue, 1 Jul 2003 10:52:37 +0200", "2003-07-01T10:52:37+02:00"),
            (
                "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)",
                "1969-02-13T23:32:00-03:30",
            ),
            ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06Z"),
            ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
            ("Mon, 1 Jan 101 00:00:00 +0000", "2001-01-01T00:00:00Z"),
            ("1 Jan 2020 00:00 EST", "2020-01-01T00:00:00-05:00"),
            ("1 Jan 2020 00:00:00 -0000", "2020-01-01T00:00:00Z"),
            ("1 Jan 2020 00:00:00", "2020-01-01T00:00:00Z"),
            ("Wed 1 January 2020 00:00:00 +0530", "2020-01-01T00:00:00+05:30"),
            ("01-Jan-2020 00:00:00 +0100", "2020-01-01T00:00:00+01:00"),
            ("31 Dec 9999 23:59:59 Z", "9999-12-31T23:59:59Z"),
        ] {
            let date = as_date(value.as_bytes());
            assert_eq!(date.as_ref().map(|date| date.text.as_str()), Some(wanted), "{value}");
            assert_eq!(date.map(|date| date.ms), parse_date(wanted));
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for value in [
            "",
            "yesterday",
            "32 Jan 2020 00:00:00 +0000",
            "30 Feb 2020 00:00:00 +0000",
            "1 Foo 2020 00:00:00 +0000",
            "1 Jan 2020 25:00:00 +0000",
            "1 Jan 2020",
            "1 Jan 0000 00:00:00 +0000",
            "1 Jan 12020 00:00:00 +0000",
            "1 Jan 2020 00:00:00 +9999",
            "1 Jan 2020 00:00:00 +01000",
            "\u{664} Jan 2020 00:00:00 +0000",
        ] {
            assert_eq!(as_date(value.as_bytes()), None, "{value}");
        }
    }
}
