//! Rain and snowflakes in front of the lens. Particles live on the screen: they are drawn over a frame and hide
//! nothing in the truth.

use crate::attributes::Weather;
use crate::clip::Size;
use crate::math::{Vec3, floor, fract, sin, v3};
use crate::rng::Rng;

/// Draws what falls at `t` seconds over the linear `colour`.
pub(crate) fn fall(weather: Weather, seed: u64, t: f32, size: Size, light: Vec3, colour: &mut [Vec3]) {
    match weather {
        Weather::Rain => rain(seed, t, size, light, colour),
        Weather::Snowfall => snow(seed, t, size, light, colour),
        Weather::Fair | Weather::Fog => {}
    }
}

/// Particles for a picture: their density does not depend on the aspect.
fn count(size: Size, per_square: f32) -> usize {
    let (w, h) = (size.width as f32, size.height as f32);
    (per_square * w.max(h) / w.min(h)) as usize
}

fn rain(seed: u64, t: f32, size: Size, light: Vec3, colour: &mut [Vec3]) {
    let (w, h) = (size.width as f32, size.height as f32);
    let unit = w.min(h);
    let bright = light * 0.9 + Vec3::splat(0.10);
    let mut rng = Rng::stream(seed, "rain");
    for _ in 0..count(size, 95.0) {
        let near = rng.range(0.45, 1.0);
        let (x0, y0) = (rng.range(-0.1, 1.1) * w, rng.unit());
        // Far drops are slower and shorter, as in any picture of rain.
        let cycle = t * 1.9 * near + y0;
        let turn = floor(cycle) as f32;
        let y = (fract(cycle) * 1.2 - 0.1) * h;
        let x = fract((x0 + turn * 0.37 * w) / w) * w;
        let length = 0.085 * unit * near;
        let steps = length.max(1.0) as usize;
        for k in 0..steps {
            let along = k as f32;
            let strength = 0.42 * near * (1.0 - along / steps as f32);
            blot(x + 0.18 * along, y - along, 0.45 * (unit / 128.0).max(1.0), strength, bright, size, colour);
        }
    }
}

fn snow(seed: u64, t: f32, size: Size, light: Vec3, colour: &mut [Vec3]) {
    let (w, h) = (size.width as f32, size.height as f32);
    let unit = w.min(h);
    let bright = (light * 1.1 + Vec3::splat(0.35)).lerp(v3(1.0, 1.0, 1.0), 0.4);
    let mut rng = Rng::stream(seed, "snow");
    for _ in 0..count(size, 85.0) {
        let near = rng.range(0.35, 1.0);
        let (x0, y0, phase) = (rng.unit() * w, rng.unit(), rng.range(0.0, 6.0));
        let cycle = t * 0.30 * near + y0;
        let y = (fract(cycle) * 1.1 - 0.05) * h;
        let sway = 0.03 * unit * sin(1.6 * t + phase);
        let x = fract((x0 + floor(cycle) as f32 * 0.37 * w) / w) * w + sway;
        blot(x, y, 0.0125 * unit * near, 0.92, bright, size, colour);
    }
}

/// A soft disc of `radius` pixels around (x, y).
fn blot(x: f32, y: f32, radius: f32, strength: f32, paint: Vec3, size: Size, colour: &mut [Vec3]) {
    let reach = radius + 1.0;
    let (width, height) = (size.width as i32, size.height as i32);
    for row in floor(y - reach).max(0)..=floor(y + reach).min(height - 1) {
        for column in floor(x - reach).max(0)..=floor(x + reach).min(width - 1) {
            let (dx, dy) = (column as f32 + 0.5 - x, row as f32 + 0.5 - y);
            let cover = (radius + 0.5 - (dx * dx + dy * dy).sqrt()).clamp(0.0, 1.0) * strength;
            let at = row as usize * size.width as usize + column as usize;
            colour[at] = colour[at].lerp(paint, cover);
        }
    }
}
