//! 3D consistency: does the ground turn under a circling camera as geometry demands?
//!
//! No network is asked. The world's camera circles at 0.42 rad/s around the origin, some 4.7 in front of it and 1.5
//! above the ground. If the camera turns by an angle between two frames, a known map takes every point of the
//! ground from one picture to the other. The angle whose map makes the two agree best is the azimuth that the clip
//! shows; summed over the clip it must grow along a straight line. How well they agree then (a correlation, 1 for
//! a perfect match) says whether there is one rigid ground at all. What the eye does not see through, the subject
//! around the origin, is left out.

use sora_world::{Camera, Motion};
use tch::{Device, Kind, Tensor};

use super::Bench;
use super::measures::{luminance, straight_line};
use super::permanence::restricted;
use super::report::{Report, mean, percent};
use crate::data::{self, Purpose};
use crate::figure::{Labels, Series, lines};
use crate::video::clip_to_tensor;
use crate::{progress, sheet};

/// First scene.
const FIRST: u64 = 800_000;
/// The middle of what the world's cameras do: height and distance of the eye, height of what it looks at, half of
/// the picture's shorter side at distance 1, radians per second.
const EYE: (f64, f64) = (1.475, 4.7);
const TARGET: f64 = 0.87;
const TAN_HALF: f64 = 0.36;
const SPEED: f64 = 0.42;
/// Frames from one picture to the next that is compared with it.
const STRIDE: i64 = 2;
/// Angles tried: so many to each side, so many radians apart.
const STEPS: i64 = 32;
const STEP: f64 = 0.008;
/// Sight lines that pass the origin closer than this may meet the subject.
const CLEAR: f64 = 0.85;
/// Ground farther than this is too fine for a small picture.
const FAR: f64 = 13.0;
/// A clip turns as it should if the speed is off by a quarter at the most and the line is straight.
const TOLERANCE: f64 = 0.25;
const STRAIGHT: f64 = 0.95;

/// Maps from one picture to another by angle, for one picture size.
pub(crate) struct Turntable {
    /// Where to look, `[angles, H, W, 2]` in −1…1.
    grids: Tensor,
    /// Which pixels count, `[angles, H, W]`, 0 or 1.
    masks: Tensor,
}

/// What a clip shows of the turning.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// (seconds, radians since the first frame)
    pub(crate) azimuth: Vec<(f64, f64)>,
    /// Mean correlation at the best angles.
    pub(crate) agreement: f64,
    /// The same if nothing turned.
    pub(crate) unturned: f64,
}

impl Turntable {
    /// For pictures of `height`×`width`.
    pub(crate) fn new(height: i64, width: i64) -> Self {
        let options = (Kind::Double, Device::Cpu);
        let (eye_y, eye_z) = EYE;
        // Camera axes: it looks along −z and down.
        let length = (eye_z * eye_z + (eye_y - TARGET).powi(2)).sqrt();
        let (down, ahead) = ((eye_y - TARGET) / length, eye_z / length);
        let (half_w, half_h) = (width as f64 / 2.0, height as f64 / 2.0);
        let pixel = TAN_HALF / half_w.min(half_h);
        let right = (Tensor::arange(width, options) + 0.5 - half_w) * pixel;
        let up = (Tensor::arange(height, options) + 0.5 - half_h) * -pixel;
        let right = right.unsqueeze(0).expand([height, width], false);
        let up = up.unsqueeze(1).expand([height, width], false);
        // Direction = forward + right·x + up·y with forward (0, −down, −ahead) and up (0, ahead, −down).
        let dy = &up * ahead - down;
        let dz = &up * -down - ahead;
        let t = dy.clamp_max(-1e-6).reciprocal() * -eye_y;
        let (x, z) = (&right * &t, dz * &t + eye_z); // where sight lines meet the ground
        let ground = dy.lt(-1e-6).logical_and(&(x.square() + z.square()).lt(FAR * FAR));
        // Closest approach of the way from the eye at (0, eye_z) to (x, z) to the origin.
        let clear = |x: &Tensor, z: &Tensor| {
            let (vx, vz) = (x, z - eye_z);
            let share = (&vz * -eye_z / (vx.square() + vz.square())).clamp(0.0, 1.0);
            let (px, pz) = (vx * &share, vz * &share + eye_z);
            (px.square() + pz.square()).gt(CLEAR * CLEAR)
        };
        let here = ground.logical_and(&clear(&x, &z));
        let (mut grids, mut masks) = (Vec::new(), Vec::new());
        for step in -STEPS..=STEPS {
            let (sin, cos) = (step as f64 * STEP).sin_cos();
            let (rx, rz) = (&x * cos + &z * sin, &z * cos - &x * sin);
            // Into the camera: right, up, depth.
            let depth = &rz * -ahead + (ahead * eye_z + down * eye_y);
            let above = &rz * -down + (down * eye_z - ahead * eye_y);
            let column = &rx / &depth / (pixel * half_w);
            let row = -above / &depth / (pixel * half_h);
            let inside = column.abs().lt(0.98).logical_and(&row.abs().lt(0.98)).logical_and(&depth.gt(0.1));
            masks.push(here.logical_and(&inside).logical_and(&clear(&rx, &rz)));
            grids.push(Tensor::stack(&[column, row], 2));
        }
        Self {
            grids: Tensor::stack(&grids, 0).to_kind(Kind::Float),
            masks: Tensor::stack(&masks, 0).to_kind(Kind::Float),
        }
    }

    /// Correlation of two pictures `[H, W]` for every angle.
    fn correlations(&self, from: &Tensor, to: &Tensor) -> anyhow::Result<Vec<f64>> {
        let angles = self.grids.size()[0];
        let (h, w) = from.size2()?;
        let to = to.view([1, 1, h, w]).expand([angles, 1, h, w], false);
        let seen = to.grid_sampler(&self.grids, 0, 1, false).squeeze_dim(1); // [angles, H, W]
        let from = from.unsqueeze(0);
        let sum = |t: &Tensor| t.sum_dim_intlist([1i64, 2].as_slice(), true, Kind::Float);
        let count = sum(&self.masks) + 1.0;
        let centre = |t: &Tensor| (t - sum(&(t * &self.masks)) / &count) * &self.masks;
        let (a, b) = (centre(&from), centre(&seen));
        let r = sum(&(&a * &b)) / (sum(&a.square()) * sum(&b.square()) + 1e-12).sqrt();
        Ok(Vec::<f64>::try_from(r.flatten(0, 2).to_kind(Kind::Double))?)
    }

    /// Follows the ground of a clip `[3, T, H, W]` in −1…1.
    pub(crate) fn follow(&self, video: &Tensor, rate: f64) -> anyhow::Result<Turn> {
        let grey = luminance(video).unsqueeze(1);
        // Without what is smooth: light that differs from place to place is no texture.
        let smooth = grey.avg_pool2d([9, 9], [1, 1], [4, 4], false, false, None::<i64>);
        let fine = (grey - smooth).squeeze_dim(1);
        let t = fine.size()[0];
        let mut turn = Turn { azimuth: vec![(0.0, 0.0)], agreement: 0.0, unturned: 0.0 };
        let (mut azimuth, mut pairs) = (0.0, 0.0);
        for at in (0..t - STRIDE).step_by(STRIDE as usize) {
            let r = self.correlations(&fine.get(at), &fine.get(at + STRIDE))?;
            let best = (0..r.len()).max_by(|&i, &j| r[i].total_cmp(&r[j])).unwrap_or(0);
            azimuth += (best as f64 - STEPS as f64 + peak(&r, best)) * STEP;
            turn.azimuth.push(((at + STRIDE) as f64 / rate, azimuth));
            turn.agreement += r[best];
            turn.unturned += r[STEPS as usize];
            pairs += 1.0;
        }
        anyhow::ensure!(pairs > 0.0, "a clip of {t} frames is too short to turn");
        turn.agreement /= pairs;
        turn.unturned /= pairs;
        Ok(turn)
    }
}

/// Where between its neighbours the top of a parabola through three values lies, −½ to ½.
fn peak(r: &[f64], at: usize) -> f64 {
    if at == 0 || at + 1 == r.len() {
        return 0.0;
    }
    let (a, b, c) = (r[at - 1], r[at], r[at + 1]);
    let bend = a - 2.0 * b + c;
    if bend < -1e-9 { (0.5 * (a - c) / bend).clamp(-0.5, 0.5) } else { 0.0 }
}

impl Turn {
    /// Radians per second, without sign: both ways round are right.
    pub(crate) fn speed(&self) -> f64 {
        straight_line(&self.azimuth).0.abs()
    }

    /// Whether it turns as the world's camera does.
    pub(crate) fn is_right(&self) -> bool {
        (self.speed() / SPEED - 1.0).abs() <= TOLERANCE && straight_line(&self.azimuth).1 >= STRAIGHT
    }
}

/// Share of right turns, speed, straightness, agreement, agreement without turning; means over clips.
fn summary(turns: &[Turn]) -> [f64; 5] {
    let of = |f: &dyn Fn(&Turn) -> f64| mean(&turns.iter().map(f).collect::<Vec<_>>());
    [
        of(&|t| f64::from(u8::from(t.is_right()))),
        of(&Turn::speed),
        of(&|t| straight_line(&t.azimuth).1),
        of(&|t| t.agreement),
        of(&|t| t.unturned),
    ]
}

/// Mean azimuth over the clips, each turned the same way.
fn curve(turns: &[Turn]) -> Vec<(f64, f64)> {
    let count = turns.iter().map(|t| t.azimuth.len()).min().unwrap_or(0);
    let way = |t: &Turn| straight_line(&t.azimuth).0.signum();
    (0..count)
        .map(|i| {
            let values: Vec<f64> = turns.iter().map(|t| way(t) * t.azimuth[i].1).collect();
            (turns[0].azimuth[i].0, mean(&values))
        })
        .collect()
}

/// Makes clips with a circling camera and follows the ground.
pub(crate) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let Bench { generator, args, domain, .. } = bench;
    let domain = restricted(domain, Camera::Orbit, Motion::Stands);
    let (size, rate) = (generator.size(), generator.frame_rate());
    let table = Turntable::new(size.height.into(), size.width.into());
    let bar = progress::bar(args.claim_clips, 0);
    bar.set_message("circling camera");
    let (mut made, mut drawn, mut rows, mut csv) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let scenes = (0..)
        .map(|i| data::scene_of_split(args.compute.seed, Purpose::Evaluation, FIRST + i, &domain, false))
        .filter(|scene| scene.caption().contains("the camera circles around"));
    for (i, scene) in (0u64..).zip(scenes.take(args.claim_clips as usize)) {
        let caption = scene.caption();
        let video = generator.clip(&bench.prompt(&scene)?, args.compute.seed.wrapping_add(i))?;
        let clip = scene.render(size, generator.native.num_frames as usize);
        let turns = [table.follow(&video, rate)?, table.follow(&clip_to_tensor(&clip).squeeze_dim(0), rate)?];
        for (what, turn) in ["generated", "render"].iter().zip(&turns) {
            for (second, azimuth) in &turn.azimuth {
                let numbers = [*second, *azimuth, turn.agreement, turn.unturned].map(|v| format!("{v:.4}"));
                csv.push([vec![caption.clone(), (*what).to_owned()], numbers.to_vec()].concat());
            }
        }
        let [a, b] = turns;
        made.push(a);
        drawn.push(b);
        if rows.len() < 12 {
            rows.push(video.slice(1, None, None, 2));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    sheet::write(&report.file("orbit-sheet.png"), &rows)?;
    let header = ["caption", "what", "second", "azimuth", "agreement", "agreement if unturned"];
    report.csv("orbit", &header, &csv)?;
    write(report, &made, &drawn)
}

fn write(report: &mut Report, made: &[Turn], drawn: &[Turn]) -> anyhow::Result<()> {
    report.say(
        "3D consistency (claim d)",
        &format!(
            "Clips of something standing, \"the camera circles around\". Measured without a network: the angle between \
             every second frame is the one by which the ground must be turned, by the perspective of the world's mean \
             camera, for the two pictures to agree best. Agreement is their correlation there without low frequencies; \
             beside it that of unturned pictures. The world turns at {SPEED} rad/s; right is a clip whose speed is within \
             {:.0} % of it and whose azimuth is a straight line (R² of {STRAIGHT} at least). Cameras differ in height and \
             distance by a tenth, which the renders' column includes.",
            100.0 * TOLERANCE
        ),
    );
    let names = [
        "turns as it should, share of clips",
        "speed, rad/s",
        "straightness, R²",
        "agreement of the ground",
        "agreement if unturned",
    ];
    let columns = [summary(made), summary(drawn)];
    let cell = |row: usize, v: f64| if row == 0 { percent(v) } else { format!("{v:.3}") };
    let rows: Vec<Vec<String>> = (0..names.len())
        .map(|r| vec![names[r].to_owned(), cell(r, columns[0][r]), cell(r, columns[1][r])])
        .collect();
    report.table("orbit-summary", &["", "generated", "renders"], &rows)?;
    for (r, name) in names.iter().enumerate() {
        report.figure(&format!("orbit {name} generated"), columns[0][r]);
        report.figure(&format!("orbit {name} renders"), columns[1][r]);
    }
    let (generated, renders) = (curve(made), curve(drawn));
    let truth = renders.iter().map(|(second, _)| (*second, SPEED * second)).collect();
    let series = [("generated", generated), ("renders", renders), ("the world's camera", truth)]
        .map(|(name, points)| Series { name: name.into(), points });
    let labels =
        Labels { title: "Azimuth that the ground shows, mean over clips", x: "seconds", y: "radians" };
    lines(&report.file("orbit.png"), &labels, &series, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sora_world::{Domain, Ground, Scene, Size};

    fn turn(camera: Camera) -> Turn {
        let mut domain = restricted(&Domain::core(), camera, Motion::Stands);
        domain.grounds = vec![Ground::Checker];
        let size = Size { width: 128, height: 128 };
        let clip = Scene::sample(5, &domain).render(size, 9);
        Turntable::new(128, 128).follow(&clip_to_tensor(&clip).squeeze_dim(0), 8.0).expect("a turn")
    }

    #[test]
    fn a_circling_camera_is_seen_to_circle() {
        let turn = turn(Camera::Orbit);
        assert!((turn.speed() - SPEED).abs() < 0.1, "{turn:?}");
        assert!(turn.agreement > turn.unturned + 0.2, "{turn:?}");
    }

    #[test]
    fn a_still_camera_is_not() {
        let turn = turn(Camera::Still);
        assert!(turn.speed() < 0.03, "{turn:?}");
        assert!(turn.agreement > 0.9, "{turn:?}");
    }
}
