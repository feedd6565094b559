//! Verifying a stream fragment by fragment.

use std::fmt;

use ciborium::Value;
use serde::Serialize;

use super::cose::{self, PublicKey};
use super::session::{self, Named, field};
use super::{emsg, hash};
use crate::mp4::boxes::{child, children};
use crate::mp4::fragments::{Fragments, Part};
use crate::mp4::samples;
use crate::mp4::timing::{TIMESCALE, Timing};
use crate::report::{Container, Credentials, ManifestReport, Report, Validity};
use crate::verify::verify_bytes;
use crate::{ProvenanceError, TrustAnchors, jumbf};

/// Most problems that are listed: a stream's fragments may all be wrong.
const PROBLEMS: usize = 16;

/// What was found of a stream's fragments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LiveReport {
    /// How many fragments there were.
    pub fragments: u64,
    /// How many of them are what was signed, in their place.
    pub good: u64,
    /// How many are missing between them.
    pub missing: u64,
    /// How often it began: once, and once more for each further session key.
    pub sessions: u64,
    /// Number of the first fragment that was good.
    pub first: Option<u64>,
    /// Number of the last fragment that was good.
    pub last: Option<u64>,
    /// How many were good since the last that was not.
    pub streak: u64,
    /// What is wrong, the first 16 of it.
    pub problems: Vec<LiveProblem>,
}

/// Something wrong with a live stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveProblem {
    /// Status code of C2PA (2.4 §19.7).
    pub code: &'static str,
    /// Which fragment of those that came, from 1 on; 0 before the first.
    pub fragment: u64,
    /// What is wrong with it, for people.
    pub explanation: String,
}

impl fmt::Display for LiveProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: fragment {}: {}", self.code, self.fragment, self.explanation)
    }
}

const INIT: &str = "livevideo.init.invalid";
const SEGMENT: &str = "livevideo.segment.invalid";
const SESSION_KEY: &str = "livevideo.sessionkey.invalid";

/// Checks a stream as it arrives. See the [module](crate::live).
#[derive(Debug)]
pub struct LiveVerifier {
    anchors: TrustAnchors,
    parts: Fragments,
    /// A part came.
    began: bool,
    /// The first beginning's report.
    manifest: Option<Box<ManifestReport>>,
    session: Option<Session>,
    found: LiveReport,
    /// Number of the next fragment; `None`: the first that comes says it.
    expected: Option<u64>,
    /// A stream may be joined late.
    late: bool,
}

/// What the last beginning says.
#[derive(Debug)]
struct Session {
    keys: Vec<Named>,
    public: Vec<PublicKey>,
    manifest: String,
    certificate: Vec<u8>,
    /// Content of the index.
    moov: Vec<u8>,
    timing: Timing,
}

impl LiveVerifier {
    /// Expects a stream from its beginning on.
    pub fn new(anchors: TrustAnchors) -> Self {
        Self {
            anchors,
            parts: Fragments::default(),
            began: false,
            manifest: None,
            session: None,
            found: LiveReport::default(),
            expected: None,
            late: false,
        }
    }

    /// Expects a stream that may have been joined late: its first fragment may have any number.
    pub fn joining_late(anchors: TrustAnchors) -> Self {
        Self { late: true, ..Self::new(anchors) }
    }

    /// Whether the stream has begun, and is signed fragment by fragment.
    pub fn is_live(&self) -> bool {
        self.session.is_some() || self.found.problems.iter().any(|problem| problem.code == SESSION_KEY)
    }

    /// Whether anything whole came.
    pub(crate) fn began(&self) -> bool {
        self.began
    }

    /// Takes bytes of the stream.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] for what is no fragmented MP4: then nothing more can be taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ProvenanceError> {
        let mut parts = Vec::new();
        let cut = self.parts.push(bytes, &mut parts);
        parts.into_iter().try_for_each(|part| self.part(part)).and(cut)
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where it ends in the middle of a fragment.
    pub fn finish(&mut self) -> Result<(), ProvenanceError> {
        if let Some(part) = std::mem::take(&mut self.parts).finish()? {
            self.part(part)?;
        }
        Ok(())
    }

    /// What was found until now; `None` before a beginning with session keys came.
    pub fn report(&self) -> Option<Report> {
        let mut manifest = self.manifest.clone()?;
        manifest.of_beginning = Some(manifest.validity);
        if !self.found.problems.is_empty() {
            manifest.validity = Validity::Invalid;
        }
        manifest.live = Some(self.found.clone());
        let container = match self.found.fragments {
            0 => Container::InitSegment,
            _ => Container::FragmentedMp4,
        };
        Some(Report { container, credentials: Credentials::Present(manifest) })
    }

    /// What was found of the fragments until now.
    pub fn fragments(&self) -> &LiveReport {
        &self.found
    }

    /// The stream cannot be read any further: what came in place of the next fragment is wrong.
    pub fn broken(&mut self, problem: &ProvenanceError) {
        self.problem(SEGMENT, problem.to_string());
    }

    fn problem(&mut self, code: &'static str, explanation: impl Into<String>) {
        self.found.streak = 0;
        if self.found.problems.len() < PROBLEMS {
            let (fragment, explanation) = (self.found.fragments, explanation.into());
            self.found.problems.push(LiveProblem { code, fragment, explanation });
        }
    }

    fn part(&mut self, part: Part) -> Result<(), ProvenanceError> {
        match part {
            Part::Init(bytes) => self.init(&bytes)?,
            Part::Fragment(bytes) if self.session.is_some() => self.fragment(&bytes),
            Part::Other(bytes) if self.session.is_some() => {
                // Nothing signs what stands between fragments, and it must not hold what a player shows.
                let holds_media =
                    children(&bytes)?.iter().any(|inner| matches!(&inner.kind, b"mdat" | b"moov"));
                if holds_media {
                    self.problem(SEGMENT, "media that belongs to no fragment");
                }
            }
            _ => {}
        }
        self.began = true;
        Ok(())
    }

    fn init(&mut self, bytes: &[u8]) -> Result<(), ProvenanceError> {
        let (report, certificate) = verify_bytes(bytes, &self.anchors)?;
        let Credentials::Present(manifest) = report.credentials else {
            if self.manifest.is_some() {
                self.problem(INIT, "it begins again without a manifest");
            }
            return Ok(());
        };
        let stores = jumbf::embedded_stores(&mut std::io::Cursor::new(bytes))?;
        let assertions: Vec<&[u8]> =
            stores.iter().flat_map(|store| jumbf::assertions(store, session::LABEL)).collect();
        if assertions.is_empty() && self.manifest.is_none() {
            // Signed in another way.
            return Ok(());
        }
        self.found.sessions += 1;
        let certificate = certificate.unwrap_or_default();
        match &self.manifest {
            None => self.manifest = Some(manifest.clone()),
            Some(first) => {
                let worse = manifest.validity == Validity::Invalid || manifest.validity != first.validity;
                let same = self.session.as_ref().is_none_or(|session| session.certificate == certificate);
                if worse || !same {
                    self.problem(
                        INIT,
                        "it begins again with a manifest of another signer, or one that is not valid",
                    );
                }
            }
        }
        let keys = match assertions.as_slice() {
            [one] => session::read(one, &certificate),
            more => Err(format!("there are {} assertions of session keys, not one", more.len())),
        };
        let moov = child(bytes, b"moov")?.map(|moov| moov.content.to_vec()).unwrap_or_default();
        match keys {
            Ok(keys) => {
                let first = keys.iter().map(|named| named.first).min().unwrap_or(1).max(1);
                if !self.late && self.expected.is_none() {
                    self.expected = Some(first);
                }
                let public = keys.iter().map(|named| named.key.clone()).collect();
                let timing = Timing::of_movie(&moov)?;
                self.session =
                    Some(Session { keys, public, manifest: manifest.id.clone(), certificate, moov, timing });
            }
            Err(problem) => {
                self.session = None;
                self.problem(SESSION_KEY, format!("session keys: {problem}"));
            }
        }
        Ok(())
    }

    fn fragment(&mut self, bytes: &[u8]) {
        self.found.fragments += 1;
        let Some(session) = &self.session else { return };
        let number = match check(session, bytes) {
            Ok(number) => number,
            Err(problem) => {
                // It took the place of one.
                self.expected = self.expected.map(|number| number + 1);
                return self.problem(SEGMENT, problem);
            }
        };
        match self.expected {
            Some(expected) if number < expected => {
                return self.problem(
                    SEGMENT,
                    format!("it is number {number}, which came already; {expected} is due"),
                );
            }
            Some(expected) if number > expected => {
                self.found.missing += number - expected;
                self.problem(
                    SEGMENT,
                    format!("it is number {number}, and {expected} is due: some are missing"),
                );
            }
            _ => {}
        }
        self.expected = number.checked_add(1);
        self.found.good += 1;
        self.found.streak += 1;
        self.found.first = self.found.first.or(Some(number));
        self.found.last = Some(number);
    }
}

/// Checks one fragment; gives its number.
fn check(session: &Session, bytes: &[u8]) -> Result<u64, String> {
    let events = emsg::events(bytes).map_err(|error| error.to_string())?;
    let event = match events.as_slice() {
        [] => return Err("it is not signed".into()),
        [one] => one,
        more => return Err(format!("it has {} signatures, not one", more.len())),
    };
    let (at, payload) = cose::verify(event.message, &session.public)?;
    let info: Value = ciborium::from_reader(payload.as_slice())
        .map_err(|error| format!("what was signed is no CBOR: {error}"))?;
    let number = field(&info, "sequenceNumber").and_then(Value::as_integer);
    let number =
        number.and_then(|number| u64::try_from(number).ok()).ok_or("what was signed has no number")?;
    if field(&info, "manifestId").and_then(Value::as_text) != Some(session.manifest.as_str()) {
        return Err("it was signed for another manifest".into());
    }
    if number < session.keys[at].first {
        return Err(format!("it is number {number}; its key signs from {} on", session.keys[at].first));
    }
    hash::check(field(&info, "bmffHash").ok_or("what was signed has no hash")?, bytes)?;
    check_time(session, event, bytes)?;
    let problems = samples::problems_of_fragment(&session.moov, bytes).map_err(|error| error.to_string())?;
    match problems.first() {
        Some(problem) => Err(problem.clone()),
        None => Ok(number),
    }
}

/// C2PA 2.4 §19.4.2: an event covers its fragment. Nothing signs the times of the event itself.
fn check_time(session: &Session, event: &emsg::Event<'_>, bytes: &[u8]) -> Result<(), String> {
    let span = session.timing.span(bytes).map_err(|error| error.to_string())?;
    // Both ends of the span are rounded outwards.
    let span = span.saturating_sub(2);
    let covered =
        u64::from(event.duration) * u64::from(TIMESCALE) >= u64::from(span) * u64::from(event.timescale);
    if event.delta != 0 || event.timescale == 0 || event.duration == u32::MAX || !covered {
        return Err("its signature does not cover all of its time".into());
    }
    Ok(())
}
