//! Motions of two: one circles the other, runs into it, or disappears behind it.

use crate::attributes::Motion;
use crate::math::{PI, Vec3, cos, exp, sin, v3};

/// The continuous choices of a meeting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encounter {
    pub(crate) motion: Motion,
    /// -1 or 1: where the subject goes to on the screen; for an orbit the sense of turning.
    pub(crate) direction: f32,
    /// Distance of the two centres when they touch.
    pub(crate) touch: f32,
    /// In [0, 1).
    pub(crate) phase: f32,
    /// In [0, 1).
    pub(crate) vigour: f32,
}

/// Where one of the two is on the ground, and what it has travelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leg {
    pub(crate) point: Vec3,
    /// Radians about the vertical, 0 towards +x.
    pub(crate) course: f32,
    /// Signed length of the way.
    pub(crate) distance: f32,
}

/// How fast the ground brakes what was pushed, per second.
const BRAKE: f32 = 1.15;

impl Encounter {
    fn ahead(&self) -> f32 {
        if self.direction > 0.0 { 0.0 } else { PI }
    }

    fn speed(&self) -> f32 {
        1.25 + 0.45 * self.vigour
    }

    /// x of the companion before the collision, mirrored so that the subject always comes from -x.
    fn target(&self) -> f32 {
        0.10 + 0.15 * self.phase
    }

    fn start(&self) -> f32 {
        self.target() - self.touch - 0.75 - 0.25 * self.phase
    }

    /// Seconds from the clip's start to the collision.
    pub(crate) fn collision(&self) -> Option<f32> {
        (self.motion == Motion::Collides).then(|| (self.target() - self.touch - self.start()) / self.speed())
    }

    /// Way of something that leaves with `speed` and is braked, `since` seconds later.
    fn coast(speed: f32, since: f32) -> f32 {
        speed / BRAKE * (1.0 - exp(-BRAKE * since))
    }

    /// The subject at `t` seconds.
    pub(crate) fn subject(&self, t: f32) -> Leg {
        match self.motion {
            Motion::Collides => {
                let hit = self.collision().unwrap_or(0.0);
                let way = if t < hit {
                    self.speed() * t
                } else {
                    self.speed() * hit + Self::coast(0.18 * self.speed(), t - hit)
                };
                let x = self.direction * (self.start() + way);
                Leg { point: v3(x, 0.0, -0.1), course: self.ahead(), distance: way }
            }
            Motion::PassesBehind => {
                // To and fro behind the companion, out on both sides.
                let angle = (1.25 + 0.3 * self.vigour) * t + 0.35 * self.phase;
                let x = -self.direction * 1.35 * cos(angle);
                let back = if sin(angle) >= 0.0 { self.ahead() } else { self.ahead() + PI };
                Leg { point: v3(x, 0.0, -1.15), course: back, distance: 1.35 * (1.0 - cos(angle)) }
            }
            _ => {
                let angle = 2.0 * PI * self.phase + self.direction * (1.5 + 0.7 * self.vigour) * t;
                let radius = 1.12;
                // Moving along increasing angle at (cos, -sin) in (x, z) is counter-clockwise from above.
                let point = v3(radius * cos(angle), 0.0, -0.15 - radius * sin(angle));
                let course = angle + self.direction * PI / 2.0;
                Leg { point, course, distance: radius * (1.5 + 0.7 * self.vigour) * t }
            }
        }
    }

    /// The companion at `t` seconds.
    pub(crate) fn companion(&self, t: f32) -> Leg {
        match self.motion {
            Motion::Collides => {
                let since = (t - self.collision().unwrap_or(0.0)).max(0.0);
                let way = Self::coast(0.85 * self.speed(), since);
                let x = self.direction * (self.target() + way);
                Leg { point: v3(x, 0.0, -0.1), course: self.ahead(), distance: way }
            }
            Motion::PassesBehind => {
                Leg { point: v3(0.2 * (self.phase - 0.5), 0.0, 0.55), course: 0.0, distance: 0.0 }
            }
            _ => Leg { point: v3(0.0, 0.0, -0.15), course: 0.0, distance: 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_touch_at_the_collision_and_never_overlap() {
        for direction in [-1.0, 1.0] {
            let meeting =
                Encounter { motion: Motion::Collides, direction, touch: 0.7, phase: 0.3, vigour: 0.8 };
            let hit = meeting.collision().expect("a collision");
            for step in 0..800 {
                let t = step as f32 * 0.01;
                let gap = (meeting.companion(t).point.x - meeting.subject(t).point.x) * direction;
                assert!(gap > 0.699, "{gap} at {t}");
            }
            let gap = (meeting.companion(hit).point.x - meeting.subject(hit).point.x) * direction;
            assert!((gap - 0.7).abs() < 1e-3, "{gap}");
        }
    }
}
