//! The base subject: a subject without what answering and forwarding add to it (RFC 5256, 2.1).

/// Characters of a subject that are looked at.
const MAX_CHARS: usize = 2_000;

/// The base subject of a subject in its Text form: white space collapsed, without `Re:`, `Fw:`,
/// `[list]` and their kin. May be empty.
pub fn base_subject(subject: &str) -> String {
    // Step 1.
    let mut collapsed = String::new();
    for word in subject.split_whitespace() {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
        if collapsed.len() > MAX_CHARS {
            collapsed.truncate(collapsed.floor_char_boundary(MAX_CHARS));
            break;
        }
    }
    let mut rest = collapsed.as_str();
    loop {
        // Step 2.
        rest = rest.trim_end();
        while let Some(before) = strip_suffix(rest, "(fwd)") {
            rest = before.trim_end();
        }
        // Steps 3 to 5.
        loop {
            rest = rest.trim_start();
            if let Some(after) = after_leader(rest) {
                rest = after;
            } else if let Some(after) = after_blob(rest).filter(|after| !after.is_empty()) {
                rest = after;
            } else {
                break;
            }
        }
        // Step 6.
        match strip_prefix(rest, "[fwd:").and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => rest = inner,
            None => return rest.to_owned(),
        }
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    text.get(at..)?.eq_ignore_ascii_case(suffix).then(|| &text[..at])
}

/// After a `subj-blob`: bracketed text and the white space behind it.
fn after_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    Some(inner[end..].strip_prefix(']')?.trim_start())
}

/// Words that mail programs put before a subject that they answer or forward: those of RFC 5256, and
/// what they are in other languages (RFC 8621, 3 asks for more than the English ones).
const PREFIXES: [&str; 24] = [
    "antwort", "antw", "fwd", "fw", "res", "ref", "rif", "re", "aw", "wg", "sv", "vs", "vb", "vl", "tr",
    "rv", "enc", "odp", "pd", "ynt", "ilt", "회신", "回复", "转发",
];

/// After a `subj-leader`: blobs, then `re`, `fw` or `fwd`, perhaps a blob, and a colon.
fn after_leader(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(after) = after_blob(rest) {
        rest = after;
    }
    // The longest first: "fw" is the beginning of "fwd".
    let rest = PREFIXES.iter().find_map(|word| strip_prefix(rest, word))?.trim_start();
    after_blob(rest).unwrap_or(rest).strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_add_is_removed() {
        for (subject, wanted) in [
            ("Hello", "Hello"),
            ("Re: Hello", "Hello"),
            ("RE : re:\tFwd: Hello   world ", "Hello world"),
            ("Re[2]: Hello", "Hello"),
            ("[list] Re: [list] Hello", "Hello"),
            ("[list] Hello (fwd) (FWD)", "Hello"),
            ("[Fwd: Re: Hello]", "Hello"),
            ("Fw: [Fwd: [x] Hello (fwd)]", "Hello"),
            ("[only]", "[only]"),
            ("Re: [only]", "[only]"),
            ("Re:", ""),
            ("", ""),
            ("Regarding: x", "Regarding: x"),
            ("[a [b] c", "[a [b] c"),
            ("é Re: x", "é Re: x"),
        ] {
            assert_eq!(base_subject(subject), wanted, "{subject}");
        }
        base_subject(&"[a]".repeat(100_000));
        base_subject(&"[fwd:".repeat(100_000));
    }
}
