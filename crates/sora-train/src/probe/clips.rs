//! Rendered clips with what is true of them, small enough to keep in memory, kept on disk for the next time.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context, ensure};
use sora_diffusion::models::AutoencoderKlWan;
use sora_world::{Attributes, Clip, FrameTruth, Size};
use tch::{Kind, Tensor};

use super::network::{MAP_SIDE, MAPS, SIDE, WINDOW};
use super::questions::Question;
use crate::checkpoint::write_whole;
use crate::data::{self, DomainChoice, NATIVE_SIZES, Purpose};
use crate::seeds::Seeds;
use crate::video::clip_to_tensor;

/// Scenes per shard; it also holds the copies that went through the VAE.
pub(crate) const SHARD: u64 = 100;
/// One scene in so many also goes through the VAE.
const RECONSTRUCT_EVERY: u64 = 16;
/// Of these, one in two with noise added to its latents: the slips of a generator.
const LATENT_NOISE: f64 = 0.25;

/// Clips in all; the first dimension counts them.
#[derive(Debug)]
pub(crate) struct Clips {
    /// RGB bytes, `[N, T, 3, SIDE, SIDE]`.
    pub(crate) video: Tensor,
    /// Share of each cell that shows subject, companion, marks; bytes, `[N, T, MAPS, MAP_SIDE, MAP_SIDE]`.
    pub(crate) maps: Tensor,
    /// Per question the answer, or −1 where there is none, `[N, questions]`.
    pub(crate) labels: Tensor,
    /// 0 for a render, 1 for one that went through a VAE, `[N]`.
    pub(crate) kind: Tensor,
}

const NAMES: [&str; 4] = ["video", "maps", "labels", "kind"];

impl Clips {
    /// Clips after each other.
    pub(crate) fn concatenate(parts: &[Self]) -> Self {
        let cat =
            |field: &dyn Fn(&Self) -> Tensor| Tensor::cat(&parts.iter().map(field).collect::<Vec<_>>(), 0);
        Self {
            video: cat(&|c| c.video.shallow_clone()),
            maps: cat(&|c| c.maps.shallow_clone()),
            labels: cat(&|c| c.labels.shallow_clone()),
            kind: cat(&|c| c.kind.shallow_clone()),
        }
    }

    /// The clips of these rows.
    pub(crate) fn select(&self, rows: &[i64]) -> Self {
        let rows = Tensor::from_slice(rows);
        let select = |t: &Tensor| t.index_select(0, &rows);
        Self {
            video: select(&self.video),
            maps: select(&self.maps),
            labels: select(&self.labels),
            kind: select(&self.kind),
        }
    }

    /// Number of clips.
    pub(crate) fn len(&self) -> usize {
        self.kind.numel()
    }

    /// Rows of renders (`false`) or of reconstructions.
    pub(crate) fn rows(&self, reconstructed: bool) -> Vec<i64> {
        rows_where(&self.kind.eq(i64::from(reconstructed)))
    }

    /// Rows that show marks on the ground.
    pub(crate) fn marked_rows(&self) -> Vec<i64> {
        rows_where(&self.maps.select(2, MAPS - 1).flatten(1, -1).amax([1i64].as_slice(), false).gt(0))
    }

    fn fields(&self) -> [&Tensor; 4] {
        [&self.video, &self.maps, &self.labels, &self.kind]
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let fields = self.fields().map(Tensor::contiguous);
        let named: Vec<(&str, &Tensor)> = NAMES.into_iter().zip(&fields).collect();
        write_whole(path, |p| Ok(Tensor::write_safetensors(&named, p)?))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let tensors = Tensor::read_safetensors(path).with_context(|| path.display().to_string())?;
        let mut fields =
            NAMES.map(|wanted| tensors.iter().find(|(name, _)| name == wanted).map(|t| t.1.shallow_clone()));
        let mut field =
            |i: usize| fields[i].take().with_context(|| format!("{} has no {}", path.display(), NAMES[i]));
        let clips = Self { video: field(0)?, maps: field(1)?, labels: field(2)?, kind: field(3)? };
        ensure!(
            clips.video.size()[1..] == [WINDOW as i64, 3, SIDE, SIDE],
            "{} holds clips {:?}, this probe reads {:?}: remove it",
            path.display(),
            &clips.video.size()[1..],
            [WINDOW as i64, 3, SIDE, SIDE]
        );
        Ok(clips)
    }
}

/// Places of a list of truths where it is true.
fn rows_where(truths: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(truths.nonzero().squeeze_dim(-1)).expect("a list of numbers")
}

/// Frames `[T, 3, H, W]` in −1…1 as the probe sees them: `[T, 3, SIDE, SIDE]`.
pub(crate) fn shrink(frames: &Tensor) -> Tensor {
    frames.adaptive_avg_pool2d([SIDE, SIDE])
}

/// `[1, 3, T, H, W]` → `[T, 3, H, W]`.
pub(crate) fn frames_of(video: &Tensor) -> Tensor {
    video.squeeze_dim(0).transpose(0, 1)
}

/// −1…1 → bytes.
fn bytes(frames: &Tensor) -> Tensor {
    ((frames + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// Shares of cells, `[T, MAPS, rows, columns]` in 0…1.
pub(crate) fn true_maps(truth: &[FrameTruth], size: Size, cells: [i64; 2]) -> Tensor {
    let planes: Vec<Tensor> = truth
        .iter()
        .map(|frame| {
            let shape = [1, i64::from(size.height), i64::from(size.width)];
            let mask = Tensor::from_slice(&frame.mask).view(shape);
            let marks = if frame.marks.is_empty() {
                mask.zeros_like()
            } else {
                Tensor::from_slice(&frame.marks).view(shape)
            };
            Tensor::cat(&[mask.eq(1), mask.eq(2), marks.eq(1)], 0).to_kind(Kind::Float)
        })
        .collect();
    Tensor::stack(&planes, 0).adaptive_avg_pool2d(cells)
}

/// Where clips come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What may be shown.
    pub(crate) domain: DomainChoice,
    /// Seed of the scenes.
    pub(crate) seed: u64,
    /// Stream of seeds.
    pub(crate) purpose: Purpose,
    /// Begin of the shards' names.
    pub(crate) name: &'static str,
    /// Render at three quarters of the size, in half the time; the probe sees less still.
    pub(crate) small: bool,
}

impl Source {
    /// Clip `index`: its pixels at full size, truth, and labels.
    fn draw(&self, index: u64) -> (Clip, Attributes, usize) {
        let mut seeds = Seeds::new(self.seed, self.purpose as u64 + 100, index);
        let scene = data::scene(self.seed, self.purpose, index, &self.domain.domain());
        // Squares most often, as the model makes them; now and then a later part of a clip.
        let mut size = NATIVE_SIZES[seeds.below(10).saturating_sub(7).min(2) as usize];
        if self.small {
            size = Size { width: size.width * 3 / 4, height: size.height * 3 / 4 };
        }
        let start = if seeds.below(8) == 0 { WINDOW - 1 } else { 0 };
        let mut clip = scene.render(size, start + WINDOW);
        clip.frames.drain(..start * size.area() * 3);
        clip.truth.drain(..start);
        (clip, *scene.attributes(), start)
    }

    /// Renders these scenes; some of them also come back from the VAE.
    pub(crate) fn render(&self, scenes: Range<u64>, vae: Option<&AutoencoderKlWan>) -> Clips {
        let _no_grad = tch::no_grad_guard();
        let (mut video, mut maps, mut labels, mut kind) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for index in scenes {
            let (clip, attributes, start) = self.draw(index);
            let answer = |q: Question| q.answer_from(&attributes, start).map_or(-1, |class| class as i64);
            let pixels = clip_to_tensor(&clip);
            let mut versions = vec![(pixels.shallow_clone(), 0i64)];
            if let Some(vae) = vae.filter(|_| index % RECONSTRUCT_EVERY == 0) {
                let noisy = (index / RECONSTRUCT_EVERY).is_multiple_of(2);
                versions.push((reconstruct(vae, &pixels, if noisy { index } else { 0 }), 1));
            }
            let true_maps = (true_maps(&clip.truth, clip.size, [MAP_SIDE, MAP_SIDE]) * 255.0)
                .round()
                .to_kind(Kind::Uint8);
            for (pixels, version) in versions {
                video.push(bytes(&shrink(&frames_of(&pixels))));
                maps.push(true_maps.shallow_clone());
                labels.push(Tensor::from_slice(&Question::ALL.map(answer)));
                kind.push(version);
            }
        }
        Clips {
            video: Tensor::stack(&video, 0),
            maps: Tensor::stack(&maps, 0),
            labels: Tensor::stack(&labels, 0),
            kind: Tensor::from_slice(&kind),
        }
    }

    /// Shards 0 to `count` − 1, read from `dir` or rendered and written there, on a thread of their own.
    pub(crate) fn shards(
        &self,
        dir: PathBuf,
        count: u64,
        vae: Option<AutoencoderKlWan>,
    ) -> Receiver<anyhow::Result<Clips>> {
        let source = self.clone();
        let (sender, receiver) = sync_channel(2);
        std::thread::spawn(move || {
            tch::set_num_threads(1);
            for shard in 0..count {
                let path = dir.join(format!("{}-{shard:05}.safetensors", source.name));
                let clips = if path.exists() {
                    Clips::read(&path)
                } else {
                    let clips = source.render(shard * SHARD..(shard + 1) * SHARD, vae.as_ref());
                    clips.write(&path).map(|()| clips)
                };
                let failed = clips.is_err();
                if sender.send(clips).is_err() || failed {
                    break;
                }
            }
        });
        receiver
    }
}

/// What a VAE makes of a clip; with a seed other than 0, of its latents with noise on them.
fn reconstruct(vae: &AutoencoderKlWan, pixels: &Tensor, seed: u64) -> Tensor {
    let mut z = vae.encode(pixels).mode();
    if seed > 0 {
        let (b, c, t, h, w) = z.size5().expect("B C T H W");
        let noise = sora_diffusion::noise::seeded_noise(seed, &[b, c, t, h, w]);
        z = &z + noise * z.std(true) * LATENT_NOISE;
    }
    vae.decode(&z)
}
