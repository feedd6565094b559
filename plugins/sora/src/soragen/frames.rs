//! From the worker's frames to stamped buffers: what a live source does when they are late is in here.

use std::sync::PoisonError;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_src::CreateSuccess;
use gst_base::subclass::prelude::*;
use sora_engine_api::{PromptEnhance, trace};

use super::LagPolicy;
use super::imp::{CAT, SoraGen, State, frame_rate};
use super::job::{End, Frame, Job, Next};
use super::negotiate::Output;
use super::timing::{frame_at, time_of_frame};
use crate::messages::Dropped;

impl SoraGen {
    /// Running time of a live source.
    fn live_time(&self) -> Option<gst::ClockTime> {
        self.obj().is_live().then(|| self.obj().current_running_time()).flatten()
    }

    /// How long the next frame may take before the last one is shown again.
    fn patience(&self) -> Option<Duration> {
        let now = self.live_time()?;
        let policy = self.settings().lag_policy;
        let state = self.state();
        let (model, run) = (state.model.as_ref()?, state.run.as_ref()?);
        if policy != LagPolicy::RepeatLast || run.last.is_none() {
            return None;
        }
        let end = time_of_frame(run.frame + 1, frame_rate(model, run.output.as_ref()));
        Some(end.saturating_sub(run.clock.time(now)?).into())
    }

    /// Whether a frame comes too late and a newer one is there; then its time is over.
    fn skips(&self, job: &Job) -> bool {
        let Some(now) = self.live_time() else { return false };
        if self.settings().lag_policy != LagPolicy::Drop || job.frames_waiting() == 0 {
            return false;
        }
        let (late, times, running_time) = {
            let mut state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &mut *state else { return false };
            let rate = frame_rate(model, run.output.as_ref());
            let (start, end) = (time_of_frame(run.frame, rate), time_of_frame(run.frame + 1, rate));
            let late = run.clock.time(now).is_some_and(|time| time > end);
            run.frame += u64::from(late);
            (late, (start + run.clock.delay, end - start), run.clock.running_time(start))
        };
        if late {
            self.lags(|stats| stats.dropped += 1);
            let (processed, dropped) = {
                let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
                (stats.frames, stats.dropped)
            };
            Dropped {
                live: true,
                running_time,
                stream_time: Some(times.0),
                timestamp: Some(times.0),
                duration: Some(times.1),
                processed,
                dropped,
            }
            .post(self.obj().upcast_ref());
        }
        late
    }

    /// The last frame once more, if there was one.
    fn repeated(&self) -> Option<Frame> {
        let frame = self.state().run.as_ref().and_then(|run| run.last.clone())?;
        self.lags(|stats| stats.repeated += 1);
        Some(frame)
    }

    /// Counts what lag makes of a frame, and tells people when that has doubled.
    fn lags(&self, count: impl FnOnce(&mut super::stats::Stats)) {
        let figures = {
            let state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &*state else { return };
            (model.block_frames, frame_rate(model, run.output.as_ref()))
        };
        let mut text = None;
        self.update_stats(|stats| {
            count(stats);
            text = stats.lag_told(figures.0, figures.1);
        });
        if let Some(text) = text {
            gst::element_imp_warning!(self, gst::CoreError::Clock, ("{text}"));
        }
    }

    /// Stamps the next frame and counts it.
    fn stamp(&self, buffer: &mut gst::BufferRef) {
        let now = self.live_time();
        let policy = self.settings().lag_policy;
        let (late, count) = {
            let mut state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &mut *state else { return };
            let rate = frame_rate(model, run.output.as_ref());
            let times = |frame| (time_of_frame(frame, rate), time_of_frame(frame + 1, rate));
            let (start, end) = times(run.frame);
            let late = match (now, policy) {
                (Some(now), LagPolicy::SlowDown) => run.clock.delay_for(run.frame, start, end, now),
                (Some(now), _) => {
                    run.clock.set(now);
                    let time = run.clock.time(now).filter(|time| *time > end);
                    if let Some(time) = time {
                        run.frame = frame_at(time, rate);
                    }
                    time.is_some()
                }
                (None, _) => false,
            };
            let (start, end) = times(run.frame);
            buffer.set_pts(start + run.clock.delay);
            buffer.set_duration(end - start);
            buffer.set_offset(run.frame);
            buffer.set_offset_end(run.frame + 1);
            run.frame += 1;
            run.shown += 1;
            (late, run.shown)
        };
        self.update_stats(|stats| stats.frames = count);
        if late {
            gst::warning!(CAT, imp = self, "frame {} was not ready at its time", count - 1);
            buffer.set_flags(gst::BufferFlags::DISCONT);
            self.lags(|stats| stats.late_frames += 1);
        }
    }

    /// The frame goes on its way, until the base class comes for the next one.
    fn pushes(&self) {
        if let Some(run) = &mut self.state().run {
            run.pushing = trace::span("push");
        }
    }

    fn next_frame(&self) -> Result<(Frame, Output), gst::FlowError> {
        let (clip, requested) = self.running_clip()?;
        if let Some(generation) = requested {
            self.tell_record(&generation);
            // The base class pushes it behind the segment, before the first buffer. Not by way of
            // gst_element_send_event: that takes the lock of the state change which may be waiting
            // for this thread.
            if generation.prompt_enhance == PromptEnhance::Off {
                self.send_tags(&generation, None);
            } else if let Some(run) = &mut self.state().run {
                run.tags_due = Some(generation);
            }
        }
        let waiting = trace::span("wait");
        let frame = loop {
            match clip.job.next(self.patience()) {
                Next::Frame(_) if self.skips(&clip.job) => {}
                Next::Frame(frame) => break frame,
                Next::Late => {
                    if let Some(frame) = self.repeated() {
                        break frame;
                    }
                }
                Next::End(End::Complete) => return Err(gst::FlowError::Eos),
                Next::End(End::Failed) => return Err(gst::FlowError::Error),
                Next::Flushing | Next::Cancelled => return Err(gst::FlowError::Flushing),
            }
        };
        drop(waiting);
        let (due, output) = {
            let mut state = self.state();
            let Some(run) = &mut state.run else { return Err(gst::FlowError::Flushing) };
            run.last = self.obj().is_live().then(|| frame.clone());
            (run.tags_due.take(), run.output.clone())
        };
        if let Some(generation) = due {
            let used = self.prompt_used();
            self.send_tags(&generation, used.as_deref());
        }
        Ok((frame, output.ok_or(gst::FlowError::NotNegotiated)?))
    }

    fn write(
        &self,
        (frame, output): &(Frame, Output),
        buffer: &mut gst::BufferRef,
    ) -> Result<(), gst::FlowError> {
        let _span = trace::span("copy");
        output.write(frame.pixels(), buffer).map_err(|text| {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("A frame could not be written."),
                ["{text}"]
            );
            gst::FlowError::Error
        })?;
        self.stamp(buffer);
        Ok(())
    }
}

impl PushSrcImpl for SoraGen {
    fn create(&self, buffer: Option<&mut gst::BufferRef>) -> Result<CreateSuccess, gst::FlowError> {
        // The base class pushes what was created last.
        let pushed = self.state().run.as_mut().and_then(|run| run.pushing.take());
        drop(pushed);
        let frame = self.next_frame()?;
        if let Some(buffer) = buffer {
            self.write(&frame, buffer)?;
            self.pushes();
            return Ok(CreateSuccess::FilledBuffer);
        }
        // Negotiation always leaves a pool behind, see `decide_allocation`.
        let pool = self.obj().buffer_pool().ok_or(gst::FlowError::NotNegotiated)?;
        let mut buffer = pool.acquire_buffer(None)?;
        // A buffer fresh from the pool has one owner.
        self.write(&frame, buffer.make_mut())?;
        self.pushes();
        Ok(CreateSuccess::NewBuffer(buffer))
    }
}
