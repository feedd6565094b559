//! What becomes of a video that is restyled block by block, as `soratransform` does it: whether it shows the style that
//! was asked for, and whether the scene's shapes are still there.

use sora_world::{Size, Style};
use tch::{Kind, Tensor};

use super::Bench;
use super::generator::Method;
use super::report::{Report, mean, percent};
use super::vae::photographs;
use crate::data::{self, NATIVE_SIZES, Purpose};
use crate::probe::file::open_vae;
use crate::probe::questions::Question;
use crate::seeds::Seeds;
use crate::video::{psnr, to_bytes, to_tensor};
use crate::{sheet, textures};

/// First scene.
const FIRST: u64 = 500_000;
/// Frames of a clip: the first one, and four blocks.
const FRAMES: usize = 17;
/// Shorter side that a photograph is scaled to before a window is moved over it.
const PHOTOGRAPH: i64 = 160;
/// What is restyled how strongly: the default of the element.
const STRENGTH: f64 = 0.75;

/// Something to restyle: RGB bytes `[T, H, W, 3]` each.
struct Subject {
    kind: &'static str,
    style: Style,
    source: Vec<u8>,
    /// The same drawn in the style.
    target: Vec<u8>,
}

/// Figures of one kind and method.
#[derive(Default)]
struct Figures {
    structure: Vec<f64>,
    /// How like the target, dB.
    likeness: Vec<f64>,
    /// 1 where the probe names the style; only of styles that it knows.
    style: Vec<f64>,
}

/// Restyles clips, textures and photographs.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let size = NATIVE_SIZES[0];
    let subjects = subjects(bench, size)?;
    let known = known_styles(bench);
    let vae = open_vae(&bench.args.model.join("vae"))?;
    let video =
        |bytes: &[u8]| to_tensor(bytes, FRAMES as i64, size.height.into(), size.width.into()).squeeze_dim(0);
    let methods: Vec<Method> = Method::ALL.into_iter().filter(|m| bench.generator.knows(*m)).collect();
    let mut rows = Vec::new();
    let mut sheet_rows = Vec::new();
    let mut kinds: Vec<&str> = subjects.iter().map(|subject| subject.kind).collect();
    kinds.dedup();
    for kind in kinds {
        // Beside what the methods make of it: the source as it is, the target, and the most that the VAE lets through of that.
        let mut figures: Vec<(String, Figures)> = ["source", "target", "coded target"]
            .into_iter()
            .map(str::to_owned)
            .chain(methods.iter().map(|method| method.name().to_owned()))
            .map(|name| (name, Figures::default()))
            .collect();
        for (number, subject) in subjects.iter().filter(|subject| subject.kind == kind).enumerate() {
            let prompt = subject.style.phrases()[1];
            let seed = bench.args.compute.seed + number as u64;
            let (source, target) = (video(&subject.source), video(&subject.target));
            let coded = tch::no_grad(|| vae.decode(&vae.encode(&target.unsqueeze(0)).mode())).squeeze_dim(0);
            let mut shown = vec![source.copy(), target.copy(), coded];
            for method in &methods {
                let made =
                    bench.generator.restyled(&subject.source, size, prompt, *method, (STRENGTH, seed))?;
                shown.push(video(&made));
            }
            for ((_, figures), made) in figures.iter_mut().zip(&shown) {
                figures.structure.push(correlation(&edges(&source), &edges(made)));
                figures.likeness.push(psnr(made, &target));
                if known.contains(&subject.style) {
                    let answer = bench.reader.read(made)?.answer(Question::Style);
                    figures.style.push(f64::from(u8::from(answer == subject.style.index())));
                }
            }
            if number < drawn_styles().len() {
                let strip = |video: &Tensor| video.slice(1, 0, None, 8);
                sheet_rows.push(Tensor::cat(&shown.iter().map(strip).collect::<Vec<_>>(), 1));
            }
        }
        for (name, figures) in &figures {
            let likeness =
                if name == "target" { "–".into() } else { format!("{:.1}", mean(&figures.likeness)) };
            rows.push(vec![
                kind.to_owned(),
                name.clone(),
                percent(mean(&figures.style)),
                format!("{:.2}", mean(&figures.structure)),
                likeness,
            ]);
            report.figure(&format!("restyling {kind} {name} style"), mean(&figures.style));
            report.figure(&format!("restyling {kind} {name} structure"), mean(&figures.structure));
            report.figure(&format!("restyling {kind} {name} likeness"), mean(&figures.likeness));
        }
    }
    sheet::write(&report.file("restyling.png"), &sheet_rows)?;
    report.say(
        "Restyling",
        &format!(
            "{} clips of {FRAMES} frames at {}×{}, restyled block by block at strength {STRENGTH}, in turn as each style, \
             asked for in two or three words (\"a pencil sketch\"). Style: how often the probe names it, of the {} styles \
             that it knows. Structure: correlation of the edges (Sobel, per frame) with those of the source; a style that \
             draws lines or lays washes has edges of its own, so the target's is what a perfect restyling has. \
             Likeness: PSNR in dB against the target, which is the same scene drawn in the style, or what the picture \
             shows drawn over. Coded target: the target as the VAE gives it back, as near as anything made of latents can \
             come. `restyling.png`: source, target, coded target and what each method makes, three frames of each.",
            subjects.len(),
            size.width,
            size.height,
            known.len()
        ),
    );
    report.table("restyling", &["of", "what", "style", "structure", "likeness"], &rows)
}

/// What a shaded picture can be restyled as.
fn drawn_styles() -> Vec<Style> {
    Style::ALL.iter().copied().filter(|style| *style != Style::Shaded).collect()
}

/// Those that the probe has learned to tell apart; an empty list of a domain stands for all.
fn known_styles(bench: &Bench<'_>) -> Vec<Style> {
    let taught = &bench.domain.styles;
    drawn_styles().into_iter().filter(|style| taught.is_empty() || taught.contains(style)).collect()
}

fn subjects(bench: &Bench<'_>, size: Size) -> anyhow::Result<Vec<Subject>> {
    let args = bench.args;
    let styles = drawn_styles();
    let style = |index: u64| styles[(index % styles.len() as u64) as usize];
    let mut subjects = Vec::new();
    for i in 0..args.claim_clips {
        let scene = data::scene(args.compute.seed, Purpose::Evaluation, FIRST + i, &bench.domain);
        let drawn = |style| scene.with_style(style).render(size, FRAMES).frames;
        subjects.push(Subject {
            kind: "worlds",
            style: style(i),
            source: drawn(Style::Shaded),
            target: drawn(style(i)),
        });
    }
    let over = |kind, style, source: Vec<u8>| {
        let frames = source.chunks_exact(size.area() * 3);
        let target = frames.flat_map(|frame| sora_world::redraw(frame, size, style)).collect();
        Subject { kind, style, source, target }
    };
    for i in 0..args.claim_clips {
        let mut seeds = Seeds::new(args.compute.seed, Purpose::Evaluation as u64, FIRST + i);
        let sides = (size.width as usize, size.height as usize);
        subjects.push(over("textures", style(i), textures::render(&mut seeds, FRAMES, sides)));
    }
    if let Some(dir) = &args.photos {
        let photos = photographs(dir)?;
        for i in 0..args.claim_clips.max(photos.len() as u64) {
            let (_, picture) = &photos[i as usize % photos.len()];
            subjects.push(over("photographs", style(i), to_bytes(&panned(picture, size))));
        }
    }
    Ok(subjects)
}

/// A window that moves over a picture `[1, 3, 1, H, W]`, along its longer side: `[3, T, h, w]`.
fn panned(picture: &Tensor, size: Size) -> Tensor {
    let (_, _, _, h, w) = picture.size5().expect("B C T H W");
    let scale = PHOTOGRAPH as f64 / h.min(w) as f64;
    let scaled = [h, w].map(|side| (side as f64 * scale).round() as i64);
    let picture = picture.squeeze_dim(2).adaptive_avg_pool2d(scaled);
    let (height, width) = (i64::from(size.height), i64::from(size.width));
    let frames: Vec<Tensor> = (0..FRAMES as i64)
        .map(|frame| {
            let at = |room: i64| room * frame / (FRAMES as i64 - 1);
            let (top, left) = (at(scaled[0] - height), at(scaled[1] - width));
            picture.narrow(2, top, height).narrow(3, left, width).squeeze_dim(0)
        })
        .collect();
    Tensor::stack(&frames, 1)
}

/// Strength of the Sobel gradient of the lightness: `[3, T, H, W]` → `[T, H − 2, W − 2]`.
fn edges(video: &Tensor) -> Tensor {
    let weights = Tensor::from_slice(&[0.2126f32, 0.7152, 0.0722]).view([3, 1, 1, 1]);
    let light = (video * weights).sum_dim_intlist([0i64].as_slice(), false, Kind::Float).unsqueeze(1);
    let across = Tensor::from_slice(&[-1f32, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0]).view([1, 1, 3, 3]);
    let kernels = Tensor::cat(&[&across, &across.transpose(2, 3)], 0);
    let gradient = light.conv2d(&kernels, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1);
    gradient.square().sum_dim_intlist([1i64].as_slice(), false, Kind::Float).sqrt()
}

/// Pearson's correlation; 0 where one of the two is flat.
fn correlation(a: &Tensor, b: &Tensor) -> f64 {
    let centred = |x: &Tensor| x - x.mean(Kind::Float);
    let (a, b) = (centred(a), centred(b));
    let product = |a: &Tensor, b: &Tensor| (a * b).sum(Kind::Double).double_value(&[]);
    let length = (product(&a, &a) * product(&b, &b)).sqrt();
    if length > 0.0 { product(&a, &b) / length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use sora_diffusion::device::DeviceChoice;

    use super::*;
    use crate::evaluate::generator::Generator;

    fn options() -> (Kind, tch::Device) {
        (Kind::Float, tch::Device::Cpu)
    }

    #[test]
    fn edges_stay_where_they_are_when_colours_change_and_move_with_the_picture() {
        let picture = Tensor::zeros([3, 1, 16, 16], options());
        let _ = picture.narrow(3, 4, 5).fill_(1.0);
        let paler = &picture * 0.3 - 0.2;
        assert!(correlation(&edges(&picture), &edges(&paler)) > 0.999);
        assert!(correlation(&edges(&picture), &edges(&picture.roll([4i64], [3i64]))) < 0.3);
        assert_eq!(correlation(&edges(&picture), &edges(&picture.ones_like())), 0.0);
    }

    #[test]
    fn the_model_that_ships_takes_the_style_and_draws_its_lines() {
        tch::set_num_threads(1);
        let model = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sora-tiny");
        let generator = Generator::open(&model, None, None, DeviceChoice::Cpu).expect("the model");
        let size = NATIVE_SIZES[0];
        let frames = 9;
        let scene = data::scene(1, Purpose::Evaluation, FIRST, &crate::data::DomainChoice::Core.domain());
        let video =
            |bytes: &[u8]| to_tensor(bytes, frames, size.height.into(), size.width.into()).squeeze_dim(0);
        let drawn = |style| scene.with_style(style).render(size, frames as usize).frames;
        let pixels = drawn(Style::Shaded);
        let source = video(&pixels);
        // A sketch is mostly hatching, which the VAE loses.
        for (style, gain, likeness) in
            [(Style::Pencil, 11.0, 0.1), (Style::Neon, 7.0, 0.6), (Style::Blueprint, 10.0, 0.5)]
        {
            let target = video(&drawn(style));
            let prompt = style.phrases()[1];
            let made = generator
                .restyled(&pixels, size, prompt, Method::Learned, (STRENGTH, 1))
                .expect("a restyled clip");
            let made = video(&made);
            let (before, after) = (psnr(&source, &target), psnr(&made, &target));
            assert!(after > before + gain, "{prompt}: {before} dB became {after} dB");
            // Lines where the target has them.
            let lines = correlation(&edges(&made), &edges(&target));
            assert!(lines > likeness, "{prompt}: edges correlate by {lines} with those of the target");
        }
    }

    #[test]
    fn a_window_moves_along_the_longer_side() {
        let ramp = Tensor::arange(320, options()).view([1, 1, 1, 1, 320]) / 320.0;
        let picture = ramp.expand([1, 3, 1, 160, 320], false);
        let moved = panned(&picture, Size { width: 128, height: 128 });
        assert_eq!(moved.size(), [3, FRAMES as i64, 128, 128]);
        let first = |frame| moved.double_value(&[0, frame, 0, 0]);
        assert!(first(0) < 0.01 && first(16) > 0.59, "{} {}", first(0), first(16));
    }
}
