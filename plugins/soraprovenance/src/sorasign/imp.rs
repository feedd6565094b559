use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use sora_gst::provenance;
use sora_provenance::{ManifestSeal, PatchWriter, ProvenanceError, SigningKeys};

use super::Mode;
use super::output::Downstream;
use super::settings::{self, Settings};
use super::spool::Spool;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("sorasign", gst::DebugColorFlags::empty(), Some("C2PA signing"))
});

pub struct SoraSign {
    sink: gst::Pad,
    src: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// What lives from READY on.
#[derive(Default)]
struct State {
    keys: Option<Arc<SigningKeys>>,
    work: Work,
    /// Where the muxer goes on, in bytes.
    seek: Option<u64>,
}

/// A clip in the making. It is taken out of the state while bytes are handled: no lock is held then.
#[derive(Default)]
enum Work {
    #[default]
    Idle,
    Patch(Box<PatchWriter<Downstream, ManifestSeal>>),
    Spool(Spool),
    /// Signed, or failed with an error that has been posted.
    Over(Result<(), gst::FlowError>),
}

impl SoraSign {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, error: &ProvenanceError) -> gst::FlowError {
        let text = format!("The clip could not be signed, and what was written is unsigned: {error}");
        match error {
            ProvenanceError::Stream { .. } => {
                gst::element_imp_error!(self, gst::ResourceError::Write, ("{text}"), ["{error:?}"]);
            }
            ProvenanceError::Container(_) => {
                gst::element_imp_error!(self, gst::StreamError::Format, ("{text}"), ["{error:?}"]);
            }
            ProvenanceError::Reserve { .. } | ProvenanceError::Value { .. } => {
                let hint = "a longer clip needs a larger max-megabytes, or mode=spool";
                gst::element_imp_error!(self, gst::LibraryError::Settings, ("{text}"), ["{hint}"]);
            }
            _ => gst::element_imp_error!(self, gst::StreamError::Failed, ("{text}"), ["{error:?}"]),
        }
        gst::FlowError::Error
    }

    /// Downstream can go back to a byte that was written.
    fn downstream_seeks(&self) -> bool {
        let mut query = gst::query::Seeking::new(gst::Format::Bytes);
        self.src.peer_query(&mut query) && query.result().0
    }

    /// Settles what will be said and how it gets into the clip. Queries: no lock is held.
    fn begin(&self) -> Result<Work, gst::FlowError> {
        let settings = self.settings();
        let keys = self.state().keys.clone().ok_or(gst::FlowError::Flushing)?;
        let known = provenance::find(self.obj().upcast_ref());
        let claim = settings.claim(&known).map_err(|text| self.refuse(&text))?;
        gst::info!(CAT, imp = self, "the manifest will say {claim:?}");
        let seeks = self.downstream_seeks();
        if settings.mode == Mode::Spool || (settings.mode == Mode::Auto && !seeks) {
            return Spool::new().map(Work::Spool).map_err(|error| self.fail(&error));
        }
        if !seeks {
            return Err(
                self.refuse("mode is patch, and what is behind cannot seek in bytes; use mode=spool or auto")
            );
        }
        let seal = ManifestSeal::new(claim, keys).map_err(|error| self.fail(&error))?;
        let space = seal.manifest_bytes(settings.max_megabytes.into());
        let writer = PatchWriter::new(Downstream::new(self.src.clone()), seal, space);
        writer.map(|writer| Work::Patch(Box::new(writer))).map_err(|error| self.fail(&error))
    }

    fn refuse(&self, text: &str) -> gst::FlowError {
        gst::element_imp_error!(self, gst::LibraryError::Settings, ("{text}"), ["nothing was signed"]);
        gst::FlowError::Error
    }

    fn take_work(&self) -> (Work, Option<u64>) {
        let mut state = self.state();
        (std::mem::take(&mut state.work), state.seek.take())
    }

    fn chain(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (mut work, seek) = self.take_work();
        if let Work::Idle = work {
            work = self.begin().unwrap_or_else(|error| Work::Over(Err(error)));
        }
        let (work, result) = self.take_bytes(work, seek, buffer);
        self.state().work = work;
        result.map(|()| gst::FlowSuccess::Ok)
    }

    fn take_bytes(
        &self,
        mut work: Work,
        seek: Option<u64>,
        buffer: &gst::Buffer,
    ) -> (Work, Result<(), gst::FlowError>) {
        let bytes = buffer.map_readable().map_err(|_| ProvenanceError::Stream {
            what: "reading what the muxer writes",
            source: std::io::Error::other("a buffer cannot be mapped"),
        });
        let written = bytes.and_then(|bytes| match &mut work {
            Work::Patch(writer) => {
                seek.map_or(Ok(()), |to| writer.seek(to)).and_then(|()| writer.write(&bytes))
            }
            Work::Spool(spool) => seek.map_or(Ok(()), |to| spool.seek(to)).and_then(|()| spool.write(&bytes)),
            Work::Idle | Work::Over(_) => Ok(()),
        });
        if let Work::Over(how) = work {
            return (work, how.and(Err(gst::FlowError::Eos)));
        }
        let Err(error) = written else { return (work, Ok(())) };
        // What downstream said is no error of this element.
        let said = match &mut work {
            Work::Patch(writer) => writer.output().flow_error(),
            _ => None,
        };
        let flow = said.unwrap_or_else(|| self.fail(&error));
        (Work::Over(Err(flow)), Err(flow))
    }

    /// The muxer is done.
    fn finish(&self) {
        let (work, _) = self.take_work();
        let mut downstream = Downstream::new(self.src.clone());
        let result = match work {
            Work::Idle => return,
            Work::Over(how) => {
                self.state().work = Work::Over(how);
                return;
            }
            Work::Patch(writer) => writer.finish().map(drop),
            Work::Spool(spool) => self.finish_spool(spool, &mut downstream),
        };
        let how = match (&result, downstream.flow_error()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(said)) => Err(said),
            (Err(error), None) => Err(self.fail(error)),
        };
        gst::info!(CAT, imp = self, "the clip is over: {how:?}");
        self.state().work = Work::Over(how);
    }

    fn finish_spool(&self, spool: Spool, downstream: &mut Downstream) -> Result<(), ProvenanceError> {
        let refused = |text: String| ProvenanceError::Claim(text);
        let known = provenance::find(self.obj().upcast_ref());
        let claim = self.settings().claim(&known).map_err(refused)?;
        let keys = self.state().keys.clone().ok_or_else(|| refused("the element is stopping".into()))?;
        spool.finish(&claim, &keys, downstream)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Segment(segment) => {
                // Bytes go out in segments of this element's own.
                if let Some(segment) = segment.segment().downcast_ref::<gst::format::Bytes>() {
                    self.state().seek = segment.start().map(u64::from);
                }
                return true;
            }
            gst::EventView::Eos(_) => self.finish(),
            gst::EventView::FlushStop(_) => {
                let mut state = self.state();
                state.work = Work::Idle;
                state.seek = None;
            }
            _ => {}
        }
        gst::Pad::event_default(&self.sink, Some(&*self.obj()), event)
    }

    fn sink_query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Seeking(seeking) = query.view_mut()
            && seeking.format() == gst::Format::Bytes
        {
            // Before the media data and behind it a muxer may go anywhere, in every mode.
            seeking.set(true, gst::format::Bytes::ZERO, gst::format::Bytes::NONE);
            return true;
        }
        gst::Pad::query_default(&self.sink, Some(&*self.obj()), query)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for SoraSign {
    const NAME: &'static str = "GstSoraSign";
    type Type = super::SoraSign;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        // Both templates are in the class: see `pad_templates`.
        let template = |name| class.pad_template(name).expect("a template of this class");
        let sink = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.chain(&buffer),
                )
            })
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(event))
            })
            .query_function(|_, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(query))
            })
            .build();
        let src = gst::Pad::builder_from_template(&template("src")).build();
        Self { sink, src, settings: Mutex::default(), state: Mutex::default() }
    }
}

impl ObjectImpl for SoraSign {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        gst::debug!(CAT, imp = self, "setting {}", pspec.name());
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let name = pspec.name();
        self.settings().value(name).unwrap_or_else(|| unreachable!("no property {name}"))
    }

    fn constructed(&self) {
        self.parent_constructed();
        // A new element takes both pads.
        self.obj().add_pad(&self.sink).expect("a pad of its own");
        self.obj().add_pad(&self.src).expect("a pad of its own");
    }
}

impl GstObjectImpl for SoraSign {}

impl ElementImpl for SoraSign {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "C2PA signer",
                "Formatter/Metadata",
                "Signs an MP4 with a C2PA manifest while it is written",
                "The sora-gst authors",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder("video/quicktime").build();
            // The parameters of valid templates.
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                        .expect("a valid template")
                })
                .into()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::NullToReady {
            let keys = self.settings().keys().map_err(|text| {
                // The error is posted; a flow error means nothing to a change of state.
                let _ = self.refuse(&text);
                gst::StateChangeError
            })?;
            if keys.is_ephemeral() {
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    ("No key is set: an ephemeral development certificate signs. It proves that the clip was not changed since, not who made it."),
                    ["set certificates and key, or SORA_SIGN_CHAIN and SORA_SIGN_KEY"]
                );
            }
            self.state().keys = Some(Arc::new(keys));
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => {
                let (work, _) = self.take_work();
                // A sink that stops first makes a push fail as flushing: that is an interruption too.
                let interrupted = matches!(work, Work::Patch(_) | Work::Spool(_))
                    || matches!(work, Work::Over(Err(gst::FlowError::Flushing)));
                if interrupted {
                    gst::element_imp_warning!(
                        self,
                        gst::StreamError::Failed,
                        ("The clip ended before its end: it was not signed."),
                        ["no EOS came"]
                    );
                }
            }
            gst::StateChange::ReadyToNull => self.state().keys = None,
            _ => {}
        }
        result
    }
}
