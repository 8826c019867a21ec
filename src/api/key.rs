//! API keys: how one is made, read and compared.
//!
//! Invariant: the whole key exists in the moment it is made and in its owner's hands; stored and compared is its
//! SHA-256 only. The key has 256 random bits, so that a slow password hash would add nothing.

use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const PREFIX_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// A key: `wb_<12 hexadecimal digits>_<64 hexadecimal digits>`. The first digits are public: they name the key.
#[derive(Debug, Clone)]
pub struct ApiKey {
    prefix: String,
    text: SecretString,
}

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("failed to get random bytes from the operating system")]
pub struct NoRandomness;

impl ApiKey {
    /// A new key.
    ///
    /// # Errors
    /// [`NoRandomness`] if the operating system gives none.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0_u8; PREFIX_BYTES + SECRET_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        let (prefix, secret) = bytes.split_at(PREFIX_BYTES);
        let prefix = hex(prefix);
        let text = format!("wb_{prefix}_{}", hex(secret)).into();
        Ok(Self { prefix, text })
    }

    /// Reads a key that somebody presents; `None` for a text that can't be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix("wb_")?.split_once('_')?;
        (is_hex(prefix, PREFIX_BYTES) && is_hex(secret, SECRET_BYTES))
            .then(|| Self { prefix: prefix.to_owned(), text: text.to_owned().into() })
    }

    /// The public part, by which the key is looked up and named in lists.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The whole key, to be shown once.
    pub fn secret(&self) -> &SecretString {
        &self.text
    }

    /// What is stored of the key: the SHA-256 of all its characters.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.text.expose_secret().as_bytes()).into()
    }

    /// Whether this key has that hash, in a time that tells nothing of how much of it fits.
    pub fn matches(&self, hash: &[u8]) -> bool {
        self.hash().as_slice().ct_eq(hash).into()
    }
}

/// The prefix in what a person types: the prefix itself, with or without `wb_`, or a whole key.
pub fn prefix_in(text: &str) -> Option<&str> {
    let text = text.strip_prefix("wb_").unwrap_or(text);
    let prefix = text.split_once('_').map_or(text, |(prefix, _)| prefix);
    is_hex(prefix, PREFIX_BYTES).then_some(prefix)
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == 2 * bytes && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "wb_0123456789ab_00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn a_new_key_reads_back_as_itself_and_never_comes_twice() {
        let key = ApiKey::generate().unwrap();
        let read = ApiKey::parse(key.secret().expose_secret()).unwrap();
        assert_eq!(read.prefix(), key.prefix());
        assert!(read.matches(&key.hash()));
        let other = ApiKey::generate().unwrap();
        assert_ne!(other.prefix(), key.prefix());
        assert!(!other.matches(&key.hash()));
    }

    #[test]
    fn what_is_stored_is_the_sha256_of_the_whole_text() {
        let hash = ApiKey::parse(EXAMPLE).unwrap().hash();
        assert_eq!(hex(&hash), "e0e2f7e076eb640303cbce9dd202cd96efe64d3af834f10e059c7de8874607b1");
    }

    #[test]
    fn a_key_is_never_printed() {
        let shown = format!("{:?}", ApiKey::parse(EXAMPLE).unwrap());
        assert!(shown.contains("0123456789ab") && !shown.contains("00112233"), "{shown}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let upper = EXAMPLE.to_uppercase();
        let longer = format!("{EXAMPLE}0");
        for text in
            ["", "wb_", "wb__", &EXAMPLE[3..], &EXAMPLE[..79], &longer, &upper, "wb_0123456789ab_", "ключ"]
        {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_found_in_whatever_a_person_pastes() {
        for text in ["0123456789ab", "wb_0123456789ab", "wb_0123456789ab_", EXAMPLE] {
            assert_eq!(prefix_in(text), Some("0123456789ab"), "{text}");
        }
        for text in ["", "wb_", "0123456789a", "'; DROP TABLE"] {
            assert_eq!(prefix_in(text), None, "{text}");
        }
    }
}
