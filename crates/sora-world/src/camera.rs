//! The pinhole camera.

use crate::clip::{CameraPose, Size};
use crate::math::{Vec3, v3};
use crate::shapes::Ray;

/// A camera set up for one picture size. The field of view spans the shorter side, so a subject stays in
/// frame whatever the aspect.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) eye: Vec3,
    right: Vec3,
    up: Vec3,
    pub(crate) forward: Vec3,
    tan_half: f32,
    /// World units per pixel at distance 1.
    pub(crate) pixel: f32,
    half_width: f32,
    half_height: f32,
}

impl View {
    /// A camera at `eye` looking at `target`, `tan_half` of the shorter side's half angle.
    pub(crate) fn look_at(eye: Vec3, target: Vec3, tan_half: f32, size: Size) -> View {
        let forward = (target - eye).normalized();
        let right = forward.cross(Vec3::UP).normalized();
        let half_width = size.width as f32 * 0.5;
        let half_height = size.height as f32 * 0.5;
        View {
            eye,
            right,
            up: right.cross(forward),
            forward,
            tan_half,
            pixel: tan_half / half_width.min(half_height).max(0.5),
            half_width,
            half_height,
        }
    }

    /// The ray through (column, row), pixel centres at .5; its direction has unit length.
    pub(crate) fn ray(&self, column: f32, row: f32) -> Ray {
        let x = (column - self.half_width) * self.pixel;
        let y = (self.half_height - row) * self.pixel;
        Ray { origin: self.eye, direction: (self.forward + self.right * x + self.up * y).normalized() }
    }

    /// `p` in camera coordinates: right, up, depth.
    fn to_camera(&self, p: Vec3) -> Vec3 {
        let d = p - self.eye;
        v3(d.dot(self.right), d.dot(self.up), d.dot(self.forward))
    }

    /// (column, row) of a world point in front of the camera.
    pub(crate) fn project(&self, p: Vec3) -> Option<[f32; 2]> {
        let c = self.to_camera(p);
        (c.z > 1e-3).then(|| {
            let scale = 1.0 / (c.z * self.pixel);
            [self.half_width + c.x * scale, self.half_height - c.y * scale]
        })
    }

    /// Half of the visible width, in world units, at `depth` in front of the camera.
    pub(crate) fn half_width_at(&self, depth: f32) -> f32 {
        self.half_width * self.pixel * depth
    }

    /// Pixel bounds (left, top, right, bottom; right and bottom exclusive) of a sphere, clipped to the
    /// picture; empty when it is out of sight.
    pub(crate) fn bounds(&self, centre: Vec3, radius: f32) -> [usize; 4] {
        let c = self.to_camera(centre);
        let (w, h) = (2.0 * self.half_width, 2.0 * self.half_height);
        if c.z <= -radius {
            return [0; 4];
        }
        if c.z <= radius * 1.01 {
            return [0, 0, w as usize, h as usize];
        }
        // Tangent lines from the eye to the circle in the (x, z) plane, then in the (y, z) plane.
        let span = |x: f32| {
            let root = radius * (x * x + c.z * c.z - radius * radius).max(0.0).sqrt();
            let base = c.z * c.z - radius * radius;
            ((x * c.z - root) / base / self.pixel, (x * c.z + root) / base / self.pixel)
        };
        let (left, right) = span(c.x);
        let (bottom, top) = span(c.y);
        let clip = |v: f32, limit: f32| v.clamp(0.0, limit) as usize;
        [
            clip(self.half_width + left - 1.0, w),
            clip(self.half_height - top - 1.0, h),
            clip(self.half_width + right + 2.0, w),
            clip(self.half_height - bottom + 2.0, h),
        ]
    }

    /// Whether any of a sphere may be in the picture.
    pub(crate) fn sees(&self, centre: Vec3, radius: f32) -> bool {
        let [left, top, right, bottom] = self.bounds(centre, radius);
        left < right && top < bottom
    }

    pub(crate) fn pose(&self) -> CameraPose {
        CameraPose {
            position: self.eye.array(),
            forward: self.forward.array(),
            right: self.right.array(),
            up: self.up.array(),
            tan_half_fov: self.tan_half,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_projects_to_the_pixel_whose_ray_meets_it() {
        let view = View::look_at(v3(1.0, 2.0, 5.0), v3(0.0, 0.5, 0.0), 0.36, Size { width: 160, height: 96 });
        let ray = view.ray(31.5, 70.5);
        let [column, row] = view.project(ray.at(4.0)).expect("in front");
        assert!((column - 31.5).abs() < 1e-2 && (row - 70.5).abs() < 1e-2, "{column} {row}");
    }

    #[test]
    fn bounds_hold_every_pixel_of_a_sphere() {
        let view = View::look_at(v3(0.0, 1.0, 5.0), v3(0.0, 0.5, 0.0), 0.36, Size { width: 64, height: 64 });
        let (centre, radius) = (v3(1.2, 0.8, 0.3), 0.5);
        let [left, top, right, bottom] = view.bounds(centre, radius);
        for row in 0..64 {
            for column in 0..64 {
                let ray = view.ray(column as f32 + 0.5, row as f32 + 0.5);
                let to = centre - ray.origin;
                let off = (to - ray.direction * to.dot(ray.direction)).length();
                let inside = (left..right).contains(&column) && (top..bottom).contains(&row);
                assert!(off > radius || inside, "{column} {row} outside {left} {top} {right} {bottom}");
            }
        }
    }
}
