//! HTML of strangers without what does harm: scripts, styles, forms, frames, handlers of events, and URLs of
//! other kinds than those of the web, mail, telephones and parts of the message. By the crate ammonia, which
//! parses as browsers do.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::LazyLock;

use ammonia::Builder;
use html5ever::interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::{Attribute, ExpandedName, ParseOpts, QualName, local_name, ns, parse_fragment};

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
/// Elements that may be made of them: a formatting element that is open is made anew in every block that follows.
const MAX_ELEMENTS: usize = 30_000;
/// Octets that are read between two looks at how many elements there are.
const PIECE: usize = 512;

/// Cleans HTML; `None` when it has more tags than any letter.
pub fn clean_html(html: &str) -> Option<String> {
    is_bounded(html).then(|| BUILDER.clean(html).to_string())
}

/// Whether the work on HTML is bounded. It is read as it will be for cleaning, with a tree of which no more is kept
/// than the number of its elements: what opens and ends them where is nothing that could be told from the text.
fn is_bounded(html: &str) -> bool {
    let is_tag = |piece: &&str| piece.starts_with(|c: char| c.is_ascii_alphabetic());
    if html.split('<').skip(1).filter(is_tag).count() > MAX_TAGS {
        return false;
    }
    let elements = Rc::new(Cell::new(0));
    let context = QualName::new(None, ns!(html), local_name!("div"));
    let mut parser = parse_fragment(
        Counting { elements: elements.clone() },
        ParseOpts::default(),
        context,
        Vec::new(),
        false,
    );
    let mut rest = html;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        let (piece, after) = rest.split_at(end);
        parser.process(StrTendril::from_slice(piece));
        if elements.get() > MAX_ELEMENTS {
            return false;
        }
        rest = after;
    }
    parser.finish();
    elements.get() <= MAX_ELEMENTS
}

/// A tree of which the elements are counted.
struct Counting {
    elements: Rc<Cell<usize>>,
}

/// An element is known by its name alone.
type Element = Rc<QualName>;

fn nameless() -> Element {
    Rc::new(QualName::new(None, ns!(), local_name!("")))
}

impl TreeSink for Counting {
    type Handle = Element;
    type Output = ();
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) {}

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Element {
        nameless()
    }

    fn elem_name<'a>(&'a self, target: &'a Element) -> ExpandedName<'a> {
        target.expanded()
    }

    fn create_element(&self, name: QualName, _: Vec<Attribute>, _: ElementFlags) -> Element {
        self.elements.set(self.elements.get() + 1);
        Rc::new(name)
    }

    fn create_comment(&self, _: StrTendril) -> Element {
        nameless()
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Element {
        nameless()
    }

    fn append(&self, _: &Element, _: NodeOrText<Element>) {}

    fn append_based_on_parent_node(&self, _: &Element, _: &Element, _: NodeOrText<Element>) {}

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Element) -> Element {
        target.clone()
    }

    fn same_node(&self, one: &Element, other: &Element) -> bool {
        Rc::ptr_eq(one, other)
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, _: &Element, _: NodeOrText<Element>) {}

    fn add_attrs_if_missing(&self, _: &Element, _: Vec<Attribute>) {}

    fn remove_from_parent(&self, _: &Element) {}

    fn reparent_children(&self, _: &Element, _: &Element) {}
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
        let blocks = "<p>x".repeat(5_000);
        assert_eq!(clean_html(&format!("<p>{}{blocks}", colours(100))), None);
        // Ends that end nothing: in a comment, in an attribute, in a text, behind a border.
        for end in [
            "<!--</font>-->",
            "<img title=\"</font>\">",
            "<title></font></title>",
            "<object></font></object>",
        ] {
            let open: String = (0..1_000).map(|n| format!("<font color=\"{n}\">{end}")).collect();
            let began = std::time::Instant::now();
            assert_eq!(clean_html(&format!("<p>{open}{blocks}")), None, "{end}");
            assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        }
        // The most that is.
        let began = std::time::Instant::now();
        assert!(clean_html(&format!("<p>{}{}", colours(3), "<p>x".repeat(7_000))).is_some());
        assert!(clean_html(&"<div>".repeat(MAX_TAGS)).is_some());
        assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
        let letter = "<table><tr><td><b>x</b> <font size=\"2\">y</font></td></tr></table>".repeat(900);
        assert!(clean_html(&letter).is_some());
    }
}
