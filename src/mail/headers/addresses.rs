//! The Addresses and GroupedAddresses forms (RFC 8621, 4.1.2.3 and 4.1.2.4; RFC 5322, 3.4).
//!
//! Best effort, as the RFC wants it: whatever stands between two commas is one address, with or
//! without a name, with or without an `@`. Linear; nested comments are counted, not followed.

use serde::{Deserialize, Serialize};

use crate::mail::encoded_word;
use crate::mail::fields::{start_of_list, unfolded};
use crate::mail::headers::text::nfc;

/// One mailbox of an address field (RFC 8621, 4.1.2.3).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EmailAddress {
    /// The display name, or else the comment after the address.
    pub name: Option<String>,
    /// The addr-spec as written; not always one.
    pub email: String,
}

/// Mailboxes that stand together (RFC 8621, 4.1.2.4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EmailAddressGroup {
    /// The group's name; `None` for mailboxes outside any group.
    pub name: Option<String>,
    /// Its members; a group may be empty.
    pub addresses: Vec<EmailAddress>,
}

/// All mailboxes, whatever group they are in.
pub fn as_addresses(value: &[u8]) -> Vec<EmailAddress> {
    as_grouped_addresses(value).into_iter().flat_map(|group| group.addresses).collect()
}

/// The mailboxes in their groups; those outside any are collected in nameless ones.
pub fn as_grouped_addresses(value: &[u8]) -> Vec<EmailAddressGroup> {
    let text = unfolded(start_of_list(value));
    let mut reader = Reader { rest: &text, ..Reader::default() };
    while let Some(c) = reader.rest.chars().next() {
        reader.step(c);
    }
    reader.end_mailbox();
    reader.end_group();
    reader.groups
}

#[derive(PartialEq)]
enum Kind {
    Atom,
    Quoted,
}

/// A word of a phrase or of an address without angle brackets.
struct Word {
    kind: Kind,
    /// Quoted strings without their quotes.
    text: String,
    /// Whether white space or a comment stood before it.
    is_apart: bool,
}

#[derive(Default)]
struct Reader<'a> {
    rest: &'a str,
    /// No closing bracket stands in what is left: not searched for again.
    no_more_brackets: bool,
    /// A quote, or a comment, was not closed: from there on the character is like any other.
    quotes_are_plain: bool,
    comments_are_plain: bool,
    /// Some atom of `words` has an at sign.
    has_at_sign: bool,
    is_apart: bool,
    words: Vec<Word>,
    angle: Option<String>,
    comment: Option<String>,
    /// `Some` inside a group.
    group: Option<String>,
    addresses: Vec<EmailAddress>,
    groups: Vec<EmailAddressGroup>,
}

impl Reader<'_> {
    fn step(&mut self, c: char) {
        match c {
            ' ' | '\t' => {
                self.skip(1);
                self.is_apart = true;
            }
            '(' if !self.comments_are_plain => self.read_comment(),
            '"' if !self.quotes_are_plain => self.read_quoted(),
            '<' => self.read_angle(),
            ',' => {
                self.skip(1);
                self.end_mailbox();
            }
            // Some programs separate by semicolons, groups or not.
            ';' => {
                self.skip(1);
                self.end_mailbox();
                if self.group.is_some() {
                    self.end_group();
                }
            }
            ':' if self.group.is_none() && self.angle.is_none() && self.may_name_a_group() => {
                self.skip(1);
                self.end_group();
                self.group = Some(phrase(&std::mem::take(&mut self.words)));
                self.comment = None;
                self.is_apart = false;
            }
            _ => self.read_atom(),
        }
    }

    fn skip(&mut self, octets: usize) {
        self.rest = self.rest.get(octets..).unwrap_or_default();
    }

    fn may_name_a_group(&self) -> bool {
        !self.words.is_empty() && !self.has_at_sign
    }

    fn push_word(&mut self, kind: Kind, text: String) {
        // A comma is missing between two mailboxes.
        if self.angle.is_some() {
            self.end_mailbox();
        }
        self.has_at_sign |= kind == Kind::Atom && text.contains('@');
        let is_apart = std::mem::take(&mut self.is_apart);
        self.words.push(Word { kind, text, is_apart });
    }

    /// A comment (RFC 5322, 3.2.2), which may hold comments.
    fn read_comment(&mut self) {
        let mut text = String::new();
        let mut depth = 0u32;
        let mut chars = self.rest.char_indices();
        let mut end = None;
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                '(' => {
                    depth += 1;
                    if depth > 1 {
                        text.push(c);
                    }
                }
                ')' => {
                    depth -= 1;
                    if depth == 0 {
                        end = Some(at + 1);
                        break;
                    }
                    text.push(c);
                }
                c => text.push(c),
            }
        }
        let Some(end) = end else {
            self.comments_are_plain = true;
            return self.read_atom();
        };
        self.skip(end);
        self.is_apart = true;
        // RFC 8621, 4.1.2.3: the comment after the addr-spec can stand for the name.
        let follows_address = self.angle.is_some() || !self.words.is_empty();
        if follows_address && self.comment.is_none() {
            let text = nfc(encoded_word::decode_text(text.trim()));
            self.comment = Some(text).filter(|text| !text.is_empty());
        }
    }

    fn read_quoted(&mut self) {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        let mut end = None;
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                c => text.push(c),
            }
        }
        let Some(end) = end else {
            self.quotes_are_plain = true;
            return self.read_atom();
        };
        self.skip(end);
        self.push_word(Kind::Quoted, text);
    }

    /// An address in angle brackets. When the bracket is not closed before the next one opens,
    /// the address ends where a name or the next address may begin.
    fn read_angle(&mut self) {
        self.skip(1);
        let closed = match self.no_more_brackets {
            true => None,
            false => self.closing_bracket(),
        };
        let end = closed.unwrap_or_else(|| self.rest.find([',', ';', '<', ' ']).unwrap_or(self.rest.len()));
        let inner = self.rest.get(..end).unwrap_or_default();
        let mut email = addr_spec(inner);
        // RFC 5322, 4.4: a route before the address.
        if email.starts_with('@')
            && let Some((_, address)) = email.split_once(':')
        {
            email = address.to_owned();
        }
        self.skip(end);
        if closed.is_some() {
            self.skip(1);
        }
        self.is_apart = true;
        if self.angle.is_some() {
            self.end_mailbox();
        }
        self.angle = Some(email);
    }

    fn closing_bracket(&mut self) -> Option<usize> {
        let mut in_quotes = false;
        let mut octets = self.rest.bytes().enumerate();
        while let Some((at, byte)) = octets.next() {
            match byte {
                b'\\' if in_quotes => {
                    octets.next();
                }
                b'"' => in_quotes = !in_quotes,
                b'>' if !in_quotes => return Some(at),
                b'<' if !in_quotes => return None,
                _ => {}
            }
        }
        self.no_more_brackets = true;
        None
    }

    fn read_atom(&mut self) {
        let is_first = self.words.last().is_none_or(|_| self.is_apart);
        // An encoded word is one word, whatever characters programs put into it.
        let encoded = is_first.then(|| encoded_word::word_len(self.rest)).flatten();
        let end = encoded.unwrap_or_else(|| self.atom_len());
        let text = self.rest.get(..end).unwrap_or_default().to_owned();
        self.skip(end);
        self.push_word(Kind::Atom, text);
    }

    fn atom_len(&self) -> usize {
        // The first character is taken whatever it is, so that reading always goes on.
        let mut is_literal = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                // A domain literal (RFC 5322, 3.4.1) has colons of its own.
                '[' => is_literal = true,
                ']' => is_literal = false,
                ':' if is_literal => {}
                ' ' | '\t' | '(' | '"' | '<' | ',' | ';' | ':' if at > 0 => return at,
                _ => {}
            }
        }
        self.rest.len()
    }

    fn end_mailbox(&mut self) {
        let words = std::mem::take(&mut self.words);
        let comment = self.comment.take();
        self.has_at_sign = false;
        self.is_apart = false;
        let (name, email) = match self.angle.take() {
            Some(email) => (phrase(&words), email),
            None if words.is_empty() => return,
            None => bare_address(&words),
        };
        let name = Some(name).filter(|name| !name.is_empty()).or(comment);
        if name.is_some() || !email.is_empty() {
            self.addresses.push(EmailAddress { name, email });
        }
    }

    fn end_group(&mut self) {
        let name = self.group.take();
        let addresses = std::mem::take(&mut self.addresses);
        if name.is_some() || !addresses.is_empty() {
            self.groups.push(EmailAddressGroup { name, addresses });
        }
    }
}

/// What stands in angle brackets, without white space and comments outside quotes.
fn addr_spec(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let (mut in_quotes, mut depth) = (false, 0u32);
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_quotes => {
                out.push(c);
                out.extend(chars.next());
            }
            '"' if depth == 0 => {
                in_quotes = !in_quotes;
                out.push(c);
            }
            '(' if !in_quotes => depth += 1,
            ')' if !in_quotes && depth > 0 => depth -= 1,
            c if depth > 0 || c.is_control() => {}
            c if c.is_whitespace() && !in_quotes => {}
            c => out.push(c),
        }
    }
    out
}

/// A display name: words with the white space between them made one space, encoded words decoded
/// outside quotes (RFC 2047, 5 (3)).
fn phrase(words: &[Word]) -> String {
    let mut out = String::new();
    let mut atoms = String::new();
    for word in words {
        if word.is_apart {
            atoms.push(' ');
        }
        match word.kind {
            Kind::Atom => atoms.push_str(&word.text),
            Kind::Quoted => {
                out.push_str(&encoded_word::decode_text(&atoms));
                atoms.clear();
                out.push_str(&word.text);
            }
        }
    }
    out.push_str(&encoded_word::decode_text(&atoms));
    nfc(out.trim().to_owned())
}

/// An address without angle brackets: the words around the `@` that belong to it are the address,
/// those before it a name. Without an `@`, all of it stands for the address.
fn bare_address(words: &[Word]) -> (String, String) {
    let is_atom = |word: &Word| word.kind == Kind::Atom;
    let Some(at_sign) = words.iter().position(|word| is_atom(word) && word.text.contains('@')) else {
        let text = phrase(words);
        let is_name = words.iter().any(|word| !is_atom(word) || word.text.starts_with("=?"));
        return if is_name { (text, String::new()) } else { (String::new(), text) };
    };
    // RFC 5322, 4.4: white space may stand around dots and the at sign.
    let joins = |left: &Word, right: &Word| {
        !right.is_apart
            || (is_atom(left) && left.text.ends_with(['.', '@']))
            || (is_atom(right) && right.text.starts_with(['.', '@']))
    };
    let mut start = at_sign;
    while start > 0 && joins(&words[start - 1], &words[start]) {
        start -= 1;
    }
    let mut end = at_sign + 1;
    while end < words.len() && joins(&words[end - 1], &words[end]) {
        end += 1;
    }
    let mut email = String::new();
    for word in &words[start..end] {
        match word.kind {
            Kind::Atom => email.push_str(&word.text),
            Kind::Quoted => {
                email.push('"');
                email.push_str(&word.text.replace('\\', "\\\\").replace('"', "\\\""));
                email.push('"');
            }
        }
    }
    email.retain(|c| !c.is_control());
    (phrase(&words[..start]), email)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str, email: &str) -> EmailAddress {
        EmailAddress { name: (!name.is_empty()).then(|| name.to_owned()), email: email.to_owned() }
    }

    #[test]
    fn the_example_of_rfc_8621() {
        let value = b"  \"  James Smythe\" <james@example.com>, Friends:\r\n  jane@example.com, =?UTF-8?Q?John_Sm=C3=AEth?=\r\n  <john@example.com>;";
        let james = address("James Smythe", "james@example.com");
        let friends = [address("", "jane@example.com"), address("John Smîth", "john@example.com")];
        assert_eq!(
            as_grouped_addresses(value),
            [
                EmailAddressGroup { name: None, addresses: vec![james.clone()] },
                EmailAddressGroup { name: Some("Friends".into()), addresses: friends.to_vec() },
            ]
        );
        assert_eq!(as_addresses(value), [&[james][..], &friends[..]].concat());
    }

    #[test]
    fn single_mailboxes() {
        for (value, name, email) in [
            (" jane@example.com", "", "jane@example.com"),
            ("<jane@example.com>", "", "jane@example.com"),
            ("Jane Q. Public <jane@example.com>", "Jane Q. Public", "jane@example.com"),
            ("jane@example.com (Jane Doe)", "Jane Doe", "jane@example.com"),
            ("<jane@example.com> (Jane (the) Doe)", "Jane (the) Doe", "jane@example.com"),
            ("(before) jane@example.com", "", "jane@example.com"),
            ("Jane (hm) <jane@example.com> (Doe)", "Jane", "jane@example.com"),
            ("jane(x)@ example . com", "x", "jane@example.com"),
            ("\"jane doe\"@example.com", "", "\"jane doe\"@example.com"),
            ("\"Doe, \\\"J\\\"\" <j@x>", "Doe, \"J\"", "j@x"),
            ("\"=?utf-8?q?a?=\" <a@b>", "=?utf-8?q?a?=", "a@b"),
            ("=?utf-8?Q?Doe,_J=C3=A4ne?=<a@b>", "Doe, Jäne", "a@b"),
            ("=?utf-8?q?J=C3?= =?utf-8?q?=A4ne?= D. <a@b>", "Jäne D.", "a@b"),
            ("<@relay,@other:a@b>", "", "a@b"),
            ("a@[IPv6:::1]", "", "a@[IPv6:::1]"),
            ("Pelé <p@é.example>", "Pelé", "p@é.example"),
            ("Jane Doe jane@example.com", "Jane Doe", "jane@example.com"),
            ("undisclosed", "", "undisclosed"),
            ("Jane Doe", "", "Jane Doe"),
            ("\"Jane Doe\"", "Jane Doe", ""),
            ("Jane <jane@example.com", "Jane", "jane@example.com"),
            ("Jane <>", "Jane", ""),
            ("\"unclosed <a@b>", "\"unclosed", "a@b"),
            ("Sad ( <a@b>", "Sad (", "a@b"),
            ("a@b\0", "", "a@b"),
        ] {
            assert_eq!(as_addresses(value.as_bytes()), [address(name, email)], "{value}");
        }
    }

    #[test]
    fn lists_and_groups() {
        let emails = |value: &str| -> Vec<String> {
            as_addresses(value.as_bytes()).into_iter().map(|address| address.email).collect()
        };
        assert_eq!(emails("a@b,, c@d ,"), ["a@b", "c@d"]);
        assert_eq!(emails("a@b; c@d"), ["a@b", "c@d"]);
        assert_eq!(emails("A <a@b> C <c@d>"), ["a@b", "c@d"]);
        assert_eq!(emails("A <a@b, C <c@d>"), ["a@b", "c@d"]);
        assert_eq!(emails(""), Vec::<String>::new());
        let groups = as_grouped_addresses(b"a@b, undisclosed-recipients:;, \"G: 1\": c@d, e@f; g@h");
        let names: Vec<_> =
            groups.iter().map(|group| (group.name.as_deref(), group.addresses.len())).collect();
        assert_eq!(names, [(None, 1), (Some("undisclosed-recipients"), 0), (Some("G: 1"), 2), (None, 1)]);
    }

    #[test]
    fn hostile_fields_take_linear_time() {
        for piece in
            ["<", "<a,", "(", "\"", "=?", "=?a?q?", "a:", "<a<", "<\"\\\"", "[", "\\", ",=?x?q?y", "@"]
        {
            let value = piece.repeat(300_000 / piece.len());
            as_addresses(value.as_bytes());
        }
    }
}
