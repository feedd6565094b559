//! Latents that a transformer makes, beside the videos that they were to show.
//!
//! Scenes are rendered, noised and denoised under their captions by a model that streams (SDEdit, Meng et al., arXiv
//! 2108.01073), each latent frame with noise of its own: what comes out shows the same scene with the model's slips in it,
//! among them those from one latent frame to the next. A decoder that learns from these what the scene had looked like
//! neither draws the slips nor lets them flicker.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sora_diffusion::device::{DeviceChoice, DtypeChoice};
use sora_diffusion::pipelines::{BlockRequest, BlockSource, LoadOptions, StreamOptions, TextToVideoPipeline};
use sora_world::{Domain, Scene};
use tch::Tensor;

use crate::checkpoint::write_whole;
use crate::data::{self, DomainChoice, NATIVE_SIZES, Purpose};
use crate::evaluate::generator::take_block;
use crate::seeds::Seeds;
use crate::video::clip_to_tensor;
use crate::{origin, progress};

/// Options of what a model makes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Model directory (`sora-tiny`, whose VAE's encoder is the one that is trained with) that makes videos of the worlds
    /// anew: the decoder learns from its latents beside those of the encoder.
    #[arg(long, requires = "decoder_only")]
    made_by: Option<PathBuf>,
    /// How many videos it makes, once; `made.safetensors` in the run folder keeps them.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    made: u64,
    /// Crops of these per step.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1024))]
    made_batch: u64,
}

/// Frames of each.
const FRAMES: usize = 17;
/// The least and the most that is made anew, as the property `strength` of `soratransform`: of more, the scene would not be
/// the same any more, and the decoder would learn to blur and to pale what could be either.
const STRENGTH: (f64, f64) = (0.1, 0.3);

/// What decides what a model makes, `made.json` beside it.
#[derive(PartialEq, Serialize, Deserialize)]
struct Origin {
    /// Digest of its weights.
    model: String,
    seed: u64,
    domain: String,
}

/// What a model has made.
pub(super) struct Made {
    /// As the decoder reads them, `[N, C, F, h, w]`.
    latents: Tensor,
    domain: Domain,
    seed: u64,
    batch: u64,
}

fn scene(seed: u64, index: u64, domain: &Domain) -> Scene {
    data::scene(seed, Purpose::Vae, index, domain)
}

impl Made {
    /// What the run folder has, or what the model makes now; `None` where none is asked for.
    ///
    /// # Errors
    /// If the file has another number of videos than asked for, or of another model, seed or domain; or if the model does not
    /// stream.
    pub(super) fn open(
        args: &Args,
        file: &Path,
        seed: u64,
        domain: DomainChoice,
    ) -> anyhow::Result<Option<Self>> {
        let Some(model) = &args.made_by else { return Ok(None) };
        let origin = Origin { model: origin::digest(model)?, seed, domain: domain.name() };
        origin::settle(&file.with_extension("json"), origin, "videos")?;
        if !file.exists() {
            let latents = make(model, args.made, seed, &domain.domain())
                .with_context(|| format!("model {}", model.display()))?;
            write_whole(file, |path| Ok(Tensor::write_safetensors(&[("latents", &latents)], path)?))?;
        }
        let read = || anyhow::Ok(Tensor::read_safetensors(file)?.pop().context("it is empty")?.1);
        let latents = read().with_context(|| file.display().to_string())?;
        let has = latents.size()[0];
        anyhow::ensure!(
            has as u64 == args.made,
            "{} has {has} videos, {} are asked for: remove it, or ask for as many",
            file.display(),
            args.made
        );
        Ok(Some(Self { latents, domain: domain.domain(), seed, batch: args.made_batch }))
    }

    /// Crops of side `crop` for a step: latents `[B, C, F, h, w]`, and the videos `[B, 3, T, crop, crop]` in −1…1.
    pub(super) fn crops(&self, step: u64, crop: u32) -> (Tensor, Tensor) {
        let (latents, videos): (Vec<Tensor>, Vec<Tensor>) =
            (0..self.batch).map(|i| self.crop(step * self.batch + i, i64::from(crop))).unzip();
        (Tensor::cat(&latents, 0), Tensor::cat(&videos, 0))
    }

    fn crop(&self, index: u64, crop: i64) -> (Tensor, Tensor) {
        let mut seeds = Seeds::new(self.seed, index, 21);
        let which = seeds.below(self.latents.size()[0] as u64);
        let latents = self.latents.narrow(0, which as i64, 1);
        let video = clip_to_tensor(&scene(self.seed, which, &self.domain).render(NATIVE_SIZES[0], FRAMES));
        // Pixels of a latent position.
        let scale = video.size()[3] / latents.size()[3];
        let mut cut = |side: i64| {
            let crop = crop.min(side * scale) / scale;
            (seeds.below((side - crop + 1) as u64) as i64, crop)
        };
        let ((y, h), (x, w)) = (cut(latents.size()[3]), cut(latents.size()[4]));
        let [y_pixel, h_pixel, x_pixel, w_pixel] = [y, h, x, w].map(|n| n * scale);
        (
            latents.narrow(3, y, h).narrow(4, x, w).contiguous(),
            video.narrow(3, y_pixel, h_pixel).narrow(4, x_pixel, w_pixel).contiguous(),
        )
    }
}

/// Has a model make so many scenes anew.
fn make(model: &Path, count: u64, seed: u64, domain: &Domain) -> anyhow::Result<Tensor> {
    let options =
        LoadOptions { device: DeviceChoice::Auto, dtype: DtypeChoice::F32, ..LoadOptions::default() };
    let pipeline = TextToVideoPipeline::load(model, &options, &mut |_| ControlFlow::Continue(()))?;
    let bar = progress::bar(count, 0);
    bar.set_message("made anew");
    let videos = (0..count).map(|index| {
        bar.inc(1);
        make_one(&pipeline, &scene(seed, index, domain), Seeds::new(seed, index, 22))
    });
    let videos = videos.collect::<anyhow::Result<Vec<_>>>()?;
    bar.finish_and_clear();
    Ok(Tensor::cat(&videos, 0))
}

fn make_one(pipeline: &TextToVideoPipeline, scene: &Scene, mut seeds: Seeds) -> anyhow::Result<Tensor> {
    let (size, caption) = (NATIVE_SIZES[0], scene.caption());
    let clip = scene.render(size, FRAMES);
    let (width, height) = (i64::from(size.width), i64::from(size.height));
    let options = StreamOptions { width, height, seed: seeds.next_u64(), memory: None };
    let strength = STRENGTH.0 + (STRENGTH.1 - STRENGTH.0) * f64::from(seeds.unit());
    let mut stream = pipeline.open_stream(&options)?;
    let (mut rest, mut blocks) = (clip.frames.as_slice(), Vec::new());
    while !rest.is_empty() {
        let pixels = take_block(&mut rest, &stream, size)?;
        let request = BlockRequest {
            prompt: &caption,
            keep_past: true,
            fade: None,
            negative_prompt: "",
            guidance_scale: 1.0,
            num_inference_steps: pipeline.dir().native().num_inference_steps.into(),
            source: Some(BlockSource {
                pixels,
                strength,
                fresh_noise: true,
                motion_adaptive: false,
                source_prompt: None,
                shown: false,
                cut: false,
            }),
        };
        pipeline.next_latents(&mut stream, &request, &mut |_| ControlFlow::Continue(()), &mut |block| {
            blocks.push(pipeline.raw_latents(&block));
            Ok(())
        })?;
    }
    Ok(Tensor::cat(&blocks, 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::file::open_vae;
    use crate::video::psnr;

    #[test]
    fn what_the_model_makes_of_a_scene_shows_it() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sora-tiny");
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("made.safetensors");
        let args = Args { made_by: Some(model.clone()), made: 2, made_batch: 3 };
        let open = |args: &Args| Made::open(args, &file, 1, DomainChoice::Core);
        let made = open(&args).expect("the model streams").expect("it was asked for");
        assert_eq!(made.latents.size(), [2, 8, 5, 16, 16]);

        let vae = open_vae(&model.join("vae")).expect("a VAE");
        let decoded = |latents: &Tensor| tch::no_grad(|| vae.decode(latents));
        let (latents, videos) = made.crops(0, 128);
        assert_eq!(videos.size(), [3, 3, 17, 128, 128]);
        for i in 0..3 {
            let (latents, video) = (latents.narrow(0, i, 1), videos.narrow(0, i, 1));
            let own = psnr(&video, &decoded(&latents));
            let turned = psnr(&video.flip([3i64]), &decoded(&latents));
            assert!(own > 15.0 && own > turned + 2.0, "{own} and {turned} dB");
            // Not what the encoder makes of it.
            let encoded = tch::no_grad(|| vae.encode(&video).mode());
            let departs = (&encoded - &latents).square().mean(tch::Kind::Float).double_value(&[]);
            assert!(departs > 1e-3, "{departs}");
        }

        // A crop is of the same place in both: shifted by a latent position, it fits worse.
        for step in 0..4 {
            let (latents, videos) = made.crops(step, 64);
            let decoded = decoded(&latents);
            let fits = |by: i64| {
                let cut = |x: &Tensor, from: i64| x.narrow(4, from, 56).contiguous();
                psnr(&cut(&videos, 0), &cut(&decoded, by))
            };
            assert!(fits(0) > fits(8), "{} and {} dB", fits(0), fits(8));
        }

        // What is there is read again, and is of as many videos as asked for.
        let again = open(&args).expect("the file").expect("as before");
        assert_eq!(again.latents, made.latents);
        let error = open(&Args { made: 3, ..args }).err().expect("three are not there").to_string();
        assert!(error.contains("has 2 videos, 3 are asked for"), "{error}");
        let other = Args { made_by: Some(model), made: 2, made_batch: 3 };
        let error =
            Made::open(&other, &file, 2, DomainChoice::Core).err().expect("of another seed").to_string();
        assert!(error.contains("its seed is 1, asked for is 2"), "{error}");
    }
}
