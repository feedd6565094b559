//! A clip that passes unchanged, with a manifest in another file.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sora_provenance::{
    Claim, ProvenanceError, SigningKeys, TrustAnchors, Validity, sign_sidecar, verify_file,
};

use super::keeper::Keeper;
use super::output::Downstream;

/// The clip goes on as it comes; a copy in a temporary file is what the manifest is made of.
pub(super) struct Sidecar {
    copy: tempfile::NamedTempFile,
    out: Downstream,
    manifest: PathBuf,
}

impl Sidecar {
    pub(super) fn new(out: Downstream, manifest: PathBuf) -> Result<Self, ProvenanceError> {
        let copy = tempfile::Builder::new().prefix("sorasign-").suffix(".mp4").tempfile();
        let copy = copy.map_err(stream("making a temporary file for the clip"))?;
        Ok(Self { copy, out, manifest })
    }

    pub(super) fn flow_error(&self) -> Option<gst::FlowError> {
        self.out.flow_error()
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ProvenanceError> {
        self.copy.write_all(bytes).map_err(stream("collecting the clip"))?;
        self.out.write_all(bytes).map_err(stream("sending the clip"))
    }

    pub(super) fn seek(&mut self, to: u64) -> Result<(), ProvenanceError> {
        self.copy.seek(SeekFrom::Start(to)).map_err(stream("collecting the clip"))?;
        self.out.seek(SeekFrom::Start(to)).map(drop).map_err(stream("sending the clip"))
    }

    /// Makes the manifest and puts it where it belongs when it is whole and fits the clip.
    pub(super) fn finish(
        mut self,
        claim: &Claim,
        keys: &SigningKeys,
        keeper: Option<&Keeper>,
    ) -> Result<(), ProvenanceError> {
        self.copy.flush().map_err(stream("collecting the clip"))?;
        let manifest = sign_sidecar(self.copy.path(), claim, keys)?;
        let folder = self.manifest.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let writing = || stream("writing the manifest beside the clip");
        let mut file = tempfile::Builder::new()
            .prefix(".sorasign-")
            .suffix(".c2pa")
            .tempfile_in(folder)
            .map_err(writing())?;
        file.write_all(&manifest).map_err(writing())?;
        let report = verify_file(self.copy.path(), Some(file.path()), &TrustAnchors::none())?;
        if !report.manifest().is_some_and(|found| found.validity != Validity::Invalid) {
            return Err(ProvenanceError::Sign(format!(
                "what was signed does not verify: {:?}",
                report.credentials
            )));
        }
        if let Some(keeper) = keeper {
            keeper.keep(&manifest)?;
        }
        readable(file.as_file()).map_err(writing())?;
        file.as_file().sync_all().map_err(writing())?;
        file.persist(&self.manifest).map_err(|error| writing()(error.error))?;
        Ok(())
    }
}

/// Temporary files are for their owner only; a manifest is for everybody.
#[cfg(unix)]
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

fn stream(what: &'static str) -> impl FnOnce(std::io::Error) -> ProvenanceError {
    move |source| ProvenanceError::Stream { what, source }
}
