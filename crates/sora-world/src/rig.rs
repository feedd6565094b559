//! How the camera moves, and the player who steers it on a first person walk.

use crate::attributes::Camera;
use crate::camera::View;
use crate::clip::{Keys, Size};
use crate::math::{Mat3, Vec3, cos, sin, smoothstep, v3};
use crate::rng::Rng;

/// Half of the shorter side at distance 1.
const TAN_HALF: f32 = 0.36;
/// A walk is simulated in steps of 1/32 s, whatever the frame rate.
const STEP: f32 = 1.0 / 32.0;

/// The continuous choices of the camera.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rig {
    pub(crate) camera: Camera,
    pub(crate) eye_height: f32,
    pub(crate) eye_distance: f32,
    pub(crate) target_height: f32,
    /// -1 or 1: which way an orbit goes.
    pub(crate) sense: f32,
    /// Seed of the player's keys.
    pub(crate) seed: u64,
}

/// Something a walker cannot pass: ground position and radius.
pub(crate) type Obstacle = (Vec3, f32);

impl Rig {
    /// Where a still camera would stand: paths are laid out in its picture.
    pub(crate) fn home(&self, size: Size) -> View {
        let (eye, target) = self.stand();
        View::look_at(eye, target, TAN_HALF, size)
    }

    fn stand(&self) -> (Vec3, Vec3) {
        (v3(0.0, self.eye_height, self.eye_distance), v3(0.0, self.target_height, 0.0))
    }

    /// The view at `t` seconds and the keys held down.
    pub(crate) fn view(&self, t: f32, size: Size, obstacles: &[Obstacle]) -> (View, Keys) {
        let (eye, target) = self.stand();
        // Pans and dollies run for three and a half seconds, then rest.
        let progress = smoothstep(-0.9, 4.4, t);
        let (eye, target) = match self.camera {
            Camera::Still => (eye, target),
            Camera::PanLeft | Camera::PanRight => {
                let side = if self.camera == Camera::PanLeft { 1.0 } else { -1.0 };
                let turn = Mat3::rotation(Vec3::UP, side * (0.44 * progress - 0.22));
                (eye, eye + turn.apply(target - eye))
            }
            Camera::Orbit => {
                let turn = Mat3::rotation(Vec3::UP, self.sense * 0.42 * t);
                (turn.apply(eye), target)
            }
            Camera::DollyIn => (target + (eye - target) * (1.28 - 0.56 * progress), target),
            Camera::DollyOut => (target + (eye - target) * (0.74 + 0.56 * progress), target),
            Camera::Walk => {
                let (eye, forward, keys) = self.walk(t, obstacles);
                return (View::look_at(eye, eye + forward, TAN_HALF, size), keys);
            }
        };
        (View::look_at(eye, target, TAN_HALF, size), Keys::default())
    }

    /// Eye, direction of view and keys after `t` seconds of walking.
    fn walk(&self, t: f32, obstacles: &[Obstacle]) -> (Vec3, Vec3, Keys) {
        let mut rng = Rng::stream(self.seed, "keys");
        // Everyone starts by walking on.
        let mut keys = Keys { forward: true, ..Keys::default() };
        let mut left = rng.range(0.6, 1.1);
        let (mut x, mut z, mut yaw) = (0.0_f32, self.eye_distance + 0.6, 0.0_f32);
        let (mut speed, mut turning) = (1.0_f32, 0.0_f32);
        let steps = (t / STEP + 0.5) as usize;
        for _ in 0..steps {
            left -= STEP;
            if left <= 0.0 {
                keys = choose(&mut rng, yaw);
                left = rng.range(0.4, 1.1);
            }
            let wish = if keys.forward {
                1.25
            } else if keys.back {
                -0.9
            } else {
                0.0
            };
            let turn = f32::from(keys.left) - f32::from(keys.right);
            // Feet have some inertia, heads less.
            speed += (wish - speed) * 0.16;
            turning += (turn * 0.75 - turning) * 0.3;
            yaw += turning * STEP;
            x -= sin(yaw) * speed * STEP;
            z -= cos(yaw) * speed * STEP;
            for (centre, radius) in obstacles {
                let (dx, dz) = (x - centre.x, z - centre.z);
                let distance = (dx * dx + dz * dz).sqrt().max(1e-3);
                let closest = radius + 0.9;
                if distance < closest {
                    x = centre.x + dx / distance * closest;
                    z = centre.z + dz / distance * closest;
                }
            }
        }
        let eye = v3(x, self.eye_height, z);
        let drop = (self.target_height - self.eye_height) / self.eye_distance;
        (eye, v3(-sin(yaw), drop, -cos(yaw)), keys)
    }
}

/// What the player presses next: mostly onwards, turning back when looking too far aside.
fn choose(rng: &mut Rng, yaw: f32) -> Keys {
    let roll = rng.unit();
    let side = if yaw > 0.5 {
        false
    } else if yaw < -0.5 {
        true
    } else {
        rng.unit() < 0.5
    };
    Keys {
        forward: roll < 0.70,
        back: (0.93..1.0).contains(&roll),
        left: side && (0.30..0.93).contains(&roll),
        right: !side && (0.30..0.93).contains(&roll),
    }
}
