//! A clip in the making: which way it is signed, and what becomes of it.

use bytes::Bytes;
use sora_provenance::{PatchWriter, ProvenanceError, is_fragmented};

use super::Mode;
use super::keeper::KeepingSeal;
use super::live::Live;
use super::output::Downstream;
use super::sidecar::Sidecar;
use super::spool::Spool;

/// A clip in the making. It is taken out of the state while bytes are handled: no lock is held then.
#[derive(Default)]
pub(super) enum Work {
    #[default]
    Idle,
    /// The first bytes, as long as they do not say what kind of file it is.
    Undecided(Vec<u8>),
    Patch(Box<PatchWriter<Downstream, KeepingSeal>>),
    Spool(Spool),
    Live(Box<Live>),
    Sidecar(Box<Sidecar>),
    /// A live stream whose sink stopped before it: what was sent is signed.
    Stopped,
    /// Signed, or failed with an error that has been posted.
    Over(Result<(), gst::FlowError>),
}

impl Work {
    /// Whether a clip began that will be signed only at its end.
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(self, Self::Idle | Self::Live(_) | Self::Stopped | Self::Over(_))
    }

    /// The muxer goes to a place.
    pub(super) fn seek(&mut self, to: u64) -> Result<(), ProvenanceError> {
        match self {
            Self::Patch(writer) => writer.seek(to),
            Self::Spool(spool) => spool.seek(to),
            Self::Sidecar(sidecar) => sidecar.seek(to),
            Self::Live(live) => {
                live.seek(to);
                Ok(())
            }
            Self::Idle | Self::Undecided(_) | Self::Stopped | Self::Over(_) => Ok(()),
        }
    }

    /// Takes what the muxer writes.
    pub(super) fn write(&mut self, buffer: &gst::BufferRef, bytes: Bytes) -> Result<(), ProvenanceError> {
        match self {
            Self::Patch(writer) => writer.write_shared(bytes),
            Self::Spool(spool) => spool.write(&bytes),
            Self::Sidecar(sidecar) => sidecar.write(&bytes),
            Self::Live(live) => live.write(buffer, &bytes),
            Self::Idle | Self::Undecided(_) | Self::Stopped | Self::Over(_) => Ok(()),
        }
    }

    /// Why downstream took nothing more, where that is why it failed.
    pub(super) fn flow_error(&mut self) -> Option<gst::FlowError> {
        match self {
            Self::Patch(writer) => writer.output().flow_error(),
            Self::Live(live) => live.flow_error(),
            Self::Sidecar(sidecar) => sidecar.flow_error(),
            _ => None,
        }
    }
}

/// The mode for a file that begins so; `None` where that cannot be said yet.
pub(super) fn decide(mode: Mode, downstream_seeks: bool, head: &[u8]) -> Option<Mode> {
    if mode != Mode::Auto {
        return Some(mode);
    }
    is_fragmented(head).map(|fragmented| match (fragmented, downstream_seeks) {
        (false, true) => Mode::Patch,
        (false, false) | (true, true) => Mode::Spool,
        (true, false) => Mode::Live,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_looks_at_the_file_and_the_sink() {
        let fixture = |name: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            std::fs::read(folder.join("../../crates/sora-provenance/tests/fixtures").join(name))
                .expect("a fixture")
        };
        for (name, seekable, other) in [
            ("progressive.mp4", Mode::Patch, Mode::Spool),
            ("faststart.mp4", Mode::Patch, Mode::Spool),
            ("fragmented.mp4", Mode::Spool, Mode::Live),
        ] {
            let bytes = fixture(name);
            assert_eq!(decide(Mode::Auto, true, &bytes), Some(seekable), "{name}");
            assert_eq!(decide(Mode::Auto, false, &bytes), Some(other), "{name}");
            assert_eq!(decide(Mode::Auto, true, &bytes[..36]), None, "{name}");
            assert_eq!(decide(Mode::Live, true, b""), Some(Mode::Live));
        }
        assert_eq!(
            decide(Mode::Auto, true, b"this is no file"),
            Some(Mode::Patch),
            "which says what is wrong"
        );
    }
}
