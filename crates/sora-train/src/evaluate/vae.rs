//! How much of a clip, and of a photograph, survives the VAE.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use sora_diffusion::models::AutoencoderKlWan;
use tch::{Kind, Tensor};

use super::Bench;
use super::measures::{border_change, ssim};
use super::report::{Report, mean};
use crate::data::{self, NATIVE_SIZES, Purpose};
use crate::probe::file::open_vae;
use crate::seeds::Seeds;
use crate::video::{clip_to_tensor, psnr, to_tensor};
use crate::{sheet, textures};

/// World clips that are coded.
const CLIPS: u64 = 24;
/// First scene.
const FIRST: u64 = 300_000;
/// Sides of photographs are cut to a multiple of this, and to so many pixels at the most.
const MULTIPLE: i64 = 16;
const MOST: i64 = 512;

/// PSNR in dB and SSIM of what the VAE gives back; `[1, 3, T, H, W]` in −1…1.
fn measure(vae: &AutoencoderKlWan, video: &Tensor) -> (f64, f64, Tensor) {
    let _no_grad = tch::no_grad_guard();
    let decoded = vae.decode(&vae.encode(video).mode());
    (psnr(video, &decoded), ssim(&video.squeeze_dim(0), &decoded.squeeze_dim(0)), decoded)
}

/// Codes clips and pictures.
pub(crate) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let Bench { args, domain, .. } = bench;
    let vae = open_vae(&args.model.join("vae"))?;
    let mut rows = Vec::new();
    let mut sheet_rows = Vec::new();
    let mut world = Vec::new();
    let mut borders = Vec::new();
    let factor = vae.config().temporal_scale_factor();
    for i in 0..CLIPS {
        let scene = data::scene(args.compute.seed, Purpose::Evaluation, FIRST + i, domain);
        let video = clip_to_tensor(&scene.render(NATIVE_SIZES[0], 17));
        let (db, similarity, decoded) = measure(&vae, &video);
        rows.push(vec![scene.caption(), format!("{db:.2}"), format!("{similarity:.4}")]);
        world.push((db, similarity));
        let [shown, given_back] = [&video, &decoded].map(|v| border_change(&v.squeeze_dim(0), factor));
        borders.push((shown, given_back));
        if sheet_rows.len() < 12 {
            sheet_rows.extend([&video, &decoded].map(|v| v.squeeze_dim(0).slice(1, None, None, 2)));
        }
    }
    sheet::write(&report.file("vae-sheet.png"), &sheet_rows)?;
    let pictures = match &args.photos {
        Some(dir) => photographs(dir)?,
        None => (0..12).map(|i| (format!("texture {i}"), texture(args.compute.seed, i))).collect(),
    };
    let mut still = Vec::new();
    for (name, picture) in &pictures {
        let (db, similarity, _) = measure(&vae, picture);
        rows.push(vec![name.clone(), format!("{db:.2}"), format!("{similarity:.4}")]);
        still.push((db, similarity));
    }
    report.csv("vae", &["what", "psnr dB", "ssim"], &rows)?;
    let means = |list: &[(f64, f64)]| {
        (
            mean(&list.iter().map(|p| p.0).collect::<Vec<_>>()),
            mean(&list.iter().map(|p| p.1).collect::<Vec<_>>()),
        )
    };
    let (shown, given_back) = means(&borders);
    let ((db, similarity), (still_db, still_similarity)) = (means(&world), means(&still));
    let what =
        if args.photos.is_some() { "photographs" } else { "procedural textures (no photographs were given)" };
    report.say(
        "VAE",
        &format!(
            "Mean of {CLIPS} held-out world clips of 17 frames at 128×128: {db:.2} dB PSNR, SSIM {similarity:.4}. Mean of \
             {} {what}, one frame each, sides cut to a multiple of {MULTIPLE}: {still_db:.2} dB, SSIM \
             {still_similarity:.4}. Where the frames of one latent frame meet those of the next, clips change {shown:.2} times \
             as much as from frame to frame, and {given_back:.2} times when they come back. `vae.csv` has each, `vae-sheet.png` originals above what came back.",
            pictures.len()
        ),
    );
    report.figure("vae psnr world", db);
    report.figure("vae ssim world", similarity);
    report.figure("vae border change world", shown);
    report.figure("vae border change reconstructed", given_back);
    let key = if args.photos.is_some() { "photographs" } else { "textures" };
    report.figure(&format!("vae psnr {key}"), still_db);
    report.figure(&format!("vae ssim {key}"), still_similarity);
    Ok(())
}

fn texture(seed: u64, index: u64) -> Tensor {
    let bytes = textures::render(&mut Seeds::new(seed, Purpose::Evaluation as u64, index), 1, (128, 128));
    to_tensor(&bytes, 1, 128, 128)
}

/// All PNG files of a folder, in the order of their names.
pub(super) fn photographs(dir: &Path) -> anyhow::Result<Vec<(String, Tensor)>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("photos folder {}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")))
        .collect();
    paths.sort();
    ensure!(!paths.is_empty(), "there are no PNG files in {}", dir.display());
    paths
        .iter()
        .map(|path| {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            Ok((name, picture(path).with_context(|| format!("photo {}", path.display()))?))
        })
        .collect()
}

/// A PNG as `[1, 3, 1, H, W]` in −1…1, the middle of it.
fn picture(path: &Path) -> anyhow::Result<Tensor> {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut data = vec![0; reader.output_buffer_size().context("too large")?];
    let info = reader.next_frame(&mut data)?;
    data.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    let rgb: Vec<u8> = match channels {
        3 | 4 => data.chunks_exact(channels).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        1 | 2 => data.chunks_exact(channels).flat_map(|p| [p[0]; 3]).collect(),
        other => bail!("{other} channels"),
    };
    let (h, w) = (i64::from(info.height), i64::from(info.width));
    let cut = |side: i64| side.min(MOST) / MULTIPLE * MULTIPLE;
    let (ch, cw) = (cut(h), cut(w));
    ensure!(ch > 0 && cw > 0, "{w}x{h} is smaller than {MULTIPLE}x{MULTIPLE}");
    let whole = to_tensor(&rgb, 1, h, w);
    Ok(whole.narrow(3, (h - ch) / 2, ch).narrow(4, (w - cw) / 2, cw).contiguous().to_kind(Kind::Float))
}
