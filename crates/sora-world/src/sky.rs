//! Skies and the light they give.

use crate::attributes::Sky;
use crate::math::{Vec3, exp, floor, sin, smoothstep, v3};
use crate::rng::lattice;

/// The sun or moon, the air's light, and what is seen above the horizon.
#[derive(Clone, Debug)]
pub(crate) struct Heaven {
    kind: Sky,
    /// Unit vector towards the key light.
    pub(crate) sun: Vec3,
    /// Linear RGB strength of the key light.
    pub(crate) sun_light: Vec3,
    /// Light from straight above.
    pub(crate) zenith_light: Vec3,
    /// Light from straight below, before the ground's colour.
    pub(crate) bounce_light: Vec3,
    zenith: Vec3,
    horizon: Vec3,
    /// Where the disc hangs (sun at sunset, moon at night): not where the key light comes from, which would
    /// leave every subject a silhouette.
    disc: Vec3,
    star_seed: i32,
}

impl Heaven {
    /// `side` in [-1, 1]: how far the light comes from the left (-1) or right (1); `lift` in [0, 1]: how high
    /// it stands within what the sky allows.
    pub(crate) fn new(kind: Sky, side: f32, lift: f32, star_seed: i32) -> Heaven {
        let (elevation, sun_light, zenith_light, bounce_light, zenith, horizon) = match kind {
            Sky::Clear | Sky::Cloudy | Sky::Storm => (
                0.80 + 0.25 * lift,
                v3(1.0, 0.95, 0.86) * 0.80,
                v3(0.30, 0.36, 0.46),
                v3(0.22, 0.22, 0.20),
                v3(0.045, 0.20, 0.66),
                v3(0.40, 0.64, 0.92),
            ),
            Sky::Sunset => (
                0.42 + 0.15 * lift,
                v3(1.0, 0.76, 0.52) * 0.80,
                v3(0.34, 0.27, 0.32),
                v3(0.26, 0.18, 0.16),
                v3(0.10, 0.08, 0.30),
                v3(0.98, 0.40, 0.12),
            ),
            Sky::Night => (
                0.75 + 0.25 * lift,
                v3(0.90, 0.94, 1.0) * 0.60,
                v3(0.15, 0.16, 0.19),
                v3(0.08, 0.085, 0.11),
                v3(0.004, 0.008, 0.035),
                v3(0.03, 0.055, 0.14),
            ),
        };
        let (height, flat) = (sin(elevation), sin(std::f32::consts::FRAC_PI_2 - elevation));
        // From the viewer's side of the subject, so that the face we see is lit.
        let azimuth = v3(side, 0.0, 0.85).normalized();
        let disc = v3(side * 0.22, if kind == Sky::Night { 0.135 } else { 0.045 }, -1.0).normalized();
        Heaven {
            kind,
            sun: azimuth * flat + Vec3::UP * height,
            sun_light,
            zenith_light,
            bounce_light,
            zenith,
            horizon,
            disc,
            star_seed,
        }
    }

    /// Linear RGB of the haze where ground meets sky.
    pub(crate) fn haze(&self) -> Vec3 {
        self.horizon
    }

    /// Linear RGB seen along the unit vector `d`, without stars and discs: what water mirrors.
    pub(crate) fn gradient(&self, d: Vec3) -> Vec3 {
        let up = d.y.max(0.0);
        let height = match self.kind {
            Sky::Sunset => 1.0 - exp(-up * 5.0),
            _ => 1.0 - exp(-up * 4.2),
        };
        let mut colour = self.horizon.lerp(self.zenith, height);
        if self.kind == Sky::Sunset {
            // A band of rose between the orange and the violet.
            let band = exp(-(up - 0.16) * (up - 0.16) * 90.0);
            colour += v3(0.30, 0.05, 0.10) * band;
        }
        colour
    }

    /// Linear RGB of the sky along the unit vector `d`; `pixel` is the angle of a pixel.
    pub(crate) fn colour(&self, d: Vec3, pixel: f32) -> Vec3 {
        let mut colour = self.gradient(d);
        // Squared sine of the angle to the disc is stable in single precision, the cosine is not.
        let off = (d - self.disc).length();
        match self.kind {
            Sky::Sunset => {
                colour += v3(1.0, 0.55, 0.15) * (0.55 * exp(-off * 7.0));
                let disc = 1.0 - smoothstep(0.085 - pixel, 0.085 + pixel, off);
                colour = colour.lerp(v3(1.5, 1.05, 0.45), disc);
            }
            Sky::Night => {
                colour += self.stars(d, pixel);
                colour += v3(0.10, 0.13, 0.22) * (0.6 * exp(-off * 9.0));
                let disc = 1.0 - smoothstep(0.062 - pixel, 0.062 + pixel, off);
                colour = colour.lerp(v3(0.92, 0.92, 0.82), disc);
            }
            _ => {}
        }
        colour
    }

    fn stars(&self, d: Vec3, pixel: f32) -> Vec3 {
        // Cells on the plane z = -1 (the part of the sky that a camera facing -z sees).
        const CELLS: f32 = 11.0;
        if d.z > -0.2 {
            return Vec3::ZERO;
        }
        let (x, y) = (d.x / -d.z * CELLS, d.y / -d.z * CELLS);
        let (i, j) = (floor(x), floor(y));
        let pick = lattice(i.wrapping_mul(3) + self.star_seed, j);
        if pick < 0.55 {
            return Vec3::ZERO;
        }
        let (u, v) = (lattice(i, j + self.star_seed) * 0.6 + 0.2, lattice(j + self.star_seed, i) * 0.6 + 0.2);
        let (dx, dy) = (x - i as f32 - u, y - j as f32 - v);
        let radius = (0.6 * pixel * CELLS).max(0.06);
        let glow = 1.0 - smoothstep(0.3 * radius, 1.6 * radius, (dx * dx + dy * dy).sqrt());
        v3(0.85, 0.9, 1.0) * (glow * (0.25 + 1.6 * (pick - 0.55)))
    }
}
