//! What somebody would type who has this scene in mind.

use super::{above, article, drawn, falling, filmed, place, under, verb};
use crate::attributes::{Camera, Colour, Ground, Heading, Motion, Subject};
use crate::rng::Rng;
use crate::scene::Scene;

/// How a prompt puts what the subject does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// "a red ball rolls"
    Finite,
    /// "a red ball is rolling"
    Progressive,
    /// "a red ball rolling"
    Participle,
    /// "a rolling red ball"
    Adjective,
    /// "a red ball"
    Nothing,
}

impl Scene {
    /// A prompt for this scene, one of many: `variant` picks the wording and what is left out.
    ///
    /// All it says is true of the scene and is in its detailed caption. It always names the subject, a style
    /// other than shaded, a weather other than fair, and a companion with the motion that takes one. It may
    /// or may not name colour, size, motion, pace, heading, ground, sky and camera.
    pub fn prompt(&self, variant: u64) -> String {
        let mut rng = Rng::stream(self.seed ^ variant.wrapping_mul(0xd134_2543_de82_ef95), "prompt");
        let a = &self.attributes;
        let mut likely = |share: f32| rng.unit() < share;

        let size = if likely(0.15) { self.size_word() } else { "" };
        let colour = likely(0.8).then_some(a.colour);
        let heading = if likely(0.6) { a.heading } else { Heading::Still };
        let object = self.object(heading, likely(0.6));
        let manner = if likely(0.2) { self.manner() } else { "" };
        let named = a.companion.is_some() || likely(0.75);
        let at_all = likely(0.7);
        let in_front = likely(0.1);
        let with_article = likely(0.85);
        let sky = if likely(0.3) { under(a.sky) } else { "" };
        let camera = likely(if a.camera == Camera::Still { 0.15 } else { 0.6 });
        let style_first = likely(0.7);
        let sentence = (likely(0.3), likely(0.3));
        let form = self.form(named, !object.is_empty() || !manner.is_empty(), &mut rng);

        let noun = self.named(size, colour, a.subject);
        let (finite, participle) = verb(a.subject, a.motion);
        let leaving = object.replace("leaves", "leaving");
        let does = match form {
            Form::Finite => format!(" {finite}{manner}{object}"),
            Form::Progressive => format!(" is {participle}{manner}{leaving}"),
            Form::Participle => format!(" {participle}{manner}{leaving}"),
            Form::Adjective | Form::Nothing => String::new(),
        };
        let noun = if form == Form::Adjective { format!("{participle} {noun}") } else { noun };
        let noun = if with_article { article(&noun) } else { noun };
        let (at, at_short) = if self.plan.flies() { above(a.ground) } else { place(a.ground) };
        let at = match (at_all, with_article) {
            (false, _) => String::new(),
            // People say both.
            (true, _) if a.ground == Ground::Snow && sentence.0 => at.replace("in the snow", "on the snow"),
            (true, true) => at.to_owned(),
            (true, false) => at_short.to_owned(),
        };

        let (before, after, _) = drawn(a.style);
        let first = style_first && !matches!(form, Form::Finite | Form::Progressive);
        let mut text = if first { before.to_owned() } else { String::new() };
        if at.is_empty() {
            text += &format!("{noun}{does}");
        } else if in_front && !first {
            text += &format!("{at}, {noun}{does}");
        } else {
            text += &format!("{noun}{does} {at}");
        }
        text += falling(a.weather);
        text += sky;
        if camera {
            text += ", ";
            text += filmed(a.camera);
        }
        if !first {
            text += after;
        }
        finished(text, sentence)
    }

    fn form(&self, named: bool, has_more: bool, rng: &mut Rng) -> Form {
        match (named, rng.below(10)) {
            (false, _) => Form::Nothing,
            (true, 0..=3) => Form::Finite,
            (true, 4 | 5) => Form::Progressive,
            (true, 6) if !has_more => Form::Adjective,
            (true, _) => Form::Participle,
        }
    }

    /// The subject with what is said of it.
    fn named(&self, size: &str, colour: Option<Colour>, subject: Subject) -> String {
        match colour {
            Some(colour) => self.noun(size, self.attributes.texture, colour, subject),
            None => {
                let said = self.noun(size, self.attributes.texture, self.attributes.colour, subject);
                // Without its colour, where the style shows one.
                said.replace(&format!("{} ", self.attributes.colour.name()), "")
            }
        }
    }

    /// How the subject moves, where that is plain to see.
    fn manner(&self) -> &'static str {
        match self.attributes.motion {
            Motion::Bounces if self.plan.vigour > 0.5 => " high",
            Motion::Bounces => " low",
            _ => self.pace(),
        }
    }
}

/// With a capital and a full stop, as asked.
fn finished(mut text: String, (capital, full_stop): (bool, bool)) -> String {
    if capital && let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if full_stop {
        text.push('.');
    }
    text
}
