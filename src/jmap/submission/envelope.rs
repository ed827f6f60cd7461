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

/// An Address object: the address, and its parameters.
fn read_address(value: &Value) -> Result<(&str, Option<&Map<String, Value>>), SetError> {
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
fn parameters(given: Option<&Map<String, Value>>) -> Result<Vec<(String, Option<&str>)>, SetError> {
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

fn read_mail_parameters(envelope: &mut Envelope, given: Option<&Map<String, Value>>) -> Result<(), SetError> {
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
fn read_rcpt_parameters(
    given: Option<&Map<String, Value>>,
) -> Result<(Option<String>, Option<String>), SetError> {
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
