use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use sora_gst::FrameLayout;
use sora_watermark::check_size;

use super::report::{self, Gist};
use super::settings::{self, Settings};
use crate::analysis::{Analysis, Counts, Report};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("soradetect", gst::DebugColorFlags::empty(), Some("Watermark detector"))
});

#[derive(Default)]
pub struct SoraDetect {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// What lives from READY on.
#[derive(Default)]
struct State {
    /// What the caps say, where frames of them can be analysed.
    layout: Option<FrameLayout>,
    /// From the first frame after the start or a flush on.
    run: Option<Arc<Run>>,
    counts: Counts,
    last_verdict: Option<gst::Structure>,
}

/// One analysis, and how its times are those of the stream.
struct Run {
    analysis: Analysis,
    /// Running time of the first frame, in nanoseconds.
    first: i128,
    news: Arc<Mutex<News>>,
}

/// What the analysis has said and the elements downstream have not heard.
#[derive(Default)]
struct News {
    gist: Gist,
    event: Option<gst::Event>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SoraDetect {
    fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Running time of a buffer; where it has no timestamp, that of the segment's beginning.
    fn running_time(&self, buffer: &gst::BufferRef) -> i128 {
        let segment = self.obj().segment();
        let time = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_running_time_full(buffer.pts()?));
        time.map_or(0, |time| {
            let nanoseconds = i128::from(time.abs().nseconds());
            if time.is_negative() { -nanoseconds } else { nanoseconds }
        })
    }

    /// The analysis that runs, or a new one that begins with this frame.
    fn run(&self, buffer: &gst::BufferRef) -> Result<Arc<Run>, gst::FlowError> {
        if let Some(run) = &lock(&self.state).run {
            return Ok(Arc::clone(run));
        }
        let settings = self.settings();
        let segment = self.obj().segment();
        let origin = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_stream_time(buffer.pts()))
            .unwrap_or_default();
        let news = Arc::<Mutex<News>>::default();
        let (element, told) = (self.obj().downgrade(), Arc::clone(&news));
        let analysis = settings.detector().and_then(|detector| {
            Analysis::start(detector, settings.queue(), move |report| {
                if let Some(element) = element.upgrade() {
                    element.imp().report(&report, origin, &told);
                }
            })
        });
        let analysis = analysis.map_err(|text| {
            gst::element_imp_error!(self, gst::LibraryError::Failed, ("{text}"), ["no analysis was started"]);
            gst::FlowError::Error
        })?;
        let run = Arc::new(Run { analysis, first: self.running_time(buffer), news });
        lock(&self.state).run = Some(Arc::clone(&run));
        Ok(run)
    }

    /// Called on the thread of the analysis.
    fn report(&self, report: &Report, origin: gst::ClockTime, news: &Mutex<News>) {
        let structure = report::structure(report, origin);
        {
            let mut state = lock(&self.state);
            state.last_verdict = Some(structure.clone());
            state.counts = report.counts;
        }
        let gist = Gist::of(&report.verdict);
        {
            let mut news = lock(news);
            if news.gist != gist {
                news.event = Some(gst::event::CustomDownstreamSticky::new(structure.clone()));
                news.gist = gist;
            }
        }
        gst::debug!(CAT, imp = self, "{structure}");
        let message = gst::message::Element::builder(structure).src(&*self.obj()).build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }

    fn push_news(&self, run: &Run) {
        let event = lock(&run.news).event.take();
        if let Some(event) = event {
            self.obj().src_pad().push_event(event);
        }
    }

    /// The last verdict, before EOS goes on.
    fn conclude(&self) {
        let run = lock(&self.state).run.clone();
        match (run, self.settings().detector()) {
            (Some(run), _) => {
                run.analysis.finish(true);
                self.push_news(&run);
            }
            // Not a frame came that could be analysed.
            (None, Ok(mut detector)) => {
                let report = Report { verdict: detector.verdict(), last: true, counts: Counts::default() };
                self.report(&report, gst::ClockTime::ZERO, &Mutex::default());
            }
            (None, Err(error)) => gst::warning!(CAT, imp = self, "{error}"),
        }
    }

    /// Wakes whoever waits for the analysis, which says nothing more.
    fn cancel(&self) {
        if let Some(run) = &lock(&self.state).run {
            run.analysis.cancel();
        }
    }

    fn end_run(&self) {
        let mut state = lock(&self.state);
        let run = state.run.take();
        drop(state);
        if let Some(run) = run {
            lock(&self.state).counts = run.analysis.counts();
            run.analysis.cancel();
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for SoraDetect {
    const NAME: &'static str = "GstSoraDetect";
    type Type = super::SoraDetect;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for SoraDetect {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gst::debug!(CAT, imp = self, "setting {}", pspec.name());
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let state = lock(&self.state);
                let counts = state.run.as_ref().map_or(state.counts, |run| run.analysis.counts());
                let stats = gst::Structure::builder("soradetect-stats");
                stats.field("frames", counts.analysed).field("dropped", counts.dropped).build().to_value()
            }
            "last-verdict" => lock(&self.state).last_verdict.to_value(),
            name => self.settings().value(name).unwrap_or_else(|| unreachable!("no property {name}")),
        }
    }
}

impl GstObjectImpl for SoraDetect {}

impl ElementImpl for SoraDetect {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Video watermark detector",
                "Filter/Analyzer/Video",
                "Finds the marks of sorawatermark in raw video and says so on the bus and downstream",
                "The sora-gst authors",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(crate::pad_templates);
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::PausedToReady {
            // Before the pads wait for the thread of the stream.
            self.cancel();
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for SoraDetect {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        // What is wrong with the properties shows now, not at the first frame.
        self.settings().detector().map_err(|text| {
            gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["refused at the start"])
        })?;
        *lock(&self.state) = State::default();
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        self.end_run();
        lock(&self.state).layout = None;
        Ok(())
    }

    fn set_caps(&self, caps: &gst::Caps, _out_caps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info =
            gst_video::VideoInfo::from_caps(caps).map_err(|error| gst::loggable_error!(CAT, "{error}"))?;
        let size = check_size(info.width() as usize, info.height() as usize);
        let layout = FrameLayout::new(&info).filter(|_| size.is_ok());
        if layout.is_none() {
            gst::info!(CAT, imp = self, "frames of {caps} are not analysed");
        }
        lock(&self.state).layout = layout;
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // Before the flush asks for the thread of the stream.
            gst::EventView::FlushStart(_) => self.cancel(),
            gst::EventView::FlushStop(_) => self.end_run(),
            gst::EventView::Eos(_) => self.conclude(),
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(layout) = lock(&self.state).layout.clone() else { return Ok(gst::FlowSuccess::Ok) };
        let run = self.run(buffer)?;
        let time = u64::try_from(self.running_time(buffer) - run.first).unwrap_or(0);
        match layout.map_readable(buffer) {
            Ok(plane) => run.analysis.offer(&layout, plane.data(), plane.stride, Duration::from_nanos(time)),
            Err(error) => {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{error}"), ["at {time} ns"]);
                return Err(gst::FlowError::Error);
            }
        }
        self.push_news(&run);
        Ok(gst::FlowSuccess::Ok)
    }
}
