//! Finds a free TCP port on loopback.
//!
//! Owns the choice of ports for private servers. Ports come from below the kernel's ephemeral range (32768 and
//! up by default), so that while a server is down for a restart no outgoing connection is given its port. The
//! port is free at the moment of asking only: whoever uses it must be ready to lose the race and ask again.
//! [`super::postgres`] and [`super::nats`] call it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::bail;

use super::token;

const LOWEST: u16 = 20_000;
const COUNT: u16 = 12_000;
const ATTEMPTS: usize = 200;

/// A port on 127.0.0.1 on which nobody listens right now: the next one, from one at random on. None is given twice while there are
/// others, so that who was taken down for a while finds his own when he comes back.
pub fn free() -> anyhow::Result<u16> {
    static FIRST: OnceLock<u16> = OnceLock::new();
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let random = u16::from_str_radix(&token::random_hex(2)?, 16)? % COUNT;
    let first = *FIRST.get_or_init(|| random);
    for _ in 0..ATTEMPTS {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = LOWEST + (first + given) % COUNT;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("failed to find a free port on 127.0.0.1 between {LOWEST} and {}", LOWEST + COUNT - 1)
}

/// Whether a server could listen on this port of 127.0.0.1 right now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(taken.local_addr().unwrap().port()));
    }

    #[test]
    fn a_free_port_lies_below_the_ephemeral_range() {
        let port = free().unwrap();
        assert!((LOWEST..LOWEST + COUNT).contains(&port));
    }

    #[test]
    fn no_port_is_given_twice() {
        let given: Vec<u16> = (0..500).map(|_| free().unwrap()).collect();
        assert_eq!(given.iter().collect::<std::collections::BTreeSet<_>>().len(), given.len());
    }
}
