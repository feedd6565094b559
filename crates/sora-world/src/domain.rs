//! Which scenes may be sampled, and what cannot be together.

use crate::attributes::{Camera, Colour, Ground, Motion, Sky, Style, Subject, Texture, Weather};

/// The values each attribute is drawn from, uniformly. Repeating a value makes it likelier; an empty list
/// stands for every value of its kind.
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
    /// Patterns on the subject.
    pub textures: Vec<Texture>,
    /// Whether short captions may also name sky and camera ("... at night, the camera pans to the left"), and
    /// detailed ones the pace ("rolls quickly").
    pub wordy_captions: bool,
}

impl Domain {
    /// Everything there is. Fair weather, a still camera, the shaded style and plain subjects each have half
    /// of the scenes, whatever the others have.
    pub fn full() -> Self {
        /// `first` as often as all the others together.
        fn mostly<T: Copy + PartialEq>(first: T, all: &[T]) -> Vec<T> {
            let others = all.iter().copied().filter(|&value| value != first);
            std::iter::repeat_n(first, all.len() - 1).chain(others).collect()
        }
        Domain {
            subjects: Subject::ALL.to_vec(),
            colours: Colour::ALL.to_vec(),
            grounds: Ground::ALL.to_vec(),
            skies: Sky::ALL.to_vec(),
            motions: Motion::ALL.to_vec(),
            weathers: mostly(Weather::Fair, Weather::ALL),
            cameras: mostly(Camera::Still, Camera::ALL),
            styles: mostly(Style::Shaded, Style::ALL),
            textures: mostly(Texture::Plain, Texture::ALL),
            wordy_captions: true,
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
            textures: vec![Texture::Plain],
            wordy_captions: false,
        }
    }

    /// What a model of some ten million parameters can learn, and all that the studies measure: six subjects
    /// (solids twice as often as car, boat and tree), four styles (shaded as often as the other three
    /// together), cameras that stand still or, one time in five, circle around; among the motions passing
    /// behind something and leaving a trail. Its renders never change (a test holds their hash).
    pub fn core() -> Self {
        use Motion::{Bounces, Falls, Floats, LeavesTrail, PassesBehind, Rolls, Slides, Spins, Stands};
        use Subject::{Ball, Boat, Car, Cube, Pyramid, Tree};
        Domain {
            subjects: vec![Ball, Ball, Cube, Cube, Pyramid, Pyramid, Car, Boat, Tree],
            skies: vec![Sky::Clear, Sky::Clear, Sky::Sunset, Sky::Night],
            motions: vec![Bounces, Rolls, Spins, Falls, Slides, Floats, PassesBehind, LeavesTrail, Stands],
            cameras: vec![Camera::Still, Camera::Still, Camera::Still, Camera::Still, Camera::Orbit],
            styles: vec![
                Style::Shaded,
                Style::Shaded,
                Style::Shaded,
                Style::Pencil,
                Style::Neon,
                Style::Sepia,
            ],
            wordy_captions: true,
            ..Domain::starter()
        }
    }

    pub(crate) fn any_ground(&self, admits: impl Fn(Ground) -> bool) -> bool {
        or_all(&self.grounds, Ground::ALL).iter().any(|&ground| admits(ground))
    }

    pub(crate) fn any_camera(&self, admits: impl Fn(Camera) -> bool) -> bool {
        or_all(&self.cameras, Camera::ALL).iter().any(|&camera| admits(camera))
    }

    /// Whether `subject` has something to do on `ground` before `camera`.
    pub(crate) fn any_motion(&self, subject: Subject, ground: Ground, camera: Camera) -> bool {
        let mut motions = or_all(&self.motions, Motion::ALL).iter();
        motions.any(|&m| able_to(subject, m) && possible_on(m, ground) && suits(m, camera))
    }

    /// Keeps, of the attribute that has a value called `name`, only that value (after "snow", all scenes are on
    /// snow). Gives false, and changes nothing, where no attribute does.
    pub fn restrict(&mut self, name: &str) -> bool {
        fn keep<T>(list: &mut Vec<T>, value: Option<T>) -> bool {
            let found = value.is_some();
            if let Some(value) = value {
                *list = vec![value];
            }
            found
        }
        let Domain {
            subjects, colours, grounds, skies, motions, weathers, cameras, styles, textures, ..
        } = self;
        keep(subjects, Subject::from_name(name))
            || keep(colours, Colour::from_name(name))
            || keep(grounds, Ground::from_name(name))
            || keep(skies, Sky::from_name(name))
            || keep(motions, Motion::from_name(name))
            || keep(weathers, Weather::from_name(name))
            || keep(cameras, Camera::from_name(name))
            || keep(styles, Style::from_name(name))
            || keep(textures, Texture::from_name(name))
    }

    /// How many scenes differ in what their detailed captions say: every admitted combination of attributes,
    /// times the side of the light and the subject's size. Positions, angles and speeds vary beyond that.
    pub fn count(&self) -> u128 {
        let distinct = Distinct::of(self);
        let (coloured, others): (Vec<Style>, Vec<Style>) =
            distinct.styles.iter().partition(|style| style.shows_colour());
        // Styles that hide colours tell fewer scenes apart.
        let pictures = coloured.len() as u128 * distinct.combinations(distinct.colours)
            + others.len() as u128 * distinct.combinations(1);
        let (light_sides, sizes) = (2, 2);
        pictures * (distinct.skies * distinct.textures * light_sides * sizes) as u128
    }
}

/// An empty list stands for every value.
fn or_all<'a, T>(list: &'a [T], all: &'a [T]) -> &'a [T] {
    if list.is_empty() { all } else { list }
}

/// The values of a domain without repetitions.
struct Distinct {
    wordy: bool,
    subjects: Vec<Subject>,
    grounds: Vec<Ground>,
    cameras: Vec<Camera>,
    motions: Vec<Motion>,
    weathers: Vec<Weather>,
    colours: usize,
    skies: usize,
    styles: Vec<Style>,
    textures: usize,
}

impl Distinct {
    fn of(domain: &Domain) -> Distinct {
        fn once<T: Copy + PartialEq>(from: &[T], all: &[T]) -> Vec<T> {
            all.iter().copied().filter(|value| from.is_empty() || from.contains(value)).collect()
        }
        Distinct {
            wordy: domain.wordy_captions,
            subjects: once(&domain.subjects, Subject::ALL),
            grounds: once(&domain.grounds, Ground::ALL),
            cameras: once(&domain.cameras, Camera::ALL),
            motions: once(&domain.motions, Motion::ALL),
            weathers: once(&domain.weathers, Weather::ALL),
            colours: once(&domain.colours, Colour::ALL).len(),
            skies: once(&domain.skies, Sky::ALL).len(),
            styles: once(&domain.styles, Style::ALL),
            textures: once(&domain.textures, Texture::ALL).len(),
        }
    }

    /// Admitted combinations of subject, colour, ground, weather, camera and motion with its details, where
    /// `colours` can be told apart.
    fn combinations(&self, colours: usize) -> u128 {
        let mut combinations = 0;
        for &subject in &self.subjects {
            for &ground in self.grounds.iter().filter(|&&g| able_on(subject, g)) {
                let weathers = self.weathers.iter().filter(|&&w| possible_under(w, ground)).count();
                for &camera in self.cameras.iter().filter(|&&c| able_in(subject, ground, c)) {
                    let able =
                        |m: &&Motion| able_to(subject, **m) && possible_on(**m, ground) && suits(**m, camera);
                    let ways: usize = self.motions.iter().filter(able).map(|&m| self.ways(m, colours)).sum();
                    combinations += (ways * weathers * colours) as u128;
                }
            }
        }
        combinations
    }

    /// In how many ways a motion shows: headings, companions and their colours, high and low bounces,
    /// quick and slow ways.
    fn ways(&self, motion: Motion, colours: usize) -> usize {
        let headings = if motion.has_heading() { 2 } else { 1 };
        let paces = if motion == Motion::Bounces || (self.wordy && motion.has_pace()) { 2 } else { 1 };
        let companions = if motion.has_companion() {
            // A companion has another colour than the subject.
            companions(motion, &self.subjects).len() * (colours - 1).max(1)
        } else {
            1
        };
        headings * paces * companions
    }
}

/// What a subject may meet in `motion`: those of `subjects` that can be met, or whatever can where none can.
pub(crate) fn companions(motion: Motion, subjects: &[Subject]) -> Vec<Subject> {
    // Something must be wide and straight to hide what passes behind it.
    let fits = |c: &Subject| motion != Motion::PassesBehind || matches!(c, Subject::Cube | Subject::Cylinder);
    let candidates: Vec<Subject> = COMPANIONS.iter().copied().filter(fits).collect();
    let known: Vec<Subject> = candidates.iter().copied().filter(|c| subjects.contains(c)).collect();
    if known.is_empty() { candidates } else { known }
}

/// What a subject may meet.
const COMPANIONS: &[Subject] =
    &[Subject::Ball, Subject::Cube, Subject::Pyramid, Subject::Cone, Subject::Cylinder, Subject::Torus];

/// Plain solids do what plain solids do; the others know their trade.
fn is_solid(subject: Subject) -> bool {
    use Subject::{Ball, Cone, Cube, Cylinder, Pyramid, Torus};
    matches!(subject, Ball | Cube | Pyramid | Cone | Cylinder | Torus)
}

/// Whether `subject` can do `motion`.
pub(crate) fn able_to(subject: Subject, motion: Motion) -> bool {
    use Subject::{Ball, Boat, Car, Cube, Cylinder, Kite, Mushroom, Torus};
    let solid = is_solid(subject);
    match motion {
        Motion::Rolls => matches!(subject, Ball | Cube | Cylinder | Torus),
        Motion::Bounces => solid,
        Motion::Falls => solid || subject == Mushroom,
        Motion::Spins => solid || matches!(subject, Car | Kite),
        Motion::Slides => solid || matches!(subject, Car | Boat | Kite),
        Motion::Floats => solid || matches!(subject, Boat | Kite),
        Motion::Orbits | Motion::PassesBehind => solid || matches!(subject, Car | Boat),
        Motion::Collides => solid || subject == Car,
        Motion::LeavesTrail => (solid && subject != Torus) || subject == Car,
        Motion::Stands => !matches!(subject, Kite | Boat),
    }
}

/// Whether `subject` is found on `ground`.
pub(crate) fn able_on(subject: Subject, ground: Ground) -> bool {
    use Subject::{Boat, Car, House, Kite, Mushroom, Tree};
    match ground {
        Ground::Sea => !matches!(subject, Car | Tree | House | Mushroom),
        Ground::Room => !matches!(subject, Boat | Tree | House | Kite),
        _ => subject != Boat,
    }
}

/// Whether `camera` works around `subject` on `ground`: nobody walks on water or through walls.
pub(crate) fn able_in(subject: Subject, ground: Ground, camera: Camera) -> bool {
    match camera {
        Camera::Walk => !matches!(ground, Ground::Sea | Ground::Room) && subject != Subject::Boat,
        Camera::Orbit => ground != Ground::Room,
        _ => true,
    }
}

/// Whether `motion` is possible on `ground`.
pub(crate) fn possible_on(motion: Motion, ground: Ground) -> bool {
    !(ground == Ground::Sea && matches!(motion, Motion::LeavesTrail | Motion::Stands))
}

/// Whether `weather` happens over `ground`.
pub(crate) fn possible_under(weather: Weather, ground: Ground) -> bool {
    weather == Weather::Fair || ground != Ground::Room
}

/// Whether `motion` stays where `camera` can see it.
pub(crate) fn suits(motion: Motion, camera: Camera) -> bool {
    camera != Camera::Walk
        || matches!(motion, Motion::Stands | Motion::Spins | Motion::Bounces | Motion::Floats)
}
