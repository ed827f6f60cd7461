//! Keywords of an Email (RFC 8621, 4.1.1) and the bits by which the store keeps the usual ones.

/// Bits of the `flags` column, one for each keyword that nearly every mailbox has. The meaning of
/// a bit never changes: rows on disk carry them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flags(pub i64);

/// Keywords with a bit of their own: the registered ones that clients use, in bit order.
const REGISTERED: [&str; 14] = [
    "$seen",
    "$draft",
    "$flagged",
    "$answered",
    "$forwarded",
    "$phishing",
    "$junk",
    "$notjunk",
    "$mdnsent",
    "$submitpending",
    "$submitted",
    "$hasattachment",
    "$hasnoattachment",
    "$muted",
];

/// Longest keyword (RFC 8621, 4.1.1).
pub const MAX_KEYWORD_LEN: usize = 255;

impl Flags {
    /// `$seen`. Partial indexes of the store name this bit as the literal 1.
    pub const SEEN: Flags = Flags(1);
    /// `$draft`.
    pub const DRAFT: Flags = Flags(2);
    /// `$flagged`. Partial indexes of the store name this bit as the literal 4.
    pub const FLAGGED: Flags = Flags(4);
    /// `$answered`.
    pub const ANSWERED: Flags = Flags(8);
    /// `$forwarded`.
    pub const FORWARDED: Flags = Flags(16);
    /// Set when the Email has keywords without a bit, which stand in a table of their own.
    pub const HAS_OTHERS: Flags = Flags(1 << 30);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` set or cleared.
    pub fn with(self, other: Flags, on: bool) -> Flags {
        if on { Flags(self.0 | other.0) } else { Flags(self.0 & !other.0) }
    }

    /// Unread as the mailbox counters mean it: neither `$seen` nor `$draft` (RFC 8621, 2).
    pub fn is_unread(self) -> bool {
        self.0 & (Flags::SEEN.0 | Flags::DRAFT.0) == 0
    }

    /// The keywords of the bits set.
    pub fn keywords(self) -> impl Iterator<Item = &'static str> {
        REGISTERED
            .iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, keyword)| *keyword)
    }
}

/// The bit of a keyword (given in lower case), if it has one.
pub fn flag_of(keyword: &str) -> Option<Flags> {
    REGISTERED.iter().position(|known| *known == keyword).map(|bit| Flags(1 << bit))
}

/// A keyword in lower case, as the store keeps it and the server returns it; `None` when it is
/// none: 1 to 255 characters of printable ASCII without `( ) { ] % * " \` (RFC 8621, 4.1.1).
pub fn normalize_keyword(keyword: &str) -> Option<String> {
    let legal = |byte: u8| byte.is_ascii_graphic() && !b"(){]%*\"\\".contains(&byte);
    let fits = (1..=MAX_KEYWORD_LEN).contains(&keyword.len());
    (fits && keyword.bytes().all(legal)).then(|| keyword.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_names_agree() {
        assert_eq!(flag_of("$seen"), Some(Flags::SEEN));
        assert_eq!(flag_of("$flagged"), Some(Flags::FLAGGED));
        assert_eq!(flag_of("$forwarded"), Some(Flags::FORWARDED));
        assert_eq!(flag_of("custom"), None);
        let flags = Flags::SEEN.with(Flags::ANSWERED, true);
        assert_eq!(flags.keywords().collect::<Vec<_>>(), ["$seen", "$answered"]);
    }

    #[test]
    fn illegal_keywords_are_refused() {
        assert_eq!(normalize_keyword("$Seen").as_deref(), Some("$seen"));
        for keyword in ["", "a b", "a(b", "a]b", "ü", "a%b", "a\\b", "\u{7f}", &"x".repeat(256)] {
            assert_eq!(normalize_keyword(keyword), None, "{keyword}");
        }
    }
}
