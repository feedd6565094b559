//! From an input's times to the frames of an output with a fixed rate. No GStreamer but its times.

use gst::prelude::*;

/// A hole in the timestamps that stays one; smaller ones are filled with the frame before.
const HOLE: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// When frame number `tick` of a rate begins.
pub(super) fn time_of(tick: u64, rate: gst::Fraction) -> gst::ClockTime {
    let (n, d) =
        (u64::from(rate.numer().unsigned_abs().max(1)), u64::from(rate.denom().unsigned_abs().max(1)));
    let time = tick.mul_div_floor(gst::ClockTime::SECOND.nseconds().saturating_mul(d), n);
    gst::ClockTime::from_nseconds(time.unwrap_or(u64::MAX - 1))
}

/// The first frame number that begins no earlier than a time; a quarter of a frame is taken for jitter.
fn number_at(time: gst::ClockTime, rate: gst::Fraction) -> u64 {
    let time = time.saturating_sub(time_of(1, rate) / 4).nseconds();
    let (n, d) =
        (u64::from(rate.numer().unsigned_abs().max(1)), u64::from(rate.denom().unsigned_abs().max(1)));
    time.mul_div_ceil(n, gst::ClockTime::SECOND.nseconds().saturating_mul(d)).unwrap_or(u64::MAX / 2)
}

/// What is to be done about a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// So often the frame before it is shown once more first.
    pub(super) repeats: u64,
    /// So many frames of the output are left out first.
    pub(super) hole: u64,
    /// Whether the frame itself is shown.
    pub(super) shown: bool,
}

/// One input's frames on the output's time. Frame numbers are those of this input, from 0.
#[derive(Clone, Debug)]
pub(super) struct Retime {
    rate: gst::Fraction,
    /// The time of an input's frame and the number that it has.
    origin: Option<(gst::ClockTime, u64)>,
    next: u64,
    /// When the last frame began.
    last: Option<gst::ClockTime>,
    /// When the last frame ends.
    end: gst::ClockTime,
}

impl Retime {
    pub(super) fn new(rate: gst::Fraction) -> Self {
        Self { rate, origin: None, next: 0, last: None, end: gst::ClockTime::ZERO }
    }

    /// A frame at this running time, so long. One without a time follows the one before.
    pub(super) fn frame(&mut self, time: Option<gst::ClockTime>, duration: Option<gst::ClockTime>) -> Due {
        let duration = duration.unwrap_or_else(|| time_of(1, self.rate));
        let time = time.unwrap_or(self.end);
        let (origin, at) = *self.origin.get_or_insert((time, self.next));
        let last = self.last.replace(time).unwrap_or(time);
        let mut due = Due::default();
        if time + HOLE < self.end {
            // Time began anew.
            self.origin = Some((time, self.next));
            self.end = time;
        } else {
            let number = at + number_at(time.saturating_sub(origin), self.rate);
            let missing = number.saturating_sub(self.next);
            match time > self.end + HOLE {
                true => due.hole = missing,
                false => due.repeats = missing,
            }
            self.next = self.next.max(number);
            // Its time is over before that of the output's next frame begins. What is said of its length may be wrong:
            // then it is as long as the one before was.
            let lasts = duration.max(time.saturating_sub(last));
            let is_over = origin + time_of(self.next - at, self.rate) >= time + lasts;
            if number < self.next || is_over {
                self.end = self.end.max(time + duration);
                return due;
            }
        }
        due.shown = true;
        self.next += 1;
        self.end = time + duration;
        due
    }

    /// How often the last frame of all is shown once more, as long as it lasts.
    pub(super) fn finish(&mut self) -> u64 {
        let Some((origin, at)) = self.origin else { return 0 };
        let last = self.end.min(origin + time_of(self.next - at, self.rate) + HOLE);
        let repeats = (at + number_at(last.saturating_sub(origin), self.rate)).saturating_sub(self.next);
        self.next += repeats;
        repeats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(value: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(value)
    }

    /// The input's frames in the order in which they are shown, and holes as `None`.
    fn shown(rate: (i32, i32), times: &[u64], duration: u64) -> Vec<Option<usize>> {
        let mut retime = Retime::new(gst::Fraction::new(rate.0, rate.1));
        let mut list = Vec::new();
        for (n, time) in times.iter().enumerate() {
            let due = retime.frame(Some(ms(*time)), Some(ms(duration)));
            list.extend((0..due.repeats).map(|_| n.checked_sub(1)));
            list.extend((0..due.hole).map(|_| None));
            list.extend(due.shown.then_some(Some(n)));
        }
        list.extend((0..retime.finish()).map(|_| Some(times.len() - 1)));
        list
    }

    #[test]
    fn frames_at_the_outputs_rate_are_shown_once_each_whatever_jitter_they_have() {
        let frames = shown((8, 1), &[5000, 5120, 5260, 5370, 5500], 125);
        assert_eq!(frames, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    }

    #[test]
    fn faster_ones_are_left_out_and_slower_ones_shown_again() {
        let fast: Vec<u64> = (0..8).map(|n| n * 1000 / 16).collect();
        assert_eq!(shown((8, 1), &fast, 62), [Some(0), Some(2), Some(4), Some(6)]);
        let far: Vec<u64> = (0..120).map(|n| n * 1000 / 60).collect();
        assert_eq!(shown((4, 1), &far, 16).len(), 8);
        let slightly: Vec<u64> = (0..60).map(|n| n * 1000 / 30).collect();
        assert_eq!(shown((25, 1), &slightly, 33).len(), 50);
        let slow = shown((8, 1), &[0, 250, 500], 250);
        assert_eq!(slow, [Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)]);
    }

    #[test]
    fn frames_are_shown_even_where_their_length_is_wrong() {
        assert_eq!(shown((8, 1), &[0, 125, 250], 1), [Some(0), Some(1), Some(2)]);
        assert_eq!(shown((8, 1), &[0, 125, 250], 0), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn long_holes_stay_and_times_that_go_back_begin_anew() {
        let frames = shown((8, 1), &[0, 125, 3_600_000], 125);
        assert_eq!(frames.len(), 8 * 3600 + 1);
        assert_eq!((frames[1], frames[2], frames[8 * 3600]), (Some(1), None, Some(2)));
        assert_eq!(shown((8, 1), &[9000, 9125, 0, 125], 125), [Some(0), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn frames_without_a_time_follow_one_another() {
        let mut retime = Retime::new(gst::Fraction::new(8, 1));
        for _ in 0..5 {
            assert_eq!(retime.frame(None, None), Due { shown: true, ..Due::default() });
        }
        assert_eq!(retime.finish(), 0);
    }
}
