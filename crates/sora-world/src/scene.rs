//! A scene: the attributes a seed picks from a domain, and the continuous choices around them.

use crate::attributes::{
    Attributes, Camera, Colour, Companion, Ground, Heading, Motion, Sky, Style, Subject, Texture, Weather,
};
use crate::body::Body;
use crate::clip::{Clip, Event, Size};
use crate::domain::{Domain, able_in, able_on, able_to, companions, possible_on, possible_under, suits};
use crate::encounter::Encounter;
use crate::ground::{Floor, Ripple};
use crate::math::{Mat3, PI, Vec3, sin, v3};
use crate::motion::{Plan, travel};
use crate::render::{Stage, render};
use crate::rig::{Obstacle, Rig};
use crate::rng::Rng;
use crate::sky::Heaven;

/// Everything about one scene. The same seed and domain give the same scene, captions and pixels on every
/// machine.
#[derive(Clone, Debug)]
pub struct Scene {
    pub(crate) seed: u64,
    pub(crate) attributes: Attributes,
    /// Whether short captions also name what lies beyond subject, motion and ground.
    pub(crate) wordy: bool,
    pub(crate) setting: Setting,
    pub(crate) plan: Plan,
    /// The objects by id: the subject is 1, its companion 2; or what stands around a walk.
    pub(crate) cast: Vec<Actor>,
    rig: Rig,
}

/// The continuous choices about light and ground.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// -1 (left) to 1 (right): where the light comes from.
    pub(crate) light_side: f32,
    light_lift: f32,
    star_seed: i32,
    ground_offset: [f32; 2],
}

/// One object of the scene.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) subject: Subject,
    pub(crate) colour: Colour,
    body: Body,
    size: f32,
    /// Where it stands, if nothing moves it.
    spot: Vec3,
    yaw: f32,
}

/// Size of the subject in a motion, against what it is alone.
pub(crate) fn scale_of(motion: Motion) -> f32 {
    match motion {
        Motion::PassesBehind => 0.76,
        Motion::Orbits | Motion::Collides => 0.68,
        _ => 1.0,
    }
}

/// One of `from` that `allows` admits, or one of `all`, in that order of preference; each name has its own
/// stream, so the picks are independent.
fn pick<T: Copy>(seed: u64, name: &str, from: &[T], all: &[T], allows: impl Fn(T) -> bool) -> T {
    let admitted = |list: &[T]| list.iter().copied().filter(|&value| allows(value)).collect::<Vec<T>>();
    let mut candidates = admitted(from);
    if candidates.is_empty() {
        candidates = admitted(all);
    }
    // Every vocabulary has values, and its first stands for what no rule admits.
    candidates.get(Rng::stream(seed, name).below(candidates.len())).copied().unwrap_or(all[0])
}

impl Scene {
    /// The scene that `seed` picks from `domain`.
    ///
    /// What cannot be together (a rolling tree, rain in a room) is not drawn. Where a domain leaves no
    /// possible value for an attribute, one from outside the domain stands in.
    pub fn sample(seed: u64, domain: &Domain) -> Scene {
        let d = domain;
        // Each choice leaves at least one way to make the choices after it.
        let subject = pick(seed, "subject", &d.subjects, Subject::ALL, |s| {
            d.any_ground(|g| able_on(s, g) && d.any_camera(|c| able_in(s, g, c) && d.any_motion(s, g, c)))
        });
        let ground = pick(seed, "ground", &d.grounds, Ground::ALL, |g| {
            able_on(subject, g) && d.any_camera(|c| able_in(subject, g, c) && d.any_motion(subject, g, c))
        });
        let camera = pick(seed, "camera", &d.cameras, Camera::ALL, |c| {
            able_in(subject, ground, c) && d.any_motion(subject, ground, c)
        });
        let motion = pick(seed, "motion", &d.motions, Motion::ALL, |m| {
            able_to(subject, m) && possible_on(m, ground) && suits(m, camera)
        });
        let heading = if motion.has_heading() {
            pick(seed, "heading", &[], &[Heading::Left, Heading::Right], |_| true)
        } else {
            Heading::Still
        };
        let colour = pick(seed, "colour", &d.colours, Colour::ALL, |_| true);
        let companion = motion.has_companion().then(|| Companion {
            subject: pick(seed, "companion", &companions(motion, &d.subjects), Subject::ALL, |_| true),
            colour: pick(seed, "companion colour", &d.colours, Colour::ALL, |c| c != colour),
        });
        let attributes = Attributes {
            subject,
            colour,
            ground,
            sky: pick(seed, "sky", &d.skies, Sky::ALL, |_| true),
            motion,
            heading,
            camera,
            style: pick(seed, "style", &d.styles, Style::ALL, |_| true),
            weather: pick(seed, "weather", &d.weathers, Weather::ALL, |w| possible_under(w, ground)),
            texture: pick(seed, "texture", &d.textures, Texture::ALL, |_| true),
            companion,
        };
        Scene::with_attributes(seed, attributes, d.wordy_captions)
    }

    fn with_attributes(seed: u64, a: Attributes, wordy: bool) -> Scene {
        let mut rng = Rng::stream(seed, "plan");
        let drawn = rng.range(0.90, 1.12);
        // Two share the picture: both are smaller.
        let size = drawn * scale_of(a.motion);
        let body = Body::new(a.subject, a.colour, a.texture);
        // Drawn whether used or not: each choice keeps its place in the stream.
        let (x, drift) = (rng.range(-0.40, 0.40), rng.range(-0.16, 0.16));
        let mut plan = Plan {
            subject: a.subject,
            motion: a.motion,
            heading: a.heading,
            ground: a.ground,
            size,
            rest: Plan::rest_of(&body, a.subject, a.motion) * size,
            x: if a.heading == Heading::Still { x } else { 0.0 },
            z: rng.range(-0.35, 0.25),
            phase: rng.unit(),
            vigour: rng.unit(),
            // A corner towards the viewer, never a face square on: two faces tell a cube from a square.
            yaw: rng.sign() * rng.range(0.35, 0.85),
            drift,
            sense: rng.sign(),
            encounter: None,
        };
        let mut cast =
            vec![Actor { subject: a.subject, colour: a.colour, body, size, spot: Vec3::ZERO, yaw: plan.yaw }];
        if let Some(companion) = a.companion {
            let actor = Actor::companion(seed, a.motion, companion, drawn);
            plan.encounter = Some(Encounter {
                motion: a.motion,
                direction: match a.heading {
                    Heading::Left => -1.0,
                    Heading::Right => 1.0,
                    Heading::Still => plan.sense,
                },
                touch: cast[0].half_width() + actor.half_width(),
                phase: plan.phase,
                vigour: plan.vigour,
            });
            cast.push(actor);
        }
        if a.camera == Camera::Walk {
            cast.extend(surroundings(seed, a.ground));
        }
        let mut rng = Rng::stream(seed, "setting");
        let setting = Setting {
            light_side: rng.sign() * rng.range(0.35, 1.1),
            light_lift: rng.unit(),
            star_seed: rng.below(1 << 20) as i32,
            ground_offset: [rng.range(-300.0, 300.0), rng.range(-300.0, 300.0)],
        };
        let rig = Rig {
            camera: a.camera,
            eye_height: rng.range(1.30, 1.65),
            eye_distance: rng.range(4.5, 4.9),
            target_height: rng.range(0.82, 0.92),
            sense: rng.sign(),
            seed,
        };
        Scene { seed, attributes: a, wordy, setting, plan, cast, rig }
    }

    /// The same scene in another style: same world, same motion, same truth. Two of them are a pair for
    /// restyling.
    pub fn with_style(&self, style: Style) -> Scene {
        let mut scene = self.clone();
        scene.attributes.style = style;
        scene
    }

    /// What the scene shows.
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// The number the scene was sampled with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Draws `num_frames` frames at 8 per second. No frames, or an empty size, give an empty clip.
    ///
    /// Time does not depend on the length: the first frames of a longer clip are the shorter clip.
    pub fn render(&self, size: Size, num_frames: usize) -> Clip {
        render(self, size, num_frames)
    }

    /// What happens in `from..to` seconds.
    pub(crate) fn events(&self, from: f32, to: f32) -> Vec<Event> {
        let during = |time: f32| time >= 0.0 && (from..to).contains(&time);
        let contacts = self.plan.impacts(to).into_iter().map(|time| Event::Contact { object: 1, time });
        let collision = self.plan.encounter.as_ref().and_then(Encounter::collision);
        contacts
            .chain(collision.map(|time| Event::Collision { objects: [1, 2], time }))
            .filter(|event| during(event.time()))
            .collect()
    }

    /// The world at `t` seconds.
    pub(crate) fn stage(&self, size: Size, t: f32) -> Stage {
        let a = &self.attributes;
        let home = self.rig.home(size);
        let depth = (v3(0.0, self.plan.rest, self.plan.z) - home.eye).dot(home.forward);
        let half_width = home.half_width_at(depth);
        let pose = self.plan.pose(t, half_width);
        let objects: Vec<_> = self
            .cast
            .iter()
            .enumerate()
            .map(|(index, actor)| match (index, &self.plan.encounter) {
                (0, _) => actor.body.place(actor.size, pose.position, &pose.rotation),
                (1, Some(encounter)) => actor.meet(encounter, t),
                _ => actor.stand(),
            })
            .collect();
        let obstacles: Vec<Obstacle> =
            objects.iter().zip(&self.cast).map(|(o, actor)| (o.centre, actor.half_width())).collect();
        let (view, keys) = self.rig.view(t, size, &obstacles);
        let s = &self.setting;
        let mut heaven = Heaven::new(a.sky, s.light_side, s.light_lift, s.star_seed);
        if a.ground == Ground::Room {
            heaven.go_indoors();
        }
        heaven.set_weather(a.weather);
        Stage {
            view,
            keys,
            heaven,
            floor: Floor {
                kind: a.ground,
                offset: s.ground_offset,
                time: t,
                ripples: self.ripples(t, pose.position),
                trail: self.plan.trail(t, half_width),
                paint: crate::material::paint(a.colour),
            },
            objects,
            banded: a.style == Style::Cartoon,
        }
    }

    fn ripples(&self, t: f32, at: Vec3) -> Vec<Ripple> {
        let mut ripples = Vec::new();
        if self.attributes.ground == Ground::Sea {
            let (x, z) = (at.x, at.z);
            let recent = self.plan.impacts(t).into_iter().rev().take(2);
            ripples.extend(recent.map(|at| Ripple { x, z, age: t - at }).filter(|r| r.age < 2.5));
            if self.plan.floats(t) {
                ripples.push(Ripple { x, z, age: 0.12 + 0.05 * sin(2.0 * PI * t) });
            }
        }
        ripples
    }
}

impl Actor {
    fn companion(seed: u64, motion: Motion, companion: Companion, drawn: f32) -> Actor {
        let mut rng = Rng::stream(seed, "companion plan");
        let size = match motion {
            // Large enough to hide what goes behind it.
            Motion::PassesBehind => 1.22 * drawn,
            Motion::Orbits => 0.82 * drawn,
            _ => scale_of(motion) * drawn,
        };
        let body = Body::new(companion.subject, companion.colour, Texture::Plain);
        let yaw = rng.sign() * rng.range(0.15, 0.6);
        Actor { subject: companion.subject, colour: companion.colour, body, size, spot: Vec3::ZERO, yaw }
    }

    /// Half of its width as it stands, in world units.
    fn half_width(&self) -> f32 {
        let turned = match self.subject {
            Subject::Cube | Subject::Pyramid | Subject::House => {
                crate::math::cos(self.yaw) + sin(self.yaw).abs()
            }
            _ => 1.0,
        };
        self.body.half_width * self.size * turned
    }

    fn meet(&self, encounter: &Encounter, t: f32) -> crate::body::Object {
        let leg = encounter.companion(t);
        let rest = self.body.rest * self.size;
        let rotation = travel(self.subject, leg.course, leg.distance, rest, self.yaw);
        self.body.place(self.size, leg.point + Vec3::UP * rest, &rotation)
    }

    fn stand(&self) -> crate::body::Object {
        let at = self.spot + Vec3::UP * (self.body.rest * self.size);
        self.body.place(self.size, at, &Mat3::rotation(Vec3::UP, self.yaw))
    }
}

/// What stands around on a walk: on both sides of the way to the subject, and beyond it.
fn surroundings(seed: u64, ground: Ground) -> Vec<Actor> {
    const KINDS: &[Subject] = &[
        Subject::Tree,
        Subject::Cube,
        Subject::Cone,
        Subject::Mushroom,
        Subject::House,
        Subject::Cylinder,
        Subject::Pyramid,
    ];
    let mut rng = Rng::stream(seed, "surroundings");
    (0..6)
        .map(|index| {
            let side = if index % 2 == 0 { -1.0 } else { 1.0 };
            let subject = KINDS[rng.below(KINDS.len())];
            let subject = if able_on(subject, ground) { subject } else { Subject::Cube };
            let colour = Colour::ALL[rng.below(Colour::ALL.len())];
            let body = Body::new(subject, colour, Texture::Plain);
            let spot =
                v3(side * rng.range(1.9, 3.4), 0.0, 1.2 - 2.6 * (index / 2) as f32 + rng.range(-0.7, 0.7));
            Actor { subject, colour, body, size: rng.range(0.9, 1.4), spot, yaw: rng.range(-0.8, 0.8) }
        })
        .collect()
}
