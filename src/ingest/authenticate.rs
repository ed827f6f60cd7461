//! Who a message really comes from: SPF, DKIM, DMARC and ARC (RFC 7208, 6376, 7489, 8617), told in
//! one Authentication-Results field (RFC 8601) and in what it means for filing.

use std::net::IpAddr;
use std::time::Duration;

use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DmarcOutput, DmarcResult, MessageAuthenticator, SpfResult,
};

use crate::mail::auth_results::{self, MethodResult, Outcome, authentication_results};
use crate::types::envelope::IncomingEnvelope;

/// For all look-ups of one message together.
const TIME: Duration = Duration::from_secs(30);
/// Signatures that a message may have. Each costs look-ups, and more than a few are an attack.
const MAX_SIGNATURES: usize = 10;
/// Header fields, and octets of them, above which nothing is verified: the cost of a signature grows
/// with the product of the fields and the names that it signs.
const MAX_FIELDS: usize = 1_000;
const MAX_HEADER: usize = 128 * 1024;

/// What came of the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The value of the field.
    pub authentication_results: String,
    /// The sender's domain asks that such mail be quarantined or refused (DMARC).
    pub is_suspicious: bool,
    /// Some look-up failed for now: another try may tell more.
    pub is_temporary: bool,
}

/// Checks a message that a stranger brought.
pub async fn authenticate(
    authenticator: &MessageAuthenticator,
    hostname: &str,
    envelope: &IncomingEnvelope,
    remote_ip: IpAddr,
    message: &[u8],
) -> Verdict {
    match tokio::time::timeout(TIME, check(authenticator, hostname, envelope, remote_ip, message)).await {
        Ok(verdict) => verdict,
        Err(_) => Verdict {
            authentication_results: authentication_results(
                hostname,
                &[auth_results::spf(Outcome::TempError, &envelope.mail_from, &envelope.helo)],
            ),
            is_suspicious: false,
            is_temporary: true,
        },
    }
}

async fn check(
    authenticator: &MessageAuthenticator,
    hostname: &str,
    envelope: &IncomingEnvelope,
    remote_ip: IpAddr,
    message: &[u8],
) -> Verdict {
    let mail_from = envelope.mail_from.as_str();
    let parameters = if mail_from.is_empty() {
        SpfParameters::verify_ehlo(remote_ip, &envelope.helo, hostname)
    } else {
        SpfParameters::verify_mail_from(remote_ip, &envelope.helo, hostname, mail_from)
    };
    let spf = authenticator.verify_spf(parameters).await;
    let spf_outcome = outcome_of_spf(spf.result());
    let mut results = vec![auth_results::spf(spf_outcome, mail_from, &envelope.helo)];
    let remote = remote_ip.to_string();
    let Some(parsed) = AuthenticatedMessage::parse(message) else {
        return Verdict {
            authentication_results: authentication_results(hostname, &results),
            is_suspicious: false,
            is_temporary: spf_outcome == Outcome::TempError,
        };
    };
    // Counted as the verifier counts, so that two parsers cannot disagree.
    let fields = parsed.raw_parsed_headers();
    let is_signature = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(b"dkim-signature");
    let signatures = fields.iter().filter(|(name, _)| is_signature(name)).count();
    if fields.len() > MAX_FIELDS || parsed.raw_headers().len() > MAX_HEADER || signatures > MAX_SIGNATURES {
        return Verdict {
            authentication_results: authentication_results(hostname, &results),
            // Else an overlong header would be a way round DMARC.
            is_suspicious: true,
            is_temporary: false,
        };
    }
    let dkim = authenticator.verify_dkim(&parsed).await;
    let arc = authenticator.verify_arc(&parsed).await;
    let sender_domain = mail_from.rsplit_once('@').map_or(envelope.helo.as_str(), |(_, domain)| domain);
    let dmarc = authenticator.verify_dmarc(DmarcParameters::new(&parsed, &dkim, sender_domain, &spf)).await;
    let reasons: Vec<String> = dkim.iter().map(|output| reason(output.result())).collect();
    let mut is_temporary = spf_outcome == Outcome::TempError;
    for (output, reason) in dkim.iter().zip(&reasons).take(MAX_SIGNATURES) {
        let outcome = outcome_of_dkim(output.result());
        is_temporary |= outcome == Outcome::TempError;
        let (domain, selector) =
            output.signature().map_or(("", ""), |signature| (signature.d.as_str(), signature.s.as_str()));
        results.push(auth_results::dkim(outcome, reason, domain, selector, ""));
    }
    if dkim.is_empty() {
        results.push(MethodResult {
            method: "dkim",
            outcome: Outcome::None,
            reason: "",
            properties: Vec::new(),
        });
    }
    let dmarc_outcome = outcome_of_dmarc(&dmarc);
    is_temporary |= dmarc_outcome == Outcome::TempError;
    let policy = match dmarc.policy() {
        Policy::None => "none",
        Policy::Quarantine => "quarantine",
        Policy::Reject => "reject",
        Policy::Unspecified => "",
    };
    results.push(auth_results::dmarc(dmarc_outcome, dmarc.domain(), policy));
    if !arc.sets().is_empty() {
        results.push(auth_results::arc(outcome_of_dkim(arc.result()), &remote));
    }
    let asks_for_it = matches!(dmarc.policy(), Policy::Quarantine | Policy::Reject);
    Verdict {
        authentication_results: authentication_results(hostname, &results),
        is_suspicious: dmarc_outcome == Outcome::Fail && asks_for_it,
        is_temporary,
    }
}

fn outcome_of_spf(result: SpfResult) -> Outcome {
    match result {
        SpfResult::Pass => Outcome::Pass,
        SpfResult::Fail => Outcome::Fail,
        SpfResult::SoftFail => Outcome::SoftFail,
        SpfResult::Neutral => Outcome::Neutral,
        SpfResult::TempError => Outcome::TempError,
        SpfResult::PermError => Outcome::PermError,
        SpfResult::None => Outcome::None,
    }
}

fn outcome_of_dkim(result: &DkimResult) -> Outcome {
    match result {
        DkimResult::Pass => Outcome::Pass,
        DkimResult::Neutral(_) => Outcome::Neutral,
        DkimResult::Fail(_) => Outcome::Fail,
        DkimResult::PermError(_) => Outcome::PermError,
        DkimResult::TempError(_) => Outcome::TempError,
        DkimResult::None => Outcome::None,
    }
}

/// DMARC passes when one of its two ways does (RFC 7489, 4.2).
fn outcome_of_dmarc(dmarc: &DmarcOutput) -> Outcome {
    let (spf, dkim) = (dmarc.spf_result(), dmarc.dkim_result());
    let either = |wanted: fn(&DmarcResult) -> bool| wanted(spf) || wanted(dkim);
    if either(|result| *result == DmarcResult::Pass) {
        Outcome::Pass
    } else if either(|result| matches!(result, DmarcResult::TempError(_))) {
        Outcome::TempError
    } else if either(|result| matches!(result, DmarcResult::PermError(_))) {
        Outcome::PermError
    } else if dmarc.dmarc_record().is_some() || either(|result| matches!(result, DmarcResult::Fail(_))) {
        // There is a policy, and nothing that it asks for has passed.
        Outcome::Fail
    } else {
        Outcome::None
    }
}

fn reason(result: &DkimResult) -> String {
    match result {
        DkimResult::Neutral(error)
        | DkimResult::Fail(error)
        | DkimResult::PermError(error)
        | DkimResult::TempError(error) => error.to_string(),
        DkimResult::Pass | DkimResult::None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::net::UdpSocket;

    use super::*;
    use crate::dns::Dns;
    use crate::types::envelope::IncomingRecipient;

    /// A resolver that knows no name, and the names that it was asked for.
    async fn ignorant() -> (MessageAuthenticator, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let dns = Dns::with_server(socket.local_addr().unwrap()).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let mut answer = buffer[..length].to_vec();
                noted.lock().unwrap().push(String::from_utf8_lossy(&answer[12..]).to_lowercase());
                // RFC 1035, 4.1.1: a response, from a resolver: no such name.
                answer[2] |= 0x80;
                answer[3] = 0x83;
                let _ = socket.send_to(&answer, from).await;
            }
        });
        (dns.authenticator(), asked)
    }

    fn envelope() -> IncomingEnvelope {
        IncomingEnvelope {
            mail_from: "bob@sender.test".to_owned(),
            recipients: vec![IncomingRecipient {
                address: "alice@example.test".to_owned(),
                accounts: Vec::new(),
                notify: None,
                orcpt: None,
            }],
            received_at_ms: 0,
            remote_ip: None,
            helo: "mx.sender.test".to_owned(),
            is_tls: false,
            login: None,
            env_id: None,
            ret: None,
            smtputf8: false,
            delivery_id: "d".to_owned(),
        }
    }

    fn signed(signatures: usize) -> String {
        let signature = |number| {
            format!(
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=d{number}.test; s=s; h=from:subject; \
                 bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
            )
        };
        let signatures: String = (0..signatures).map(signature).collect();
        format!("{signatures}From: bob@sender.test\r\nSubject: x\r\n\r\nbody\r\n")
    }

    async fn look_ups(message: &str) -> (Verdict, usize) {
        let (authenticator, asked) = ignorant().await;
        let remote_ip = IpAddr::from([192, 0, 2, 1]);
        let verdict =
            authenticate(&authenticator, "mx.example.test", &envelope(), remote_ip, message.as_bytes()).await;
        let keys = asked.lock().unwrap().iter().filter(|name| name.contains("_domainkey")).count();
        (verdict, keys)
    }

    #[tokio::test]
    async fn a_few_signatures_are_looked_at_and_hundreds_are_not() {
        let (verdict, keys) = look_ups(&signed(2)).await;
        assert!(keys >= 2 && !verdict.is_suspicious, "{verdict:?}");
        assert!(verdict.authentication_results.contains("dkim="), "{verdict:?}");
        let (verdict, keys) = look_ups(&signed(300)).await;
        assert_eq!(keys, 0, "no key is looked up");
        assert!(verdict.is_suspicious && !verdict.is_temporary, "{verdict:?}");
        assert!(!verdict.authentication_results.contains("dkim="), "{verdict:?}");
    }

    #[tokio::test]
    async fn an_overlong_header_is_not_verified() {
        let many = format!("{}{}", "X: y\r\n".repeat(MAX_FIELDS), signed(1));
        let large = format!("X: {}\r\n{}", "y".repeat(MAX_HEADER), signed(1));
        for message in [many, large] {
            let (verdict, keys) = look_ups(&message).await;
            assert_eq!((keys, verdict.is_suspicious), (0, true));
        }
    }
}
