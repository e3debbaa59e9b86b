//! The installation's key for the hashes of client addresses.
//!
//! Equal addresses stay equal under one key; without it an address cannot be found
//! by trying all of them. The key is never stored with the data.

use std::hash::Hasher;
use std::path::Path;

use fanal_service::secret::{Secret, SecretError};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use thiserror::Error;

/// Why the key cannot be had.
#[derive(Debug, Error)]
#[error("the key for address hashes is not usable: {0}")]
pub struct KeyError(#[from] SecretError);

/// A key made of a secret of the installation.
#[derive(Clone)]
pub struct AddressKey([u8; 16]);

impl AddressKey {
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let digest = Sha256::new()
            .chain_update(b"fanal address key 1\0")
            .chain_update(secret.reveal().as_bytes())
            .finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// The key in a file of mode 0600; made if there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        Ok(Self::of(&Secret::load_or_create(path)?))
    }

    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish()
    }
}

impl std::fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_gives_one_hash_and_another_key_another() {
        let (one, two) = (AddressKey::of(&Secret::new("one")), AddressKey::of(&Secret::new("two")));
        assert_eq!(one.hash(b"address"), one.hash(b"address"));
        assert_ne!(one.hash(b"address"), two.hash(b"address"));
        assert_eq!(format!("{one:?}"), "***");
    }
}
