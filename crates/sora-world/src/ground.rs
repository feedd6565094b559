//! Grounds: the plane y = 0, its textures, the sea's waves.

use crate::attributes::Ground;
use crate::math::{Vec3, exp, floor, fract, noise, sin, smoothstep, v3};
use crate::motion::Trail;
use crate::sky::Heaven;

/// Rings on the water around (x, z): after an impact `age` seconds ago, or for ever around what floats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ripple {
    pub(crate) x: f32,
    pub(crate) z: f32,
    pub(crate) age: f32,
}

/// The ground of a scene at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) kind: Ground,
    /// Shifts every texture, so that no two scenes show the same patch.
    pub(crate) offset: [f32; 2],
    pub(crate) time: f32,
    pub(crate) ripples: Vec<Ripple>,
    pub(crate) trail: Option<Trail>,
    /// Linear RGB of the line that a subject draws on hard grounds.
    pub(crate) paint: Vec3,
}

/// Light leaving a ground point: `base + sun * shadow`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lit {
    pub(crate) base: Vec3,
    pub(crate) sun: Vec3,
    /// Whether it is the plane y = 0, where shadows fall.
    pub(crate) floor: bool,
    /// Whether the subject left a mark here.
    pub(crate) mark: bool,
}

impl Floor {
    /// Average albedo, what subjects standing on it are lit by from below.
    pub(crate) fn albedo(&self) -> Vec3 {
        match self.kind {
            Ground::Grass => v3(0.10, 0.26, 0.03),
            Ground::Sand => v3(0.68, 0.47, 0.22),
            Ground::Snow => v3(0.84, 0.88, 0.95),
            Ground::Sea => v3(0.02, 0.16, 0.24),
            Ground::Checker => v3(0.40, 0.39, 0.38),
            Ground::Room => v3(0.40, 0.24, 0.12),
            Ground::Canvas => v3(0.84, 0.81, 0.74),
        }
    }

    /// Whether the picture of this ground changes with time.
    pub(crate) fn moves(&self) -> bool {
        self.kind == Ground::Sea || self.trail.is_some()
    }

    /// The ground seen at `p` along the unit vector `d` from a `distance`; `pixel` is the angle of a pixel.
    pub(crate) fn shade(&self, p: Vec3, d: Vec3, distance: f32, pixel: f32, heaven: &Heaven) -> Lit {
        let (x, z) = (p.x + self.offset[0], p.z + self.offset[1]);
        // Size of the pixel on the ground along the line of sight: details smaller than it fade out.
        let footprint = pixel * distance / d.y.abs().max(1e-3);
        let haze = 1.0 - exp(-distance * heaven.ground_haze);
        let lit = if self.kind == Ground::Sea {
            self.water(p, x, z, d, footprint, heaven)
        } else {
            let plain = self.land(x, z, footprint, pixel * distance);
            let (albedo, mark) = self.marked(plain, p, pixel * distance);
            Lit {
                base: albedo.times(heaven.zenith_light),
                sun: albedo.times(heaven.sun_light) * heaven.sun.y,
                floor: true,
                mark,
            }
        };
        Lit { base: lit.base.lerp(heaven.haze(), haze), sun: lit.sun * (1.0 - haze), ..lit }
    }

    fn land(&self, x: f32, z: f32, footprint: f32, pixel_width: f32) -> Vec3 {
        match self.kind {
            Ground::Grass => {
                let broad = noise(x * 0.9, z * 0.9);
                let tufts = noise(x * 5.0, z * 2.6) - 0.5;
                let fade = 1.0 / (1.0 + footprint * footprint * 18.0);
                let f = (broad * 0.8 + 0.1 + tufts * 0.75 * fade).clamp(0.0, 1.0);
                v3(0.045, 0.17, 0.012).lerp(v3(0.17, 0.37, 0.035), f)
            }
            Ground::Sand => {
                let warp = noise(x * 0.8, z * 0.8);
                let fade = 1.0 / (1.0 + footprint * footprint * 12.0);
                let ripple = sin(z * 8.0 + x * 1.3 + warp * 7.0) * fade;
                v3(0.68, 0.47, 0.22) * (0.94 + 0.10 * warp + 0.07 * ripple)
            }
            Ground::Snow => {
                let drift = noise(x * 0.7, z * 0.9);
                v3(0.84, 0.88, 0.95) * (0.88 + 0.14 * drift)
            }
            Ground::Checker => {
                // Box-filtered squares: the share of dark tile under the pixel, without a single sample more.
                let square = |v: f32, w: f32| {
                    let w = w.max(1e-4) * 0.5;
                    let triangle = |u: f32| (u * 0.5 - floor(u * 0.5) as f32 - 0.5).abs();
                    (2.0 * (triangle(v - w) - triangle(v + w)) / (2.0 * w)).clamp(-1.0, 1.0)
                };
                const TILE: f32 = 0.8;
                let (u, v) = (x / TILE, z / TILE);
                let f = 0.5 - 0.5 * square(u, pixel_width / TILE) * square(v, footprint / TILE);
                v3(0.70, 0.66, 0.58).lerp(v3(0.12, 0.13, 0.16), f)
            }
            Ground::Room => {
                // Planks towards the viewer, each of its own shade.
                const PLANK: f32 = 0.46;
                let u = x / PLANK;
                let shade = 0.86 + 0.28 * crate::rng::lattice(floor(u), 7);
                let seam = (fract(u) - 0.5).abs();
                let fade = 1.0 / (1.0 + pixel_width * pixel_width * 2000.0);
                let line = smoothstep(0.47, 0.5, seam) * fade;
                let grain = 1.0 + 0.07 * (noise(x * 14.0, z * 1.1) - 0.5) * fade;
                v3(0.42, 0.25, 0.12) * (shade * grain * (1.0 - 0.5 * line))
            }
            Ground::Canvas => v3(0.84, 0.81, 0.74) * (0.97 + 0.05 * noise(x * 1.2, z * 1.2)),
            Ground::Sea => self.albedo(),
        }
    }

    /// `albedo` changed by what the subject left at `p`, and whether it left something there.
    fn marked(&self, albedo: Vec3, p: Vec3, pixel_width: f32) -> (Vec3, bool) {
        let Some(trail) = &self.trail else {
            return (albedo, false);
        };
        let off = trail.distance(p.x, p.z);
        let edge = 0.03 + pixel_width;
        let (w, mark) = (trail.half_width, off < trail.half_width);
        let inside = 1.0 - smoothstep(w - edge, w + edge, off);
        let pressed = match self.kind {
            Ground::Snow => albedo.times(v3(0.50, 0.58, 0.74)),
            Ground::Sand => albedo * 0.55,
            Ground::Grass => albedo.times(v3(0.55, 0.42, 0.5)),
            _ => self.paint,
        };
        // Soft grounds are pushed up at the sides.
        let ridge = match self.kind {
            Ground::Snow | Ground::Sand => {
                smoothstep(w, 1.25 * w, off) * (1.0 - smoothstep(1.25 * w, 1.7 * w, off))
            }
            _ => 0.0,
        };
        ((albedo * (1.0 + 0.12 * ridge)).lerp(pressed, inside), mark)
    }

    fn water(&self, p: Vec3, x: f32, z: f32, d: Vec3, footprint: f32, heaven: &Heaven) -> Lit {
        let t = self.time;
        let fade = 1.0 / (1.0 + footprint * footprint * 3.0);
        // Slopes of a few crossing swells.
        let a = sin(0.5 * x + 1.9 * z + 1.7 * t);
        let b = sin(1.4 * x + 2.6 * z - 2.1 * t + 1.0);
        let c = sin(-2.3 * x + 4.3 * z + 2.6 * t);
        let mut slope_x = (0.02 * a + 0.05 * b - 0.06 * c) * fade;
        let mut slope_z = (0.10 * a + 0.08 * b + 0.07 * c) * fade;
        for ripple in &self.ripples {
            let (dx, dz) = (p.x - ripple.x, p.z - ripple.z);
            let r = (dx * dx + dz * dz).sqrt();
            let front = ripple.age * 1.6 + 0.5;
            let ring =
                sin(9.0 * (r - front)) * exp(-3.0 * (r - front) * (r - front)) * exp(-1.6 * ripple.age);
            slope_x += 0.35 * ring * dx / r.max(0.1);
            slope_z += 0.35 * ring * dz / r.max(0.1);
        }
        let normal = v3(-slope_x, 1.0, -slope_z).normalized();
        let facing = (-d.dot(normal)).max(0.0);
        let away = 1.0 - facing;
        let fresnel = 0.03 + 0.42 * away * away * away * away * away;
        let mut mirror = d + normal * (2.0 * facing);
        mirror.y = mirror.y.abs();
        let light = heaven.zenith_light + heaven.sun_light * 0.5;
        let body = v3(0.006, 0.11, 0.26).times(light) * 1.8;
        // Slopes towards the viewer catch light through the crest.
        let crest = v3(0.02, 0.22, 0.26).times(light) * (0.8 * (0.4 * a + 0.3 * b + 0.3 * c).max(0.0) * fade);
        let under = body + crest;
        let reflected = heaven.gradient(mirror) * fresnel;
        Lit { base: under * 0.5 + reflected, sun: under * 0.5 * (1.0 - fresnel), floor: true, mark: false }
    }
}
