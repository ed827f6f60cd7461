//! State strings (RFC 8620, 5.1 and 5.2).

use std::fmt;
use std::str::FromStr;

/// A place in the change log of one type: the account's epoch, a modseq, and how many objects, in
/// id order, of that modseq's own transaction are included. `ALL` of them is the usual case; a
/// smaller number lets `maxChanges` cut a transaction of 500 objects in two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// Random for each account, new after a restore, so that states from before it are refused.
    pub epoch: i64,
    /// All changes up to this one are included, those of this one as far as `within` says.
    pub modseq: i64,
    /// How many objects of `modseq` itself are included.
    pub within: u32,
}

impl State {
    /// Every object of the modseq.
    pub const ALL: u32 = u32::MAX;

    /// The state after the whole of a modseq.
    pub fn at(epoch: i64, modseq: i64) -> State {
        State { epoch, modseq, within: State::ALL }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:x}-{}", self.epoch, self.modseq)?;
        if self.within != State::ALL {
            write!(f, "-{}", self.within)?;
        }
        Ok(())
    }
}

/// The text is no state that this server has given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAState;

impl FromStr for State {
    type Err = NotAState;

    fn from_str(text: &str) -> Result<State, NotAState> {
        let mut parts = text.strip_prefix('s').ok_or(NotAState)?.split('-');
        let epoch = parts.next().and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or(NotAState)?;
        let epoch = epoch as i64;
        let modseq = parts.next().and_then(|part| part.parse().ok()).ok_or(NotAState)?;
        let within = match parts.next() {
            None => State::ALL,
            Some(part) => part.parse().map_err(|_| NotAState)?,
        };
        let state = State { epoch, modseq, within };
        // Only the form that we write: "s1-007" is not "s1-7".
        if parts.next().is_none() && state.to_string() == text { Ok(state) } else { Err(NotAState) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        for state in [State::at(0x1f, 7), State::at(-5, 7), State { epoch: 1, modseq: 9, within: 3 }] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
    }

    #[test]
    fn foreign_states_are_refused() {
        for text in ["", "s", "s1", "s1-", "s1-007", "s1-7-", "s1-7-1-1", "x1-7", "s1--7", "sé-1"] {
            assert_eq!(text.parse::<State>(), Err(NotAState), "{text}");
        }
    }
}
