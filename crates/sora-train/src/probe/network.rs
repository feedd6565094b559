//! The probe: a small network that reads what a clip shows.
//!
//! Every frame goes through a few 2-D convolutions (colours, the same brightened so that dark styles show,
//! what changed since the frame before and since the first, coordinates). A per-frame head draws where the subject, its companion
//! and the marks on the ground are; features are pooled over the picture and under these maps. The subject is cut
//! out where its map says it is, always at one size, with what changed since it was cut out of the frame before, and goes
//! through convolutions of its own: what it is and how it turns is learned once, not for every place. Dilated convolutions
//! over time follow, then, with the marks that stay, a feature vector for the clip and one linear head per question.

use serde::{Deserialize, Serialize};
use sora_diffusion::weights::Weights;
use tch::{Kind, Tensor};

use super::questions::Question;

/// What a probe looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    /// Pictures of RGB, `SIDE` pixels wide and high.
    #[default]
    Pixels,
    /// Latents of so many channels, of any size; their positions are the cells of the maps.
    Latents(i64),
}

/// Side of the square that every frame is resized to, whatever its aspect.
pub(crate) const SIDE: i64 = 96;
/// Side of the maps.
pub(crate) const MAP_SIDE: i64 = SIDE / 4;
/// Maps per frame: subject, companion, marks on the ground.
pub(crate) const MAPS: i64 = 3;
/// Frames that are read at a time.
pub(crate) const WINDOW: usize = 17;

/// Sizes of a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeConfig {
    /// Channels at a quarter and an eighth of the side, multiples of 8.
    pub(crate) channels: [i64; 2],
    /// Width of what is known of a frame, a multiple of 8.
    pub(crate) token: i64,
    /// Length of a clip's feature vector, the space of Fréchet distances.
    pub(crate) feature: i64,
    /// Whether the subject is cut out and looked at closely.
    #[serde(default)]
    pub(crate) close: bool,
    /// Whether frames are compared where something else than their place is the same: the subject, cut out, with itself
    /// in the frame before, which shows whether it turns, and marks with those of the frames around, which shows whether
    /// they stay, as trails do and shadows do not.
    #[serde(default)]
    pub(crate) compares: bool,
    /// What it looks at.
    #[serde(default)]
    pub(crate) input: Input,
}

/// Red, green, blue.
const RGB: i64 = 3;

impl Input {
    /// Channels of a picture as it is given.
    fn given(self) -> i64 {
        match self {
            Self::Pixels => RGB,
            Self::Latents(channels) => channels,
        }
    }

    /// Those that the network sees of it besides column and row: as it is, for pixels brightened, and what changed since the
    /// frame before, for pixels also since the first: what stays on the ground.
    fn seen(self) -> i64 {
        match self {
            Self::Pixels => 4 * RGB,
            Self::Latents(channels) => 2 * channels,
        }
    }

    /// Kernel and stride of the first convolution: from pixels to the cells of the maps.
    fn stem(self) -> (i64, i64) {
        match self {
            Self::Pixels => (4, 4),
            Self::Latents(_) => (3, 1),
        }
    }

    /// Side of the subject, cut out; a multiple of 4.
    fn close_side(self) -> i64 {
        match self {
            Self::Pixels => 28,
            Self::Latents(_) => 12,
        }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            channels: [32, 96],
            token: 128,
            feature: 64,
            close: true,
            compares: true,
            input: Input::Pixels,
        }
    }
}

/// Weight and bias of a layer.
struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Affine {
    fn new(weights: &Weights, shape: &[i64]) -> sora_diffusion::Result<Self> {
        Ok(Self { weight: weights.get("weight", shape)?, bias: weights.get("bias", &shape[..1])? })
    }

    fn linear(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }

    /// Kernels of 3 keep the size; those of 4 divide it by the stride.
    fn conv(&self, x: &Tensor, stride: i64) -> Tensor {
        let padding = if stride == 4 { 0 } else { 1 };
        x.conv2d(&self.weight, Some(&self.bias), [stride, stride], [padding, padding], [1, 1], 1)
    }

    /// Group norm with 8 groups.
    fn norm(&self, x: &Tensor) -> Tensor {
        x.group_norm(8, Some(&self.weight), Some(&self.bias), 1e-5, false)
    }
}

/// Convolution, norm, ReLU.
struct Stage {
    conv: Affine,
    norm: Affine,
    stride: i64,
}

impl Stage {
    fn new(w: &Weights, from: i64, to: i64, kernel: i64, stride: i64) -> sora_diffusion::Result<Self> {
        Ok(Self {
            conv: Affine::new(w, &[to, from, kernel, kernel])?,
            norm: Affine::new(&w.pp("norm"), &[to])?,
            stride,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.norm.norm(&self.conv.conv(x, self.stride)).relu()
    }
}

/// What a probe makes of clips; B clips, T frames.
pub(crate) struct Reading {
    /// Logits per question in the order of [`Question::ALL`], `[B, classes]`.
    pub(crate) answers: Vec<Tensor>,
    /// `[B, feature]`
    pub(crate) feature: Tensor,
    /// Logits of the maps, `[B, T, MAPS, MAP_SIDE, MAP_SIDE]`; of latents in their own size.
    pub(crate) maps: Tensor,
    /// Logits of the subject's colour, frame by frame, `[B, T, classes]`.
    pub(crate) frame_colour: Tensor,
    /// Logits of what the subject is, frame by frame, `[B, T, classes]`.
    pub(crate) frame_subject: Tensor,
}

/// The network.
pub(crate) struct Probe {
    input: Input,
    compares: bool,
    stages: [Stage; 4],
    map_fine: Affine,
    map_coarse: Affine,
    map_out: Affine,
    close: Option<([Stage; 3], Affine)>,
    frame: Affine,
    over_time: Vec<(Affine, Affine)>,
    feature: Affine,
    heads: Vec<Affine>,
    frame_heads: [Affine; 2],
}

const MAP_CHANNELS: i64 = 16;
const DILATIONS: [i64; 3] = [1, 2, 4];

impl Probe {
    /// Builds it.
    pub(crate) fn new(w: &Weights, config: &ProbeConfig) -> sora_diffusion::Result<Self> {
        let [c2, c3] = config.channels;
        let token = config.token;
        // Mean and maximum of the picture, features and colours under the maps, their extents, subject.
        let input = config.input;
        let pooled = 2 * c3 + MAPS * (c2 + c3 + input.given() + 5) + if config.close { c3 } else { 0 };
        let time = |i: usize| -> sora_diffusion::Result<_> {
            let w = w.pp("over_time").pp(i);
            Ok((Affine::new(&w.pp("norm"), &[token])?, Affine::new(&w, &[token, token, 3])?))
        };
        let head = |name: &str, classes: i64, from: i64| {
            Affine::new(&w.pp("proj_out").pp(name.replace(' ', "_")), &[classes, from])
        };
        let close = config.close.then(|| {
            let w = w.pp("close");
            let compared = if config.compares { input.given() } else { 0 };
            let stages = [
                Stage::new(&w.pp(0), input.seen() + compared, c2, 3, 1)?,
                Stage::new(&w.pp(1), c2, c2, 4, 2)?,
                Stage::new(&w.pp(2), c2, 2 * c2, 4, 2)?,
            ];
            Ok((stages, Affine::new(&w.pp("out"), &[c3, 2 * c2 * (input.close_side() / 4).pow(2)])?))
        });
        let close: Option<sora_diffusion::Result<_>> = close;
        let heads = Question::ALL.iter().map(|q| head(q.name(), q.classes(), config.feature));
        let (kernel, stride) = input.stem();
        Ok(Self {
            input,
            compares: config.compares,
            stages: [
                Stage::new(&w.pp("conv_in"), input.seen() + 2, c2, kernel, stride)?,
                Stage::new(&w.pp("mix1"), c2, c2, 3, 1)?,
                Stage::new(&w.pp("down"), c2, c3, 4, 2)?,
                Stage::new(&w.pp("mix2"), c3, c3, 3, 1)?,
            ],
            map_fine: Affine::new(&w.pp("map_fine"), &[MAP_CHANNELS, c2, 3, 3])?,
            map_coarse: Affine::new(&w.pp("map_coarse"), &[MAP_CHANNELS, c3, 3, 3])?,
            map_out: Affine::new(&w.pp("proj_out.maps"), &[MAPS, MAP_CHANNELS, 3, 3])?,
            close: close.transpose()?,
            frame: Affine::new(&w.pp("frame"), &[token, pooled])?,
            over_time: (0..DILATIONS.len()).map(time).collect::<sora_diffusion::Result<_>>()?,
            feature: Affine::new(
                &w.pp("feature"),
                &[config.feature, 2 * token + if config.compares { STAYING } else { 0 }],
            )?,
            heads: heads.collect::<sora_diffusion::Result<_>>()?,
            frame_heads: [
                head("frame_colour", Question::Colour.classes(), token)?,
                head("frame_subject", Question::Subject.classes(), token)?,
            ],
        })
    }

    /// Reads clips, any T: pictures `[B, T, 3, SIDE, SIDE]` in −1…1, or normalised latents `[B, T, C, h, w]` with even
    /// sides.
    pub(crate) fn forward(&self, clips: &Tensor) -> Reading {
        self.forward_with_dropout(clips, 0.0)
    }

    /// The same, with this share of what is known of a frame left out at random, for training.
    pub(crate) fn forward_with_dropout(&self, clips: &Tensor, dropout: f64) -> Reading {
        let (b, t, _, _, _) = clips.size5().expect("B T 3 H W");
        let x = self.input.inputs(clips);
        let [stem, mix1, down, mix2] = &self.stages;
        // Channels last in memory from here on: faster on a CPU.
        let fine = stem.forward(&x).permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let fine = &fine + mix1.forward(&fine); // [B·T, c2, 24, 24]
        let coarse = down.forward(&fine);
        let coarse = &coarse + mix2.forward(&coarse); // [B·T, c3, 12, 12]

        let (_, _, h, w) = fine.size4().expect("N C H W");
        let lifted = self.map_coarse.conv(&coarse, 1).upsample_nearest2d([h, w], None, None);
        let maps = self.map_out.conv(&(self.map_fine.conv(&fine, 1) + lifted).relu(), 1);
        let weights = maps.sigmoid();

        let colours = clips.flatten(0, 1).adaptive_avg_pool2d([h, w]);
        let lifted = coarse.upsample_nearest2d([h, w], None, None);
        let detail = Tensor::cat(&[&fine, &lifted, &colours], 1).flatten(2, 3); // [B·T, C, cells]
        // The mean under each map.
        let under = weights.flatten(2, 3);
        let under = &under / (under.sum_dim_intlist([2i64].as_slice(), true, Kind::Float) + 0.5);
        let under = under.bmm(&detail.transpose(1, 2)).flatten(1, 2);
        let extents = extents(&weights);
        let whole = coarse.flatten(2, 3);
        let mut pooled = vec![
            whole.mean_dim([2i64].as_slice(), false, Kind::Float),
            whole.amax([2i64].as_slice(), false),
            under,
            extents.flatten(1, 2),
        ];
        if let Some((stages, out)) = &self.close {
            let mut seen = self.input.cut_out(&x, &extents);
            if self.compares {
                let given = seen.narrow(1, 0, self.input.given());
                let (_, c, h, w) = given.size4().expect("N C H W");
                let changed = since_before(&given.view([b, t, c, h, w])).flatten(0, 1);
                seen = Tensor::cat(&[seen, changed * 2.0], 1);
            }
            for stage in stages {
                seen = stage.forward(&seen);
            }
            pooled.push(out.linear(&seen.flatten(1, 3)).relu());
        }
        let pooled = Tensor::cat(&pooled, 1).dropout(dropout, dropout > 0.0);
        let token = self.frame.linear(&pooled).view([b, t, -1]);
        let frame = token.relu();
        let frame_colour = self.frame_heads[0].linear(&frame);
        let frame_subject = self.frame_heads[1].linear(&frame);

        let mut x = token.transpose(1, 2); // [B, token, T]
        for ((norm, conv), dilation) in self.over_time.iter().zip(DILATIONS) {
            let inner = norm.norm(&x).relu();
            x = &x + inner.conv1d(&conv.weight, Some(&conv.bias), [1], [dilation], [dilation], 1);
        }
        let x = x.relu();
        let mean = x.mean_dim([2i64].as_slice(), false, Kind::Float);
        let most = x.amax([2i64].as_slice(), false);
        let mut known = vec![mean, most];
        if self.compares {
            known.push(staying(&weights.select(1, MAPS - 1).view([b, t, h, w])));
        }
        let feature = self.feature.linear(&Tensor::cat(&known, 1));
        let read = feature.relu().dropout(dropout, dropout > 0.0);
        Reading {
            answers: self.heads.iter().map(|head| head.linear(&read)).collect(),
            maps: maps.view([b, t, MAPS, h, w]),
            feature,
            frame_colour,
            frame_subject,
        }
    }
}

impl Input {
    /// The subject, cut out by its map: inputs `[N, seen + 2, H, W]` and [`extents`] → `[N, seen, side, side]`.
    fn cut_out(self, x: &Tensor, extents: &Tensor) -> Tensor {
        let n = x.size()[0];
        let side = self.close_side();
        // Where to look is not learned from what is seen there.
        let subject = extents.detach().select(1, 0); // area, centre, spread
        let centre = subject.narrow(1, 1, 2);
        let spread = (subject.narrow(1, 3, 2) / 4.0).amax([1i64].as_slice(), true);
        // Twice the standard deviation covers a disc; half as much again for what sticks out.
        let half = (spread.sqrt() * 3.0).clamp(0.15, 0.8);
        let ramp = (Tensor::arange(side, (Kind::Float, x.device())) + 0.5) * (2.0 / side as f64) - 1.0;
        let square = [n, side, side];
        let axis = |dim: i64, view: [i64; 3]| {
            (ramp.view(view) * half.unsqueeze(-1) + centre.select(1, dim).view([n, 1, 1]))
                .expand(square, false)
        };
        let grid = Tensor::stack(&[axis(0, [1, 1, side]), axis(1, [1, side, 1])], 3);
        x.narrow(1, 0, self.seen()).grid_sampler(&grid, 0, 1, false)
    }

    /// `[B, T, given, H, W]` → `[B·T, seen + 2, H, W]`: with what changed, column and row.
    fn inputs(self, clips: &Tensor) -> Tensor {
        let (b, t, _, h, w) = clips.size5().expect("B T C H W");
        let changed = since_before(clips);
        let ramp = |n: i64| Tensor::linspace(-1.0, 1.0, n, (Kind::Float, clips.device()));
        let columns = ramp(w).view([1, 1, 1, 1, w]).expand([b, t, 1, h, w], false);
        let rows = ramp(h).view([1, 1, 1, h, 1]).expand([b, t, 1, h, w], false);
        let mut seen = vec![clips.shallow_clone()];
        match self {
            Self::Pixels => {
                // Brightened, so that dark styles show.
                seen.push((clips * 0.5 + 0.5).clamp_min(0.0004).sqrt() * 2.0 - 1.0);
                seen.push(changed * 2.0);
                seen.push((clips - clips.narrow(1, 0, 1)) * 2.0);
            }
            Self::Latents(_) => seen.push(changed),
        }
        seen.extend([columns, rows]);
        Tensor::cat(&seen, 2).flatten(0, 1)
    }
}

/// What changed since the frame before, nothing in the first: `[B, T, C, H, W]`, as is the result.
fn since_before(clips: &Tensor) -> Tensor {
    let t = clips.size()[1];
    clips - Tensor::cat(&[clips.narrow(1, 0, 1), clips.narrow(1, 0, t - 1)], 1)
}

/// What [`staying`] says of a clip.
const STAYING: i64 = 4;
/// Frames for which a mark must be there to be taken for one that stays.
const STAYS: i64 = 5;
/// Cells of a small mark.
const SMALL: i64 = 8;

/// Of marks in 0…1, `[B, T, H, W]`, those that stay for [`STAYS`] frames, give or take a cell: the strongest at any time and
/// in the end, the mean of the [`SMALL`] strongest cells in the end, and how many cells there are then, in terms of 32.
/// `[B, STAYING]`.
pub(crate) fn staying(marks: &Tensor) -> Tensor {
    let (_, t, h, w) = marks.size4().expect("B T H W");
    let stays = STAYS.min(t);
    // The least over frames is the largest of what is missing.
    let missing: Tensor = 1.0 - marks.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false);
    let held: Vec<Tensor> = (0..stays).map(|i| missing.narrow(1, i, t - stays + 1)).collect();
    let held: Tensor = 1.0 - Tensor::stack(&held, 0).amax([0i64].as_slice(), false); // [B, T - stays + 1, H, W]
    let last = held.select(1, t - stays).flatten(1, 2);
    let small = last.topk(SMALL.min(h * w), 1, true, true).0;
    let dims = [1i64];
    Tensor::stack(
        &[
            held.flatten(1, 3).amax(dims.as_slice(), false),
            last.amax(dims.as_slice(), false),
            small.mean_dim(dims.as_slice(), false, Kind::Float),
            last.sum_dim_intlist(dims.as_slice(), false, Kind::Float) / 32.0,
        ],
        1,
    )
}

/// Area, centre and mean square distances from it of each map: `[N, MAPS, H, W]` → `[N, MAPS, 5]`.
fn extents(maps: &Tensor) -> Tensor {
    let (_, _, h, w) = maps.size4().expect("N MAPS H W");
    let ramp = |n: i64| Tensor::linspace(-1.0, 1.0, n, (Kind::Float, maps.device()));
    let (x, y) = (ramp(w).view([1, 1, 1, w]), ramp(h).view([1, 1, h, 1]));
    let sum = |t: &Tensor| t.sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Float);
    let area = sum(maps);
    let mass = &area + 0.5;
    let (cx, cy) = (sum(&(maps * &x)) / &mass, sum(&(maps * &y)) / &mass);
    let spread = |axis: &Tensor, centre: &Tensor| {
        sum(&(maps * (axis - centre.unsqueeze(-1).unsqueeze(-1)).square())) / &mass
    };
    let (sx, sy) = (spread(&x, &cx), spread(&y, &cy));
    Tensor::stack(&[area / 32.0, cx, cy, sx * 4.0, sy * 4.0], 2)
}
