//! Secrets: made from the system's randomness, compared in constant time,
//! written to files that only the owner reads.
//!
//! Never prints one: `Debug` shows `***`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// Randomness of a generated token, in bytes: 256 bits cannot be guessed.
const TOKEN_BYTES: usize = 32;
/// The longest secret file that is read.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a secret cannot be had.
#[derive(Debug, Error)]
pub enum SecretError {
    #[error("cannot read the secret in {path}: {source}; check that the file belongs to this user")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the secret to {path}: {source}; check free space and the folder's owner")]
    Write { path: PathBuf, source: io::Error },
    #[error("the secret in {path} is empty: write one into it, or delete the file to get a new one")]
    Empty { path: PathBuf },
    #[error("others may read {path} (mode {mode:o}): run `chmod 600 {path}`")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the system gives no randomness: {0}; check that getrandom(2) is allowed")]
    Randomness(String),
}

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A new random secret of 43 URL-safe characters.
    pub fn random() -> Result<Self, SecretError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random_bytes::<TOKEN_BYTES>()?)))
    }

    /// The text itself, for those who must send or show it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this secret, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, given: &[u8]) -> bool {
        same(self.0.as_bytes(), given)
    }

    /// The secret in the file `path`, made and written (mode 0600) if there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        match Self::load(path) {
            Err(SecretError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let secret = Self::random()?;
                write_private(path, format!("{}\n", secret.reveal()).as_bytes())?;
                Ok(secret)
            }
            loaded => loaded,
        }
    }

    /// The secret in the file `path`, without white space around it.
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text).map_err(failed)?;
        let text = text.trim();
        if text.is_empty() { Err(SecretError::Empty { path: path.to_owned() }) } else { Ok(Self::new(text)) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether both are equal, compared in constant time. Their digests are
/// compared, so that not even the length shows.
#[must_use]
pub fn same(known: &[u8], given: &[u8]) -> bool {
    Sha256::digest(known).ct_eq(&Sha256::digest(given)).into()
}

/// Random bytes of the operating system.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| SecretError::Randomness(error.to_string()))?;
    Ok(bytes)
}

/// Writes a file that only the owner may read: complete or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    replace(path, bytes, 0o600).map_err(|source| SecretError::Write { path: path.to_owned(), source })
}

/// Writes beside `path`, then renames over it; both are on disk when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(name);
    let written = (|| {
        // A leftover of a killed process with our id must not lend its mode.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself_in_debug_output() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
        assert!(secret.matches(b"hunter2"));
        assert!(!secret.matches(b"hunter") && !secret.matches(b"hunter22") && !secret.matches(b""));
    }

    #[test]
    fn a_secret_file_is_private_and_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let first = Secret::load_or_create(&path).unwrap();
        assert_eq!(first.reveal().len(), 43);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secret::load_or_create(&path).unwrap(), first);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn a_secret_file_that_others_may_read_or_that_is_empty_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_private(&path, b"\n").unwrap();
        assert!(matches!(Secret::load_or_create(&path), Err(SecretError::Empty { .. })));
        write_private(&path, b"x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secret::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
