//! A clip that is collected before it is signed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use sora_provenance::{
    Claim, Credentials, ProvenanceError, SigningKeys, TrustAnchors, Validity, sign_file, verify_file,
};

use super::keeper::Keeper;
use super::output::Downstream;

/// Length of the buffers that are sent, in bytes.
const PIECE: usize = 256 << 10;

/// What a muxer wrote, in a temporary file of its own folder, which goes with it.
pub(super) struct Spool {
    folder: tempfile::TempDir,
    file: File,
}

impl Spool {
    pub(super) fn new() -> Result<Self, ProvenanceError> {
        let make = || {
            let folder = tempfile::Builder::new().prefix("sorasign-").tempdir()?;
            let file = File::create(folder.path().join("clip.mp4"))?;
            Ok(Self { folder, file })
        };
        make().map_err(stream("making a temporary file for the clip"))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ProvenanceError> {
        self.file.write_all(bytes).map_err(stream("collecting the clip"))
    }

    pub(super) fn seek(&mut self, to: u64) -> Result<(), ProvenanceError> {
        self.file.seek(SeekFrom::Start(to)).map(drop).map_err(stream("collecting the clip"))
    }

    /// Signs what was collected, looks whether it verifies, has the manifest kept, and sends the clip.
    pub(super) fn finish(
        mut self,
        claim: &Claim,
        keys: &SigningKeys,
        keeper: Option<&Keeper>,
        to: &mut Downstream,
    ) -> Result<(), ProvenanceError> {
        self.file.flush().map_err(stream("collecting the clip"))?;
        let (input, output) = (self.folder.path().join("clip.mp4"), self.folder.path().join("signed.mp4"));
        sign_file(&input, &output, claim, keys)?;
        let report = verify_file(&output, None, &TrustAnchors::none())?;
        // No anchors: the best that can be found is a valid manifest of a signer that is not known.
        let valid = matches!(&report.credentials, Credentials::Present(manifest)
            if manifest.validity != Validity::Invalid && manifest.structure.is_empty());
        if !valid {
            return Err(ProvenanceError::Sign(format!(
                "what was signed does not verify: {:?}",
                report.credentials
            )));
        }
        let mut file = File::open(&output).map_err(stream("reading the signed clip"))?;
        if let Some(keeper) = keeper {
            keeper.keep_of(&mut file)?;
            file.seek(SeekFrom::Start(0)).map_err(stream("reading the signed clip"))?;
        }
        let mut piece = vec![0; PIECE];
        loop {
            let length = file.read(&mut piece).map_err(stream("reading the signed clip"))?;
            if length == 0 {
                return Ok(());
            }
            to.write_all(&piece[..length]).map_err(stream("sending the signed clip"))?;
        }
    }
}

fn stream(what: &'static str) -> impl FnOnce(std::io::Error) -> ProvenanceError {
    move |source| ProvenanceError::Stream { what, source }
}
