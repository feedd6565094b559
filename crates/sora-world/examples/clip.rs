//! Writes one scene as raw frames, RGB24 without padding: something to feed a pipeline with.
//!
//! ```text
//! cargo run --release -p sora-world --example clip -- OUT.rgb [SEED] [WIDTH] [HEIGHT] [FRAMES] [VALUE...]
//! gst-launch-1.0 filesrc location=OUT.rgb ! rawvideoparse format=rgb width=128 height=128 framerate=8/1 ! ...
//! ```
//! Values as `car`, `snow`, `shaded` choose among the scenes of `Domain::core`. The caption goes to stdout.

use std::error::Error;

use sora_world::{Domain, Scene, Size};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("usage: clip OUT.rgb [SEED] [WIDTH] [HEIGHT] [FRAMES] [VALUE...]")?;
    let mut number = |default: u32| args.next().map_or(Ok(default), |text| text.parse::<u32>());
    let (seed, width, height, frames) = (number(0)?, number(128)?, number(128)?, number(17)?);
    let mut domain = Domain::core();
    for word in args {
        if !domain.restrict(&word) {
            return Err(format!("no attribute has a value {word:?}").into());
        }
    }
    let scene = Scene::sample(seed.into(), &domain);
    let clip = scene.render(Size { width, height }, frames as usize);
    std::fs::write(out, &clip.frames)?;
    println!("{}", scene.caption());
    Ok(())
}
