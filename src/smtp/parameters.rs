//! The parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET,
//! ENVID, NOTIFY and ORCPT (RFC 3461), AUTH (RFC 4954, 5), HOLDFOR and HOLDUNTIL (RFC 4865).

use std::fmt;

use crate::smtp::xtext::{decode_utf8_address, decode_xtext, encode_utf8_address, encode_xtext};
use crate::types::date::parse_date;

/// Why parameters were not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterError {
    /// No such parameter.
    Unknown,
    /// A value that the parameter does not allow, a missing value, or a parameter given twice.
    Invalid,
}

/// The content that a client announces (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Only octets below 128, or nothing said.
    #[default]
    SevenBit,
    /// Any octets, in lines.
    EightBitMime,
}

/// What a bounce shall contain (RFC 3461, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

impl Ret {
    /// The value of the parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        }
    }
}

/// When a message may leave (RFC 4865, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// After this many seconds.
    ForSeconds(u32),
    /// Not before this time, in milliseconds since 1970.
    UntilMs(i64),
}

/// The parameters of MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// Octets that the client is about to send.
    pub size: Option<u64>,
    /// The announced content; `None` when nothing was said.
    pub body: Option<Body>,
    /// Whether addresses and header may be UTF-8.
    pub smtputf8: bool,
    /// What a bounce shall contain.
    pub ret: Option<Ret>,
    /// The sender's mark for the envelope, decoded.
    pub envid: Option<String>,
    /// Who first submitted the message, decoded; `<>` for nobody known.
    pub auth: Option<String>,
    /// When the message may leave.
    pub hold: Option<Hold>,
}

/// When a recipient's fate is to be told (RFC 3461, 4.1). All false: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// When delivered.
    pub success: bool,
    /// When given up.
    pub failure: bool,
    /// When late.
    pub delay: bool,
}

impl Notify {
    /// Nothing at all.
    pub const NEVER: Notify = Notify { success: false, failure: false, delay: false };

    /// Reads the value of the parameter.
    pub fn parse(value: &str) -> Option<Notify> {
        if value.eq_ignore_ascii_case("never") {
            return Some(Notify::NEVER);
        }
        let mut notify = Notify::NEVER;
        for word in value.split(',') {
            match word.to_ascii_lowercase().as_str() {
                "success" => notify.success = true,
                "failure" => notify.failure = true,
                "delay" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Notify::NEVER {
            return f.write_str("NEVER");
        }
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let chosen: Vec<&str> = words.iter().filter(|(chosen, _)| *chosen).map(|(_, word)| *word).collect();
        f.write_str(&chosen.join(","))
    }
}

/// The address that the sender first wrote (RFC 3461, 4.2; RFC 6533, 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// The type of the address, in lower case: `rfc822` or `utf-8`, mostly.
    pub address_type: String,
    /// The address, decoded.
    pub address: String,
}

impl OriginalRecipient {
    /// Reads the value of the parameter: `rfc822;user+2Btag@example.test`.
    pub fn parse(value: &str) -> Option<OriginalRecipient> {
        let (address_type, address) = value.split_once(';')?;
        let address_type = address_type.to_ascii_lowercase();
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if address_type.is_empty() || address.is_empty() || !address_type.chars().all(legal) {
            return None;
        }
        let address =
            if address_type == "utf-8" { decode_utf8_address(address) } else { decode_xtext(address) }?;
        Some(OriginalRecipient { address_type, address })
    }

    /// Reads the form without encoding, in which queues and bounces have it (RFC 3464, 2.3.1).
    pub fn from_decoded(text: &str) -> Option<OriginalRecipient> {
        let (address_type, address) = text.split_once(';')?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if address_type.is_empty() || address.is_empty() || !address_type.chars().all(legal) {
            return None;
        }
        let address_type = address_type.to_ascii_lowercase();
        Some(OriginalRecipient { address_type, address: address.trim().to_owned() })
    }

    /// The form without encoding.
    pub fn decoded(&self) -> String {
        format!("{};{}", self.address_type, self.address)
    }
}

impl fmt::Display for OriginalRecipient {
    /// The value of the parameter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = if self.address_type == "utf-8" { encode_utf8_address } else { encode_xtext };
        write!(f, "{};{}", self.address_type, encode(&self.address))
    }
}

/// The parameters of RCPT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RcptParameters {
    /// What the sender wants to hear.
    pub notify: Option<Notify>,
    /// The address that the sender first wrote.
    pub orcpt: Option<OriginalRecipient>,
}

impl MailParameters {
    /// Reads what follows the reverse path: nothing, or a space and parameters.
    pub fn parse(text: &str) -> Result<MailParameters, ParameterError> {
        let mut found = MailParameters::default();
        for (keyword, value) in split(text)? {
            match keyword.as_str() {
                "SIZE" => set(&mut found.size, value.and_then(|value| digits(value, 20)))?,
                "BODY" => set(
                    &mut found.body,
                    value.and_then(|value| match value.to_ascii_uppercase().as_str() {
                        "7BIT" => Some(Body::SevenBit),
                        "8BITMIME" => Some(Body::EightBitMime),
                        _ => None,
                    }),
                )?,
                "SMTPUTF8" if value.is_none() && !found.smtputf8 => found.smtputf8 = true,
                "SMTPUTF8" => return Err(ParameterError::Invalid),
                "RET" => set(
                    &mut found.ret,
                    value.and_then(|value| match value.to_ascii_uppercase().as_str() {
                        "FULL" => Some(Ret::Full),
                        "HDRS" => Some(Ret::Headers),
                        _ => None,
                    }),
                )?,
                // RFC 3461, 4.4: at most 100 characters, encoded.
                "ENVID" => {
                    set(&mut found.envid, value.filter(|value| value.len() <= 100).and_then(decode_xtext))?;
                }
                "AUTH" => {
                    set(&mut found.auth, value.filter(|value| value.len() <= 500).and_then(decode_xtext))?;
                }
                // RFC 4865, 4: one to nine digits.
                "HOLDFOR" => set(
                    &mut found.hold,
                    value
                        .and_then(|value| digits(value, 9))
                        .and_then(|seconds| u32::try_from(seconds).ok())
                        .map(Hold::ForSeconds),
                )?,
                "HOLDUNTIL" => set(&mut found.hold, value.and_then(parse_date).map(Hold::UntilMs))?,
                _ => return Err(ParameterError::Unknown),
            }
        }
        Ok(found)
    }
}

impl RcptParameters {
    /// Reads what follows the forward path: nothing, or a space and parameters.
    pub fn parse(text: &str) -> Result<RcptParameters, ParameterError> {
        let mut found = RcptParameters::default();
        for (keyword, value) in split(text)? {
            match keyword.as_str() {
                "NOTIFY" => set(&mut found.notify, value.and_then(Notify::parse))?,
                // RFC 3461, 4.2: at most 500 characters.
                "ORCPT" => set(
                    &mut found.orcpt,
                    value.filter(|value| value.len() <= 500).and_then(OriginalRecipient::parse),
                )?,
                _ => return Err(ParameterError::Unknown),
            }
        }
        Ok(found)
    }
}

/// Cuts `SP keyword[=value]…` apart, keywords in upper case (RFC 5321, 4.1.2: esmtp-param).
fn split(text: &str) -> Result<Vec<(String, Option<&str>)>, ParameterError> {
    if !text.is_empty() && !text.starts_with(' ') {
        return Err(ParameterError::Invalid);
    }
    // Several spaces, and spaces at the end, are seen in the wild and mean nothing.
    text.split(' ').filter(|word| !word.is_empty()).map(keyword_and_value).collect()
}

fn keyword_and_value(word: &str) -> Result<(String, Option<&str>), ParameterError> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (word, None),
    };
    let legal_keyword = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let legal_value = value.is_none_or(|value| {
        !value.is_empty() && !value.chars().any(|c| c == '=' || c.is_control() || c.is_whitespace())
    });
    if legal_keyword && legal_value {
        Ok((keyword.to_ascii_uppercase(), value))
    } else {
        Err(ParameterError::Invalid)
    }
}

/// Fills a place that must still be empty with a value that must be there.
fn set<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), ParameterError> {
    match (&place, value) {
        (None, Some(value)) => {
            *place = Some(value);
            Ok(())
        }
        _ => Err(ParameterError::Invalid),
    }
}

fn digits(value: &str, max_len: usize) -> Option<u64> {
    if value.len() > max_len || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // RFC 1870, 4 allows twenty digits, more than 64 bits hold: as good as infinite.
    Some(value.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_mail() {
        let all = " SIZE=1000 body=8bitmime SMTPUTF8 RET=HDRS ENVID=a+2Bb AUTH=<> HOLDFOR=60";
        assert_eq!(
            MailParameters::parse(all),
            Ok(MailParameters {
                size: Some(1000),
                body: Some(Body::EightBitMime),
                smtputf8: true,
                ret: Some(Ret::Headers),
                envid: Some("a+b".to_owned()),
                auth: Some("<>".to_owned()),
                hold: Some(Hold::ForSeconds(60)),
            })
        );
        assert_eq!(
            MailParameters::parse(" HOLDUNTIL=1970-01-01T00:01:00Z").map(|found| found.hold),
            Ok(Some(Hold::UntilMs(60_000)))
        );
        let huge = MailParameters::parse(" SIZE=99999999999999999999").map(|found| found.size);
        assert_eq!(huge, Ok(Some(u64::MAX)));
        assert_eq!(MailParameters::parse("  "), Ok(MailParameters::default()));
    }

    #[test]
    fn parameters_of_rcpt() {
        let found = RcptParameters::parse(" NOTIFY=SUCCESS,delay ORCPT=RFC822;a+2Bb@x.test");
        let orcpt = OriginalRecipient { address_type: "rfc822".to_owned(), address: "a+b@x.test".to_owned() };
        assert_eq!(orcpt.to_string(), "rfc822;a+2Bb@x.test");
        assert_eq!(orcpt.decoded(), "rfc822;a+b@x.test");
        assert_eq!(OriginalRecipient::from_decoded("RFC822; a+b@x.test").as_ref(), Some(&orcpt));
        let notify = Notify { success: true, failure: false, delay: true };
        assert_eq!(notify.to_string(), "SUCCESS,DELAY");
        assert_eq!(found, Ok(RcptParameters { notify: Some(notify), orcpt: Some(orcpt) }));
        let utf8 = OriginalRecipient::parse("utf-8;j\\x{E9}@x.test");
        assert_eq!(utf8.map(|orcpt| orcpt.address).as_deref(), Some("j\u{e9}@x.test"));
    }

    #[test]
    fn wrong_parameters_are_told_apart() {
        for invalid in [
            "x",
            " SIZE",
            " SIZE=",
            " SIZE=1 SIZE=2",
            " SIZE=-1",
            " SIZE=123456789012345678901",
            " BODY=BINARYMIME",
            " SMTPUTF8=1",
            " RET=SOME",
            " ENVID=a=b",
            " HOLDFOR=1 HOLDUNTIL=2030-01-01T00:00:00Z",
            " HOLDFOR=1234567890",
            " HOLDUNTIL=tomorrow",
            " =",
            " \u{e9}=1",
        ] {
            assert_eq!(MailParameters::parse(invalid), Err(ParameterError::Invalid), "{invalid}");
        }
        assert_eq!(MailParameters::parse(" X-MAGIC=1"), Err(ParameterError::Unknown));
        for invalid in [" NOTIFY=NEVER,SUCCESS", " NOTIFY=", " ORCPT=a@x.test", " ORCPT=;a", " ORCPT=rfc822;"]
        {
            assert_eq!(RcptParameters::parse(invalid), Err(ParameterError::Invalid), "{invalid}");
        }
        assert_eq!(RcptParameters::parse(" RRVS=1"), Err(ParameterError::Unknown));
    }
}
