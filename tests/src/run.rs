//! Pipelines that are run and watched.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gst::prelude::*;

use crate::PATIENCE;

/// A pipeline and all that it says.
pub struct Playing {
    /// The pipeline.
    pub pipeline: gst::Pipeline,
    messages: Receiver<gst::Message>,
    seen: Vec<gst::Message>,
    samples: Arc<Mutex<Vec<gst::Sample>>>,
}

/// What a pipeline did.
pub struct Report {
    /// Everything that was said on the bus, in order.
    pub messages: Vec<gst::Message>,
    /// What arrived at the appsink called `sink`, if there is one.
    pub samples: Vec<gst::Sample>,
}

/// Makes a pipeline and watches its bus and its appsink called `sink`; does not start it.
pub fn play(description: &str) -> Playing {
    crate::init();
    let pipeline = gst::parse::launch(description).expect("the pipeline is valid");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("more than one element");
    let (sender, messages) = channel();
    let bus = pipeline.bus().expect("a pipeline has a bus");
    bus.set_sync_handler(move |_, message| {
        // The receiver is gone when the test is over.
        let _ = sender.send(message.clone());
        gst::BusSyncReply::Drop
    });
    let samples = Arc::<Mutex<Vec<gst::Sample>>>::default();
    if let Some(sink) = pipeline.by_name("sink").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok()) {
        let samples = Arc::clone(&samples);
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let pulled = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            // A sample of our own: the sink goes on changing the one it gave out.
            let (buffer, caps) = (pulled.buffer_owned(), pulled.caps_owned());
            let sample = gst::Sample::builder();
            let sample = sample.buffer_if_some(buffer.as_ref()).caps_if_some(caps.as_ref()).build();
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
    }
    Playing { pipeline, messages, seen: Vec::new(), samples }
}

/// Runs a pipeline until EOS or an error, then stops it.
pub fn run(description: &str) -> Report {
    play(description).finish()
}

impl Playing {
    /// The element called `src`.
    pub fn src(&self) -> gst::Element {
        self.pipeline.by_name("src").expect("the element is called src")
    }

    /// Samples that have arrived so far at the appsink called `sink`.
    pub fn frames_so_far(&self) -> usize {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for a message that `wanted` accepts and returns what it makes of it.
    pub fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&gst::Message) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) => {
                    let found = wanted(&message);
                    self.seen.push(message);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within {PATIENCE:?}: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the bus is alive"),
            }
        }
    }

    /// Waits for EOS or an error.
    pub fn wait_for_end(&mut self) {
        self.wait_for("end", |message| {
            matches!(message.type_(), gst::MessageType::Eos | gst::MessageType::Error).then_some(())
        });
    }

    /// Runs the pipeline until EOS or an error, then stops it.
    pub fn finish(mut self) -> Report {
        // A failed change of state is on the bus.
        let _ = self.pipeline.set_state(gst::State::Playing);
        self.wait_for_end();
        self.stop()
    }

    /// Waits until a PROGRESS message of the operation `code` has come.
    pub fn wait_for_progress(&mut self, code: &str) {
        self.wait_for(code, |message| match message.view() {
            gst::MessageView::Progress(progress) if progress.get().1 == code => Some(()),
            _ => None,
        });
    }

    /// Takes the pipeline to NULL and tells what happened.
    pub fn stop(mut self) -> Report {
        self.pipeline.set_state(gst::State::Null).expect("NULL is always possible");
        self.seen.extend(self.messages.try_iter());
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        Report { messages: std::mem::take(&mut self.seen), samples: std::mem::take(&mut samples) }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Nothing to do about a failure while a test is failing.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Report {
    /// The errors: text for people, text for us.
    pub fn errors(&self) -> Vec<(String, String)> {
        self.messages
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Error(error) => {
                    let debug = error.debug().map(|text| text.to_string()).unwrap_or_default();
                    Some((error.error().message().to_owned(), debug))
                }
                _ => None,
            })
            .collect()
    }

    /// The only error; both its texts are there.
    pub fn one_error(&self) -> String {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "one error: {errors:?}");
        let (text, debug) = &errors[0];
        assert!(!text.is_empty() && !debug.is_empty(), "both texts: {errors:?}");
        assert!(!text.contains("panicked") && !text.contains("Panicked"), "{text}");
        text.clone()
    }

    /// The warnings' texts for people.
    pub fn warnings(&self) -> Vec<String> {
        self.messages
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Warning(warning) => Some(warning.error().message().to_owned()),
                _ => None,
            })
            .collect()
    }

    /// The QOS messages: frames that were and were not shown by then.
    pub fn qos(&self) -> Vec<(u64, u64)> {
        let buffers = |value: gst::GenericFormattedValue| match value {
            gst::GenericFormattedValue::Buffers(Some(count)) => u64::from(count),
            other => panic!("{other:?} counts no buffers"),
        };
        self.messages
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Qos(qos) => Some(qos.stats()),
                _ => None,
            })
            .map(|(processed, dropped)| (buffers(processed), buffers(dropped)))
            .collect()
    }

    /// The PROGRESS messages: type, code, text.
    pub fn progress(&self) -> Vec<(gst::ProgressType, String, String)> {
        self.messages
            .iter()
            .filter_map(|message| match message.view() {
                gst::MessageView::Progress(progress) => {
                    let (kind, code, text) = progress.get();
                    Some((kind, code.to_owned(), text.to_owned()))
                }
                _ => None,
            })
            .collect()
    }

    /// Asserts that every operation that was started was ended, once and in order.
    pub fn assert_progress_is_closed(&self) {
        let mut open: Option<String> = None;
        for (kind, code, _) in self.progress() {
            match kind {
                gst::ProgressType::Start => {
                    assert_eq!(open, None, "{code} starts while another is open");
                    open = Some(code);
                }
                gst::ProgressType::Continue => assert_eq!(open.as_ref(), Some(&code)),
                _ => assert_eq!(open.take(), Some(code)),
            }
        }
        assert_eq!(open, None, "{:?}", self.progress());
    }

    /// The bytes of all samples, in order, as they are in the buffers.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.samples
            .iter()
            .map(|sample| {
                let buffer = sample.buffer().expect("a sample has a buffer");
                buffer.map_readable().expect("a buffer can be read").to_vec()
            })
            .collect()
    }

    /// Asserts that the run ended by EOS, without an error.
    pub fn assert_clean(&self) -> &Self {
        assert_eq!(self.errors(), []);
        assert!(self.messages.iter().any(|message| message.type_() == gst::MessageType::Eos), "no EOS");
        self
    }
}
