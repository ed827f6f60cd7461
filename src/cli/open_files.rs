//! How many files and connections the process may have open.
//!
//! Many systems start programs with a soft limit of 1,024, for the sake of old ones, and a hard
//! limit far above. A server with a connection for each client meets the soft one within the hour.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With less than this a busy server refuses clients.
const ENOUGH: u64 = 8_192;

/// Raises the soft limit to the hard one.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    // No limit at all is `None`.
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < ENOUGH) {
        tracing::warn!(
            limit,
            "few files may be open: each connection takes one; raise the limit (ulimit -n)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
