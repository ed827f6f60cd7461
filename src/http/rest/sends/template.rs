//! Templates: messages with places for what differs, in the language of Jinja (crate minijinja). What HTML is made
//! of is escaped; a variable that is missing is an error, not a gap; work and length are bounded.

use std::collections::HashMap;
use std::io;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Deserialize;
use serde_json::Map;
use utoipa::ToSchema;

use crate::store::template::Template;

/// Steps that a part of a template may take, and those of a request together.
const FUEL: u64 = 100_000;
const FUEL_OF_ALL: u64 = 5_000_000;
/// Octets that a part may make, a subject, and those of a request together.
const MAX_MADE: usize = 1 << 20;
const MAX_SUBJECT: usize = 2_000;
const MAX_MADE_OF_ALL: usize = 32 << 20;

/// The parts of a template, as they are called within it.
const SUBJECT: &str = "subject";
const TEXT: &str = "text";
const HTML: &str = "html";

/// The template of a message, and what is put into it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "order", "variables": { "number": 1234 } }))]
pub struct UseTemplate {
    /// Its name.
    pub name: String,
    /// By their names.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub variables: Map<String, serde_json::Value>,
}

/// What a template has made.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
}

const PLAIN: AutoEscape = AutoEscape::None;

/// Fills the templates of a request, one after the other, within bounds for all of them together.
pub struct Filler<'a> {
    templates: &'a HashMap<String, Template>,
    /// Read once, however many messages are made of them.
    read: HashMap<&'a str, Environment<'a>>,
    steps_left: u64,
    octets_left: usize,
}

impl<'a> Filler<'a> {
    /// Of these templates.
    pub fn new(templates: &'a HashMap<String, Template>) -> Filler<'a> {
        Filler { templates, read: HashMap::new(), steps_left: FUEL_OF_ALL, octets_left: MAX_MADE_OF_ALL }
    }

    /// Fills a template; what is wrong, when it cannot be.
    pub fn fill(&mut self, wanted: &UseTemplate) -> Result<Made, String> {
        let Some((name, template)) = self.templates.get_key_value(&wanted.name) else {
            return Err(format!("there is no {:?} in this account", wanted.name));
        };
        if !self.read.contains_key(name.as_str()) {
            self.read.insert(name, read(template)?);
        }
        let context = Value::from(Serde(&wanted.variables));
        // A subject is one line.
        let subject = self.part(name, SUBJECT, &context, MAX_SUBJECT)?;
        let mut body = |part: &str, source: &str| {
            if source.is_empty() { Ok(None) } else { self.part(name, part, &context, MAX_MADE).map(Some) }
        };
        Ok(Made {
            subject: subject.split(['\r', '\n']).map(str::trim).collect::<Vec<_>>().join(" "),
            text: body(TEXT, &template.text)?,
            html: body(HTML, &template.html)?,
        })
    }

    fn part(&mut self, name: &str, part: &str, context: &Value, max: usize) -> Result<String, String> {
        let Some(environment) = self.read.get_mut(name) else { return Err("it was not read".to_owned()) };
        let steps = FUEL.min(self.steps_left);
        let mut made = Bounded { octets: Vec::new(), max: max.min(self.octets_left), is_full: false };
        if steps == 0 || made.max == 0 {
            return Err("the templates of this request make too much together; send fewer at once".to_owned());
        }
        environment.set_fuel(Some(steps));
        let filled = environment
            .get_template(part)
            .and_then(|template| match template.render_captured_to(context, &mut made) {
                Ok(done) => Ok(done.state().fuel_levels().map_or(steps, |(used, _)| used)),
                Err(error) => Err(explained(error, &template, context)),
            })
            .map_err(|error| format!("{part} of template {name}: {}", told(&error)));
        self.steps_left -= (*filled.as_ref().unwrap_or(&steps)).min(self.steps_left);
        self.octets_left -= made.octets.len();
        if made.is_full {
            return Err(format!("{part} of template {name}: it makes more than {} octets", made.max));
        }
        filled?;
        String::from_utf8(made.octets).map_err(|_| format!("{part} of template {name}: it is no UTF-8"))
    }
}

/// A missing variable is told by its name.
fn explained(error: Error, template: &minijinja::Template<'_, '_>, context: &Value) -> Error {
    if error.kind() != ErrorKind::UndefinedError {
        return error;
    }
    let is_missing = |name: &String| context.get_attr(name).is_ok_and(|value| value.is_undefined());
    let mut missing: Vec<String> =
        template.undeclared_variables(false).into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return error;
    }
    missing.sort_unstable();
    let text = format!("{}: {} is not among the variables", told(&error), missing.join(", "));
    Error::new(ErrorKind::UndefinedError, text)
}

/// What is wrong with a template, whatever is put into it.
pub fn check(template: &Template) -> Result<(), String> {
    read(template).map(|_| ())
}

fn read(template: &Template) -> Result<Environment<'_>, String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|part| if part == HTML { AutoEscape::Html } else { PLAIN });
    for (part, source) in [(SUBJECT, &template.subject), (TEXT, &template.text), (HTML, &template.html)] {
        environment.add_template(part, source).map_err(|error| format!("{part}: {}", told(&error)))?;
    }
    Ok(environment)
}

/// An error in a line: what it is, and where.
fn told(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// Octets up to a bound.
struct Bounded {
    octets: Vec<u8>,
    max: usize,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.octets.len() + octets.len() > self.max {
            self.is_full = true;
            return Err(io::Error::other("too long"));
        }
        self.octets.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(subject: &str, text: &str, html: &str) -> Template {
        Template {
            name: "t".to_owned(),
            subject: subject.to_owned(),
            text: text.to_owned(),
            html: html.to_owned(),
            updated_at: 0,
        }
    }

    fn filled(of: &Template, variables: serde_json::Value) -> Result<Made, String> {
        let templates = HashMap::from([(of.name.clone(), of.clone())]);
        let wanted = UseTemplate { name: of.name.clone(), variables: variables.as_object().unwrap().clone() };
        Filler::new(&templates).fill(&wanted)
    }

    #[test]
    fn variables_are_put_in_and_html_is_escaped() {
        let of = template(
            "Order {{ number }} for {{ who.name }}",
            "{% for item in items %}- {{ item }}\n{% endfor %}",
            "<p>{{ who.name }}</p>",
        );
        let variables = json!({ "number": 17, "who": { "name": "A & <b>" }, "items": ["x", "y"] });
        let made = filled(&of, variables).unwrap();
        assert_eq!(made.subject, "Order 17 for A & <b>");
        assert_eq!(made.text.as_deref(), Some("- x\n- y\n"));
        assert_eq!(made.html.as_deref(), Some("<p>A &amp; &lt;b&gt;</p>"));
    }

    #[test]
    fn a_variable_ends_no_header_field() {
        let made = filled(&template("Hello {{ a }}", "x", ""), json!({ "a": "b\r\nBcc: c@d.test" })).unwrap();
        assert_eq!((made.subject.as_str(), made.html), ("Hello b  Bcc: c@d.test", None));
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_by_name() {
        let error = filled(&template("x", "{{ wanted }}", ""), json!({})).unwrap_err();
        assert!(
            error.starts_with("text of template t: ") && error.contains("wanted is not among"),
            "{error}"
        );
        assert!(check(&template("{{ a", "", "")).unwrap_err().starts_with("subject: "));
        assert!(check(&template("{{ a }}", "{% if b %}c{% endif %}", "<p>")).is_ok());
    }

    #[test]
    fn work_and_length_are_bounded() {
        let endless = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        assert!(filled(&template("", endless, ""), json!({})).is_err());
        let long = "{% for a in range(5000) %}{{ b }}{% endfor %}";
        let error = filled(&template("", long, ""), json!({ "b": "x".repeat(1_000) }));
        assert!(error.unwrap_err().contains("more than 1048576 octets"));
        assert!(filled(&template(&"x".repeat(MAX_SUBJECT + 1), "", ""), json!({})).is_err());
    }

    #[test]
    fn the_templates_of_a_request_are_bounded_together() {
        let of = template("", "{% for a in range(900) %}{{ b }}{% endfor %}", "");
        let templates = HashMap::from([(of.name.clone(), of)]);
        let variables = json!({ "b": "x".repeat(1_000) }).as_object().unwrap().clone();
        let wanted = UseTemplate { name: "t".to_owned(), variables };
        let mut filler = Filler::new(&templates);
        let made = (0..100).take_while(|_| filler.fill(&wanted).is_ok()).count();
        assert_eq!(made, MAX_MADE_OF_ALL / 900_000);
        assert!(filler.fill(&wanted).unwrap_err().contains("octets"));
    }
}
