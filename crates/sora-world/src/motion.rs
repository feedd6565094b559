//! Where a subject is at a time. Every motion is a closed function of time, so the first frames of a long clip
//! equal a short clip, and a clip can be started anywhere.

use crate::attributes::{Ground, Heading, Motion, Subject};
use crate::encounter::Encounter;
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
    /// The meeting with a companion, for the motions that have one.
    pub(crate) encounter: Option<Encounter>,
}

/// Position of the centre and orientation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    pub(crate) position: Vec3,
    pub(crate) rotation: Mat3,
}

/// A mark on the ground along the path z = z(x), where x lies between `from` and `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trail {
    pub(crate) from: f32,
    pub(crate) to: f32,
    z: f32,
    phase: f32,
    /// Half of its width.
    pub(crate) half_width: f32,
}

impl Trail {
    /// Distance from (x, z) to the middle of the mark, or to its ends; an upper bound near the middle.
    pub(crate) fn distance(&self, x: f32, z: f32) -> f32 {
        let inside = x.clamp(self.from, self.to);
        let (along, slope) = weave(self.z, self.phase, inside);
        let across = (z - along) / (1.0 + slope * slope).sqrt();
        ((x - inside) * (x - inside) + across * across).sqrt()
    }
}

/// The gentle curve that a subject with a trail follows: z and slope at x.
fn weave(z: f32, phase: f32, x: f32) -> (f32, f32) {
    let angle = 1.9 * x + 6.0 * phase;
    (z + 0.28 * sin(angle), 0.28 * 1.9 * cos(angle))
}

/// Whether a subject moving over the ground turns about its axle.
fn is_round(subject: Subject) -> bool {
    matches!(subject, Subject::Ball | Subject::Cylinder | Subject::Torus)
}

/// The orientation of a subject travelling along `course` (radians, 0 towards +x) after `distance`.
pub(crate) fn travel(subject: Subject, course: f32, distance: f32, radius: f32, yaw: f32) -> Mat3 {
    let frame = Mat3::rotation(Vec3::UP, course);
    match subject {
        Subject::Ball => frame
            .then(&Mat3::rotation(v3(0.0, 0.0, 1.0), -distance / radius))
            .then(&Mat3::rotation(v3(1.0, 0.0, 0.0), 0.9)),
        Subject::Car | Subject::Boat => frame,
        Subject::Kite => Mat3::rotation(Vec3::UP, 0.3 * yaw),
        _ => Mat3::rotation(Vec3::UP, yaw),
    }
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
    pub(crate) fn stance(&self) -> Mat3 {
        let yaw = Mat3::rotation(Vec3::UP, self.yaw);
        match self.subject {
            Subject::Ball => Mat3::rotation(v3(0.0, 0.0, 1.0), 0.45 * self.sense).then(&yaw),
            Subject::Kite => Mat3::rotation(Vec3::UP, 0.4 * self.yaw),
            // Turned towards the side it goes to.
            Subject::Car | Subject::Boat if self.heading == Heading::Left => {
                Mat3::rotation(Vec3::UP, PI - self.drift)
            }
            Subject::Car | Subject::Boat if self.heading == Heading::Right => {
                Mat3::rotation(Vec3::UP, -self.drift)
            }
            _ => yaw,
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
                let lift = if self.flies() { self.flight(t).0 } else { 0.0 };
                Pose { position: v3(self.x, rest + lift, self.z), rotation }
            }
            Motion::Slides => {
                let lift = if self.flies() { self.flight(t).0 } else { 0.0 };
                let point = self.path((0.85 + 0.35 * self.vigour) * t, half_width);
                Pose { position: point + Vec3::UP * (rest + lift), rotation: self.stance() }
            }
            Motion::Rolls => self.roll(t, half_width, rest),
            Motion::Floats => self.float(t, rest),
            Motion::LeavesTrail => self.weaving(t, half_width, rest),
            Motion::Stands => {
                Pose { position: v3(self.x, self.rest - self.sink(), self.z), rotation: self.stance() }
            }
            Motion::Orbits | Motion::Collides | Motion::PassesBehind => match &self.encounter {
                Some(encounter) => {
                    let leg = encounter.subject(t);
                    let rotation = travel(self.subject, leg.course, leg.distance, self.rest, self.yaw);
                    Pose { position: leg.point + Vec3::UP * rest, rotation }
                }
                None => Pose { position: v3(self.x, rest, self.z), rotation: self.stance() },
            },
        }
    }

    /// Height above rest and tilt of something in the air.
    fn flight(&self, t: f32) -> (f32, f32) {
        let base = if self.subject == Subject::Kite { 0.62 } else { 0.42 };
        let beat = 2.1 * t + 6.0 * self.phase;
        (base + (0.12 + 0.10 * self.vigour) * sin(beat), 0.16 * self.sense * sin(0.8 * beat + 1.0))
    }

    fn float(&self, t: f32, rest: f32) -> Pose {
        let (lift, tilt) = if self.ground == Ground::Sea && self.subject != Subject::Kite {
            // Rides the swell.
            (0.05 * sin(2.1 * t + 6.0 * self.phase), 0.13 * sin(1.7 * t + 4.0 * self.phase))
        } else {
            self.flight(t)
        };
        let sway = 0.14 * sin(1.3 * t + 5.0 * self.phase);
        Pose {
            position: v3(self.x + sway, rest + lift, self.z),
            rotation: Mat3::rotation(v3(0.0, 0.0, 1.0), tilt).then(&self.stance()),
        }
    }

    fn direction(&self) -> f32 {
        if self.heading == Heading::Left { -1.0 } else { 1.0 }
    }

    /// Signed x after `distance` to the side; what leaves the picture comes back on the other side.
    fn across(&self, distance: f32, half_width: f32) -> f32 {
        let start = -(0.50 + 0.35 * self.phase) * (half_width - self.rest);
        let half = half_width + 1.25 * self.rest;
        let along = fract((start + distance + half) / (2.0 * half)) * 2.0 * half - half;
        self.direction() * along
    }

    /// The ground point after `distance` along the straight path.
    fn path(&self, distance: f32, half_width: f32) -> Vec3 {
        let x = self.across(distance, half_width);
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
        let position = self.path(distance, half_width) + Vec3::UP * rest;
        let turned = Mat3::rotation(v3(0.0, 0.0, 1.0), turn);
        let rotation = match self.subject {
            // Turned a little to the viewer, so that the hole shows and not only the rim.
            Subject::Torus => Mat3::rotation(Vec3::UP, 0.35 * self.sense).then(&turned),
            // On its side, an end towards the viewer.
            Subject::Cylinder => Mat3::rotation(Vec3::UP, 0.35 * self.sense)
                .then(&turned)
                .then(&Mat3::rotation(v3(1.0, 0.0, 0.0), PI / 2.0)),
            // The panels' poles lie across the path but not quite on the axle: the turning is plain to see.
            _ => frame.then(&turned).then(&Mat3::rotation(v3(1.0, 0.0, 0.0), 0.9)),
        };
        Pose { position, rotation }
    }

    fn trail_distance(&self, t: f32) -> f32 {
        (0.95 + 0.3 * self.vigour) * t
    }

    fn weaving(&self, t: f32, half_width: f32, rest: f32) -> Pose {
        let distance = self.trail_distance(t);
        let x = self.across(distance, half_width);
        let (z, slope) = weave(self.z, self.phase, x);
        let ahead = if self.direction() > 0.0 { 0.0 } else { PI };
        // The angle whose tangent is the slope, close enough for small slopes.
        let course = ahead - slope / (1.0 + 0.28 * slope * slope);
        Pose {
            position: v3(x, rest, z),
            rotation: travel(self.subject, course, distance, self.rest, self.yaw),
        }
    }

    /// The mark left so far.
    pub(crate) fn trail(&self, t: f32, half_width: f32) -> Option<Trail> {
        if self.motion != Motion::LeavesTrail {
            return None;
        }
        let half = half_width + 1.25 * self.rest;
        let start = self.across(0.0, half_width);
        let here = self.across(self.trail_distance(t), half_width);
        // Once round the picture, the whole line is drawn.
        let behind = self.direction() * (here - start);
        let wrapped = behind < 0.0 || self.trail_distance(t) > 2.0 * half;
        let (from, to) = if wrapped { (-half, half) } else { (start.min(here), start.max(here)) };
        let half_width = 0.50 * self.rest.min(0.40);
        Some(Trail { from, to, z: self.z, phase: self.phase, half_width })
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

    /// Whether the subject stays in the air all the time.
    pub(crate) fn flies(&self) -> bool {
        self.subject == Subject::Kite || (self.motion == Motion::Floats && self.ground != Ground::Sea)
    }

    /// Whether the subject lies in the water at `t`, so that rings spread from it all the time.
    pub(crate) fn floats(&self, t: f32) -> bool {
        match self.motion {
            Motion::Bounces => false,
            Motion::Falls => !self.impacts(t).is_empty(),
            _ => self.subject != Subject::Kite,
        }
    }

    /// Height of the centre at rest for a body in this motion.
    pub(crate) fn rest_of(body: &crate::body::Body, subject: Subject, motion: Motion) -> f32 {
        if motion == Motion::Rolls && is_round(subject) { body.rolling_rest } else { body.rest }
    }
}
