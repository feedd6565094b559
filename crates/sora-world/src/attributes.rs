//! The words of the world: what a scene can show, each with the name captions use.

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $(#[doc = $text] $(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in a stable order: new values are appended, so an index stays valid.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The word (or words) captions use.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The value called `name`.
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| value.name() == name)
            }

            /// Position in [`Self::ALL`], the class index of a probe.
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

vocabulary! {
    /// What the scene is about.
    Subject {
        Ball => "ball",
        Cube => "cube",
        Pyramid => "pyramid",
        Cone => "cone",
        Cylinder => "cylinder",
        Torus => "torus",
        Boat => "boat",
        Kite => "kite",
        Car => "car",
        Tree => "tree",
        House => "house",
        Mushroom => "mushroom",
    }
}

vocabulary! {
    /// The colour of a subject.
    Colour {
        Red => "red",
        Green => "green",
        Blue => "blue",
        Yellow => "yellow",
        Orange => "orange",
        Purple => "purple",
        White => "white",
        Black => "black",
        Pink => "pink",
        Turquoise => "turquoise",
        Brown => "brown",
        Grey => "grey",
    }
}

vocabulary! {
    /// What the subject stands on.
    Ground {
        Grass => "grass",
        Sand => "sand",
        Snow => "snow",
        Sea => "sea",
        Checker => "checker floor",
        Room => "room",
        Canvas => "canvas",
    }
}

vocabulary! {
    /// The light of the scene and what hangs above the horizon.
    Sky {
        Clear => "clear",
        Sunset => "sunset",
        Night => "night",
        Storm => "storm",
        Cloudy => "cloudy",
    }
}

vocabulary! {
    /// What the subject does.
    Motion {
        Bounces => "bounces",
        Rolls => "rolls",
        Spins => "spins",
        Falls => "falls",
        Slides => "slides",
        Floats => "floats",
        Orbits => "orbits",
        Collides => "collides",
        PassesBehind => "passes behind",
        LeavesTrail => "leaves a trail",
        Stands => "stands",
    }
}

vocabulary! {
    /// The direction on the screen of a motion that has one.
    Heading {
        Still => "in place",
        Left => "to the left",
        Right => "to the right",
    }
}

vocabulary! {
    /// What the camera does.
    Camera {
        Still => "still",
        PanLeft => "pans left",
        PanRight => "pans right",
        Orbit => "circles around",
        DollyIn => "moves closer",
        DollyOut => "moves away",
        Walk => "first person walk",
    }
}

vocabulary! {
    /// How the picture is drawn.
    Style {
        Shaded => "shaded",
        Watercolour => "watercolour",
        Pencil => "pencil sketch",
        PixelArt => "pixel art",
        Neon => "neon",
        Blueprint => "blueprint",
        Sepia => "sepia",
        Cartoon => "cartoon",
    }
}

vocabulary! {
    /// What falls from, or hangs in, the air.
    Weather {
        Fair => "fair",
        Rain => "rain",
        Snowfall => "snowfall",
        Fog => "fog",
    }
}

vocabulary! {
    /// The pattern on the subject.
    Texture {
        Plain => "plain",
        Striped => "striped",
        Dotted => "dotted",
    }
}

impl Style {
    /// Whether the style shows in what colour things are. Captions of the others do not name colours.
    pub const fn shows_colour(self) -> bool {
        !matches!(self, Style::Blueprint | Style::Sepia)
    }
}

impl Motion {
    /// Whether it goes to the left or to the right.
    pub const fn has_heading(self) -> bool {
        matches!(
            self,
            Motion::Rolls | Motion::Slides | Motion::Collides | Motion::PassesBehind | Motion::LeavesTrail
        )
    }

    /// Whether it is plainly quick or slow.
    pub(crate) const fn has_pace(self) -> bool {
        matches!(self, Motion::Rolls | Motion::Slides | Motion::Spins | Motion::LeavesTrail)
    }

    /// Whether it takes a second object.
    pub const fn has_companion(self) -> bool {
        matches!(self, Motion::Orbits | Motion::Collides | Motion::PassesBehind)
    }
}

/// The second object of a motion that takes two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Companion {
    /// What it is.
    pub subject: Subject,
    /// Its colour.
    pub colour: Colour,
}

/// The answers to "what does this clip show", one per question a probe is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Attributes {
    /// What the scene is about.
    pub subject: Subject,
    /// The subject's colour.
    pub colour: Colour,
    /// What it stands on.
    pub ground: Ground,
    /// Light and sky.
    pub sky: Sky,
    /// What the subject does.
    pub motion: Motion,
    /// Where to, for motions that have a direction.
    pub heading: Heading,
    /// What the camera does.
    pub camera: Camera,
    /// How the picture is drawn.
    pub style: Style,
    /// What falls from the sky.
    pub weather: Weather,
    /// The pattern on the subject.
    pub texture: Texture,
    /// What the subject orbits, collides with or passes behind.
    pub companion: Option<Companion>,
}
