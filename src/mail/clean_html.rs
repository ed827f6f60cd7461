//! HTML of strangers without what does harm: scripts, styles, forms, frames, handlers of events, and URLs of
//! other kinds than those of the web, mail, telephones and parts of the message. By the crate ammonia, which
//! parses as browsers do.

use std::collections::HashSet;
use std::sync::LazyLock;

use ammonia::Builder;

static BUILDER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    builder
        .url_schemes(HashSet::from(["http", "https", "mailto", "tel", "cid"]))
        .link_rel(Some("noopener noreferrer nofollow"))
        .add_tag_attributes("table", ["align", "bgcolor", "border", "cellpadding", "cellspacing", "width"])
        .add_tag_attributes("td", ["bgcolor", "height", "valign", "width"])
        .add_tag_attributes("font", ["color", "face", "size"])
        .add_tags(["font"]);
    builder
});

/// Tags beyond which HTML is not cleaned: the work may grow with the square of their number.
const MAX_TAGS: usize = 10_000;
/// Formatting elements that may be open at a time: each is opened anew in every block that follows.
const MAX_FORMATTING: usize = 100;
/// These elements (the HTML standard, 13.2.4.3).
const FORMATTING: [&str; 14] =
    ["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];

/// Cleans HTML; `None` when it has more tags than any letter.
pub fn clean_html(html: &str) -> Option<String> {
    is_bounded(html).then(|| BUILDER.clean(html).to_string())
}

/// Whether the work on HTML is bounded, by all that looks like a tag.
fn is_bounded(html: &str) -> bool {
    let mut tags = 0;
    let mut open = [0_usize; FORMATTING.len()];
    for piece in html.split('<').skip(1) {
        let (name, is_end) = match piece.strip_prefix('/') {
            Some(rest) => (rest, true),
            None => (piece, false),
        };
        let end = name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len());
        let name = &name[..end];
        if name.is_empty() {
            continue;
        }
        tags += 1;
        if let Some(place) = FORMATTING.iter().position(|known| name.eq_ignore_ascii_case(known)) {
            open[place] = if is_end { open[place].saturating_sub(1) } else { open[place] + 1 };
        }
        if tags > MAX_TAGS || open.iter().sum::<usize>() > MAX_FORMATTING {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_harm_goes_and_the_rest_stays() {
        for (html, clean) in [
            ("<p>It is <b>on its way</b>.</p>", "<p>It is <b>on its way</b>.</p>"),
            ("<script>alert(1)</script>x", "x"),
            ("<p onclick=\"alert(1)\" style=\"position:fixed\">x</p>", "<p>x</p>"),
            ("<img src=\"cid:logo\" onerror=\"alert(1)\">", "<img src=\"cid:logo\">"),
            ("<a href=\"javascript:alert(1)\">x</a>", "<a rel=\"noopener noreferrer nofollow\">x</a>"),
            ("<iframe src=\"https://x.test\"></iframe><form><input name=\"a\"></form>", ""),
            ("<style>p { color: red }</style><base href=\"https://x.test\"><p>x", "<p>x</p>"),
            ("<svg><script>1</script></svg>y<math><mi>z</mi></math>", "y"),
            ("<td bgcolor=\"red\">x", "x"),
        ] {
            assert_eq!(clean_html(html).as_deref(), Some(clean), "{html}");
        }
        let link = clean_html("<a href=\"https://shop.test/?a=1&amp;b=2\" target=\"_blank\">x</a>");
        assert_eq!(
            link.as_deref(),
            Some("<a href=\"https://shop.test/?a=1&amp;b=2\" rel=\"noopener noreferrer nofollow\">x</a>")
        );
    }

    #[test]
    fn what_would_take_too_long_is_not_cleaned() {
        assert_eq!(clean_html(&"<div>".repeat(MAX_TAGS + 1)), None);
        let colours =
            |count: usize| -> String { (0..count).map(|n| format!("<font color=\"{n}\">")).collect() };
        assert_eq!(clean_html(&format!("{}x", colours(MAX_FORMATTING + 1))), None);
        // The most that is: each block opens all of them again.
        let worst = format!("{}{}", colours(MAX_FORMATTING), "<p>x".repeat(MAX_TAGS - MAX_FORMATTING));
        let began = std::time::Instant::now();
        assert!(clean_html(&worst).is_some());
        assert!(clean_html(&"<div>".repeat(MAX_TAGS)).is_some());
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        let letter = "<table><tr><td><b>x</b> <font size=\"2\">y</font></td></tr></table>".repeat(900);
        assert!(clean_html(&letter).is_some());
    }
}
