//! The inside of a room: walls, a skirting board and a window that shows the sky.

use crate::ground::Lit;
use crate::math::{Vec3, smoothstep, v3};
use crate::shapes::Ray;
use crate::sky::Heaven;

const BACK: f32 = -3.3;
const SIDE: f32 = 3.7;
const CEILING: f32 = 3.3;
/// Half extents and height of the window's middle.
const WINDOW: (f32, f32, f32) = (0.95, 0.62, 1.95);

/// What a ray sees that does not meet the floor, or meets a wall before it; none if the floor comes first.
/// `window` is the x of the window's middle.
pub(crate) fn walls(ray: &Ray, window: f32, heaven: &Heaven, pixel: f32) -> Option<Lit> {
    let (o, d) = (ray.origin, ray.direction);
    let floor = if d.y < -2e-4 { -o.y / d.y } else { f32::MAX };
    let mut nearest = floor;
    let mut colour = None;
    if d.z < -1e-6 {
        let t = (BACK - o.z) / d.z;
        if t > 0.0 && t < nearest {
            nearest = t;
            colour = Some(back(ray.at(t), d, window, heaven, pixel * t));
        }
    }
    if d.x.abs() > 1e-6 {
        let t = (SIDE * d.x.signum() - o.x) / d.x;
        if t > 0.0 && t < nearest {
            nearest = t;
            // The wall on the far side from the light is the brighter one.
            let lit = 0.86 - 0.10 * d.x.signum() * heaven.sun.x.signum();
            colour = Some(plaster(ray.at(t), heaven) * lit);
        }
    }
    if d.y > 1e-6 {
        let t = (CEILING - o.y) / d.y;
        if t > 0.0 && t < nearest {
            colour = Some(v3(0.80, 0.79, 0.75).times(heaven.zenith_light) * 1.3);
        }
    }
    colour.map(|base| Lit { base, ..Lit::default() })
}

fn plaster(p: Vec3, heaven: &Heaven) -> Vec3 {
    let light = heaven.zenith_light + heaven.sun_light * 0.42;
    // The corner between wall and floor gets less light.
    let corner = 0.82 + 0.18 * smoothstep(0.0, 0.7, p.y);
    let paint = if p.y < 0.17 { v3(0.80, 0.78, 0.72) } else { v3(0.66, 0.56, 0.42) };
    paint.times(light) * corner
}

fn back(p: Vec3, d: Vec3, window: f32, heaven: &Heaven, pixel: f32) -> Vec3 {
    let (half_width, half_height, height) = WINDOW;
    let (x, y) = ((p.x - window).abs(), (p.y - height).abs());
    let out = (x - half_width).max(y - half_height);
    // A frame around the panes and a cross between them.
    let cross = x.min(y);
    let wood = smoothstep(-0.04 - pixel, -0.04 + pixel, out)
        .max(1.0 - smoothstep(0.035 - pixel, 0.035 + pixel, cross));
    let wall = smoothstep(0.09 - pixel, 0.09 + pixel, out);
    let frame = v3(0.82, 0.80, 0.76).times(heaven.zenith_light + heaven.sun_light * 0.4);
    // The panes show a higher part of the sky than the line of sight: more of it is recognised.
    let sky = heaven.colour(v3(d.x, d.y + 0.10, d.z).normalized(), pixel);
    sky.lerp(frame, wood).lerp(plaster(p, heaven), wall)
}
