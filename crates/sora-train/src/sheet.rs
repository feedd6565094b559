//! Contact sheets: rows of frames in one PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Context;
use tch::Tensor;

use crate::checkpoint::write_whole;
use crate::video::to_bytes;

/// Writes one row per video (`[3, T, H, W]` in −1…1, all of one size), frames from left to right.
pub(crate) fn write(path: &Path, rows: &[Tensor]) -> anyhow::Result<()> {
    let first = rows.first().context("a sheet needs at least one row")?;
    let (_, t, h, w) = first.size4()?;
    // 3 T H W → 3 H (T·W), rows below each other
    let strips: Vec<Tensor> = rows.iter().map(|v| v.permute([0, 2, 1, 3]).reshape([3, h, t * w])).collect();
    let sheet = Tensor::cat(&strips, 1).unsqueeze(1);
    let data = to_bytes(&sheet);
    write_whole(path, |temporary| {
        let file = BufWriter::new(File::create(temporary)?);
        let mut encoder = png::Encoder::new(file, (t * w) as u32, h as u32 * rows.len() as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&data)?;
        Ok(())
    })
}
