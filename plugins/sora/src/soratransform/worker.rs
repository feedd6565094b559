//! The thread that restyles blocks and hands them and the events between them on.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use gst::glib;
use gst::subclass::prelude::*;
use sora_engine_api::{EngineError, Level, Model, trace};

use super::frames::{Arrived, Leaving};
use super::imp::CAT;
use super::line::{Line, Work};
use super::outlet::{Out, Outlet};
use super::restyle::{Listener, Restyler};
use super::settings::Style;
use crate::fit::{Fit, working_size};
use crate::loading::{self, KeptModel, Owner};
use crate::messages::{self, Reporter};
use crate::model::ModelInfo;

/// The queue of one run.
pub(super) type FrameLine = Line<Arrived, Barrier, gst::Event>;

/// What goes out in one run.
pub(super) type FrameOutlet = Outlet<Leaving, gst::Event>;

/// An error is posted no sooner after the change to PAUSED than this: gst-launch, up to 1.22 at least, listens only
/// after it.
const ERROR_GRACE: Duration = Duration::from_millis(200);

/// What no frame passes.
#[derive(Debug)]
pub(super) enum Barrier {
    /// Handed on in its place.
    Event(gst::Event),
    /// The format of the frames after it.
    Caps(gst::Event, gst_video::VideoInfo),
    /// What comes after has nothing to do with what was before.
    Cut,
}

/// Whether an event outlives a flush: pads keep it.
pub(super) fn outlives_flush(event: &gst::Event) -> bool {
    event.is_sticky() && !matches!(event.type_(), gst::EventType::Segment | gst::EventType::Eos)
}

impl Barrier {
    /// Whether it is still true after a flush.
    pub(super) fn outlives_flush(&self) -> bool {
        match self {
            Self::Event(event) => outlives_flush(event),
            Self::Caps(..) => true,
            Self::Cut => false,
        }
    }
}

/// The working pictures of a block, and how they become frames.
type Restyled = (Arc<Fit>, Vec<u8>);

/// Why a run ends early.
enum Failure {
    Engine(EngineError),
    Message(gst::ErrorMessage),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

fn of_bad_frame(text: &str) -> gst::ErrorMessage {
    gst::error_msg!(gst::StreamError::Format, ("{text}"), ["a frame could not be converted"])
}

fn bad_frame(text: String) -> Failure {
    Failure::Message(of_bad_frame(&text))
}

/// Pushes what the worker makes, until the end: on a thread of its own, which a sink may hold up.
pub(super) fn push_out(
    element: &glib::WeakRef<super::SoraTransform>,
    line: &FrameLine,
    outlet: &FrameOutlet,
    reporter: &Reporter,
) {
    while let Some((epoch, out)) = outlet.take() {
        let Some(element) = element.upgrade() else { return };
        let imp = element.imp();
        match out {
            // A frame of before a flush is not worth converting.
            Out::Frame(_) if line.is_stale(epoch) => {}
            Out::Frame(frame) => {
                let buffer = match frame.buffer() {
                    Ok(buffer) => buffer,
                    Err(text) => {
                        reporter.fail(of_bad_frame(&text));
                        line.refuse_for_good(gst::FlowError::Error);
                        continue;
                    }
                };
                if let Some(Err(reason)) = line.hand_on(epoch, || imp.push(buffer)) {
                    gst::debug!(CAT, obj = element, "downstream takes no more: {reason:?}");
                    line.refuse(epoch, reason);
                }
            }
            Out::Event(event) => {
                let handed = line.hand_on(epoch, || imp.push_event(event.clone()));
                // A flush came first: what outlives it goes out before the next frame.
                if handed.is_none() && outlives_flush(&event) {
                    imp.store_event(&event);
                }
            }
        }
    }
}

/// What the worker of one run knows.
pub(super) struct Worker {
    pub(super) element: glib::WeakRef<super::SoraTransform>,
    pub(super) line: Arc<FrameLine>,
    pub(super) outlet: Arc<FrameOutlet>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) info: ModelInfo,
    pub(super) kept: KeptModel,
    pub(super) seed: u64,
    /// The beginning of the loading has been posted.
    pub(super) load_told: AtomicBool,
}

/// What changes from block to block.
#[derive(Default)]
struct Progressing {
    epoch: u64,
    fit: Option<Arc<Fit>>,
    /// Caps whose conversion waits for the first frame that is restyled: others need none.
    caps: Option<(gst::Caps, gst_video::VideoInfo)>,
    model: Option<Arc<Model>>,
    restyler: Option<Restyler>,
    told: Option<Style>,
}

impl Worker {
    pub(super) fn run(self) {
        // A panic must not leave the streaming thread waiting.
        let result = catch_unwind(AssertUnwindSafe(|| self.work()));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let reason = text.unwrap_or("no reason given");
            Err(Failure::Engine(EngineError::Internal(format!("panicked: {reason}"))))
        });
        if let Err(failure) = result {
            let debug = format!("{:?}", self.info.options);
            let message = match failure {
                Failure::Engine(error) => messages::of_engine(&error, &debug),
                Failure::Message(message) => message,
            };
            std::thread::sleep(ERROR_GRACE);
            self.reporter.fail(message);
            self.line.refuse_for_good(gst::FlowError::Error);
        }
        self.line.leave();
    }

    fn work(&self) -> Result<(), Failure> {
        let progressing = RefCell::new(Progressing::default());
        if self.line.wait_for_release() && !self.passes_through() {
            // While upstream starts, so that a live stream does not have to wait for it.
            progressing.borrow_mut().model = self.load()?;
        }
        loop {
            let epoch = progressing.borrow().epoch;
            let wanted = || {
                let restyler = progressing.borrow().restyler.as_ref().map(Restyler::block_frames);
                let first = self.info.first_block_frames as usize;
                if self.passes_through() { 1 } else { restyler.unwrap_or(first) }
            };
            let patience = || self.element.upgrade().and_then(|element| element.imp().patience());
            let work = self.line.take(epoch, wanted, patience);
            let state = &mut *progressing.borrow_mut();
            match work {
                Work::Stop => return Ok(()),
                Work::Flushed(epoch) => {
                    state.epoch = epoch;
                    state.restyler = None;
                }
                Work::Barrier(barrier) => self.barrier(state, barrier),
                Work::Frames(frames) => self.frames(state, frames)?,
            }
        }
    }

    fn passes_through(&self) -> bool {
        self.element.upgrade().is_none_or(|element| element.imp().passes_through())
    }

    fn barrier(&self, state: &mut Progressing, barrier: Barrier) {
        let push = |event| self.put(state.epoch, Out::Event(event));
        self.line.take_riders().into_iter().for_each(push);
        match barrier {
            Barrier::Event(event) => push(event),
            Barrier::Caps(event, info) => {
                push(event.clone());
                if let gst::EventView::Caps(caps) = event.view() {
                    state.caps = Some((caps.caps_owned(), info));
                    state.fit = None;
                    state.restyler = None;
                }
            }
            Barrier::Cut => state.restyler = None,
        }
    }

    fn frames(
        &self,
        state: &mut Progressing,
        frames: Vec<(Arrived, Vec<gst::Event>)>,
    ) -> Result<(), Failure> {
        let Some(element) = self.element.upgrade() else { return Ok(()) };
        let imp = element.imp();
        let Some(style) = imp.style() else {
            state.restyler = None;
            for (frame, riders) in frames {
                self.hand_over(state.epoch, riders, Leaving::Untouched(frame.buffer));
            }
            return Ok(());
        };
        let whole = Instant::now();
        let Some((fit, made)) = self.restyled(state, &frames, &style)? else {
            // Called off in the middle: the stream of the engine is of no use any more.
            state.restyler = None;
            return Ok(());
        };
        let first_in = frames.first().map_or(whole, |(frame, _)| frame.at);
        // The first frame leaves when it is converted back, which will take as long as it took the last time.
        let back = fit.time_back();
        imp.block_done(frames.len() as u32, whole.elapsed() + back, first_in.elapsed() + back);
        let block = Arc::new(made);
        for (number, (frame, riders)) in frames.into_iter().enumerate() {
            let (fit, block) = (Arc::clone(&fit), Arc::clone(&block));
            self.hand_over(state.epoch, riders, Leaving::Restyled { fit, block, number, like: frame.buffer });
        }
        Ok(())
    }

    fn hand_over(&self, epoch: u64, riders: Vec<gst::Event>, frame: Leaving) {
        for rider in riders {
            self.put(epoch, Out::Event(rider));
        }
        self.put(epoch, Out::Frame(frame));
    }

    fn put(&self, epoch: u64, out: Out<Leaving, gst::Event>) {
        self.outlet.put(epoch, out, self.info.block_frames as usize, || self.line.is_stale(epoch));
    }

    /// A block anew; `None` when it is not wanted any more.
    fn restyled(
        &self,
        state: &mut Progressing,
        frames: &[(Arrived, Vec<gst::Event>)],
        style: &Style,
    ) -> Result<Option<Restyled>, Failure> {
        let Some(element) = self.element.upgrade() else { return Ok(None) };
        if state.model.is_none() {
            state.model = self.load()?;
        }
        let Some(model) = state.model.clone() else { return Ok(None) };
        let Some((caps, info)) = &state.caps else {
            return Err(bad_frame("A frame came before its format was known.".into()));
        };
        if state.fit.is_none() {
            let native = (self.info.native.width, self.info.native.height);
            let size = working_size(info, element.imp().working_size(), &self.info.rules, native);
            gst::info!(CAT, obj = element, "{caps} is restyled at {}x{}", size.0, size.1);
            element.imp().update_stats(|stats| stats.working_size = size);
            let fit = Arc::new(Fit::new(caps, info, size).map_err(bad_frame)?);
            element.imp().convert_with(&fit);
            state.fit = Some(fit);
        }
        let fit = Arc::clone(state.fit.as_ref().expect("made above"));
        if state.told.as_ref() != Some(style) {
            element.imp().tell_record(style, info, self.seed, &self.info.name);
            state.told = Some(style.clone());
        }
        let restyler = match &mut state.restyler {
            Some(restyler) => restyler,
            none => none.insert(Restyler::open(&model, fit.size(), self.seed, self.info.latent_frames)?),
        };
        let mut pixels = Vec::with_capacity(restyler.block_frames() * fit.frame_size());
        {
            let _span = trace::span("copy");
            for (frame, _) in frames {
                frame.append(&fit, &mut pixels).map_err(bad_frame)?;
            }
        }
        let listener = Listening { worker: self, epoch: state.epoch };
        match restyler.restyle(pixels, fit.frame_size(), style, &listener) {
            Ok(made) => Ok(Some((fit, made))),
            Err(_) if self.line.is_stale(state.epoch) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The model; `None` when the run ended first.
    fn load(&self) -> Result<Option<Arc<Model>>, EngineError> {
        let loaded = loading::load(&self.kept, &self.info, self, &self.reporter, &self.load_told)?;
        let Some((model, time)) = loaded else { return Ok(None) };
        if let Some(element) = self.element.upgrade() {
            element.imp().update_stats(|stats| {
                stats.model.clone_from(&self.info.name);
                stats.device = model.device();
                stats.dtype = model.dtype();
                stats.load_time = time;
            });
        }
        Ok(Some(model))
    }

    fn log_line(&self, level: Level, target: &str, message: &str) {
        let Some(element) = self.element.upgrade() else { return };
        self.reporter.log_line(&element, *CAT, level, target, message);
    }
}

struct Listening<'a> {
    worker: &'a Worker,
    epoch: u64,
}

impl Listener for Listening<'_> {
    fn is_wanted(&self) -> bool {
        !self.worker.line.is_stale(self.epoch)
    }

    fn log(&self, level: Level, target: &str, message: &str) {
        self.worker.log_line(level, target, message);
    }
}

impl Owner for Worker {
    fn is_gone(&self) -> bool {
        self.line.is_stopped()
    }

    fn log(&self, level: Level, target: &str, message: &str) {
        self.log_line(level, target, message);
    }
}
