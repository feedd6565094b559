use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::subclass::prelude::*;
use sora_gst::{FrameLayout, Provenance, provenance};
use sora_watermark::{Embedder, Fingerprinter, Key, KeyId, Payload, WatermarkError, check_size};

use super::OnUnsupported;
use super::existing::Check;
use super::settings::{self, Settings};
use crate::time::ClipTime;
use crate::{keys, planes};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("sorawatermark", gst::DebugColorFlags::empty(), Some("Invisible watermark"))
});

#[derive(Default)]
pub struct SoraWatermark {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// What lives from READY on; reset when the element goes back to READY, but for the counts.
#[derive(Default)]
pub(super) struct State {
    /// Between start and stop.
    running: bool,
    pub(super) key: Option<Key>,
    /// What the caps say, where frames of them can be marked.
    pub(super) layout: Option<FrameLayout>,
    /// Settled at the first frame that is to be marked.
    identity: Option<Identity>,
    /// For the size that the layout has. Taken while a frame is marked.
    embedder: Option<Embedder>,
    time: ClipTime,
    /// Of the frame that is being handled: when it is shown in the clip, and how long.
    frame_time: Duration,
    frame_shown: Option<Duration>,
    /// What the marked frames look like. Taken while a frame is marked.
    fingerprinter: Option<Box<Fingerprinter>>,
    pub(super) check: Check,
    /// Tags of the stream as they came.
    tags: Option<gst::TagList>,
    published: bool,
    /// Already warned that frames pass for being unsupported.
    warned: bool,
    stats: Stats,
}

#[derive(Clone, Copy)]
enum Identity {
    /// Mark with this.
    Mark(Payload),
    /// Another element marks under the same key: pass.
    Marked(Payload),
    /// No id could be settled; the error has been posted.
    Failed,
}

#[derive(Clone, Copy, Default)]
struct Stats {
    marked: u64,
    passed: u64,
}

impl SoraWatermark {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn warn(&self, text: &str) {
        gst::element_imp_warning!(self, gst::StreamError::Failed, ("{text}"));
    }

    fn refuse_settings(&self, text: &str) {
        gst::element_imp_error!(self, gst::LibraryError::Settings, ("{text}"), ["nothing was marked"]);
    }

    /// Who marks this stream with what. Asks the neighbours and the application, with no lock held.
    fn settle_identity(&self, key: KeyId) -> Identity {
        let known = provenance::find(self.obj().upcast_ref());
        let told = |what: &str, id: &str| id.parse::<Payload>().map_err(|error| format!("{what}: {error}"));
        if let (Some(id), Some(key_id)) = (&known.watermark_id, &known.key_id)
            && *key_id == key.to_string()
        {
            let by = known.origin.as_deref().unwrap_or("another element");
            self.warn(&format!(
                "The stream is marked under the key {key} by {by}, with the id {id}: it passes as it is."
            ));
            return told("id of the marked stream", id).map_or(Identity::Failed, Identity::Marked);
        }
        // An id under another key names another mark.
        let proposed = known.watermark_id.filter(|_| known.key_id.is_none());
        let payload = match (self.settings().id, proposed) {
            (Some(id), _) => told("id", &id.to_string_lossy()),
            (None, Some(id)) => told("id of the stream's provenance", &id),
            (None, None) => keys::random_payload(),
        };
        payload.map_or_else(
            |error| {
                self.refuse_settings(&error);
                Identity::Failed
            },
            Identity::Mark,
        )
    }

    /// The identity, settled and told to everybody when it is new.
    fn identity(&self) -> Option<Identity> {
        let key = {
            let state = self.state();
            if state.identity.is_some() {
                return state.identity;
            }
            state.key.as_ref()?.id()
        };
        let identity = self.settle_identity(key);
        self.state().identity = Some(identity);
        if let Identity::Mark(payload) = identity {
            gst::info!(CAT, imp = self, "marking with the id {payload} under the key {key}");
            self.publish();
        }
        self.obj().notify("id");
        Some(identity)
    }

    /// What this element adds to what is known of the stream.
    fn provenance(&self) -> Provenance {
        let state = self.state();
        let mut provenance = Provenance::default();
        if let (true, Some(Identity::Mark(payload)), Some(key)) =
            (state.published, state.identity, &state.key)
        {
            provenance.watermark_id = Some(payload.to_string());
            provenance.key_id = Some(key.id().to_string());
            provenance.fingerprint = (state.fingerprinter.as_ref())
                .and_then(|fingerprinter| fingerprinter.fingerprint())
                .map(|fingerprint| glib::Bytes::from_owned(fingerprint.to_bytes()));
            provenance.origin = Some(self.obj().path_string().into());
        }
        provenance
    }

    fn publish(&self) {
        self.state().published = true;
        provenance::publish(self.obj().upcast_ref(), &self.provenance());
        let tags = self.state().tags.clone();
        let tags = self.with_mark(tags);
        self.obj().src_pad().push_event(gst::event::Tag::new(tags));
    }

    /// The tags of the stream and the id.
    fn with_mark(&self, tags: Option<gst::TagList>) -> gst::TagList {
        let mut tags = tags.unwrap_or_default();
        if let Some(id) = self.provenance().watermark_id {
            let comment = format!("sora-watermark-id={id}");
            tags.make_mut().add::<gst::tags::ExtendedComment>(&comment.as_str(), gst::TagMergeMode::Append);
        }
        tags
    }

    /// Whether the frame that comes is to be marked.
    fn is_marking(&self) -> bool {
        {
            let state = self.state();
            if state.layout.is_none() || matches!(state.check, Check::Stopped) {
                return false;
            }
        }
        self.settings().enabled && !matches!(self.identity(), None | Some(Identity::Marked(_)))
    }

    fn clip_time(&self, buffer: &gst::BufferRef) -> Duration {
        let segment = self.obj().segment();
        let mut state = self.state();
        let rate = state.layout.as_ref().map_or(gst::Fraction::new(0, 1), |layout| layout.info().fps());
        (state.frame_time, state.frame_shown) = state.time.of_buffer(&segment, buffer, rate);
        state.frame_time
    }

    /// An embedder for the frames that come, made when there is none for their size.
    fn take_embedder(&self, layout: &FrameLayout, key: &Key, payload: Payload) -> Result<Embedder, String> {
        if let Some(embedder) = self.state().embedder.take() {
            return Ok(embedder);
        }
        let strength = self.settings().strength()?;
        Embedder::new(key, payload, layout.width(), layout.height(), strength)
            .map_err(|error| error.to_string())
    }

    fn mark(&self, buffer: &mut gst::BufferRef) -> Result<(), gst::ErrorMessage> {
        let (layout, key, payload, (time, shown), mut fingerprinter) = {
            let mut state = self.state();
            let fingerprinter = state.fingerprinter.take().unwrap_or_default();
            let (Some(layout), Some(key), Some(Identity::Mark(payload))) =
                (&state.layout, &state.key, state.identity)
            else {
                return Err(gst::error_msg!(gst::CoreError::Failed, ["nothing is settled"]));
            };
            (layout.clone(), key.clone(), payload, (state.frame_time, state.frame_shown), fingerprinter)
        };
        let settings =
            |text: String| gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["at {time:?}"]);
        let frame = |text: String| gst::error_msg!(gst::StreamError::Format, ("{text}"), ["at {time:?}"]);
        let mut embedder = self.take_embedder(&layout, &key, payload).map_err(settings)?;
        embedder.set_strength(self.settings().strength().map_err(settings)?);
        let marked =
            layout.map_writable(buffer).map_err(|error| frame(error.to_string())).and_then(|mut plane| {
                let stride = plane.stride;
                planes::embed(&mut embedder, &layout, plane.data_mut(), stride, time)
                    .and_then(|()| look(&mut fingerprinter, &layout, plane.data(), stride, (time, shown)))
                    .map_err(|error| frame(error.to_string()))
            });
        let mut state = self.state();
        state.embedder = Some(embedder);
        state.fingerprinter = Some(fingerprinter);
        state.stats.marked += u64::from(marked.is_ok());
        marked
    }

    /// Why frames with these caps cannot be marked.
    fn unsupported(info: &gst_video::VideoInfo) -> Option<String> {
        if info.interlace_mode() != gst_video::VideoInterlaceMode::Progressive {
            return Some(format!("the video is interlaced ({})", info.interlace_mode().to_str()));
        }
        check_size(info.width() as usize, info.height() as usize).err().map(|error| error.to_string())
    }
}

/// Has a sample taken of a marked frame, where one is due.
fn look(
    fingerprinter: &mut Fingerprinter,
    layout: &FrameLayout,
    data: &[u8],
    stride: usize,
    (time, shown): (Duration, Option<Duration>),
) -> Result<(), WatermarkError> {
    if !fingerprinter.wants(time, shown) {
        return Ok(());
    }
    planes::with_luma(layout, data, stride, &mut Vec::new(), |luma| {
        fingerprinter.push(luma, time, shown);
        Ok(())
    })
}

#[glib::object_subclass]
impl ObjectSubclass for SoraWatermark {
    const NAME: &'static str = "GstSoraWatermark";
    type Type = super::SoraWatermark;
    type ParentType = gst_video::VideoFilter;
}

impl ObjectImpl for SoraWatermark {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gst::debug!(CAT, imp = self, "setting {}", pspec.name());
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).set(pspec.name(), value);
        let mut state = self.state();
        if pspec.name() == "id" && !state.running {
            // What the last run wrote is no longer what can be read.
            state.identity = None;
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "id" => {
                let identity = self.state().identity;
                if let Some(Identity::Mark(payload) | Identity::Marked(payload)) = identity {
                    return payload.to_string().to_value();
                }
            }
            "key-id" => return self.state().key.as_ref().map(|key| key.id().to_string()).to_value(),
            "stats" => {
                let Stats { marked, passed } = self.state().stats;
                let stats = gst::Structure::builder("sorawatermark-stats");
                return stats.field("marked", marked).field("passed", passed).build().to_value();
            }
            _ => {}
        }
        let name = pspec.name();
        self.settings().value(name).unwrap_or_else(|| unreachable!("no property {name}"))
    }

    fn constructed(&self) {
        self.parent_constructed();
        // The base class would drop frames that are late; marking is too quick for that to gain anything.
        self.obj().set_property("qos", false);
    }
}

impl GstObjectImpl for SoraWatermark {}

impl ElementImpl for SoraWatermark {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Invisible video watermark",
                "Filter/Effect/Video",
                "Marks raw video with an id that is invisible and survives compression, scaling and cropping",
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
            self.cancel_search();
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for SoraWatermark {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings();
        let refuse =
            |text: String| gst::error_msg!(gst::LibraryError::Settings, ("{text}"), ["refused at the start"]);
        settings.strength().map_err(refuse)?;
        if let Some(id) = &settings.id {
            id.to_string_lossy().parse::<Payload>().map_err(|error| refuse(error.to_string()))?;
        }
        let key = keys::single(settings.key.as_deref()).map_err(|text| {
            gst::error_msg!(gst::ResourceError::OpenRead, ("{text}"), ["refused at the start"])
        })?;
        gst::info!(CAT, imp = self, "the key is {}", key.id());
        *self.state() = State { running: true, key: Some(key), ..State::default() };
        self.obj().notify("key-id");
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let mut state = self.state();
        let before = std::mem::take(&mut *state);
        state.stats = before.stats;
        // What was written stays readable until the next run.
        (state.identity, state.key) = (before.identity, before.key.clone());
        drop(state);
        drop(before.check);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // Before the flush asks for the thread of the stream.
            gst::EventView::FlushStart(_) => self.cancel_search(),
            gst::EventView::FlushStop(_) => {
                {
                    let mut state = self.state();
                    (state.time, state.fingerprinter) = (ClipTime::default(), None);
                }
                self.forget_search();
            }
            // The answer comes before the end of the stream goes on.
            gst::EventView::Eos(_) => self.finish_search(),
            gst::EventView::Tag(tag) if tag.tag().scope() == gst::TagScope::Stream => {
                let tags = tag.tag_owned();
                self.state().tags = Some(tags.clone());
                if self.state().published {
                    let marked = gst::event::Tag::builder(self.with_mark(Some(tags)));
                    return self.parent_sink_event(marked.seqnum(event.seqnum()).build());
                }
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        let ours = matches!(query.view(), gst::QueryView::Context(context)
            if context.context_type() == provenance::CONTEXT_TYPE);
        // Those further on first: what this element says is added to what they say.
        let answered = BaseTransformImplExt::parent_query(self, direction, query);
        if ours && let gst::QueryViewMut::Context(context) = query.view_mut() {
            return provenance::answer(context, &self.provenance()) || answered;
        }
        answered
    }

    fn before_transform(&self, buffer: &gst::BufferRef) {
        let segment = self.obj().segment();
        let stream_time =
            segment.downcast_ref::<gst::ClockTime>().and_then(|segment| segment.to_stream_time(buffer.pts()));
        if let Some(time) = stream_time
            && let Err(error) = self.obj().sync_values(time)
        {
            gst::debug!(CAT, imp = self, "controlled properties keep their values: {error}");
        }
        let time = self.clip_time(buffer);
        let marking = self.is_marking();
        if marking {
            self.check_existing(buffer, time);
        } else {
            self.state().stats.passed += 1;
        }
        // Frames that are not marked pass uncopied, also those that others use too.
        self.obj().set_passthrough(!marking);
    }

    fn transform_ip(&self, buffer: &mut gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        if matches!(self.state().identity, Some(Identity::Failed)) {
            return Err(gst::FlowError::Error);
        }
        self.mark(buffer).map_err(|error| {
            self.post_error_message(error);
            gst::FlowError::Error
        })?;
        Ok(gst::FlowSuccess::Ok)
    }
}

impl VideoFilterImpl for SoraWatermark {
    fn set_info(
        &self,
        caps: &gst::Caps,
        info: &gst_video::VideoInfo,
        _out_caps: &gst::Caps,
        _out_info: &gst_video::VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        gst::debug!(CAT, imp = self, "negotiated {caps}");
        let layout = FrameLayout::new(info)
            .ok_or_else(|| gst::loggable_error!(CAT, "{} is no format of the template", info.format()))?;
        let Some(reason) = Self::unsupported(info) else {
            let mut state = self.state();
            let same = |old: &FrameLayout| (old.width(), old.height()) == (layout.width(), layout.height());
            if !state.layout.as_ref().is_some_and(same) {
                state.embedder = None;
            }
            state.layout = Some(layout);
            return Ok(());
        };
        if self.settings().on_unsupported == OnUnsupported::Error {
            let text = format!("This video cannot be marked: {reason}.");
            gst::element_imp_error!(
                self,
                gst::StreamError::Format,
                ("{text}"),
                ["on-unsupported=pass passes it as it is; the caps are {caps}"]
            );
            return Err(gst::loggable_error!(CAT, "{text}"));
        }
        let warned = {
            let mut state = self.state();
            (state.layout, state.embedder) = (None, None);
            std::mem::replace(&mut state.warned, true)
        };
        if !warned {
            self.warn(&format!("Frames pass without a mark: {reason}."));
        }
        Ok(())
    }
}
