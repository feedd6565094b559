//! The layers of a deep network, which compute one after the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::Tensor;

use crate::error::{DiffusionError, Result};
use crate::weights::{Kept, WeightSource, Weights};

/// Layers that stay where they compute, or are brought there one at a time: then a network takes no more of a device's
/// memory than its largest layer, and each pass through it the time of a copy of all of them. What is computed is the
/// same to the bit.
pub enum Layers<L> {
    /// All of them are there.
    Resident(Vec<L>),
    /// Their parameters, of which each is made anew when its turn comes.
    Streamed(Vec<KeptLayer>),
}

/// The parameters of a layer, by name.
pub struct KeptLayer(BTreeMap<String, Kept>);

impl<L> Layers<L> {
    /// Layers that `build` makes of what lies below the numbers 0 to `count` − 1 of `weights`, which say whether they
    /// stream.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn new(weights: &Weights, count: i64, build: impl Fn(&Weights) -> Result<L>) -> Result<Self> {
        let places = (0..count).map(|i| weights.pp(i));
        if weights.streams() {
            places.map(|place| KeptLayer::new(&place, &build)).collect::<Result<_>>().map(Self::Streamed)
        } else {
            places.map(|place| build(&place)).collect::<Result<_>>().map(Self::Resident)
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Resident(layers) => layers.len(),
            Self::Streamed(layers) => layers.len(),
        }
    }

    /// Has layer `i` compute. `build` is what made it.
    ///
    /// # Panics
    /// As operations on tensors do: when there is no such layer, and when the device has no memory left for it.
    pub fn with<T>(
        &self,
        i: usize,
        build: impl Fn(&Weights) -> Result<L>,
        compute: impl FnOnce(&L) -> T,
    ) -> T {
        match self {
            Self::Resident(layers) => compute(&layers[i]),
            Self::Streamed(layers) => {
                let layer = build(&layers[i].weights()).unwrap_or_else(|error| panic!("{error}"));
                compute(&layer)
            }
        }
    }
}

impl KeptLayer {
    /// Keeps whatever `build` asks for.
    fn new<L>(weights: &Weights, build: impl Fn(&Weights) -> Result<L>) -> Result<Self> {
        let recorder = Rc::new(Recorder { weights, kept: RefCell::default() });
        build(&Weights::new(recorder.clone()))?;
        Ok(Self(recorder.kept.take()))
    }

    fn weights(&self) -> Weights<'_> {
        Weights::new(Rc::new(Bringer(&self.0)))
    }
}

/// Notes down what a layer is made of.
struct Recorder<'a, 'b> {
    weights: &'a Weights<'b>,
    kept: RefCell<BTreeMap<String, Kept>>,
}

impl WeightSource for Recorder<'_, '_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let kept = self.weights.kept(name, shape)?;
        let tensor = kept.tensor().shallow_clone();
        self.kept.borrow_mut().insert(name.to_owned(), kept);
        Ok(tensor)
    }
}

/// Gives a layer what it is made of.
struct Bringer<'a>(&'a BTreeMap<String, Kept>);

impl WeightSource for Bringer<'_> {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        match self.0.get(name) {
            Some(kept) => kept.bring(),
            None => Err(DiffusionError::MissingTensor {
                component: "layer".into(),
                name: name.into(),
                wanted: shape.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ops::ControlFlow;

    use sora_model::weights::WeightFiles;
    use tch::{Device, Kind};

    use super::*;
    use crate::weights::{FileWeights, Layout};

    /// What two layers of one matrix say of it: its format, and whether it lies in the file.
    fn layers(streamed: bool) -> Vec<(Kind, Tensor)> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("model.safetensors");
        let matrix = |i: i64| Tensor::full([2, 3], i + 1, (Kind::BFloat16, Device::Cpu));
        let stored = [("layers.0.weight", matrix(0)), ("layers.1.weight", matrix(1))];
        Tensor::write_safetensors(&stored, &path).expect("a file");
        let files = WeightFiles::open_file(&path).expect("a file");
        let layout = Layout { device: Device::Cpu, kind: Kind::Float, keep_in_f32: &[], streamed };
        let mut on_bytes = |_| ControlFlow::Continue(());
        let source = Rc::new(FileWeights::new("model", &files, layout, &mut on_bytes));
        let made = Cell::new(0);
        let build = |weights: &Weights| {
            made.set(made.get() + 1);
            weights.get("weight", &[2, 3])
        };
        let layers = Layers::new(&Weights::new(source.clone()).pp("layers"), 2, build).expect("they load");
        source.finish(&[]).expect("both were asked for");
        assert_eq!((layers.count(), made.get()), (2, 2));
        if let Layers::Streamed(kept) = &layers {
            for layer in kept {
                assert_eq!(layer.0["weight"].tensor().kind(), Kind::BFloat16, "kept as it is stored");
            }
        }
        let found = (0..2).map(|i| layers.with(i, build, |matrix| (matrix.kind(), matrix.copy()))).collect();
        assert_eq!(made.get(), if streamed { 4 } else { 2 }, "those that stay are made once");
        found
    }

    #[test]
    fn layers_that_are_brought_are_those_that_stay() {
        let (stay, brought) = (layers(false), layers(true));
        for (i, ((kind, one), (_, other))) in stay.iter().zip(&brought).enumerate() {
            assert_eq!(*kind, Kind::Float);
            assert_eq!(other.kind(), Kind::Float);
            assert_eq!(one, other);
            assert_eq!(f64::try_from(one.sum(Kind::Float)).expect("a number"), 6.0 * (i + 1) as f64);
        }
        assert_eq!(stay.len(), brought.len());
    }

    #[test]
    fn what_is_not_there_is_named() {
        let kept = KeptLayer(BTreeMap::new());
        let error = kept.weights().get("weight", &[2, 3]).expect_err("nothing is kept").to_string();
        assert!(error.contains("weight"), "{error}");
    }
}
