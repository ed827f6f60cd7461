//! The mechanisms of AUTH (RFC 4954): PLAIN (RFC 4616) and LOGIN, for both sides.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A login and its password. Neither is ever shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub login: String,
    /// The secret.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials { .. }")
    }
}

/// A way to tell who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// All in one line.
    Plain,
    /// Name and password in a line each. Never standardised, still sent by old clients.
    Login,
}

impl Mechanism {
    /// Reads the name of a mechanism.
    pub fn parse(name: &str) -> Option<Mechanism> {
        match name.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Mechanism::Plain),
            "LOGIN" => Some(Mechanism::Login),
            _ => None,
        }
    }
}

/// Why an exchange ended without credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslError {
    /// The client gave up with `*` (RFC 4954, 4).
    Cancelled,
    /// No base64, or not what the mechanism says.
    Malformed,
    /// Asks to act as somebody else.
    OtherIdentity,
}

/// What comes next on the server's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this behind `334 ` and pass the client's next line to `respond`.
    Challenge(&'static str),
    /// Done; whether they are right is another question.
    Credentials(Credentials),
}

/// The server's side of one exchange.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    login: Option<String>,
}

impl Exchange {
    /// Starts with the command's initial response, where it had one.
    pub fn start(mechanism: Mechanism, initial: Option<&str>) -> Result<(Exchange, Step), SaslError> {
        let mut exchange = Exchange { mechanism, login: None };
        let step = match (initial, mechanism) {
            // RFC 4954, 4: a lone `=` is an empty initial response.
            (Some("="), _) => exchange.respond(b"")?,
            (Some(initial), _) => exchange.respond(initial.as_bytes())?,
            (None, Mechanism::Plain) => Step::Challenge(""),
            (None, Mechanism::Login) => Step::Challenge("VXNlcm5hbWU6"),
        };
        Ok((exchange, step))
    }

    /// Takes a line of the client.
    pub fn respond(&mut self, line: &[u8]) -> Result<Step, SaslError> {
        if line == b"*" {
            return Err(SaslError::Cancelled);
        }
        let decoded = STANDARD.decode(line).map_err(|_| SaslError::Malformed)?;
        let text = String::from_utf8(decoded).map_err(|_| SaslError::Malformed)?;
        match (self.mechanism, self.login.take()) {
            (Mechanism::Plain, _) => {
                // RFC 4616, 2: [authzid] NUL authcid NUL passwd, no NUL in any of them.
                let mut parts = text.split('\0');
                let (Some(identity), Some(login), Some(password), None) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    return Err(SaslError::Malformed);
                };
                if !identity.is_empty() && identity != login {
                    return Err(SaslError::OtherIdentity);
                }
                credentials(login.to_owned(), password.to_owned())
            }
            (Mechanism::Login, None) => {
                self.login = Some(text);
                Ok(Step::Challenge("UGFzc3dvcmQ6"))
            }
            (Mechanism::Login, Some(login)) => credentials(login, text),
        }
    }
}

fn credentials(login: String, password: String) -> Result<Step, SaslError> {
    if login.is_empty() || password.is_empty() {
        return Err(SaslError::Malformed);
    }
    Ok(Step::Credentials(Credentials { login, password }))
}

/// The client's response of PLAIN.
pub fn plain_response(credentials: &Credentials) -> String {
    STANDARD.encode(format!("\0{}\0{}", credentials.login, credentials.password))
}

/// The client's two responses of LOGIN.
pub fn login_responses(credentials: &Credentials) -> [String; 2] {
    [STANDARD.encode(&credentials.login), STANDARD.encode(&credentials.password)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Credentials {
        Credentials { login: "alice@example.test".to_owned(), password: "s\u{e9}cret".to_owned() }
    }

    #[test]
    fn plain_in_one_line_and_in_two() {
        let response = plain_response(&alice());
        let step = Exchange::start(Mechanism::Plain, Some(&response)).map(|(_, step)| step);
        assert_eq!(step, Ok(Step::Credentials(alice())));
        let (mut exchange, step) = Exchange::start(Mechanism::Plain, None).expect("starts");
        assert_eq!(step, Step::Challenge(""));
        assert_eq!(exchange.respond(response.as_bytes()), Ok(Step::Credentials(alice())));
    }

    #[test]
    fn login_asks_twice() {
        let [name, password] = login_responses(&alice());
        let (mut exchange, step) = Exchange::start(Mechanism::Login, None).expect("starts");
        assert_eq!(step, Step::Challenge("VXNlcm5hbWU6"));
        assert_eq!(exchange.respond(name.as_bytes()), Ok(Step::Challenge("UGFzc3dvcmQ6")));
        assert_eq!(exchange.respond(password.as_bytes()), Ok(Step::Credentials(alice())));
        let (_, step) = Exchange::start(Mechanism::Login, Some(&name)).expect("starts");
        assert_eq!(step, Step::Challenge("UGFzc3dvcmQ6"));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let start = |text: &str| Exchange::start(Mechanism::Plain, Some(text)).map(|(_, step)| step);
        assert_eq!(start("*"), Err(SaslError::Cancelled));
        for text in ["", "=", "rubbish!", "YQ", &STANDARD.encode("a\0b"), &STANDARD.encode("\0a\0b\0c")] {
            assert_eq!(start(text), Err(SaslError::Malformed), "{text}");
        }
        assert_eq!(start(&STANDARD.encode("\0\0b")), Err(SaslError::Malformed));
        assert_eq!(start(&STANDARD.encode("a\0\0")), Err(SaslError::OtherIdentity));
        assert_eq!(start(&STANDARD.encode("bob\0alice\0x")), Err(SaslError::OtherIdentity));
        assert!(start(&STANDARD.encode("alice\0alice\0x")).is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", alice()).contains("cret"));
    }
}
