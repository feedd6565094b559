//! `tracing` events of the libraries, as log lines for the caller, and their spans for [`trace`].
//!
//! The subscriber is scoped to the call and its thread, so the engine installs nothing global and
//! every element sees the lines of its own generation only.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

use serde_json::json;
use sora_engine_api::abi::Level;
use sora_engine_api::trace;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// One line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) message: String,
}

/// Runs `body` with the events of this thread given to `sink`.
pub(crate) fn with_log<T>(sink: impl Fn(Line) + Send + Sync + 'static, body: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(Forward { sink, spans: Mutex::default() }, body)
}

struct Forward<F> {
    sink: F,
    /// Open spans by their number; none where no trace is written.
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    last: u64,
    open: HashMap<u64, Span>,
}

struct Span {
    name: &'static str,
    fields: String,
    entered: u64,
}

/// Where no trace is written, all spans are this one.
const NO_SPAN: u64 = 1;

impl<F> Forward<F> {
    fn with_spans<T>(&self, what: impl FnOnce(&mut Spans) -> T) -> T {
        what(&mut self.spans.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Fn(Line) + Send + Sync + 'static> Subscriber for Forward<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        if !trace::is_on() {
            return Id::from_u64(NO_SPAN);
        }
        let mut text = Text::default();
        attributes.record(&mut text);
        let span = Span { name: attributes.metadata().name(), fields: text.fields, entered: 0 };
        self.with_spans(|spans| {
            spans.last = spans.last.max(NO_SPAN) + 1;
            spans.open.insert(spans.last, span);
            Id::from_u64(spans.last)
        })
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        (self.sink)(Line { level, target: metadata.target().into(), message: text.message + &text.fields });
    }

    fn enter(&self, id: &Id) {
        self.with_spans(|spans| {
            if let Some(span) = spans.open.get_mut(&id.into_u64()) {
                span.entered = trace::now();
            }
        });
    }

    fn exit(&self, id: &Id) {
        self.with_spans(|spans| {
            if let Some(span) = spans.open.get(&id.into_u64()) {
                trace::complete(span.name, span.entered, json!({ "fields": span.fields.trim_start() }));
            }
        });
    }

    fn try_close(&self, id: Id) -> bool {
        self.with_spans(|spans| spans.open.remove(&id.into_u64())).is_some()
    }
}

/// The message, then the fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
