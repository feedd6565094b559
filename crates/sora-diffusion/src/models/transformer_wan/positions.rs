//! Text positions that count more than once.

use tch::{Kind, Tensor};

/// Copies that one weight is spread over in a short format: the error is then below one in a hundred thousand.
const COPIES: usize = 3;

/// What `weights` `[B, L]` of the positions of `embeds` `[B, L, D]` are as additions to the scores of attention: the
/// embeddings again, some of them several times, and `[B, L']` in `kind`.
///
/// A weight w in a softmax is an addition of ln w to the score. In bf16 the logarithm of some hundreds is off by more
/// than a hundredth, and so is the weight; so such a position comes a few times, with what the copies before have left.
pub(super) fn spread(embeds: &Tensor, weights: &Tensor, kind: Kind) -> (Tensor, Tensor) {
    if kind == Kind::Float {
        return (embeds.shallow_clone(), weights.log().to_kind(kind));
    }
    let rounded = |x: &Tensor| x.to_kind(kind).to_kind(Kind::Double);
    let mut rest = weights.to_kind(Kind::Double);
    let (mut copies, mut biases) = (vec![embeds.shallow_clone()], Vec::new());
    let mut columns: Option<Tensor> = None;
    for copy in 0..COPIES {
        if copy > 0 {
            let left = rest.gt(1e-6).any_dim(0, false).nonzero().view([-1]);
            if left.numel() == 0 {
                break;
            }
            rest = rest.index_select(1, &left);
            let all = columns.map_or_else(|| left.shallow_clone(), |before| before.index_select(0, &left));
            copies.push(embeds.index_select(1, &all));
            columns = Some(all);
        }
        let exact = rest.log();
        let near = rounded(&exact);
        // Never more than is left; the last copy takes what is nearest.
        let lower = rounded(&(&exact - exact.abs() * (2f64).powi(-7)));
        let bias =
            if copy + 1 == COPIES { near } else { near.where_self(&near.exp().le_tensor(&rest), &lower) };
        rest = (rest - bias.exp()).clamp_min(0.0);
        biases.push(bias.to_kind(kind));
    }
    (Tensor::cat(&copies, 1), Tensor::cat(&biases, 1))
}

/// The same, where every position comes as often as it counts and nothing is added to the scores: the sum is then
/// rounded as the padded prompt's. Whole weights of one prompt are taken so, others are [`spread`].
pub(super) fn repeated(embeds: &Tensor, weights: &Tensor, kind: Kind) -> (Tensor, Option<Tensor>) {
    let whole = weights.eq_tensor(&weights.round()).all().int64_value(&[]) != 0;
    if embeds.size()[0] != 1 || !whole || kind == Kind::Float {
        let (embeds, bias) = spread(embeds, weights, kind);
        return (embeds, Some(bias));
    }
    let times = weights.squeeze_dim(0).to_kind(Kind::Int64);
    (embeds.repeat_interleave_self_tensor(&times, Some(1), None), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_f32_nothing_is_repeated() {
        let embeds = Tensor::ones([1, 3, 2], (Kind::Float, tch::Device::Cpu));
        let (same, bias) =
            spread(&embeds, &Tensor::from_slice(&[1f32, 0.0, 505.0]).unsqueeze(0), Kind::Float);
        assert_eq!(same.size(), [1, 3, 2]);
        assert_eq!(bias.double_value(&[0, 0]), 0.0);
        assert_eq!(bias.double_value(&[0, 1]), f64::NEG_INFINITY);
    }

    #[test]
    fn in_short_formats_the_copies_have_the_weight_together() {
        let embeds = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).view([1, 4, 1]);
        for kind in [Kind::BFloat16, Kind::Half] {
            for weight in [2f32, 7.0, 100.0, 505.0, 511.0] {
                let weights = Tensor::from_slice(&[1f32, 0.0, 1.0, weight]).unsqueeze(0);
                let (copies, bias) = spread(&embeds, &weights, kind);
                assert!(copies.size()[1] <= 6, "only the last position comes again: {copies:?}");
                let sums = |wanted: f64| {
                    let mask = copies.eq(wanted).squeeze_dim(-1).to_kind(Kind::Double);
                    (bias.to_kind(Kind::Double).exp() * mask).sum(Kind::Double).double_value(&[])
                };
                assert_eq!((sums(1.0), sums(2.0), sums(3.0)), (1.0, 0.0, 1.0));
                let error = (sums(4.0) / f64::from(weight) - 1.0).abs();
                assert!(error < 1e-5, "{kind:?}: {weight} became {}", sums(4.0));
            }
        }
    }
}
