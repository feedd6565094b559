//! When frames are shown.

use gst::prelude::*;

/// Computed from the index, so that rounding never adds up.
pub(super) fn time_of_frame(frame: u64, rate: gst::Fraction) -> gst::ClockTime {
    // Rates are positive: caps and the model's settings are checked.
    let (numerator, denominator) = (rate.numer().max(1) as u64, rate.denom().max(1) as u64);
    let time = frame.mul_div_floor(*gst::ClockTime::SECOND * denominator, numerator);
    gst::ClockTime::from_nseconds(time.unwrap_or(u64::MAX - 1))
}

/// The frame whose time it is.
pub(super) fn frame_at(time: gst::ClockTime, rate: gst::Fraction) -> u64 {
    let (numerator, denominator) = (rate.numer().max(1) as u64, rate.denom().max(1) as u64);
    // A time within a frame that begins at a rounded-down nanosecond belongs to it.
    let next = (time.nseconds() + 1).mul_div_ceil(numerator, *gst::ClockTime::SECOND * denominator);
    next.unwrap_or(u64::MAX).saturating_sub(1)
}

/// When the frames of a live clip are due, in running time.
#[derive(Clone, Copy, Default)]
pub(super) struct LiveClock {
    /// Running time that the base class adds to our timestamps, fixed at the first frame.
    anchor: Option<gst::ClockTime>,
    /// What late frames have added since.
    pub(super) delay: gst::ClockTime,
}

impl LiveClock {
    /// The time on the frames' own scale that is `now`, once the first frame has set the clock.
    pub(super) fn time(&self, now: gst::ClockTime) -> Option<gst::ClockTime> {
        Some(now.saturating_sub(self.anchor? + self.delay))
    }

    /// Running time of a time on the frames' own scale.
    pub(super) fn running_time(&self, time: gst::ClockTime) -> Option<gst::ClockTime> {
        Some(time + self.anchor? + self.delay)
    }

    /// The first frame sets the clock.
    pub(super) fn set(&mut self, now: gst::ClockTime) {
        self.anchor.get_or_insert(now);
    }

    /// Moves the clock when the frame that lasts from `start` to `end` is ready only `now`, after
    /// its whole time has passed; says whether it did. The first frame of all sets the clock.
    pub(super) fn delay_for(
        &mut self,
        frame: u64,
        start: gst::ClockTime,
        end: gst::ClockTime,
        now: gst::ClockTime,
    ) -> bool {
        let Some(anchor) = self.anchor else {
            self.anchor = Some(now);
            return false;
        };
        if frame == 0 {
            // A clip made anew after a flush begins when it is ready.
            self.delay = now.saturating_sub(anchor);
            return false;
        }
        let late = now > anchor + self.delay + end;
        if late {
            self.delay = now.saturating_sub(anchor + start);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_do_not_drift() {
        let rate = gst::Fraction::new(30_000, 1001);
        assert_eq!(time_of_frame(0, rate), gst::ClockTime::ZERO);
        // 30,000 frames last 1001 seconds exactly, also after a day of them.
        assert_eq!(time_of_frame(30_000 * 86, rate), gst::ClockTime::from_seconds(1001 * 86));
    }

    #[test]
    fn a_time_belongs_to_the_frame_that_is_shown_then() {
        for rate in [gst::Fraction::new(8, 1), gst::Fraction::new(30_000, 1001)] {
            for frame in [0, 1, 2, 3, 1000, 30_000 * 86] {
                let (start, end) = (time_of_frame(frame, rate), time_of_frame(frame + 1, rate));
                assert_eq!(frame_at(start, rate), frame, "{rate:?}");
                assert_eq!(frame_at(end - gst::ClockTime::NSECOND, rate), frame, "{rate:?}");
            }
        }
    }

    #[test]
    fn a_live_clip_waits_for_late_frames_and_keeps_its_pace_after_them() {
        let ms = gst::ClockTime::from_mseconds;
        let mut clock = LiveClock::default();
        // Ready for the first time two seconds after the pipeline started.
        assert!(!clock.delay_for(0, ms(0), ms(100), ms(2000)));
        // Less than a frame late: the sink's business.
        assert!(!clock.delay_for(1, ms(100), ms(200), ms(2150)));
        // A second late: moved, and the next frame is on time again.
        assert!(clock.delay_for(2, ms(200), ms(300), ms(3300)));
        assert_eq!(clock.delay, ms(1100));
        assert!(!clock.delay_for(3, ms(300), ms(400), ms(3400)));
    }
}
