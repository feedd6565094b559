//! Signing a stream fragment by fragment.

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ciborium::Value;
use time::OffsetDateTime;

use super::cose::SessionKey;
use super::{emsg, hash, session};
use crate::mp4::boxes::{Fields, bad, child, children};
use crate::mp4::fragments::{Fragments, Part};
use crate::mp4::timing::{TIMESCALE, Timing};
use crate::sign::{ClipSigner, FORMAT, add_nameless, builder, failed};
use crate::{Claim, ProvenanceError, SigningKeys, jumbf};

/// Least, usual and most time after which the next session key is taken, in seconds.
pub const SESSION_SECONDS: (u64, u64, u64) = (60, 24 * 3600, 30 * 24 * 3600);

/// A signed part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LivePart {
    /// The beginning, with its manifest.
    Init(Vec<u8>),
    /// A fragment, with its event.
    Fragment(Vec<u8>),
}

/// Signs fragmented MP4 as a muxer writes it. See the [module](crate::live).
pub struct LiveSigner {
    claim: Claim,
    keys: Arc<SigningKeys>,
    /// Time after which the next session key is taken.
    period: Duration,
    parts: Fragments,
    /// The beginning as it came.
    init: Vec<u8>,
    timing: Timing,
    session: Option<Session>,
    /// Number of the next fragment.
    next: u64,
}

struct Session {
    key: SessionKey,
    /// Id of the beginning's manifest.
    manifest: String,
    since: Instant,
}

impl LiveSigner {
    /// Prepares to sign a stream; `period` is the time after which the next session key is taken. A key is valid for
    /// twice as long: what it signed in the end may take its time to arrive.
    ///
    /// # Errors
    /// [`ProvenanceError::Value`] for a period outside [`SESSION_SECONDS`], and what is wrong with the claim.
    pub fn new(claim: Claim, keys: Arc<SigningKeys>, period: Duration) -> Result<Self, ProvenanceError> {
        let (least, _, most) = SESSION_SECONDS;
        if !(least..=most).contains(&period.as_secs()) {
            let (value, bound) = (format!("{} s", period.as_secs()), format!("{least} to {most} s"));
            return Err(ProvenanceError::Value { what: "period of a session key", value, bound });
        }
        claim.publishable()?;
        Ok(Self {
            claim,
            keys,
            period,
            parts: Fragments::default(),
            init: Vec::new(),
            timing: Timing::default(),
            session: None,
            next: 1,
        })
    }

    /// Takes what the muxer writes, in pieces of any length, and gives the parts that are whole now, signed. An index
    /// of fragments at the end (`mfra`) is left out: its places no longer fit.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] for what is no fragmented MP4 or has a manifest already,
    /// [`ProvenanceError::Sign`] where signing fails.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<LivePart>, ProvenanceError> {
        let (mut parts, mut signed) = (Vec::new(), Vec::new());
        let cut = self.parts.push(bytes, &mut parts);
        for part in parts {
            match part {
                Part::Init(init) => {
                    self.begin(init)?;
                    signed.push(LivePart::Init(self.open_session()?));
                }
                Part::Fragment(fragment) => {
                    if self.session.as_ref().is_some_and(|session| session.since.elapsed() >= self.period) {
                        signed.push(LivePart::Init(self.open_session()?));
                    }
                    signed.push(LivePart::Fragment(self.fragment(&fragment)?));
                }
                Part::Other(_) => {}
            }
        }
        cut.map(|()| signed)
    }

    /// Takes the next session key now: gives the beginning that names it. `None` before there was a beginning.
    ///
    /// # Errors
    /// [`ProvenanceError::Sign`] where signing fails.
    pub fn rotate(&mut self) -> Result<Option<LivePart>, ProvenanceError> {
        if self.session.is_none() {
            return Ok(None);
        }
        self.open_session().map(LivePart::Init).map(Some)
    }

    /// The stream is over.
    ///
    /// # Errors
    /// [`ProvenanceError::Container`] where it ends in the middle of a fragment, or before the first.
    pub fn finish(self) -> Result<(), ProvenanceError> {
        if self.session.is_none() {
            return Err(bad("it ends before its index"));
        }
        self.parts.finish().map(drop)
    }

    /// Number of fragments that were signed.
    pub fn fragments(&self) -> u64 {
        self.next - 1
    }

    /// Looks at a beginning.
    fn begin(&mut self, init: Vec<u8>) -> Result<(), ProvenanceError> {
        let moov = child(&init, b"moov")?.ok_or_else(|| bad("a beginning without an index"))?;
        if child(moov.content, b"mvex")?.is_none() {
            return Err(bad("its index knows no fragments"));
        }
        for inner in children(&init)? {
            if &inner.kind == b"uuid" && crate::mp4::boxes::c2pa_purpose(inner.content).is_some() {
                return Err(bad("it has a C2PA manifest already"));
            }
        }
        self.timing = Timing::of_movie(moov.content)?;
        self.init = with_brand(init)?;
        Ok(())
    }

    /// Takes a session key and signs the beginning with it in.
    fn open_session(&mut self) -> Result<Vec<u8>, ProvenanceError> {
        let key = SessionKey::generate()?;
        let certificate = self.keys.inner.chain.first().map(Vec::as_slice).unwrap_or_default();
        let assertion =
            session::write(&key, self.next, OffsetDateTime::now_utc(), self.period * 2, certificate)?;
        let (mut builder, _, ingredients) = builder(&self.claim, &self.keys)?;
        add_nameless(&mut builder, &ingredients)?;
        let signer = ClipSigner::new(&self.keys).with_assertion(session::LABEL, assertion);
        let mut output = Cursor::new(Vec::new());
        builder.sign(&signer, FORMAT, &mut Cursor::new(&self.init), &mut output).map_err(failed)?;
        let output = output.into_inner();
        let manifest = jumbf::embedded_stores(&mut Cursor::new(&output))?
            .pop()
            .and_then(|store| jumbf::active_label(&store))
            .ok_or_else(|| ProvenanceError::Sign("the signed beginning has no manifest".into()))?;
        self.session = Some(Session { key, manifest, since: Instant::now() });
        Ok(output)
    }

    /// Puts a signed event into a fragment.
    fn fragment(&mut self, fragment: &[u8]) -> Result<Vec<u8>, ProvenanceError> {
        let session = self.session.as_ref().ok_or_else(|| bad("a fragment before the index"))?;
        check_offsets(fragment)?;
        let duration = self.timing.span(fragment)?;
        // The event stands before an index of segments (`sidx`), which counts from its own end.
        let at = child(fragment, b"styp")?.filter(|styp| fragment.starts_with(styp.whole));
        let (styp, after) = fragment.split_at(at.map_or(0, |styp| styp.whole.len()));
        let before = if styp.is_empty() { &SEGMENT } else { styp };
        let message = |hash: Vec<u8>| session.key.sign(info(self.next, hash, &session.manifest)?);
        // All of a message has the length that it has with another hash.
        let length = emsg::length(message(vec![0; 32])?.len());
        let message = message(hash::of_parts(before, length, after)?)?;
        // Ids are unique in a session of less than 4 billion fragments.
        let event = emsg::write(TIMESCALE, duration, self.next as u32, &message);
        self.next += 1;
        Ok([before, &event, after].concat())
    }
}

/// Brands under which fragments that count places from their own beginning are known (ISO/IEC 14496-12 Annex E,
/// 23000-19 §7.2, 23009-1 §6.3.4).
const BRANDS: [[u8; 4]; 9] =
    [*b"iso5", *b"iso6", *b"iso7", *b"iso8", *b"iso9", *b"dash", *b"cmfc", *b"cmf2", *b"cmfh"];

/// `styp` of a media segment (ISO/IEC 23009-1 §6.3.4.2), for fragments that come without one: validators want to
/// see by a fragment alone what it is.
const SEGMENT: [u8; 24] = *b"\0\0\0\x18stypmsdh\0\0\0\0msdhiso6";

/// A beginning whose `ftyp` says that fragments follow: not every muxer says so, and validators want it.
fn with_brand(init: Vec<u8>) -> Result<Vec<u8>, ProvenanceError> {
    let Some(ftyp) = child(&init, b"ftyp")?.filter(|ftyp| init.starts_with(ftyp.whole)) else {
        return Err(bad("a beginning without \"ftyp\""));
    };
    // The major brand, its version, the brands it is compatible with.
    let (major, others) = (ftyp.content.get(..4), ftyp.content.get(8..).unwrap_or_default());
    let known = |brand: &[u8]| BRANDS.iter().any(|known| known == brand);
    if major.is_some_and(known) || others.chunks(4).any(known) {
        return Ok(init);
    }
    let length = ftyp.whole.len();
    // Written anew, with a header of 8 bytes: `ftyp` is far shorter than 4 GiB.
    let mut with = ((ftyp.content.len() + 12) as u32).to_be_bytes().to_vec();
    with.extend_from_slice(b"ftyp");
    with.extend_from_slice(ftyp.content);
    with.extend_from_slice(b"iso6");
    with.extend_from_slice(&init[length..]);
    Ok(with)
}

/// What is signed of a fragment.
fn info(number: u64, hash: Vec<u8>, manifest: &str) -> Result<Vec<u8>, ProvenanceError> {
    let map = Value::Map(vec![
        (Value::from("sequenceNumber"), Value::from(number)),
        (Value::from("bmffHash"), hash::statement(hash)),
        (Value::from("manifestId"), Value::from(manifest)),
    ]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&map, &mut bytes)
        .map_err(|error| ProvenanceError::Sign(format!("what is signed of a fragment: {error}")))?;
    Ok(bytes)
}

/// Places that count from the beginning of the file would no longer fit.
fn check_offsets(fragment: &[u8]) -> Result<(), ProvenanceError> {
    for moof in children(fragment)?.iter().filter(|inner| &inner.kind == b"moof") {
        for traf in children(moof.content)?.iter().filter(|inner| &inner.kind == b"traf") {
            if let Some(tfhd) = child(traf.content, b"tfhd")?
                && Fields(tfhd.content).u32()? & 0x1 != 0
            {
                return Err(bad(
                    "a fragment counts places from the beginning of the file (base-data-offset), which cannot be signed live",
                ));
            }
        }
    }
    Ok(())
}
