//! Skies and the light they give.

use crate::attributes::{Sky, Weather};
use crate::math::{Vec3, exp, floor, noise, sin, smoothstep, v3};
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
    /// How fast the ground fades into the haze, per unit of distance.
    pub(crate) ground_haze: f32,
    /// The same for objects; none in clear air.
    pub(crate) object_haze: f32,
}

impl Heaven {
    /// `side` in [-1, 1]: how far the light comes from the left (-1) or right (1); `lift` in [0, 1]: how high
    /// it stands within what the sky allows.
    pub(crate) fn new(kind: Sky, side: f32, lift: f32, star_seed: i32) -> Heaven {
        let (elevation, sun_light, zenith_light, bounce_light, zenith, horizon) = match kind {
            Sky::Clear => (
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
            Sky::Storm => (
                0.95 + 0.20 * lift,
                v3(0.86, 0.92, 1.0) * 0.30,
                v3(0.24, 0.26, 0.29),
                v3(0.13, 0.135, 0.14),
                v3(0.045, 0.055, 0.075),
                v3(0.17, 0.19, 0.22),
            ),
            Sky::Cloudy => (
                0.85 + 0.25 * lift,
                v3(1.0, 0.97, 0.92) * 0.50,
                v3(0.44, 0.47, 0.52),
                v3(0.26, 0.26, 0.25),
                v3(0.10, 0.27, 0.62),
                v3(0.52, 0.66, 0.84),
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
            ground_haze: 0.012,
            object_haze: 0.0,
        }
    }

    /// Light as it is in a room: from a lamp at night, softened by day.
    pub(crate) fn go_indoors(&mut self) {
        let lamp = self.kind == Sky::Night || self.kind == Sky::Storm;
        if lamp {
            self.sun_light = v3(1.0, 0.80, 0.52) * 0.55;
            self.zenith_light = v3(0.24, 0.19, 0.13);
        }
        self.bounce_light = self.zenith_light * 0.7;
        self.sun = (self.sun + Vec3::UP * 0.5).normalized();
        self.ground_haze = 0.0;
    }

    /// Changes the air: rain and snowfall dim the light, fog swallows what is far.
    pub(crate) fn set_weather(&mut self, weather: Weather) {
        // At night there is less light to scatter than the subject is lit by.
        let dim = if self.kind == Sky::Night { 0.22 } else { 1.0 };
        let grey = (self.zenith_light * 0.9 + self.sun_light * 0.35) * dim;
        match weather {
            Weather::Fair => {}
            Weather::Rain | Weather::Snowfall => {
                self.sun_light = self.sun_light * 0.72;
                self.zenith = self.zenith.lerp(grey, 0.35);
                self.horizon = self.horizon.lerp(grey, 0.45);
                self.ground_haze = 0.035;
                self.object_haze = 0.015;
            }
            Weather::Fog => {
                self.sun_light = self.sun_light * 0.60;
                self.zenith = self.zenith.lerp(grey, 0.72);
                self.horizon = grey;
                self.ground_haze = 0.17;
                self.object_haze = 0.055;
            }
        }
    }

    /// `colour` of an object seen at `distance` through the air.
    pub(crate) fn through_air(&self, colour: Vec3, distance: f32) -> Vec3 {
        if self.object_haze == 0.0 {
            return colour;
        }
        colour.lerp(self.horizon, 1.0 - exp(-distance * self.object_haze))
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
            Sky::Cloudy => {
                let (cover, shade) = self.clouds(d, 0.40, 0.62);
                colour = colour.lerp(v3(0.92, 0.93, 0.96).lerp(v3(0.60, 0.64, 0.70), shade), cover);
            }
            Sky::Storm => {
                let (cover, shade) = self.clouds(d, 0.15, 0.75);
                colour = colour.lerp(v3(0.16, 0.18, 0.21).lerp(v3(0.028, 0.034, 0.046), shade), 0.9 * cover);
            }
            Sky::Clear => {}
        }
        if self.object_haze > 0.03 {
            // Fog hides stars, clouds and most of the sun.
            colour = colour.lerp(self.horizon, 0.45 + 0.5 * exp(-d.y.max(0.0) * 4.0));
        }
        colour
    }

    /// How much of the sky a cloud covers along `d`, and how dark its underside is, both 0..1.
    fn clouds(&self, d: Vec3, low: f32, high: f32) -> (f32, f32) {
        // A layer overhead, bent so that it does not shrink to nothing at the horizon.
        let scale = 1.0 / (d.y.max(0.0) + 0.16);
        let shift = (self.star_seed & 1023) as f32;
        let (x, y) = (d.x * scale * 1.1 + shift, d.z * scale * 1.1);
        let broad = 0.62 * noise(x, y) + 0.26 * noise(x * 2.3, y * 2.3) + 0.12 * noise(x * 5.1, y * 5.1);
        let cover = smoothstep(low, high, broad) * smoothstep(-0.02, 0.06, d.y);
        (cover, smoothstep(high - 0.12, high + 0.22, broad))
    }

    fn stars(&self, d: Vec3, pixel: f32) -> Vec3 {
        // Cells on the walls of a cube; the wall z = -1 is the one behind the subject.
        const CELLS: f32 = 11.0;
        // A camera that turns around sees the other three sides of the sky.
        let (side, depth) = if d.z <= -0.2 {
            (d.x, -d.z)
        } else if d.x.abs() > d.z.abs() {
            (d.z, d.x.abs())
        } else {
            (d.x, d.z.abs())
        };
        let (x, y) = (side / depth * CELLS, d.y / depth * CELLS);
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
