//! The MessageIds form (RFC 8621, 4.1.2.5).

use crate::mail::fields::{start_of_list, unfolded, without_comments};

/// The ids of a field, without angle brackets, comments and white space. `None` when there is not
/// one. Words between ids (RFC 5322, 4.5.4 knows phrases there) are passed over.
pub fn as_message_ids(value: &[u8]) -> Option<Vec<String>> {
    let text = unfolded(start_of_list(value));
    let text = without_comments(&text);
    let mut ids = Vec::new();
    let mut rest: &str = &text;
    while let Some((_, tail)) = rest.split_once('<') {
        let end = tail.find(['<', '>']).unwrap_or(tail.len());
        let (inner, after) = tail.split_at(end);
        rest = after;
        if after.starts_with('>') {
            let id: String = inner.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
            if !id.is_empty() {
                ids.push(id);
            }
        }
    }
    (!ids.is_empty()).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(value: &str) -> Option<Vec<String>> {
        as_message_ids(value.as_bytes())
    }

    #[test]
    fn ids_without_their_trimmings() {
        let some = |wanted: &[&str]| Some(wanted.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(ids(" <a@b>"), some(&["a@b"]));
        assert_eq!(ids("<a@b>\r\n <c@d>(note <x@y>)<e@f>"), some(&["a@b", "c@d", "e@f"]));
        assert_eq!(ids("<a@\r\n b>"), some(&["a@b"]));
        assert_eq!(ids("Your letter of Monday <a@b>"), some(&["a@b"]));
        assert_eq!(ids("<broken <a@b>"), some(&["a@b"]));
    }

    #[test]
    fn what_has_no_ids_is_none() {
        for value in ["", "a@b", "<", "<>", "<a@b", "()"] {
            assert_eq!(ids(value), None, "{value}");
        }
    }
}
