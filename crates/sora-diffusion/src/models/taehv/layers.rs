use tch::{Kind, Tensor};

use crate::error::Result;
use crate::nn::Conv2d;
use crate::weights::Weights;

/// What the layers of one half remember of the frames before, from chunk to chunk of one clip.
#[derive(Default)]
pub struct FrameMemory {
    /// The last frame that each [`MemBlock`] was given, `[1, C, H, W]`, in the order of the network.
    last: Vec<Tensor>,
    /// Whether the frames before the clip's first have been cut off.
    begun: bool,
}

impl FrameMemory {
    /// At the beginning of a clip.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many of the first frames of this chunk are before the clip: `before` in the first chunk, then none.
    pub(super) fn skip(&mut self, before: i64) -> i64 {
        if std::mem::replace(&mut self.begun, true) { 0 } else { before }
    }
}

/// Three convolutions over a frame and the one before it, beside a way past them.
pub(super) struct MemBlock {
    convs: [Conv2d; 3],
}

impl MemBlock {
    pub(super) fn new(weights: &Weights, dim: i64) -> Result<Self> {
        let conv = |name: usize, inputs: i64| Conv2d::new(&weights.pp("conv").pp(name), inputs, dim, 1, 1);
        Ok(Self { convs: [conv(0, 2 * dim)?, conv(2, dim)?, conv(4, dim)?] })
    }

    /// `[T, C, H, W]` and the frame before it, `[1, C, H, W]` → `[T, C, H, W]`.
    fn forward(&self, x: &Tensor, before: &Tensor) -> Tensor {
        let frames = x.size()[0];
        let past = Tensor::cat(&[before, &x.narrow(0, 0, frames - 1)], 0);
        let [first, second, third] = &self.convs;
        let y = first.forward(&Tensor::cat(&[x, &past], 1)).relu();
        (third.forward(&second.forward(&y).relu()) + x).relu()
    }
}

pub(super) enum Layer {
    Conv(Conv2d),
    Relu,
    /// 3 · tanh(x / 3)
    SoftClamp,
    Mem(MemBlock),
    /// Every pixel becomes two by two.
    Upsample,
    /// Every frame becomes so many.
    Grow(Conv2d, i64),
    /// So many frames become one.
    Pool(Conv2d, i64),
}

pub(super) struct Sequential {
    layers: Vec<Layer>,
}

impl Sequential {
    pub(super) fn new(layers: Vec<Layer>) -> Self {
        Self { layers }
    }

    /// Number format of the parameters.
    pub(super) fn kind(&self) -> Kind {
        let conv = self.layers.iter().find_map(|layer| match layer {
            Layer::Conv(conv) => Some(conv.kind()),
            _ => None,
        });
        conv.unwrap_or(Kind::Float)
    }

    /// The next frames of a clip, `[T, C, H, W]`.
    pub(super) fn forward(&self, x: &Tensor, memory: &mut FrameMemory) -> Tensor {
        let mut x = x.shallow_clone();
        let mut last = Vec::new();
        for layer in &self.layers {
            // T C H W
            let (t, c, h, w) = x.size4().expect("frames are T C H W");
            x = match layer {
                Layer::Conv(conv) => conv.forward(&x),
                Layer::Relu => x.relu(),
                Layer::SoftClamp => (x / 3.0).tanh() * 3.0,
                Layer::Mem(block) => {
                    let before = match memory.last.get(last.len()) {
                        Some(before) => before.shallow_clone(),
                        None => Tensor::zeros([1, c, h, w], (x.kind(), x.device())),
                    };
                    // Copied: a view would keep the whole chunk.
                    last.push(x.narrow(0, t - 1, 1).copy());
                    block.forward(&x, &before)
                }
                Layer::Upsample => x.upsample_nearest2d([2 * h, 2 * w], None, None),
                // The channels of a frame are those of the new frames, one after the other.
                Layer::Grow(conv, count) => conv.forward(&x).reshape([t * count, c, h, w]),
                Layer::Pool(conv, count) => conv.forward(&x.reshape([t / count, c * count, h, w])),
            };
        }
        memory.last = last;
        x
    }
}
