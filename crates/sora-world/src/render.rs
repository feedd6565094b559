//! The renderer: one ray per pixel, more where objects have edges.

use crate::attributes::{Ground, Style};
use crate::body::{Hit, Object};
use crate::camera::View;
use crate::clip::{Clip, Event, FRAMES_PER_SECOND, FrameTruth, Keys, ObjectTruth, Size};
use crate::ground::{Floor, Lit};
use crate::math::{Vec3, smoothstep, v3};
use crate::scene::Scene;
use crate::shadow::{ShadowMap, contact_shade};
use crate::shapes::Ray;
use crate::sky::Heaven;
use crate::style::Picture;

/// The world at one instant, ready to be drawn.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) view: View,
    pub(crate) keys: Keys,
    pub(crate) heaven: Heaven,
    pub(crate) floor: Floor,
    /// The object at index i has id i + 1.
    pub(crate) objects: Vec<Object>,
    /// Light in a few flat steps, as in a cartoon.
    pub(crate) banded: bool,
}

/// Rays per pixel side where an edge runs through the pixel.
const EDGE_RAYS: usize = 3;
/// The value of [`Canvas::patch`] for ground and sky.
const BACKDROP: u16 = 0;

/// Pixels of one frame in linear light, and what each shows.
#[derive(Clone, Debug, Default)]
struct Canvas {
    colour: Vec<Vec3>,
    /// Object id and patch: a change between neighbours is an edge.
    patch: Vec<u16>,
    mask: Vec<u8>,
    /// Strength of the line through a pixel, 0..1.
    edge: Vec<f32>,
}

/// What stays behind the objects, per pixel.
type Backdrop = Vec<Lit>;

/// Distance to the plane y = 0, or beyond everything.
fn to_floor(ray: &Ray) -> f32 {
    if ray.direction.y < -2e-4 { -ray.origin.y / ray.direction.y } else { f32::MAX }
}

impl Stage {
    fn backdrop(&self, ray: &Ray) -> Lit {
        let pixel = self.view.pixel;
        let d = ray.direction;
        if self.floor.kind == Ground::Room
            && let Some(lit) = crate::room::walls(ray, self.floor.offset[0] * 0.004, &self.heaven, pixel)
        {
            return lit;
        }
        if d.y < -2e-4 {
            let distance = -ray.origin.y / d.y;
            self.floor.shade(ray.at(distance), d, distance, pixel, &self.heaven)
        } else {
            Lit { base: self.heaven.colour(d, pixel), ..Lit::default() }
        }
    }

    /// The colour of a backdrop pixel under the objects' shadows.
    fn shadowed(&self, ray: &Ray, lit: Lit, shadows: &[ShadowMap]) -> Vec3 {
        if !lit.floor {
            return lit.base;
        }
        let p = ray.at(-ray.origin.y / ray.direction.y);
        let (mut open, mut sun) = (1.0, 1.0);
        for (object, shadow) in self.objects.iter().zip(shadows) {
            sun *= 1.0 - shadow.at(p);
            open *= contact_shade(object, p);
        }
        if self.floor.kind == Ground::Sea {
            // Water mirrors more than it is lit: its shadows are faint.
            open = 0.6 + 0.4 * open;
        }
        lit.base * open + lit.sun * (sun * open)
    }

    /// Index of the nearest object among those flagged `near`, and where it is hit. `met` learns of every
    /// object above the ground that the ray meets, whatever stands before it.
    fn nearest(&self, ray: &Ray, near: &[bool], mut met: impl FnMut(usize)) -> Option<(usize, Hit)> {
        let ground = to_floor(ray);
        let mut best: Option<(usize, Hit)> = None;
        for (index, object) in self.objects.iter().enumerate().filter(|(index, _)| near[*index]) {
            if let Some(hit) = object.hit(ray)
                && hit.t < ground
            {
                met(index);
                if best.is_none_or(|(_, b)| hit.t < b.t) {
                    best = Some((index, hit));
                }
            }
        }
        best
    }

    fn shade(&self, ray: &Ray, index: usize, hit: &Hit) -> Vec3 {
        let p = ray.at(hit.t);
        let n = hit.normal;
        let heaven = &self.heaven;
        let mut sun = n.dot(heaven.sun).max(0.0);
        if sun > 0.0 {
            let to_sun = Ray { origin: p + n * 1e-3, direction: heaven.sun };
            let own = usize::from(hit.patch >> 3);
            let blocked = self.objects.iter().enumerate().any(|(other, object)| {
                if other != index {
                    object.blocks(&to_sun)
                } else {
                    object.parts.len() > 1 && object.blocks_except(&to_sun, own)
                }
            });
            if blocked {
                sun = 0.0;
            }
        }
        let up = 0.5 + 0.5 * n.y;
        // The ground close by hides part of the sky from what faces down.
        let low = smoothstep(-0.1, 0.9, p.y);
        let ambient = heaven.zenith_light.lerp(heaven.bounce_light, 1.0 - up) * (0.55 + 0.45 * low.max(up))
            + self.floor.albedo().times(heaven.sun_light) * (0.22 * (1.0 - up) * low);
        let half = (heaven.sun - ray.direction).normalized();
        let shine = n.dot(half).max(0.0);
        let s4 = shine * shine * shine * shine;
        let s16 = s4 * s4 * s4 * s4;
        let mut gleam = hit.gloss * s16 * s16 * f32::from(sun > 0.0);
        if self.banded {
            sun = if sun > 0.45 {
                0.95
            } else if sun > 0.05 {
                0.5
            } else {
                0.0
            };
            gleam = if gleam > 0.22 { 0.9 } else { 0.0 };
        }
        let highlight = heaven.sun_light * gleam;
        let away = 1.0 + n.dot(ray.direction);
        let rim = heaven.haze() * (0.10 * away * away * away * (0.4 + hit.gloss));
        let colour = hit.albedo.times(ambient * 1.35 + heaven.sun_light * sun) + highlight + rim;
        heaven.through_air(colour, hit.t)
    }
}

pub(crate) fn render(scene: &Scene, size: Size, num_frames: usize) -> Clip {
    let mut clip = Clip { size, frames: Vec::new(), truth: Vec::new() };
    if size.area() == 0 {
        return clip;
    }
    clip.frames.reserve(size.area() * 3 * num_frames);
    let encode = encoding();
    let mut backdrop = Backdrop::new();
    let mut canvas = Canvas::default();
    let attributes = scene.attributes();
    let paints: Vec<Vec3> = scene.cast.iter().map(|actor| crate::material::paint(actor.colour)).collect();
    let still = attributes.camera == crate::attributes::Camera::Still;
    for index in 0..num_frames {
        let time = index as f32 / FRAMES_PER_SECOND as f32;
        let stage = scene.stage(size, time);
        if index == 0 || stage.floor.moves() || !still {
            paint_backdrop(&stage, size, &mut backdrop);
        }
        let pixels = draw(&stage, size, &backdrop, &mut canvas);
        let light = stage.heaven.zenith_light;
        crate::weather::fall(attributes.weather, scene.seed(), time, size, light, &mut canvas.colour);
        if attributes.style != Style::Shaded {
            let (mask, edge) = (&canvas.mask, &canvas.edge);
            let colour = &mut canvas.colour;
            Picture { size, colour, mask, edge, paints: &paints }.apply(attributes.style);
        }
        for colour in &canvas.colour {
            clip.frames.extend(colour.array().map(|v| encode[(v.clamp(0.0, 1.0) * 4095.0) as usize]));
        }
        let before = clip.truth.last();
        let truth = truth(scene, &stage, time, &canvas, &backdrop, &pixels, before);
        clip.truth.push(truth);
    }
    clip
}

fn paint_backdrop(stage: &Stage, size: Size, backdrop: &mut Backdrop) {
    backdrop.clear();
    for row in 0..size.height {
        for column in 0..size.width {
            let ray = stage.view.ray(column as f32 + 0.5, row as f32 + 0.5);
            backdrop.push(stage.backdrop(&ray));
        }
    }
}

/// Pixel counts of one object.
#[derive(Clone, Copy, Debug, Default)]
struct Pixels {
    visible: u32,
    /// Seen if nothing else were there.
    alone: u32,
}

fn inside(bounds: &[usize; 4], column: usize, row: usize) -> bool {
    (bounds[0]..bounds[2]).contains(&column) && (bounds[1]..bounds[3]).contains(&row)
}

fn draw(stage: &Stage, size: Size, backdrop: &Backdrop, canvas: &mut Canvas) -> Vec<Pixels> {
    let (width, height) = (size.width as usize, size.height as usize);
    canvas.colour.clear();
    canvas.colour.extend(backdrop.iter().map(|lit| lit.base + lit.sun));
    canvas.patch.clear();
    canvas.patch.resize(size.area(), BACKDROP);
    canvas.mask.clear();
    canvas.mask.resize(size.area(), 0);
    canvas.edge.clear();
    canvas.edge.resize(size.area(), 0.0);

    let shadows: Vec<ShadowMap> = stage
        .objects
        .iter()
        .map(|object| {
            ShadowMap::cast(object, stage.heaven.sun, |centre, reach| stage.view.sees(centre, reach))
        })
        .collect();
    let own: Vec<[usize; 4]> = stage.objects.iter().map(|o| stage.view.bounds(o.centre, o.radius)).collect();
    let mut dirty = [width, height, 0, 0];
    let shaded = stage.objects.iter().zip(&shadows).flat_map(|(object, shadow)| {
        let foot = v3(object.centre.x, 0.0, object.centre.z);
        [stage.view.bounds(shadow.centre, shadow.reach()), stage.view.bounds(foot, 2.6 * object.radius)]
    });
    for b in shaded.chain(own.iter().copied()).filter(|b| b[0] < b[2] && b[1] < b[3]) {
        dirty = [dirty[0].min(b[0]), dirty[1].min(b[1]), dirty[2].max(b[2]), dirty[3].max(b[3])];
    }

    let mut pixels = vec![Pixels::default(); stage.objects.len()];
    let mut near = vec![false; stage.objects.len()];
    for row in dirty[1]..dirty[3] {
        for column in dirty[0]..dirty[2] {
            let at = row * width + column;
            let ray = stage.view.ray(column as f32 + 0.5, row as f32 + 0.5);
            for (flag, bounds) in near.iter_mut().zip(&own) {
                *flag = inside(bounds, column, row);
            }
            match stage.nearest(&ray, &near, |index| pixels[index].alone += 1) {
                Some((index, hit)) => {
                    let id = index as u8 + 1;
                    canvas.colour[at] = stage.shade(&ray, index, &hit);
                    canvas.patch[at] = u16::from(id) << 8 | u16::from(hit.patch);
                    canvas.mask[at] = id;
                    pixels[index].visible += 1;
                }
                None => canvas.colour[at] = stage.shadowed(&ray, backdrop[at], &shadows),
            }
        }
    }
    smooth_edges(stage, size, &dirty, &own, &shadows, canvas);
    pixels
}

fn smooth_edges(
    stage: &Stage,
    size: Size,
    dirty: &[usize; 4],
    own: &[[usize; 4]],
    shadows: &[ShadowMap],
    canvas: &mut Canvas,
) {
    let (width, height) = (size.width as usize, size.height as usize);
    let mut near = vec![false; stage.objects.len()];
    for row in dirty[1]..dirty[3] {
        for column in dirty[0]..dirty[2] {
            let at = row * width + column;
            let here = canvas.patch[at];
            let differs = (column > 0 && canvas.patch[at - 1] != here)
                || (column + 1 < width && canvas.patch[at + 1] != here)
                || (row > 0 && canvas.patch[at - width] != here)
                || (row + 1 < height && canvas.patch[at + width] != here);
            if !differs {
                continue;
            }
            for (flag, bounds) in near.iter_mut().zip(own) {
                *flag = inside(bounds, column, row);
            }
            let mut sum = Vec3::ZERO;
            let mut same = 0;
            for i in 0..EDGE_RAYS * EDGE_RAYS {
                let step = 1.0 / EDGE_RAYS as f32;
                let x = column as f32 + ((i % EDGE_RAYS) as f32 + 0.5) * step;
                let y = row as f32 + ((i / EDGE_RAYS) as f32 + 0.5) * step;
                let ray = stage.view.ray(x, y);
                let (colour, patch) = match stage.nearest(&ray, &near, |_| {}) {
                    Some((index, hit)) => {
                        let patch = (index as u16 + 1) << 8 | u16::from(hit.patch);
                        (stage.shade(&ray, index, &hit), patch)
                    }
                    None => (stage.shadowed(&ray, stage.backdrop(&ray), shadows), BACKDROP),
                };
                same += u16::from(patch == here);
                // What the screen clips is clipped before averaging, or a highlight's edge stays jagged.
                sum += v3(colour.x.min(1.0), colour.y.min(1.0), colour.z.min(1.0));
            }
            canvas.colour[at] = sum * (1.0 / (EDGE_RAYS * EDGE_RAYS) as f32);
            // Strongest where the edge halves the pixel.
            let share = f32::from(same) / (EDGE_RAYS * EDGE_RAYS) as f32;
            canvas.edge[at] = 0.45 + 0.55 * 4.0 * share * (1.0 - share);
        }
    }
}

fn truth(
    scene: &Scene,
    stage: &Stage,
    time: f32,
    canvas: &Canvas,
    backdrop: &Backdrop,
    pixels: &[Pixels],
    before: Option<&FrameTruth>,
) -> FrameTruth {
    let half_frame = 0.5 / FRAMES_PER_SECOND as f32;
    let objects: Vec<ObjectTruth> = stage
        .objects
        .iter()
        .zip(&scene.cast)
        .zip(pixels)
        .enumerate()
        .map(|(index, ((object, actor), count))| ObjectTruth {
            id: index as u8 + 1,
            subject: actor.subject,
            colour: actor.colour,
            position: object.centre.array(),
            centre_px: stage.view.project(object.centre),
            visible_px: count.visible,
            visibility: if count.alone == 0 { 0.0 } else { count.visible as f32 / count.alone as f32 },
        })
        .collect();
    let mut events = scene.events(time - half_frame, time + half_frame);
    for (old, new) in before.iter().flat_map(|frame| frame.objects.iter().zip(&objects)) {
        let object = new.id;
        match (old.visible_px > 0, new.visible_px > 0) {
            (true, false) => events.push(Event::Vanishes { object, time }),
            (false, true) => events.push(Event::Appears { object, time }),
            _ => {}
        }
    }
    let marks = if stage.floor.trail.is_some() {
        backdrop.iter().zip(&canvas.mask).map(|(lit, id)| u8::from(lit.mark && *id == 0)).collect()
    } else {
        Vec::new()
    };
    FrameTruth {
        time,
        mask: canvas.mask.clone(),
        objects,
        camera: stage.view.pose(),
        events,
        keys: stage.keys,
        marks,
    }
}

/// sRGB bytes of 4096 linear values. The curve is a sum of roots (exact everywhere) close to the standard's.
pub(crate) fn encoding() -> Vec<u8> {
    (0..4096)
        .map(|i| {
            let linear = i as f32 / 4095.0;
            let half = linear.sqrt();
            let quarter = half.sqrt();
            let eighth = quarter.sqrt();
            let curve = if linear < 0.003_130_8 {
                12.92 * linear
            } else {
                0.585_122_4 * half + 0.783_140_4 * quarter - 0.368_262_7 * eighth
            };
            (curve.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
        })
        .collect()
}
