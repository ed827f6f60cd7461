//! The roles of a process: which stages it runs. A small server runs them all; on several machines
//! each role is scaled by itself.

use std::fmt;

/// One stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// JMAP and blobs over HTTP. Keeps no state of its own.
    Api,
    /// Connections that are told of changes.
    Push,
    /// SMTP from other servers and from users.
    Receive,
    /// Files what was received, and keeps house: expired uploads, unreferenced objects, old changes.
    Ingest,
    /// Sends to other servers.
    Deliver,
    /// Brings Emails into the full-text index.
    Index,
    /// Takes events of mail to the logs of their domains, and to webhooks.
    Events,
}

impl Role {
    /// All roles, in the order of the documentation.
    pub const ALL: [Role; 7] =
        [Role::Api, Role::Push, Role::Receive, Role::Ingest, Role::Deliver, Role::Index, Role::Events];

    /// As it stands in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Push => "push",
            Role::Receive => "receive",
            Role::Ingest => "ingest",
            Role::Deliver => "deliver",
            Role::Index => "index",
            Role::Events => "events",
        }
    }
}

/// The roles of one process, at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roles(Vec<Role>);

impl Roles {
    /// Whether a role is among them.
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Whether it is every role.
    pub fn is_all(&self) -> bool {
        Role::ALL.into_iter().all(|role| self.has(role))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|role| role.name()).collect();
        f.write_str(&names.join(","))
    }
}

/// Reads `all`, or names with commas between them.
pub fn roles(text: &str) -> Result<Roles, String> {
    if text.trim() == "all" {
        return Ok(Roles(Role::ALL.to_vec()));
    }
    let mut found = Vec::new();
    for name in text.split(',').map(str::trim) {
        let role = Role::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| {
            let known: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
            format!("`{name}` is no role; there are {}, and all", known.join(", "))
        })?;
        if !found.contains(&role) {
            found.push(role);
        }
    }
    Ok(Roles(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_named_and_unknown_ones_told() {
        let all = roles("all").unwrap();
        assert!(all.is_all() && Role::ALL.into_iter().all(|role| all.has(role)));
        let some = roles("receive, ingest,receive").unwrap();
        assert_eq!(some.to_string(), "receive,ingest");
        assert!(some.has(Role::Ingest) && !some.has(Role::Api) && !some.is_all());
        for text in ["", "web", "api,,push"] {
            assert!(roles(text).expect_err("no role").contains("deliver"), "{text}");
        }
    }
}
