//! Whether one prompt gives different clips, and how different.

use sora_world::{Domain, Scene};

use super::Bench;
use super::following::stack;
use super::measures::mean_pairwise_distance;
use super::report::{Report, mean};
use crate::data::{self, Purpose};
use crate::progress;
use crate::seeds::Seeds;
use crate::video::clip_to_tensor;

/// Prompts, and clips of each.
const PROMPTS: u64 = 6;
const SEEDS: u64 = 6;
/// First scene.
const FIRST: u64 = 400_000;

/// Other scenes with the same attributes: only places, angles and speeds differ.
fn alike(scene: &Scene, count: u64, seed: u64) -> Vec<Scene> {
    let a = scene.attributes();
    let mut domain = Domain::full();
    for name in [
        a.subject.name(),
        a.ground.name(),
        a.sky.name(),
        a.motion.name(),
        a.camera.name(),
        a.style.name(),
        a.weather.name(),
        a.texture.name(),
    ] {
        domain.restrict(name);
    }
    // A companion has a colour too, so both stay possible.
    domain.colours = std::iter::once(a.colour).chain(a.companion.map(|c| c.colour)).collect();
    let mut seeds = Seeds::new(seed, Purpose::Evaluation as u64, FIRST + 1_000);
    std::iter::repeat_with(|| Scene::sample(seeds.next_u64(), &domain))
        .take(10_000)
        .filter(|other| other.attributes() == a)
        .take(count as usize)
        .collect()
}

/// Makes clips of the same prompts with many seeds.
pub(crate) fn run(bench: &Bench<'_>, report: &mut Report) -> anyhow::Result<()> {
    let Bench { reader, generator, args, domain, .. } = bench;
    let bar = progress::bar(PROMPTS * SEEDS, 0);
    bar.set_message("diversity");
    let mut rows = Vec::new();
    let (mut generated, mut rendered) = (Vec::new(), Vec::new());
    for i in 0..PROMPTS {
        let scene = data::scene_of_split(args.compute.seed, Purpose::Evaluation, FIRST + i, domain, false);
        let prompt = bench.prompt(&scene)?;
        let mut reads = Vec::new();
        for seed in 0..SEEDS {
            reads.push(reader.read(&generator.clip(&prompt, args.compute.seed.wrapping_add(1000 + seed))?)?);
            bar.inc(1);
        }
        let renders: anyhow::Result<Vec<_>> = alike(&scene, SEEDS, args.compute.seed)
            .iter()
            .map(|scene| {
                let clip = scene.render(generator.size(), generator.native.num_frames as usize);
                reader.read(&clip_to_tensor(&clip).squeeze_dim(0))
            })
            .collect();
        let renders = renders?;
        let distances = [&reads, &renders].map(|r| mean_pairwise_distance(&stack(r.iter())));
        generated.push(distances[0]);
        rendered.push(distances[1]);
        rows.push(vec![prompt, format!("{:.2}", distances[0]), format!("{:.2}", distances[1])]);
    }
    bar.finish_and_clear();
    report.say(
        "Diversity",
        &format!(
            "Mean distance of the probe's features between {SEEDS} clips of one prompt, {PROMPTS} prompts: {:.2} generated; \
             {:.2} between renders of scenes that share all attributes and differ in place, angle and speed. A model that \
             ignores its seed has 0.",
            mean(&generated),
            mean(&rendered)
        ),
    );
    report.table("diversity", &["prompt", "generated", "renders"], &rows)?;
    report.figure("diversity generated", mean(&generated));
    report.figure("diversity renders", mean(&rendered));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_alike_share_their_attributes_and_differ() {
        for seed in 0..6 {
            let scene = Scene::sample(seed, &Domain::core());
            let others = alike(&scene, 4, 1);
            assert_eq!(others.len(), 4, "{:?}", scene.attributes());
            assert!(others.iter().all(|o| o.attributes() == scene.attributes()));
            assert!(others.windows(2).all(|pair| pair[0].seed() != pair[1].seed()));
        }
    }
}
