use sora_model::config::Numerics;
use tch::{Device, Kind, Tensor};

/// Rotary position embedding over frame, row and column (`WanRotaryPosEmbed`).
///
/// The head dimension is split in three: rows and columns get `2·(d/6)` each, frames the rest. Angles
/// are computed in f64 and stored in f32, or in f64 with the numerics of Self-Forcing; theta is 10000.
pub(super) struct RotaryPosEmbed {
    /// Complex rotations `[max_seq_len, d/2]` of each axis, side by side.
    axes: [Axis; 3],
}

struct Axis {
    cos: Tensor,
    sin: Tensor,
}

impl Axis {
    fn new(dim: i64, max_seq_len: i64, kind: Kind) -> Self {
        let half = dim / 2;
        let exponents = Tensor::arange(half, (Kind::Double, Device::Cpu)) * (2.0 / dim.max(1) as f64);
        let frequencies = Tensor::from(10000f64).pow(&exponents).reciprocal(); // [half]
        let positions = Tensor::arange(max_seq_len, (Kind::Double, Device::Cpu));
        let angles = positions.unsqueeze(1) * frequencies.unsqueeze(0); // [max_seq_len, half]
        Self { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }

    fn rotations(&self, start: i64, len: i64) -> Tensor {
        Tensor::complex(&self.cos.narrow(0, start, len), &self.sin.narrow(0, start, len))
    }
}

impl RotaryPosEmbed {
    pub(super) fn new(head_dim: i64, max_seq_len: i64, numerics: Numerics) -> Self {
        let side = 2 * (head_dim / 6);
        let kind = rotated_in(numerics);
        let axes = [head_dim - 2 * side, side, side].map(|dim| Axis::new(dim, max_seq_len, kind));
        Self { axes }
    }

    /// Rotations of a grid of F × h × w patches whose first frame is number `start`: complex
    /// `[1, N, 1, head_dim/2]`.
    pub(super) fn forward(&self, start: i64, f: i64, h: i64, w: i64, device: Device) -> Tensor {
        let [t_axis, h_axis, w_axis] = &self.axes;
        let grid = |axis: &Axis, start: i64, len: i64, shape: [i64; 3]| {
            axis.rotations(start, len).view([shape[0], shape[1], shape[2], -1]).expand([f, h, w, -1], false)
        };
        let parts =
            [grid(t_axis, start, f, [f, 1, 1]), grid(h_axis, 0, h, [1, h, 1]), grid(w_axis, 0, w, [1, 1, w])];
        Tensor::cat(&parts, -1).reshape([1, f * h * w, 1, -1]).to_device(device)
    }
}

/// The kind that rotations are computed in.
fn rotated_in(numerics: Numerics) -> Kind {
    match numerics {
        Numerics::Diffusers => Kind::Float,
        Numerics::SelfForcing => Kind::Double,
    }
}

/// Rotates neighbouring pairs of `x` `[B, N, heads, head_dim]`; returned in the kind of `x`.
///
/// A pair is read as one complex number, so the whole rotation is a single complex product.
pub(super) fn apply_rotary_emb(x: &Tensor, rotations: &Tensor, numerics: Numerics) -> Tensor {
    let (b, n, heads, d) = x.size4().expect("B N heads head_dim");
    let pairs = x.to_kind(rotated_in(numerics)).view([b, n, heads, d / 2, 2]).view_as_complex();
    (pairs * rotations).view_as_real().view([b, n, heads, d]).to_kind(x.kind())
}
