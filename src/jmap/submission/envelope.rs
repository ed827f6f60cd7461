//! The Envelope of a submission (RFC 8621, 7): given by the client, or made of the Email's header;
//! with the parameters of the SMTP extensions that are offered (RFC 1870, 3461, 4865, 6152, 6531).
//!
//! In JSON, parameter values are decoded: there is no xtext here.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::jmap::error::SetError;
use crate::jmap::identity::is_same;
use crate::jmap::limits::{MAX_DELAYED_SEND, MAX_RECIPIENTS};
use crate::jmap::submission::message::Header;
use crate::types::address::Address;
use crate::types::date::parse_date;
use crate::types::envelope::DsnReturn;

/// An envelope whose form is right; whether the sender may use it is not decided here.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The return address; `None` is the null path.
    pub mail_from: Option<Mailbox>,
    /// ENVID.
    pub env_id: Option<String>,
    /// RET.
    pub ret: Option<DsnReturn>,
    /// HOLDFOR or HOLDUNTIL.
    pub hold: Option<Hold>,
    /// One to `MAX_RECIPIENTS`, none twice.
    pub recipients: Vec<Recipient>,
    /// As clients see it.
    pub json: Value,
}

/// When a message may leave (RFC 4865).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// After so many milliseconds.
    ForMs(i64),
    /// Not before this time, in milliseconds since 1970.
    UntilMs(i64),
}

/// An address as it was written, and as a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// As written.
    pub text: String,
    /// As a key.
    pub address: Address,
}

/// A recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Its address.
    pub mailbox: Mailbox,
    /// NOTIFY, in upper case.
    pub notify: Option<String>,
    /// ORCPT, decoded.
    pub orcpt: Option<String>,
}

impl Mailbox {
    fn parse(text: &str) -> Option<Mailbox> {
        Some(Mailbox { text: text.to_owned(), address: Address::parse(text).ok()? })
    }

    /// The address in ASCII where that can be: a domain has an ASCII form, a local part has none
    /// (RFC 6531, 3.2).
    pub fn on_the_wire(&self) -> String {
        match self.text.rsplit_once('@') {
            Some((local, domain)) if local.is_ascii() && !domain.is_ascii() => {
                format!("{local}@{}", self.address.domain())
            }
            _ => self.text.clone(),
        }
    }
}

fn invalid(why: impl Into<String>) -> SetError {
    SetError::invalid("envelope", why)
}

impl Envelope {
    /// Reads what a client gave.
    pub fn read(value: &Value) -> Result<Envelope, SetError> {
        let object = members(value, &["mailFrom", "rcptTo"])?;
        let (Some(from), Some(Value::Array(to))) = (object.get("mailFrom"), object.get("rcptTo")) else {
            return Err(invalid("it has a mailFrom and a list rcptTo"));
        };
        let (from, from_parameters) = read_address(from)?;
        let mail_from = match from {
            // RFC 8621, 7: the null path, with which notifications go out.
            "" => None,
            text => Some(Mailbox::parse(text).ok_or_else(|| invalid("mailFrom is no address"))?),
        };
        if to.len() > MAX_RECIPIENTS {
            return Err(too_many_recipients());
        }
        let mut shown = Vec::with_capacity(to.len());
        let mut given = Vec::with_capacity(to.len());
        for item in to {
            let (email, parameters) = read_address(item)?;
            shown.push(json!({"email": email, "parameters": parameters}));
            let (notify, orcpt) = read_rcpt_parameters(parameters)?;
            given.push((email, notify, orcpt));
        }
        let mut envelope = Envelope {
            mail_from,
            env_id: None,
            ret: None,
            hold: None,
            recipients: distinct(given)?,
            json: json!({"mailFrom": {"email": from, "parameters": from_parameters}, "rcptTo": shown}),
        };
        read_mail_parameters(&mut envelope, from_parameters)?;
        Ok(envelope)
    }

    /// Makes one of a header whose authors were found in order, and of the Identity's address.
    pub fn of_header(header: &Header, identity_email: &str) -> Result<Envelope, SetError> {
        let found = header.sender.last().or(header.from.last()).and_then(|emails| emails.first());
        let found = found.and_then(|email| Mailbox::parse(email));
        let identity = Mailbox::parse(identity_email);
        // RFC 8621, 7: what the Identity does not allow gives way to the Identity's own address.
        let is_allowed = |mailbox: &Mailbox| {
            identity.as_ref().is_some_and(|identity| is_same(&mailbox.address, &identity.address))
        };
        let mail_from = found.filter(is_allowed).or(identity.clone());
        let Some(mail_from) = mail_from else { return Err(forbidden_mail_from()) };
        let given = header.recipients.iter().map(|email| (email.as_str(), None, None));
        let recipients = distinct(given)?;
        let address = |mailbox: &Mailbox| json!({"email": mailbox.text, "parameters": null});
        let shown: Vec<Value> = recipients.iter().map(|recipient| address(&recipient.mailbox)).collect();
        let json = json!({"mailFrom": address(&mail_from), "rcptTo": shown});
        Ok(Envelope { mail_from: Some(mail_from), env_id: None, ret: None, hold: None, recipients, json })
    }

    /// When the message leaves, in milliseconds since 1970.
    pub fn send_at(&self, now_ms: i64) -> Result<i64, SetError> {
        let send_at = match self.hold {
            None => now_ms,
            Some(Hold::ForMs(ms)) => now_ms.saturating_add(ms),
            // RFC 4865, 4: a time that is past already delays nothing.
            Some(Hold::UntilMs(until)) => until.max(now_ms),
        };
        if send_at.saturating_sub(now_ms) > MAX_DELAYED_SEND * 1000 {
            let text = format!("a message is held for at most {MAX_DELAYED_SEND} seconds: maxDelayedSend");
            return Err(invalid(text));
        }
        Ok(send_at)
    }
}

/// The envelope sender is not one that the user may use.
pub fn forbidden_mail_from() -> SetError {
    SetError::new("forbiddenMailFrom").because("mailFrom is not an address of yours")
}

fn too_many_recipients() -> SetError {
    let text = format!("a message goes to at most {MAX_RECIPIENTS} recipients");
    SetError::new("tooManyRecipients").because(text).with("maxRecipients", json!(MAX_RECIPIENTS))
}

/// The recipients, each once; the first of equal ones counts.
fn distinct<'a>(
    given: impl IntoIterator<Item = (&'a str, Option<String>, Option<String>)>,
) -> Result<Vec<Recipient>, SetError> {
    let mut seen = HashSet::new();
    let mut seen_wrong = HashSet::new();
    let (mut recipients, mut wrong) = (Vec::new(), Vec::new());
    for (email, notify, orcpt) in given {
        match Mailbox::parse(email) {
            Some(mailbox) if seen.insert(mailbox.address.clone()) => {
                recipients.push(Recipient { mailbox, notify, orcpt });
            }
            Some(_) => {}
            None if seen_wrong.insert(email) => wrong.push(email),
            None => {}
        }
        if recipients.len() + wrong.len() > MAX_RECIPIENTS {
            return Err(too_many_recipients());
        }
    }
    if !wrong.is_empty() {
        let text = "these are no addresses that mail can be sent to";
        return Err(SetError::new("invalidRecipients").because(text).with("invalidRecipients", json!(wrong)));
    }
    if recipients.is_empty() {
        return Err(SetError::new("noRecipients").because("there is nobody to send the message to"));
    }
    Ok(recipients)
}

fn members<'a>(value: &'a Value, names: &[&str]) -> Result<&'a Map<String, Value>, SetError> {
    let Value::Object(object) = value else {
        return Err(invalid("it, and each address in it, is an object"));
    };
    match object.keys().find(|key| !names.contains(&key.as_str())) {
        None => Ok(object),
        Some(unknown) => Err(invalid(format!("{unknown:?} is unknown"))),
    }
}

/// The parameters of an address as they were given.
type Parameters<'a> = Option<&'a Map<String, Value>>;

/// An Address object: the address, and its parameters.
fn read_address(value: &Value) -> Result<(&str, Parameters<'_>), SetError> {
    let object = members(value, &["email", "parameters"])?;
    let Some(Value::String(email)) = object.get("email") else {
        return Err(invalid("an address has an email"));
    };
    match object.get("parameters") {
        None | Some(Value::Null) => Ok((email, None)),
        Some(Value::Object(parameters)) => Ok((email, Some(parameters))),
        Some(_) => Err(invalid("parameters are an object or null")),
    }
}

/// Names in upper case with their values; none twice.
fn parameters(given: Parameters<'_>) -> Result<Vec<(String, Option<&str>)>, SetError> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for (name, value) in given.into_iter().flatten() {
        let name = name.to_ascii_uppercase();
        let value = match value {
            Value::Null => None,
            Value::String(text) if !text.chars().any(char::is_control) => Some(text.as_str()),
            _ => return Err(wrong_value(&name)),
        };
        if !seen.insert(name.clone()) {
            return Err(invalid(format!("the parameter {name} stands twice")));
        }
        out.push((name, value));
    }
    Ok(out)
}

fn wrong_value(name: &str) -> SetError {
    invalid(format!("the parameter {name} does not have this value"))
}

fn unknown_parameter(name: &str) -> SetError {
    invalid(format!("the parameter {name} is not supported here; submissionExtensions lists what is"))
}

fn read_mail_parameters(envelope: &mut Envelope, given: Parameters<'_>) -> Result<(), SetError> {
    for (name, value) in parameters(given)? {
        let wrong = || wrong_value(&name);
        match (name.as_str(), value) {
            // RFC 1870, 4. The size is known better here, as is what the message is made of.
            ("SIZE", Some(value)) => drop(digits(value, 20).ok_or_else(wrong)?),
            ("BODY", Some(value)) if is_one_of(value, &["7BIT", "8BITMIME"]) => {}
            ("SMTPUTF8", None) => {}
            ("AUTH", Some(value)) if value.len() <= 500 => {}
            ("RET", Some(value)) if is_one_of(value, &["FULL"]) => envelope.ret = Some(DsnReturn::Full),
            ("RET", Some(value)) if is_one_of(value, &["HDRS"]) => envelope.ret = Some(DsnReturn::Headers),
            // RFC 3461, 4.4.
            ("ENVID", Some(value)) if (1..=100).contains(&value.len()) => {
                envelope.env_id = Some(value.to_owned());
            }
            ("HOLDFOR" | "HOLDUNTIL", Some(_)) if envelope.hold.is_some() => {
                return Err(invalid("HOLDFOR and HOLDUNTIL exclude each other"));
            }
            // RFC 4865, 4: one to nine digits.
            ("HOLDFOR", Some(value)) => {
                envelope.hold = Some(Hold::ForMs(digits(value, 9).ok_or_else(wrong)? * 1000));
            }
            ("HOLDUNTIL", Some(value)) => {
                envelope.hold = Some(Hold::UntilMs(parse_date(value).ok_or_else(wrong)?));
            }
            ("SIZE" | "BODY" | "SMTPUTF8" | "AUTH" | "RET" | "ENVID" | "HOLDFOR" | "HOLDUNTIL", _) => {
                return Err(wrong());
            }
            _ => return Err(unknown_parameter(&name)),
        }
    }
    Ok(())
}

/// NOTIFY and ORCPT.
fn read_rcpt_parameters(given: Parameters<'_>) -> Result<(Option<String>, Option<String>), SetError> {
    let (mut notify, mut orcpt) = (None, None);
    for (name, value) in parameters(given)? {
        match (name.as_str(), value) {
            ("NOTIFY", Some(value)) if is_notify(value) => notify = Some(value.to_ascii_uppercase()),
            ("ORCPT", Some(value)) if is_original_recipient(value) => orcpt = Some(value.to_owned()),
            ("NOTIFY" | "ORCPT", _) => return Err(wrong_value(&name)),
            _ => return Err(unknown_parameter(&name)),
        }
    }
    Ok((notify, orcpt))
}

/// RFC 3461, 4.1: NEVER, or what to tell of, each once.
fn is_notify(value: &str) -> bool {
    let words: Vec<String> = value.split(',').map(str::to_ascii_uppercase).collect();
    let is_once = |word: &String| words.iter().filter(|other| *other == word).count() == 1;
    words == ["NEVER"]
        || (words.len() <= 3
            && words.iter().all(|word| is_one_of(word, &["SUCCESS", "FAILURE", "DELAY"]) && is_once(word)))
}

/// RFC 3461, 4.2: an address type, `;` and an address.
fn is_original_recipient(value: &str) -> bool {
    let is_type = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    value.len() <= 500
        && value
            .split_once(';')
            .is_some_and(|(address_type, address)| is_type(address_type) && !address.is_empty())
}

fn is_one_of(value: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

fn digits(value: &str, max_len: usize) -> Option<i64> {
    let legal = (1..=max_len).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    // Twenty digits do not fit: as good as infinite.
    legal.then(|| value.parse().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_750_000_000_000;

    fn with(from: Value, to: Value) -> Result<Envelope, SetError> {
        Envelope::read(&json!({"mailFrom": from, "rcptTo": to}))
    }

    fn to(emails: &[&str]) -> Value {
        emails.iter().map(|email| json!({"email": email})).collect()
    }

    fn mail(parameters: Value) -> Result<Envelope, SetError> {
        with(json!({"email": "a@x.test", "parameters": parameters}), to(&["b@x.test"]))
    }

    fn kind(result: Result<Envelope, SetError>) -> &'static str {
        result.map_or_else(|error| error.kind, |_| "none")
    }

    fn header(from: &[&str], sender: &[&str], recipients: &[&str]) -> Header {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Header {
            from: vec![texts(from)],
            sender: if sender.is_empty() { Vec::new() } else { vec![texts(sender)] },
            recipients: texts(recipients),
            ..Header::default()
        }
    }

    #[test]
    fn a_given_envelope_is_kept_as_it_came() {
        let given = json!({
            "mailFrom": {"email": "A@x.test", "parameters": {"envid": "m 1", "RET": "hdrs", "HOLDFOR": "60"}},
            "rcptTo": [
                {"email": "b@X.test", "parameters": {"NOTIFY": "delay,success", "orcpt": "rfc822;o+1@x.test"}},
                {"email": "B@x.test", "parameters": null},
                {"email": "c@x.test"},
            ],
        });
        let envelope = Envelope::read(&given).unwrap();
        let mut shown = given.clone();
        shown["rcptTo"][2]["parameters"] = Value::Null;
        assert_eq!(envelope.json, shown);
        assert_eq!(envelope.env_id.as_deref(), Some("m 1"));
        assert_eq!(envelope.ret, Some(DsnReturn::Headers));
        assert_eq!(envelope.send_at(NOW), Ok(NOW + 60_000));
        let recipients: Vec<&str> =
            envelope.recipients.iter().map(|recipient| recipient.mailbox.text.as_str()).collect();
        assert_eq!(recipients, ["b@X.test", "c@x.test"], "one spelling of an address is enough");
        assert_eq!(envelope.recipients[0].notify.as_deref(), Some("DELAY,SUCCESS"));
        assert_eq!(envelope.recipients[0].orcpt.as_deref(), Some("rfc822;o+1@x.test"));
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for wrong in [
            json!("x"),
            json!({}),
            json!({"mailFrom": {"email": "a@x.test"}}),
            json!({"mailFrom": {"email": "a@x.test"}, "rcptTo": {}}),
            json!({"mailFrom": {"email": "a@x.test"}, "rcptTo": [], "more": 1}),
            json!({"mailFrom": "a@x.test", "rcptTo": []}),
            json!({"mailFrom": {"email": 1}, "rcptTo": []}),
            json!({"mailFrom": {"email": "nobody"}, "rcptTo": []}),
            json!({"mailFrom": {"email": "a@x.test"}, "rcptTo": ["b@x.test"]}),
            json!({"mailFrom": {"email": "a@x.test", "parameters": []}, "rcptTo": []}),
        ] {
            let error = Envelope::read(&wrong).unwrap_err();
            assert_eq!(
                (error.kind, error.properties.clone()),
                ("invalidProperties", vec!["envelope".to_owned()]),
                "{wrong}"
            );
        }
    }

    #[test]
    fn recipients_are_counted_and_checked() {
        let from = json!({"email": "a@x.test"});
        assert_eq!(kind(with(from.clone(), to(&[]))), "noRecipients");
        let error = with(from.clone(), to(&["b@x.test", "nobody", "", "a@b\r\nRCPT", "nobody"])).unwrap_err();
        assert_eq!(error.kind, "invalidRecipients");
        assert_eq!(error.more["invalidRecipients"], json!(["nobody", "", "a@b\r\nRCPT"]));
        let many: Vec<String> = (0..=MAX_RECIPIENTS).map(|number| format!("{number}@x.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = with(from.clone(), to(&many)).unwrap_err();
        assert_eq!((error.kind, &error.more["maxRecipients"]), ("tooManyRecipients", &json!(MAX_RECIPIENTS)));
        assert_eq!(kind(with(from, to(&many[1..]))), "none");
        let error = Envelope::of_header(&header(&["a@x.test"], &[], &many), "a@x.test").unwrap_err();
        assert_eq!(error.kind, "tooManyRecipients");
        let none = Envelope::of_header(&header(&["a@x.test"], &[], &[]), "a@x.test");
        assert_eq!(kind(none), "noRecipients");
        let nobody = Envelope::of_header(&header(&["a@x.test"], &[], &["nobody"]), "a@x.test");
        assert_eq!(kind(nobody), "invalidRecipients");
    }

    #[test]
    fn parameters_are_those_that_are_offered() {
        for legal in [
            json!({}),
            json!({"SIZE": "99999999999999999999", "BODY": "8bitmime", "SMTPUTF8": null, "AUTH": "<>"}),
            json!({"RET": "FULL", "ENVID": "x"}),
            json!({"HOLDFOR": "0"}),
            json!({"HOLDUNTIL": "2025-07-01T00:00:00Z"}),
        ] {
            assert_eq!(kind(mail(legal.clone())), "none", "{legal}");
        }
        for wrong in [
            json!({"SIZE": null}),
            json!({"SIZE": 5}),
            json!({"SIZE": "5", "size": "5"}),
            json!({"BODY": "BINARYMIME"}),
            json!({"SMTPUTF8": ""}),
            json!({"RET": "x"}),
            json!({"ENVID": ""}),
            json!({"ENVID": "x\r\nRCPT TO:<y>"}),
            json!({"ENVID": "x".repeat(101)}),
            json!({"HOLDFOR": "-1"}),
            json!({"HOLDFOR": "1234567890"}),
            json!({"HOLDFOR": "1", "HOLDUNTIL": "2030-01-01T00:00:00Z"}),
            json!({"HOLDUNTIL": "tomorrow"}),
            json!({"NOTIFY": "NEVER"}),
            json!({"X-MAGIC": "1"}),
        ] {
            assert_eq!(kind(mail(wrong.clone())), "invalidProperties", "{wrong}");
        }
        for wrong in [
            json!({"NOTIFY": "NEVER,SUCCESS"}),
            json!({"NOTIFY": "SUCCESS,success"}),
            json!({"NOTIFY": ""}),
            json!({"ORCPT": "a@x.test"}),
            json!({"ORCPT": "rfc822;"}),
            json!({"HOLDFOR": "1"}),
        ] {
            let rcpt = json!([{"email": "b@x.test", "parameters": wrong.clone()}]);
            assert_eq!(kind(with(json!({"email": "a@x.test"}), rcpt)), "invalidProperties", "{wrong}");
        }
    }

    #[test]
    fn a_hold_ends_within_the_limit() {
        let send_at = |parameters| mail(parameters).and_then(|envelope| envelope.send_at(NOW));
        assert_eq!(
            send_at(json!({"HOLDFOR": MAX_DELAYED_SEND.to_string()})),
            Ok(NOW + MAX_DELAYED_SEND * 1000)
        );
        let beyond = send_at(json!({"HOLDFOR": (MAX_DELAYED_SEND + 1).to_string()}));
        assert_eq!(beyond.map_err(|error| error.properties.clone()), Err(vec!["envelope".to_owned()]));
        assert_eq!(
            send_at(json!({"HOLDUNTIL": "2001-01-01T00:00:00Z"})),
            Ok(NOW),
            "what is past holds nothing"
        );
        assert!(send_at(json!({"HOLDUNTIL": "9999-01-01T00:00:00Z"})).is_err());
    }

    #[test]
    fn the_sender_of_a_header_gives_way_to_the_identity() {
        let mail_from = |from: &[&str], sender: &[&str]| {
            let header = header(from, sender, &["b@x.test"]);
            let envelope = Envelope::of_header(&header, "alice@x.test").unwrap();
            let text = envelope.mail_from.unwrap().text;
            assert_eq!(envelope.json["mailFrom"], json!({"email": text, "parameters": null}));
            assert_eq!(envelope.json["rcptTo"], json!([{"email": "b@x.test", "parameters": null}]));
            text
        };
        assert_eq!(mail_from(&["Alice@X.test"], &[]), "Alice@X.test");
        assert_eq!(mail_from(&["alice+news@x.test"], &[]), "alice+news@x.test");
        assert_eq!(mail_from(&["team@x.test"], &["alice+a@x.test"]), "alice+a@x.test");
        assert_eq!(mail_from(&["alice@x.test"], &["other@x.test"]), "alice@x.test");
        assert_eq!(mail_from(&["other@x.test"], &[]), "alice@x.test");
    }

    #[test]
    fn domains_travel_in_ascii_where_the_rest_is() {
        let wire = |text| Mailbox::parse(text).unwrap().on_the_wire();
        assert_eq!(wire("Bob@B\u{fc}cher.example"), "Bob@xn--bcher-kva.example");
        assert_eq!(wire("j\u{f6}rg@b\u{fc}cher.example"), "j\u{f6}rg@b\u{fc}cher.example");
        assert_eq!(wire("\"b ob\"@X.test"), "\"b ob\"@X.test");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(|number| json!(number)),
            prop_oneof![Just("a@x.test"), Just(""), Just("b"), Just("1"), Just("FULL")]
                .prop_map(|text| json!(text)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = prop_oneof![
                Just("mailFrom"),
                Just("rcptTo"),
                Just("email"),
                Just("parameters"),
                Just("HOLDFOR"),
                Just("RET"),
            ];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((key, inner), 0..4).prop_map(|members| members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_is_an_envelope_or_an_error(value in any_json()) {
            if let Ok(envelope) = Envelope::read(&value) {
                prop_assert!((1..=MAX_RECIPIENTS).contains(&envelope.recipients.len()));
                prop_assert_eq!(Envelope::read(&envelope.json), Ok(envelope.clone()));
            }
        }

        /// The generated recipients are the given ones without doubles, in their order.
        #[test]
        fn generated_recipients_are_a_set(places in proptest::collection::vec((0..6u8, any::<bool>()), 1..20)) {
            let emails: Vec<String> = places
                .iter()
                .map(|(number, is_upper)| format!("{}{number}@x.test", if *is_upper { "A" } else { "a" }))
                .collect();
            let list: Vec<&str> = emails.iter().map(String::as_str).collect();
            let envelope = Envelope::of_header(&header(&["s@x.test"], &[], &list), "s@x.test").unwrap();
            let mut expected: Vec<String> = Vec::new();
            for email in &emails {
                if !expected.contains(&email.to_lowercase()) {
                    expected.push(email.to_lowercase());
                }
            }
            let found: Vec<String> =
                envelope.recipients.iter().map(|recipient| recipient.mailbox.address.to_string()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
