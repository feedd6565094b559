//! What a probe is asked about a clip, and when the question has an answer.

use sora_world::{Attributes, Camera, Colour, Ground, Heading, Motion, Sky, Style, Subject};

/// One attribute of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Question {
    /// What the clip is about.
    Subject,
    /// Its colour.
    Colour,
    /// What it stands on.
    Ground,
    /// Light and sky.
    Sky,
    /// How the picture is drawn.
    Style,
    /// What the subject does.
    Motion,
    /// Whereto on the screen.
    Heading,
    /// What the camera does.
    Camera,
    /// The colour of the second object.
    Companion,
}

impl Question {
    /// All of them, in the order of label columns; new ones are appended.
    pub(crate) const ALL: [Self; 9] = [
        Self::Subject,
        Self::Colour,
        Self::Ground,
        Self::Sky,
        Self::Style,
        Self::Motion,
        Self::Heading,
        Self::Camera,
        Self::Companion,
    ];

    /// The key of its head, and its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Colour => "colour",
            Self::Ground => "ground",
            Self::Sky => "sky",
            Self::Style => "style",
            Self::Motion => "motion",
            Self::Heading => "heading",
            Self::Camera => "camera",
            Self::Companion => "companion colour",
        }
    }

    /// Number of possible answers: the whole vocabulary, whatever the domain.
    pub(crate) fn classes(self) -> i64 {
        (match self {
            Self::Subject => Subject::ALL.len(),
            Self::Colour | Self::Companion => Colour::ALL.len(),
            Self::Ground => Ground::ALL.len(),
            Self::Sky => Sky::ALL.len(),
            Self::Style => Style::ALL.len(),
            Self::Motion => Motion::ALL.len(),
            Self::Heading => Heading::ALL.len(),
            Self::Camera => Camera::ALL.len(),
        }) as i64
    }

    /// The word for an answer.
    pub(crate) fn word(self, class: usize) -> &'static str {
        match self {
            Self::Subject => Subject::ALL[class].name(),
            Self::Colour | Self::Companion => Colour::ALL[class].name(),
            Self::Ground => Ground::ALL[class].name(),
            Self::Sky => Sky::ALL[class].name(),
            Self::Style => Style::ALL[class].name(),
            Self::Motion => Motion::ALL[class].name(),
            Self::Heading => Heading::ALL[class].name(),
            Self::Camera => Camera::ALL[class].name(),
        }
    }

    /// The true answer for a scene, or none where the picture cannot show it: colours in a style without
    /// colours, the colour of a second object where there is none.
    pub(crate) fn answer(self, a: &Attributes) -> Option<usize> {
        match self {
            Self::Subject => Some(a.subject.index()),
            Self::Colour => a.style.shows_colour().then(|| a.colour.index()),
            Self::Ground => Some(a.ground.index()),
            Self::Sky => Some(a.sky.index()),
            Self::Style => Some(a.style.index()),
            Self::Motion => Some(a.motion.index()),
            Self::Heading => Some(a.heading.index()),
            Self::Camera => Some(a.camera.index()),
            Self::Companion => {
                a.companion.filter(|_| a.style.shows_colour()).map(|companion| companion.colour.index())
            }
        }
    }

    /// The answer for frames from `start` on. A subject that fell lies still later, and one that passes
    /// behind another comes back: these answers hold at the beginning only.
    pub(crate) fn answer_from(self, a: &Attributes, start: usize) -> Option<usize> {
        let over = match self {
            Self::Motion => a.motion == Motion::Falls,
            Self::Heading => a.motion == Motion::PassesBehind,
            _ => false,
        };
        if start > 0 && over { None } else { self.answer(a) }
    }

    /// Whether `caption`, which was made for these attributes, says it. Subject, motion and ground are always
    /// named.
    pub(crate) fn is_named(self, a: &Attributes, caption: &str) -> bool {
        let says = |words: &str| caption.contains(words);
        match self {
            Self::Subject | Self::Ground | Self::Motion => true,
            Self::Colour | Self::Companion => self.answer(a).is_some(),
            Self::Style => says(a.style.name()),
            Self::Heading => a.motion.has_heading(),
            Self::Camera => says("camera") || says("first person"),
            Self::Sky => says(match a.sky {
                Sky::Clear => "on a clear day",
                Sky::Sunset => "at sunset",
                Sky::Night => "at night",
                Sky::Storm => "stormy sky",
                _ => "cloudy sky",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use sora_world::{Domain, Scene};

    use super::*;

    #[test]
    fn what_a_caption_names_has_an_answer_and_what_it_hides_has_none() {
        let domain = Domain::core();
        let mut named = [0; Question::ALL.len()];
        for seed in 0..500 {
            let scene = Scene::sample(seed, &domain);
            let (a, caption) = (scene.attributes(), scene.caption());
            for (count, question) in named.iter_mut().zip(Question::ALL) {
                if question.is_named(a, &caption) {
                    let class = question.answer(a).expect("an answer");
                    assert!((class as i64) < question.classes());
                    *count += 1;
                    // Words stand in the caption as they are, but for verbs and the open-ended.
                    if matches!(question, Question::Subject | Question::Colour | Question::Companion) {
                        assert!(caption.contains(question.word(class)), "{question:?}: {caption}");
                    }
                }
            }
            if a.style == Style::Sepia {
                assert_eq!(Question::Colour.answer(a), None);
            }
            if a.style == Style::Shaded {
                assert!(!Question::Style.is_named(a, &caption), "{caption}");
            }
        }
        assert!(named.iter().all(|&count| count > 0), "{named:?}");
    }

    #[test]
    fn a_fall_is_over_later() {
        let mut domain = Domain::core();
        assert!(domain.restrict("falls"));
        let scene = Scene::sample(1, &domain);
        assert!(Question::Motion.answer_from(scene.attributes(), 0).is_some());
        assert!(Question::Motion.answer_from(scene.attributes(), 16).is_none());
        assert!(Question::Subject.answer_from(scene.attributes(), 16).is_some());
    }
}
