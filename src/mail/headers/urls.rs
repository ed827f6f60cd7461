//! The URLs form (RFC 8621, 4.1.2.7; RFC 2369, 2).

use crate::mail::fields::{start_of_list, unfolded};

/// The URLs of a field, without angle brackets and comments. `None` when there is not one, as in
/// `List-Post: NO`.
pub fn as_urls(value: &[u8]) -> Option<Vec<String>> {
    let text = unfolded(start_of_list(value));
    let mut urls = Vec::new();
    let mut depth = 0u32;
    let mut url: Option<String> = None;
    for c in text.chars() {
        match (&mut url, c) {
            (Some(_), '>') => urls.extend(url.take().filter(|url| !url.is_empty())),
            // RFC 2369, 2: white space inside the brackets is ignored.
            (Some(url), c) if !c.is_whitespace() && !c.is_control() => url.push(c),
            (Some(_), _) => {}
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, '<') if depth == 0 => url = Some(String::new()),
            (None, _) => {}
        }
    }
    (!urls.is_empty()).then_some(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_the_examples_of_rfc_2369() {
        let urls = |value: &str| as_urls(value.as_bytes());
        let some = |wanted: &[&str]| Some(wanted.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            urls(" <ftp://ftp.host.com/list.txt> (FTP),\r\n <mailto:list@host.com?subject=help>"),
            some(&["ftp://ftp.host.com/list.txt", "mailto:list@host.com?subject=help"])
        );
        assert_eq!(urls("<http://h/ a(b)>, (Use <this>)"), some(&["http://h/a(b)"]));
        for value in ["NO", "", "http://bare/", "<>", "<unclosed", "(<x>)"] {
            assert_eq!(urls(value), None, "{value}");
        }
    }
}
