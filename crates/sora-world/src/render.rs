//! The renderer: one ray per pixel, more where objects have edges.

use crate::attributes::Ground;
use crate::body::{Hit, Object};
use crate::camera::View;
use crate::clip::{Clip, Event, FRAMES_PER_SECOND, FrameTruth, ObjectTruth, Size};
use crate::ground::{Floor, Lit};
use crate::math::{Vec3, smoothstep};
use crate::scene::Scene;
use crate::shadow::{ShadowMap, contact_shade};
use crate::shapes::Ray;
use crate::sky::Heaven;

/// The world at one instant, ready to be drawn.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) view: View,
    pub(crate) heaven: Heaven,
    pub(crate) floor: Floor,
    pub(crate) objects: Vec<Object>,
}

/// Rays per pixel side where an edge runs through the pixel.
const EDGE_RAYS: usize = 3;
/// The value of [`Pixel::patch`] for ground and sky.
const BACKDROP: u16 = 0;

/// Pixels of one frame in linear light, and what each shows.
#[derive(Clone, Debug, Default)]
struct Canvas {
    colour: Vec<Vec3>,
    /// Object id and patch: a change between neighbours is an edge.
    patch: Vec<u16>,
    mask: Vec<u8>,
}

/// What stays behind the objects, per pixel.
type Backdrop = Vec<Lit>;

impl Stage {
    fn backdrop(&self, ray: &Ray) -> Lit {
        let pixel = self.view.pixel;
        let d = ray.direction;
        if d.y < -2e-4 {
            let distance = -ray.origin.y / d.y;
            self.floor.shade(ray.at(distance), d, distance, pixel, &self.heaven)
        } else {
            Lit { base: self.heaven.colour(d, pixel), sun: Vec3::ZERO }
        }
    }

    /// The colour of a backdrop pixel under the objects' shadows.
    fn shadowed(&self, ray: &Ray, lit: Lit, shadows: &[ShadowMap]) -> Vec3 {
        if ray.direction.y >= -2e-4 {
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

    fn nearest(&self, ray: &Ray, near: &[bool]) -> Option<(u8, Hit)> {
        let ground = if ray.direction.y < -2e-4 { -ray.origin.y / ray.direction.y } else { f32::MAX };
        let mut best: Option<(u8, Hit)> = None;
        for (object, _) in self.objects.iter().zip(near).filter(|(_, near)| **near) {
            if let Some(hit) = object.hit(ray)
                && hit.t < best.map_or(ground, |(_, b)| b.t)
            {
                best = Some((object.id, hit));
            }
        }
        best
    }

    fn shade(&self, ray: &Ray, id: u8, hit: &Hit) -> Vec3 {
        let p = ray.at(hit.t);
        let n = hit.normal;
        let heaven = &self.heaven;
        let mut sun = n.dot(heaven.sun).max(0.0);
        if sun > 0.0 {
            let to_sun = Ray { origin: p + n * 1e-3, direction: heaven.sun };
            if self.objects.iter().any(|other| other.id != id && other.blocks(&to_sun)) {
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
        let highlight = heaven.sun_light * (hit.gloss * s16 * s16 * f32::from(sun > 0.0));
        let away = 1.0 + n.dot(ray.direction);
        let rim = heaven.haze() * (0.10 * away * away * away * (0.4 + hit.gloss));
        hit.albedo.times(ambient * 1.35 + heaven.sun_light * sun) + highlight + rim
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
    for index in 0..num_frames {
        let time = index as f32 / FRAMES_PER_SECOND as f32;
        let stage = scene.stage(size, time);
        if index == 0 || stage.floor.moves() {
            paint_backdrop(&stage, size, &mut backdrop);
        }
        let pixels = draw(&stage, size, &backdrop, &mut canvas);
        for colour in &canvas.colour {
            clip.frames.extend(colour.array().map(|v| encode[(v.clamp(0.0, 1.0) * 4095.0) as usize]));
        }
        clip.truth.push(truth(scene, &stage, time, &canvas, &pixels));
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

    let shadows: Vec<ShadowMap> =
        stage.objects.iter().map(|object| ShadowMap::cast(object, stage.heaven.sun)).collect();
    let own: Vec<[usize; 4]> = stage.objects.iter().map(|o| stage.view.bounds(o.centre, o.radius)).collect();
    let mut dirty = [width, height, 0, 0];
    let shaded = stage.objects.iter().zip(&shadows).flat_map(|(object, shadow)| {
        let foot = crate::math::v3(object.centre.x, 0.0, object.centre.z);
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
            match stage.nearest(&ray, &near) {
                Some((id, hit)) => {
                    canvas.colour[at] = stage.shade(&ray, id, &hit);
                    canvas.patch[at] = u16::from(id) << 8 | u16::from(hit.patch);
                    canvas.mask[at] = id;
                    pixels[usize::from(id) - 1].visible += 1;
                }
                None => canvas.colour[at] = stage.shadowed(&ray, backdrop[at], &shadows),
            }
        }
    }
    count_alone(stage, size, &own, &mut pixels);
    smooth_edges(stage, size, &dirty, &own, &shadows, canvas);
    pixels
}

/// Counts what each object would show alone; with one object that is what it shows.
fn count_alone(stage: &Stage, size: Size, own: &[[usize; 4]], pixels: &mut [Pixels]) {
    for ((object, bounds), count) in stage.objects.iter().zip(own).zip(pixels) {
        if stage.objects.len() == 1 {
            count.alone = count.visible;
            continue;
        }
        for row in bounds[1]..bounds[3].min(size.height as usize) {
            for column in bounds[0]..bounds[2] {
                let ray = stage.view.ray(column as f32 + 0.5, row as f32 + 0.5);
                let ground = if ray.direction.y < -2e-4 { -ray.origin.y / ray.direction.y } else { f32::MAX };
                count.alone += u32::from(object.hit(&ray).is_some_and(|hit| hit.t < ground));
            }
        }
    }
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
            for i in 0..EDGE_RAYS * EDGE_RAYS {
                let step = 1.0 / EDGE_RAYS as f32;
                let x = column as f32 + ((i % EDGE_RAYS) as f32 + 0.5) * step;
                let y = row as f32 + ((i / EDGE_RAYS) as f32 + 0.5) * step;
                let ray = stage.view.ray(x, y);
                let colour = match stage.nearest(&ray, &near) {
                    Some((id, hit)) => stage.shade(&ray, id, &hit),
                    None => stage.shadowed(&ray, stage.backdrop(&ray), shadows),
                };
                // What the screen clips is clipped before averaging, or a highlight's edge stays jagged.
                sum += crate::math::v3(colour.x.min(1.0), colour.y.min(1.0), colour.z.min(1.0));
            }
            canvas.colour[at] = sum * (1.0 / (EDGE_RAYS * EDGE_RAYS) as f32);
        }
    }
}

fn truth(scene: &Scene, stage: &Stage, time: f32, canvas: &Canvas, pixels: &[Pixels]) -> FrameTruth {
    let half_frame = 0.5 / FRAMES_PER_SECOND as f32;
    let events = scene
        .plan
        .impacts(time + half_frame)
        .into_iter()
        .filter(|&at| at >= 0.0 && (time - half_frame..time + half_frame).contains(&at))
        .map(|time| Event::Contact { object: 1, time })
        .collect();
    let objects = stage
        .objects
        .iter()
        .zip(pixels)
        .map(|(object, count)| ObjectTruth {
            id: object.id,
            subject: scene.attributes.subject,
            colour: scene.attributes.colour,
            position: object.centre.array(),
            centre_px: stage.view.project(object.centre),
            visible_px: count.visible,
            visibility: if count.alone == 0 { 0.0 } else { count.visible as f32 / count.alone as f32 },
        })
        .collect();
    FrameTruth { time, mask: canvas.mask.clone(), objects, camera: stage.view.pose(), events }
}

/// sRGB bytes of 4096 linear values. The curve is a sum of roots (exact everywhere) close to the standard's.
fn encoding() -> Vec<u8> {
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
