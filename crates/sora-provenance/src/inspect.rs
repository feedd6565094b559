//! The checks of a clip that a C2PA library does not do: where its manifests stand, and that every sample
//! lies in media data that a hash covers.

use std::io::{Read, Seek};

use crate::ProvenanceError;
use crate::mp4::boxes::{self, TopBox};
use crate::mp4::samples::{self, INDEX_BYTES};
use crate::report::Container;

/// What kind of file it is, and what is wrong with its structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// What kind of file it is.
    pub container: Container,
    /// Whether there is a C2PA box in it, whatever it is worth.
    pub signed: bool,
    /// What is wrong, for people: nothing in a whole file with at most one manifest in its place.
    pub problems: Vec<String>,
}

/// Looks at the boxes of a file. Nothing of it is believed: sizes are checked against the file, and what is
/// taken into memory is bounded.
///
/// # Errors
/// [`ProvenanceError::Container`] where it is no MP4 file and holds no C2PA box either: then there is nothing
/// that could be judged. [`ProvenanceError::Stream`] where it cannot be read.
pub fn inspect(file: &mut (impl Read + Seek)) -> Result<Inspection, ProvenanceError> {
    let (found, broken) = boxes::scan_until_broken(file)?;
    let signed = found.iter().any(|found| found.c2pa.is_some());
    let container = container(&found);
    if let Some(problem) = broken {
        // A file that says it is signed and is not whole was changed; any other is just no video.
        return if signed {
            Ok(Inspection { container, signed, problems: vec![problem.to_string()] })
        } else {
            Err(problem)
        };
    }
    let mut problems = Vec::new();
    match found.first() {
        Some(first) if &first.kind == b"ftyp" => {}
        _ if signed => problems.push("it does not begin with \"ftyp\"".into()),
        Some(first) => {
            let name = boxes::name(first.kind);
            return Err(boxes::bad(format!("it begins with a box {name:?}, not with \"ftyp\"")));
        }
        None => return Err(boxes::bad("it is empty")),
    }
    problems.extend(manifest_places(&found));
    match samples::problems(file, &found) {
        Ok(more) => problems.extend(more),
        Err(error @ ProvenanceError::Stream { .. }) => return Err(error),
        Err(problem) if signed => problems.push(problem.to_string()),
        Err(problem) => return Err(problem),
    }
    Ok(Inspection { container, signed, problems })
}

fn container(found: &[TopBox]) -> Container {
    let has = |kind: &[u8; 4]| found.iter().any(|found| &found.kind == kind);
    match (has(b"moof"), has(b"mdat")) {
        (true, _) => Container::FragmentedMp4,
        (false, true) => Container::Mp4,
        (false, false) => Container::InitSegment,
    }
}

/// Whether a file that begins so is fragmented; `None` where more of it is needed to say so. What is no MP4 file is not.
pub fn is_fragmented(head: &[u8]) -> Option<bool> {
    let mut at = 0;
    loop {
        let Ok(header) = boxes::header(head.get(at..)?) else { return Some(false) };
        let header = header?;
        match &header.kind {
            b"moof" => return Some(true),
            b"mdat" => return Some(false),
            kind if at == 0 && kind != b"ftyp" => return Some(false),
            _ => {}
        }
        let Some(end) = header.size.and_then(|size| at.checked_add(usize::try_from(size).ok()?)) else {
            return Some(false);
        };
        let whole = match head.get(at..end) {
            Some(whole) => whole,
            // Nothing that is waited for is longer.
            None => return (end as u64 > INDEX_BYTES).then_some(false),
        };
        if &header.kind == b"moov" {
            let fragmented = boxes::child(&whole[header.header as usize..], b"mvex");
            return Some(matches!(fragmented, Ok(Some(_))));
        }
        at = end;
    }
}

/// C2PA 2.4 §A.5.3: one manifest box, after `ftyp`, before the index and the media data.
fn manifest_places(found: &[TopBox]) -> Vec<String> {
    let mut problems = Vec::new();
    let is_manifest = |found: &TopBox| matches!(found.c2pa.as_deref(), Some("manifest" | "original"));
    let manifests: Vec<usize> = (0..found.len()).filter(|at| is_manifest(&found[*at])).collect();
    if manifests.len() > 1 {
        problems.push(format!("{} manifests; one is allowed", manifests.len()));
    }
    let media = found.iter().position(|found| matches!(&found.kind, b"moov" | b"mdat" | b"moof"));
    if let (Some(manifest), Some(media)) = (manifests.first(), media)
        && *manifest > media
    {
        let name = boxes::name(found[media].kind);
        problems.push(format!("the manifest stands behind {name:?}; its place is before"));
    }
    for purpose in found.iter().filter_map(|found| found.c2pa.as_deref()) {
        if !matches!(purpose, "manifest" | "merkle" | "original" | "update") {
            problems.push(format!("a C2PA box with the unknown purpose {purpose:?}"));
        }
    }
    problems
}
