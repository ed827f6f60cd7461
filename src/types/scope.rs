//! What an API key may do, and where.

use std::fmt;
use std::str::FromStr;

use crate::types::address::normalize_domain;
use crate::types::id::AccountId;

/// One thing that a key may be for. The numbers are on disk and never change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    /// Read mail, search it, hear of changes.
    Read = 1,
    /// Change mailboxes, flags and settings, make and destroy mail.
    Write = 2,
    /// Send mail, and see what became of what was sent.
    Send = 4,
    /// Administer the server, or one domain of it.
    Admin = 8,
}

impl Scope {
    /// All scopes, in the order in which they are shown.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Send, Scope::Admin];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Send => "send",
            Scope::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(name: &str) -> Result<Scope, String> {
        let found = Scope::ALL.into_iter().find(|scope| scope.name() == name);
        found.ok_or_else(|| format!("{name:?} is no scope; there are read, write, send and admin"))
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// What a password may do, and a key that nothing else was said of: all of a user's own things.
    pub const USER: Scopes = Scopes::of(&[Scope::Read, Scope::Write, Scope::Send]);

    /// Of a list.
    pub const fn of(scopes: &[Scope]) -> Scopes {
        let mut bits = 0;
        let mut next = 0;
        while next < scopes.len() {
            bits |= scopes[next] as u8;
            next += 1;
        }
        Scopes(bits)
    }

    /// Whether a scope is among them.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & scope as u8 != 0
    }

    /// Whether any of these is among them.
    pub const fn has_any(self, of: Scopes) -> bool {
        self.0 & of.0 != 0
    }

    /// Whether all of these are among them.
    pub const fn has_all(self, of: Scopes) -> bool {
        self.0 & of.0 == of.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both.
    pub const fn and(self, other: Scopes) -> Scopes {
        Scopes(self.0 | other.0)
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// As the store keeps it.
    pub fn bits(self) -> i64 {
        i64::from(self.0)
    }

    /// From the store; bits that are none count nothing.
    pub fn from_bits(bits: i64) -> Scopes {
        Scopes(
            Scope::ALL
                .into_iter()
                .filter(|scope| bits & *scope as i64 != 0)
                .fold(0, |all, scope| all | scope as u8),
        )
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        scopes.into_iter().fold(Scopes::default(), |all, scope| all.and(Scopes::of(&[scope])))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// How far a key goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reach {
    /// The accounts that its login may use.
    #[default]
    Login,
    /// One of them.
    Account(AccountId),
    /// Each account of a domain, in lower-case A-labels, too.
    Domain(String),
    /// Each account of the server, too.
    All,
}

/// How the store says "each account of the server"; no domain is called so.
const ALL_DOMAINS: &str = "*";

impl Reach {
    /// As two columns: an account or 0, a domain or nothing.
    pub fn columns(&self) -> (AccountId, &str) {
        match self {
            Reach::Login => (AccountId::default(), ""),
            Reach::Account(account) => (*account, ""),
            Reach::Domain(domain) => (AccountId::default(), domain),
            Reach::All => (AccountId::default(), ALL_DOMAINS),
        }
    }

    /// From these columns.
    pub fn from_columns(account: AccountId, domain: String) -> Reach {
        match (account != AccountId::default(), domain.as_str()) {
            (true, _) => Reach::Account(account),
            (false, "") => Reach::Login,
            (false, ALL_DOMAINS) => Reach::All,
            (false, _) => Reach::Domain(domain),
        }
    }

    /// Whether it goes over a whole domain, given in lower-case A-labels.
    pub fn covers_domain(&self, name: &str) -> bool {
        match self {
            Reach::All => true,
            Reach::Domain(domain) => domain == name,
            Reach::Login | Reach::Account(_) => false,
        }
    }

    /// Whether all that the other reaches is within this one, both being of one login.
    pub fn covers(&self, other: &Reach) -> bool {
        match (self, other) {
            (Reach::All, _) => true,
            (Reach::Domain(domain), Reach::Domain(other)) => domain == other,
            (Reach::Domain(_) | Reach::Login, Reach::Login | Reach::Account(_)) => true,
            (Reach::Account(account), Reach::Account(other)) => account == other,
            _ => false,
        }
    }
}

/// What a credential is good for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rights {
    /// What may be done.
    pub scopes: Scopes,
    /// Where.
    pub reach: Reach,
}

/// Those of a password: all that is the user's own.
impl Default for Rights {
    fn default() -> Rights {
        Rights { scopes: Scopes::USER, reach: Reach::Login }
    }
}

/// The domain of a reach as it is typed, `*` for all.
pub fn domain_reach(text: &str) -> Result<Reach, String> {
    if text == ALL_DOMAINS {
        return Ok(Reach::All);
    }
    normalize_domain(text).map(Reach::Domain).ok_or_else(|| format!("{text:?} is no domain name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::id::Id;

    #[test]
    fn scopes_are_kept_and_shown() {
        let some: Scopes = [Scope::Send, Scope::Read].into_iter().collect();
        assert_eq!((some.bits(), some.to_string().as_str()), (5, "read,send"));
        assert_eq!(Scopes::from_bits(5 | 64), some);
        assert!(some.has(Scope::Send) && !some.has(Scope::Write));
        assert!(some.has_any(Scopes::USER) && !some.has_all(Scopes::USER));
        assert!("all".parse::<Scope>().is_err());
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
    }

    #[test]
    fn a_reach_is_kept_and_covers_what_is_within() {
        let account = Reach::Account(AccountId(Id(7)));
        let domain = Reach::Domain("example.test".to_owned());
        for reach in [Reach::Login, account.clone(), domain.clone(), Reach::All] {
            let (account, name) = reach.columns();
            assert_eq!(Reach::from_columns(account, name.to_owned()), reach);
            assert!(reach.covers(&reach) && Reach::All.covers(&reach));
        }
        assert!(
            !Reach::Login.covers(&domain) && !account.covers(&Reach::Login) && !domain.covers(&Reach::All)
        );
        assert!(domain.covers_domain("example.test") && !domain.covers_domain("other.test"));
        assert!(!Reach::Login.covers_domain("example.test"));
        assert_eq!(domain_reach("Example.TEST"), Ok(domain));
        assert_eq!(domain_reach("*"), Ok(Reach::All));
        assert!(domain_reach("a b").is_err());
    }
}
