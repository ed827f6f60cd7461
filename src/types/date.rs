//! Dates as JMAP writes them (RFC 8620, 1.4): `Date` and `UTCDate`, RFC 3339 with conditions.

use mail_parser::DateTime;

/// Milliseconds since 1970 as a `UTCDate`: whole seconds, `Z`.
pub fn utc_date(ms: i64) -> String {
    let date = DateTime::from_timestamp(ms.div_euclid(1000));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year, date.month, date.day, date.hour, date.minute, date.second
    )
}

/// The dates that can be written: those of the years 1 to 9999, in milliseconds since 1970.
pub const DATES: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// The same with its thousandths of a second.
pub fn millis_date(ms: i64) -> String {
    format!("{}.{:03}Z", utc_date(ms).trim_end_matches('Z'), ms.rem_euclid(1000))
}

/// Reads a `Date` or `UTCDate`, with or without fractions of a second, into milliseconds since
/// 1970. `None` for anything that is no RFC 3339 date of the years 1 to 9999.
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = bytes.get(range)?;
        if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let days_in_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if is(at, b".") {
        let end = at + 1 + bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits(at + 1..end)?;
        for (place, weight) in [(at + 1, 100), (at + 2, 10), (at + 3, 1)] {
            if place < end {
                fraction_ms += i64::from(bytes[place] - b'0') * weight;
            }
        }
        at = end;
    }
    let offset_minutes = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && is(at + 3, b":") => {
            let (hours, minutes) = (digits(at + 1..at + 3)?, digits(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let total = hours * 60 + minutes;
            if *sign == b'-' { -total } else { total }
        }
        _ => return None,
    };
    let seconds =
        days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset_minutes * 60;
    Some(seconds * 1000 + fraction_ms)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counting years from March so that the
/// leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_and_written() {
        assert_eq!(parse_date("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_date("2014-10-30T14:12:00+08:00"), Some(1_414_649_520_000));
        assert_eq!(parse_date("2014-10-30T06:12:00.123Z"), Some(1_414_649_520_123));
        assert_eq!(utc_date(1_414_649_520_123), "2014-10-30T06:12:00Z");
        for ms in [1_414_649_520_123, -1, 0, *DATES.start(), *DATES.end()] {
            assert_eq!(parse_date(&millis_date(ms)), Some(ms));
        }
        assert_eq!(parse_date("0001-01-01T00:00:00Z").map(utc_date).as_deref(), Some("0001-01-01T00:00:00Z"));
        assert_eq!(parse_date("9999-12-31T23:59:59Z").map(utc_date).as_deref(), Some("9999-12-31T23:59:59Z"));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2014",
            "2014-10-30",
            "2014-13-01T00:00:00Z",
            "2014-02-30T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "2014-10-30T06:12:00",
            "2014-10-30T06:12:00.Z",
            "2014-10-30T24:00:00Z",
            "2014-10-30T06:12:00Zx",
            "2014-10-30T06:12:00+0800",
            "é014-10-30T06:12:00Z",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
