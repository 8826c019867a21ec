//! Random names and passwords for what this room starts.
//!
//! Owns the one source of randomness here. A token is hexadecimal only, so that it fits unquoted into a URL, a
//! file name and a server's configuration. [`super::postgres`], [`super::nats`] and [`super::scratch`] call it.

use std::fmt::Write as _;

use anyhow::anyhow;
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

/// `bytes` bytes from the system's random source, as lowercase hexadecimal (two characters a byte).
pub fn random_hex(bytes: usize) -> anyhow::Result<String> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new()
        .fill(&mut buffer)
        .map_err(|_| anyhow!("failed to read from the system's random source"))?;
    Ok(hex(&buffer))
}

/// A short name that is the same for the same bytes: the first 12 hexadecimal characters of their SHA-256.
pub fn short_hash(bytes: &[u8]) -> String {
    let mut name = hex(&Sha256::digest(bytes));
    name.truncate(12);
    name
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_random_tokens_differ_and_are_hexadecimal() {
        let (a, b) = (random_hex(16).unwrap(), random_hex(16).unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(a.bytes().all(|c| c.is_ascii_hexdigit()));
    }

    #[test]
    fn the_same_path_always_has_the_same_short_name() {
        assert_eq!(short_hash(b"/home/a/watchbell"), short_hash(b"/home/a/watchbell"));
        assert_ne!(short_hash(b"/home/a/watchbell"), short_hash(b"/home/b/watchbell"));
    }
}
