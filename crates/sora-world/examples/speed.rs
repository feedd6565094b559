//! Renders scenes one after the other and throws them away: what the worlds cost, for `scripts/bench --only worlds`.
//!
//! ```text
//! cargo run --release -p sora-world --example speed -- core|full SCENES
//! ```
//! Clips of 17 frames at 128×128, on one thread; the number of frames goes to stdout.

use std::error::Error;

use sora_world::{Domain, Scene, Size};

const FRAMES: usize = 17;
const SIZE: Size = Size { width: 128, height: 128 };

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: speed core|full SCENES";
    let domain = match args.next().as_deref() {
        Some("core") => Domain::core(),
        Some("full") => Domain::full(),
        _ => return Err(usage.into()),
    };
    let scenes: u64 = args.next().ok_or(usage)?.parse()?;
    let mut frames = 0;
    for seed in 0..scenes {
        let clip = Scene::sample(seed, &domain).render(SIZE, FRAMES);
        frames += std::hint::black_box(clip.frames).len() / (SIZE.area() * 3);
    }
    println!("{frames}");
    Ok(())
}
