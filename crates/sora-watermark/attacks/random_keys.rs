//! The statistic of fixed unmarked videos under a million random keys, and its QQ plot against the bound.

use std::path::PathBuf;

use anyhow::{Context, Result};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use serde_json::json;
use sora_watermark::Key;
use sora_watermark::probe::Coefficients;

use crate::clip::{self, Clip};

/// Where distributions keep the plot's font.
const FONTS: [&str; 3] = [
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
];

/// The statistic of fixed videos under random keys, with a QQ plot.
#[derive(clap::Args)]
pub(crate) struct RandomKeys {
    /// Plot to write (SVG).
    plot: PathBuf,
    /// Results file to write (JSON).
    results: PathBuf,
    /// Unmarked clips.
    clips: Vec<PathBuf>,
    /// Keys over all clips.
    #[arg(long, default_value_t = 1_000_000)]
    keys: usize,
}

impl RandomKeys {
    pub(crate) fn run(&self) -> Result<()> {
        // Before the long part: without a font there is no plot.
        let path = FONTS.iter().find(|path| std::path::Path::new(path).exists());
        let path =
            path.with_context(|| format!("none of {} is there: install DejaVu Sans", FONTS.join(", ")))?;
        register_font("sans-serif", FontStyle::Normal, std::fs::read(path)?.leak())
            .map_err(|_| anyhow::anyhow!("{path} is no font"))?;
        let each = self.keys / self.clips.len().max(1);
        let mut all = Vec::with_capacity(self.keys);
        let mut rows = Vec::new();
        for (number, path) in self.clips.iter().enumerate() {
            let clip = Clip::read(path)?;
            let planes: Result<Vec<_>> = clip.frames.iter().map(|frame| clip.luma(frame)).collect();
            let frames = planes?.into_iter().zip(clip.times.iter().copied());
            let y = Coefficients::new(&Key::from_bytes([0x33; 32]), frames)?;
            let key = |i: usize| {
                let mut bytes = [0x77; 32];
                bytes[..8].copy_from_slice(&((number * self.keys + i) as u64).to_le_bytes());
                Key::from_bytes(bytes)
            };
            let values: Vec<f64> = (0..each).map(|i| y.z(&key(i))).collect();
            let variance = values.iter().map(|z| z * z).sum::<f64>() / each as f64;
            let most = values.iter().copied().fold(f64::MIN, f64::max);
            let name = clip::name(path)?;
            println!(
                "{name}: {} dimensions, {each} keys, standard deviation {:.4}, largest {most:.2}",
                y.dimensions(),
                variance.sqrt()
            );
            rows.push(json!({ "clip": name, "keys": each, "deviation": variance.sqrt(), "largest": most }));
            all.extend(values);
        }
        all.sort_by(|a, b| b.total_cmp(a));
        let above = |t: f64| all.partition_point(|z| *z > t) as f64 / all.len() as f64;
        let tails: Vec<_> = [1.0, 2.0, 3.0, 4.0]
            .map(|t| json!({ "t": t, "share": above(t), "bound": (-t * t / 2.0f64).exp() }))
            .into();
        std::fs::write(
            &self.results,
            json!({ "keys": all.len(), "clips": rows, "tails": tails }).to_string(),
        )?;
        self.draw(&all)
    }

    /// Found tail probabilities against the bound's, both as -log10: below the diagonal is safe.
    fn draw(&self, sorted: &[f64]) -> Result<()> {
        let area = SVGBackend::new(&self.plot, (640, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(52)
            .caption(format!("{} random keys on fixed unmarked videos", sorted.len()), ("sans-serif", 16))
            .build_cartesian_2d(0.0..6.5f64, 0.0..6.5f64)?;
        chart
            .configure_mesh()
            .x_desc("-log10 of the share of keys that reach this z")
            .y_desc("-log10 of the bound exp(-z²/2) at this z")
            .draw()?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (6.5, 6.5)], &BLACK))?;
        let mut points = Vec::new();
        let mut last = f64::MAX;
        for (i, z) in sorted.iter().enumerate().filter(|(_, z)| **z > 0.0) {
            let found = -(((i + 1) as f64) / sorted.len() as f64).log10();
            if last - found > 0.02 || i < 20 {
                points.push((found, z * z / 2.0 / std::f64::consts::LN_10));
                last = found;
            }
        }
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 2, BLUE.filled())))?;
        area.present()?;
        Ok(())
    }
}
