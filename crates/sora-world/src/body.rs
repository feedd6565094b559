//! Subjects as assemblies of shapes.

use crate::attributes::{Colour, Subject, Texture};
use crate::material::{Material, Pattern, paint};
use crate::math::{Mat3, PI, Vec3, v3};
use crate::shapes::{CABIN, DIAMOND, HULL, PYRAMID, Part, Ray, SAIL, Shape};

const WOOD: Vec3 = v3(0.20, 0.10, 0.045);
const RUBBER: Vec3 = v3(0.02, 0.02, 0.022);
const STEEL: Vec3 = v3(0.55, 0.56, 0.58);
const GLASS: Vec3 = v3(0.04, 0.07, 0.11);
const CLOTH: Vec3 = v3(0.88, 0.86, 0.80);
const TILES: Vec3 = v3(0.30, 0.07, 0.04);

/// One shape of a body, about the body's centre.
#[derive(Clone, Debug)]
struct Piece {
    shape: Shape,
    material: Material,
    offset: Vec3,
    rotation: Mat3,
    /// Half extents.
    scale: Vec3,
}

impl Piece {
    fn new(shape: Shape, material: Material, offset: Vec3, scale: Vec3) -> Piece {
        Piece { shape, material, offset, rotation: Mat3::IDENTITY, scale }
    }

    fn turned(self, axis: Vec3, angle: f32) -> Piece {
        Piece { rotation: Mat3::rotation(axis, angle), ..self }
    }
}

/// A subject's parts around its own centre, for size 1; the ground is `rest` below the centre. What has a
/// front faces +x.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pieces: Vec<Piece>,
    /// Height of the centre above the ground at rest.
    pub(crate) rest: f32,
    /// The same while it rolls.
    pub(crate) rolling_rest: f32,
    /// Half of its width.
    pub(crate) half_width: f32,
    /// Radius of a sphere around the centre that holds everything.
    pub(crate) reach: f32,
}

impl Body {
    /// The body of `subject` painted in `colour`, about 1.1 units high.
    pub(crate) fn new(subject: Subject, colour: Colour, texture: Texture) -> Body {
        let colour = paint(colour);
        let patterned = |plain| match texture {
            Texture::Plain => plain,
            Texture::Striped => Pattern::Stripes,
            Texture::Dotted => Pattern::Dots,
        };
        let main = |plain, gloss| Material::new(colour, patterned(plain), gloss);
        let plain = |colour, gloss| Material::new(colour, Pattern::Plain, gloss);
        let one = |shape, pattern, gloss, scale: Vec3, reach| Body {
            pieces: vec![Piece::new(shape, main(pattern, gloss), Vec3::ZERO, scale)],
            rest: scale.y,
            rolling_rest: scale.y,
            half_width: scale.x,
            reach,
        };
        let many = |rest: f32, half_width: f32, reach: f32, pieces: Vec<Piece>| Body {
            pieces,
            rest,
            rolling_rest: rest,
            half_width,
            reach,
        };
        let (x_axis, z_axis) = (v3(1.0, 0.0, 0.0), v3(0.0, 0.0, 1.0));
        match subject {
            Subject::Ball => one(Shape::Sphere, Pattern::Panels, 0.5, Vec3::splat(0.56), 0.565),
            Subject::Cube => one(Shape::Cube, Pattern::Frame, 0.15, Vec3::splat(0.46), 0.80),
            Subject::Pyramid => one(PYRAMID, Pattern::Plain, 0.05, v3(0.62, 0.54, 0.62), 1.03),
            Subject::Cone => one(Shape::Cone, Pattern::Panels, 0.25, v3(0.58, 0.58, 0.58), 0.83),
            Subject::Cylinder => Body {
                rolling_rest: 0.44,
                ..one(Shape::Cylinder, Pattern::Panels, 0.3, v3(0.44, 0.52, 0.44), 0.69)
            },
            Subject::Torus => {
                let pattern = match texture {
                    Texture::Striped => Pattern::Sectors,
                    _ => patterned(Pattern::Panels),
                };
                let material = Material::new(colour, pattern, 0.5);
                let ring = Piece::new(Shape::Torus(0.27), material, Vec3::ZERO, Vec3::splat(0.60));
                many(0.60, 0.60, 0.61, vec![ring.turned(x_axis, PI / 2.0)])
            }
            Subject::Boat => many(
                0.42,
                0.72,
                1.02,
                vec![
                    Piece::new(HULL, main(Pattern::Plain, 0.3), v3(0.0, -0.22, 0.0), v3(0.78, 0.20, 0.30)),
                    Piece::new(
                        Shape::Cylinder,
                        plain(WOOD, 0.1),
                        v3(0.02, 0.32, 0.0),
                        v3(0.025, 0.52, 0.025),
                    ),
                    Piece::new(SAIL, plain(CLOTH, 0.0), v3(-0.24, 0.38, 0.0), v3(-0.24, 0.40, 0.015)),
                    Piece::new(SAIL, main(Pattern::Plain, 0.0), v3(0.24, 0.30, 0.0), v3(0.19, 0.32, 0.015)),
                ],
            ),
            Subject::Kite => {
                let bow = |x: f32, y: f32| {
                    Piece::new(
                        Shape::Sphere,
                        main(Pattern::Plain, 0.1),
                        v3(x, y, 0.0),
                        v3(0.075, 0.045, 0.045),
                    )
                };
                many(
                    0.62,
                    0.52,
                    1.16,
                    vec![
                        Piece::new(
                            DIAMOND,
                            main(Pattern::Quarters, 0.1),
                            v3(0.0, 0.18, 0.0),
                            v3(0.62, 0.68, 0.03),
                        ),
                        bow(0.05, -0.62),
                        bow(-0.05, -0.76),
                        bow(0.04, -0.90),
                        bow(-0.03, -1.04),
                    ],
                )
            }
            Subject::Car => {
                let wheel = |x: f32, z: f32| {
                    Piece::new(Shape::Cylinder, plain(RUBBER, 0.1), v3(x, -0.24, z), v3(0.17, 0.07, 0.17))
                        .turned(x_axis, PI / 2.0)
                };
                let hub = |x: f32, z: f32| {
                    Piece::new(Shape::Cylinder, plain(STEEL, 0.5), v3(x, -0.24, z), v3(0.08, 0.078, 0.08))
                        .turned(x_axis, PI / 2.0)
                };
                let lamp = |z: f32| {
                    Piece::new(
                        Shape::Sphere,
                        plain(v3(0.9, 0.85, 0.6), 0.6),
                        v3(0.77, -0.08, z),
                        v3(0.04, 0.06, 0.07),
                    )
                };
                many(
                    0.41,
                    0.80,
                    0.92,
                    vec![
                        Piece::new(
                            Shape::Cube,
                            main(Pattern::Plain, 0.5),
                            v3(0.0, -0.10, 0.0),
                            v3(0.78, 0.15, 0.36),
                        ),
                        Piece::new(CABIN, plain(GLASS, 0.8), v3(-0.10, 0.19, 0.0), v3(0.50, 0.15, 0.31)),
                        Piece::new(
                            Shape::Cube,
                            main(Pattern::Plain, 0.4),
                            v3(-0.19, 0.35, 0.0),
                            v3(0.27, 0.025, 0.25),
                        ),
                        wheel(0.46, 0.33),
                        wheel(-0.46, 0.33),
                        wheel(0.46, -0.33),
                        wheel(-0.46, -0.33),
                        hub(0.46, 0.33),
                        hub(-0.46, 0.33),
                        hub(0.46, -0.33),
                        hub(-0.46, -0.33),
                        lamp(0.22),
                        lamp(-0.22),
                    ],
                )
            }
            Subject::Tree => {
                let leaves = |x: f32, y: f32, z: f32, r: f32| {
                    Piece::new(Shape::Sphere, main(Pattern::Plain, 0.05), v3(x, y, z), v3(r, 0.92 * r, r))
                };
                many(
                    0.80,
                    0.50,
                    1.02,
                    vec![
                        Piece::new(
                            Shape::Cylinder,
                            plain(WOOD, 0.0),
                            v3(0.0, -0.45, 0.0),
                            v3(0.10, 0.40, 0.10),
                        ),
                        leaves(0.0, 0.50, 0.0, 0.42),
                        leaves(-0.27, 0.18, 0.10, 0.36),
                        leaves(0.28, 0.15, 0.05, 0.35),
                        leaves(0.02, 0.12, -0.24, 0.36),
                    ],
                )
            }
            Subject::House => many(
                0.55,
                0.55,
                1.00,
                vec![
                    Piece::new(
                        Shape::Cube,
                        main(Pattern::Plain, 0.05),
                        v3(0.0, -0.20, 0.0),
                        v3(0.50, 0.35, 0.42),
                    ),
                    Piece::new(PYRAMID, plain(TILES, 0.05), v3(0.0, 0.40, 0.0), v3(0.64, 0.25, 0.56)),
                    Piece::new(Shape::Cube, plain(WOOD, 0.1), v3(0.0, -0.33, 0.42), v3(0.11, 0.22, 0.012)),
                    Piece::new(Shape::Cube, plain(GLASS, 0.8), v3(0.30, -0.14, 0.42), v3(0.10, 0.10, 0.012)),
                    Piece::new(Shape::Cube, plain(GLASS, 0.8), v3(-0.30, -0.14, 0.42), v3(0.10, 0.10, 0.012)),
                    Piece::new(Shape::Cube, plain(GLASS, 0.8), v3(0.50, -0.14, 0.0), v3(0.012, 0.10, 0.14)),
                    Piece::new(Shape::Cube, plain(GLASS, 0.8), v3(-0.50, -0.14, 0.0), v3(0.012, 0.10, 0.14)),
                ],
            ),
            Subject::Mushroom => {
                // A plain mushroom has the white spots everybody draws.
                let pattern = if texture == Texture::Striped { Pattern::Stripes } else { Pattern::Dots };
                let cap = Material::new(colour, pattern, 0.2);
                many(
                    0.52,
                    0.58,
                    0.78,
                    vec![
                        Piece::new(
                            Shape::Cylinder,
                            plain(CLOTH, 0.0),
                            v3(0.0, -0.26, 0.0),
                            v3(0.17, 0.27, 0.17),
                        ),
                        Piece::new(Shape::Sphere, cap, v3(0.0, 0.17, 0.0), v3(0.60, 0.38, 0.60))
                            .turned(z_axis, 0.0),
                    ],
                )
            }
        }
    }

    /// The body in the world: turned by `rotation` and scaled by `size` about its centre at `position`.
    pub(crate) fn place(&self, size: f32, position: Vec3, rotation: &Mat3) -> Object {
        let parts = self
            .pieces
            .iter()
            .map(|piece| {
                let at = position + rotation.apply(piece.offset) * size;
                let turned = rotation.then(&piece.rotation);
                Part::new(piece.shape, piece.material, at, &turned, piece.scale * size)
            })
            .collect();
        Object { parts, centre: position, radius: self.reach * size }
    }
}

/// A subject in the world at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) parts: Vec<Part>,
    pub(crate) centre: Vec3,
    pub(crate) radius: f32,
}

/// Where a ray meets an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) t: f32,
    pub(crate) normal: Vec3,
    pub(crate) albedo: Vec3,
    pub(crate) gloss: f32,
    /// Part (upper five bits) and face, to find edges.
    pub(crate) patch: u8,
}

impl Object {
    fn near(&self, ray: &Ray) -> bool {
        let to = self.centre - ray.origin;
        let along = to.dot(ray.direction);
        to.dot(to) - along * along <= self.radius * self.radius && along > -self.radius
    }

    /// The nearest intersection; `ray.direction` has unit length.
    pub(crate) fn hit(&self, ray: &Ray) -> Option<Hit> {
        if !self.near(ray) {
            return None;
        }
        let mut best = None;
        let mut nearest = f32::MAX;
        for (index, part) in self.parts.iter().enumerate().filter(|(_, part)| part.near(ray)) {
            let local = part.to_local(ray);
            if let Some(hit) = part.shape.hit(&local)
                && hit.t < nearest
            {
                nearest = hit.t;
                best = Some((index, local, hit));
            }
        }
        best.map(|(index, local, hit)| {
            let part = &self.parts[index];
            Hit {
                t: hit.t,
                normal: part.normal_to_world(hit.normal),
                albedo: part.material.albedo(local.at(hit.t)),
                gloss: part.material.gloss,
                patch: (index as u8) << 3 | (hit.face & 7),
            }
        })
    }

    /// Whether the object stands between the ray's origin and infinity.
    pub(crate) fn blocks(&self, ray: &Ray) -> bool {
        self.blocks_except(ray, usize::MAX)
    }

    /// The same without the part at `own`: a convex part does not shade itself.
    pub(crate) fn blocks_except(&self, ray: &Ray, own: usize) -> bool {
        self.near(ray)
            && self.parts.iter().enumerate().any(|(index, part)| {
                index != own && part.near(ray) && part.shape.hit(&part.to_local(ray)).is_some()
            })
    }
}
