//! Signing a finished set.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::verify_set;
use crate::mp4::boxes::{bad, child};
use crate::report::Validity;
use crate::sign::{ClipSigner, add_nameless, builder, failed};
use crate::{Claim, ProvenanceError, SigningKeys, TrustAnchors};

/// Signs a finished set: the beginning `init` and all of its `fragments`, in the order in which they are played, into
/// the folder `output`, under the names that they have. The beginning, which holds the manifest, comes there last:
/// until then nothing looks signed. What was written is checked before.
///
/// # Errors
/// [`ProvenanceError::Container`] for parts that are none or are signed already, two parts of one name, and names that
/// are in `output` already; [`ProvenanceError::Stream`] where files cannot be read or written;
/// [`ProvenanceError::Sign`] where the manifest cannot be made.
pub fn sign_set(
    init: &Path,
    fragments: &[PathBuf],
    output: &Path,
    claim: &Claim,
    keys: &SigningKeys,
) -> Result<(), ProvenanceError> {
    let named = names(init, fragments, output)?;
    let beginning = super::read(init, "reading the beginning of the set")?;
    child(&beginning, b"moov")?
        .ok_or_else(|| bad(format!("{} is no beginning: it has no index", init.display())))?;
    let writing = || ProvenanceError::stream("writing the signed set");
    // c2pa takes patterns, and orders by name: it gets names of its own, in a folder without signs of patterns.
    let work = tempfile::Builder::new().prefix("sora-set-").tempdir().map_err(writing())?;
    let source = work.path().join("set");
    std::fs::create_dir(&source).map_err(writing())?;
    std::fs::write(source.join("init.mp4"), &beginning).map_err(writing())?;
    for (at, fragment) in fragments.iter().enumerate() {
        std::fs::copy(fragment, source.join(numbered(at)))
            .map_err(ProvenanceError::stream("reading a fragment of the set"))?;
    }
    let (mut builder, _, ingredients) = builder(claim, keys)?;
    add_nameless(&mut builder, &ingredients)?;
    let signed = work.path().join("signed");
    builder
        .sign_fragmented_files(
            &ClipSigner::new(keys),
            source.join("init.mp4"),
            "*.m4s".into(),
            signed.clone(),
        )
        .map_err(failed)?;
    let signed = signed.join("set");
    let made: Vec<PathBuf> = (0..fragments.len()).map(|at| signed.join(numbered(at))).collect();
    let report = verify_set(&signed.join("init.mp4"), &made, &TrustAnchors::none())?;
    if !report.manifest().is_some_and(|found| found.validity != Validity::Invalid) {
        return Err(ProvenanceError::Sign(format!(
            "what was signed does not verify: {:?}",
            report.credentials
        )));
    }
    std::fs::create_dir_all(output).map_err(writing())?;
    let (first, rest) = named.split_first().ok_or_else(|| bad("a set without a beginning"))?;
    for (name, from) in rest.iter().zip(&made) {
        publish(from, &output.join(name)).map_err(writing())?;
    }
    publish(&signed.join("init.mp4"), &output.join(first)).map_err(writing())
}

fn numbered(at: usize) -> String {
    format!("{at:08}.m4s")
}

/// The names of the parts, the beginning's first.
fn names(init: &Path, fragments: &[PathBuf], output: &Path) -> Result<Vec<OsString>, ProvenanceError> {
    if fragments.is_empty() {
        return Err(bad("a set without fragments"));
    }
    let mut names: Vec<OsString> = Vec::new();
    for part in std::iter::once(init).chain(fragments.iter().map(PathBuf::as_path)) {
        let name = part.file_name().ok_or_else(|| bad(format!("{} is no file", part.display())))?;
        names.push(name.to_owned());
        if output.join(name).exists() {
            return Err(bad(format!(
                "{} is there already; it is not overwritten",
                output.join(name).display()
            )));
        }
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(bad(format!("two parts are called {}", pair[0].display())));
    }
    Ok(names)
}

/// Puts a finished file where it belongs, whole or not at all, for everybody to read.
fn publish(from: &Path, to: &Path) -> std::io::Result<()> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".sora-set-").tempfile_in(folder)?;
    std::io::copy(&mut std::fs::File::open(from)?, file.as_file_mut())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(to)?;
    Ok(())
}
