//! Which parts are the text to read and which are attachments: textBody, htmlBody, attachments
//! (RFC 8621, 4.1.4).

use crate::mail::scan::MAX_DEPTH;
use crate::mail::structure::{Part, Structure};

/// Indexes into the parts of a structure.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BodyLists {
    /// textBody.
    pub text: Vec<usize>,
    /// htmlBody.
    pub html: Vec<usize>,
    /// attachments.
    pub attachments: Vec<usize>,
}

/// Which of the two bodies a part may still go to: within one alternative, once one form has been
/// found the other body takes nothing more from it.
#[derive(Clone, Copy)]
struct Wanted {
    text: bool,
    html: bool,
}

/// Sorts the parts into the three lists, as RFC 8621, 4.1.4 suggests it.
pub fn body_lists(structure: &Structure) -> BodyLists {
    let mut lists = BodyLists::default();
    if !structure.parts.is_empty() {
        let place = Place { multipart: "mixed", in_alternative: false, depth: 0 };
        sort_parts(structure, std::iter::once(0), place, Wanted { text: true, html: true }, &mut lists);
    }
    lists
}

#[derive(Clone, Copy)]
struct Place<'a> {
    /// Subtype of the multipart that the parts stand in.
    multipart: &'a str,
    in_alternative: bool,
    depth: usize,
}

fn is_media(part: &Part) -> bool {
    ["image/", "audio/", "video/"].iter().any(|main| part.media_type.starts_with(main))
}

/// Recurses as deep as multiparts nest, which the scan bounds.
fn sort_parts(
    structure: &Structure,
    children: impl Iterator<Item = usize>,
    place: Place<'_>,
    mut wanted: Wanted,
    lists: &mut BodyLists,
) {
    let (text_before, html_before) = (lists.text.len(), lists.html.len());
    for (position, index) in children.enumerate() {
        let Some(part) = structure.parts.get(index) else { return };
        if part.is_multipart() {
            if place.depth > MAX_DEPTH {
                continue;
            }
            let multipart = part.media_type.strip_prefix("multipart/").unwrap_or_default();
            let inner = Place {
                multipart,
                in_alternative: place.in_alternative || multipart == "alternative",
                depth: place.depth + 1,
            };
            let children = structure.children(index).collect::<Vec<_>>();
            sort_parts(structure, children.into_iter(), inner, wanted, lists);
            continue;
        }
        let is_inline = part.disposition.as_deref() != Some("attachment")
            && (matches!(part.media_type.as_str(), "text/plain" | "text/html") || is_media(part))
            && (position == 0 || (place.multipart != "related" && (is_media(part) || part.name.is_none())));
        if !is_inline {
            lists.attachments.push(index);
            continue;
        }
        if place.multipart == "alternative" {
            match part.media_type.as_str() {
                "text/plain" if wanted.text => lists.text.push(index),
                "text/html" if wanted.html => lists.html.push(index),
                _ => lists.attachments.push(index),
            }
            continue;
        }
        if place.in_alternative {
            match part.media_type.as_str() {
                "text/plain" => wanted.html = false,
                "text/html" => wanted.text = false,
                _ => {}
            }
        }
        if wanted.text {
            lists.text.push(index);
        }
        if wanted.html {
            lists.html.push(index);
        }
        let is_shown = wanted.text || wanted.html;
        if (is_media(part) && !(wanted.text && wanted.html)) || !is_shown {
            lists.attachments.push(index);
        }
    }
    if place.multipart == "alternative" && wanted.text && wanted.html {
        let (text_after, html_after) = (lists.text.len(), lists.html.len());
        // An alternative of one form only is shown in both bodies.
        if text_after == text_before && html_after != html_before {
            lists.text.extend_from_slice(&lists.html[html_before..]);
        } else if html_after == html_before && text_after != text_before {
            lists.html.extend_from_slice(&lists.text[text_before..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::scan::scan;

    /// Names of the parts in each list; a part's name is its body.
    fn lists(raw: &str) -> [String; 3] {
        let raw = raw.replace('\n', "\r\n");
        let structure = scan(raw.as_bytes());
        let lists = body_lists(&structure);
        [lists.text, lists.html, lists.attachments].map(|list| {
            let body = |index: &usize| {
                let (offset, length) = structure.parts[*index].body;
                raw[offset as usize..(offset + length) as usize].trim().to_owned()
            };
            list.iter().map(body).collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn the_example_of_rfc_8621() {
        let raw = "\
Content-Type: multipart/mixed; boundary=1

--1
Content-Type: text/plain
Content-Disposition: inline

A
--1
Content-Type: multipart/mixed; boundary=2

--2
Content-Type: multipart/alternative; boundary=3

--3
Content-Type: multipart/mixed; boundary=4

--4
Content-Type: text/plain
Content-Disposition: inline

B
--4
Content-Type: image/jpeg
Content-Disposition: inline

C
--4
Content-Type: text/plain
Content-Disposition: inline

D
--4--
--3
Content-Type: multipart/related; boundary=5

--5
Content-Type: text/html

E
--5
Content-Type: image/jpeg

F
--5--
--3--
--2
Content-Type: image/jpeg
Content-Disposition: attachment

G
--2
Content-Type: application/x-excel

H
--2
Content-Type: message/rfc822

J
--2--
--1
Content-Type: text/plain
Content-Disposition: inline

K
--1--
";
        assert_eq!(lists(raw), ["A B C D K", "A E K", "C F G H J"]);
    }

    #[test]
    fn single_bodies_and_one_sided_alternatives() {
        assert_eq!(lists("Subject: x\n\nA"), ["A", "A", ""]);
        assert_eq!(lists("Content-Type: text/html\n\nA"), ["A", "A", ""]);
        assert_eq!(lists("Content-Type: application/pdf\n\nA"), ["", "", "A"]);
        let only_html =
            "Content-Type: multipart/alternative; boundary=1\n\n--1\nContent-Type: text/html\n\nA\n--1--\n";
        assert_eq!(lists(only_html), ["A", "A", ""]);
        let with_calendar = "Content-Type: multipart/alternative; boundary=1\n\n--1\n\nA\n--1\nContent-Type: text/calendar\n\nC\n--1--\n";
        assert_eq!(lists(with_calendar), ["A", "A", "C"]);
        let named = "Content-Type: multipart/mixed; boundary=1\n\n--1\n\nA\n--1\nContent-Type: text/plain; name=b.txt\n\nB\n--1--\n";
        assert_eq!(lists(named), ["A", "A", "B"]);
    }
}
