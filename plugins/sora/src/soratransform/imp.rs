use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use sora_engine_api::trace;
use sora_gst::{Provenance, provenance};

use super::latency::Latency;
use super::record;
use super::settings::{self, Settings, Style};
use super::stats::Stats;
use super::worker::{FrameLine, FrameOutlet, Worker, push_out};
use crate::fit::Fit;
use crate::loading::KeptModel;
use crate::messages::Reporter;
use crate::model::ModelInfo;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("soratransform", gst::DebugColorFlags::empty(), Some("Restyles live video"))
});

/// How long a stop waits for the worker. A denoising step cannot be interrupted; a worker that is in a long one is
/// left alone and ends by itself after it.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// A live block that is begun and gets no frame for so many frames' time is worked off as it is.
const PATIENCE_FRAMES: u32 = 8;

pub struct SoraTransform {
    pub(super) sink_pad: gst::Pad,
    pub(super) src_pad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    stats: Mutex<Stats>,
    kept_model: KeptModel,
}

#[derive(Default)]
pub(super) struct State {
    /// From READY on.
    pub(super) model: Option<ModelInfo>,
    /// From PAUSED on.
    pub(super) run: Option<Run>,
    /// Seed of the run or of the last one.
    seed: Option<u64>,
}

pub(super) struct Run {
    pub(super) line: Arc<FrameLine>,
    pub(super) outlet: Arc<FrameOutlet>,
    reporter: Arc<Reporter>,
    worker: JoinHandle<()>,
    pusher: JoinHandle<()>,
    pub(super) latency: Latency,
    pub(super) info: Option<VideoInfo>,
    /// How the last frames that were restyled were converted.
    pub(super) fit: Option<Arc<Fit>>,
    /// Whether upstream is live, once it was asked.
    pub(super) live: Option<bool>,
    /// Time and duration of the last frame.
    pub(super) last: Option<(gst::ClockTime, Option<gst::ClockTime>)>,
    pub(super) provenance: Provenance,
}

impl SoraTransform {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update_stats<T>(&self, update: impl FnOnce(&mut Stats) -> T) -> T {
        update(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn line(&self) -> Option<Arc<FrameLine>> {
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
        let (native, taught) =
            self.state().model.as_ref().map(|model| (model.native.clone(), model.restyles))?;
        settings.style(&native, taught)
    }

    /// How long a live block that is begun may wait for its next frame.
    pub(super) fn patience(&self) -> Option<Duration> {
        let state = self.state();
        let run = state.run.as_ref().filter(|run| run.live == Some(true))?;
        Some(run.latency.frame * PATIENCE_FRAMES)
    }

    /// Frames that come from now on are converted so when they come, as long as their format is the same.
    pub(super) fn convert_with(&self, fit: &Arc<Fit>) {
        if let Some(run) = &mut self.state().run {
            run.fit = Some(Arc::clone(fit));
        }
    }

    pub(super) fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.update_stats(|stats| stats.frames_out += 1);
        let _span = trace::span("push");
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
    pub(super) fn update_latency(&self, update: impl FnOnce(&mut Latency)) {
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
            if stats.blocks.count == 1 {
                stats.first_block_time = since_first;
            }
            stats.blocks.count == 1
        });
        // The first block is of one frame, and everything in it is done for the first time.
        if !first {
            self.update_latency(|latency| latency.computed(time));
        }
    }

    /// Publishes how the stream is made, before the first frame of a style leaves.
    pub(super) fn tell_record(&self, style: &Style, info: &VideoInfo, seed: u64, model: &str) {
        let source = provenance::of_peer(&self.sink_pad);
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

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let refuse = |text: String| {
            gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["refused before loading the model"])
        };
        let settings = self.settings().clone();
        settings.check().map_err(refuse)?;
        let model = self.state().model.clone();
        let model = model.ok_or_else(|| refuse("soratransform was not brought to READY".into()))?;
        settings.check_model(&model.name, model.restyles).map_err(refuse)?;
        let (n, d) = model.native.frame_rate;
        let seed = settings.seed();
        let line = Arc::<FrameLine>::default();
        let reporter = Arc::new(Reporter::new(self.obj().upcast_ref()));
        let frame = Duration::from_secs(d.unsigned_abs().into()) / n.unsigned_abs().max(1);
        let block = if settings.passes_through() { 1 } else { model.block_frames };
        let latency = Latency::expecting(frame, block);
        self.update_stats(|stats| *stats = Stats::default());
        let kept = self.kept_model.is_some();
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
        let (element, reporter_of_pusher) = (self.obj().downgrade(), Arc::clone(&reporter));
        let (line_of_pusher, outlet_of_pusher) = (Arc::clone(&line), Arc::clone(&outlet));
        let pusher = spawn(
            "soratransform-out",
            Box::new(move || push_out(&element, &line_of_pusher, &outlet_of_pusher, &reporter_of_pusher)),
        );
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
            fit: None,
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
        let mut left = line.wait_left(deadline.saturating_duration_since(Instant::now()));
        if !left && self.kept_model.wait_until_opened() {
            left = line.wait_left(STOP_PATIENCE);
        }
        if left {
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
                let mut model = ModelInfo::open(&choice, true).map_err(refuse)?;
                // Live, the first block should not wait for it.
                model.options.sources = true;
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
                let kept = self.kept_model.take();
                // Freeing a large model takes a while: not under the lock.
                drop(kept);
            }
            _ => {}
        }
        result
    }
}
