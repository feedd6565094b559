use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoInfo, VideoInterlaceMode};
use sora_gst::{Provenance, provenance};

use super::inputs::{Inputs, Item, Side};
use super::settings::{self, Plan, Settings};
use super::worker::Worker;
use super::{output, record};
use crate::block_times::{BlockTimes, nanoseconds};
use crate::loading::KeptModel;
use crate::messages::Reporter;
use crate::model::ModelInfo;
use crate::upstream;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("soramerge", gst::DebugColorFlags::empty(), Some("Turns one clip into another"))
});

/// How long a stop waits for the worker. A denoising step cannot be interrupted; a worker that is in a long one is
/// left alone and ends by itself after it.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

pub struct SoraMerge {
    from_pad: gst::Pad,
    to_pad: gst::Pad,
    pub(super) src_pad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    stats: Mutex<Stats>,
    kept_model: KeptModel,
    playing: AtomicBool,
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
    inputs: Arc<Inputs>,
    reporter: Arc<Reporter>,
    worker: JoinHandle<()>,
    /// Where running times of the inputs are told from.
    segments: [gst::FormattedSegment<gst::ClockTime>; 2],
    /// When what has been pushed ends.
    position: gst::ClockTime,
    provenance: Provenance,
}

/// What the element has done since it started.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    came: [u64; 2],
    dropped: u64,
    pushed: u64,
    made: u64,
    blocks: BlockTimes,
    pub(super) load_time: Duration,
}

impl Stats {
    /// Counts a block.
    pub(super) fn block(&mut self, frames: u64, time: Duration) {
        self.made += frames;
        self.blocks.add(time);
    }

    fn to_structure(&self) -> gst::Structure {
        let builder = gst::Structure::builder("soramerge-stats")
            .field("frames-from", self.came[0])
            .field("frames-to", self.came[1])
            .field("dropped", self.dropped)
            .field("frames-out", self.pushed)
            .field("frames-made", self.made);
        self.blocks.tell(builder).field("load-time", nanoseconds(self.load_time)).build()
    }
}

impl SoraMerge {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update_stats<T>(&self, update: impl FnOnce(&mut Stats) -> T) -> T {
        update(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pad(&self, side: Side) -> &gst::Pad {
        match side {
            Side::From => &self.from_pad,
            Side::To => &self.to_pad,
        }
    }

    fn inputs(&self) -> Option<Arc<Inputs>> {
        self.state().run.as_ref().map(|run| Arc::clone(&run.inputs))
    }

    /// Whether somebody who waits for an input may lose patience: a live one gives nothing before the clock runs.
    pub(super) fn time_runs(&self, side: Side) -> bool {
        self.playing.load(Ordering::SeqCst) || !upstream::is_live(self.pad(side))
    }

    pub(super) fn stream_start(&self) -> gst::Event {
        // One of the output's own: it is neither clip.
        let id = format!("{}/merged", self.obj().path_string());
        gst::event::StreamStart::builder(&id).group_id(gst::GroupId::next()).build()
    }

    pub(super) fn push_event(&self, event: gst::Event) {
        gst::log!(CAT, imp = self, "pushing {:?}", event.type_());
        self.src_pad.push_event(event);
    }

    /// Pushes a frame; what has been pushed then ends at `end`.
    pub(super) fn push(
        &self,
        frame: gst::Buffer,
        end: gst::ClockTime,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.update_stats(|stats| stats.pushed += 1);
        if let Some(run) = &mut self.state().run {
            run.position = end;
        }
        self.src_pad.push(frame)
    }

    /// Publishes how the stream is made, before its first frame leaves; again where more is known of an input.
    pub(super) fn tell_record(&self, plan: &Plan, info: &VideoInfo) {
        let source = |side| (side, provenance::of_peer(self.pad(side)));
        let sources = [source(Side::From), source(Side::To)];
        let Some(model) = self.state().model.as_ref().map(ModelInfo::recorded) else { return };
        let mut told = record::of_stream(model, plan, info, sources);
        told.origin = Some(self.obj().path_string().into());
        {
            let mut state = self.state();
            let Some(run) = &mut state.run else { return };
            let inputs = [&run.provenance, &told].map(record::inputs);
            if inputs[0] == inputs[1] {
                return;
            }
            run.provenance = told.clone();
        }
        provenance::publish(self.obj().upcast_ref(), &told);
    }

    fn chain(&self, side: Side, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (inputs, time) = {
            let state = self.state();
            let run = state.run.as_ref().ok_or(gst::FlowError::Flushing)?;
            let segment = &run.segments[side as usize];
            (Arc::clone(&run.inputs), segment.to_running_time(buffer.pts()))
        };
        if !self.pad(side).has_current_caps() {
            return Err(gst::FlowError::NotNegotiated);
        }
        // A live source cannot wait for its turn.
        let drops = side == Side::To && upstream::is_live(&self.to_pad);
        let dropped = inputs.push(side, Item::Frame(buffer, time), drops)?;
        self.update_stats(|stats| {
            stats.came[side as usize] += 1;
            stats.dropped += u64::from(dropped);
        });
        Ok(gst::FlowSuccess::Ok)
    }

    /// The format of the frames to come, or why they cannot be merged.
    fn accepted(&self, side: Side, caps: &gst::CapsRef) -> Result<VideoInfo, String> {
        let info = VideoInfo::from_caps(caps).map_err(|_| format!("{caps} is no raw video"))?;
        if info.interlace_mode() != VideoInterlaceMode::Progressive {
            return Err(format!(
                "soramerge takes whole frames and the video on {} is interlaced ({}): put deinterlace before it",
                side.name(),
                info.interlace_mode().to_str()
            ));
        }
        Ok(info)
    }

    fn sink_event(&self, side: Side, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        let inputs = self.inputs().ok_or(gst::FlowError::Flushing)?;
        match event.view() {
            gst::EventView::FlushStart(_) => inputs.flush(side, true),
            gst::EventView::FlushStop(_) => inputs.flush(side, false),
            gst::EventView::Segment(segment) => {
                let time = segment.segment().downcast_ref::<gst::ClockTime>().cloned();
                // What is not measured in time has no times either.
                let time = time.unwrap_or_default();
                if let Some(run) = &mut self.state().run {
                    run.segments[side as usize] = time;
                }
            }
            gst::EventView::Caps(caps) => match self.accepted(side, caps.caps()) {
                Ok(info) => {
                    inputs.push(side, Item::Caps(caps.caps_owned(), info), false)?;
                }
                Err(text) => {
                    gst::element_imp_error!(self, gst::StreamError::Format, ("{text}"), ["{}", caps.caps()]);
                    return Err(gst::FlowError::NotNegotiated);
                }
            },
            gst::EventView::Eos(_) => {
                // One that is not wanted any more has ended already.
                if let Err(reason @ gst::FlowError::Flushing) = inputs.push(side, Item::Eos, false) {
                    return Err(reason);
                }
            }
            // Of the output's own: stream-start, tags and the like of either clip are true of neither.
            _ => {}
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // Times of the output are not those of an input.
            gst::EventView::Seek(_) | gst::EventView::Qos(_) | gst::EventView::Step(_) => false,
            _ => gst::Pad::event_default(&self.src_pad, Some(&*self.obj()), event),
        }
    }

    fn sink_query(&self, side: Side, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            // Frames are read in the layout that their caps imply.
            gst::QueryViewMut::Allocation(_) => false,
            // Either clip may have any format: it is converted.
            gst::QueryViewMut::Caps(caps) => {
                let own = self.pad(side).pad_template_caps();
                let result = match caps.filter() {
                    Some(filter) => filter.intersect_with_mode(&own, gst::CapsIntersectMode::First),
                    None => own,
                };
                caps.set_result(&result);
                true
            }
            gst::QueryViewMut::AcceptCaps(accept) => {
                let fits = accept.caps().can_intersect(&self.pad(side).pad_template_caps());
                accept.set_result(fits);
                true
            }
            _ => gst::Pad::query_default(self.pad(side), Some(&*self.obj()), query),
        }
    }

    fn src_query(&self, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Position(position) => {
                let at = self.state().run.as_ref().map(|run| run.position);
                match (position.format(), at) {
                    (gst::Format::Time, Some(at)) => {
                        position.set(at);
                        true
                    }
                    _ => false,
                }
            }
            // What is made between the clips is known only when their rate is.
            gst::QueryViewMut::Duration(_) | gst::QueryViewMut::Seeking(_) => false,
            gst::QueryViewMut::Latency(latency) => {
                let (mut live, mut min, mut max) = (false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
                for pad in [&self.from_pad, &self.to_pad] {
                    let mut upstream = gst::query::Latency::new();
                    if pad.peer_query(&mut upstream) {
                        let (theirs, least, most) = upstream.result();
                        live |= theirs;
                        min = min.max(least);
                        max = [max, most].into_iter().flatten().min();
                    }
                }
                latency.set(live, min, max);
                true
            }
            gst::QueryViewMut::Context(context) => {
                let told = self.state().run.as_ref().map(|run| run.provenance.clone()).unwrap_or_default();
                // What either clip's maker says of it is not true of both.
                if context.context_type() == provenance::CONTEXT_TYPE {
                    return provenance::answer(context, &told);
                }
                gst::Pad::query_default(&self.src_pad, Some(&*self.obj()), query)
            }
            _ => gst::Pad::query_default(&self.src_pad, Some(&*self.obj()), query),
        }
    }

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let refuse = |text: String| {
            gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["refused before loading the model"])
        };
        let model = self.state().model.clone();
        let model = model.ok_or_else(|| refuse("soramerge was not brought to READY".into()))?;
        let settings = self.settings().clone();
        let plan = settings.plan(&model.native).map_err(refuse)?;
        let seed = plan.seed;
        self.update_stats(|stats| *stats = Stats::default());
        let reporter = Arc::new(Reporter::new(self.obj().upcast_ref()));
        let kept = self.kept_model.is_some();
        let load_told = !plan.duration.is_zero() && !kept;
        if load_told {
            // From the change of state: gst-launch plays when the operation is over.
            reporter.start("load", &format!("loading {}", model.name));
        }
        let inputs = Arc::<Inputs>::default();
        let worker = Worker {
            element: self.obj().downgrade(),
            inputs: Arc::clone(&inputs),
            reporter: Arc::clone(&reporter),
            info: model,
            plan,
            kept: Arc::clone(&self.kept_model),
            load_told: load_told.into(),
        };
        let thread = std::thread::Builder::new().name("soramerge".into());
        let worker = thread.spawn(move || worker.run()).map_err(|error| {
            reporter.cancel();
            gst::error_msg!(
                gst::ResourceError::Failed,
                ("No thread could be started to merge the clips."),
                ["{error}"]
            )
        })?;
        let mut state = self.state();
        state.seed = Some(seed);
        state.run = Some(Run {
            inputs,
            reporter,
            worker,
            segments: Default::default(),
            position: gst::ClockTime::ZERO,
            provenance: Provenance::default(),
        });
        Ok(())
    }

    /// Wakes everybody who waits, so that pads can be deactivated.
    fn interrupt(&self) {
        let run = self.state().run.as_ref().map(|run| (Arc::clone(&run.inputs), Arc::clone(&run.reporter)));
        if let Some((inputs, reporter)) = run {
            inputs.stop();
            reporter.cancel();
        }
    }

    /// After the pads are deactivated: nothing holds up a push any more.
    fn stop(&self) {
        let run = self.state().run.take();
        let Some(Run { worker, .. }) = run else { return };
        let finishes = |patience| {
            let deadline = Instant::now() + patience;
            while !worker.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            worker.is_finished()
        };
        let mut finished = finishes(STOP_PATIENCE);
        if !finished && self.kept_model.wait_until_opened() {
            finished = finishes(STOP_PATIENCE);
        }
        if finished {
            // Panics have been caught inside.
            let _ = worker.join();
        } else {
            gst::info!(CAT, imp = self, "the worker ends after the step it is in");
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for SoraMerge {
    const NAME: &'static str = "GstSoraMerge";
    type Type = super::SoraMerge;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        const THERE: &str = "the class has all three templates";
        let sink = |side: Side| {
            gst::Pad::builder_from_template(&class.pad_template(side.name()).expect(THERE))
                .chain_function(move |_, parent, buffer| {
                    Self::catch_panic_pad_function(
                        parent,
                        || Err(gst::FlowError::Error),
                        |this| this.chain(side, buffer),
                    )
                })
                .event_full_function(move |_, parent, event| {
                    Self::catch_panic_pad_function(
                        parent,
                        || Err(gst::FlowError::Error),
                        |this| this.sink_event(side, event),
                    )
                })
                .query_function(move |_, parent, query| {
                    Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(side, query))
                })
                .build()
        };
        let src_pad = gst::Pad::builder_from_template(&class.pad_template("src").expect(THERE))
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_event(event))
            })
            .query_function(|_, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_query(query))
            })
            .build();
        Self {
            from_pad: sink(Side::From),
            to_pad: sink(Side::To),
            src_pad,
            settings: Mutex::default(),
            state: Mutex::default(),
            stats: Mutex::default(),
            kept_model: KeptModel::default(),
            playing: AtomicBool::new(false),
        }
    }
}

impl ObjectImpl for SoraMerge {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gst::info!(CAT, imp = self, "setting {}", pspec.name());
        self.settings().set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => self.update_stats(|stats| stats.to_structure()).to_value(),
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
        for pad in [&self.from_pad, &self.to_pad, &self.src_pad] {
            self.obj().add_pad(pad).expect("a new element has no pads");
        }
    }
}

impl GstObjectImpl for SoraMerge {}

impl ElementImpl for SoraMerge {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Video merger",
                "Filter/Editor/Video",
                "Turns one clip into another with a diffusion transformer",
                "The sora-gst authors",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst_video::VideoCapsBuilder::new().format_list(output::formats()).build();
            let template = |name, direction| {
                // The parameters of a valid template.
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("a valid template")
            };
            vec![
                template("from", gst::PadDirection::Sink),
                template("to", gst::PadDirection::Sink),
                template("src", gst::PadDirection::Src),
            ]
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
                let model = ModelInfo::open(&choice, true).map_err(refuse)?;
                gst::info!(CAT, imp = self, "model {model:?}");
                self.state().model = Some(model);
            }
            gst::StateChange::ReadyToPaused => self.start().map_err(refuse)?,
            gst::StateChange::PausedToPlaying => self.playing.store(true, Ordering::SeqCst),
            gst::StateChange::PlayingToPaused => self.playing.store(false, Ordering::SeqCst),
            gst::StateChange::PausedToReady => self.interrupt(),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused if result.is_ok() => {
                if let Some(inputs) = self.inputs() {
                    inputs.release();
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
