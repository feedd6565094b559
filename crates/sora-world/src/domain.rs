//! Which scenes may be sampled.

use crate::attributes::{Camera, Colour, Ground, Motion, Sky, Style, Subject, Weather};

/// The values each attribute is drawn from, uniformly. Repeating a value makes it likelier; an empty list
/// stands for the first value of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// Subjects.
    pub subjects: Vec<Subject>,
    /// Colours of the subject.
    pub colours: Vec<Colour>,
    /// Grounds.
    pub grounds: Vec<Ground>,
    /// Skies.
    pub skies: Vec<Sky>,
    /// Motions; one that a subject cannot do (a pyramid does not roll) is not drawn for it.
    pub motions: Vec<Motion>,
    /// Weathers.
    pub weathers: Vec<Weather>,
    /// Camera moves.
    pub cameras: Vec<Camera>,
    /// Styles.
    pub styles: Vec<Style>,
}

impl Domain {
    /// Everything there is.
    pub fn full() -> Self {
        Domain {
            subjects: Subject::ALL.to_vec(),
            colours: Colour::ALL.to_vec(),
            grounds: Ground::ALL.to_vec(),
            skies: Sky::ALL.to_vec(),
            motions: Motion::ALL.to_vec(),
            weathers: Weather::ALL.to_vec(),
            cameras: Camera::ALL.to_vec(),
            styles: Style::ALL.to_vec(),
        }
    }

    /// The small, clean domain a first model learns in an hour of CPU time: one large subject, a still
    /// camera, fair weather. Its renders never change (a test holds their hash).
    pub fn starter() -> Self {
        Domain {
            subjects: vec![Subject::Ball, Subject::Cube, Subject::Pyramid],
            colours: vec![
                Colour::Red,
                Colour::Green,
                Colour::Blue,
                Colour::Yellow,
                Colour::Orange,
                Colour::Purple,
                Colour::White,
                Colour::Black,
            ],
            grounds: vec![Ground::Grass, Ground::Sand, Ground::Snow, Ground::Sea, Ground::Checker],
            skies: vec![Sky::Clear, Sky::Sunset, Sky::Night],
            motions: vec![Motion::Bounces, Motion::Rolls, Motion::Spins, Motion::Falls, Motion::Slides],
            weathers: vec![Weather::Fair],
            cameras: vec![Camera::Still],
            styles: vec![Style::Shaded],
        }
    }
}
