//! Numbers of octets as people write them in a configuration: `64kB`, `50MiB`, `10GB`.

/// Units with their number of octets; the decimal ones mean powers of 1000 (IEC 80000-13).
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// Reads a whole number of octets with or without a unit. `None` for anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, octets) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*octets)
}

/// Writes a size for people: one decimal place, decimal units.
pub fn show_size(octets: u64) -> String {
    for (name, unit) in [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)] {
        if octets >= unit {
            return format!("{:.1} {name}", octets as f64 / unit as f64);
        }
    }
    format!("{octets} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, octets) in
            [("0", 0), ("1024", 1024), ("64kB", 64_000), ("50MiB", 52_428_800), ("1 gb", 1_000_000_000)]
        {
            assert_eq!(parse_size(text), Some(octets), "{text}");
        }
        assert_eq!(show_size(999), "999 B");
        assert_eq!(show_size(1_250_000), "1.2 MB");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MB", "-1", "1.5MB", "1XB", "99999999999999999999", "99999999999TB", "1é"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
