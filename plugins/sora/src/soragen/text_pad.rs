//! The `text` pad: timed prompts, for clips without an end.

use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::cues::{Cues, LONGEST, MOST, without_markup};
use super::imp::{CAT, SoraGen};

/// What is known of the pad.
#[derive(Debug, Default)]
pub(super) struct TextPad {
    pub(super) cues: Cues,
    segment: gst::FormattedSegment<gst::ClockTime>,
    markup: bool,
    /// People have been told of text that cannot be read.
    warned: bool,
}

/// What the pad takes.
pub(super) fn template() -> gst::PadTemplate {
    let caps =
        gst::Caps::builder("text/x-raw").field("format", gst::List::new(["utf8", "pango-markup"])).build();
    let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Request);
    // The parameters of a valid template.
    gst::PadTemplate::new("text", direction, presence, &caps).expect("a valid template")
}

impl SoraGen {
    /// The pad, if there is none yet.
    pub(super) fn request_text_pad(&self, template: &gst::PadTemplate) -> Option<gst::Pad> {
        {
            let mut state = self.state();
            if state.text.is_some() {
                gst::warning!(CAT, imp = self, "there is one text pad, and it is taken");
                return None;
            }
            state.text = Some(TextPad::default());
        }
        let pad = gst::Pad::builder_from_template(template)
            .name("text")
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.take_cue(&buffer),
                )
            })
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| {
                        this.text_event(&event);
                        true
                    },
                )
            })
            .build();
        if self.obj().current_state() > gst::State::Ready {
            // A pad that comes late is made active here.
            let _ = pad.set_active(true);
        }
        if self.obj().add_pad(&pad).is_err() {
            self.state().text = None;
            return None;
        }
        Some(pad)
    }

    pub(super) fn release_text_pad(&self, pad: &gst::Pad) {
        let _ = pad.set_active(false);
        let _ = self.obj().remove_pad(pad);
        self.state().text = None;
    }

    /// What comes on the pad stays here: none of it is about the video.
    fn text_event(&self, event: &gst::Event) {
        let mut state = self.state();
        let Some(text) = &mut state.text else { return };
        match event.view() {
            gst::EventView::Caps(caps) => {
                let format = caps.caps().structure(0).and_then(|caps| caps.get::<&str>("format").ok());
                text.markup = format == Some("pango-markup");
            }
            gst::EventView::Segment(segment) => {
                if let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>() {
                    text.segment = segment.clone();
                }
            }
            gst::EventView::Gap(_) => text.cues.begin(),
            gst::EventView::Eos(_) => text.cues.end(),
            gst::EventView::FlushStop(_) => text.cues = Cues::default(),
            _ => {}
        }
    }

    fn take_cue(&self, buffer: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let bytes = {
            let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            // Longer than any prompt: not even looked at.
            map[..map.len().min(LONGEST)].to_vec()
        };
        let warning = {
            let mut state = self.state();
            let Some(text) = &mut state.text else { return Err(gst::FlowError::Flushing) };
            let warning = text.add(buffer, &bytes);
            warning.filter(|_| !std::mem::replace(&mut text.warned, true))
        };
        if let Some(warning) = warning {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Decode,
                ("{warning}"),
                ["at {:?}", buffer.pts()]
            );
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

impl TextPad {
    /// Takes a cue; a text for people when something is wrong with it.
    fn add(&mut self, buffer: &gst::BufferRef, bytes: &[u8]) -> Option<String> {
        self.cues.begin();
        let (text, cut) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, buffer.size() > bytes.len()),
            // A character that was cut in two.
            Err(error) if buffer.size() > bytes.len() && error.error_len().is_none() => {
                (std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(), true)
            }
            Err(error) => {
                return Some(format!(
                    "A prompt on the text pad is not UTF-8 text (byte {} of {}): it is passed over.",
                    error.valid_up_to(),
                    buffer.size()
                ));
            }
        };
        let text = text.trim_end_matches('\0');
        let prompt = if self.markup {
            without_markup(text)
        } else {
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let running = |time: gst::ClockTime| self.segment.to_running_time(time).map(Duration::from);
        // Without a time it holds from the beginning.
        let start = buffer.pts().map_or(Some(Duration::ZERO), running);
        // Before the segment: not meant to be seen.
        let start = start?;
        let end = buffer.duration().map(|duration| start + Duration::from(duration));
        if !self.cues.add(start, end, prompt) {
            return Some(format!("More than {MOST} prompts on the text pad: the rest are passed over."));
        }
        cut.then(|| {
            format!("A prompt on the text pad has {} bytes; the first {LONGEST} are read.", buffer.size())
        })
    }
}
