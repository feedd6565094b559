//! The number format that this CPU computes faster in: measured, once for each machine and kind of model.
//!
//! With AMX, bf16 is several times as fast as f32, with AVX-512 alone it is half as fast, and no list of CPUs knows
//! what a virtual machine lets through. So a feed-forward layer and a convolution of the model's shapes run in both
//! formats, with the casts and normalisations around them, for some tens of milliseconds. What was measured is kept for the process, and
//! on disk, so that a machine does not change its mind from one clip to the next.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sora_model::ModelDir;
use tch::{Device, Kind, Tensor};

use crate::device::Kinds;
use crate::disk_cache::{DiskCache, Key};
use crate::nn::{LayerNorm, channel_norm, channels_last_3d, conv3d};

/// bf16 has to be this many times as fast: below, what it costs in precision buys nothing that anybody would notice.
const CLEARLY_FASTER: f64 = 1.3;

/// Runs of each format after the first, which is not counted: it prepares kernels.
const ROUNDS: usize = 5;

/// A format whose first run takes so many times as long as the other's is not tried again.
const HOPELESS: u32 = 20;

/// Larger layers differ no further in what is faster: what is measured is cut to these, for the time it takes.
const MOST_TOKENS: i64 = 256;
const MOST_WIDTH: i64 = 1024;
const MOST_CHANNELS: i64 = 128;
const MOST_PRODUCTS: i64 = 1 << 29;

/// Frames of a chunk that is decoded, with the two before it that its convolution sees.
const CHUNK: i64 = 6;

/// Files of a few bytes.
const CACHE_BYTES: u64 = 256 << 10;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shapes {
    tokens: i64,
    dim: i64,
    ffn_dim: i64,
    channels: i64,
    /// Height and width of a frame where the decoder has most pixels.
    side: i64,
}

impl Shapes {
    fn of(dir: &ModelDir) -> Self {
        let (transformer, vae, native) = (dir.transformer(), dir.vae(), dir.native());
        let (width, height) = (i64::from(native.width), i64::from(native.height));
        let [p_t, p_h, p_w] = transformer.patch_size;
        let scale = vae.spatial_scale_factor();
        let frames = i64::from(dir.size_rules().num_latent_frames(native.num_frames));
        let tokens = (frames / p_t) * (height / scale / p_h) * (width / scale / p_w);
        let channels = vae.decoder_base_dim() * vae.dim_mult.first().copied().unwrap_or(1);
        Self::cut(
            tokens,
            transformer.inner_dim(),
            transformer.ffn_dim,
            channels,
            width.min(height) / vae.patch_size(),
        )
    }

    fn cut(tokens: i64, dim: i64, ffn_dim: i64, channels: i64, side: i64) -> Self {
        let channels = channels.clamp(1, MOST_CHANNELS);
        let mut side = side.clamp(4, 128);
        while side > 8 && 27 * channels * channels * (CHUNK - 2) * side * side > MOST_PRODUCTS {
            side /= 2;
        }
        Self {
            tokens: tokens.clamp(1, MOST_TOKENS),
            dim: dim.clamp(1, MOST_WIDTH),
            ffn_dim: ffn_dim.clamp(1, 4 * MOST_WIDTH),
            channels,
            side,
        }
    }

    fn key(self) -> Key {
        let text = format!("{self:?}, {} threads", tch::get_num_threads());
        Key::of(&[b"formats 1", cpu().as_bytes(), libtorch().as_bytes(), text.as_bytes()])
    }
}

/// How many times as fast as f32 bf16 is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Speedup {
    feed_forward: f64,
    convolution: f64,
}

impl Speedup {
    fn kinds(self) -> Kinds {
        let kind = |speedup| if speedup >= CLEARLY_FASTER { Kind::BFloat16 } else { Kind::Float };
        Kinds { transformer: kind(self.feed_forward), vae: kind(self.convolution), fp8: false }
    }

    fn read(contents: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(contents).ok()?;
        let sane = |speedup: f64| speedup.is_finite() && speedup >= 0.0;
        (sane(read.feed_forward) && sane(read.convolution)).then_some(read)
    }
}

/// The formats for this model on this CPU.
pub(crate) fn kinds(dir: &ModelDir) -> Kinds {
    static KNOWN: Mutex<Option<HashMap<Shapes, Speedup>>> = Mutex::new(None);
    let shapes = Shapes::of(dir);
    // Held over the measurement: two that run at once would measure one another.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let speedup = *known.get_or_insert_default().entry(shapes).or_insert_with(|| {
        let cache = DiskCache::of_user("formats", CACHE_BYTES);
        kept_or(cache.as_ref(), shapes.key(), || measure(shapes))
    });
    let kinds = speedup.kinds();
    tracing::debug!(
        "bf16 is {:.1} times as fast as f32 in feed-forward layers, {:.1} times in convolutions: {kinds:?}",
        speedup.feed_forward,
        speedup.convolution
    );
    kinds
}

/// What is kept under `key`, or what `measure` finds, which is kept then.
fn kept_or(cache: Option<&DiskCache>, key: Key, measure: impl FnOnce() -> Speedup) -> Speedup {
    let Some(cache) = cache else { return measure() };
    if let Some(kept) = cache.get(key).as_deref().and_then(Speedup::read) {
        return kept;
    }
    let measured = measure();
    if let Ok(contents) = serde_json::to_vec(&measured) {
        cache.put(key, &contents);
    }
    measured
}

fn measure(shapes: Shapes) -> Speedup {
    let _no_grad = tch::no_grad_guard();
    let _span = tracing::debug_span!("formats").entered();
    Speedup {
        feed_forward: speedup(|kind| feed_forward(shapes, kind)),
        convolution: speedup(|kind| convolution(shapes, kind)),
    }
}

/// Best time of f32 over best time of bf16, taken in turns.
fn speedup<F: FnMut()>(layer: impl Fn(Kind) -> F) -> f64 {
    let time = |run: &mut F| {
        let began = Instant::now();
        run();
        began.elapsed()
    };
    let (mut f32, mut bf16) = (layer(Kind::Float), layer(Kind::BFloat16));
    let mut best = [time(&mut f32), time(&mut bf16)];
    if best[1] > best[0] * HOPELESS {
        return 0.0;
    }
    best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        best = [best[0].min(time(&mut f32)), best[1].min(time(&mut bf16))];
    }
    best[0].as_secs_f64() / best[1].as_secs_f64().max(f64::MIN_POSITIVE)
}

fn filled(shape: &[i64], kind: Kind) -> Tensor {
    // Any values do; these stay far from overflow and underflow.
    Tensor::full(shape, 0.01, (kind, Device::Cpu))
}

/// Norm, linear, GELU, linear, as in a block of the transformer.
fn feed_forward(shapes: Shapes, kind: Kind) -> impl FnMut() {
    let Shapes { tokens, dim, ffn_dim, .. } = shapes;
    let norm = LayerNorm::plain(dim, 1e-6);
    let x = filled(&[1, tokens, dim], kind);
    let (weight_in, bias_in) = (filled(&[ffn_dim, dim], kind), filled(&[ffn_dim], kind));
    let (weight_out, bias_out) = (filled(&[dim, ffn_dim], kind), filled(&[dim], kind));
    move || {
        let normed = norm.forward(&x).to_kind(kind);
        let hidden = normed.linear(&weight_in, Some(&bias_in)).gelu("tanh");
        drop(black_box(hidden.linear(&weight_out, Some(&bias_out)).to_kind(Kind::Float)));
    }
}

/// Norm, SiLU, convolution, as in a block of the VAE.
fn convolution(shapes: Shapes, kind: Kind) -> impl FnMut() {
    let Shapes { channels, side, .. } = shapes;
    let x = channels_last_3d(&filled(&[1, channels, CHUNK, side, side], kind));
    let gamma = filled(&[channels], kind);
    let (weight, bias) = (filled(&[channels, channels, 3, 3, 3], kind), filled(&[channels], kind));
    move || {
        let normed = channel_norm(&x.permute([0, 2, 3, 4, 1]), &gamma).permute([0, 4, 1, 2, 3]);
        drop(black_box(conv3d(&normed.silu(), &weight, &bias, [1, 1, 1], [0, 1, 1])));
    }
}

/// What kind of CPU this is, as far as the system tells: also its features, which a virtual machine may hide.
fn cpu() -> String {
    const TELLING: [&str; 12] = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "stepping",
        "flags",
        "CPU implementer",
        "CPU architecture",
        "CPU variant",
        "CPU part",
        "CPU revision",
        "Features",
    ];
    let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = all.split("\n\n").next().unwrap_or_default();
    let told = |line: &&str| line.split_once(':').is_some_and(|(name, _)| TELLING.contains(&name.trim()));
    first.lines().filter(told).collect::<Vec<_>>().join("\n")
}

/// Which build of libtorch this process has loaded: its size and the time it was written.
fn libtorch() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = maps.lines().find_map(|line| {
        line.find('/').map(|at| &line[at..]).filter(|path| path.ends_with("/libtorch_cpu.so"))
    });
    let about = path.and_then(|path| std::fs::metadata(path).ok());
    about.map_or_else(String::new, |about| format!("{} bytes, {:?}", about.len(), about.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Speedup = Speedup { feed_forward: 2.5, convolution: 4.0 };

    #[test]
    fn each_part_is_computed_in_bf16_only_where_that_is_clearly_faster() {
        let kinds = |feed_forward, convolution| Speedup { feed_forward, convolution }.kinds();
        let of = |transformer, vae| Kinds { transformer, vae, fp8: false };
        assert_eq!(kinds(0.5, 0.6), of(Kind::Float, Kind::Float));
        assert_eq!(kinds(1.29, 1.3), of(Kind::Float, Kind::BFloat16));
        assert_eq!(kinds(5.0, 1.0), of(Kind::BFloat16, Kind::Float));
        assert_eq!(kinds(5.0, 6.0), of(Kind::BFloat16, Kind::BFloat16));
    }

    #[test]
    fn a_machine_measures_once_and_again_where_the_file_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = DiskCache::at(folder.path(), 1000);
        let (key, other) = (Key::of(&[b"one"]), Key::of(&[b"other"]));
        let never = || -> Speedup { panic!("it is known") };
        assert_eq!(kept_or(Some(&cache), key, || FAST), FAST);
        assert_eq!(kept_or(Some(&cache), key, never), FAST);
        let slow = Speedup { feed_forward: 0.5, convolution: 0.25 };
        assert_eq!(kept_or(Some(&cache), other, || slow), slow);
        for broken in [&b""[..], b"{}", b"{\"feed_forward\":-1,\"convolution\":1}", b"\xff\xff"] {
            cache.put(key, broken);
            assert_eq!(kept_or(Some(&cache), key, || slow), slow);
            assert_eq!(kept_or(Some(&cache), key, never), slow);
        }
        assert_eq!(kept_or(None, key, || FAST), FAST);
        let nowhere = DiskCache::at("/proc/nowhere", 1000);
        assert_eq!(kept_or(Some(&nowhere), key, || FAST), FAST);
    }

    #[test]
    fn large_models_are_cut_to_what_takes_milliseconds_and_small_ones_are_not() {
        let wan = Shapes::cut(32_760, 5120, 13_824, 96, 480);
        assert_eq!(wan, Shapes { tokens: 256, dim: 1024, ffn_dim: 4096, channels: 96, side: 16 });
        let tiny = Shapes::cut(80, 256, 1024, 32, 64);
        assert_eq!(tiny, Shapes { tokens: 80, dim: 256, ffn_dim: 1024, channels: 32, side: 64 });
    }

    #[test]
    fn both_formats_run_and_are_compared() {
        let Speedup { feed_forward, convolution } = measure(Shapes::cut(4, 8, 16, 4, 8));
        assert!(feed_forward.is_finite() && feed_forward >= 0.0, "{feed_forward}");
        assert!(convolution.is_finite() && convolution >= 0.0, "{convolution}");
    }

    #[test]
    fn the_key_tells_cpu_and_libtorch() {
        assert!(cpu().contains("model") || cpu().contains("CPU part"), "{}", cpu());
        assert!(libtorch().contains("bytes"), "{}", libtorch());
        let shapes = Shapes::cut(80, 256, 1024, 32, 64);
        assert_eq!(shapes.key(), shapes.key());
        assert_ne!(shapes.key(), Shapes { tokens: 81, ..shapes }.key());
    }
}
