//! Surface colours and patterns, and the palette.

use crate::attributes::Colour;
use crate::math::{PI, Vec3, fract, sin, smoothstep, v3};

/// How a part's colour varies over its surface, in local coordinates of the unit shape.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    /// One colour.
    Plain,
    /// Six panels around the y axis, alternately light and dark, like a beach ball.
    Panels,
    /// A darker frame along the edges of a cube.
    Frame,
    /// Light bands across the y axis.
    Stripes,
    /// Six panels around the y axis, alternately coloured and light: stripes for what has no height.
    Sectors,
    /// Light round spots.
    Dots,
    /// Four fields, alternately light and dark, around the z axis: a kite.
    Quarters,
}

/// Colour, pattern and gloss of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Material {
    /// Linear RGB albedo.
    pub(crate) colour: Vec3,
    pub(crate) pattern: Pattern,
    /// Strength of the highlight, 0..1.
    pub(crate) gloss: f32,
}

impl Material {
    pub(crate) const fn new(colour: Vec3, pattern: Pattern, gloss: f32) -> Self {
        Material { colour, pattern, gloss }
    }

    /// Linear RGB albedo at the local point `p`.
    pub(crate) fn albedo(&self, p: Vec3) -> Vec3 {
        match self.pattern {
            Pattern::Plain => self.colour,
            Pattern::Panels => self.colour.lerp(self.shade(), panels(p)),
            Pattern::Sectors => self.colour.lerp(self.tint(), panels(p)),
            Pattern::Frame => {
                // On a face one coordinate is 1: the larger of the other two is the way to the edge.
                let (x, y, z) = (p.x.abs(), p.y.abs(), p.z.abs());
                let edge = (x + y + z - x.max(y).max(z) - x.min(y).min(z)).min(1.0);
                self.colour.lerp(self.shade(), smoothstep(0.76, 0.82, edge))
            }
            Pattern::Stripes => {
                let wave = sin(p.y * (3.0 * PI));
                self.colour.lerp(self.tint(), smoothstep(-0.25, 0.25, wave))
            }
            Pattern::Dots => {
                // One lattice of spots for each axis, on the sides that face it most.
                let (x, y, z) = (p.x.abs(), p.y.abs(), p.z.abs());
                let (u, v) = if x >= y && x >= z {
                    (p.y, p.z)
                } else if y >= z {
                    (p.x, p.z)
                } else {
                    (p.x, p.y)
                };
                let cell = |w: f32| fract(w * 1.7 + 0.5) - 0.5;
                let off = (cell(u) * cell(u) + cell(v) * cell(v)).sqrt();
                self.colour.lerp(self.tint(), 1.0 - smoothstep(0.24, 0.31, off))
            }
            Pattern::Quarters => {
                let side = p.x * p.y;
                self.colour.lerp(self.shade(), smoothstep(-0.01, 0.01, side))
            }
        }
    }

    /// The light companion of the colour in stripes and dots: white, or dark grey on white.
    fn tint(&self) -> Vec3 {
        let c = self.colour;
        if c.x + c.y + c.z > 2.2 { Vec3::splat(0.12) } else { Vec3::splat(0.88) }
    }

    /// The darker companion of the colour, of the same hue. Black gets a lighter one: it has no darker.
    fn shade(&self) -> Vec3 {
        let c = self.colour;
        if c.x + c.y + c.z < 0.15 { c + Vec3::splat(0.05) } else { c * 0.45 }
    }
}

/// Which of six panels around the y axis `p` lies on, 0 or 1, smooth between; 0 at the poles.
fn panels(p: Vec3) -> f32 {
    // sin(3 * longitude) without the arctangent; its sign says which panel.
    let rho = (p.x * p.x + p.z * p.z).sqrt();
    let wave = (3.0 * p.x * p.x * p.z - p.z * p.z * p.z) / (rho * rho * rho).max(1e-4);
    smoothstep(-0.25, 0.25, wave) * smoothstep(0.1, 0.2, rho)
}

/// Linear RGB of a colour word.
pub(crate) const fn paint(colour: Colour) -> Vec3 {
    match colour {
        Colour::Red => v3(0.80, 0.025, 0.03),
        Colour::Green => v3(0.01, 0.42, 0.10),
        Colour::Blue => v3(0.02, 0.09, 0.75),
        Colour::Yellow => v3(0.95, 0.72, 0.01),
        Colour::Orange => v3(0.95, 0.24, 0.01),
        Colour::Purple => v3(0.30, 0.03, 0.55),
        Colour::White => v3(0.90, 0.90, 0.90),
        Colour::Black => v3(0.015, 0.015, 0.018),
        Colour::Pink => v3(0.92, 0.30, 0.48),
        Colour::Turquoise => v3(0.02, 0.55, 0.52),
        Colour::Brown => v3(0.22, 0.085, 0.03),
        Colour::Grey => v3(0.25, 0.25, 0.26),
    }
}
