//! Sort keys for from, to and subject (RFC 8621, 4.4.2): text mapped by i;unicode-casemap
//! (RFC 5051), so that comparing octets orders as that collation does.

use unicode_normalization::UnicodeNormalization;

use crate::mail::base_subject::base_subject;
use crate::mail::headers::addresses::EmailAddress;

/// Most characters of a key.
pub const MAX_CHARS: usize = 255;

/// The text in titlecase and then in its compatibility decomposition, cut to 255 characters.
pub fn sort_key(text: &str) -> String {
    let mapped = text.trim().chars().take(MAX_CHARS).map(titlecase);
    mapped.nfkd().filter(|c| *c != '\0').take(MAX_CHARS).collect()
}

/// The key of an address list: its first address by name, else by address.
pub fn address_key(addresses: &[EmailAddress]) -> String {
    addresses.first().map_or_else(String::new, |first| {
        sort_key(first.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&first.email))
    })
}

/// The key of a subject: that of its base subject.
pub fn subject_key(subject: &str) -> String {
    sort_key(&base_subject(subject))
}

/// The simple titlecase mapping of Unicode: that of upper case but for the four Latin digraphs.
fn titlecase(c: char) -> char {
    match c {
        '\u{1c4}'..='\u{1c6}' => '\u{1c5}',
        '\u{1c7}'..='\u{1c9}' => '\u{1c8}',
        '\u{1ca}'..='\u{1cc}' => '\u{1cb}',
        '\u{1f1}'..='\u{1f3}' => '\u{1f2}',
        c => {
            let mut upper = c.to_uppercase();
            // A mapping to several characters is none of the simple ones.
            match (upper.next(), upper.next()) {
                (Some(upper), None) => upper,
                _ => c,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_composition_make_no_difference() {
        assert_eq!(sort_key("Émile"), sort_key("e\u{301}MILE"));
        assert_eq!(sort_key("ﬁ"), sort_key("ﬁ"));
        assert_eq!(sort_key("ǆ"), sort_key("Ǆ"));
        assert!(sort_key("apple") < sort_key("Banana"));
        assert_eq!(sort_key(&"\u{fdfa}".repeat(1000)).chars().count(), MAX_CHARS);
    }

    #[test]
    fn the_first_address_counts_by_name_or_address() {
        let address = |name: Option<&str>, email: &str| EmailAddress {
            name: name.map(str::to_owned),
            email: email.to_owned(),
        };
        assert_eq!(address_key(&[address(Some("Bo"), "a@x"), address(None, "c@x")]), "BO");
        assert_eq!(address_key(&[address(Some(""), "a@x")]), "A@X");
        assert_eq!(address_key(&[]), "");
        assert_eq!(subject_key("Re: [x] hello"), "HELLO");
    }
}
