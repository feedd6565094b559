//! What is true of encoded clips: their scenes, found again by the seed that they were drawn from.

use anyhow::ensure;
use sora_world::Size;
use tch::{Kind, Tensor};

use crate::data::{self, DomainChoice, Purpose};
use crate::latents::Bucket;
use crate::probe::clips::true_maps;
use crate::probe::questions::Question;

/// Where a folder's scenes come from: what `sora-train latents` was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) seed: u64,
    pub(crate) purpose: Purpose,
    pub(crate) domain: DomainChoice,
}

/// What is true of a bucket's clips.
pub(crate) struct Truth {
    /// Per question the answer, or −1 where there is none, `[N, questions]`.
    pub(crate) labels: Tensor,
    /// The same, −1 also where the short caption does not name it.
    pub(crate) named: Tensor,
    scenes: Vec<sora_world::Scene>,
}

impl Truth {
    /// Finds the scenes of a bucket.
    ///
    /// # Errors
    /// If their captions are not those of the bucket: the folder was made with another seed or domain.
    pub(crate) fn of(bucket: &Bucket, origin: Origin) -> anyhow::Result<Self> {
        let domain = origin.domain.domain();
        let (mut labels, mut named, mut scenes) = (Vec::new(), Vec::new(), Vec::new());
        for (&index, (short, _)) in bucket.scenes.iter().zip(&bucket.captions) {
            let scene = data::scene_of_split(origin.seed, origin.purpose, index, &domain, false);
            let caption = scene.caption();
            ensure!(
                caption == *short,
                "clip {index} of these latents is \"{short}\", with seed {} it would be \"{caption}\": give the seed \
                 and domain that they were made with",
                origin.seed
            );
            let a = scene.attributes();
            let answer = |q: Question| q.answer(a).map_or(-1, |class| class as i64);
            labels.push(Tensor::from_slice(&Question::ALL.map(answer)));
            let answer = |q: Question| if q.is_named(a, &caption) { answer(q) } else { -1 };
            named.push(Tensor::from_slice(&Question::ALL.map(answer)));
            scenes.push(scene);
        }
        Ok(Self { labels: Tensor::stack(&labels, 0), named: Tensor::stack(&named, 0), scenes })
    }

    /// Share of every latent position that shows subject, companion and marks, in bytes: `[N, T, MAPS, h, w]` for
    /// latents of this shape, of which the first is one frame and every other four.
    pub(crate) fn maps(&self, [frames, height, width]: [i64; 3], mut on_clip: impl FnMut()) -> Tensor {
        // Four points of a position: enough for its share, and drawn sixteen times as fast as the clip.
        let size = Size { width: 2 * width as u32, height: 2 * height as u32 };
        let maps = self.scenes.iter().map(|scene| {
            let clip = scene.render(size, 4 * (frames as usize - 1) + 1);
            let maps = true_maps(&clip.truth, size, [height, width]);
            let rest = maps.narrow(0, 1, 4 * (frames - 1)).unflatten(0, [frames - 1, 4]);
            let rest = rest.mean_dim([1i64].as_slice(), false, Kind::Float);
            on_clip();
            (Tensor::cat(&[maps.narrow(0, 0, 1), rest], 0) * 255.0).round().to_kind(Kind::Uint8)
        });
        Tensor::stack(&maps.collect::<Vec<_>>(), 0)
    }
}
