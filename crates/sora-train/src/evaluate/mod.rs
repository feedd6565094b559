//! What a trained model is worth, in figures: through the inference engine's own pipeline, read by a probe that is
//! measured on renders beside every figure.

mod diversity;
mod drift;
mod following;
pub(crate) mod generator;
mod marks;
mod measures;
mod orbit;
mod permanence;
mod reader;
mod report;
mod restyling;
mod vae;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sora_diffusion::pipelines::prompt_enhancer::{Decoding, Enhancement, PromptEnhancer};
use sora_model::{ModelDir, PromptEnhancerDir};
use sora_world::{Domain, Scene};

use self::generator::Generator;
use self::reader::Reader;
use self::report::Report;
use crate::data::DomainChoice;
use crate::latents::{Shape, parse_shape};
use crate::run::{Compute, Run};

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Measure {
    /// Prompt-following, Fréchet distance, flicker, time: one set of clips.
    Following,
    /// PSNR and SSIM of the VAE.
    Vae,
    /// Clips of one prompt with several seeds.
    Diversity,
    /// Streams of some minutes.
    Drift,
    /// Claim (d), 3D consistency: the ground under a circling camera.
    Orbit,
    /// Claim (e), object permanence: what passes behind something.
    Permanence,
    /// Claim (f), interaction: marks that stay.
    Marks,
    /// Style and structure of restyled video.
    Restyling,
}

/// How scenes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PromptChoice {
    /// By their short captions.
    Short,
    /// By their detailed captions.
    Detailed,
    /// By their short captions as the prompt enhancer of models/sora-tiny expands them.
    Enhanced,
}

/// Options of `sora-train evaluate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Diffusers directory of the model.
    #[arg(long, default_value = "models/sora-tiny")]
    model: PathBuf,
    /// Folder with probe.safetensors and probe.json.
    #[arg(long, default_value = "crates/sora-train/probe")]
    probe: PathBuf,
    /// Folder for report.md, report.json, tables, figures and sheets; a former report in it stays as
    /// report-1.md, report-1.json and so on, its tables, figures and sheets are replaced.
    #[arg(long, default_value = "runs/evaluate")]
    out: PathBuf,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [
        Measure::Following, Measure::Vae, Measure::Diversity, Measure::Drift, Measure::Orbit, Measure::Permanence,
        Measure::Marks, Measure::Restyling,
    ])]
    measures: Vec<Measure>,
    /// Clips for prompt-following and the Fréchet distance; at least 3.
    #[arg(long, default_value_t = 120)]
    clips: u64,
    /// Clips for each of the claims and each kind of restyled video; at least 1.
    #[arg(long, default_value_t = 24)]
    claim_clips: u64,
    /// Streams of each length.
    #[arg(long, default_value_t = 4)]
    streams: u64,
    /// Lengths of the streams, minutes.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 5.0])]
    minutes: Vec<f64>,
    /// Which captions to ask with; what is asked about is in any case what the short one names.
    #[arg(long, value_enum, default_value = "short")]
    captions: PromptChoice,
    /// Scenes to ask for.
    #[arg(long, value_enum, default_value = "core")]
    domain: DomainChoice,
    /// Denoising steps, instead of the model's own number.
    #[arg(long)]
    steps: Option<u32>,
    /// Size and length of clips, WIDTHxHEIGHTxFRAMES, instead of the model's own; streams take the size.
    #[arg(long, value_parser = parse_shape)]
    size: Option<Shape>,
    /// Folder of PNG photographs for the VAE, instead of procedural textures, and to be restyled.
    #[arg(long)]
    photos: Option<PathBuf>,
    /// Where the model makes clips; they are read on the CPU.
    #[command(flatten)]
    compute: Compute,
}

/// What every measure needs.
struct Bench<'a> {
    args: &'a Args,
    domain: Domain,
    reader: Reader,
    generator: Generator,
    enhancer: Option<PromptEnhancer>,
}

impl Bench<'_> {
    /// What the model is told to show of a scene.
    fn prompt(&self, scene: &Scene) -> anyhow::Result<String> {
        Ok(match (self.args.captions, &self.enhancer) {
            (PromptChoice::Detailed, _) => scene.detailed_caption(),
            (PromptChoice::Enhanced, Some(enhancer)) => {
                let caption = scene.caption();
                match enhancer.enhance(&caption, Decoding::Greedy)? {
                    Enhancement::Expanded(prompt) => prompt,
                    Enhancement::Unchanged(_) => caption,
                }
            }
            (PromptChoice::Short | PromptChoice::Enhanced, _) => scene.caption(),
        })
    }
}

/// The prompt enhancer that ships.
fn shipped_enhancer() -> anyhow::Result<PromptEnhancer> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sora-tiny");
    let dir = ModelDir::open(&root)?;
    let tokenizer = dir.tokenizer_path();
    Ok(PromptEnhancer::load(PromptEnhancerDir::open(&root)?, (&tokenizer, dir.tokenizer_class()))?)
}

/// Measures and writes, measure by measure: what is done stays when a later one fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.clips >= 3, "clips is {}, it must be at least 3", args.clips);
    ensure!(args.claim_clips >= 1, "claim-clips is {}, it must be at least 1", args.claim_clips);
    ensure!(args.streams >= 1, "streams is {}, it must be at least 1", args.streams);
    for minutes in &args.minutes {
        ensure!(
            *minutes > 0.0 && *minutes <= 60.0,
            "minutes is {minutes}, it must be above 0 and at most 60"
        );
    }
    Report::folder(&args.out)?;
    let device = args.compute.choose()?;
    let bench = Bench {
        args,
        domain: args.domain.domain(),
        reader: Reader::open(&args.probe)?,
        generator: Generator::open(&args.model, args.steps, args.size, device)?,
        enhancer: if args.captions == PromptChoice::Enhanced { Some(shipped_enhancer()?) } else { None },
    };
    // Not before there is something to measure: what the folder has may have taken hours.
    let mut report = Report::create(&args.out, "Evaluation")?;
    Run::create(&args.out, Some(args.compute.seed))?;
    let native = &bench.generator.native;
    let card = &bench.reader.card;
    report.say(
        "",
        &format!(
            "Model `{}`: clips of {} frames at {}×{}, {} steps, guidance {}. {:?} captions of \
             scenes of the {:?} domain, seed {}. Probe of the \
             {} domain, {} steps of training. `command.txt` has the command.",
            args.model.display(),
            native.num_frames,
            native.width,
            native.height,
            native.num_inference_steps,
            native.guidance_scale,
            args.captions,
            args.domain,
            args.compute.seed,
            card.domain,
            card.steps
        ),
    );
    for measure in &args.measures {
        let measured = match measure {
            Measure::Following => following::run(&bench, &mut report),
            Measure::Vae => vae::run(&bench, &mut report),
            Measure::Diversity => diversity::run(&bench, &mut report),
            Measure::Drift => drift::run(&bench, &mut report),
            Measure::Orbit => orbit::run(&bench, &mut report),
            Measure::Permanence => permanence::run(&bench, &mut report),
            Measure::Marks => marks::run(&bench, &mut report),
            Measure::Restyling => restyling::run(&bench, &mut report),
        };
        // Also what one has said that failed afterwards, such as for a figure that cannot be drawn.
        report.save()?;
        measured.with_context(|| format!("{measure:?}"))?;
        eprintln!("{measure:?}: done, see {}", report.file("report.md").display());
    }
    Ok(())
}
