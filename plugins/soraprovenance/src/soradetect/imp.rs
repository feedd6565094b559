use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

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
use crate::analysis::{Analysis, AnalysisId, Counts, Report};
use crate::time::ClipTime;

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
    /// Since the first frame that could be analysed after the start or a flush.
    time: ClipTime,
    /// What the elements downstream were told last, also before a flush: they keep it.
    gist: Gist,
}

/// One analysis.
struct Run {
    analysis: Analysis,
    /// What the analysis has said and the elements downstream have not heard.
    news: Mutex<Option<(Gist, gst::Event)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SoraDetect {
    fn settings(&self) -> Settings {
        lock(&self.settings).clone()
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
        let element = self.obj().downgrade();
        let analysis = settings.detector().and_then(|detector| {
            Analysis::start(detector, settings.queue(), move |id, report| {
                if let Some(element) = element.upgrade() {
                    element.imp().report(Some(id), &report, origin);
                }
            })
        });
        let analysis = analysis.map_err(|text| {
            gst::element_imp_error!(self, gst::LibraryError::Failed, ("{text}"), ["no analysis was started"]);
            gst::FlowError::Error
        })?;
        let run = Arc::new(Run { analysis, news: Mutex::default() });
        lock(&self.state).run = Some(Arc::clone(&run));
        Ok(run)
    }

    /// Called on the thread of an analysis, or by the end of a stream that had none.
    fn report(&self, from: Option<AnalysisId>, report: &Report, origin: gst::ClockTime) {
        let structure = report::structure(report, origin);
        {
            let mut state = lock(&self.state);
            let run = state.run.clone();
            if run.as_ref().map(|run| run.analysis.id()) != from {
                // It is of what came before a flush.
                return;
            }
            state.last_verdict = Some(structure.clone());
            state.counts = report.counts;
            if let Some(run) = run {
                let gist = Gist::of(&report.verdict);
                let mut news = lock(&run.news);
                if *news.as_ref().map_or(&state.gist, |(gist, _)| gist) != gist {
                    *news = Some((gist, gst::event::CustomDownstreamSticky::new(structure.clone())));
                }
            }
        }
        gst::debug!(CAT, imp = self, "{structure}");
        let message = gst::message::Element::builder(structure).src(&*self.obj()).build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }

    fn push_news(&self, run: &Run) {
        let news = lock(&run.news).take();
        if let Some((gist, event)) = news {
            lock(&self.state).gist = gist;
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
                self.report(None, &report, gst::ClockTime::ZERO);
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
        state.time = ClipTime::default();
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
        let segment = self.obj().segment();
        let (time, _) = lock(&self.state).time.of_buffer(&segment, buffer, layout.info().fps());
        match layout.map_readable(buffer) {
            Ok(plane) => run.analysis.offer(&layout, plane.data(), plane.stride, time),
            Err(error) => {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{error}"), ["at {time:?}"]);
                return Err(gst::FlowError::Error);
            }
        }
        self.push_news(&run);
        Ok(gst::FlowSuccess::Ok)
    }
}
