//! What one would say about a scene.

mod prompt;

use crate::attributes::{Camera, Colour, Ground, Heading, Motion, Sky, Style, Subject, Texture, Weather};
use crate::rng::Rng;
use crate::scene::{Scene, scale_of};

/// "a" or "an" and the word.
fn article(word: &str) -> String {
    let an = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if an { "an" } else { "a" })
}

/// Present tense and participle of what `subject` does in `motion`.
fn verb(subject: Subject, motion: Motion) -> (&'static str, &'static str) {
    match (motion, subject) {
        (Motion::Bounces, _) => ("bounces", "bouncing"),
        (Motion::Rolls, _) => ("rolls", "rolling"),
        (Motion::Spins, _) => ("spins", "spinning"),
        (Motion::Falls, _) => ("falls", "falling"),
        (Motion::Slides | Motion::LeavesTrail, Subject::Car) => ("drives", "driving"),
        (Motion::Slides, Subject::Boat) => ("sails", "sailing"),
        (Motion::Slides | Motion::Floats, Subject::Kite) => ("flies", "flying"),
        (Motion::LeavesTrail, Subject::Ball) => ("rolls", "rolling"),
        (Motion::Slides | Motion::LeavesTrail, _) => ("slides", "sliding"),
        (Motion::Floats, _) => ("floats", "floating"),
        (Motion::Orbits, _) => ("orbits", "orbiting"),
        (Motion::Collides, _) => ("collides with", "colliding with"),
        (Motion::PassesBehind, _) => ("passes behind", "passing behind"),
        (Motion::Stands, _) => ("stands", "standing"),
    }
}

/// The ground under what flies, with and without its article.
fn above(ground: Ground) -> (&'static str, &'static str) {
    match ground {
        Ground::Grass => ("above the grass", "above grass"),
        Ground::Sand => ("above the sand", "above sand"),
        Ground::Snow => ("above the snow", "above snow"),
        Ground::Sea => ("above the sea", "above sea"),
        Ground::Checker => ("above a checker floor", "above checker floor"),
        Ground::Room => ("in a room", "in room"),
        Ground::Canvas => ("above a white canvas", "above white canvas"),
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
        Ground::Room => ("in a room", "in room"),
        Ground::Canvas => ("on a white canvas", "on white canvas"),
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

/// When and under what sky, for a short caption.
fn under(sky: Sky) -> &'static str {
    match sky {
        Sky::Clear => " on a clear day",
        Sky::Sunset => " at sunset",
        Sky::Night => " at night",
        Sky::Storm => " under a stormy sky",
        Sky::Cloudy => " under a cloudy sky",
    }
}

fn falling(weather: Weather) -> &'static str {
    match weather {
        Weather::Fair => "",
        Weather::Rain => " in the rain",
        Weather::Snowfall => " while it snows",
        Weather::Fog => " in the fog",
    }
}

fn filmed(camera: Camera) -> &'static str {
    match camera {
        Camera::Still => "the camera stays still",
        Camera::PanLeft => "the camera pans to the left",
        Camera::PanRight => "the camera pans to the right",
        Camera::Orbit => "the camera circles around",
        Camera::DollyIn => "the camera moves closer",
        Camera::DollyOut => "the camera moves away",
        Camera::Walk => "seen on a first person walk",
    }
}

/// A style before the thing it shows, after it, and in a detailed caption.
fn drawn(style: Style) -> (&'static str, &'static str, &'static str) {
    match style {
        Style::Shaded => ("", "", "a clean 3d rendering"),
        Style::Watercolour => {
            ("a watercolour painting of ", ", watercolour", "a soft watercolour painting on paper")
        }
        Style::Pencil => ("a pencil sketch of ", ", pencil sketch", "a pencil sketch with hatched shading"),
        Style::PixelArt => ("pixel art of ", ", pixel art", "retro pixel art with large pixels"),
        Style::Neon => ("a neon drawing of ", ", neon", "glowing neon lines in the dark"),
        Style::Blueprint => ("a blueprint of ", ", blueprint", "a blueprint with white lines on blue paper"),
        Style::Sepia => ("a sepia picture of ", ", sepia", "an old sepia photograph"),
        Style::Cartoon => ("a cartoon of ", ", cartoon", "a cartoon with black outlines and flat colours"),
    }
}

impl Style {
    /// What somebody would ask for who wants a picture in this style: in few words, as a thing, and in detail.
    pub fn phrases(self) -> [&'static str; 3] {
        let (before, after, detailed) = drawn(self);
        match self {
            Style::Shaded => ["3d rendering", "a 3d rendering", detailed],
            _ => [after.trim_start_matches(", "), before.trim_end_matches(" of "), detailed],
        }
    }
}

impl Scene {
    fn noun(&self, size: &str, texture: Texture, colour: Colour, subject: Subject) -> String {
        let mut words = Vec::new();
        if !size.is_empty() {
            words.push(size);
        }
        if texture != Texture::Plain {
            words.push(texture.name());
        }
        // What cannot be seen is not said.
        if self.attributes.style.shows_colour() {
            words.push(colour.name());
        }
        words.push(subject.name());
        words.join(" ")
    }

    /// What the verb is about: the companion, and where the motion goes.
    fn object(&self, heading: Heading, long: bool) -> String {
        let a = &self.attributes;
        let to = whereto(heading, long);
        match a.companion {
            Some(other) => {
                let thing = article(&self.noun("", Texture::Plain, other.colour, other.subject));
                if a.motion == Motion::PassesBehind { format!(" {thing}{to}") } else { format!(" {thing}") }
            }
            None if a.motion == Motion::LeavesTrail => format!("{to} and leaves a trail"),
            None => to.to_string(),
        }
    }

    /// A few words: "a red ball bounces on the grass". The wording varies with the seed.
    ///
    /// Subject, motion, ground and, unless the style hides it, colour are always named, a style other than
    /// shaded and a weather other than fair too.
    pub fn caption(&self) -> String {
        let mut rng = Rng::stream(self.seed, "caption");
        let a = &self.attributes;
        let noun = self.noun("", a.texture, a.colour, a.subject);
        let (finite, participle) = verb(a.subject, a.motion);
        let (at, at_short) = if self.plan.flies() { above(a.ground) } else { place(a.ground) };
        let to = self.object(a.heading, rng.unit() < 0.6);
        let wording = rng.below(20);
        let (style, after, _) = drawn(a.style);
        let tail = self.tail(&mut rng);
        let leaving = to.replace("leaves", "leaving");
        if !style.is_empty() && rng.unit() < 0.7 {
            return format!("{style}{} {participle}{leaving} {at}{tail}", article(&noun));
        }
        let sentence = match wording {
            0..=10 => format!("{} {finite}{to} {at}{tail}", article(&noun)),
            11..=14 => format!("{} is {participle}{leaving} {at}{tail}", article(&noun)),
            15..=17 => format!("{noun} {participle}{leaving} {at_short}{tail}"),
            _ => format!("{at}, {} {finite}{to}{tail}", article(&noun)),
        };
        sentence + after
    }

    /// Weather, sky and camera of a short caption.
    fn tail(&self, rng: &mut Rng) -> String {
        let a = &self.attributes;
        let mut tail = falling(a.weather).to_string();
        if self.wordy {
            if rng.unit() < if a.sky == Sky::Clear { 0.3 } else { 0.75 } {
                tail += under(a.sky);
            }
            if a.camera != Camera::Still && rng.unit() < 0.75 {
                tail += ", ";
                tail += filmed(a.camera);
            }
        }
        tail
    }

    /// One or two sentences that also tell the size, the sky, the light, the camera and the style.
    pub fn detailed_caption(&self) -> String {
        let mut rng = Rng::stream(self.seed, "detailed caption");
        let a = &self.attributes;
        let noun = article(&self.noun(self.size_word(), a.texture, a.colour, a.subject));
        let to = self.object(a.heading, true);
        let first =
            format!("{noun} {}{}{to} {}{}", self.action(), self.pace(), self.land(), self.sky(&mut rng));
        let (_, _, style) = drawn(a.style);
        format!("{first}{}. {}, {}, {style}.", falling(a.weather), self.light(), filmed(a.camera))
    }

    fn size_word(&self) -> &'static str {
        let drawn_size = self.plan.size / scale_of(self.attributes.motion);
        if drawn_size > 1.01 { "large" } else { "small" }
    }

    fn action(&self) -> &'static str {
        let a = &self.attributes;
        match (a.motion, a.heading) {
            (Motion::Bounces, _) if self.plan.vigour > 0.5 => "bounces high",
            (Motion::Bounces, _) => "bounces low",
            (Motion::Spins, _) => "spins in place",
            (Motion::Falls, _) => "falls from above and comes to rest",
            (Motion::Collides, Heading::Left) => "moves to the left and collides with",
            (Motion::Collides, _) => "moves to the right and collides with",
            _ => verb(a.subject, a.motion).0,
        }
    }

    fn pace(&self) -> &'static str {
        if !self.wordy || !self.attributes.motion.has_pace() {
            return "";
        }
        if self.plan.vigour > 0.5 { " quickly" } else { " slowly" }
    }

    fn land(&self) -> &'static str {
        if self.plan.flies() {
            return match self.attributes.ground {
                Ground::Grass => "above the grass of a wide green meadow",
                Ground::Sand => "above the sand of a wide desert",
                Ground::Snow => "above the snow of a white plain",
                Ground::Sea => "above the gentle waves of the sea",
                Ground::Checker => "above a checker floor of light and dark tiles",
                Ground::Room => "in a room with a wooden floor and a window",
                Ground::Canvas => "above a white canvas",
            };
        }
        match self.attributes.ground {
            Ground::Grass => "on the grass of a wide green meadow",
            Ground::Sand => "on the sand of a wide desert",
            Ground::Snow => "in the snow of a white plain",
            Ground::Sea => "on the sea with gentle waves",
            Ground::Checker => "on a checker floor of light and dark tiles",
            Ground::Room => "in a room with a wooden floor and a window",
            Ground::Canvas => "on a white canvas",
        }
    }

    fn sky(&self, rng: &mut Rng) -> &'static str {
        let options = match self.attributes.sky {
            Sky::Clear => [" under a clear blue sky", " on a clear day"],
            Sky::Sunset => [" under an orange sunset sky", " at sunset"],
            Sky::Night => [" under a night sky with stars", " at night"],
            Sky::Storm => [" under a dark stormy sky", " before a storm"],
            Sky::Cloudy => [" under a cloudy sky", " on a cloudy day"],
        };
        // Nobody stands under the sky in a room.
        let pick = rng.below(2);
        options[if self.attributes.ground == Ground::Room { 1 } else { pick }]
    }

    fn light(&self) -> String {
        let side = if self.setting.light_side < 0.0 { "left" } else { "right" };
        let light = match self.attributes.sky {
            Sky::Night | Sky::Storm if self.attributes.ground == Ground::Room => "the warm light of a lamp",
            Sky::Clear => "bright sunlight",
            Sky::Sunset => "warm low light",
            Sky::Night => "pale moonlight",
            Sky::Storm => "dim grey light",
            Sky::Cloudy => "soft daylight",
        };
        format!("{light} comes from the {side}")
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
