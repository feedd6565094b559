//! The thread that passes the one clip, makes what is between, and passes the other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;
use sora_engine_api::{EngineError, Level, Model};

use super::imp::CAT;
use super::inputs::{Inputs, Item, Side, Taken};
use super::output::{self, Line, Passing};
use super::settings::Plan;
use super::transition::Transition;
use crate::bridge;
use crate::fit::{Fit, working_size};
use crate::loading::{self, KeptModel, Owner};
use crate::messages::{self, Reporter};
use crate::model::ModelInfo;

/// An error is posted no sooner after the change to PAUSED than this: gst-launch, up to 1.22 at least, listens only
/// after it.
const ERROR_GRACE: Duration = Duration::from_millis(200);

/// Why a run ends early.
enum Failure {
    Engine(EngineError),
    Message(gst::ErrorMessage),
    /// The run is over, or downstream takes no more: nobody needs to be told.
    Stopped,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Stopped,
            error => Self::Engine(error),
        }
    }
}

fn bad_format(text: String) -> Failure {
    Failure::Message(gst::error_msg!(
        gst::StreamError::Format,
        ("{text}"),
        ["a frame could not be converted"]
    ))
}

/// How an input has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Eos,
    /// No frame came in time.
    Late,
}

/// What goes out.
struct Out {
    caps: gst::Caps,
    info: VideoInfo,
    line: Line,
    fit: Fit,
}

/// What the worker of one run knows.
pub(super) struct Worker {
    pub(super) element: glib::WeakRef<super::SoraMerge>,
    pub(super) inputs: Arc<Inputs>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) info: ModelInfo,
    pub(super) plan: Plan,
    pub(super) kept: KeptModel,
    /// The beginning of the loading has been posted.
    pub(super) load_told: AtomicBool,
}

/// The run so far.
struct Run {
    out: Option<Out>,
    from: Passing,
    to: Passing,
    /// The last pictures of the first clip.
    tail: VecDeque<Vec<u8>>,
    loader: Option<JoinHandle<Option<Arc<Model>>>>,
}

impl Drop for Run {
    /// Whoever waits for the worker waits for the loading too: a process that ends meanwhile crashes.
    fn drop(&mut self) {
        if let Some(loader) = self.loader.take() {
            // Panics have been caught inside.
            let _ = loader.join();
        }
    }
}

impl Worker {
    pub(super) fn run(self) {
        let worker = Arc::new(self);
        // A panic must not leave the streaming threads waiting.
        let result = catch_unwind(AssertUnwindSafe(|| worker.work()));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let reason = text.unwrap_or("no reason given");
            Err(Failure::Engine(EngineError::Internal(format!("panicked: {reason}"))))
        });
        if let Err(failure) = result {
            worker.fail(failure);
        }
    }

    fn fail(&self, failure: Failure) {
        let message = match failure {
            Failure::Stopped => return,
            Failure::Engine(error) => messages::of_engine(&error, &format!("{:?}", self.info.options)),
            Failure::Message(message) => message,
        };
        std::thread::sleep(ERROR_GRACE);
        self.reporter.fail(message);
        self.inputs.refuse(gst::FlowError::Error);
    }

    fn element(&self) -> Result<super::SoraMerge, Failure> {
        self.element.upgrade().ok_or(Failure::Stopped)
    }

    fn work(self: &Arc<Self>) -> Result<(), Failure> {
        if !self.inputs.wait_for_release() {
            return Err(Failure::Stopped);
        }
        let mut run = Run {
            out: None,
            from: Passing::new(),
            to: Passing::new(),
            tail: VecDeque::new(),
            loader: self.start_loading(),
        };
        let ended = self.pass(&mut run, Side::From)?;
        self.inputs.done(Side::From);
        let last = run.from.finish();
        self.push_arrived(&mut run, Side::From, last)?;
        if !run.from.has_begun() {
            self.warn(Side::From, ended, "the output begins with the other clip");
        }
        if run.from.has_begun() && !self.plan.duration.is_zero() {
            self.lead_over(&mut run)?;
        }
        let ended = self.pass(&mut run, Side::To)?;
        self.inputs.done(Side::To);
        let last = run.to.finish();
        self.push_arrived(&mut run, Side::To, last)?;
        if !run.to.has_begun() {
            self.warn(Side::To, ended, "the output ends with the other clip");
        }
        let element = self.element()?;
        if run.out.is_none() {
            element.imp().push_event(element.imp().stream_start());
        }
        element.imp().push_event(gst::event::Eos::new());
        Ok(())
    }

    fn warn(&self, side: Side, ended: Ended, what: &str) {
        let name = side.name();
        let why = match (ended, self.plan.timeout) {
            (Ended::Late, Some(timeout)) => format!("No frame came on {name} within {timeout:?}"),
            _ => format!("{name} ended without a frame"),
        };
        self.reporter.warn(&format!("{why}: {what}."));
    }

    /// Loads the model while the first clip passes. What goes wrong is told at once.
    fn start_loading(self: &Arc<Self>) -> Option<JoinHandle<Option<Arc<Model>>>> {
        if self.plan.duration.is_zero() {
            return None;
        }
        let worker = Arc::clone(self);
        let body = move || {
            let loaded = catch_unwind(AssertUnwindSafe(|| {
                loading::load(&worker.kept, &worker.info, &*worker, &worker.reporter, &worker.load_told)
            }));
            match loaded {
                Ok(Ok(loaded)) => loaded.map(|(model, time)| {
                    if let Ok(element) = worker.element() {
                        element.imp().update_stats(|stats| stats.load_time = time);
                    }
                    model
                }),
                Ok(Err(error)) => {
                    worker.fail(error.into());
                    None
                }
                Err(_) => {
                    let error = EngineError::Internal("loading the model panicked".into());
                    worker.fail(Failure::Engine(error));
                    None
                }
            }
        };
        // Without a thread the model is loaded when it is needed.
        std::thread::Builder::new().name("soramerge-load".into()).spawn(body).ok()
    }

    fn model(&self, run: &mut Run) -> Result<Arc<Model>, Failure> {
        let loaded = match run.loader.take() {
            Some(loader) => loader.join().unwrap_or_default(),
            None => {
                let loaded = loading::load(&self.kept, &self.info, self, &self.reporter, &self.load_told)?;
                loaded.map(|(model, _)| model)
            }
        };
        loaded.ok_or(Failure::Stopped)
    }

    /// The next thing that comes in on a side.
    fn take(&self, run: &Run, side: Side) -> Result<Result<Item, Ended>, Failure> {
        let passing = match side {
            Side::From => &run.from,
            Side::To => &run.to,
        };
        let patience = self.plan.timeout.filter(|_| !passing.has_begun());
        let runs = || self.element.upgrade().is_some_and(|element| element.imp().time_runs(side));
        match self.inputs.take(side, patience, runs) {
            Taken::Item(item) => Ok(Ok(item)),
            Taken::Late => Ok(Err(Ended::Late)),
            Taken::Stopped => Err(Failure::Stopped),
        }
    }

    /// Hands one input on up to its end.
    fn pass(&self, run: &mut Run, side: Side) -> Result<Ended, Failure> {
        loop {
            match self.take(run, side)? {
                Err(ended) => return Ok(ended),
                Ok(Item::Eos) => return Ok(Ended::Eos),
                Ok(Item::Caps(caps, info)) => passing(run, side).set_format(caps, info),
                Ok(Item::Frame(buffer, time)) => {
                    let frames = self.arrived(run, side, buffer, time)?;
                    self.push_arrived(run, side, frames)?;
                }
            }
        }
    }

    /// What a frame is for the output. The first one of all settles the output's format.
    fn arrived(
        &self,
        run: &mut Run,
        side: Side,
        buffer: gst::Buffer,
        time: Option<gst::ClockTime>,
    ) -> Result<Vec<gst::Buffer>, Failure> {
        if run.out.is_none() {
            let format = passing(run, side).format.clone();
            let (_, info) =
                format.ok_or_else(|| bad_format("A frame came before its format was known.".into()))?;
            run.out = Some(self.begin(&info, time.unwrap_or(gst::ClockTime::ZERO))?);
        }
        if side == Side::To && !run.to.has_begun() {
            // Only now its maker can be asked.
            if let (Some(out), Some(element)) = (&run.out, self.element.upgrade()) {
                element.imp().tell_record(&self.plan, &out.info);
            }
        }
        let Run { out: Some(out), from, to, .. } = run else { return Ok(Vec::new()) };
        let passing = if side == Side::From { from } else { to };
        let arrived = passing.arrived(buffer, time, (&out.caps, &out.info)).map_err(bad_format)?;
        out.line.skip(arrived.hole);
        Ok(arrived.frames)
    }

    fn push_arrived(&self, run: &mut Run, side: Side, frames: Vec<gst::Buffer>) -> Result<(), Failure> {
        let Some(out) = &mut run.out else { return Ok(()) };
        let context = (self.info.native.num_frames as usize).saturating_sub(self.block_frames()).max(1);
        for frame in frames {
            if side == Side::From && !self.plan.duration.is_zero() {
                let mut picture = Vec::with_capacity(out.fit.frame_size());
                out.fit.append(&frame, &mut picture).map_err(bad_format)?;
                run.tail.push_back(picture);
                if run.tail.len() > context {
                    run.tail.pop_front();
                }
            }
            self.push(out, frame)?;
        }
        Ok(())
    }

    fn block_frames(&self) -> usize {
        self.info.block_frames.max(1) as usize
    }

    /// Stamps a frame and pushes it.
    fn push(&self, out: &mut Out, frame: gst::Buffer) -> Result<(), Failure> {
        let frame = out.line.stamped(frame);
        let element = self.element()?;
        let pushed = element.imp().push(frame, out.line.end());
        drop(element);
        let Err(reason) = pushed else { return Ok(()) };
        self.inputs.refuse(reason);
        Err(match reason {
            gst::FlowError::NotLinked | gst::FlowError::NotNegotiated => {
                // Upstream may be at its end already: nobody else tells.
                Failure::Message(gst::error_msg!(
                    gst::StreamError::Failed,
                    ("The merged video goes nowhere."),
                    ["downstream answered {reason:?}"]
                ))
            }
            _ => Failure::Stopped,
        })
    }

    /// Settles the output's format by that of the first clip, and tells everybody.
    fn begin(&self, first: &VideoInfo, base: gst::ClockTime) -> Result<Out, Failure> {
        let element = self.element()?;
        let imp = element.imp();
        let (n, d) = self.info.native.frame_rate;
        let peer = imp.src_pad.peer_query_caps(Some(&imp.src_pad.pad_template_caps()));
        let refuse = |text: String| {
            Failure::Message(gst::error_msg!(gst::CoreError::Negotiation, ("{text}"), ["downstream: {peer}"]))
        };
        let caps = output::caps(first, gst::Fraction::new(n, d), &peer).map_err(refuse)?;
        let info = VideoInfo::from_caps(&caps).map_err(|_| refuse(format!("{caps} is no raw video")))?;
        let native = (self.info.native.width, self.info.native.height);
        let size = working_size(&info, self.plan.working_size, &self.info.rules, native);
        gst::info!(CAT, obj = element, "{caps} goes out; blocks are made at {}x{}", size.0, size.1);
        let fit = Fit::new(&caps, &info, size).map_err(bad_format)?;
        imp.push_event(imp.stream_start());
        imp.push_event(gst::event::Caps::new(&caps));
        imp.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
        imp.tell_record(&self.plan, &info);
        Ok(Out { line: Line::new(info.fps(), base), caps, info, fit })
    }

    /// Collects frames of the second clip until there are so many, or it ends.
    fn gather(&self, run: &mut Run, head: &mut VecDeque<gst::Buffer>, wanted: usize) -> Result<(), Failure> {
        while head.len() < wanted {
            match self.take(run, Side::To)? {
                Ok(Item::Caps(caps, info)) => run.to.set_format(caps, info),
                Ok(Item::Frame(buffer, time)) => head.extend(self.arrived(run, Side::To, buffer, time)?),
                Ok(Item::Eos) => {
                    head.extend(run.to.finish());
                    // Found again when the rest is to be passed.
                    let _ = self.inputs.push(Side::To, Item::Eos, false);
                    return Ok(());
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Makes what is between the clips.
    fn lead_over(&self, run: &mut Run) -> Result<(), Failure> {
        let mut head = VecDeque::new();
        self.gather(run, &mut head, 1)?;
        if head.is_empty() {
            return Ok(());
        }
        let model = self.model(run)?;
        let block = self.block_frames();
        let (size, rate) = match &run.out {
            Some(out) => (out.fit.size(), out.info.fps()),
            None => return Ok(()),
        };
        let frames = self.plan.duration.as_secs_f64() * f64::from(rate.numer()) / f64::from(rate.denom());
        let blocks = ((frames / block as f64).round() as usize).max(1);
        let drawn = bridge::drawn(blocks);
        let tail: Vec<Vec<u8>> = std::mem::take(&mut run.tail).into();
        let mut transition = Transition::open(&model, size, &self.plan, self, (&tail, block, blocks))?;
        for _ in drawn..blocks {
            let began = Instant::now();
            let made = transition.free()?;
            self.push_made(run, &made, began)?;
        }
        self.gather(run, &mut head, drawn * block)?;
        let rest = head.split_off(head.len().min(drawn * block));
        let strengths = bridge::strengths(head.len().div_ceil(block), self.info.shift);
        for (n, (frames, &strength)) in head.make_contiguous().chunks(block).zip(&strengths).enumerate() {
            let began = Instant::now();
            let Some(out) = &run.out else { return Ok(()) };
            let mut pixels = Vec::new();
            for frame in frames {
                out.fit.append(frame, &mut pixels).map_err(bad_format)?;
            }
            let given = pixels.len();
            while pixels.len() < block * out.fit.frame_size() {
                // The clip ends within the block: its last picture stands still.
                pixels.extend_from_within(pixels.len() - out.fit.frame_size()..);
            }
            let mut made = transition.drawn(&pixels, strength, n == 0)?;
            made.truncate(given);
            if n + 1 == strengths.len() {
                bridge::fade_into(&mut made, &pixels[..given], out.fit.frame_size());
            }
            self.push_made(run, &made, began)?;
        }
        self.push_arrived(run, Side::To, rest.into())
    }

    fn push_made(&self, run: &mut Run, made: &[u8], began: Instant) -> Result<(), Failure> {
        let Some(out) = &mut run.out else { return Ok(()) };
        let pictures: Vec<&[u8]> = made.chunks_exact(out.fit.frame_size()).collect();
        self.element()?.imp().update_stats(|stats| stats.block(pictures.len() as u64, began.elapsed()));
        let blank = gst::Buffer::new();
        for picture in pictures {
            let frame = out.fit.frame(picture, &blank).map_err(bad_format)?;
            self.push(out, frame)?;
        }
        Ok(())
    }
}

fn passing(run: &mut Run, side: Side) -> &mut Passing {
    match side {
        Side::From => &mut run.from,
        Side::To => &mut run.to,
    }
}

impl Owner for Worker {
    fn is_gone(&self) -> bool {
        self.inputs.is_stopped()
    }

    fn log(&self, level: Level, target: &str, message: &str) {
        let Some(element) = self.element.upgrade() else { return };
        self.reporter.log_line(&element, *CAT, level, target, message);
    }
}
