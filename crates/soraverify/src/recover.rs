//! Finding a clip's manifest in a store, by the mark that the clip carries.

use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sora_provenance::{Credentials, ManifestReport, Resolution, TrustAnchors, Validity, WATERMARK_ALG};
use sora_store::{Checked, Store, StoreError};
use sora_watermark::{Agreement, Fingerprint, Fingerprinter, Likeness, Mark, Verdict};

use crate::clip::{ClipError, Judged, digits, judgement};
use crate::reader::{ReadError, Reader};

/// Most manifests of one mark that are looked at.
const MOST: usize = 16;

/// What a store knows of the marks of a clip.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Recovery {
    /// The stored manifest whose clip resembles this one most. In JSON as [`Credentials::Present`].
    #[serde(serialize_with = "present")]
    pub manifest: Option<ManifestReport>,
    /// Id of the mark that led to it, 24 hexadecimal digits.
    pub watermark: Option<String>,
    /// Whether its clip is this one, by what both look like.
    pub resemblance: Option<Resemblance>,
    /// Correlation of the details of both, -1 to 1; absent where the store has nothing to compare with.
    pub likeness: Option<f64>,
    /// The same of what changes over time; absent where hardly anything does, or nothing could be compared.
    pub motion: Option<f64>,
    /// What is wrong with manifests that the store has for the marks, and that were not taken for that.
    pub problems: Vec<String>,
}

fn present<S: Serializer>(manifest: &Option<ManifestReport>, serializer: S) -> Result<S::Ok, S::Error> {
    manifest.clone().map(|manifest| Credentials::Present(Box::new(manifest))).serialize(serializer)
}

/// Whether two clips are the same by what they look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resemblance {
    /// They look alike.
    Agrees,
    /// They do not.
    Differs,
    /// It cannot be said.
    Unclear,
}

impl From<Agreement> for Resemblance {
    fn from(agreement: Agreement) -> Self {
        match agreement {
            Agreement::Agrees => Self::Agrees,
            Agreement::Differs => Self::Differs,
            Agreement::Unclear => Self::Unclear,
        }
    }
}

impl Resemblance {
    /// In order of what is said rather.
    fn rank(self) -> u8 {
        match self {
            Self::Agrees => 2,
            Self::Unclear => 1,
            Self::Differs => 0,
        }
    }
}

/// A stored manifest that a mark leads to.
struct Candidate {
    mark: Mark,
    found: Checked,
    resemblance: Resemblance,
    likeness: Option<Likeness>,
}

/// Looks in a store for the manifests of the marks that were found in the clip at `path`, compares what the clip looks
/// like with what is stored of theirs, and judges anew. A clip whose own manifest is of a trusted signer needs no other.
/// Its frames are read once more, where the store has something to compare them with.
///
/// # Errors
/// Where the store or the clip cannot be read. What is wrong with a stored manifest is no error, see [`Recovery`].
pub fn recover(
    path: &Path,
    mut judged: Judged,
    store: &Store,
    anchors: &TrustAnchors,
) -> Result<Judged, ClipError> {
    let Some(Ok(checked)) = &judged.marks else { return Ok(judged) };
    let trusted = |manifest: &ManifestReport| {
        matches!(manifest.validity, Validity::TrustedOwn | Validity::TrustedOthers)
    };
    if judged.manifest.manifest().is_some_and(trusted) || checked.verdict.marks.is_empty() {
        return Ok(judged);
    }
    let internal = |error: StoreError| ClipError::Internal(error.to_string());
    let mut problems = Vec::new();
    let found = candidates(path, &checked.verdict, store, anchors, &mut problems).map_err(internal)?;
    let best = found.into_iter().max_by(|a, b| {
        let score = |one: &Candidate| one.likeness.map_or(-2.0, |found| found.score);
        let rank = |one: &Candidate| (one.resemblance.rank(), trusted(&one.found.report));
        rank(a).cmp(&rank(b)).then(score(a).total_cmp(&score(b)))
    });
    let resolution = best.as_ref().map_or(Resolution::None, |best| match best.resemblance {
        Resemblance::Agrees if trusted(&best.found.report) => Resolution::Trusted,
        Resemblance::Agrees => Resolution::Untrusted,
        Resemblance::Unclear => Resolution::Unclear,
        Resemblance::Differs => Resolution::NotThisClip,
    });
    // A manifest in the clip that the store has too was put in nobody's place.
    let own = judged.manifest.manifest_id().map(str::to_owned);
    let same = best.as_ref().is_some_and(|best| Some(&best.found.report.id) == own.as_ref());
    let resolution = match &judged.manifest.credentials {
        Credentials::Absent => resolution,
        _ if same => Resolution::None,
        _ => resolution,
    };
    judged.judgement = judgement(&judged.manifest, judged.marks.as_ref(), resolution);
    judged
        .judgement
        .reasons
        .extend(problems.iter().map(|problem| format!("A stored manifest is of no use: {problem}.")));
    let mut recovery = Recovery {
        manifest: None,
        watermark: None,
        resemblance: None,
        likeness: None,
        motion: None,
        problems,
    };
    if let Some(best) = best {
        recovery.watermark = Some(best.mark.payload.to_string());
        recovery.resemblance = Some(best.resemblance);
        recovery.likeness = best.likeness.map(|found| found.score);
        recovery.motion = best.likeness.and_then(|found| found.motion);
        recovery.manifest = Some(best.found.report);
    }
    judged.recovery = Some(recovery);
    Ok(judged)
}

fn candidates(
    path: &Path,
    verdict: &Verdict,
    store: &Store,
    anchors: &TrustAnchors,
    problems: &mut Vec<String>,
) -> Result<Vec<Candidate>, StoreError> {
    let mut candidates = Vec::new();
    for mark in &verdict.marks {
        let value = digits(&mark.payload.to_string());
        let mut stored = Vec::new();
        for id in store.find(WATERMARK_ALG, &value, MOST)? {
            let found = match store.checked(&id, Some((WATERMARK_ALG, &value)), anchors) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error @ StoreError::Manifest(_)) => {
                    problems.push(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bytes = store.fingerprint(&id, Fingerprint::KIND)?;
            let fingerprint = bytes.map(|bytes| Fingerprint::from_bytes(&bytes)).transpose();
            let fingerprint = fingerprint.unwrap_or_else(|error| {
                problems.push(format!("{id}: {error}"));
                None
            });
            stored.push((found, fingerprint));
        }
        let fingerprints: Vec<&Fingerprint> =
            stored.iter().filter_map(|(_, fingerprint)| fingerprint.as_ref()).collect();
        // The clip was read a moment ago; where that fails now, nothing can be compared.
        let mut likenesses = compare(path, mark, &fingerprints).unwrap_or_default().into_iter();
        for (found, fingerprint) in stored {
            let likeness = fingerprint.and_then(|_| likenesses.next());
            let resemblance =
                likeness.as_ref().map_or(Resemblance::Unclear, |found| found.agreement().into());
            candidates.push(Candidate { mark: mark.clone(), found, resemblance, likeness });
        }
    }
    Ok(candidates)
}

/// How much the clip resembles each of these, as far as it carries a mark. Reads it once.
fn compare(path: &Path, mark: &Mark, marked: &[&Fingerprint]) -> Result<Vec<Likeness>, ReadError> {
    let Some(path) = path.to_str().filter(|_| !marked.is_empty()) else { return Ok(Vec::new()) };
    let end = mark.ranges.iter().map(|range| range.end).max().unwrap_or(Duration::MAX);
    let mut placed = Fingerprinter::of_seen(mark);
    let mut whole: Vec<Fingerprinter> =
        marked.iter().map(|marked| Fingerprinter::of_seen_whole(mark, marked)).collect();
    let mut reader = Reader::open(path)?;
    let (mut first, mut last) = (None, Duration::ZERO);
    // A clip that breaks off was seen as far as it goes.
    while let Ok(Some(frame)) = reader.next_frame() {
        let first = *first.get_or_insert(frame.time);
        let time = frame.time.checked_sub(first).filter(|time| (last..=end).contains(time));
        let Some(time) = time else { break };
        last = time;
        // All of them want the same frames.
        if placed.wants(time, frame.shown()) {
            frame.with_luma(|luma| {
                for one in whole.iter_mut().chain([&mut placed]) {
                    one.push(luma, time, frame.shown());
                }
                Ok(())
            })?;
        }
    }
    let likeness = |marked: &Fingerprint, seen: &Fingerprinter| {
        seen.fingerprint().map_or(Likeness::default(), |seen| marked.likeness(seen))
    };
    let both = |(marked, whole): (&&Fingerprint, &Fingerprinter)| {
        likeness(marked, &placed).better(likeness(marked, whole))
    };
    Ok(marked.iter().zip(&whole).map(both).collect())
}
