//! The `Authentication-Results` field (RFC 8601) from plain values.
//!
//! It judges nothing: whoever verified SPF, DKIM, DMARC and ARC hands in words and names. Values
//! come from strangers; whatever is no legal token is quoted, and control characters are dropped,
//! so that no value can end the field or begin another result.

/// The outcome of one method, in the words of RFC 8601, 2.7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The method has nothing to check.
    None,
    /// Verified.
    Pass,
    /// Verified to be wrong.
    Fail,
    /// SPF: wrong, but the domain does not ask for refusal.
    SoftFail,
    /// The domain makes no assertion.
    Neutral,
    /// Verified, but not by a rule that counts here.
    Policy,
    /// May be right at a later try.
    TempError,
    /// Cannot become right.
    PermError,
}

impl Outcome {
    /// The word of the RFC.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::None => "none",
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::SoftFail => "softfail",
            Outcome::Neutral => "neutral",
            Outcome::Policy => "policy",
            Outcome::TempError => "temperror",
            Outcome::PermError => "permerror",
        }
    }
}

/// One method with what it looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MethodResult<'a> {
    /// `spf`, `dkim`, `dmarc`, `arc`, `auth`.
    pub method: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, in words; empty when there is nothing to say.
    pub reason: &'a str,
    /// `ptype.property` and value, such as `smtp.mailfrom` and an address. Empty values are left out.
    pub properties: Vec<(&'static str, &'a str)>,
}

/// An SPF check: of MAIL FROM, or of HELO when the sender is null (RFC 7208, 2.4).
pub fn spf<'a>(outcome: Outcome, mail_from: &'a str, helo: &'a str) -> MethodResult<'a> {
    let property = if mail_from.is_empty() { ("smtp.helo", helo) } else { ("smtp.mailfrom", mail_from) };
    MethodResult { method: "spf", outcome, reason: "", properties: vec![property] }
}

/// A DKIM signature: its domain, its selector, and the first characters of its `b=` in base64,
/// which tell several signatures apart (RFC 6008).
pub fn dkim<'a>(
    outcome: Outcome,
    reason: &'a str,
    domain: &'a str,
    selector: &'a str,
    signature_start: &'a str,
) -> MethodResult<'a> {
    let properties = vec![("header.d", domain), ("header.s", selector), ("header.b", signature_start)];
    MethodResult { method: "dkim", outcome, reason, properties }
}

/// A DMARC evaluation: the domain of From, and the policy that the domain asks for.
pub fn dmarc<'a>(outcome: Outcome, from_domain: &'a str, policy: &'a str) -> MethodResult<'a> {
    let properties = vec![("header.from", from_domain), ("policy.dmarc", policy)];
    MethodResult { method: "dmarc", outcome, reason: "", properties }
}

/// An ARC chain as it arrived from `remote_ip` (RFC 8617, 4.1.1 and 5.2).
pub fn arc<'a>(outcome: Outcome, remote_ip: &'a str) -> MethodResult<'a> {
    MethodResult { method: "arc", outcome, reason: "", properties: vec![("smtp.remote-ip", remote_ip)] }
}

/// The value of the field, folded; `none` stands in it when nothing was checked (RFC 8601, 2.2).
pub fn authentication_results(authserv_id: &str, results: &[MethodResult<'_>]) -> String {
    let mut out = pvalue(authserv_id);
    if results.is_empty() {
        out.push_str("; none");
    }
    for result in results {
        out.push_str(";\r\n\t");
        let mut column = 8;
        push_folded(&mut out, &mut column, &format!("{}={}", result.method, result.outcome.word()));
        if !result.reason.is_empty() {
            push_folded(&mut out, &mut column, &format!("reason={}", quoted(result.reason)));
        }
        for (property, value) in result.properties.iter().filter(|(_, value)| !value.is_empty()) {
            push_folded(&mut out, &mut column, &format!("{property}={}", pvalue(value)));
        }
    }
    out
}

/// Longest value that is repeated, in characters: the longest address.
const MAX_VALUE_CHARS: usize = 320;

fn push_folded(out: &mut String, column: &mut usize, item: &str) {
    let is_first = out.ends_with('\t');
    if !is_first && *column + 1 + item.len() > 78 {
        out.push_str("\r\n\t");
        *column = 8;
    } else if !is_first {
        out.push(' ');
        *column += 1;
    }
    out.push_str(item);
    *column += item.len();
}

/// A value as it stands when it is a token, a domain or an address of plain characters, else
/// quoted (RFC 8601, 2.2: pvalue).
fn pvalue(value: &str) -> String {
    // RFC 2045, 5.1: what a token may not hold. The at sign is legal between two plain halves.
    let plain = |c: char| c.is_ascii_graphic() && !"()<>,;:\\\"/[]?=@".contains(c);
    let is_plain = |text: &str| !text.is_empty() && text.len() <= MAX_VALUE_CHARS && text.chars().all(plain);
    let legal = match value.split_once('@') {
        Some((local, domain)) => (local.is_empty() || is_plain(local)) && is_plain(domain),
        None => is_plain(value),
    };
    if legal { value.to_owned() } else { quoted(value) }
}

fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars().filter(|c| !c.is_control()).take(MAX_VALUE_CHARS) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_methods_in_one_field() {
        let results = [
            spf(Outcome::Pass, "alice@example.test", "mx.example.test"),
            dkim(Outcome::Fail, "body hash did not verify", "example.test", "s1", "AbCd+/12"),
            dmarc(Outcome::Pass, "example.test", "reject"),
            arc(Outcome::None, "2001:db8::1"),
        ];
        assert_eq!(
            authentication_results("mx.postrider.test", &results),
            "mx.postrider.test;\r\n\tspf=pass smtp.mailfrom=alice@example.test;\r\n\tdkim=fail \
             reason=\"body hash did not verify\" header.d=example.test\r\n\theader.s=s1 \
             header.b=\"AbCd+/12\";\r\n\tdmarc=pass header.from=example.test policy.dmarc=reject;\r\n\t\
             arc=none smtp.remote-ip=\"2001:db8::1\""
        );
        assert_eq!(authentication_results("mx.test", &[]), "mx.test; none");
    }

    #[test]
    fn a_null_sender_is_judged_by_its_greeting() {
        let result = authentication_results("mx.test", &[spf(Outcome::Neutral, "", "host.test")]);
        assert_eq!(result, "mx.test;\r\n\tspf=neutral smtp.helo=host.test");
    }

    #[test]
    fn values_cannot_add_results() {
        let hostile = "x;\r\n dkim=pass header.d=bank.test\r\nSubject: hi\0\"\\";
        let text = authentication_results("mx.test", &[spf(Outcome::Fail, hostile, "")]);
        assert_eq!(
            text,
            "mx.test;\r\n\tspf=fail\r\n\tsmtp.mailfrom=\"x; dkim=pass header.d=bank.testSubject: hi\\\"\\\\\""
        );
        let long = "x".repeat(5000);
        let text = authentication_results("mx.test", &[spf(Outcome::Fail, &long, "")]);
        assert!(text.lines().all(|line| line.len() <= 998));
    }
}
