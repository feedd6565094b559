//! What the element says on the bus: progress, warnings, and one error.

use std::sync::{Mutex, PoisonError};

use gst::glib;
use gst::prelude::*;
use sora_engine_api::EngineError;

/// What a clip's worker reports. Silent once the clip has been called off, and when the element is
/// gone.
#[derive(Debug)]
pub(super) struct Reporter {
    element: glib::WeakRef<super::SoraGen>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Code of the operation whose START has been posted and whose end has not.
    open: Option<&'static str>,
    closed: bool,
}

impl Reporter {
    pub(super) fn new(element: &super::SoraGen) -> Self {
        Self { element: element.downgrade(), state: Mutex::default() }
    }

    /// The element, as long as anything may still be said in this clip's name.
    pub(super) fn element(&self) -> Option<super::SoraGen> {
        if self.lock().closed { None } else { self.element.upgrade() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins; it must be ended by [`Reporter::complete`], [`Reporter::fail`] or
    /// [`Reporter::cancel`], or gst-launch would wait for it for ever.
    pub(super) fn start(&self, code: &'static str, text: &str) {
        {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.open = Some(code);
        }
        self.post(gst::ProgressType::Start, code, text);
    }

    /// The operation goes on.
    pub(super) fn progress(&self, text: &str) {
        let open = self.lock().open;
        if let Some(code) = open {
            self.post(gst::ProgressType::Continue, code, text);
        }
    }

    /// The operation is done.
    pub(super) fn complete(&self, text: &str) {
        let open = self.lock().open.take();
        if let Some(code) = open {
            self.post(gst::ProgressType::Complete, code, text);
        }
    }

    /// Nothing more will be said; an open operation was cancelled.
    pub(super) fn cancel(&self) {
        let open = {
            let mut state = self.lock();
            state.closed = true;
            state.open.take()
        };
        if let Some(code) = open {
            self.post(gst::ProgressType::Canceled, code, "cancelled");
        }
    }

    /// The clip failed: ends the open operation and posts the error.
    pub(super) fn fail(&self, error: gst::ErrorMessage) {
        let (closed, open) = {
            let mut state = self.lock();
            (std::mem::replace(&mut state.closed, true), state.open.take())
        };
        if let Some(code) = open {
            self.post(gst::ProgressType::Error, code, "failed");
        }
        if let (false, Some(element)) = (closed, self.element.upgrade()) {
            element.post_error_message(error);
        }
    }

    /// People should know.
    pub(super) fn warn(&self, text: &str) {
        if let Some(element) = self.element() {
            gst::element_warning!(element, gst::LibraryError::Settings, ("{text}"));
        }
    }

    fn post(&self, type_: gst::ProgressType, code: &str, text: &str) {
        let Some(element) = self.element.upgrade() else { return };
        let message = gst::message::Progress::builder(type_, code, text).src(&element).build();
        // No bus, nobody to tell.
        let _ = element.post_message(message);
    }
}

/// An engine's error as an element's: a sentence for people, and the rest for us.
pub(super) fn of_engine(error: &EngineError, debug: &str) -> gst::ErrorMessage {
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
        other => gst::error_msg!(
            gst::LibraryError::Failed,
            ("The video could not be made: {other}"),
            ["{debug}"]
        ),
    }
}
