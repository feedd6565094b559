use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use sora_gst::provenance;
use sora_provenance::{
    Claim, LiveSigner, ManifestSeal, PatchWriter, Patched, ProvenanceError, SigningKeys, TrustAnchors,
    Validity, verify_file,
};
use sora_store::Store;

use super::Mode;
use super::keeper::{Keeper, KeepingSeal};
use super::live::Live;
use super::output::Downstream;
use super::settings::{self, Settings};
use super::sidecar::Sidecar;
use super::spool::Spool;
use super::work::{self, Work};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("sorasign", gst::DebugColorFlags::empty(), Some("C2PA signing"))
});

/// How often a store is told what a live stream looks like.
const TELLING: Duration = Duration::from_secs(10);

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
    store: Option<Arc<Store>>,
    work: Work,
    /// Keeps the manifest of the clip that is in work.
    keeper: Option<Keeper>,
    /// The watermark's id that its manifest names.
    watermark_id: Option<String>,
    /// When the store was last told what a live stream looks like.
    told: Option<Instant>,
    /// Where the muxer goes on, in bytes.
    seek: Option<u64>,
}

/// Why a clip is not signed.
enum Stop {
    /// A setting makes no sense.
    Settings(String),
    /// It could not be done.
    Clip(ProvenanceError),
}

impl From<ProvenanceError> for Stop {
    fn from(error: ProvenanceError) -> Self {
        Self::Clip(error)
    }
}

impl SoraSign {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why the clip is not signed.
    fn fail(&self, stop: &Stop) -> gst::FlowError {
        let error = match stop {
            Stop::Settings(text) => {
                gst::element_imp_error!(
                    self,
                    gst::LibraryError::Settings,
                    ("{text}"),
                    ["nothing was signed"]
                );
                return gst::FlowError::Error;
            }
            Stop::Clip(error) => error,
        };
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

    /// What is to be said of the clip, by whom. Queries: no lock is held.
    fn claim(&self) -> Result<(Claim, Arc<SigningKeys>), Stop> {
        let keys = self.state().keys.clone().ok_or(Stop::Settings("the element is stopping".into()))?;
        let known = provenance::find(self.obj().upcast_ref());
        let claim = self.settings().claim(&known).map_err(Stop::Settings)?;
        gst::info!(CAT, imp = self, "the manifest will say {claim:?}");
        Ok((claim, keys))
    }

    /// A keeper of what is signed with this claim, where there is a store.
    fn keeper(&self, claim: &Claim) -> Result<Option<Keeper>, Stop> {
        let Some(store) = self.state().store.clone() else { return Ok(None) };
        let Some(id) = &claim.watermark_id else {
            let text = "store is set, and the clip has no watermark by which a manifest is found again; put sorawatermark before the encoder, or say in watermark-id which one it has";
            return Err(Stop::Settings(text.into()));
        };
        let keeper = Keeper::new(store);
        let mut state = self.state();
        (state.keeper, state.watermark_id, state.told) = (Some(keeper.clone()), Some(id.clone()), None);
        drop(state);
        self.look(&keeper);
        Ok(Some(keeper))
    }

    /// Asks what the clip looks like so far. Queries: no lock is held.
    fn look(&self, keeper: &Keeper) {
        let known = provenance::find(self.obj().upcast_ref());
        let ours = self.state().watermark_id.clone();
        // What another mark's frames look like is of no use.
        let same =
            known.watermark_id.zip(ours).is_some_and(|(known, ours)| known.eq_ignore_ascii_case(&ours));
        keeper.looks(known.fingerprint.filter(|_| same));
    }

    /// Tells the store from time to time what a stream looks like that goes on.
    fn tell_store(&self, work: &Work) -> Result<(), ProvenanceError> {
        let due = {
            let state = self.state();
            let due = state.told.is_none_or(|told| told.elapsed() >= TELLING);
            state.keeper.clone().filter(|_| due && matches!(work, Work::Live(_)))
        };
        let Some(keeper) = due else { return Ok(()) };
        self.look(&keeper);
        keeper.refresh()?;
        self.state().told = Some(Instant::now());
        Ok(())
    }

    /// Begins a clip in a mode that is not `Auto`.
    fn begin(&self, mode: Mode) -> Result<Work, Stop> {
        let settings = self.settings();
        // Settings that make no sense are refused before the first byte goes out, in every mode.
        let (claim, keys) = self.claim()?;
        let keeper = self.keeper(&claim)?;
        let out = Downstream::new(self.src.clone());
        Ok(match mode {
            Mode::Auto | Mode::Patch => {
                if !self.downstream_seeks() {
                    let text =
                        "mode is patch, and what is behind cannot seek in bytes; use mode=spool or auto";
                    return Err(Stop::Settings(text.into()));
                }
                let seal = ManifestSeal::new(claim, keys)?;
                let space = seal.manifest_bytes(settings.max_megabytes.into());
                Work::Patch(Box::new(PatchWriter::new(out, KeepingSeal::new(seal, keeper), space)?))
            }
            Mode::Spool => Work::Spool(Spool::new()?),
            Mode::Live => {
                let period = Duration::from_secs(settings.session_period);
                Work::Live(Box::new(Live::new(LiveSigner::new(claim, keys, period)?, out, keeper)))
            }
            Mode::Sidecar => {
                Work::Sidecar(Box::new(Sidecar::new(out, settings.sidecar().map_err(Stop::Settings)?)?))
            }
        })
    }

    fn take_work(&self) -> (Work, Option<u64>) {
        let mut state = self.state();
        (std::mem::take(&mut state.work), state.seek.take())
    }

    fn chain(&self, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (mut work, seek) = self.take_work();
        if let Work::Over(how) = work {
            self.state().work = work;
            return how.and(Err(gst::FlowError::Eos));
        }
        if let Work::Stopped = work {
            self.state().work = work;
            return Err(gst::FlowError::Flushing);
        }
        let result = self.take_bytes(&mut work, seek, buffer).map_err(|stop| {
            // What downstream said is no error of this element.
            let flow = work.flow_error().unwrap_or_else(|| self.fail(&stop));
            let live = matches!(work, Work::Live(_));
            work =
                if live && flow == gst::FlowError::Flushing { Work::Stopped } else { Work::Over(Err(flow)) };
            flow
        });
        self.state().work = work;
        result.map(|()| gst::FlowSuccess::Ok)
    }

    fn take_bytes(&self, work: &mut Work, seek: Option<u64>, buffer: &gst::Buffer) -> Result<(), Stop> {
        let mapped = buffer.clone().into_mapped_buffer_readable().map_err(|_| ProvenanceError::Stream {
            what: "reading what the muxer writes",
            source: std::io::Error::other("a buffer cannot be mapped"),
        })?;
        let bytes = Bytes::from_owner(mapped);
        if let Some(to) = seek {
            work.seek(to)?;
        }
        let mut head = match work {
            Work::Idle => Vec::new(),
            Work::Undecided(head) => std::mem::take(head),
            _ => {
                work.write(buffer, bytes)?;
                return Ok(self.tell_store(work)?);
            }
        };
        head.extend_from_slice(&bytes);
        match work::decide(self.settings().mode, self.downstream_seeks(), &head) {
            Some(mode) => {
                *work = self.begin(mode)?;
                work.write(buffer, head.into())?;
            }
            None => *work = Work::Undecided(head),
        }
        Ok(())
    }

    /// The muxer is done.
    fn finish(&self) {
        let (work, _) = self.take_work();
        let keeper = self.state().keeper.take();
        if let Some(keeper) = &keeper {
            self.look(keeper);
        }
        let mut downstream = Downstream::new(self.src.clone());
        let live = matches!(work, Work::Live(_));
        let result = match work {
            Work::Idle => return,
            over @ (Work::Over(_) | Work::Stopped) => {
                self.state().work = over;
                return;
            }
            Work::Undecided(head) => {
                let text = format!("it ends after {} bytes, before its media data", head.len());
                Err(ProvenanceError::Container(text).into())
            }
            Work::Patch(writer) => {
                writer.finish().map_err(Stop::from).and_then(|patched| self.verify_written(patched))
            }
            Work::Spool(spool) => {
                let keeper = keeper.as_ref();
                self.claim()
                    .and_then(|(claim, keys)| Ok(spool.finish(&claim, &keys, keeper, &mut downstream)?))
            }
            Work::Sidecar(sidecar) => {
                let keeper = keeper.as_ref();
                self.claim().and_then(|(claim, keys)| Ok(sidecar.finish(&claim, &keys, keeper)?))
            }
            Work::Live(live) => {
                let told = keeper.as_ref().map_or(Ok(()), Keeper::refresh);
                live.finish().and(told).map_err(Stop::from)
            }
        };
        // What was sent of a live stream is signed, whatever became of the rest.
        if let (Err(_), Some(keeper), false) = (&result, &keeper, live)
            && let Err(error) = keeper.withdraw()
        {
            gst::warning!(CAT, imp = self, "the manifest stays in the store: {error}");
        }
        let how = match (&result, downstream.flow_error()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(said)) => Err(said),
            (Err(stop), None) => Err(self.fail(stop)),
        };
        gst::info!(CAT, imp = self, "the clip is over: {how:?}");
        self.state().work = Work::Over(how);
    }

    /// Reads what was written again, where it is in a file, and takes the manifest out where it does not fit.
    fn verify_written(&self, mut patched: Patched<Downstream, KeepingSeal>) -> Result<(), Stop> {
        if !self.settings().verify {
            return Ok(());
        }
        let Some(path) = patched.output.settle(patched.length) else {
            gst::info!(CAT, imp = self, "what was written cannot be read again");
            return Ok(());
        };
        let problems = match verify_file(&path, None, &TrustAnchors::none()) {
            Ok(report) if report.manifest().is_some_and(|found| found.validity != Validity::Invalid) => {
                gst::info!(CAT, imp = self, "what was written is valid");
                return Ok(());
            }
            Ok(report) => report.problems().join("; "),
            Err(error) => error.to_string(),
        };
        // A box of the type `free` is no manifest.
        let withdrawn = patched
            .output
            .seek(SeekFrom::Start(patched.manifest_at + 4))
            .and_then(|_| patched.output.write_all(b"free"));
        patched.output.settle(patched.length);
        let manifest = match withdrawn {
            Ok(()) => "its manifest was taken out again".into(),
            Err(error) => format!("and its manifest could not be taken out again ({error})"),
        };
        let text = format!("what was written is not what was signed ({problems}); {manifest}");
        Err(ProvenanceError::Sign(text).into())
    }

    /// Whether a manifest can be had for a format: within MP4, beside whatever else.
    fn check_format(&self, caps: &gst::CapsRef) -> Result<(), String> {
        let name = caps.structure(0).map_or("nothing", |structure| structure.name().as_str());
        if self.settings().mode == Mode::Sidecar || matches!(name, "video/quicktime" | "audio/x-m4a") {
            return Ok(());
        }
        Err(format!(
            "C2PA can put no manifest into {name}: mux to MP4 (mp4mux), or write the manifest beside the clip (mode=sidecar, sidecar-location)"
        ))
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
            gst::EventView::Caps(caps) => {
                if let Err(text) = self.check_format(caps.caps()) {
                    // The error is posted; an event has no flow.
                    let _ = self.fail(&Stop::Settings(text));
                    return false;
                }
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
            // Before the media data and behind it a muxer may go anywhere; of a live stream nothing is kept.
            let seekable = match self.settings().mode {
                Mode::Live => false,
                Mode::Sidecar => self.downstream_seeks(),
                _ => true,
            };
            seeking.set(seekable, gst::format::Bytes::ZERO, gst::format::Bytes::NONE);
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
            // What is no MP4 is refused by name, or has its manifest beside it.
            let caps = gst::Caps::new_any();
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
                let _ = self.fail(&Stop::Settings(text));
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
            let store = self.settings().store().map_err(|text| {
                let _ = self.fail(&Stop::Settings(text));
                gst::StateChangeError
            })?;
            let mut state = self.state();
            (state.keys, state.store) = (Some(Arc::new(keys)), store.map(Arc::new));
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => {
                let (work, _) = self.take_work();
                // A sink that stops first makes a push fail as flushing: that is an interruption too.
                let interrupted =
                    work.is_unfinished() || matches!(work, Work::Over(Err(gst::FlowError::Flushing)));
                if interrupted {
                    gst::element_imp_warning!(
                        self,
                        gst::StreamError::Failed,
                        ("The clip ended before its end: it was not signed."),
                        ["no EOS came"]
                    );
                }
            }
            gst::StateChange::ReadyToNull => {
                let mut state = self.state();
                (state.keys, state.store, state.keeper) = (None, None, None);
            }
            _ => {}
        }
        result
    }
}
