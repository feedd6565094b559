//! What one would say about a scene.

use crate::attributes::{Attributes, Ground, Heading, Motion, Sky};
use crate::rng::Rng;
use crate::scene::Scene;

/// "a" or "an" and the word.
fn article(word: &str) -> String {
    let an = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if an { "an" } else { "a" })
}

/// Present tense and participle.
fn verb(motion: Motion) -> (&'static str, &'static str) {
    match motion {
        Motion::Bounces => ("bounces", "bouncing"),
        Motion::Rolls => ("rolls", "rolling"),
        Motion::Spins => ("spins", "spinning"),
        Motion::Falls => ("falls", "falling"),
        Motion::Slides => ("slides", "sliding"),
        _ => ("stands", "standing"),
    }
}

/// The ground with and without its article.
fn place(ground: Ground) -> (&'static str, &'static str) {
    match ground {
        Ground::Grass => ("on the grass", "on grass"),
        Ground::Sand => ("on the sand", "on sand"),
        Ground::Snow => ("in the snow", "in snow"),
        Ground::Sea => ("on the sea", "on sea"),
        Ground::Checker => ("on a checker floor", "on checker floor"),
        _ => ("on the floor", "on floor"),
    }
}

fn whereto(heading: Heading, long: bool) -> &'static str {
    match (heading, long) {
        (Heading::Still, _) => "",
        (Heading::Left, true) => " to the left",
        (Heading::Left, false) => " left",
        (Heading::Right, true) => " to the right",
        (Heading::Right, false) => " right",
    }
}

impl Scene {
    /// A few words: "a red ball bounces on the grass". The wording varies with the seed.
    pub fn caption(&self) -> String {
        let mut rng = Rng::stream(self.seed, "caption");
        let a = &self.attributes;
        let noun = format!("{} {}", a.colour, a.subject);
        let (finite, participle) = verb(a.motion);
        let (at, at_short) = place(a.ground);
        let to = whereto(a.heading, rng.unit() < 0.6);
        match rng.below(20) {
            0..=10 => format!("{} {finite}{to} {at}", article(&noun)),
            11..=14 => format!("{} is {participle}{to} {at}", article(&noun)),
            15..=17 => format!("{noun} {participle}{to} {at_short}"),
            _ => format!("{at}, {} {finite}{to}", article(&noun)),
        }
    }

    /// One or two sentences that also tell the sky, the light, the camera and the style.
    pub fn detailed_caption(&self) -> String {
        let mut rng = Rng::stream(self.seed, "detailed caption");
        let a = &self.attributes;
        let size = if self.plan.size > 1.01 { "large" } else { "small" };
        let noun = article(&format!("{size} {} {}", a.colour, a.subject));
        let to = whereto(a.heading, true);
        let first = format!("{noun} {}{to} {}{}", self.action(), self.land(), self.under(&mut rng));
        format!("{first}. {}, {}.", self.light(), self.drawn())
    }

    fn action(&self) -> String {
        let a: &Attributes = &self.attributes;
        let how = match a.motion {
            Motion::Bounces if self.plan.vigour > 0.5 => "bounces high",
            Motion::Bounces => "bounces low",
            Motion::Rolls => "rolls",
            Motion::Spins => "spins in place",
            Motion::Falls => "falls from above and comes to rest",
            Motion::Slides => "slides",
            _ => "stands",
        };
        how.to_string()
    }

    fn land(&self) -> &'static str {
        match self.attributes.ground {
            Ground::Grass => "on the grass of a wide green meadow",
            Ground::Sand => "on the sand of a wide desert",
            Ground::Snow => "in the snow of a white plain",
            Ground::Sea => "on the sea with gentle waves",
            Ground::Checker => "on a checker floor of light and dark tiles",
            _ => "on the floor",
        }
    }

    fn under(&self, rng: &mut Rng) -> &'static str {
        let options = match self.attributes.sky {
            Sky::Clear => [" under a clear blue sky", " on a clear day"],
            Sky::Sunset => [" under an orange sunset sky", " at sunset"],
            Sky::Night => [" under a night sky with stars", " at night"],
            _ => ["", ""],
        };
        options[rng.below(2)]
    }

    fn light(&self) -> String {
        let side = if self.setting.light_side < 0.0 { "left" } else { "right" };
        match self.attributes.sky {
            Sky::Clear => format!("bright sunlight comes from the {side}"),
            Sky::Sunset => format!("warm low light comes from the {side}"),
            Sky::Night => format!("pale moonlight comes from the {side}"),
            _ => format!("light comes from the {side}"),
        }
    }

    fn drawn(&self) -> &'static str {
        "the camera stays still, a clean 3d rendering"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_the_sound() {
        assert_eq!(article("orange cube"), "an orange cube");
        assert_eq!(article("red ball"), "a red ball");
    }
}
