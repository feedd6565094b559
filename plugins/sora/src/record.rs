//! What every element says alike of how its video was made.

use std::time::SystemTime;

use sora_gst::Provenance;
use sora_record::{FrameRate, GenerationRecord};

/// A record with its frame rate and the time, as the provenance of a stream.
pub(crate) fn told(mut record: GenerationRecord, frame_rate: gst::Fraction) -> Provenance {
    record.frame_rate = match (u32::try_from(frame_rate.numer()), u32::try_from(frame_rate.denom())) {
        (Ok(numerator), Ok(denominator)) if numerator > 0 => Some(FrameRate { numerator, denominator }),
        _ => None,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 tells no time.
    record.created_at_ms = now.ok().and_then(|now| u64::try_from(now.as_millis()).ok());
    // A prompt or a rate beyond what a record holds: better a record without it than none.
    let json = record.to_json().or_else(|_| {
        record.prompt = None;
        record.to_json()
    });
    let json = json.or_else(|_| {
        record.frame_rate = None;
        record.to_json()
    });
    let mut provenance = Provenance::default();
    provenance.record = json.ok();
    provenance
}
