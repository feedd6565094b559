//! A model directory that makes clips and streams, at its own defaults.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use sora_diffusion::device::{DeviceChoice, DtypeChoice};
use sora_diffusion::pipelines::{
    BlockRequest, BlockSource, BlockStream, GenerationRequest, LoadOptions, StreamOptions,
    TextToVideoPipeline,
};
use sora_model::defaults::NativeSettings;
use sora_world::Size;
use tch::Tensor;

use crate::latents::Shape;
use crate::video::to_tensor;

/// A way to restyle video, as the property `method` of `soratransform` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The model sees it.
    Learned,
    /// FlowEdit.
    Difference,
    /// SDEdit.
    Noise,
}

impl Method {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Learned, Self::Difference, Self::Noise];

    /// Its nick.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Difference => "difference",
            Self::Noise => "noise",
        }
    }
}

/// Takes what the stream's next block is made from off RGB bytes `[T, H, W, 3]`.
///
/// # Errors
/// If they are fewer than a block.
pub(crate) fn take_block<'a>(
    rest: &mut &'a [u8],
    stream: &BlockStream,
    size: Size,
) -> anyhow::Result<&'a [u8]> {
    let bytes = stream.block_frames() as usize * size.area() * 3;
    let (pixels, later) = rest.split_at_checked(bytes).context("the last block is not whole")?;
    *rest = later;
    Ok(pixels)
}

/// A loaded model.
pub(crate) struct Generator {
    pipeline: TextToVideoPipeline,
    /// Size, length, steps and guidance of what it makes.
    pub(crate) native: NativeSettings,
    /// Time spent in making clips, and how many.
    pub(crate) spent: std::cell::Cell<(Duration, u32)>,
}

impl Generator {
    /// Loads a diffusers directory, to make clips in so many steps and of this shape, where they are not to be its own.
    ///
    /// # Errors
    /// Those of [`TextToVideoPipeline::load`].
    pub(crate) fn open(
        dir: &Path,
        steps: Option<u32>,
        shape: Option<Shape>,
        device: DeviceChoice,
    ) -> anyhow::Result<Self> {
        // The same figures on every machine, but for roundings.
        let options = LoadOptions { device, dtype: DtypeChoice::F32, ..LoadOptions::default() };
        let pipeline = TextToVideoPipeline::load(dir, &options, &mut |_| ControlFlow::Continue(()))?;
        let mut native = pipeline.dir().native().clone();
        native.num_inference_steps = steps.unwrap_or(native.num_inference_steps);
        if let Some(Shape { size, frames }) = shape {
            (native.width, native.height, native.num_frames) = (size.width, size.height, frames as u32);
        }
        Ok(Self { pipeline, native, spent: std::cell::Cell::default() })
    }

    /// Picture size.
    pub(crate) fn size(&self) -> Size {
        Size { width: self.native.width, height: self.native.height }
    }

    /// Frames of a latent frame.
    pub(crate) fn latent_frame(&self) -> i64 {
        self.pipeline.dir().vae().temporal_scale_factor()
    }

    /// Frames per second.
    pub(crate) fn frame_rate(&self) -> f64 {
        let (numerator, denominator) = self.native.frame_rate;
        f64::from(numerator) / f64::from(denominator)
    }

    /// A clip of the model's size and length, `[3, T, H, W]` in −1…1.
    pub(crate) fn clip(&self, prompt: &str, seed: u64) -> anyhow::Result<Tensor> {
        let begun = Instant::now();
        let frames = self.frames(prompt, seed, self.size(), self.native.num_frames)?;
        let (spent, count) = self.spent.get();
        self.spent.set((spent + begun.elapsed(), count + 1));
        let (t, h, w) = (self.native.num_frames.into(), self.native.height.into(), self.native.width.into());
        Ok(to_tensor(&frames, t, h, w).squeeze_dim(0))
    }

    /// A clip of any size and length, RGB bytes `[T, H, W, 3]`.
    pub(crate) fn frames(
        &self,
        prompt: &str,
        seed: u64,
        size: Size,
        num_frames: u32,
    ) -> anyhow::Result<Vec<u8>> {
        let request = GenerationRequest {
            prompt: prompt.to_owned(),
            negative_prompt: String::new(),
            width: size.width.into(),
            height: size.height.into(),
            num_frames: num_frames.into(),
            num_inference_steps: self.native.num_inference_steps.into(),
            guidance_scale: self.native.guidance_scale,
            seed,
            scheduler: None,
        };
        let mut frames = Vec::new();
        self.pipeline.generate(&request, &mut |_| ControlFlow::Continue(()), &mut |batch| {
            frames.extend_from_slice(batch.data);
            ControlFlow::Continue(())
        })?;
        Ok(frames)
    }

    /// Whether the model can restyle video so.
    pub(crate) fn knows(&self, method: Method) -> bool {
        method != Method::Learned || self.pipeline.dir().source_embedding_weights().is_some()
    }

    /// RGB bytes `[T, H, W, 3]` restyled block by block, as many; T is one more than whole blocks. The same noise for
    /// every block, as the element does it.
    pub(crate) fn restyled(
        &self,
        frames: &[u8],
        size: Size,
        prompt: &str,
        method: Method,
        (strength, seed): (f64, u64),
    ) -> anyhow::Result<Vec<u8>> {
        let (width, height) = (i64::from(size.width), i64::from(size.height));
        let mut stream = self.pipeline.open_stream(&StreamOptions { width, height, seed, memory: None })?;
        let (mut rest, mut made) = (frames, Vec::with_capacity(frames.len()));
        while !rest.is_empty() {
            let pixels = take_block(&mut rest, &stream, size)?;
            let source = BlockSource {
                pixels,
                strength,
                fresh_noise: false,
                motion_adaptive: false,
                source_prompt: (method == Method::Difference).then_some(""),
                shown: method == Method::Learned,
                cut: false,
            };
            let block = BlockRequest {
                prompt,
                keep_past: false,
                fade: None,
                negative_prompt: "",
                guidance_scale: self.native.guidance_scale,
                num_inference_steps: self.native.num_inference_steps.into(),
                source: Some(source),
            };
            self.append_block(&mut stream, &block, &mut made)?;
        }
        Ok(made)
    }

    /// Makes the next block and appends its frames.
    fn append_block(
        &self,
        stream: &mut BlockStream,
        request: &BlockRequest<'_>,
        frames: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        Ok(self.pipeline.next_block(stream, request, &mut |_| ControlFlow::Continue(()), &mut |batch| {
            frames.extend_from_slice(batch.data);
            ControlFlow::Continue(())
        })?)
    }

    /// A stream of at least `num_frames` frames, handed over in windows of `window` frames `[3, T, H, W]` in
    /// −1…1 without overlap; a rest shorter than a window is dropped.
    pub(crate) fn stream(
        &self,
        prompt: &str,
        seed: u64,
        (num_frames, window): (usize, usize),
        on_window: &mut dyn FnMut(usize, Tensor) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let native = &self.native;
        let factor = self.latent_frame() as usize;
        let options =
            StreamOptions { width: native.width.into(), height: native.height.into(), seed, memory: None };
        let request = BlockRequest {
            prompt,
            keep_past: true,
            fade: None,
            negative_prompt: "",
            guidance_scale: 1.0,
            num_inference_steps: native.num_inference_steps.into(),
            source: None,
        };
        let (h, w) = (i64::from(native.height), i64::from(native.width));
        let bytes = window * (h * w * 3) as usize;
        let (mut frames, mut at) = (Vec::new(), 0);
        let mut stream = self.pipeline.open_stream(&options)?;
        for _ in 0..1 + num_frames.saturating_sub(1).div_ceil(factor) {
            self.append_block(&mut stream, &request, &mut frames)?;
            while frames.len() >= bytes {
                let rest = frames.split_off(bytes);
                let video = to_tensor(&frames, window as i64, h, w).squeeze_dim(0);
                on_window(at, video)?;
                (frames, at) = (rest, at + window);
            }
        }
        Ok(())
    }
}
