//! A clip's manifest, its marks, and what follows from both.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sora_provenance::{
    Container, Credentials, Judgement, ProvenanceError, Report, Resolution, TrustAnchors, WATERMARK_ALG,
    WatermarkEvidence, crjson, judge, verify_file, verify_set,
};
use sora_watermark::Payload;

use crate::check::{Check, Checked, watermark};
use crate::reader::ReadError;
use crate::recover::Recovery;

/// Why nothing can be said of a file at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// It is not there, or must not be read.
    #[error("{0}")]
    NoInput(String),
    /// It is no video.
    #[error("{0}")]
    Format(String),
    /// The check itself failed.
    #[error("{0}")]
    Internal(String),
}

impl ClipError {
    /// Exit code, of those that `sysexits.h` knows.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Format(_) => 65,
            Self::NoInput(_) => 66,
            Self::Internal(_) => 70,
        }
    }
}

/// What was found about a clip.
#[derive(Debug)]
pub struct Judged {
    /// Its manifest.
    pub manifest: Report,
    /// Its marks; `None` where nobody looked for any.
    pub marks: Option<Result<Checked, ReadError>>,
    /// What a store knows of its marks; `None` where nobody [asked](crate::recover::recover) one, or had no need to.
    pub recovery: Option<Recovery>,
    /// What follows.
    pub judgement: Judgement,
}

/// Looks for the manifest of the clip at `path`, in it and beside it, then for marks, where `check` says for
/// which. An id that the manifest names is verified where a search that does not know it finds nothing.
/// `progress` is told as in [`watermark`].
///
/// # Errors
/// Where the file cannot be read or is neither a video nor an MP4 file.
pub fn judge_clip(
    path: &Path,
    check: Option<&Check>,
    anchors: &TrustAnchors,
    progress: impl FnMut(Duration, Option<Duration>),
) -> Result<Judged, ClipError> {
    let sidecar = sidecar(path);
    let (manifest, broken) = match verify_file(path, sidecar.as_deref(), anchors) {
        Ok(report) => (report, None),
        Err(ProvenanceError::Container(problem)) => {
            (Report { container: Container::Other, credentials: Credentials::Absent }, Some(problem))
        }
        Err(error @ ProvenanceError::Stream { .. }) => return Err(ClipError::NoInput(error.to_string())),
        Err(error) => return Err(ClipError::Internal(error.to_string())),
    };
    let marks = check.map(|check| look(path, check, &manifest, progress));
    match (&marks, broken) {
        // Neither way it is a clip.
        (Some(Err(error @ (ReadError::Open(_) | ReadError::Empty))), _) => {
            return Err(ClipError::NoInput(error.to_string()));
        }
        (Some(Err(error)), Some(_)) => return Err(ClipError::Format(error.to_string())),
        (None, Some(problem)) => {
            return Err(ClipError::Format(format!("not an MP4 file that can be handled: {problem}")));
        }
        _ => {}
    }
    Ok(judged(manifest, marks))
}

/// Looks for the manifest of a fragmented MP4 in files of their own, its beginning `init` and its `fragments` in the
/// order in which they are played, then for marks, as [`judge_clip`].
///
/// # Errors
/// Where a file cannot be read or the beginning is none.
pub fn judge_set(
    init: &Path,
    fragments: &[PathBuf],
    check: Option<&Check>,
    anchors: &TrustAnchors,
    progress: impl FnMut(Duration, Option<Duration>),
) -> Result<Judged, ClipError> {
    let manifest = verify_set(init, fragments, anchors).map_err(|error| match error {
        ProvenanceError::Container(problem) => ClipError::Format(problem),
        ProvenanceError::Stream { .. } => ClipError::NoInput(error.to_string()),
        error => ClipError::Internal(error.to_string()),
    })?;
    let marks = match check {
        None => None,
        Some(check) => {
            // One file is what can be decoded.
            let failed =
                |error: std::io::Error| ClipError::NoInput(format!("the set cannot be read: {error}"));
            let mut whole =
                tempfile::Builder::new().prefix("soraverify-").suffix(".mp4").tempfile().map_err(failed)?;
            for part in std::iter::once(init).chain(fragments.iter().map(PathBuf::as_path)) {
                std::io::copy(&mut std::fs::File::open(part).map_err(failed)?, &mut whole).map_err(failed)?;
            }
            Some(look(whole.path(), check, &manifest, progress))
        }
    };
    Ok(judged(manifest, marks))
}

/// The verdict of both, without a store.
fn judged(manifest: Report, marks: Option<Result<Checked, ReadError>>) -> Judged {
    let judgement = judgement(&manifest, marks.as_ref(), Resolution::None);
    Judged { manifest, marks, recovery: None, judgement }
}

/// The verdict of manifest, marks, and what a store knows of these.
pub(crate) fn judgement(
    manifest: &Report,
    marks: Option<&Result<Checked, ReadError>>,
    resolution: Resolution,
) -> Judgement {
    let mut judgement = judge(manifest, &evidence(marks, manifest), resolution);
    if let Some(Ok(checked)) = marks
        && checked.verdict.conflict()
    {
        judgement.reasons.push("It carries two ids under one key: it was marked again, or mixed.".into());
    }
    judgement
}

/// The manifest of the clip at `path`, in it or beside it, as crJSON in one line.
///
/// # Errors
/// Where there is none, or none that can be read.
pub fn manifest_as_crjson(path: &Path, anchors: &TrustAnchors) -> Result<String, ClipError> {
    match crjson(path, sidecar(path).as_deref(), anchors) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(ClipError::Format("there is no manifest that could be shown".into())),
        Err(error @ ProvenanceError::Stream { .. }) => Err(ClipError::NoInput(error.to_string())),
        Err(error) => Err(ClipError::Format(error.to_string())),
    }
}

/// The manifest beside a clip: `clip.mp4.c2pa`, or `clip.c2pa`.
fn sidecar(path: &Path) -> Option<PathBuf> {
    let mut longer = OsString::from(path);
    longer.push(".c2pa");
    [PathBuf::from(longer), path.with_extension("c2pa")]
        .into_iter()
        .find(|found| found != path && found.is_file())
}

fn look(
    path: &Path,
    check: &Check,
    manifest: &Report,
    progress: impl FnMut(Duration, Option<Duration>),
) -> Result<Checked, ReadError> {
    let mut check = check.clone();
    if check.expect.is_none() {
        check.expect = promised(manifest).and_then(|value| value.parse::<Payload>().ok());
    }
    let Some(path) = path.to_str() else {
        return Err(ReadError::Open("its name is not UTF-8".into()));
    };
    watermark(path, &check, progress)
}

/// The id that a manifest names, hexadecimal.
fn promised(manifest: &Report) -> Option<&str> {
    let bindings = &manifest.manifest()?.bindings;
    bindings.iter().find(|found| found.alg == WATERMARK_ALG).map(|found| found.value.as_str())
}

/// What marks say, for the verdict. Of several the one counts that the manifest names; but where two are under
/// one key, the other one.
fn evidence(marks: Option<&Result<Checked, ReadError>>, manifest: &Report) -> WatermarkEvidence {
    let checked = match marks {
        None => return WatermarkEvidence::NotLookedFor,
        Some(Err(error)) => return WatermarkEvidence::Inconclusive(error.to_string()),
        Some(Ok(checked)) => checked,
    };
    let verdict = &checked.verdict;
    let mut found: Vec<String> = verdict.marks.iter().map(|mark| mark.payload.to_string()).collect();
    if let Some(expected) = verdict.expected.as_ref().filter(|expected| expected.accepted) {
        found.push(expected.payload.to_string());
    }
    let promised = promised(manifest);
    let fits = |value: &&String| promised == Some(value.as_str());
    let chosen = match verdict.conflict() {
        true => found.iter().find(|value| !fits(value)),
        false => found.iter().find(fits),
    };
    match (chosen.or(found.first()), &checked.error) {
        (Some(value), _) => WatermarkEvidence::Found(digits(value)),
        (None, Some(error)) => WatermarkEvidence::Inconclusive(error.to_string()),
        (None, None) => WatermarkEvidence::Absent,
    }
}

/// The bytes of hexadecimal digits.
pub(crate) fn digits(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        digits.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_become_bytes() {
        assert_eq!(super::digits("10ffab"), [0x10, 0xff, 0xab]);
    }
}
