//! Checking a set.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};

use c2pa::Reader;
use ciborium::Value;

use super::read;
use crate::inspect::inspect;
use crate::jumbf;
use crate::live::{LiveVerifier, field};
use crate::mp4::boxes::{Inner, bad, c2pa_purpose, child, children};
use crate::mp4::samples;
use crate::report::{Container, Credentials, Location, Report};
use crate::verify::{credentials, unreadable};
use crate::{ProvenanceError, TrustAnchors};

const INIT: &str = "reading the beginning of the set";
const FRAGMENT: &str = "reading a fragment of the set";
/// Most problems of fragments that are listed.
const PROBLEMS: usize = 16;
/// Labels of the assertion with the hashes, newest first.
const HASHES: [&str; 3] = ["c2pa.hash.bmff.v3", "c2pa.hash.bmff.v2", "c2pa.hash.bmff"];

/// Checks a set: the manifest in its beginning, and every fragment, which are to be given in the order in which
/// they are played. One fragment is in memory at a time.
///
/// # Errors
/// As [`verify_file`](crate::verify_file), and [`ProvenanceError::Container`] for a part longer than 256 MiB.
pub fn verify_set(
    init: &Path,
    fragments: &[PathBuf],
    anchors: &TrustAnchors,
) -> Result<Report, ProvenanceError> {
    let beginning = read(init, INIT)?;
    if let Some(report) = stream(&beginning, fragments, anchors)? {
        return Ok(report);
    }
    let mut inspection = inspect(&mut Cursor::new(&beginning))?;
    let container = Container::FragmentedMp4;
    if !inspection.signed {
        return Ok(Report { container, credentials: Credentials::Absent });
    }
    inspection.problems.extend(jumbf::embedded(&mut Cursor::new(&beginning))?);
    inspection.problems.extend(problems(&beginning, fragments)?);
    // c2pa knows a format by the file's name.
    let mut named = tempfile::Builder::new()
        .prefix("sora-init-")
        .suffix(".mp4")
        .tempfile()
        .map_err(ProvenanceError::stream(INIT))?;
    named.write_all(&beginning).map_err(ProvenanceError::stream(INIT))?;
    let reader = Reader::from_context(anchors.context()?);
    let credentials = match reader.with_fragmented_files(named.path(), &fragments.to_vec()) {
        Ok(reader) => credentials(&reader, Location::Embedded, inspection),
        Err(error) => unreadable(error.to_string(), inspection),
    };
    Ok(Report { container, credentials })
}

/// Checks a set that was signed as a stream; `None` for any other.
fn stream(
    beginning: &[u8],
    fragments: &[PathBuf],
    anchors: &TrustAnchors,
) -> Result<Option<Report>, ProvenanceError> {
    let mut verifier = LiveVerifier::new(anchors.clone());
    if verifier.push(beginning).is_err() || !verifier.is_live() {
        return Ok(None);
    }
    for fragment in fragments {
        if let Err(problem) = verifier.push(&read(fragment, FRAGMENT)?) {
            verifier.broken(&problem);
            return Ok(verifier.report());
        }
    }
    if let Err(problem) = verifier.finish() {
        verifier.broken(&problem);
    }
    Ok(verifier.report())
}

/// A tree of hashes, as the beginning's manifest has it.
struct Tree {
    unique: i128,
    local: i128,
    count: i128,
    bound: bool,
}

/// What the hashes do not show.
fn problems(beginning: &[u8], fragments: &[PathBuf]) -> Result<Vec<String>, ProvenanceError> {
    let trees = trees(beginning)?;
    let mut problems = Vec::new();
    if trees.is_empty() {
        problems.push("its manifest names no fragments".into());
    }
    if trees.iter().any(|tree| !tree.bound) {
        problems.push("its fragments are not bound to the beginning (no initHash)".into());
    }
    let moov = child(beginning, b"moov")?.ok_or_else(|| bad("a beginning without an index"))?;
    let mut chosen: Option<&Tree> = None;
    for (at, path) in fragments.iter().enumerate() {
        if problems.len() >= PROBLEMS {
            return Ok(problems);
        }
        let mut wrong = |what: String| problems.push(format!("fragment {} of the set: {what}", at + 1));
        let bytes = read(path, FRAGMENT)?;
        let place = match place(&bytes) {
            Ok(place) => place,
            Err(what) => {
                wrong(what);
                continue;
            }
        };
        let tree = trees.iter().find(|tree| (tree.unique, tree.local) == (place.unique, place.local));
        match (tree, chosen) {
            (None, _) => wrong("it belongs to another manifest".into()),
            (Some(tree), Some(first)) if !std::ptr::eq(tree, first) => {
                wrong("it belongs to another rendition".into())
            }
            (Some(tree), _) => chosen = Some(tree),
        }
        if place.location != at as i128 {
            wrong(format!("it is number {} of what was signed", place.location + 1));
        }
        match samples::problems_of_fragment(moov.content, &bytes) {
            Ok(found) => found.into_iter().for_each(wrong),
            Err(error) => wrong(error.to_string()),
        }
    }
    match chosen {
        Some(tree) if tree.count != fragments.len() as i128 => {
            problems.push(format!("{} of the {} fragments that were signed", fragments.len(), tree.count));
        }
        None if !fragments.is_empty() => {}
        None => problems.push("the set has no fragments".into()),
        Some(_) => {}
    }
    Ok(problems)
}

/// The trees of the active manifest.
fn trees(beginning: &[u8]) -> Result<Vec<Tree>, ProvenanceError> {
    let stores = jumbf::embedded_stores(&mut Cursor::new(beginning))?;
    let mut trees = Vec::new();
    for store in &stores {
        let hashes = HASHES.iter().flat_map(|label| jumbf::assertions(store, label));
        for value in hashes.filter_map(|bytes| ciborium::from_reader::<Value, _>(bytes).ok()) {
            for tree in field(&value, "merkle").and_then(Value::as_array).into_iter().flatten() {
                let number = |name| field(tree, name).and_then(Value::as_integer).map_or(-1, i128::from);
                trees.push(Tree {
                    unique: number("uniqueId"),
                    local: number("localId"),
                    count: number("count"),
                    bound: field(tree, "initHash")
                        .is_some_and(|hash| hash.as_bytes().is_some_and(|hash| !hash.is_empty())),
                });
            }
        }
    }
    Ok(trees)
}

/// Where a fragment says that it belongs.
struct Place {
    unique: i128,
    local: i128,
    location: i128,
}

fn place(fragment: &[u8]) -> Result<Place, String> {
    let children = children(fragment).map_err(|error| error.to_string())?;
    let boxes: Vec<&Inner<'_>> = children
        .iter()
        .filter(|inner| &inner.kind == b"uuid" && c2pa_purpose(inner.content).as_deref() == Some("merkle"))
        .collect();
    let content = match boxes.as_slice() {
        [] => return Err("it is not signed".into()),
        [one] => one.content,
        more => return Err(format!("it has {} places in the tree, not one", more.len())),
    };
    // Identifier, version and flags, purpose with its zero.
    let value = content.get(16 + 4 + b"merkle\0".len()..).unwrap_or_default();
    let value: Value =
        ciborium::from_reader(value).map_err(|error| format!("its place in the tree is no CBOR: {error}"))?;
    let number = |name| {
        let number = field(&value, name).and_then(Value::as_integer).map(i128::from);
        number.ok_or_else(|| format!("its place in the tree has no {name}"))
    };
    Ok(Place { unique: number("uniqueId")?, local: number("localId")?, location: number("location")? })
}
