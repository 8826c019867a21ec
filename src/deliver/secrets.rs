//! Secrets of destinations: sealed in the database, opened when a request is built.
//!
//! A sealed secret is `1 ‖ nonce (12 bytes) ‖ ciphertext ‖ tag`: AES-256-GCM (NIST SP 800-38D) under the key of the
//! configuration, with the destination's id as associated data, so that one can't be moved to another destination.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

use crate::model::ids::DestinationId;

const VERSION: u8 = 1;

/// Why a secret can't be sealed or opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretError {
    /// The configuration has no key.
    #[error("secrets.key is not set, and the destination has a secret")]
    NoKey,
    /// The key is not one.
    #[error("secrets.key is not 64 hexadecimal digits")]
    BadKey,
    /// Sealed with another key, for another destination, or damaged.
    #[error("the destination's secret can't be opened with this secrets.key")]
    Unopenable,
    /// The operating system gave no randomness.
    #[error("no randomness to be had")]
    NoRandomness,
}

/// The key of the configuration.
pub struct SecretKey(LessSafeKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl SecretKey {
    /// Reads 64 hexadecimal digits; `None` for an empty text.
    ///
    /// # Errors
    /// [`SecretError::BadKey`] for any other text.
    pub fn parse(key: &SecretString) -> Result<Option<Self>, SecretError> {
        let text = key.expose_secret();
        if text.is_empty() {
            return Ok(None);
        }
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let bytes: Vec<u8> = digits
            .filter(|digits| digits.len() == 64)
            .ok_or(SecretError::BadKey)?
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SecretError::BadKey)?;
        Ok(Some(Self(LessSafeKey::new(key))))
    }

    /// Seals a secret for a destination.
    ///
    /// # Errors
    /// [`SecretError::NoRandomness`].
    pub fn seal(&self, destination: DestinationId, secret: &SecretString) -> Result<Vec<u8>, SecretError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SecretError::NoRandomness)?;
        let mut sealed = secret.expose_secret().as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(destination.0.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SecretError::BadKey)?;
        Ok([&[VERSION][..], &nonce, &sealed].concat())
    }

    /// Opens what [`Self::seal`] sealed for this destination.
    ///
    /// # Errors
    /// [`SecretError::Unopenable`].
    pub fn open(&self, destination: DestinationId, sealed: &[u8]) -> Result<SecretString, SecretError> {
        let (version, rest) = sealed.split_first().ok_or(SecretError::Unopenable)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SecretError::Unopenable)?;
        if *version != VERSION {
            return Err(SecretError::Unopenable);
        }
        let mut buffer = ciphertext.to_vec();
        let aad = Aad::from(destination.0.as_bytes());
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut buffer)
            .map_err(|_| SecretError::Unopenable)?;
        let text = std::str::from_utf8(opened).map_err(|_| SecretError::Unopenable)?;
        Ok(text.to_owned().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &str) -> SecretKey {
        SecretKey::parse(&digit.repeat(64).into()).unwrap().unwrap()
    }

    #[test]
    fn a_secret_opens_with_its_key_for_its_destination_only() {
        let (one, other) = (DestinationId::new(), DestinationId::new());
        let sealed = key("a").seal(one, &"hush".into()).unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"hush"));
        assert_eq!(key("A").open(one, &sealed).unwrap().expose_secret(), "hush");
        assert_eq!(key("a").open(other, &sealed).unwrap_err(), SecretError::Unopenable);
        assert_eq!(key("b").open(one, &sealed).unwrap_err(), SecretError::Unopenable);
        let mut damaged = sealed.clone();
        damaged[20] ^= 1;
        assert_eq!(key("a").open(one, &damaged).unwrap_err(), SecretError::Unopenable);
        assert_eq!(key("a").open(one, &sealed[..5]).unwrap_err(), SecretError::Unopenable);
        assert_ne!(key("a").seal(one, &"hush".into()).unwrap(), sealed);
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits() {
        assert!(SecretKey::parse(&"".into()).unwrap().is_none());
        for bad in ["abc".to_owned(), "g".repeat(64), "a".repeat(63), "é".repeat(32)] {
            assert_eq!(SecretKey::parse(&bad.into()).unwrap_err(), SecretError::BadKey);
        }
    }
}
