//! Templates: messages with places for what differs, in the language of Jinja (crate minijinja). What HTML is made
//! of is escaped; a variable that is missing is an error, not a gap; work and length are bounded.

use std::io;

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use serde::Deserialize;
use serde_json::Map;
use utoipa::ToSchema;

use crate::store::template::Template;

/// Steps that a template may take.
const FUEL: u64 = 100_000;
/// Octets that it may make.
const MAX_MADE: usize = 1 << 20;

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

/// Something of a template: what is said of it, its source, and how it is escaped.
const PLAIN: AutoEscape = AutoEscape::None;

/// Fills a template; what is wrong, when it cannot be.
pub fn fill(template: &Template, variables: &Map<String, serde_json::Value>) -> Result<Made, String> {
    let context = Value::from(Serde(variables));
    let part = |what: &str, source: &str, escape| {
        make(source, escape, &context).map_err(|why| format!("{what} of template {}: {why}", template.name))
    };
    let body = |what: &str, source: &str, escape| {
        if source.is_empty() { Ok(None) } else { part(what, source, escape).map(Some) }
    };
    // A subject is one line.
    let subject = part("subject", &template.subject, PLAIN)?;
    Ok(Made {
        subject: subject.split(['\r', '\n']).map(str::trim).collect::<Vec<_>>().join(" "),
        text: body("text", &template.text, PLAIN)?,
        html: body("html", &template.html, AutoEscape::Html)?,
    })
}

/// What is wrong with a template, whatever is put into it.
pub fn check(template: &Template) -> Result<(), String> {
    for (what, source) in [("subject", &template.subject), ("text", &template.text), ("html", &template.html)]
    {
        environment(PLAIN).template_from_str(source).map_err(|error| format!("{what}: {}", told(&error)))?;
    }
    Ok(())
}

fn environment(escape: AutoEscape) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(move |_| escape.clone());
    environment.set_fuel(Some(FUEL));
    environment
}

fn make(source: &str, escape: AutoEscape, context: &Value) -> Result<String, String> {
    let environment = environment(escape);
    let template = environment.template_from_str(source).map_err(|error| told(&error))?;
    let mut made = Bounded(Vec::new());
    template.render_captured_to(context, &mut made).map_err(|error| {
        let missing = |name: &String| context.get_attr(name).is_ok_and(|value| value.is_undefined());
        let mut missing: Vec<String> =
            template.undeclared_variables(false).into_iter().filter(missing).collect();
        missing.sort_unstable();
        if error.kind() == ErrorKind::UndefinedError && !missing.is_empty() {
            return format!("{}: {} is not among the variables", told(&error), missing.join(", "));
        }
        told(&error)
    })?;
    String::from_utf8(made.0).map_err(|_| "it is no UTF-8".to_owned())
}

/// An error in a line: what it is, and where.
fn told(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}

/// Octets up to a bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.0.len() + octets.len() > MAX_MADE {
            return Err(io::Error::other(format!("it makes more than {MAX_MADE} octets")));
        }
        self.0.extend_from_slice(octets);
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
        fill(of, variables.as_object().unwrap())
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
        assert!(error.is_err());
    }
}
