//! Unit shapes and their analytic intersection with a ray.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::math::{Mat3, Vec3, v3};

/// A half-line `origin + t * direction`, t > 0; `direction` need not be of unit length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ray {
    pub(crate) origin: Vec3,
    pub(crate) direction: Vec3,
}

impl Ray {
    pub(crate) fn at(&self, t: f32) -> Vec3 {
        self.origin + self.direction * t
    }
}

/// A closed half-space `normal . p <= offset`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plane {
    pub(crate) normal: Vec3,
    pub(crate) offset: f32,
}

/// Shapes that fit the cube [-1, 1]^3; a [`Part`] scales and turns them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Radius 1.
    Sphere,
    /// The whole cube.
    Cube,
    /// Apex (0, 1, 0), base of radius 1 at y = -1.
    Cone,
    /// Axis y, radius 1, between y = -1 and y = 1.
    Cylinder,
    /// Axis y, outer radius 1, the tube's radius as given.
    Torus(f32),
    /// The intersection of half-spaces.
    Convex(&'static [Plane]),
}

/// Apex (0, 1, 0), square base at y = -1.
pub(crate) const PYRAMID: Shape = {
    const N: f32 = 0.894_427_2; // 2 / sqrt(5)
    const Y: f32 = 0.447_213_6;
    const PLANES: &[Plane] = &[
        Plane { normal: v3(N, Y, 0.0), offset: Y },
        Plane { normal: v3(-N, Y, 0.0), offset: Y },
        Plane { normal: v3(0.0, Y, N), offset: Y },
        Plane { normal: v3(0.0, Y, -N), offset: Y },
        Plane { normal: v3(0.0, -1.0, 0.0), offset: 1.0 },
    ];
    Shape::Convex(PLANES)
};

/// A ship's hull along x, the bow at +x: flat deck at y = 1, narrower keel.
pub(crate) const HULL: Shape = {
    const PLANES: &[Plane] = &[
        Plane { normal: v3(0.0, 1.0, 0.0), offset: 1.0 },
        Plane { normal: v3(0.0, -1.0, 0.0), offset: 1.0 },
        Plane { normal: v3(0.0, -0.287_348, 0.957_826), offset: 0.670_478 },
        Plane { normal: v3(0.0, -0.287_348, -0.957_826), offset: 0.670_478 },
        Plane { normal: v3(-0.980_581, -0.196_116, 0.0), offset: 0.784_465 },
        Plane { normal: v3(0.640_184, -0.256_074, 0.724_286), offset: 0.512_147 },
        Plane { normal: v3(0.640_184, -0.256_074, -0.724_286), offset: 0.512_147 },
    ];
    Shape::Convex(PLANES)
};

/// A right triangle in the (x, y) plane, thin along z: mast edge at x = -1, from foot y = -1 to head y = 1.
pub(crate) const SAIL: Shape = {
    const PLANES: &[Plane] = &[
        Plane { normal: v3(-1.0, 0.0, 0.0), offset: 1.0 },
        Plane { normal: v3(0.0, -1.0, 0.0), offset: 1.0 },
        Plane { normal: v3(FRAC_1_SQRT_2, FRAC_1_SQRT_2, 0.0), offset: 0.0 },
        Plane { normal: v3(0.0, 0.0, 1.0), offset: 1.0 },
        Plane { normal: v3(0.0, 0.0, -1.0), offset: 1.0 },
    ];
    Shape::Convex(PLANES)
};

/// A kite's outline in the (x, y) plane, thin along z: corners (0, 1), (+-0.8, 0.3), (0, -1).
pub(crate) const DIAMOND: Shape = {
    const PLANES: &[Plane] = &[
        Plane { normal: v3(0.658_505, 0.752_577, 0.0), offset: 0.752_577 },
        Plane { normal: v3(-0.658_505, 0.752_577, 0.0), offset: 0.752_577 },
        Plane { normal: v3(0.851_658, -0.524_097, 0.0), offset: 0.524_097 },
        Plane { normal: v3(-0.851_658, -0.524_097, 0.0), offset: 0.524_097 },
        Plane { normal: v3(0.0, 0.0, 1.0), offset: 1.0 },
        Plane { normal: v3(0.0, 0.0, -1.0), offset: 1.0 },
    ];
    Shape::Convex(PLANES)
};

/// A car's cabin: a box whose windscreens lean inwards.
pub(crate) const CABIN: Shape = {
    const PLANES: &[Plane] = &[
        Plane { normal: v3(0.0, 1.0, 0.0), offset: 1.0 },
        Plane { normal: v3(0.0, -1.0, 0.0), offset: 1.0 },
        Plane { normal: v3(0.928_477, 0.371_391, 0.0), offset: 0.557_086 },
        Plane { normal: v3(-0.980_581, 0.196_116, 0.0), offset: 0.784_465 },
        Plane { normal: v3(0.0, 0.099_504, 0.995_037), offset: 0.895_533 },
        Plane { normal: v3(0.0, 0.099_504, -0.995_037), offset: 0.895_533 },
    ];
    Shape::Convex(PLANES)
};

/// Where a ray enters a shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalHit {
    pub(crate) t: f32,
    pub(crate) normal: Vec3,
    /// Which smooth face was hit: edges between faces are anti-aliased.
    pub(crate) face: u8,
}

const NEAR: f32 = 1e-4;

impl Shape {
    /// The first intersection at t > 0 with a ray that starts outside.
    pub(crate) fn hit(&self, ray: &Ray) -> Option<LocalHit> {
        match self {
            Shape::Sphere => sphere(ray),
            Shape::Cube => cube(ray),
            Shape::Cone => cone(ray),
            Shape::Cylinder => cylinder(ray),
            Shape::Torus(tube) => torus(*tube, ray),
            Shape::Convex(planes) => convex(planes, ray),
        }
    }
}

fn sphere(ray: &Ray) -> Option<LocalHit> {
    let a = ray.direction.dot(ray.direction);
    let b = ray.origin.dot(ray.direction);
    let c = ray.origin.dot(ray.origin) - 1.0;
    let discriminant = b * b - a * c;
    if discriminant < 0.0 {
        return None;
    }
    let t = (-b - discriminant.sqrt()) / a;
    (t > NEAR).then(|| LocalHit { t, normal: ray.at(t), face: 0 })
}

fn cube(ray: &Ray) -> Option<LocalHit> {
    let (mut enter, mut leave) = (f32::MIN, f32::MAX);
    let (mut normal, mut face) = (Vec3::ZERO, 0);
    let axes = [
        (ray.origin.x, ray.direction.x, v3(1.0, 0.0, 0.0)),
        (ray.origin.y, ray.direction.y, v3(0.0, 1.0, 0.0)),
        (ray.origin.z, ray.direction.z, v3(0.0, 0.0, 1.0)),
    ];
    for (index, (origin, direction, axis)) in axes.into_iter().enumerate() {
        if direction.abs() < 1e-9 {
            if origin.abs() > 1.0 {
                return None;
            }
            continue;
        }
        let inverse = 1.0 / direction;
        let side = if direction > 0.0 { -1.0 } else { 1.0 };
        let near = (side - origin) * inverse;
        if near > enter {
            enter = near;
            normal = axis * side;
            face = 2 * index as u8 + u8::from(side > 0.0);
        }
        leave = leave.min((-side - origin) * inverse);
    }
    (enter > NEAR && enter < leave).then_some(LocalHit { t: enter, normal, face })
}

fn cone(ray: &Ray) -> Option<LocalHit> {
    let (o, d) = (ray.origin, ray.direction);
    let mut best: Option<LocalHit> = None;
    // x^2 + z^2 = ((1 - y) / 2)^2 between base and apex.
    let (g, h) = (0.5 * (1.0 - o.y), 0.5 * d.y);
    let a = d.x * d.x + d.z * d.z - h * h;
    let b = o.x * d.x + o.z * d.z + g * h;
    let c = o.x * o.x + o.z * o.z - g * g;
    let discriminant = b * b - a * c;
    if discriminant >= 0.0 && a.abs() > 1e-9 {
        let root = discriminant.sqrt();
        for t in [(-b - root) / a, (-b + root) / a] {
            let p = ray.at(t);
            if t > NEAR && (-1.0..=1.0).contains(&p.y) && best.is_none_or(|hit| t < hit.t) {
                best = Some(LocalHit { t, normal: v3(p.x, 0.25 * (1.0 - p.y), p.z).normalized(), face: 0 });
            }
        }
    }
    if d.y.abs() > 1e-9 {
        let t = (-1.0 - o.y) / d.y;
        let p = ray.at(t);
        if t > NEAR && p.x * p.x + p.z * p.z <= 1.0 && best.is_none_or(|hit| t < hit.t) {
            best = Some(LocalHit { t, normal: v3(0.0, -1.0, 0.0), face: 1 });
        }
    }
    best
}

fn cylinder(ray: &Ray) -> Option<LocalHit> {
    let (o, d) = (ray.origin, ray.direction);
    // The slab between the caps, then the infinite tube.
    let (mut enter, mut leave) = (f32::MIN, f32::MAX);
    let (mut normal, mut face) = (Vec3::ZERO, 0);
    if d.y.abs() > 1e-9 {
        let side = if d.y > 0.0 { -1.0 } else { 1.0 };
        (enter, leave) = ((side - o.y) / d.y, (-side - o.y) / d.y);
        (normal, face) = (v3(0.0, side, 0.0), if side > 0.0 { 1 } else { 2 });
    } else if o.y.abs() > 1.0 {
        return None;
    }
    let a = d.x * d.x + d.z * d.z;
    let b = o.x * d.x + o.z * d.z;
    let c = o.x * o.x + o.z * o.z - 1.0;
    if a > 1e-9 {
        let discriminant = b * b - a * c;
        if discriminant < 0.0 {
            return None;
        }
        let root = discriminant.sqrt();
        let t = (-b - root) / a;
        if t > enter {
            let p = ray.at(t);
            (enter, normal, face) = (t, v3(p.x, 0.0, p.z), 0);
        }
        leave = leave.min((-b + root) / a);
    } else if c > 0.0 {
        return None;
    }
    (enter > NEAR && enter < leave).then_some(LocalHit { t: enter, normal, face })
}

/// Sphere tracing: the distance to a torus is exact, and a quartic's roots are not worth their trouble.
fn torus(tube: f32, ray: &Ray) -> Option<LocalHit> {
    let length = ray.direction.length();
    let unit = Ray { origin: ray.origin, direction: ray.direction * (1.0 / length) };
    let ring = 1.0 - tube;
    // Start and stop at the bounding sphere.
    let middle = -unit.origin.dot(unit.direction);
    let square = 1.0 - unit.origin.dot(unit.origin) + middle * middle;
    if square < 0.0 {
        return None;
    }
    let (mut t, end) = ((middle - square.sqrt()).max(NEAR), middle + square.sqrt());
    for _ in 0..48 {
        let p = unit.at(t);
        let flat = (p.x * p.x + p.z * p.z).sqrt();
        let out = flat - ring;
        let distance = (out * out + p.y * p.y).sqrt() - tube;
        if distance < 4e-4 {
            let scale = out / flat.max(1e-6);
            let normal = v3(p.x * scale, p.y, p.z * scale).normalized();
            return Some(LocalHit { t: t / length, normal, face: 0 });
        }
        t += distance;
        if t > end {
            return None;
        }
    }
    None
}

fn convex(planes: &[Plane], ray: &Ray) -> Option<LocalHit> {
    let (mut enter, mut leave) = (f32::MIN, f32::MAX);
    let (mut normal, mut face) = (Vec3::ZERO, 0);
    for (index, plane) in planes.iter().enumerate() {
        let slope = plane.normal.dot(ray.direction);
        let distance = plane.offset - plane.normal.dot(ray.origin);
        if slope.abs() < 1e-9 {
            if distance < 0.0 {
                return None;
            }
        } else if slope < 0.0 {
            let t = distance / slope;
            if t > enter {
                (enter, normal, face) = (t, plane.normal, index as u8);
            }
        } else {
            leave = leave.min(distance / slope);
        }
    }
    (enter > NEAR && enter < leave).then_some(LocalHit { t: enter, normal, face })
}

/// A shape placed in the world.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) shape: Shape,
    pub(crate) position: Vec3,
    /// Square of the radius of a sphere around the position that holds the shape.
    reach: f32,
    /// World to local: inverse scale times inverse rotation.
    pub(crate) inverse: Mat3,
    pub(crate) material: crate::material::Material,
}

impl Part {
    /// `shape` scaled by half extents `scale`, then turned, then moved.
    pub(crate) fn new(
        shape: Shape,
        material: crate::material::Material,
        position: Vec3,
        rotation: &Mat3,
        scale: Vec3,
    ) -> Part {
        let [x, y, z] = rotation.transposed().0;
        let inverse = Mat3([x * (1.0 / scale.x), y * (1.0 / scale.y), z * (1.0 / scale.z)]);
        Part { shape, position, reach: scale.dot(scale), inverse, material }
    }

    /// Whether a ray with a unit direction passes close enough to be worth an intersection.
    pub(crate) fn near(&self, ray: &Ray) -> bool {
        let to = self.position - ray.origin;
        let along = to.dot(ray.direction);
        to.dot(to) - along * along <= self.reach
    }

    pub(crate) fn to_local(&self, ray: &Ray) -> Ray {
        Ray {
            origin: self.inverse.apply(ray.origin - self.position),
            direction: self.inverse.apply(ray.direction),
        }
    }

    pub(crate) fn normal_to_world(&self, normal: Vec3) -> Vec3 {
        self.inverse.apply_transposed(normal).normalized()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down_z(x: f32, y: f32) -> Ray {
        Ray { origin: v3(x, y, 5.0), direction: v3(0.0, 0.0, -1.0) }
    }

    #[test]
    fn rays_meet_the_shapes_where_geometry_says() {
        assert!((Shape::Sphere.hit(&down_z(0.6, 0.0)).expect("hit").t - 4.2).abs() < 1e-5);
        assert!(Shape::Sphere.hit(&down_z(1.01, 0.0)).is_none());
        assert!((Shape::Cube.hit(&down_z(0.9, -0.9)).expect("hit").t - 4.0).abs() < 1e-5);
        assert!(Shape::Cube.hit(&down_z(1.01, 0.0)).is_none());
        assert!((Shape::Cylinder.hit(&down_z(0.6, 0.9)).expect("hit").t - 4.2).abs() < 1e-5);
        assert!(Shape::Cylinder.hit(&down_z(0.0, 1.01)).is_none());
        // A torus seen edge on, then through its hole.
        assert!((Shape::Torus(0.3).hit(&down_z(0.0, 0.0)).expect("hit").t - 4.0).abs() < 1e-3);
        let through = Ray { origin: v3(0.1, 5.0, 0.2), direction: v3(0.0, -1.0, 0.0) };
        assert!(Shape::Torus(0.3).hit(&through).is_none());
        // Half way up, cone and pyramid are half as wide as their base.
        for shape in [Shape::Cone, PYRAMID] {
            assert!((shape.hit(&down_z(0.0, 0.0)).expect("hit").t - 4.5).abs() < 1e-4);
            assert!(shape.hit(&down_z(0.49, 0.0)).is_some());
            assert!(shape.hit(&down_z(0.51, 0.0)).is_none());
        }
    }

    #[test]
    fn no_shape_is_hit_behind_the_ray() {
        let ray = Ray { origin: v3(0.0, 0.0, 5.0), direction: v3(0.0, 0.0, 1.0) };
        for shape in [Shape::Sphere, Shape::Cube, Shape::Cone, Shape::Cylinder, Shape::Torus(0.3), PYRAMID] {
            assert!(shape.hit(&ray).is_none(), "{shape:?}");
        }
    }
}
