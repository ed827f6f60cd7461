//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of all addresses. An IPv6 client is its /64: it can have any address in it.
/// Clones count together.
#[derive(Clone, Default, Debug)]
pub struct Connections {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Connections {
    /// Counts one more connection of an address; `None` when it has `most` already.
    pub fn enter(&self, address: IpAddr, most: usize) -> Option<Connection> {
        let key = match address.to_canonical() {
            IpAddr::V4(four) => IpAddr::V4(four),
            IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from(u128::from(six) >> 64 << 64)),
        };
        let mut counts = self.lock();
        let count = counts.entry(key).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Connection { all: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection counted; no more when dropped.
#[derive(Debug)]
pub struct Connection {
    all: Connections,
    key: IpAddr,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut counts = self.all.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_apart_and_a_network_of_version_six_as_one() {
        let connections = Connections::default();
        let enter = |address: &str| connections.enter(address.parse().unwrap(), 2);
        let held = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(enter("192.0.2.1").is_none(), "the third");
        assert!(enter("192.0.2.2").is_some());
        let six = (enter("2001:db8::1"), enter("2001:db8::2"));
        assert!(six.0.is_some() && enter("2001:db8::3").is_none() && enter("2001:db8:0:1::1").is_some());
        drop(held.0);
        assert!(enter("192.0.2.1").is_some());
        drop((held.1, six));
        assert!(connections.lock().is_empty());
    }
}
