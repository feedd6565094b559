//! Soft shadows on the ground.
//!
//! A shadow is cast once per frame onto a coarse grid that travels with its object and is blurred there: soft
//! edges for any shape at the price of a few hundred rays, and nothing that flickers.

use crate::body::Object;
use crate::math::{Vec3, floor, smoothstep, v3};
use crate::shapes::Ray;

const CELLS: usize = 36;
/// Cells at each border that stay free, so that the blur does not run over.
const MARGIN: f32 = 5.0;

/// How much of the sun an object takes from the ground around `centre`.
#[derive(Clone, Debug)]
pub(crate) struct ShadowMap {
    /// Middle of the grid, on the ground.
    pub(crate) centre: Vec3,
    half: f32,
    cells: Vec<f32>,
}

impl ShadowMap {
    /// The shadow of `object` under light from the unit vector `sun` (pointing up), left empty if `seen` says
    /// that nobody sees a sphere of that centre and radius.
    pub(crate) fn cast(object: &Object, sun: Vec3, seen: impl Fn(Vec3, f32) -> bool) -> ShadowMap {
        let centre = object.centre - sun * (object.centre.y / sun.y);
        let half = object.radius / sun.y * (CELLS as f32 / (CELLS as f32 - 2.0 * MARGIN));
        let mut map = ShadowMap { centre, half, cells: Vec::new() };
        if !seen(centre, map.reach()) {
            return map;
        }
        let step = 2.0 * half / CELLS as f32;
        let mut cells = Vec::with_capacity(CELLS * CELLS);
        for j in 0..CELLS {
            for i in 0..CELLS {
                let origin = v3(
                    centre.x - half + (i as f32 + 0.5) * step,
                    0.0,
                    centre.z - half + (j as f32 + 0.5) * step,
                );
                cells.push(f32::from(object.blocks(&Ray { origin, direction: sun })));
            }
        }
        // The higher the object, the softer the edge.
        let spread = 0.13 + 0.17 * smoothstep(0.2, 1.8, object.centre.y);
        for _ in 0..3 {
            blur(&mut cells, spread);
        }
        map.cells = cells;
        map
    }

    /// Radius of a sphere around the centre that holds the whole grid.
    pub(crate) fn reach(&self) -> f32 {
        self.half * std::f32::consts::SQRT_2
    }

    /// Share of the sun missing at the ground point `p`, 0..1.
    pub(crate) fn at(&self, p: Vec3) -> f32 {
        let scale = CELLS as f32 / (2.0 * self.half);
        let x = (p.x - self.centre.x + self.half) * scale - 0.5;
        let z = (p.z - self.centre.z + self.half) * scale - 0.5;
        let last = (CELLS - 1) as f32;
        if self.cells.is_empty() || !(0.0..last).contains(&x) || !(0.0..last).contains(&z) {
            return 0.0;
        }
        let (i, j) = (floor(x) as usize, floor(z) as usize);
        let (u, v) = (x - i as f32, z - j as f32);
        let row = |j: usize| {
            let (a, b) = (self.cells[j * CELLS + i], self.cells[j * CELLS + i + 1]);
            a + (b - a) * u
        };
        let (near, far) = (row(j), row(j + 1));
        near + (far - near) * v
    }
}

/// One pass of the kernel (a, 1 - 2a, a) along both axes.
fn blur(cells: &mut [f32], a: f32) {
    let pass = |cells: &mut [f32], stride: usize, across: usize| {
        for line in 0..CELLS {
            let mut before = 0.0;
            for k in 0..CELLS {
                let at = line * across + k * stride;
                let here = cells[at];
                let after = if k + 1 < CELLS { cells[at + stride] } else { 0.0 };
                cells[at] = here + a * (before + after - 2.0 * here);
                before = here;
            }
        }
    };
    pass(cells, 1, CELLS);
    pass(cells, CELLS, 1);
}

/// Share of the open sky that the ground point `p` sees past `object`, 0..1: the dark spot under things.
pub(crate) fn contact_shade(object: &Object, p: Vec3) -> f32 {
    let to = object.centre - p;
    let squared = to.dot(to);
    let radius = 0.85 * object.radius;
    let reach = 2.4 * object.radius;
    if squared > reach * reach {
        return 1.0;
    }
    let distance = squared.sqrt().max(1e-3);
    // A sphere's form factor over the hemisphere of a plane, faded to nothing at the reach.
    let hidden = (to.y.max(0.0) / distance) * (radius * radius / squared.max(1e-3));
    1.0 - 0.75 * hidden.min(1.0) * (1.0 - smoothstep(0.5 * reach, reach, distance))
}
