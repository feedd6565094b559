use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use sora_provenance::{
    Credential, ManifestSpec, ManifestStore, PatchSigner, ProvenanceError, SignedManifest, TrustAnchors,
    check_output, sign_file, sign_sidecar,
};

use super::output::Output;
use super::settings::{self, Settings};
use super::{Mode, upstream};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("sorasign", gst::DebugColorFlags::empty(), Some("C2PA signing"))
});

/// Bytes of a buffer when a collected clip is sent.
const SEND_BYTES: usize = 256 << 10;

pub struct SoraSign {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// What lives from READY to READY, but for what can be read afterwards.
#[derive(Default)]
struct State {
    credential: Option<Credential>,
    anchors: TrustAnchors,
    /// Caps of a fragmented file.
    fragmented: bool,
    /// Taken while it is worked on, by the streaming thread alone.
    work: Option<Work>,
    /// Where the sink stands; `None`: it has no segment yet.
    sink_at: Option<u64>,
    manifest_id: Option<String>,
    key_id: Option<String>,
}

/// A clip in the making.
enum Work {
    Patch(Box<PatchSigner<Output>>),
    Spool(Spool),
    Sidecar(Spool),
}

/// A copy of the clip in a temporary file.
struct Spool {
    file: tempfile::NamedTempFile,
    spec: ManifestSpec,
}

/// Why the work cannot go on.
enum Failure {
    /// What was said to the bus.
    Posted,
    /// What the sink said.
    Flow(gst::FlowError),
}

impl SoraSign {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, text: impl std::fmt::Display) -> Failure {
        gst::element_imp_error!(self, gst::StreamError::Failed, ("{text}"), ["nothing was signed"]);
        Failure::Posted
    }

    /// Begins a clip. Queries and asks; no lock is held.
    fn begin(&self) -> Result<Work, Failure> {
        let settings = self.settings();
        let known = upstream::find(self.obj().upcast_ref());
        let spec = settings.spec(&known).map_err(|error| self.failed(error))?;
        if spec.record.is_none() {
            gst::info!(CAT, imp = self, "no generation record: the manifest says nothing about AI");
        }
        let (credential, anchors, fragmented) = {
            let state = self.state();
            (state.credential.clone(), state.anchors.clone(), state.fragmented)
        };
        let credential = credential.ok_or(Failure::Flow(gst::FlowError::Flushing))?;
        let spool = |spec| -> Result<Spool, Failure> {
            let file = tempfile::NamedTempFile::new();
            let file = file.map_err(|error| self.failed(format!("a temporary file: {error}")))?;
            Ok(Spool { file, spec })
        };
        let patch = match settings.mode {
            Mode::Sidecar => {
                if settings.sidecar_location().is_none() {
                    return Err(self.failed("mode=sidecar needs sidecar-location"));
                }
                return spool(spec).map(Work::Sidecar);
            }
            Mode::Spool => false,
            Mode::Patch if !self.sink_seeks() => {
                return Err(self.failed("mode=patch needs a sink that can seek; mode=spool does not"));
            }
            Mode::Patch => true,
            Mode::Auto => !fragmented && self.sink_seeks(),
        };
        if !patch {
            gst::info!(CAT, imp = self, "collecting the clip in a temporary file");
            return spool(spec).map(Work::Spool);
        }
        let reserve = settings.reserve_size as usize;
        let signer = PatchSigner::new(Output::default(), &spec, &credential, &anchors, reserve);
        signer.map(|signer| Work::Patch(Box::new(signer))).map_err(|error| self.failed(error))
    }

    fn sink_seeks(&self) -> bool {
        let mut query = gst::query::Seeking::new(gst::Format::Bytes);
        self.srcpad.peer_query(&mut query) && query.result().0
    }

    /// Works on the clip; only the streaming thread does, so it may be taken out of the state.
    fn with_work(&self, work: impl FnOnce(&mut Work) -> Result<(), Failure>) -> Result<(), Failure> {
        let taken = self.state().work.take();
        let mut current = match taken {
            Some(current) => current,
            None => self.begin()?,
        };
        let done = work(&mut current);
        if done.is_ok() {
            self.state().work = Some(current);
        }
        done
    }

    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let worked = self.with_work(|work| {
            let map = buffer.map_readable().map_err(|_| self.failed("a buffer cannot be read"))?;
            match work {
                Work::Patch(signer) => {
                    signer.write(&map).map_err(|error| self.failed(error))?;
                    self.push(signer.output().take())
                }
                Work::Spool(spool) => spool.write(&map).map_err(|error| self.failed(error)),
                Work::Sidecar(spool) => {
                    spool.write(&map).map_err(|error| self.failed(error))?;
                    drop(map);
                    self.srcpad.push(buffer).map(|_| ()).map_err(Failure::Flow)
                }
            }
        });
        self.answer(worked)
    }

    fn answer(&self, worked: Result<(), Failure>) -> Result<gst::FlowSuccess, gst::FlowError> {
        match worked {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            Err(Failure::Posted) => Err(gst::FlowError::Error),
            Err(Failure::Flow(error)) => Err(error),
        }
    }

    /// Sends writes to the sink, each where it belongs.
    fn push(&self, writes: Vec<(u64, Vec<u8>)>) -> Result<(), Failure> {
        for (at, bytes) in writes {
            self.go_to(at);
            let end = at + bytes.len() as u64;
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_offset(at);
                buffer.set_offset_end(end);
            }
            self.srcpad.push(buffer).map_err(Failure::Flow)?;
            self.state().sink_at = Some(end);
        }
        Ok(())
    }

    /// Makes the sink write at a place.
    fn go_to(&self, at: u64) {
        if self.state().sink_at == Some(at) {
            return;
        }
        let mut segment = gst::FormattedSegment::<gst::format::Bytes>::new();
        segment.set_start(gst::format::Bytes::from_u64(at));
        segment.set_time(gst::format::Bytes::from_u64(at));
        self.srcpad.push_event(gst::event::Segment::new(&segment));
        self.state().sink_at = Some(at);
    }

    /// The muxer goes to a place.
    fn segment(&self, to: u64) -> Result<(), Failure> {
        let running = self.state().work.is_some();
        if !running {
            // The first segment: everything begins at 0.
            return if to == 0 { Ok(()) } else { Err(self.failed(format!("the clip begins at byte {to}"))) };
        }
        self.with_work(|work| match work {
            Work::Patch(signer) => signer.seek(to).map_err(|error| self.failed(error)),
            Work::Spool(spool) | Work::Sidecar(spool) => {
                spool.seek(to).map_err(|error| self.failed(error))
            }
        })
    }

    /// The clip is complete: signs it.
    fn finish(&self) -> Result<(), Failure> {
        let Some(work) = self.state().work.take() else {
            gst::warning!(CAT, imp = self, "the stream ends without a clip");
            return Ok(());
        };
        let (credential, anchors) = {
            let state = self.state();
            (state.credential.clone(), state.anchors.clone())
        };
        let credential = credential.ok_or(Failure::Flow(gst::FlowError::Flushing))?;
        let settings = self.settings();
        let signed = match work {
            Work::Patch(signer) => {
                let spec = signer.spec().clone();
                let publish = |signed: &SignedManifest| store(&settings, signed, &spec);
                let (signed, mut output) = signer.finish(publish).map_err(|error| self.failed(error))?;
                self.push(output.take())?;
                if settings.verify {
                    self.verify(&signed)?;
                }
                signed
            }
            Work::Spool(spool) => {
                let publish = |signed: &SignedManifest| store(&settings, signed, &spool.spec);
                let result = tempfile::NamedTempFile::new().map_err(|error| self.failed(error))?;
                let (from, to) = (spool.file.path(), result.path());
                let signed = sign_file(from, to, &spool.spec, &credential, &anchors, publish);
                let signed = signed.map_err(|error| self.failed(error))?;
                // The file was replaced under its name.
                let file = File::open(to).map_err(|error| self.failed(error))?;
                self.send(file)?;
                signed
            }
            Work::Sidecar(spool) => {
                let signed = sign_sidecar(spool.file.path(), &spool.spec, &credential, &anchors);
                let signed = signed.map_err(|error| self.failed(error))?;
                store(&settings, &signed, &spool.spec).map_err(|error| self.failed(error))?;
                let location = settings.sidecar_location().unwrap_or(Path::new(""));
                write_whole(location, &signed.jumbf)
                    .map_err(|error| self.failed(format!("{}: {error}", location.display())))?;
                signed
            }
        };
        gst::info!(CAT, imp = self, "signed: {}", signed.id);
        let structure = gst::Structure::builder("sorasign")
            .field("manifest-id", &signed.id)
            .field("key-id", credential.key_id())
            .build();
        self.state().manifest_id = Some(signed.id);
        self.obj().notify("manifest-id");
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(gst::message::Element::builder(structure).src(&*self.obj()).build());
        Ok(())
    }

    /// Sends a file from its beginning.
    fn send(&self, mut file: File) -> Result<(), Failure> {
        let mut at = 0;
        loop {
            let mut bytes = vec![0; SEND_BYTES];
            let read = file.read(&mut bytes).map_err(|error| self.failed(error))?;
            if read == 0 {
                return Ok(());
            }
            bytes.truncate(read);
            self.push(vec![(at, bytes)])?;
            at += read as u64;
        }
    }

    /// Reads the file that the sink wrote, where it says which one.
    fn verify(&self, signed: &SignedManifest) -> Result<(), Failure> {
        let mut query = gst::query::Uri::new();
        let path = if self.srcpad.peer_query(&mut query) { query.uri() } else { None };
        let path: Option<PathBuf> = path.and_then(|uri| Some(glib::filename_from_uri(&uri).ok()?.0));
        let Some(path) = path else {
            gst::info!(CAT, imp = self, "the sink names no file that could be verified");
            return Ok(());
        };
        // A new segment makes filesink write out what it holds back.
        let length = std::fs::metadata(&path).map_err(|error| self.failed(error))?.len();
        self.go_to(length);
        check_output(&path, signed)
            .map_err(|error| self.failed(format!("{}: {error}", path.display())))
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => {
                let variant = caps.caps().structure(0).and_then(|s| s.get::<String>("variant").ok());
                self.state().fragmented = variant.is_some_and(|variant| variant.contains("fragmented"));
                self.srcpad.push_event(event)
            }
            gst::EventView::Segment(segment) => {
                let bytes = segment.segment().downcast_ref::<gst::format::Bytes>();
                let to = bytes.and_then(|segment| segment.start()).map_or(0, u64::from);
                let is_bytes = bytes.is_some();
                let passes = matches!(self.state().work, Some(Work::Sidecar(_)))
                    || self.settings().mode == Mode::Sidecar;
                if is_bytes && let Err(failure) = self.segment(to) {
                    return self.answer(Err(failure)).is_ok();
                }
                !passes || self.srcpad.push_event(event)
            }
            gst::EventView::Eos(_) => {
                let finished = self.finish();
                match self.answer(finished) {
                    Ok(_) => self.srcpad.push_event(event),
                    // Passing EOS on would let a clip that is not signed look complete.
                    Err(_) => false,
                }
            }
            gst::EventView::FlushStop(_) => {
                let mut state = self.state();
                state.work = None;
                state.sink_at = None;
                drop(state);
                self.srcpad.push_event(event)
            }
            _ => gst::Pad::event_default(&self.sinkpad, Some(&*self.obj()), event),
        }
    }

    fn sink_query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Seeking(seeking) = query.view_mut()
            && seeking.format() == gst::Format::Bytes
        {
            // What is collected can be written anywhere; elsewhere the sink decides.
            let collects = match self.settings().mode {
                Mode::Spool => true,
                Mode::Auto => !self.sink_seeks(),
                Mode::Patch | Mode::Sidecar => false,
            };
            if collects {
                let none = gst::GenericFormattedValue::from(gst::format::Bytes::NONE);
                let zero = gst::GenericFormattedValue::from(Some(gst::format::Bytes::ZERO));
                seeking.set(true, zero, none);
                return true;
            }
        }
        gst::Pad::query_default(&self.sinkpad, Some(&*self.obj()), query)
    }

    fn start(&self) -> Result<(), gst::StateChangeError> {
        let settings = self.settings();
        let loaded = settings.credential().and_then(|credential| Ok((credential, settings.anchors()?)));
        let (credential, anchors) = loaded.map_err(|text| {
            gst::element_imp_error!(self, gst::LibraryError::Settings, ("{text}"), ["refused at the start"]);
            gst::StateChangeError
        })?;
        for warning in credential.warnings() {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{warning}"));
        }
        let key_id = Some(credential.key_id());
        *self.state() = State { credential: Some(credential), anchors, key_id, ..State::default() };
        self.obj().notify("key-id");
        Ok(())
    }

    fn stop(&self) {
        let mut state = self.state();
        let before = std::mem::take(&mut *state);
        // What was signed stays readable until the next run.
        (state.manifest_id, state.key_id) = (before.manifest_id, before.key_id);
        drop(state);
        if before.work.is_some() {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("The stream ended before its end: the clip is not whole and not signed.")
            );
        }
    }
}

impl Spool {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.as_file_mut().write_all(bytes)
    }

    fn seek(&mut self, to: u64) -> std::io::Result<()> {
        self.file.as_file_mut().seek(SeekFrom::Start(to)).map(|_| ())
    }
}

/// Puts a manifest into the store, where there is one and a watermark to find it by.
fn store(settings: &Settings, signed: &SignedManifest, spec: &ManifestSpec) -> Result<(), ProvenanceError> {
    let (Some(path), Some(binding)) = (settings.store(), &spec.binding) else { return Ok(()) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| ProvenanceError::Clock)?;
    ManifestStore::open(path)?.insert(signed, binding, &[], now.as_secs() as i64)
}

/// Writes a file that appears when it is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[glib::object_subclass]
impl ObjectSubclass for SoraSign {
    const NAME: &'static str = "GstSoraSign";
    type Type = super::SoraSign;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = |name| class.pad_template(name).expect("the class has this template");
        let sinkpad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(parent, || Err(gst::FlowError::Error), |imp| imp.chain(buffer))
            })
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_event(event))
            })
            .query_function(|_, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_query(query))
            })
            .build();
        let srcpad = gst::Pad::builder_from_template(&template("src")).build();
        Self { sinkpad, srcpad, settings: Mutex::default(), state: Mutex::default() }
    }
}

impl ObjectImpl for SoraSign {
    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // Not the value: a command line may hold a PIN.
        gst::debug!(CAT, imp = self, "setting {}", pspec.name());
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "manifest-id" => self.state().manifest_id.to_value(),
            "key-id" => self.state().key_id.to_value(),
            name => self.settings().value(name).unwrap_or_else(|| unreachable!("no property {name}")),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.add_pad(&self.sinkpad).expect("a new element has no pad of this name");
        element.add_pad(&self.srcpad).expect("a new element has no pad of this name");
    }
}

impl GstObjectImpl for SoraSign {}

impl ElementImpl for SoraSign {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "C2PA signer",
                "Formatter/Muxer/Signer",
                "Signs MP4 with a C2PA manifest while it is written",
                "The sora-gst authors",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst::Caps::builder("video/quicktime").build();
            let always = gst::PadPresence::Always;
            // The parameters of valid templates.
            [("sink", gst::PadDirection::Sink), ("src", gst::PadDirection::Src)]
                .map(|(name, direction)| {
                    gst::PadTemplate::new(name, direction, always, &caps).expect("a valid template")
                })
                .into()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            self.start()?;
        }
        let changed = self.parent_change_state(transition);
        if transition == gst::StateChange::PausedToReady {
            self.stop();
        }
        changed
    }
}
