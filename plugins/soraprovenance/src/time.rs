//! Time in the clip: what chooses the pattern of a frame, and what a detector counts by.

use std::time::Duration;

use gst::prelude::*;

/// Time since the first frame, in the stream's running time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClipTime {
    /// Running time of the first frame, in nanoseconds; frames before the segment's start have
    /// negative ones.
    first: Option<i128>,
    /// When the frame after the last one begins, in the clip, for want of a timestamp.
    next: Duration,
}

impl ClipTime {
    /// The time of a buffer in this segment, and how long it is shown, as far as that is known; `rate` is what the caps say.
    pub(crate) fn of_buffer(
        &mut self,
        segment: &gst::Segment,
        buffer: &gst::BufferRef,
        rate: gst::Fraction,
    ) -> (Duration, Option<Duration>) {
        let running = segment.downcast_ref::<gst::ClockTime>().and_then(|segment| {
            let time = segment.to_running_time_full(buffer.pts()?)?;
            let nanoseconds = i128::from(time.abs().nseconds());
            Some(if time.is_negative() { -nanoseconds } else { nanoseconds })
        });
        let frame = (rate.numer() > 0)
            .then(|| gst::ClockTime::SECOND.mul_div_floor(rate.denom() as u64, rate.numer() as u64))
            .flatten();
        let duration = buffer.duration().or(frame).map(Duration::from);
        (self.of_frame(running, duration), duration)
    }

    /// The time of a frame with this running time, if it has one, and this duration, if it is known.
    fn of_frame(&mut self, running: Option<i128>, duration: Option<Duration>) -> Duration {
        let time = match running {
            Some(running) => {
                let first = *self.first.get_or_insert(running - self.next.as_nanos() as i128);
                match u64::try_from(running - first) {
                    Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
                    // Before the first frame: the clip starts anew.
                    Err(_) => {
                        self.first = Some(running);
                        Duration::ZERO
                    }
                }
            }
            None => self.next,
        };
        self.next = time.saturating_add(duration.unwrap_or_default());
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i128 = 1_000_000;

    #[test]
    fn time_counts_from_the_first_frame_whatever_its_timestamp() {
        let mut time = ClipTime::default();
        for (running, expected) in [(5_000, 0), (5_040, 40), (9_000, 4_000), (4_000, 0), (4_040, 40)] {
            let found = time.of_frame(Some(running * MS), None);
            assert_eq!(found, Duration::from_millis(expected), "{running}");
        }
        let mut time = ClipTime::default();
        assert_eq!(time.of_frame(Some(-80 * MS), None), Duration::ZERO);
        assert_eq!(time.of_frame(Some(40 * MS), None), Duration::from_millis(120));
    }

    #[test]
    fn frames_without_a_timestamp_follow_one_another() {
        let mut time = ClipTime::default();
        let duration = Some(Duration::from_millis(40));
        assert_eq!(time.of_frame(None, duration), Duration::ZERO);
        assert_eq!(time.of_frame(None, duration), Duration::from_millis(40));
        // The first timestamp is that of the third frame.
        assert_eq!(time.of_frame(Some(7_000 * MS), duration), Duration::from_millis(80));
        assert_eq!(time.of_frame(None, None), Duration::from_millis(120));
        assert_eq!(time.of_frame(None, None), Duration::from_millis(120));
    }
}
