//! Where a subject is at a time. Every motion is a closed function of time, so the first frames of a long clip
//! equal a short clip, and a clip can be started anywhere.

use crate::attributes::{Ground, Heading, Motion, Subject};
use crate::math::{Mat3, PI, Vec3, cos, exp, floor, fract, sin, v3};

/// Gravity, units per second squared; softer than the Earth's because subjects are toys seen from near.
const GRAVITY: f32 = 9.0;
/// Share of the speed that a falling subject keeps when it hits the ground.
const RESTITUTION: f32 = 0.42;

/// The continuous choices behind a motion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) subject: Subject,
    pub(crate) motion: Motion,
    pub(crate) heading: Heading,
    pub(crate) ground: Ground,
    /// Scale of the body.
    pub(crate) size: f32,
    /// Height of the centre at rest.
    pub(crate) rest: f32,
    /// Ground position, for motions in place; z for the others.
    pub(crate) x: f32,
    pub(crate) z: f32,
    /// In [0, 1): where in its cycle the motion starts.
    pub(crate) phase: f32,
    /// In [0, 1): how fast or how high.
    pub(crate) vigour: f32,
    /// Radians: how the subject stands.
    pub(crate) yaw: f32,
    /// Radians: how the path of a roll or slide departs from the x axis.
    pub(crate) drift: f32,
    /// Turning sense, -1 or 1.
    pub(crate) sense: f32,
}

/// Position of the centre and orientation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    pub(crate) position: Vec3,
    pub(crate) rotation: Mat3,
}

impl Plan {
    /// How deep a subject at rest stands in the ground.
    fn sink(&self) -> f32 {
        match self.ground {
            Ground::Sea => 0.26 * self.rest,
            Ground::Snow => 0.07 * self.rest,
            Ground::Grass => 0.03 * self.rest,
            _ => 0.0,
        }
    }

    fn bob(&self, t: f32) -> f32 {
        if self.ground == Ground::Sea { 0.035 * sin(2.6 * t + 6.0 * self.phase) } else { 0.0 }
    }

    fn apex(&self) -> f32 {
        0.75 + 0.40 * self.vigour
    }

    fn bounce_period(&self) -> f32 {
        (8.0 * self.apex() / GRAVITY).sqrt()
    }

    /// How the subject stands when nothing turns it. A ball leans, so that its panels show.
    fn stance(&self) -> Mat3 {
        let yaw = Mat3::rotation(Vec3::UP, self.yaw);
        if self.subject == Subject::Ball {
            Mat3::rotation(v3(0.0, 0.0, 1.0), 0.45 * self.sense).then(&yaw)
        } else {
            yaw
        }
    }

    /// The pose at `t` seconds; `half_width` is half of what the picture shows at the subject's depth: what
    /// leaves it on one side comes back on the other.
    pub(crate) fn pose(&self, t: f32, half_width: f32) -> Pose {
        let rest = self.rest - self.sink() + self.bob(t);
        match self.motion {
            Motion::Bounces => {
                let u = fract(t / self.bounce_period() + self.phase);
                let y = self.rest - 0.5 * self.sink() + 4.0 * self.apex() * u * (1.0 - u);
                let turn = if self.subject == Subject::Ball { 0.9 * self.sense * t } else { 0.0 };
                let rotation = Mat3::rotation(v3(0.0, 0.0, 1.0), turn).then(&self.stance());
                Pose { position: v3(self.x, y, self.z), rotation }
            }
            Motion::Falls => {
                let y = rest.max(self.rest - self.sink()) + self.fall(t).0;
                Pose { position: v3(self.x, y, self.z), rotation: self.stance() }
            }
            Motion::Spins => {
                let turn = self.sense * (2.2 + 1.2 * self.vigour) * t;
                let rotation = Mat3::rotation(Vec3::UP, turn).then(&self.stance());
                Pose { position: v3(self.x, rest, self.z), rotation }
            }
            Motion::Slides => Pose {
                position: self.path((0.85 + 0.35 * self.vigour) * t, half_width) + Vec3::UP * rest,
                rotation: self.stance(),
            },
            Motion::Rolls => self.roll(t, half_width, rest),
            _ => Pose { position: v3(self.x, rest, self.z), rotation: self.stance() },
        }
    }

    fn direction(&self) -> f32 {
        if self.heading == Heading::Left { -1.0 } else { 1.0 }
    }

    /// The ground point after `distance` along the path.
    fn path(&self, distance: f32, half_width: f32) -> Vec3 {
        let start = -(0.50 + 0.35 * self.phase) * (half_width - self.rest);
        let half = half_width + 1.25 * self.rest;
        let along = fract((start + distance + half) / (2.0 * half)) * 2.0 * half - half;
        let x = self.direction() * along;
        v3(x * cos(self.drift), 0.0, self.z + x * sin(self.drift))
    }

    fn roll(&self, t: f32, half_width: f32, rest: f32) -> Pose {
        let frame = Mat3::rotation(Vec3::UP, -self.drift);
        let sign = self.direction();
        if self.subject == Subject::Cube {
            // Tumbles over its leading edge, a quarter turn per side length.
            let side = 2.0 * self.rest;
            let travelled = (0.85 + 0.3 * self.vigour) * t + self.phase * side;
            let steps = floor(travelled / side);
            let angle = (travelled / side - steps as f32) * (PI / 2.0);
            let (s, c) = (sin(angle), cos(angle));
            let along = side * steps as f32 + self.rest * (1.0 - c + s);
            let lift = self.rest * (s + c) - self.rest;
            let turn = -sign * (steps as f32 * (PI / 2.0) + angle);
            return Pose {
                position: self.path(along - self.phase * side, half_width) + Vec3::UP * (rest + lift),
                rotation: frame.then(&Mat3::rotation(v3(0.0, 0.0, 1.0), turn)),
            };
        }
        let distance = (0.95 + 0.35 * self.vigour) * t;
        let turn = -sign * (distance / self.rest + 6.0 * self.phase);
        Pose {
            position: self.path(distance, half_width) + Vec3::UP * rest,
            // The panels' poles lie across the path but not quite on the axle: the turning is plain to see.
            rotation: frame
                .then(&Mat3::rotation(v3(0.0, 0.0, 1.0), turn))
                .then(&Mat3::rotation(v3(1.0, 0.0, 0.0), 0.9)),
        }
    }

    /// Height above rest of a subject dropped at time 0, and the times of its impacts so far.
    fn fall(&self, t: f32) -> (f32, Vec<f32>) {
        let drop = 1.45 + 0.35 * self.vigour;
        // The drop began a little before the clip, so that the first frame already moves.
        let t = t + 0.10 * self.phase;
        let mut impact = (2.0 * drop / GRAVITY).sqrt();
        let mut impacts = Vec::new();
        if t < impact {
            return (drop - 0.5 * GRAVITY * t * t, impacts);
        }
        let mut speed = GRAVITY * impact;
        impacts.push(impact - 0.10 * self.phase);
        if self.ground == Ground::Sea {
            let since = t - impact;
            return (-0.30 * exp(-2.4 * since) * sin(6.0 * since), impacts);
        }
        loop {
            speed *= RESTITUTION;
            if speed < 0.35 {
                return (0.0, impacts);
            }
            let flight = 2.0 * speed / GRAVITY;
            if t < impact + flight {
                let since = t - impact;
                return (speed * since - 0.5 * GRAVITY * since * since, impacts);
            }
            impact += flight;
            impacts.push(impact - 0.10 * self.phase);
        }
    }

    /// Times of the impacts on the ground up to `t`, oldest first; those before the clip's start are negative.
    pub(crate) fn impacts(&self, t: f32) -> Vec<f32> {
        match self.motion {
            Motion::Bounces => {
                let period = self.bounce_period();
                // The one before the clip's start counts too: its rings may still be on the water.
                (0..=floor(t / period + self.phase)).map(|k| (k as f32 - self.phase) * period).collect()
            }
            Motion::Falls => self.fall(t).1,
            _ => Vec::new(),
        }
    }

    /// Whether the subject lies in the water at `t`, so that rings spread from it all the time.
    pub(crate) fn floats(&self, t: f32) -> bool {
        match self.motion {
            Motion::Bounces => false,
            Motion::Falls => !self.impacts(t).is_empty(),
            _ => true,
        }
    }
}
