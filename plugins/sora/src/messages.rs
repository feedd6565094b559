//! What the element says on the bus: progress, warnings, and one error.

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use sora_engine_api::{EngineError, Level, trace};

/// What a worker reports. Silent once its work has been called off, and when the element is
/// gone.
#[derive(Debug)]
pub(crate) struct Reporter {
    element: glib::WeakRef<gst::Element>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Code of the operation whose START has been posted and whose end has not.
    open: Option<&'static str>,
    closed: bool,
    /// The thread that is posting just now.
    posting: Option<ThreadId>,
}

/// How long the end of an operation waits for a message about it that is just being posted, so that
/// the end comes last. Handlers of the application may hold a message up for longer.
const ORDER_PATIENCE: Duration = Duration::from_millis(200);

/// How much of a model's loading has been told.
#[derive(Debug, Default)]
pub(crate) struct LoadingTold(Option<u64>);

impl LoadingTold {
    /// Tells tens of per cent, each once: a line each on a terminal.
    pub(crate) fn tell(&mut self, reporter: &Reporter, done_bytes: u64, total_bytes: u64) {
        let Some(tens) = done_bytes.saturating_mul(10).checked_div(total_bytes) else { return };
        let percent = tens * 10;
        if self.0.is_none_or(|told| percent > told) {
            self.0 = Some(percent);
            reporter.progress(&format!("loading {percent} %"));
        }
    }
}

/// Says why no trace is written, where one was asked for: once in a process.
fn tell_of_trace(element: &gst::Element) {
    static TOLD: Once = Once::new();
    if let Some(problem) = trace::problem() {
        TOLD.call_once(|| gst::element_warning!(element, gst::ResourceError::OpenWrite, ("{problem}")));
    }
}

impl Reporter {
    /// Posts a message where a trace cannot be written: no lock may be held.
    pub(crate) fn new(element: &gst::Element) -> Self {
        tell_of_trace(element);
        Self { element: element.downgrade(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// The element, as long as anything may still be said in this work's name.
    pub(crate) fn element(&self) -> Option<gst::Element> {
        if self.lock().closed { None } else { self.element.upgrade() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins; it must be ended by [`Reporter::complete`], [`Reporter::fail`] or
    /// [`Reporter::cancel`], or gst-launch would wait for it for ever.
    pub(crate) fn start(&self, code: &'static str, text: &str) {
        self.say(gst::ProgressType::Start, text, |open| {
            *open = Some(code);
            *open
        });
    }

    /// The operation goes on.
    pub(crate) fn progress(&self, text: &str) {
        self.say(gst::ProgressType::Continue, text, |open| *open);
    }

    /// The operation is done.
    pub(crate) fn complete(&self, text: &str) {
        self.say(gst::ProgressType::Complete, text, Option::take);
    }

    /// Posts about the operation that `update` leaves or takes, with no lock held.
    fn say(
        &self,
        kind: gst::ProgressType,
        text: &str,
        update: impl FnOnce(&mut Option<&'static str>) -> Option<&'static str>,
    ) {
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            let Some(code) = update(&mut state.open) else { return };
            state.posting = Some(std::thread::current().id());
            drop(state);
            self.post(kind, code, text);
        }
        self.lock().posting = None;
        self.changed.notify_all();
    }

    /// Nothing more will be said, but for what this returns: whether that was so already, and the
    /// operation to end.
    fn close(&self) -> (bool, Option<&'static str>) {
        let mut state = self.lock();
        let closed = std::mem::replace(&mut state.closed, true);
        let me = std::thread::current().id();
        let busy = |state: &mut State| state.posting.is_some_and(|thread| thread != me);
        let waited = self.changed.wait_timeout_while(state, ORDER_PATIENCE, busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (closed, state.open.take())
    }

    /// Nothing more will be said; an open operation was cancelled.
    pub(crate) fn cancel(&self) {
        if let (_, Some(code)) = self.close() {
            self.post(gst::ProgressType::Canceled, code, "cancelled");
        }
    }

    /// The work failed: ends the open operation and posts the error.
    pub(crate) fn fail(&self, error: gst::ErrorMessage) {
        let (closed, open) = self.close();
        if let Some(code) = open {
            self.post(gst::ProgressType::Error, code, "failed");
        }
        if let (false, Some(element)) = (closed, self.element.upgrade()) {
            element.post_error_message(error);
        }
    }

    /// What the enhancer made of the prompt, or left of it: an ELEMENT message and a change of property.
    pub(crate) fn prompt(&self, given: &str, used: &str) {
        let Some(element) = self.element() else { return };
        let structure = gst::Structure::builder("soragen-prompt")
            .field("prompt", given)
            .field("prompt-used", used)
            .field("enhanced", given != used)
            .build();
        // No bus, nobody to tell.
        let _ = element.post_message(gst::message::Element::builder(structure).src(&element).build());
        element.notify("prompt-used");
    }

    /// People should know.
    pub(crate) fn warn(&self, text: &str) {
        if let Some(element) = self.element() {
            gst::element_warning!(element, gst::LibraryError::Settings, ("{text}"));
        }
    }

    /// A line of the engine's log, of an element and its category.
    pub(crate) fn log_line(
        &self,
        element: &impl IsA<glib::Object>,
        category: gst::DebugCategory,
        level: Level,
        target: &str,
        message: &str,
    ) {
        match level {
            // Errors come back as the call's result; people are told there.
            Level::Error => gst::warning!(category, obj = element, "{target}: {message}"),
            Level::Warn => self.warn(message),
            Level::Info => gst::info!(category, obj = element, "{target}: {message}"),
            Level::Debug => gst::debug!(category, obj = element, "{target}: {message}"),
            Level::Trace => gst::trace!(category, obj = element, "{target}: {message}"),
        }
    }

    fn post(&self, type_: gst::ProgressType, code: &str, text: &str) {
        let Some(element) = self.element.upgrade() else { return };
        let message = gst::message::Progress::builder(type_, code, text).src(&element).build();
        // No bus, nobody to tell.
        let _ = element.post_message(message);
    }
}

/// A frame that was dropped, and how many were and were not.
pub(crate) struct Dropped {
    pub(crate) live: bool,
    pub(crate) running_time: Option<gst::ClockTime>,
    pub(crate) stream_time: Option<gst::ClockTime>,
    pub(crate) timestamp: Option<gst::ClockTime>,
    pub(crate) duration: Option<gst::ClockTime>,
    pub(crate) processed: u64,
    pub(crate) dropped: u64,
}

impl Dropped {
    /// Tells the application in a QOS message, as GStreamer's own elements do.
    pub(crate) fn post(self, element: &gst::Element) {
        use gst::format::Buffers;
        let message = gst::message::Qos::builder(self.live)
            .running_time(self.running_time)
            .stream_time(self.stream_time)
            .timestamp(self.timestamp)
            .duration(self.duration)
            .stats(Buffers::from_u64(self.processed), Buffers::from_u64(self.dropped))
            .src(element)
            .build();
        // No bus, nobody to tell.
        let _ = element.post_message(message);
    }
}

/// An engine's error as an element's: a sentence for people, and the rest for us.
pub(crate) fn of_engine(error: &EngineError, debug: &str) -> gst::ErrorMessage {
    match error {
        EngineError::LibtorchNotFound { .. }
        | EngineError::EngineNotFound { .. }
        | EngineError::Open { .. }
        | EngineError::WrongAbi { .. } => gst::error_msg!(
            gst::LibraryError::Init,
            ("The inference engine cannot be started: {error}"),
            ["{debug}"]
        ),
        EngineError::Model(text) => {
            gst::error_msg!(gst::ResourceError::Read, ("The model cannot be used: {text}"), ["{debug}"])
        }
        EngineError::Device(text) => {
            gst::error_msg!(gst::ResourceError::NotFound, ("The device cannot be used: {text}"), ["{debug}"])
        }
        EngineError::Request(text) => gst::error_msg!(
            gst::LibraryError::Settings,
            ("The model cannot make what was asked for: {text}"),
            ["{debug}"]
        ),
        EngineError::OutOfMemory(text) => gst::error_msg!(
            gst::ResourceError::NoSpaceLeft,
            ("There is not enough memory for this model and size."),
            ["{text}; {debug}"]
        ),
        other => {
            gst::error_msg!(gst::LibraryError::Failed, ("The video could not be made: {other}"), ["{debug}"])
        }
    }
}
