use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFormat, VideoInfo, VideoInterlaceMode};
use sora_gst::{Provenance, provenance};

use super::QueuePolicy;
use super::latency::Latency;
use super::line::{Interrupted, WhenFull};
use super::record;
use super::settings::{self, Settings, Style};
use super::stats::Stats;
use super::worker::{Arrived, Barrier, FrameLine, FrameOutlet, KeptModel, Worker, outlives_flush, push_out};
use crate::messages::Reporter;
use crate::model::ModelInfo;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("soratransform", gst::DebugColorFlags::empty(), Some("Restyles live video"))
});

/// How long a stop waits for the worker. A denoising step cannot be interrupted; a worker that is in a long one is
/// left alone and ends by itself after it.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// A hole in the timestamps, either way, behind which a stream begins anew: this, or so many frames where that is more.
const HOLE: gst::ClockTime = gst::ClockTime::from_seconds(1);
const HOLE_FRAMES: u32 = 4;

/// A live block that is begun and gets no frame for so many frames' time is worked off as it is.
const PATIENCE_FRAMES: u32 = 8;

pub struct SoraTransform {
    sink_pad: gst::Pad,
    src_pad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    stats: Mutex<Stats>,
    kept_model: KeptModel,
}

#[derive(Default)]
struct State {
    /// From READY on.
    model: Option<ModelInfo>,
    /// From PAUSED on.
    run: Option<Run>,
    /// Seed of the run or of the last one.
    seed: Option<u64>,
}

struct Run {
    line: Arc<FrameLine>,
    outlet: Arc<FrameOutlet>,
    reporter: Arc<Reporter>,
    worker: JoinHandle<()>,
    pusher: JoinHandle<()>,
    latency: Latency,
    info: Option<VideoInfo>,
    /// Whether upstream is live, once it was asked.
    live: Option<bool>,
    /// Time and duration of the last frame.
    last: Option<(gst::ClockTime, Option<gst::ClockTime>)>,
    provenance: Provenance,
}

impl SoraTransform {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update_stats<T>(&self, update: impl FnOnce(&mut Stats) -> T) -> T {
        update(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn line(&self) -> Option<Arc<FrameLine>> {
        self.state().run.as_ref().map(|run| Arc::clone(&run.line))
    }

    pub(super) fn passes_through(&self) -> bool {
        self.settings().passes_through()
    }

    pub(super) fn working_size(&self) -> (u32, u32) {
        self.settings().working_size
    }

    /// How the next block is restyled; `None` where frames pass untouched.
    pub(super) fn style(&self) -> Option<Style> {
        let settings = self.settings().clone();
        let native = self.state().model.as_ref().map(|model| model.native.clone())?;
        settings.style(&native)
    }

    /// How long a live block that is begun may wait for its next frame.
    pub(super) fn patience(&self) -> Option<Duration> {
        let state = self.state();
        let run = state.run.as_ref().filter(|run| run.live == Some(true))?;
        Some(run.latency.frame * PATIENCE_FRAMES)
    }

    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.update_stats(|stats| stats.frames_out += 1);
        self.src_pad.push(buffer)
    }

    pub(super) fn push_event(&self, event: gst::Event) {
        gst::log!(CAT, imp = self, "handing on {:?}", event.type_());
        self.src_pad.push_event(event);
    }

    /// Keeps a sticky event for the next push.
    pub(super) fn store_event(&self, event: &gst::Event) {
        if let Err(reason) = self.src_pad.store_sticky_event(event) {
            gst::debug!(CAT, imp = self, "{:?} is not kept: {reason:?}", event.type_());
        }
    }

    /// Changes what the latency follows from, and tells the pipeline when that changes it.
    fn update_latency(&self, update: impl FnOnce(&mut Latency)) {
        let passes_through = self.passes_through();
        let changed = {
            let mut state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &mut *state else { return };
            run.latency.block = if passes_through { 1 } else { model.block_frames };
            update(&mut run.latency);
            run.latency.settle().then(|| run.latency.stated())
        };
        if let Some(stated) = changed {
            gst::info!(CAT, imp = self, "latency is {stated:?}");
            // Without a bus there is nobody to tell.
            let _ = self.obj().post_message(gst::message::Latency::builder().src(&*self.obj()).build());
        }
    }

    /// A block has been restyled: `time` after it was whole, `since_first` after its first frame came.
    pub(super) fn block_done(&self, frames: u32, time: Duration, since_first: Duration) {
        let first = self.update_stats(|stats| {
            stats.block(frames, time);
            stats.measured_latency = since_first;
            if stats.blocks == 1 {
                stats.first_block_time = since_first;
            }
            stats.blocks == 1
        });
        // The first block is of one frame, and everything in it is done for the first time.
        if !first {
            self.update_latency(|latency| latency.computed(time));
        }
    }

    /// Publishes how the stream is made, before the first frame of a style leaves.
    pub(super) fn tell_record(&self, style: &Style, info: &VideoInfo, seed: u64, model: &str) {
        let mut query = gst::query::Context::new(provenance::CONTEXT_TYPE);
        let source = self.sink_pad.peer_query(&mut query).then(|| query.context().map(ToOwned::to_owned));
        let source = source.flatten().and_then(|context| Provenance::from_context(&context));
        let policy = self.settings().prompt_policy();
        let weights_sha256 = self.state().model.as_ref().and_then(|model| model.weights.get());
        let model = sora_record::Model { id: model.to_owned(), weights_sha256 };
        let mut told = record::of_stream(model, style, seed, info, policy, source.as_ref());
        told.origin = Some(self.obj().path_string().into());
        if let Some(run) = &mut self.state().run {
            run.provenance = told.clone();
        }
        provenance::publish(self.obj().upcast_ref(), &told);
    }

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
        let mut query = gst::query::Latency::new();
        let live = self.sink_pad.peer_query(&mut query) && query.result().0;
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

    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (line, most, known) = {
            let state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &*state else {
                return Err(gst::FlowError::Flushing);
            };
            (Arc::clone(&run.line), model.block_frames, run.info.is_some())
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
        let frame = Arrived { buffer, at: Instant::now() };
        if line.push_frame(frame, most as usize, when_full).map_err(Interrupted::flow)?.is_some()
            && let Some(text) = self.update_stats(|stats| stats.drop_frame(most))
        {
            gst::element_imp_warning!(self, gst::CoreError::Clock, ("{text}"));
        }
        Ok(gst::FlowSuccess::Ok)
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

    fn sink_event(&self, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
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

    fn sink_query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            // Frames are read in the layout that their caps imply, and new ones are written.
            gst::QueryViewMut::Allocation(_) => false,
            _ => gst::Pad::query_default(&self.sink_pad, Some(&*self.obj()), query),
        }
    }

    fn src_query(&self, query: &mut gst::QueryRef) -> bool {
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

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let refuse = |text: String| {
            gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["refused before loading the model"])
        };
        let settings = self.settings().clone();
        settings.check().map_err(refuse)?;
        let model = self.state().model.clone();
        let model = model.ok_or_else(|| refuse("soratransform was not brought to READY".into()))?;
        let (n, d) = model.native.frame_rate;
        let seed = settings.seed();
        let line = Arc::<FrameLine>::default();
        let reporter = Arc::new(Reporter::new(self.obj().upcast_ref()));
        let frame = Duration::from_secs(d.unsigned_abs().into()) / n.unsigned_abs().max(1);
        let block = if settings.passes_through() { 1 } else { model.block_frames };
        let latency = Latency::expecting(frame, block);
        self.update_stats(|stats| *stats = Stats::default());
        let kept = self.kept_model.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let load_told = !settings.passes_through() && !kept;
        if load_told {
            // From the change of state: gst-launch plays when the operation is over.
            reporter.start("load", &format!("loading {}", model.name));
        }
        let outlet = Arc::<FrameOutlet>::default();
        let worker = Worker {
            element: self.obj().downgrade(),
            line: Arc::clone(&line),
            outlet: Arc::clone(&outlet),
            reporter: Arc::clone(&reporter),
            info: model,
            kept: Arc::clone(&self.kept_model),
            seed,
            load_told: load_told.into(),
        };
        let failed = |error: std::io::Error| {
            reporter.cancel();
            line.stop();
            outlet.stop();
            gst::error_msg!(
                gst::ResourceError::Failed,
                ("No thread could be started to restyle the video."),
                ["{error}"]
            )
        };
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(body)
        };
        let pushing = (self.obj().downgrade(), Arc::clone(&line), Arc::clone(&outlet));
        let pusher =
            spawn("soratransform-out", Box::new(move || push_out(&pushing.0, &pushing.1, &pushing.2)));
        let pusher = pusher.map_err(failed)?;
        let worker = spawn("soratransform", Box::new(move || worker.run())).map_err(failed)?;
        let mut state = self.state();
        state.seed = Some(seed);
        state.run = Some(Run {
            line,
            outlet,
            reporter,
            worker,
            pusher,
            latency,
            info: None,
            live: None,
            last: None,
            provenance: Provenance::default(),
        });
        Ok(())
    }

    /// Wakes everybody who waits, so that pads can be deactivated.
    fn interrupt(&self) {
        let run = self
            .state()
            .run
            .as_ref()
            .map(|run| (Arc::clone(&run.line), Arc::clone(&run.outlet), Arc::clone(&run.reporter)));
        if let Some((line, outlet, reporter)) = run {
            line.stop();
            outlet.stop();
            reporter.cancel();
        }
    }

    /// After the pads are deactivated: nothing holds up a push any more.
    fn stop(&self) {
        let run = self.state().run.take();
        let Some(Run { line, worker, pusher, .. }) = run else { return };
        // An element that is taken out of a pipeline that pauses may be held up in a sink.
        let deadline = Instant::now() + STOP_PATIENCE;
        while !pusher.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Panics have been caught inside, or have nothing to add.
        if pusher.is_finished() {
            let _ = pusher.join();
        }
        if line.wait_left(deadline.saturating_duration_since(Instant::now())) {
            let _ = worker.join();
        } else {
            gst::info!(CAT, imp = self, "the worker ends after the step it is in");
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for SoraTransform {
    const NAME: &'static str = "GstSoraTransform";
    type Type = super::SoraTransform;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        const THERE: &str = "the class has both templates";
        let sink_pad = gst::Pad::builder_from_template(&class.pad_template("sink").expect(THERE))
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(buffer),
                )
            })
            // With a flow for an answer: an event that is interrupted is no error.
            .event_full_function(|_, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_event(event),
                )
            })
            .query_function(|_, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(query))
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        let src_pad = gst::Pad::builder_from_template(&class.pad_template("src").expect(THERE))
            .query_function(|_, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_query(query))
            })
            .flags(gst::PadFlags::PROXY_CAPS)
            .build();
        Self {
            sink_pad,
            src_pad,
            settings: Mutex::default(),
            state: Mutex::default(),
            stats: Mutex::default(),
            kept_model: KeptModel::default(),
        }
    }
}

impl ObjectImpl for SoraTransform {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gst::info!(CAT, imp = self, "setting {}", pspec.name());
        self.settings().set(pspec.name(), value);
        if matches!(pspec.name(), "enabled" | "strength") {
            self.update_latency(|_| {});
            if let Some(line) = self.line() {
                line.reconsider();
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let (waiting, block, latency) = {
                    let state = self.state();
                    let run = state.run.as_ref();
                    let block = state.model.as_ref().map_or(1, |model| model.block_frames);
                    (run.map(|run| Arc::clone(&run.line)), block, run.map(|run| run.latency.stated()))
                };
                let waiting = waiting.map_or(0, |line| line.waiting());
                let stats = self.update_stats(|stats| stats.clone());
                stats.to_structure(waiting, block, latency.unwrap_or_default()).to_value()
            }
            "seed-used" => {
                self.state().seed.and_then(|seed| i64::try_from(seed).ok()).unwrap_or(-1).to_value()
            }
            name => {
                let value = self.settings().value(name);
                value.unwrap_or_else(|| unreachable!("no property {name}"))
            }
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        for pad in [&self.sink_pad, &self.src_pad] {
            self.obj().add_pad(pad).expect("a new element has no pads");
        }
    }
}

impl GstObjectImpl for SoraTransform {}

impl ElementImpl for SoraTransform {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Video restyler",
                "Filter/Effect/Video",
                "Restyles live video by a prompt with a diffusion transformer",
                "The sora-gst authors",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            // What encoders and cameras have comes first: sources that can make anything take the first. Nothing is
            // converted to a palette.
            const FIRST: [VideoFormat; 4] =
                [VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Rgb, VideoFormat::Rgba];
            let others = VideoFormat::iter_raw().filter(|format| {
                !FIRST.contains(format) && ![VideoFormat::Encoded, VideoFormat::Rgb8p].contains(format)
            });
            let formats = FIRST.into_iter().chain(others);
            let caps = gst_video::VideoCapsBuilder::new().format_list(formats).build();
            let template = |name, direction| {
                // The parameters of a valid template.
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid template")
            };
            vec![template("sink", gst::PadDirection::Sink), template("src", gst::PadDirection::Src)]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let refuse = |error| {
            self.post_error_message(error);
            gst::StateChangeError
        };
        match transition {
            gst::StateChange::NullToReady => {
                let choice = self.settings().choice.clone();
                let model = ModelInfo::open(&choice).map_err(refuse)?;
                gst::info!(CAT, imp = self, "model {model:?}");
                self.state().model = Some(model);
            }
            gst::StateChange::ReadyToPaused => self.start().map_err(refuse)?,
            gst::StateChange::PausedToReady => self.interrupt(),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused if result.is_ok() => {
                if let Some(line) = self.line() {
                    line.release();
                }
            }
            gst::StateChange::ReadyToPaused => {
                self.interrupt();
                self.stop();
            }
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => {
                self.state().model = None;
                let kept = self.kept_model.lock().unwrap_or_else(PoisonError::into_inner).take();
                // Freeing a large model takes a while: not under the lock.
                drop(kept);
            }
            _ => {}
        }
        result
    }
}
