//! The assertion `c2pa.session-keys` (C2PA 2.4 §18.25, §19.4).

use std::io::{Read, Seek};
use std::time::Duration;

use ciborium::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cose::{self, PublicKey, SessionKey};
use crate::mp4::fragments::{Fragments, Part};
use crate::{ProvenanceError, jumbf};

/// Label of the assertion.
pub(crate) const LABEL: &str = "c2pa.session-keys";
/// Tag of a date as text (RFC 8949 §3.4.1).
const DATE: u64 = 0;
/// Length of the pieces in which a file is read, in bytes.
const PIECE: usize = 1 << 16;
/// Most keys of one assertion that are read.
const KEYS: usize = 64;

/// The beginning of a stream whose fragments are signed by session keys; `None` for any other file.
///
/// # Errors
/// [`ProvenanceError::Stream`] where it cannot be read.
pub(crate) fn beginning(file: &mut (impl Read + Seek)) -> Result<Option<Vec<u8>>, ProvenanceError> {
    let reading = || ProvenanceError::stream("reading the clip");
    file.rewind().map_err(reading())?;
    let (mut fragments, mut parts) = (Fragments::default(), Vec::new());
    let mut piece = vec![0; PIECE];
    let mut start = true;
    while parts.is_empty() {
        let length = file.read(&mut piece).map_err(reading())?;
        // Nothing else is held in memory to see whether it becomes a box.
        let other = std::mem::take(&mut start) && piece.get(4..8) != Some(b"ftyp".as_slice());
        if length == 0 || other || fragments.push(&piece[..length], &mut parts).is_err() {
            break;
        }
    }
    let Some(Part::Init(beginning)) = parts.into_iter().next() else { return Ok(None) };
    let stores = jumbf::embedded_stores(&mut std::io::Cursor::new(&beginning))?;
    let live = stores.iter().any(|store| !jumbf::assertions(store, LABEL).is_empty());
    Ok(live.then_some(beginning))
}

/// The assertion with one key, that signs fragments from the number `first` on.
pub(super) fn write(
    key: &SessionKey,
    first: u64,
    created: OffsetDateTime,
    valid: Duration,
    certificate: &[u8],
) -> Result<Vec<u8>, ProvenanceError> {
    let failed = |error: &dyn std::fmt::Display| ProvenanceError::Sign(format!("session keys: {error}"));
    let created = created.format(&Rfc3339).map_err(|error| failed(&error))?;
    // The key signs the signer's certificate: who names it in a claim has it.
    let binding: Value =
        ciborium::from_reader(key.sign(certificate.to_vec())?.as_slice()).map_err(|error| failed(&error))?;
    let entry = Value::Map(vec![
        (Value::from("key"), key.public()?),
        (Value::from("minSequenceNumber"), Value::from(first)),
        (Value::from("createdAt"), Value::Tag(DATE, Box::new(Value::from(created)))),
        (Value::from("validityPeriod"), Value::from(valid.as_secs())),
        (Value::from("signerBinding"), binding),
    ]);
    let assertion = Value::Map(vec![(Value::from("keys"), Value::Array(vec![entry]))]);
    let mut bytes = Vec::new();
    ciborium::into_writer(&assertion, &mut bytes).map_err(|error| failed(&error))?;
    Ok(bytes)
}

/// A key that a manifest names.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) key: PublicKey,
    /// Number of the first fragment that it may sign.
    pub(super) first: u64,
}

/// Reads the assertion, and checks that each key signed the certificate of the manifest's signer.
pub(super) fn read(assertion: &[u8], certificate: &[u8]) -> Result<Vec<Named>, String> {
    let value: Value =
        ciborium::from_reader(assertion).map_err(|error| format!("they are no CBOR: {error}"))?;
    let keys = field(&value, "keys").and_then(Value::as_array).ok_or("there is no list of them")?;
    if !(1..=KEYS).contains(&keys.len()) {
        return Err(format!("there are {} of them; 1 to {KEYS} are read", keys.len()));
    }
    keys.iter().map(|entry| one(entry, certificate)).collect()
}

fn one(entry: &Value, certificate: &[u8]) -> Result<Named, String> {
    let key = PublicKey::read(field(entry, "key").cloned().ok_or("one of them has no key")?)?;
    let number = |name: &str| {
        let value =
            field(entry, name).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok());
        value.ok_or_else(|| format!("{name} of one of them is no number from 0 on"))
    };
    let first = number("minSequenceNumber")?;
    number("validityPeriod")?;
    let Some(Value::Tag(DATE, created)) = field(entry, "createdAt") else {
        return Err("one of them has no time".into());
    };
    let created = created.as_text().unwrap_or_default();
    OffsetDateTime::parse(created, &Rfc3339).map_err(|_| format!("the time {created:?} is no date"))?;
    let binding = field(entry, "signerBinding").ok_or("one of them is not bound to the signer")?;
    let mut bytes = Vec::new();
    ciborium::into_writer(binding, &mut bytes).map_err(|error| error.to_string())?;
    if cose::verify_by(&bytes, &key)? != certificate {
        return Err("one of them is bound to the certificate of somebody else".into());
    }
    Ok(Named { key, first })
}

/// The one field of a name; `None` also where there are two.
pub(crate) fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let mut found =
        map.as_map()?.iter().filter(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value);
    found.next().filter(|_| found.next().is_none())
}
