//! Values with parameters: Content-Type and Content-Disposition (RFC 2045, 5.1; RFC 2183), and
//! parameters that are cut in pieces or carry a charset (RFC 2231). Linear but for sorting.

use crate::mail::charset;
use crate::mail::encoded_word;
use crate::mail::fields::{after_comments, unfolded, without_comments};

/// Parameters beyond this number are not looked at: real ones have a handful.
const MAX_PARAMETERS: usize = 1_000;

/// A value and its parameters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parameterized {
    /// What stands before the first semicolon, in lower case, without comments.
    pub value: String,
    parameters: Vec<Parameter>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Parameter {
    /// In lower case, without section number and asterisks.
    name: String,
    /// Number of the piece (RFC 2231, 3).
    section: Option<u32>,
    /// Whether the value is percent-encoded (RFC 2231, 4).
    is_extended: bool,
    is_quoted: bool,
    value: String,
}

impl Parameterized {
    /// Takes a field value apart.
    pub fn parse(field_value: &[u8]) -> Parameterized {
        let text = unfolded(field_value);
        let (value, mut rest) = read_value(&text);
        let mut parsed = Parameterized { value: value.to_ascii_lowercase(), parameters: Vec::new() };
        while !rest.is_empty() && parsed.parameters.len() < MAX_PARAMETERS {
            let (parameter, tail) = read_parameter(rest);
            parsed.parameters.extend(parameter);
            rest = tail;
        }
        parsed
    }

    /// A parameter that is a word for machines: charset, boundary. A comment after it is removed
    /// (RFC 2045, 5.1), which must not be done to file names: many hold brackets without quotes.
    pub fn plain(&self, name: &str) -> Option<String> {
        let is_plain =
            |piece: &&Parameter| piece.name == name && piece.section.is_none() && !piece.is_extended;
        match self.parameters.iter().find(is_plain) {
            Some(piece) if piece.is_quoted => Some(piece.value.clone()),
            Some(piece) => Some(without_comments(&piece.value).into_owned()),
            None => self.decoded(name),
        }
    }

    /// A parameter decoded: pieces joined and percent-encoding undone (RFC 2231), or, as many
    /// programs write it, encoded words (RFC 2047). The extended form is preferred when both
    /// stand there (RFC 6266, 4.3 advises it for the like case).
    pub fn decoded(&self, name: &str) -> Option<String> {
        let mut pieces: Vec<&Parameter> =
            self.parameters.iter().filter(|parameter| parameter.name == name).collect();
        if let Some(extended) = pieces.iter().find(|piece| piece.is_extended && piece.section.is_none()) {
            return Some(decode_pieces(&[extended]));
        }
        if let Some(plain) = pieces.iter().find(|piece| piece.section.is_none()) {
            return Some(encoded_word::decode_text(&plain.value));
        }
        pieces.sort_by_key(|piece| piece.section);
        // RFC 2231, 3: sections count up from zero; after a gap nothing belongs.
        let run =
            pieces.iter().zip(0u32..).take_while(|(piece, number)| piece.section == Some(*number)).count();
        (run > 0).then(|| decode_pieces(&pieces[..run]))
    }
}

/// Reads what stands before the parameters, without comments and white space (RFC 2045, 5.1), and
/// what follows.
fn read_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = after_comments(text);
    loop {
        // White space ends the value too: some programs forget the semicolon before the boundary.
        let end = rest.find([';', ' ', '\t', '(']).unwrap_or(rest.len());
        value.push_str(&rest[..end]);
        rest = &rest[end..];
        // But for what stands around the slash of a type.
        let next = after_comments(rest);
        let goes_on = next.starts_with('/') || (value.ends_with('/') && !next.starts_with(';'));
        if end == 0 || !goes_on || next.is_empty() {
            return (value, rest);
        }
        rest = next;
    }
}

/// Reads one `name=value`, and what follows its semicolon.
fn read_parameter(text: &str) -> (Option<Parameter>, &str) {
    let text = text.trim_start();
    let Some(name_end) = text.find(['=', ';']) else { return (None, "") };
    let (name, rest) = text.split_at(name_end);
    let Some(rest) = rest.strip_prefix('=') else {
        return (None, rest.strip_prefix(';').unwrap_or_default());
    };
    let rest = rest.trim_start();
    let quoted = rest.strip_prefix('"');
    let is_quoted = quoted.is_some();
    let (value, rest) = match quoted {
        Some(quoted) => read_quoted(quoted),
        None => {
            let end = rest.find(';').unwrap_or(rest.len());
            (rest[..end].trim().to_owned(), &rest[end..])
        }
    };
    // Between the closing quote and the next semicolon nothing belongs.
    let rest = rest.split_once(';').map_or("", |(_, rest)| rest);

    let name = without_comments(name);
    let mut marks = name.trim().split('*');
    let name = marks.next().unwrap_or_default().trim().to_ascii_lowercase();
    let (mut section, mut is_extended) = (None, false);
    for mark in marks {
        match mark.trim() {
            "" => is_extended = true,
            number => match number.parse() {
                Ok(number) => section = Some(number),
                Err(_) => return (None, rest),
            },
        }
    }
    ((!name.is_empty()).then_some(Parameter { name, section, is_extended, is_quoted, value }), rest)
}

/// Reads up to the closing quote: the text without backslashes, and what follows.
fn read_quoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (out, &text[at + 1..]),
            // Only these two need the backslash; before anything else it is a path of Windows.
            '\\' => match chars.clone().next() {
                Some((_, escaped @ ('"' | '\\'))) => {
                    out.push(escaped);
                    chars.next();
                }
                _ => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    (out, "")
}

fn decode_pieces(pieces: &[&Parameter]) -> String {
    let mut octets = Vec::new();
    let mut label = None;
    for (place, piece) in pieces.iter().enumerate() {
        let mut value = piece.value.as_str();
        if !piece.is_extended {
            octets.extend_from_slice(value.as_bytes());
            continue;
        }
        if place == 0 {
            // charset'language'text
            let mut quoted = value.splitn(3, '\'');
            if let (Some(charset), Some(_), Some(text)) = (quoted.next(), quoted.next(), quoted.next()) {
                label = Some(charset).filter(|charset| !charset.is_empty());
                value = text;
            }
        }
        decode_percent(value.as_bytes(), &mut octets);
    }
    match label.and_then(|label| charset::decode_known(&octets, label)) {
        Some(decoded) => decoded.text,
        None => charset::decode(&octets, None).text,
    }
}

/// Undoes percent-encoding at the end of `out`.
pub fn decode_percent(encoded: &[u8], out: &mut Vec<u8>) {
    let hex = |byte: &u8| (*byte as char).to_digit(16).map(|value| value as u8);
    let mut rest = encoded;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (byte, tail)
            && let Some((high, low)) = hex(high).zip(hex(low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(*byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(value: &str, name: &str) -> Option<String> {
        Parameterized::parse(value.as_bytes()).decoded(name)
    }

    #[test]
    fn values_and_plain_parameters() {
        let parsed = Parameterized::parse(b" Text/Plain (a comment); charset=\"utf-8\"; format = flowed;;x");
        assert_eq!(parsed.value, "text/plain");
        assert_eq!(parsed.plain("charset").as_deref(), Some("utf-8"));
        assert_eq!(parsed.plain("format").as_deref(), Some("flowed"));
        let forgetful = Parameterized::parse(b" multipart/mixed\r\n\tboundary=\"b\"");
        assert_eq!(
            (forgetful.value.as_str(), forgetful.plain("boundary").as_deref()),
            ("multipart/mixed", Some("b"))
        );
        for value in ["(a) text/plain", "text (b) / (c)\tplain (d)", "text/plain(e)", "text/ plain; x=y"] {
            assert_eq!(Parameterized::parse(value.as_bytes()).value, "text/plain", "{value}");
        }
        assert_eq!(Parameterized::parse(b"(without end").value, "");
        let commented = Parameterized::parse(b"text/plain; charset=us-ascii (Plain text)");
        assert_eq!(commented.plain("charset").as_deref(), Some("us-ascii"));
        assert_eq!(parsed.plain("x"), None);
        let folded = Parameterized::parse(b"multipart/mixed;\r\n\tboundary=\"a;b \\\"c\\\"\"");
        assert_eq!(folded.plain("boundary").as_deref(), Some("a;b \"c\""));
    }

    #[test]
    fn file_names_of_rfc_2231_and_of_habit() {
        for (value, wanted) in [
            ("attachment; filename*=utf-8'en'%E2%82%AC%20rates.txt", "€ rates.txt"),
            ("attachment; filename*0=one; filename*1=\"two\"", "onetwo"),
            ("attachment; filename*1*=%C3%A9b; filename*0*=utf-8''a%C3%A9; filename*2=c%", "aéébc%"),
            ("attachment; filename=plain.txt; filename*=utf-8''ext.txt", "ext.txt"),
            ("attachment; filename=\"=?utf-8?q?caf=C3=A9.txt?=\"", "café.txt"),
            ("attachment; filename=a b (1).txt", "a b (1).txt"),
            ("attachment; filename=\"C:\\dir\\é.txt\"", "C:\\dir\\é.txt"),
            ("attachment; filename*=iso-8859-1''caf%E9", "café"),
            ("attachment; filename*0*=x-none''a; filename*2=lost", "a"),
        ] {
            assert_eq!(decoded(value, "filename").as_deref(), Some(wanted), "{value}");
        }
        assert_eq!(decoded("attachment", "filename"), None);
        assert_eq!(decoded("attachment; filename*1=late", "filename"), None);
    }
}
