//! Keys and certificates that sign: where they come from, and what is refused.
//!
//! - [`SigningKeys`] holds a certificate chain and its key: from files, from the environment, or fresh ones of
//!   this process;
//! - `command` is a key that is elsewhere: something else signs;
//! - `profile` refuses, when they are loaded, certificates that C2PA (2.4 §14.5) does not allow or that a
//!   verifier would refuse later, and says what is wrong with them;
//! - `issue` makes development chains and certificate signing requests.
//!
//! A key is never logged and never shown by `Debug`; what holds it is overwritten when it goes.

mod command;
mod issue;
mod private;
mod profile;
mod public;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use issue::{DevelopmentChain, development_chain, signing_request};
pub(crate) use profile::subject_of;

use crate::ProvenanceError;
use command::SignCommand;
use private::PrivateKey;

/// What the subject of every development certificate says.
pub(crate) const DEVELOPMENT: &str = "Development certificate, proves no origin";
/// Common name of the signers that exist for one process only.
pub(crate) const EPHEMERAL: &str = "Ephemeral development signer";
/// Environment variable with the path of the certificate chain.
const CHAIN_VARIABLE: &str = "SORA_SIGN_CHAIN";
/// Environment variable with the path of the key.
const KEY_VARIABLE: &str = "SORA_SIGN_KEY";
/// Environment variable with the passphrase of an encrypted key.
const PASSPHRASE_VARIABLE: &str = "SORA_SIGN_PASSPHRASE";
/// Longest file of keys or certificates that is read, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// EdDSA on Curve25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256, what most hardware and key services have.
    Es256,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::Es256 => "ECDSA P-256",
        })
    }
}

/// A certificate chain and the key of its first certificate.
#[derive(Clone)]
pub struct SigningKeys {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// DER, the signer's certificate first, without the root.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Key,
    ephemeral: bool,
}

/// Where the key is.
pub(crate) enum Key {
    /// Here.
    Held(PrivateKey),
    /// Elsewhere.
    Command(Box<SignCommand>),
}

impl Key {
    pub(crate) fn algorithm(&self) -> KeyAlgorithm {
        match self {
            Self::Held(key) => key.algorithm(),
            Self::Command(command) => command.public().algorithm(),
        }
    }

    /// Signs as COSE wants it: 64 bytes.
    pub(crate) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, ProvenanceError> {
        match self {
            Self::Held(key) => Ok(key.sign(data)),
            Self::Command(command) => command.sign(data),
        }
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("algorithm", &self.inner.key.algorithm())
            .field("certificates", &self.inner.chain.len())
            .field("ephemeral", &self.inner.ephemeral)
            .finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Reads a PEM chain, the signer's certificate first, and its key, PKCS#8 PEM; where that is encrypted, with
    /// the passphrase in the environment variable `SORA_SIGN_PASSPHRASE`.
    ///
    /// # Errors
    /// [`ProvenanceError::Keys`] where a file cannot be read, where others than its owner may read the key,
    /// and all that [`from_pem`](Self::from_pem) refuses.
    pub fn from_files(certificates: &Path, key: &Path) -> Result<Self, ProvenanceError> {
        use std::os::unix::ffi::OsStringExt;
        private::check_access(key)?;
        let passphrase = std::env::var_os(PASSPHRASE_VARIABLE).filter(|value| !value.is_empty());
        let passphrase = passphrase.map(|value| Zeroizing::new(value.into_vec()));
        Self::from_pem(&read(certificates)?, &read(key)?, passphrase.as_ref().map(|bytes| bytes.as_slice()))
    }

    /// Takes a PEM chain, the signer's certificate first, and its key, PKCS#8 PEM, with the passphrase that it is
    /// encrypted with, if it is. A root at the end of the chain is left out of manifests, as C2PA wants it.
    ///
    /// # Errors
    /// [`ProvenanceError::Keys`] for keys other than Ed25519 and ECDSA P-256, keys of other certificates, encrypted
    /// keys without their passphrase, certificates that are not valid now, without an Organization, an authority
    /// key identifier or the key usages of a C2PA claim signer, and those of certificate authorities.
    pub fn from_pem(
        certificates: &[u8],
        key: &[u8],
        passphrase: Option<&[u8]>,
    ) -> Result<Self, ProvenanceError> {
        let key = PrivateKey::from_pem(key, passphrase)?;
        let (chain, _) = profile::check(certificates, Some(&key))?;
        Ok(Self { inner: Arc::new(Inner { chain, key: Key::Held(key), ephemeral: false }) })
    }

    /// Reads a PEM chain whose key is elsewhere: `command`, a line for the shell, gets what is to be signed on its
    /// standard input and writes the signature to its standard output, 64 bytes (for ECDSA also as DER), within a
    /// minute. It is run once at once, to see that it can.
    ///
    /// # Errors
    /// [`ProvenanceError::Keys`] where the chain cannot be read or is one that
    /// [`from_pem`](Self::from_pem) refuses, and where the command fails or signs with another key.
    pub fn from_command(certificates: &Path, command: &str) -> Result<Self, ProvenanceError> {
        let (chain, public) = profile::check(&read(certificates)?, None)?;
        let key = Key::Command(Box::new(SignCommand::new(command, public)?));
        Ok(Self { inner: Arc::new(Inner { chain, key, ephemeral: false }) })
    }

    /// A fresh Ed25519 key with a chain whose root is forgotten: nobody can ever trust it. What it signs
    /// proves that a clip did not change since, and not where it comes from.
    ///
    /// # Errors
    /// [`ProvenanceError::Keys`] where the system gives no random numbers.
    pub fn ephemeral() -> Result<Self, ProvenanceError> {
        let made = issue::ephemeral()?;
        let key = PrivateKey::from_pem(made.key.as_bytes(), None)?;
        let (chain, _) = profile::check(made.chain.as_bytes(), Some(&key))?;
        Ok(Self { inner: Arc::new(Inner { chain, key: Key::Held(key), ephemeral: true }) })
    }

    /// What the files name that the environment variables `SORA_SIGN_CHAIN` and `SORA_SIGN_KEY` name; `None`
    /// where neither is set.
    ///
    /// # Errors
    /// [`ProvenanceError::Keys`] where only one is set, and what [`from_files`](Self::from_files) refuses.
    pub fn from_environment() -> Result<Option<Self>, ProvenanceError> {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self::from_paths(path(CHAIN_VARIABLE), path(KEY_VARIABLE))
    }

    fn from_paths(chain: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<Self>, ProvenanceError> {
        let (set, missing) = match (chain, key) {
            (None, None) => return Ok(None),
            (Some(chain), Some(key)) => return Self::from_files(&chain, &key).map(Some),
            (Some(_), None) => (CHAIN_VARIABLE, KEY_VARIABLE),
            (None, Some(_)) => (KEY_VARIABLE, CHAIN_VARIABLE),
        };
        Err(refused(format!("{set} is set and {missing} is not; set both or none")))
    }

    /// Whether the keys were made for this process only.
    pub fn is_ephemeral(&self) -> bool {
        self.inner.ephemeral
    }

    /// Length of the chain as DER, in bytes.
    pub(crate) fn chain_bytes(&self) -> usize {
        self.inner.chain.iter().map(Vec::len).sum()
    }
}

fn refused(problem: impl Into<String>) -> ProvenanceError {
    ProvenanceError::Keys(problem.into())
}

/// Reads a file that is overwritten in memory when it goes.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ProvenanceError> {
    use std::io::Read;
    let cannot = |error| refused(format!("{} cannot be read: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let length = file.metadata().map_err(cannot)?.len();
    // With all its room at once no copies are left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(FILE_BYTES) as usize + 1));
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(refused(format!("{} is longer than {FILE_BYTES} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_without_the_other_is_refused_by_name() {
        assert!(SigningKeys::from_paths(None, None).unwrap().is_none());
        let error = SigningKeys::from_paths(Some("a".into()), None).unwrap_err().to_string();
        assert_eq!(error, "SORA_SIGN_CHAIN is set and SORA_SIGN_KEY is not; set both or none");
        let error = SigningKeys::from_paths(None, Some("a".into())).unwrap_err().to_string();
        assert_eq!(error, "SORA_SIGN_KEY is set and SORA_SIGN_CHAIN is not; set both or none");
    }

    #[test]
    fn debug_shows_no_key() {
        let made = development_chain(KeyAlgorithm::Ed25519, "Example").unwrap();
        let keys = SigningKeys::from_pem(made.chain.as_bytes(), made.key.as_bytes(), None).unwrap();
        let expected = "SigningKeys { algorithm: Ed25519, certificates: 2, ephemeral: false, .. }";
        assert_eq!(format!("{keys:?}"), expected);
        let shown = format!("{made:?}");
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
        assert!(SigningKeys::ephemeral().unwrap().is_ephemeral());
    }
}
