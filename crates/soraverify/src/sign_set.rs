//! Signing a finished set of a beginning and fragments.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use sora_provenance::{Claim, ProvenanceError, SigningKeys, sign_set};
use sora_record::GenerationRecord;

/// Signs a finished set of fragmented MP4, as HLS and DASH publish it: a beginning and fragments in files of their own.
///
/// Streams are signed while they are made, by the element sorasign. This is for sets that are complete: a Merkle tree
/// over all of them shows that none is missing.
#[derive(Debug, Args)]
pub struct SignSet {
    /// The beginning of the set.
    #[arg(long, value_name = "FILE")]
    pub init: PathBuf,
    /// Folder for the signed set, under the same names. Nothing in it is overwritten.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// PEM file with the signer's certificate and those above it [default: $SORA_SIGN_CHAIN, else an ephemeral
    /// development certificate].
    #[arg(long, value_name = "PEM")]
    pub certificates: Option<PathBuf>,
    /// PKCS#8 PEM file with the signer's key [default: $SORA_SIGN_KEY]; where it is encrypted, $SORA_SIGN_PASSPHRASE
    /// opens it.
    #[arg(long, value_name = "PEM", requires = "certificates")]
    pub key: Option<PathBuf>,
    /// Instead of --key: a line for the shell that reads what is to be signed and writes the signature.
    #[arg(long, value_name = "COMMAND", requires = "certificates", conflicts_with = "key")]
    pub sign_command: Option<String>,
    /// A file with the generation record, as soragen publishes it. Without one nothing is said of AI.
    #[arg(long, value_name = "JSON")]
    pub record: Option<PathBuf>,
    /// The id of the mark that the set carries, 24 hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    pub watermark_id: Option<String>,
    /// The fragments, all of them, in the order in which they are played.
    #[arg(required = true, value_name = "FRAGMENT")]
    pub fragments: Vec<PathBuf>,
}

impl SignSet {
    /// Signs. The code is 0, 64 where the arguments do not allow it, 65 for what is no such set, 66 and 70 for files
    /// that cannot be read or written.
    pub fn run(&self) -> ExitCode {
        let error = match self.sign() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error,
        };
        eprintln!("error: {error}");
        ExitCode::from(match error {
            ProvenanceError::Container(_) => 65,
            ProvenanceError::Stream { .. } => 66,
            ProvenanceError::Sign(_) | ProvenanceError::Seal(_) => 70,
            _ => 64,
        })
    }

    fn sign(&self) -> Result<(), ProvenanceError> {
        let keys = match (&self.certificates, &self.key, &self.sign_command) {
            (Some(certificates), Some(key), _) => SigningKeys::from_files(certificates, key)?,
            (Some(certificates), None, Some(command)) => SigningKeys::from_command(certificates, command)?,
            (Some(_), None, None) => {
                return Err(ProvenanceError::Keys(
                    "--certificates is given, and neither --key nor --sign-command".into(),
                ));
            }
            (None, ..) => match SigningKeys::from_environment()? {
                Some(keys) => keys,
                None => SigningKeys::ephemeral()?,
            },
        };
        if keys.is_ephemeral() {
            eprintln!(
                "warning: no key is given: an ephemeral development certificate signs, which proves integrity, not origin"
            );
        }
        let record = match &self.record {
            None => None,
            Some(path) => {
                let wrong =
                    |problem: String| ProvenanceError::Claim(format!("{}: {problem}", path.display()));
                let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
                Some(GenerationRecord::from_json(&text).map_err(|error| wrong(error.to_string()))?)
            }
        };
        let claim = Claim { record, watermark_id: self.watermark_id.clone(), title: None };
        sign_set(&self.init, &self.fragments, &self.out, &claim, &keys)
    }
}
