use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use gst::glib;
use gst::glib::translate::IntoGlib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use sora_engine_api::{Generation, PromptEnhance, trace};
use sora_gst::{Provenance, provenance};

use super::job::Frame;
use super::negotiate::Output;
use super::settings::{self, Plan, Settings, WISHES};
use super::stats::Stats;
use super::text_pad::{self, TextPad};
use super::timing::{LiveClock, time_of_frame};
use super::worker::Clip;
use super::{caps, image, negotiate, video};
use crate::loading::KeptModel;
use crate::model::ModelInfo;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("soragen", gst::DebugColorFlags::empty(), Some("Text-to-video source"))
});

/// How long a stop waits for the worker. A denoising step cannot be interrupted; a worker that is
/// in a long one is left alone and ends by itself after it.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// An error is posted no sooner after the change to PAUSED than this.
const ERROR_GRACE: Duration = Duration::from_millis(200);

/// How long an error waits for the change to PAUSED, and for libtorch being opened, to be done.
const ERROR_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct SoraGen {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    pub(super) stats: Mutex<Stats>,
    kept_model: KeptModel,
    /// An ERROR has been posted; one is enough.
    failed: AtomicBool,
    start: Mutex<Start>,
}

/// How far the change to PAUSED has come.
#[derive(Clone, Copy, Default)]
enum Start {
    #[default]
    No,
    /// It is under way on this thread.
    Changing(ThreadId),
    /// It was done at this time.
    Changed(Instant),
}

/// What lives from READY on.
#[derive(Default)]
pub(super) struct State {
    pub(super) model: Option<ModelInfo>,
    pub(super) run: Option<Run>,
    /// Where the text pad has been requested.
    pub(super) text: Option<TextPad>,
    flushing: bool,
}

/// What lives from PAUSED on.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) output: Option<Output>,
    pub(super) clip: Clip,
    /// The clip's size is settled and its frames have this size.
    pub(super) size: Option<(u32, u32)>,
    /// Index of the next frame in time.
    pub(super) frame: u64,
    /// Frames that have been shown.
    pub(super) shown: u64,
    /// The last one of a live clip.
    pub(super) last: Option<Frame>,
    pub(super) clock: LiveClock,
    /// Tags that wait for what the enhancer makes of the prompt.
    pub(super) tags_due: Option<Generation>,
    /// How the clip is made, told to whoever asks.
    pub(super) provenance: Provenance,
    /// What it is made by, once it is requested.
    pub(super) generation: Option<Generation>,
    /// Downstream has the last frame.
    pub(super) pushing: Option<trace::Span>,
}

impl SoraGen {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update_stats(&self, update: impl FnOnce(&mut Stats)) {
        update(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn set_start(&self, start: Start) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = start;
    }

    /// gst-launch, up to 1.22 at least, enters its main loop after the change of state only, and an
    /// error that another thread posts before that is lost on it: it would wait for ever. Opening
    /// libtorch can hold it up, too: the dynamic linker has one lock for all.
    fn let_the_application_listen(&self) {
        let deadline = Instant::now() + ERROR_PATIENCE;
        let mut listening_since = None;
        while Instant::now() < deadline {
            let start = *self.start.lock().unwrap_or_else(PoisonError::into_inner);
            let opening = self.state().run.as_ref().is_some_and(|run| run.clip.job.is_entangled());
            match start {
                Start::No => return,
                Start::Changing(thread) if thread == std::thread::current().id() => return,
                Start::Changed(at) if !opening => {
                    let since = listening_since.unwrap_or(at);
                    return std::thread::sleep(ERROR_GRACE.saturating_sub(since.elapsed()));
                }
                Start::Changing(_) | Start::Changed(_) => {
                    std::thread::sleep(Duration::from_millis(5));
                    listening_since = Some(Instant::now());
                }
            }
        }
    }

    fn start_clip(&self, model: ModelInfo) -> Clip {
        Clip::start(&self.obj(), model, self.kept_model.clone())
    }

    /// Calls the running clip off; a flush makes it anew.
    fn cancel_clip(&self) {
        let clip = self.state().run.as_ref().map(|run| run.clip.clone());
        if let Some(clip) = clip {
            clip.cancel();
        }
    }

    /// The clip to take frames from, requested in the negotiated size; a new one when the last was
    /// called off by a flush.
    pub(super) fn running_clip(&self) -> Result<(Clip, Option<Generation>), gst::FlowError> {
        let (model, output, plan) = {
            let mut state = self.state();
            if state.flushing {
                return Err(gst::FlowError::Flushing);
            }
            let State { model: Some(model), run: Some(run), .. } = &mut *state else {
                return Err(gst::FlowError::Flushing);
            };
            if run.size.is_some() && !run.clip.job.is_cancelled() {
                return Ok((run.clip.clone(), None));
            }
            (model.clone(), run.output.clone(), run.plan.clone())
        };
        let output = output.ok_or(gst::FlowError::NotNegotiated)?;
        let name = model.name.clone();
        let called_off = || self.state().run.as_ref().is_none_or(|run| run.clip.job.is_cancelled());
        let anew = called_off().then(|| self.start_clip(model));

        let (width, height) = (output.info.width(), output.info.height());
        let generation = Generation {
            prompt: plan.prompt,
            prompt_enhance: plan.prompt_enhance,
            negative_prompt: plan.negative_prompt,
            width,
            height,
            num_frames: plan.num_frames,
            num_inference_steps: plan.num_inference_steps,
            guidance_scale: plan.guidance_scale,
            seed: plan.seed,
            scheduler: plan.scheduler,
        };
        gst::info!(CAT, imp = self, "{name} makes {generation:?}");
        let mut state = self.state();
        let flushing = state.flushing;
        let Some(run) = &mut state.run else { return Err(gst::FlowError::Flushing) };
        if let Some(clip) = anew {
            run.clip = clip;
            run.clip.job.set_flushing(flushing);
            run.clip.job.release();
            (run.frame, run.shown, run.last) = (0, 0, None);
        }
        run.size = Some((width, height));
        run.generation = Some(generation.clone());
        run.clip.job.request(generation.clone());
        Ok((run.clip.clone(), Some(generation)))
    }

    /// The model is known: in READY and above.
    pub(super) fn model_and<T>(&self, take: impl FnOnce(&ModelInfo, Option<&Run>) -> T) -> Option<T> {
        let state = self.state();
        state.model.as_ref().map(|model| take(model, state.run.as_ref()))
    }

    /// Length of one frame and of the clip, where they are known.
    fn durations(&self) -> Option<(gst::ClockTime, gst::ClockTime, u32)> {
        self.model_and(|model, run| {
            let run = run?;
            let rate = frame_rate(model, run.output.as_ref());
            // How long a clip is that it goes on from shows when that has been decoded.
            let frames = if run.plan.opening.shows_clip() { 0 } else { run.plan.num_frames };
            Some((time_of_frame(1, rate), time_of_frame(frames.into(), rate), frames))
        })
        .flatten()
    }
}

/// The negotiated rate; the model's own where that is 0/1 or nothing is negotiated yet.
pub(super) fn frame_rate(model: &ModelInfo, output: Option<&Output>) -> gst::Fraction {
    let (numerator, denominator) = model.native.frame_rate;
    match output.map(|output| output.info.fps()) {
        Some(rate) if rate.numer() > 0 => rate,
        _ => gst::Fraction::new(numerator, denominator),
    }
}

#[glib::object_subclass]
impl ObjectSubclass for SoraGen {
    const NAME: &'static str = "GstSoraGen";
    type Type = super::SoraGen;
    type ParentType = gst_base::PushSrc;
}

impl ObjectImpl for SoraGen {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gst::info!(CAT, imp = self, "setting {}", pspec.name());
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).set(pspec.name(), value);
        if WISHES.contains(&pspec.name()) {
            self.drop_outdated_blocks();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let stats = || self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match pspec.name() {
            "stats" => {
                let job = self.state().run.as_ref().map(|run| run.clip.job.clone());
                let queued = job.map_or(0, |job| job.frames_waiting());
                stats().to_structure(queued).to_value()
            }
            "prompt-used" => stats().prompt_used.unwrap_or_default().to_value(),
            "seed-used" => {
                let seed = self.state().run.as_ref().map(|run| run.plan.seed);
                let seed = seed.or_else(|| stats().generation.map(|generation| generation.seed));
                seed.and_then(|seed| i64::try_from(seed).ok()).unwrap_or(-1).to_value()
            }
            name => self.settings().value(name).unwrap_or_else(|| unreachable!("no property {name}")),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_format(gst::Format::Time);
    }
}

impl GstObjectImpl for SoraGen {}

impl ElementImpl for SoraGen {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Text-to-video source",
                "Source/Video",
                "Generates a video clip from a prompt with a diffusion transformer",
                "The sora-gst authors",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = caps::template();
            let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
            // The parameters of a valid template.
            vec![
                gst::PadTemplate::new("src", direction, presence, &caps).expect("a valid template"),
                text_pad::template(),
            ]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => {
                self.failed.store(false, Ordering::SeqCst);
                self.set_start(Start::No);
                let (choice, streams) = self.settings().model();
                let model = ModelInfo::open(&choice, streams).map_err(|error| {
                    self.post_error_message(error);
                    gst::StateChangeError
                })?;
                gst::info!(CAT, imp = self, "model {model:?}");
                self.state().model = Some(model);
            }
            gst::StateChange::ReadyToPaused => {
                self.failed.store(false, Ordering::SeqCst);
                self.set_start(Start::Changing(std::thread::current().id()));
                self.obj().set_live(self.settings().is_live);
            }
            _ => {}
        }
        let result = self.parent_change_state(transition);
        if transition == gst::StateChange::ReadyToPaused {
            self.set_start(Start::Changed(Instant::now()));
            if let Some(run) = &self.state().run {
                run.clip.job.release();
            }
        }
        if transition == gst::StateChange::ReadyToNull {
            self.state().model = None;
            let kept = self.kept_model.take();
            // Freeing a large model takes a while: not under the lock.
            drop(kept);
        }
        result
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        self.request_text_pad(template)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        self.release_text_pad(pad);
    }

    fn send_event(&self, event: gst::Event) -> bool {
        // Both end the clip; the base class only stops taking frames.
        let ends = matches!(event.type_(), gst::EventType::Eos | gst::EventType::FlushStart);
        let handled = self.parent_send_event(event);
        if ends {
            self.cancel_clip();
        }
        handled
    }

    /// One ERROR per failure. The base class posts a second, general one for every failed flow, also
    /// when this element has posted the precise one or an element downstream has.
    fn post_message(&self, message: gst::Message) -> bool {
        let gst::MessageView::Error(error) = message.view() else {
            return self.parent_post_message(message);
        };
        if self.failed.swap(true, Ordering::SeqCst) {
            gst::debug!(CAT, imp = self, "already failed: {}", error.error());
            return true;
        }
        self.let_the_application_listen();
        let flow = error.details().and_then(|details| details.get::<i32>("flow-return").ok());
        if flow == Some(gst::FlowReturn::Error.into_glib()) {
            // Whoever returned the error has posted it; this element only stops.
            let warning = gst::message::Warning::builder(
                gst::StreamError::Failed,
                "The video ends early because an element downstream failed.",
            );
            return self.parent_post_message(warning.src(&*self.obj()).build());
        }
        self.parent_post_message(message)
    }
}

impl BaseSrcImpl for SoraGen {
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let refuse = |text: String| {
            gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["refused before loading the model"])
        };
        let model = self.model_and(|model, _| model.clone());
        let model = model.ok_or_else(|| refuse("soragen was not brought to READY".into()))?;
        let plan = self.settings().plan(&model.rules, &model.native, model.block_frames).map_err(refuse)?;
        if plan.prompt_enhance == PromptEnhance::Local {
            model.check_enhancer()?;
        }
        if let Some(path) = &plan.opening.image {
            image::check(path)?;
        }
        if let Some((path, _)) = &plan.opening.video {
            video::check(path)?;
        }
        if plan.num_frames != 0 && self.state().text.is_some() {
            let text = "The text pad gives prompts to videos without an end (num-frames=0) only.";
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{text}"));
        }
        if let Some(text) = &plan.rounded {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{text}"));
        }
        self.update_stats(|stats| *stats = Stats::default());
        let clip = self.start_clip(model);
        let run = Run {
            plan,
            output: None,
            clip,
            size: None,
            frame: 0,
            shown: 0,
            last: None,
            clock: LiveClock::default(),
            tags_due: None,
            provenance: Provenance::default(),
            generation: None,
            pushing: None,
        };
        let mut state = self.state();
        state.run = Some(run);
        // What was said in the last run is over; the pad is active only after this.
        state.text = state.text.take().map(|_| TextPad::default());
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let run = self.state().run.take();
        if let Some(Run { clip, .. }) = run {
            clip.cancel();
            if !clip.wait_for_worker(STOP_PATIENCE) {
                gst::info!(CAT, imp = self, "the worker ends after the step it is in");
            }
        }
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn unlock(&self) -> Result<(), gst::ErrorMessage> {
        self.set_flushing(true);
        Ok(())
    }

    fn unlock_stop(&self) -> Result<(), gst::ErrorMessage> {
        self.set_flushing(false);
        Ok(())
    }

    fn caps(&self, filter: Option<&gst::Caps>) -> Option<gst::Caps> {
        let known = self.model_and(|model, run| {
            let mut caps = caps::of_model(&model.rules);
            // A clip in the making keeps its size.
            if let Some((width, height)) = run.and_then(|run| run.size) {
                let caps = caps.make_mut();
                caps.set("width", width as i32);
                caps.set("height", height as i32);
            }
            caps
        });
        let caps = known.unwrap_or_else(|| self.obj().src_pad().pad_template_caps());
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            None => caps,
        })
    }

    fn negotiate(&self) -> Result<(), gst::LoggableError> {
        let result = self.parent_negotiate();
        let pad = self.obj().src_pad().clone();
        if result.is_err() && !pad.pad_flags().contains(gst::PadFlags::FLUSHING) {
            let peer = pad.peer_query_caps(None);
            let text = self.model_and(|model, _| caps::refusal(&peer, &model.rules));
            gst::element_imp_error!(
                self,
                gst::CoreError::Negotiation,
                ("{}", text.unwrap_or_else(|| "No video format could be negotiated.".into())),
                ["downstream takes {peer}"]
            );
        }
        result
    }

    fn fixate(&self, caps: gst::Caps) -> gst::Caps {
        let known = self.model_and(|model, _| (model.rules, model.native.clone()));
        self.parent_fixate(match known {
            Some((rules, native)) => caps::fixate(caps, &rules, &native),
            None => caps,
        })
    }

    fn set_caps(&self, caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let output = Output::new(caps).map_err(|text| gst::loggable_error!(CAT, "{text}"))?;
        gst::debug!(CAT, imp = self, "negotiated {caps}");
        if let Some(run) = &mut self.state().run {
            run.output = Some(output);
        }
        self.parent_set_caps(caps)
    }

    fn decide_allocation(&self, query: &mut gst::query::Allocation) -> Result<(), gst::LoggableError> {
        negotiate::decide_allocation(query)?;
        self.parent_decide_allocation(query)
    }

    /// Live frames leave at their time on the clock.
    fn times(&self, buffer: &gst::BufferRef) -> (Option<gst::ClockTime>, Option<gst::ClockTime>) {
        if !self.obj().is_live() {
            return (None, None);
        }
        let end = buffer.pts().zip(buffer.duration()).map(|(pts, duration)| pts + duration);
        (buffer.pts(), end)
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        use gst::QueryViewMut;
        match query.view_mut() {
            QueryViewMut::Duration(duration) => match (duration.format(), self.durations()) {
                (gst::Format::Time, Some((_, clip, 1..))) => {
                    duration.set(clip);
                    true
                }
                (gst::Format::Default, Some((_, _, frames @ 1..))) => {
                    duration.set(gst::format::Default::from_u64(frames.into()));
                    true
                }
                _ => false,
            },
            // A frame is there when its time begins, and its time is over one frame later.
            QueryViewMut::Latency(latency) if self.obj().is_live() => match self.durations() {
                Some((frame, ..)) => {
                    latency.set(true, frame, gst::ClockTime::NONE);
                    true
                }
                None => false,
            },
            QueryViewMut::Context(context) if context.context_type() == provenance::CONTEXT_TYPE => {
                let told = self.model_and(|_, run| run.map(|run| run.provenance.clone())).flatten();
                told.is_some_and(|told| provenance::answer(context, &told))
            }
            _ => BaseSrcImplExt::parent_query(self, query),
        }
    }
}

impl SoraGen {
    fn set_flushing(&self, flushing: bool) {
        let mut state = self.state();
        state.flushing = flushing;
        if let Some(run) = &state.run {
            run.clip.job.set_flushing(flushing);
        }
    }
}
