//! Vectors, rotations and the few functions the renderer needs.
//!
//! Only IEEE-exact operations (+, -, *, /, sqrt) are used, so that a seed gives the same bytes on every
//! machine: `sin` and friends of the standard library differ between platforms.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

pub(crate) const PI: f32 = std::f32::consts::PI;

/// A point, a direction or a linear RGB colour. World axes: x right, y up, z towards the camera.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Vec3 {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) z: f32,
}

/// Shorthand for a [`Vec3`].
pub(crate) const fn v3(x: f32, y: f32, z: f32) -> Vec3 {
    Vec3 { x, y, z }
}

impl Vec3 {
    pub(crate) const ZERO: Vec3 = v3(0.0, 0.0, 0.0);
    pub(crate) const UP: Vec3 = v3(0.0, 1.0, 0.0);

    pub(crate) const fn splat(v: f32) -> Vec3 {
        v3(v, v, v)
    }
    pub(crate) fn dot(self, o: Vec3) -> f32 {
        self.x * o.x + self.y * o.y + self.z * o.z
    }
    pub(crate) fn cross(self, o: Vec3) -> Vec3 {
        v3(self.y * o.z - self.z * o.y, self.z * o.x - self.x * o.z, self.x * o.y - self.y * o.x)
    }
    pub(crate) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }
    pub(crate) fn normalized(self) -> Vec3 {
        self * (1.0 / self.length().max(1e-20))
    }
    /// Componentwise product: light times albedo.
    pub(crate) fn times(self, o: Vec3) -> Vec3 {
        v3(self.x * o.x, self.y * o.y, self.z * o.z)
    }
    /// Componentwise mix, `self` at 0 and `o` at 1.
    pub(crate) fn lerp(self, o: Vec3, f: f32) -> Vec3 {
        self + (o - self) * f
    }
    pub(crate) const fn array(self) -> [f32; 3] {
        [self.x, self.y, self.z]
    }
}

impl Add for Vec3 {
    type Output = Vec3;
    fn add(self, o: Vec3) -> Vec3 {
        v3(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}
impl AddAssign for Vec3 {
    fn add_assign(&mut self, o: Vec3) {
        *self = *self + o;
    }
}
impl Sub for Vec3 {
    type Output = Vec3;
    fn sub(self, o: Vec3) -> Vec3 {
        v3(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}
impl Neg for Vec3 {
    type Output = Vec3;
    fn neg(self) -> Vec3 {
        v3(-self.x, -self.y, -self.z)
    }
}
impl Mul<f32> for Vec3 {
    type Output = Vec3;
    fn mul(self, s: f32) -> Vec3 {
        v3(self.x * s, self.y * s, self.z * s)
    }
}

/// A 3x3 matrix by rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mat3(pub(crate) [Vec3; 3]);

impl Mat3 {
    pub(crate) const IDENTITY: Mat3 = Mat3([v3(1.0, 0.0, 0.0), v3(0.0, 1.0, 0.0), v3(0.0, 0.0, 1.0)]);

    /// Rotation by `angle` radians, counter-clockwise about the unit `axis`.
    pub(crate) fn rotation(axis: Vec3, angle: f32) -> Mat3 {
        let (s, c) = (sin(angle), cos(angle));
        let Vec3 { x, y, z } = axis;
        let k = 1.0 - c;
        Mat3([
            v3(c + x * x * k, x * y * k - z * s, x * z * k + y * s),
            v3(y * x * k + z * s, c + y * y * k, y * z * k - x * s),
            v3(z * x * k - y * s, z * y * k + x * s, c + z * z * k),
        ])
    }
    pub(crate) fn apply(&self, v: Vec3) -> Vec3 {
        v3(self.0[0].dot(v), self.0[1].dot(v), self.0[2].dot(v))
    }
    /// The transposed matrix times `v`.
    pub(crate) fn apply_transposed(&self, v: Vec3) -> Vec3 {
        self.0[0] * v.x + self.0[1] * v.y + self.0[2] * v.z
    }
    pub(crate) fn transposed(&self) -> Mat3 {
        let [a, b, c] = self.0;
        Mat3([v3(a.x, b.x, c.x), v3(a.y, b.y, c.y), v3(a.z, b.z, c.z)])
    }
    /// Matrix product `self * o`: first `o`, then `self`.
    pub(crate) fn then(&self, o: &Mat3) -> Mat3 {
        let t = o.transposed();
        Mat3(self.0.map(|row| t.apply(row)))
    }
}

/// Largest integer not above `x`, for |x| < 2^31 (a cast is faster than the library call and exact).
pub(crate) fn floor(x: f32) -> i32 {
    let i = x as i32;
    i - i32::from(i as f32 > x)
}

/// `x` minus its floor, in [0, 1).
pub(crate) fn fract(x: f32) -> f32 {
    x - floor(x) as f32
}

/// Sine of `x` radians, absolute error below 5e-6.
pub(crate) fn sin(x: f32) -> f32 {
    let turns = x * (1.0 / (2.0 * PI));
    let mut a = (turns - floor(turns + 0.5) as f32) * (2.0 * PI);
    if a > PI / 2.0 {
        a = PI - a;
    } else if a < -PI / 2.0 {
        a = -PI - a;
    }
    let q = a * a;
    a * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362_880.0)))))
}

/// Cosine of `x` radians.
pub(crate) fn cos(x: f32) -> f32 {
    sin(x + PI / 2.0)
}

/// e^x for x in about [-80, 80], relative error below 1e-4.
#[expect(clippy::approx_constant, reason = "a fitted polynomial; another digit would change every picture")]
pub(crate) fn exp(x: f32) -> f32 {
    let t = (x * std::f32::consts::LOG2_E).clamp(-120.0, 120.0);
    let i = floor(t);
    let f = t - i as f32;
    let p = 1.0 + f * (0.693_15 + f * (0.240_23 + f * (0.055_5 + f * (0.009_62 + f * 0.001_5))));
    f32::from_bits(((i + 127) as u32) << 23) * p
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(crate) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let f = ((x - low) / (high - low)).clamp(0.0, 1.0);
    f * f * (3.0 - 2.0 * f)
}

/// Value noise in [0, 1], smooth, about one bump per unit.
pub(crate) fn noise(x: f32, y: f32) -> f32 {
    use crate::rng::lattice;
    let (i, j) = (floor(x), floor(y));
    let (u, v) = (x - i as f32, y - j as f32);
    let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
    let top = lattice(i, j) + (lattice(i + 1, j) - lattice(i, j)) * u;
    let bottom = lattice(i, j + 1) + (lattice(i + 1, j + 1) - lattice(i, j + 1)) * u;
    top + (bottom - top) * v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn approximations_stay_close_to_the_library() {
        for i in -4000..4000 {
            let x = i as f32 * 0.01;
            assert!((sin(x) - x.sin()).abs() < 1e-5, "sin {x}");
            assert!((cos(x) - x.cos()).abs() < 1e-5, "cos {x}");
            assert!((exp(x) / x.exp() - 1.0).abs() < 2e-3, "exp {x}");
            assert_eq!(floor(x), x.floor() as i32, "floor {x}");
        }
    }

    #[test]
    fn rotation_keeps_lengths_and_turns_counter_clockwise() {
        let quarter = Mat3::rotation(Vec3::UP, PI / 2.0);
        let turned = quarter.apply(v3(0.0, 0.0, 1.0));
        assert!((turned - v3(1.0, 0.0, 0.0)).length() < 1e-5, "{turned:?}");
    }
}
