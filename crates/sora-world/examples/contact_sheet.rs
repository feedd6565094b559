//! Draws many scenes onto one PNG and says how fast.
//!
//! ```text
//! cargo run --release -p sora-world --example contact_sheet -- OUT.png [starter|core|full|styles][/VALUE...] [SCENES] [FIRST_SEED] [WIDTH] [HEIGHT] [FRAMES]
//! ```
//! `full/car/snow/neon` draws only scenes with these values. Each scene is a row of up to six frames, spread over the clip; two scenes side by side. Captions go to stdout.
//! With `styles` each scene is shown in all eight styles before the next one comes.

use std::error::Error;
use std::time::Instant;

use sora_world::{Domain, Scene, Size, Style};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or(
        "usage: contact_sheet OUT.png [starter|core|full|styles] [SCENES] [FIRST_SEED] [W] [H] [FRAMES]",
    )?;
    let wanted = args.next().unwrap_or_else(|| "starter".into());
    let mut words = wanted.split('/');
    let kind = words.next();
    // "styles" shows each scene in all styles, one after the other.
    let styles = kind == Some("styles");
    let mut domain = match kind {
        None | Some("starter") => Domain::starter(),
        Some("core") => Domain::core(),
        Some("full" | "styles") => Domain::full(),
        Some(other) => return Err(format!("{other:?} is none of starter, core, full, styles").into()),
    };
    for word in words {
        if !domain.restrict(word) {
            return Err(format!("no attribute has a value {word:?}").into());
        }
    }
    let mut number = |default: u32| args.next().map_or(Ok(default), |text| text.parse::<u32>());
    let (scenes, first) = (number(16)?, number(0)?);
    let size = Size { width: number(128)?, height: number(128)? };
    let frames = number(17)? as usize;

    let shown: Vec<usize> = (0..6.min(frames)).map(|i| i * (frames - 1) / 5.min(frames - 1).max(1)).collect();
    let (width, height) = (size.width as usize, size.height as usize);
    let gap = 2;
    let row_width = shown.len() * (width + gap);
    let (sheet_width, rows) = (2 * row_width + gap, scenes.div_ceil(2) as usize);
    let mut sheet = vec![255_u8; sheet_width * rows * (height + gap) * 3];
    let mut seconds = 0.0;
    for index in 0..scenes as usize {
        let count = Style::ALL.len();
        let scene = if styles {
            Scene::sample(u64::from(first) + (index / count) as u64, &domain)
                .with_style(Style::ALL[index % count])
        } else {
            Scene::sample(u64::from(first) + index as u64, &domain)
        };
        println!("{index:3}  {}\n     {}", scene.caption(), scene.detailed_caption());
        let start = Instant::now();
        let clip = scene.render(size, frames);
        seconds += start.elapsed().as_secs_f64();
        for (slot, frame) in shown.iter().filter_map(|&t| clip.frame(t)).enumerate() {
            let left = (index % 2) * row_width + gap + slot * (width + gap);
            for (y, line) in frame.chunks_exact(width * 3).enumerate() {
                let at = (((index / 2) * (height + gap) + y) * sheet_width + left) * 3;
                sheet[at..at + line.len()].copy_from_slice(line);
            }
        }
    }
    println!("{:.0} frames of {width}x{height} per second", f64::from(scenes) * frames as f64 / seconds);

    let mut encoder = png::Encoder::new(
        std::io::BufWriter::new(std::fs::File::create(&out)?),
        sheet_width as u32,
        (sheet.len() / sheet_width / 3) as u32,
    );
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&sheet)?;
    Ok(())
}
