//! The event box of a fragment (`emsg`, ISO/IEC 23009-1 §5.10.3.3) as C2PA 2.4 §19.4.2 uses it: version 0, the
//! message is signed and says which fragment this is.

use crate::ProvenanceError;
use crate::mp4::boxes::{Fields, bad, children};

/// What the event's scheme is called.
pub(super) const SCHEME: &[u8] = b"urn:c2pa:verifiable-segment-info\0";
/// What its value is.
const VALUE: &[u8] = b"fseg\0";
/// Where in a box with a short header the scheme stands.
pub(super) const SCHEME_AT: u64 = 12;

/// A box with `message`, that covers `duration` ticks of `timescale`.
pub(super) fn write(timescale: u32, duration: u32, id: u32, message: &[u8]) -> Vec<u8> {
    let length = length(message.len());
    let mut bytes = Vec::with_capacity(length);
    // A message is some hundred bytes.
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(b"emsg");
    bytes.extend_from_slice(&0u32.to_be_bytes());
    bytes.extend_from_slice(SCHEME);
    bytes.extend_from_slice(VALUE);
    for number in [timescale, 0, duration, id] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(message);
    bytes
}

/// Length of the box with a message of so many bytes.
pub(super) fn length(message: usize) -> usize {
    SCHEME_AT as usize + SCHEME.len() + VALUE.len() + 16 + message
}

/// A C2PA event in a fragment.
#[derive(Debug, Clone)]
pub(super) struct Event<'a> {
    pub(super) timescale: u32,
    pub(super) delta: u32,
    pub(super) duration: u32,
    pub(super) message: &'a [u8],
}

/// The C2PA events of a fragment. Events of others are passed over.
pub(super) fn events(fragment: &[u8]) -> Result<Vec<Event<'_>>, ProvenanceError> {
    let mut found = Vec::new();
    for inner in children(fragment)? {
        if &inner.kind == b"emsg" && inner.content.starts_with(&[0]) && scheme(inner.content) == Some(SCHEME)
        {
            found.push(event(inner.content)?);
        }
    }
    Ok(found)
}

/// The scheme of an event of version 0, with its zero.
pub(super) fn scheme(content: &[u8]) -> Option<&[u8]> {
    let text = content.get(4..)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    text.get(..=end)
}

fn event(content: &[u8]) -> Result<Event<'_>, ProvenanceError> {
    let mut fields = Fields(content);
    fields.take(4 + SCHEME.len())?;
    if !fields.0.starts_with(VALUE) {
        return Err(bad("a C2PA event whose value is not \"fseg\""));
    }
    fields.take(VALUE.len())?;
    let (timescale, delta, duration) = (fields.u32()?, fields.u32()?, fields.u32()?);
    // Its id: what tells fragments apart is the number that is signed.
    fields.u32()?;
    Ok(Event { timescale, delta, duration, message: fields.0 })
}
