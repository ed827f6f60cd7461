//! Readers for arguments that several commands take.

use std::io::Read;
use std::time::Duration;

use clap::Args;

use crate::admin::request::Quota;
use crate::cli::output::Failure;
use crate::types::address::{Address, normalize_domain};
use crate::types::duration::parse_duration;
use crate::types::secret::Secret;
use crate::types::size::parse_size;

/// Longest password that is taken from stdin, in octets.
const MAX_PASSWORD_LEN: u64 = 1024;

/// An address, kept as it was typed.
pub fn address(text: &str) -> Result<String, String> {
    Address::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// As [`address`], or `none`.
pub fn address_or_none(text: &str) -> Result<String, String> {
    if text == "none" { Ok(text.to_owned()) } else { address(text) }
}

/// A domain in lower-case A-labels.
pub fn domain(text: &str) -> Result<String, String> {
    normalize_domain(text)
        .filter(|domain| !domain.starts_with('['))
        .ok_or_else(|| "a domain has the form example.org".to_owned())
}

/// A size with its unit, or `none`.
pub fn quota(text: &str) -> Result<Quota, String> {
    if text == "none" {
        return Ok(Quota::Unlimited);
    }
    let octets = parse_size(text).filter(|octets| (1..=i64::MAX as u64).contains(octets));
    octets.map(Quota::Octets).ok_or_else(|| "give a size such as 10GB, or none".to_owned())
}

/// A span of time.
pub fn lifetime(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "give a span such as 12h or 90d".to_owned())
}

/// Where a password comes from. Without either, one is made up.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct PasswordArgs {
    /// The password. Other users of this machine may see it while the command runs.
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from standard input: its first line.
    #[arg(long)]
    password_stdin: bool,
}

impl PasswordArgs {
    /// The password, and whether it was made up and must be shown.
    pub fn read(self) -> Result<(Secret, bool), Failure> {
        let given = match self.password {
            Some(password) => password,
            None if self.password_stdin => first_line(std::io::stdin().lock())?,
            None => return Ok((made_up_password(), true)),
        };
        if given.is_empty() || given.chars().any(char::is_control) {
            return Err(Failure::usage("the password is empty or has control characters in it"));
        }
        Ok((Secret::new(given), false))
    }
}

fn first_line(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    input
        .take(MAX_PASSWORD_LEN)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("the password cannot be read from standard input: {error}")))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Four groups of five characters without those that look alike: 100 bits of chance.
fn made_up_password() -> Secret {
    const CHARACTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let groups: Vec<String> = (0..4)
        .map(|_| {
            let places = rand::random::<[u8; 5]>();
            places
                .iter()
                .filter_map(|byte| CHARACTERS.get(usize::from(byte & 31)))
                .map(|c| char::from(*c))
                .collect()
        })
        .collect();
    Secret::new(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_passwords_differ_and_are_long() {
        let (one, other) = (made_up_password(), made_up_password());
        assert_ne!(one, other);
        assert_eq!(one.reveal().len(), 23);
    }

    #[test]
    fn passwords_from_standard_input_are_one_line() {
        assert_eq!(first_line(&b"secret word\nmore"[..]).ok().as_deref(), Some("secret word"));
        assert_eq!(first_line(&b"x\r\n"[..]).ok().as_deref(), Some("x"));
        assert!(first_line(&b"\xff"[..]).is_err());
    }

    #[test]
    fn quotas() {
        assert_eq!(quota("none"), Ok(Quota::Unlimited));
        assert_eq!(quota("1GB"), Ok(Quota::Octets(1_000_000_000)));
        assert!(quota("0").is_err() && quota("lots").is_err());
    }
}
