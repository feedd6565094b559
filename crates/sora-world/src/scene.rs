//! A scene: the attributes a seed picks from a domain, and the continuous choices around them.

use crate::attributes::{Attributes, Ground, Heading, Motion, Subject};
use crate::body::Body;
use crate::clip::{Clip, Size};
use crate::domain::Domain;
use crate::ground::{Floor, Ripple};
use crate::math::{PI, v3};
use crate::motion::Plan;
use crate::render::{Stage, render};
use crate::rng::Rng;
use crate::sky::Heaven;

/// Everything about one scene. The same seed and domain give the same scene, captions and pixels on every
/// machine.
#[derive(Clone, Debug)]
pub struct Scene {
    pub(crate) seed: u64,
    pub(crate) attributes: Attributes,
    pub(crate) setting: Setting,
    pub(crate) plan: Plan,
}

/// The continuous choices about light, ground and camera.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// -1 (left) to 1 (right): where the light comes from.
    pub(crate) light_side: f32,
    light_lift: f32,
    star_seed: i32,
    ground_offset: [f32; 2],
    eye_height: f32,
    eye_distance: f32,
    target_height: f32,
}

/// Whether `subject` can do `motion`.
pub(crate) fn able(subject: Subject, motion: Motion) -> bool {
    match motion {
        Motion::Rolls => matches!(subject, Subject::Ball | Subject::Cube),
        _ => true,
    }
}

fn pick<T: Copy>(seed: u64, name: &str, from: &[T], otherwise: T) -> T {
    let index = Rng::stream(seed, name).below(from.len());
    from.get(index).copied().unwrap_or(otherwise)
}

impl Scene {
    /// The scene that `seed` picks from `domain`.
    pub fn sample(seed: u64, domain: &Domain) -> Scene {
        let full = Domain::full();
        let subject = pick(seed, "subject", &domain.subjects, full.subjects[0]);
        let motions: Vec<Motion> = domain.motions.iter().copied().filter(|&m| able(subject, m)).collect();
        let motion = pick(seed, "motion", &motions, full.motions[0]);
        let heading = match motion {
            Motion::Rolls | Motion::Slides => pick(seed, "heading", &[Heading::Left, Heading::Right], Heading::Right),
            _ => Heading::Still,
        };
        Scene::with_attributes(
            seed,
            Attributes {
                subject,
                colour: pick(seed, "colour", &domain.colours, full.colours[0]),
                ground: pick(seed, "ground", &domain.grounds, full.grounds[0]),
                sky: pick(seed, "sky", &domain.skies, full.skies[0]),
                motion,
                heading,
                camera: pick(seed, "camera", &domain.cameras, full.cameras[0]),
                style: pick(seed, "style", &domain.styles, full.styles[0]),
                weather: pick(seed, "weather", &domain.weathers, full.weathers[0]),
                texture: crate::attributes::Texture::Plain,
                companion: None,
            },
        )
    }

    fn with_attributes(seed: u64, attributes: Attributes) -> Scene {
        let mut plan = Rng::stream(seed, "plan");
        let size = plan.range(0.90, 1.12);
        let in_place = attributes.heading == Heading::Still;
        // Drawn whether used or not: each choice keeps its place in the stream.
        let (x, drift) = (plan.range(-0.40, 0.40), plan.range(-0.16, 0.16));
        let plan = Plan {
            subject: attributes.subject,
            motion: attributes.motion,
            heading: attributes.heading,
            ground: attributes.ground,
            size,
            rest: Body::new(attributes.subject, attributes.colour, attributes.texture).rest * size,
            x: if in_place { x } else { 0.0 },
            z: plan.range(-0.35, 0.25),
            phase: plan.unit(),
            vigour: plan.unit(),
            // A corner towards the viewer, never a face square on: two faces tell a cube from a square.
            yaw: plan.sign() * plan.range(0.35, 0.85),
            drift,
            sense: plan.sign(),
        };
        let mut setting = Rng::stream(seed, "setting");
        let setting = Setting {
            light_side: setting.sign() * setting.range(0.35, 1.1),
            light_lift: setting.unit(),
            star_seed: setting.below(1 << 20) as i32,
            ground_offset: [setting.range(-300.0, 300.0), setting.range(-300.0, 300.0)],
            eye_height: setting.range(1.30, 1.65),
            eye_distance: setting.range(4.5, 4.9),
            target_height: setting.range(0.82, 0.92),
        };
        Scene { seed, attributes, setting, plan }
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

    /// The world at `t` seconds.
    pub(crate) fn stage(&self, size: Size, t: f32) -> Stage {
        let s = &self.setting;
        let view = crate::camera::View::look_at(
            v3(0.0, s.eye_height, s.eye_distance),
            v3(0.0, s.target_height, 0.0),
            0.36,
            size,
        );
        let a = &self.attributes;
        let depth = (v3(0.0, self.plan.rest, self.plan.z) - view.eye).dot(view.forward);
        let pose = self.plan.pose(t, view.half_width_at(depth));
        let body = Body::new(a.subject, a.colour, a.texture);
        let object = body.place(1, self.plan.size, pose.position, &pose.rotation);
        let mut ripples = Vec::new();
        if a.ground == Ground::Sea {
            let (x, z) = (pose.position.x, pose.position.z);
            let recent = self.plan.impacts(t).into_iter().rev().take(2);
            ripples.extend(recent.map(|at| Ripple { x, z, age: t - at }).filter(|r| r.age < 2.5));
            if self.plan.floats(t) {
                ripples.push(Ripple { x, z, age: 0.12 + 0.05 * crate::math::sin(2.0 * PI * t) });
            }
        }
        Stage {
            view,
            heaven: Heaven::new(a.sky, s.light_side, s.light_lift, s.star_seed),
            floor: Floor { kind: a.ground, offset: s.ground_offset, time: t, ripples },
            objects: vec![object],
        }
    }
}
