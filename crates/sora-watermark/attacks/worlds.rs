//! Clips of sora-world as y4m files.

use std::path::Path;

use anyhow::{Context, Result};
use sora_world::{Domain, FRAMES_PER_SECOND, Scene, Size};

use crate::clip::Clip;

/// Frames of a clip: four seconds.
const FRAMES: usize = 32;

pub(crate) fn render(out: &Path, size: &str, seeds: &[u64]) -> Result<()> {
    let (width, height) = size.split_once('x').context("a size like 256x256")?;
    let (width, height): (usize, usize) = (width.parse()?, height.parse()?);
    std::fs::create_dir_all(out)?;
    for seed in seeds {
        let file = out.join(format!("world-{seed}.y4m"));
        if file.exists() {
            continue;
        }
        let scene = Scene::sample(*seed, &Domain::full());
        let rendered = scene.render(Size { width: width as _, height: height as _ }, FRAMES as _);
        let frames =
            rendered.frames.chunks_exact(width * height * 3).map(|rgb| yuv(rgb, width, height)).collect();
        let clip = Clip::new(width, height, (FRAMES_PER_SECOND, 1), frames);
        std::fs::write(&file, clip.y4m())?;
        println!("{} {}", file.display(), scene.caption());
    }
    Ok(())
}

/// RGB as limited-range BT.709 4:2:0.
fn yuv(rgb: &[u8], width: usize, height: usize) -> Vec<u8> {
    let pixel = |x: usize, y: usize| {
        let at = (y.min(height - 1) * width + x.min(width - 1)) * 3;
        [f32::from(rgb[at]), f32::from(rgb[at + 1]), f32::from(rgb[at + 2])]
    };
    let luma = |[r, g, b]: [f32; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let mut out = Vec::with_capacity(width * height * 3 / 2);
    for y in 0..height {
        out.extend((0..width).map(|x| (16.0 + luma(pixel(x, y)) * 219.0 / 255.0).round() as u8));
    }
    for (channel, range) in [(2, 1.8556), (0, 1.5748)] {
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                let corners = [pixel(x, y), pixel(x + 1, y), pixel(x, y + 1), pixel(x + 1, y + 1)];
                let mean = corners.iter().map(|p| (p[channel] - luma(*p)) / range).sum::<f32>() / 4.0;
                out.push((128.0 + mean * 224.0 / 255.0).round().clamp(16.0, 240.0) as u8);
            }
        }
    }
    out
}
