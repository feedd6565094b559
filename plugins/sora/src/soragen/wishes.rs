//! What is wished for now, and what is told of the stream that is made by it.

use std::sync::PoisonError;

use gst::prelude::*;
use gst::subclass::prelude::*;
use sora_engine_api::Generation;
use sora_gst::provenance;

use super::cues::Now;
use super::imp::{CAT, SoraGen, State, frame_rate};
use super::settings::{Opening, Wished, Wishes};
use super::timing::time_of_frame;
use super::{record, tags};

impl SoraGen {
    /// What the video begins with and leads to.
    pub(super) fn opening(&self) -> Opening {
        self.model_and(|_, run| run.map(|run| run.plan.opening.clone())).flatten().unwrap_or_default()
    }

    /// Frames per second.
    pub(super) fn rate(&self) -> Option<gst::Fraction> {
        self.model_and(|model, run| frame_rate(model, run.and_then(|run| run.output.as_ref())))
    }

    /// What the block that begins with this frame is to be; `None` when the element has stopped.
    pub(super) fn wishes(&self, frame: u64) -> Option<Wished> {
        let settings = self.settings();
        let state = self.state();
        let (model, run) = (state.model.as_ref()?, state.run.as_ref()?);
        let mut wishes = settings.wishes(&model.native);
        let Some(text) = &state.text else { return Some(Wished::Block(wishes)) };
        if !text.cues.has_begun() && !settings.is_live {
            return Some(Wished::NotYet);
        }
        let time = time_of_frame(frame, frame_rate(model, run.output.as_ref()));
        match text.cues.at(time.into()) {
            Now::Over => return Some(Wished::End),
            Now::Prompt(prompt) => prompt.clone_into(&mut wishes.prompt),
            Now::Nothing => {}
        }
        Some(Wished::Block(wishes))
    }

    /// Blocks that wait were made by other wishes. Only of a clip without an end: others stay what they began as.
    pub(super) fn drop_outdated_blocks(&self) {
        let job = {
            let state = self.state();
            let run = state.run.as_ref().filter(|run| run.plan.num_frames == 0 && run.size.is_some());
            run.map(|run| run.clip.job.clone())
        };
        let dropped = job.map_or(0, |job| job.drop_waiting());
        if dropped > 0 {
            gst::debug!(CAT, imp = self, "{dropped} blocks of before the change are dropped");
            self.update_stats(|stats| stats.outdated_blocks += dropped as u64);
        }
    }

    /// A block by other wishes begins: what is told of the stream follows.
    pub(super) fn wishes_changed(&self, wishes: &Wishes) {
        gst::info!(CAT, imp = self, "from the next block on: {wishes:?}");
        let generation = {
            let mut state = self.state();
            let generation = state.run.as_mut().and_then(|run| run.generation.as_mut());
            let Some(generation) = generation else { return };
            generation.prompt.clone_from(&wishes.prompt);
            generation.negative_prompt.clone_from(&wishes.negative_prompt);
            generation.guidance_scale = wishes.guidance_scale;
            generation.clone()
        };
        self.update_stats(|stats| stats.prompt_used = Some(wishes.prompt.clone()));
        self.tell_record(&generation);
    }

    pub(super) fn prompt_used(&self) -> Option<String> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).prompt_used.clone()
    }

    pub(super) fn send_tags(&self, generation: &Generation, enhanced: Option<&str>) {
        let name = self.model_and(|model, _| model.name.clone()).unwrap_or_default();
        let tags = tags::of_clip(&name, generation, enhanced, self.settings().prompt_policy());
        self.parent_send_event(gst::event::Tag::new(tags));
    }

    /// Publishes how the clip is made, before its first frame leaves.
    pub(super) fn tell_record(&self, generation: &Generation) {
        let policy = self.settings().prompt_policy();
        let told = {
            let mut state = self.state();
            let State { model: Some(model), run: Some(run), .. } = &mut *state else { return };
            let rate = frame_rate(model, run.output.as_ref());
            run.provenance = record::of_clip(model.recorded(), generation, rate, policy, &run.plan.opening);
            run.provenance.origin = Some(self.obj().path_string().into());
            run.provenance.clone()
        };
        provenance::publish(self.obj().upcast_ref(), &told);
    }
}
