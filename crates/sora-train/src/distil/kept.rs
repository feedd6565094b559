//! What a checkpoint keeps of streams, so that a run goes on with them where it was stopped.
//!
//! Pupils draw shares of one batch: what each remembers is kept as one tensor, so that a run may go on with other replicas.

use sora_diffusion::models::WanTransformer3DModel;
use sora_diffusion::models::transformer_wan::{KvCache, Remembered};
use tch::{Device, Tensor};

use super::assignment::{MEMORY, Plans, Prompts, Stream, Streams};
use crate::checkpoint::Beside;
use crate::clips::{Caption, Clips};

/// Begins their names.
const PREFIX: &str = "streams.";

/// The numbers of a stream that are no tensors: how old it is, how old it gets, the bucket of its prompts, tokens of a
/// frame, frames that its caches have forgotten.
type Numbers = [i64; 5];

fn numbers(cohort: usize) -> String {
    format!("{PREFIX}{cohort}.numbers")
}

/// `[B, 2]`: the rows of the prompts' clips, and whether the captions are the detailed ones.
fn captions(cohort: usize) -> String {
    format!("{PREFIX}{cohort}.captions")
}

fn last(cohort: usize) -> String {
    format!("{PREFIX}{cohort}.last")
}

/// Names of the keys and values of a layer.
fn layer(cohort: usize, layer: usize) -> [String; 2] {
    ["key", "value"].map(|part| format!("{PREFIX}{cohort}.layers.{layer}.{part}"))
}

/// What is to be kept of streams, by name.
pub(super) fn of_streams(plans: &Plans<'_>, pupils: &[&Streams]) -> Beside {
    let mut kept = Beside::new();
    for (cohort, plan) in plans.plans.iter().enumerate() {
        let streams: Option<Vec<&Stream>> =
            pupils.iter().map(|streams| streams.0.get(cohort)?.as_ref()).collect();
        let (Some(prompts), Some(streams)) = (&plan.prompts, streams) else { continue };
        let caches: Vec<Remembered> = streams.iter().map(|stream| stream.cache.remembered()).collect();
        let Some(&Remembered { ref layers, tokens_per_frame, forgotten }) = caches.first() else { continue };
        let of: Numbers =
            [plan.age as i64, plan.limit as i64, prompts.bucket as i64, tokens_per_frame, forgotten];
        kept.insert(numbers(cohort), Tensor::from_slice(&of));
        let of: Vec<i64> = prompts
            .captions
            .iter()
            .flat_map(|caption| [caption.row as i64, i64::from(caption.detailed)])
            .collect();
        kept.insert(captions(cohort), Tensor::from_slice(&of).view([-1, 2]));
        let frames: Vec<&Tensor> = streams.iter().map(|stream| &stream.last).collect();
        kept.insert(last(cohort), Tensor::cat(&frames, 0));
        for i in 0..layers.len() {
            let (keys, values): (Vec<&Tensor>, Vec<&Tensor>) =
                caches.iter().map(|cache| (&cache.layers[i].0, &cache.layers[i].1)).unzip();
            let [key, value] = layer(cohort, i);
            kept.insert(key, Tensor::cat(&keys, 0));
            kept.insert(value, Tensor::cat(&values, 0));
        }
    }
    kept
}

/// Has plans and pupils go on with what a checkpoint kept, where that fits a batch of `batch` of these clips; other streams
/// begin anew.
pub(super) fn go_on<'a>(
    (beside, device): (&Beside, Device),
    (clips, named): (&'a Clips, &[Tensor]),
    batch: usize,
    plans: &mut Plans<'a>,
    pupils: &mut [(&WanTransformer3DModel, &mut Streams)],
) {
    let share = (batch / pupils.len()) as i64;
    let cohorts = plans.plans.len();
    for (cohort, plan) in plans.plans.iter_mut().enumerate() {
        let Some((numbers, bucket, captions)) = read(beside, cohort, clips, batch) else { continue };
        let [age, limit, _, tokens_per_frame, forgotten] = numbers;
        let mut fits = true;
        for (i, (network, streams)) in pupils.iter_mut().enumerate() {
            let part = |name: &str| {
                let of = beside.get(name)?;
                let rows = (of.size()[0] == batch as i64).then(|| of.narrow(0, i as i64 * share, share))?;
                Some(rows.to_device(device))
            };
            let layers: Option<Vec<(Tensor, Tensor)>> = (0..network.config().num_layers as usize)
                .map(|index| {
                    let [key, value] = layer(cohort, index);
                    Some((part(&key)?, part(&value)?))
                })
                .collect();
            let (Some(layers), Some(last)) = (layers, part(&last(cohort))) else {
                fits = false;
                continue;
            };
            let mut cache = KvCache::new(network, MEMORY);
            cache.put_back(Remembered { layers, tokens_per_frame, forgotten });
            streams.0.resize_with(cohorts, || None);
            streams.0[cohort] = Some(Stream { cache, last });
        }
        // One that has no past begins with the next step.
        if fits {
            (plan.age, plan.limit) = (age as u64, limit as u64);
            plan.prompts = Some(Prompts::of((clips, named), bucket, captions, device));
        }
    }
}

/// Numbers, bucket and captions of a stream that was kept, if these clips have them.
fn read(
    beside: &Beside,
    cohort: usize,
    clips: &Clips,
    batch: usize,
) -> Option<(Numbers, usize, Vec<Caption>)> {
    let list = |name: &str| Vec::<i64>::try_from(&beside.get(name)?.flatten(0, -1)).ok();
    let numbers: Numbers = list(&numbers(cohort))?.try_into().ok()?;
    let bucket = usize::try_from(numbers[2]).ok()?;
    let rows = clips.tokens.get(bucket)?.len();
    let captions: Vec<Caption> = list(&captions(cohort))?
        .chunks(2)
        .map(|pair| {
            let row = usize::try_from(*pair.first()?).ok().filter(|row| *row < rows)?;
            Some(Caption { row, detailed: *pair.get(1)? == 1 })
        })
        .collect::<Option<_>>()?;
    (captions.len() == batch).then_some((numbers, bucket, captions))
}
