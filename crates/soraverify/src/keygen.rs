//! Keys and certificates to sign with: a development chain, or a request for a certificate.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sora_provenance::{KeyAlgorithm, development_chain, signing_request};

/// Makes a key to sign with, and a development chain or a request for a certificate.
///
/// A development chain is for trials: what it signs is trusted by those who were given its root.pem as an
/// anchor, and by nobody else. For clips that leave the house, ask for a certificate with --csr.
#[derive(Debug, Args)]
pub struct Keygen {
    /// Folder for root.pem, chain.pem and key.pem, or request.pem and key.pem. Nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Kind of key.
    #[arg(long, value_enum, default_value_t = Algorithm::Ed25519)]
    pub algorithm: Algorithm,
    /// Organization in the certificate.
    #[arg(long, value_name = "NAME", default_value = "Development")]
    pub organization: String,
    /// Make a certificate signing request instead of a development chain.
    #[arg(long, requires = "common_name", requires = "country")]
    pub csr: bool,
    /// Name of the signer in the request.
    #[arg(long, value_name = "NAME", requires = "csr")]
    pub common_name: Option<String>,
    /// Country in the request, two capital letters.
    #[arg(long, value_name = "CC", requires = "csr")]
    pub country: Option<String>,
}

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// EdDSA on Curve25519.
    Ed25519,
    /// ECDSA on P-256, what most hardware and key services have.
    Es256,
}

impl Keygen {
    /// Makes and writes the files. The code is 0, 64 where the arguments or the folder do not allow it, or 70.
    pub fn run(&self) -> ExitCode {
        match self.write() {
            Ok(files) => {
                for file in files {
                    println!("{}", file.display());
                }
                ExitCode::SUCCESS
            }
            Err((code, text)) => {
                eprintln!("error: {text}");
                ExitCode::from(code)
            }
        }
    }

    fn write(&self) -> Result<Vec<PathBuf>, (u8, String)> {
        let usage = |error: sora_provenance::ProvenanceError| (64, error.to_string());
        let algorithm = match self.algorithm {
            Algorithm::Ed25519 => KeyAlgorithm::Ed25519,
            Algorithm::Es256 => KeyAlgorithm::Es256,
        };
        // The key is last: where anything else cannot be written, there is none.
        let names: &[&str] =
            if self.csr { &["request.pem", "key.pem"] } else { &["root.pem", "chain.pem", "key.pem"] };
        for name in names {
            let path = self.out.join(name);
            if path.symlink_metadata().is_ok() {
                return Err((64, format!("{} is there already; it is not overwritten", path.display())));
            }
        }
        let texts: Vec<String> = match (&self.common_name, &self.country) {
            (Some(name), Some(country)) if self.csr => {
                let (request, key) =
                    signing_request(algorithm, &self.organization, name, country).map_err(usage)?;
                vec![request, key]
            }
            _ => {
                let made = development_chain(algorithm, &self.organization).map_err(usage)?;
                vec![made.root, made.chain, made.key.as_str().to_owned()]
            }
        };
        let cannot = |path: &Path, error: std::io::Error| {
            (70, format!("{} cannot be written: {error}", path.display()))
        };
        std::fs::create_dir_all(&self.out).map_err(|error| cannot(&self.out, error))?;
        let mut written = Vec::new();
        for (name, text) in names.iter().zip(texts) {
            let path = self.out.join(name);
            create(&path, *name == "key.pem", text.as_bytes()).map_err(|error| cannot(&path, error))?;
            written.push(path);
        }
        Ok(written)
    }
}

/// Writes a file that is not there yet; a secret one is never readable by others, not for a moment.
fn create(path: &Path, secret: bool, text: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
