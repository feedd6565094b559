//! What comes in and what is asked: the pads' functions.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoInfo, VideoInterlaceMode};
use sora_gst::provenance;

use super::QueuePolicy;
use super::frames::Arrived;
use super::imp::{CAT, SoraTransform, State};
use super::line::{Interrupted, WhenFull};
use super::worker::{Barrier, outlives_flush};
use crate::messages::Dropped;
use crate::upstream;

/// A hole in the timestamps, either way, behind which a stream begins anew: this, or so many frames where that is more.
const HOLE: gst::ClockTime = gst::ClockTime::from_seconds(1);
const HOLE_FRAMES: u32 = 4;

impl SoraTransform {
    /// Frames must not be lost where upstream can wait; live, the newest count.
    fn when_full(&self) -> WhenFull {
        match self.settings().queue_policy {
            QueuePolicy::Wait => return WhenFull::Wait,
            QueuePolicy::DropOldest => return WhenFull::DropOldest,
            QueuePolicy::Auto => {}
        }
        if self.is_live() { WhenFull::DropOldest } else { WhenFull::Wait }
    }

    /// Whether upstream is live; asked once.
    fn is_live(&self) -> bool {
        if let Some(live) = self.state().run.as_ref().and_then(|run| run.live) {
            return live;
        }
        let live = upstream::is_live(&self.sink_pad);
        if let Some(run) = &mut self.state().run {
            run.live = Some(live);
        }
        live
    }

    /// Notes the time of a frame; says whether it lies across a hole from the one before.
    fn note_time(&self, buffer: &gst::BufferRef) -> bool {
        let (hole, variable) = {
            let mut state = self.state();
            let Some(run) = &mut state.run else { return false };
            let Some(pts) = buffer.pts() else { return false };
            let before = run.last.replace((pts, buffer.duration()));
            let Some((last, duration)) = before else { return false };
            let due = last + duration.unwrap_or(gst::ClockTime::ZERO);
            let frames = gst::ClockTime::try_from(run.latency.frame * HOLE_FRAMES).unwrap_or(HOLE);
            let hole = HOLE.max(frames);
            let hole = pts > due + hole || pts + hole < last;
            let fixed_rate = run.info.as_ref().is_some_and(|info| info.fps().numer() > 0);
            (hole, (!fixed_rate && !hole && pts > last).then(|| Duration::from(pts - last)))
        };
        if let Some(step) = variable {
            // A mean over some frames.
            self.update_latency(|latency| latency.frame = (latency.frame * 3 + step) / 4);
        }
        hole
    }

    pub(super) fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let passes_through = self.passes_through();
        let (line, most, known, fit) = {
            let state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &*state else {
                return Err(gst::FlowError::Flushing);
            };
            // That of frames of this very format, if there were some.
            let fit = run.fit.as_ref().filter(|fit| !passes_through && run.info.as_ref() == Some(fit.info()));
            (Arc::clone(&run.line), model.block_frames, run.info.is_some(), fit.cloned())
        };
        if !known {
            return Err(gst::FlowError::NotNegotiated);
        }
        self.update_stats(|stats| stats.frames_in += 1);
        let when_full = self.when_full();
        if self.note_time(&buffer) {
            gst::debug!(CAT, imp = self, "a hole before {:?}: beginning anew", buffer.pts());
            line.push_barrier(Barrier::Cut).map_err(Interrupted::flow)?;
        }
        let frame = Arrived::new(buffer, fit);
        if let Some(frame) = line.push_frame(frame, most as usize, when_full).map_err(Interrupted::flow)? {
            self.tell_dropped(&frame.buffer, most);
        }
        Ok(gst::FlowSuccess::Ok)
    }

    /// Counts a dropped frame and tells the application.
    fn tell_dropped(&self, buffer: &gst::BufferRef, block: u32) {
        let (text, processed, dropped) =
            self.update_stats(|stats| (stats.drop_frame(block), stats.restyled, stats.dropped));
        let segment = self.sink_pad.sticky_event::<gst::event::Segment>(0);
        let segment = segment.and_then(|event| event.segment().downcast_ref::<gst::ClockTime>().cloned());
        Dropped {
            live: self.is_live(),
            running_time: segment.as_ref().and_then(|segment| segment.to_running_time(buffer.pts())),
            stream_time: segment.as_ref().and_then(|segment| segment.to_stream_time(buffer.pts())),
            timestamp: buffer.pts(),
            duration: buffer.duration(),
            processed,
            dropped,
        }
        .post(self.obj().upcast_ref());
        if let Some(text) = text {
            gst::element_imp_warning!(self, gst::CoreError::Clock, ("{text}"));
        }
    }

    /// The format of the frames to come, or why they cannot be restyled.
    fn accepted(&self, caps: &gst::CapsRef) -> Result<VideoInfo, String> {
        let info = VideoInfo::from_caps(caps).map_err(|_| format!("{caps} is no raw video"))?;
        if info.interlace_mode() != VideoInterlaceMode::Progressive {
            return Err(format!(
                "soratransform takes whole frames and the video is interlaced ({}): put deinterlace before it",
                info.interlace_mode().to_str()
            ));
        }
        Ok(info)
    }

    pub(super) fn sink_event(&self, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        let line = self.line().ok_or(gst::FlowError::Flushing)?;
        let taken = |pushed: Result<(), Interrupted>| {
            pushed.map(|()| gst::FlowSuccess::Ok).map_err(Interrupted::flow)
        };
        let handed = |done: bool| if done { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Error) };
        match event.view() {
            gst::EventView::FlushStart(_) => {
                line.flush_start(Barrier::outlives_flush, outlives_flush);
                let outlet = self.state().run.as_ref().map(|run| Arc::clone(&run.outlet));
                if let Some(outlet) = outlet {
                    outlet.reconsider();
                }
                handed(self.src_pad.push_event(event))
            }
            gst::EventView::FlushStop(_) => {
                line.flush_stop();
                if let Some(run) = &mut self.state().run {
                    run.last = None;
                }
                handed(self.src_pad.push_event(event))
            }
            gst::EventView::Caps(caps) => {
                let info = match self.accepted(caps.caps()) {
                    Ok(info) => info,
                    Err(text) => {
                        gst::element_imp_error!(
                            self,
                            gst::StreamError::Format,
                            ("{text}"),
                            ["{}", caps.caps()]
                        );
                        return Err(gst::FlowError::NotNegotiated);
                    }
                };
                let rate = info.fps();
                if let Some(run) = &mut self.state().run {
                    run.info = Some(info.clone());
                }
                if let (Ok(n @ 1..), Ok(d @ 1..)) = (u32::try_from(rate.numer()), u32::try_from(rate.denom()))
                {
                    self.update_latency(|latency| latency.frame = Duration::from_secs(d.into()) / n);
                }
                taken(line.push_barrier(Barrier::Caps(event, info)))
            }
            gst::EventView::Eos(_) => {
                if let Some(reason @ (gst::FlowError::NotLinked | gst::FlowError::NotNegotiated)) =
                    line.refusal()
                {
                    // Upstream is at its end: nobody else tells.
                    gst::element_imp_error!(
                        self,
                        gst::StreamError::Failed,
                        ("The restyled video goes nowhere."),
                        ["downstream answered {reason:?}"]
                    );
                }
                taken(line.push_barrier(Barrier::Event(event)))
            }
            // These say nothing about time: a block may go on over them.
            gst::EventView::Tag(_) | gst::EventView::Toc(_) | gst::EventView::CustomDownstream(_) => {
                taken(line.push_rider(event))
            }
            _ if event.is_serialized() => taken(line.push_barrier(Barrier::Event(event))),
            _ => handed(gst::Pad::event_default(&self.sink_pad, Some(&*self.obj()), event)),
        }
    }

    pub(super) fn sink_query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            // Frames are read in the layout that their caps imply, and new ones are written.
            gst::QueryViewMut::Allocation(_) => false,
            _ => gst::Pad::query_default(&self.sink_pad, Some(&*self.obj()), query),
        }
    }

    pub(super) fn src_query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => {
                let mut upstream = gst::query::Latency::new();
                if !self.sink_pad.peer_query(&mut upstream) {
                    return false;
                }
                let (live, min, max) = upstream.result();
                let own = self.state().run.as_ref().map_or(Duration::ZERO, |run| run.latency.stated());
                let own = gst::ClockTime::try_from(own).unwrap_or(gst::ClockTime::ZERO);
                gst::debug!(CAT, imp = self, "latency {min} and {own} of our own");
                latency.set(live, min + own, max.map(|max| max + own));
                true
            }
            gst::QueryViewMut::Context(context) if context.context_type() == provenance::CONTEXT_TYPE => {
                let told = self.state().run.as_ref().map(|run| run.provenance.clone()).unwrap_or_default();
                // What upstream says of its own is true here only while nothing has been restyled.
                if told.is_empty() {
                    return gst::Pad::query_default(&self.src_pad, Some(&*self.obj()), query);
                }
                provenance::answer(context, &told)
            }
            _ => gst::Pad::query_default(&self.src_pad, Some(&*self.obj()), query),
        }
    }
}
