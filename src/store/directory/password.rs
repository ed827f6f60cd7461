//! Password hashes: argon2id in PHC text form. Pure functions of tens of milliseconds and 19 MiB
//! each: run them on a thread of their own, a bounded number at a time.

use std::sync::LazyLock;

use argon2::password_hash::SaltString;
use argon2::{Argon2, PasswordHash, PasswordHasher, PasswordVerifier};
use tokio::sync::oneshot;

/// Longest password, in bytes. Longer ones cannot be set and never match.
pub const MAX_PASSWORD_LEN: usize = 1_024;

/// The password cannot be hashed: it is empty or longer than `MAX_PASSWORD_LEN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnusablePassword;

impl std::fmt::Display for UnusablePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a password has 1 to {MAX_PASSWORD_LEN} bytes")
    }
}

impl std::error::Error for UnusablePassword {}

/// The hash of a new password, with a salt of its own.
pub fn hash(password: &str) -> Result<String, UnusablePassword> {
    if password.is_empty() || password.len() > MAX_PASSWORD_LEN {
        return Err(UnusablePassword);
    }
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(|_| UnusablePassword)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(|_| UnusablePassword)?;
    Ok(hash.to_string())
}

/// A hash that no password has, for logins that do not exist.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let secret: String = (0..8).map(|_| format!("{:08x}", rand::random::<u32>())).collect();
    hash(&secret).unwrap_or_default()
});

/// Whether a password is the one of a stored hash. Without a hash (no such login, no password set)
/// it takes the same time and answers no, so that the time does not tell which logins exist.
pub fn verify(password: &str, stored: Option<&str>) -> bool {
    let (stored, is_known) = match stored {
        Some(stored) if !stored.is_empty() => (stored, true),
        _ => (NOBODY.as_str(), false),
    };
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    let fits = !password.is_empty() && password.len() <= MAX_PASSWORD_LEN;
    let candidate = if fits { password.as_bytes() } else { b" " };
    let matches = Argon2::default().verify_password(candidate, &parsed).is_ok();
    matches && fits && is_known
}

/// How far what a sign-in computes stands back behind all other work of the machine (nice).
#[cfg(target_os = "linux")]
const STANDS_BACK: i32 = 10;

/// `verify` on a thread of its own that stands back: many who sign in at once wait for each other, and
/// not those who have signed in before for them. What is held is given back when it has ended, though
/// nobody may wait for it any more. `None` when there is no thread to be had.
pub async fn verify_aside<H: Send + 'static>(
    password: String,
    stored: Option<String>,
    held: H,
) -> Option<bool> {
    let (tell, told) = oneshot::channel();
    let verify = move || {
        let _held = held;
        // Of this thread alone, as Linux has it; elsewhere it would be all of the process.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(STANDS_BACK);
        let _ = tell.send(verify(&password, stored.as_deref()));
    };
    match std::thread::Builder::new().name("password".to_owned()).spawn(verify) {
        Ok(_) => Some(told.await.unwrap_or(false)),
        Err(error) => {
            tracing::error!(%error, "no thread can be started to verify a password");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_only() {
        let stored = hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$"));
        assert!(verify("correct horse", Some(&stored)));
        assert!(!verify("correct hors", Some(&stored)));
        assert_ne!(stored, hash("correct horse").unwrap(), "each hash has its own salt");
    }

    #[test]
    fn nothing_matches_where_there_is_no_password() {
        assert!(!verify("", None));
        assert!(!verify("x", None));
        assert!(!verify("x", Some("")));
        assert!(!verify("x", Some("not a hash")));
    }

    #[test]
    fn passwords_without_end_are_refused() {
        assert_eq!(hash(""), Err(UnusablePassword));
        assert_eq!(hash(&"x".repeat(MAX_PASSWORD_LEN + 1)), Err(UnusablePassword));
        let stored = hash(" ").unwrap();
        assert!(!verify(&"x".repeat(MAX_PASSWORD_LEN + 1), Some(&stored)));
        assert!(!verify("", Some(&stored)));
    }
}
