//! Measurements behind the figures of `scripts/study`.

pub(crate) mod framing;
