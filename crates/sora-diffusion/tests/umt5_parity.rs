//! The text encoder computes what `UMT5EncoderModel` of transformers computes.
#![allow(missing_docs)]

mod common;

use common::{assert_close, build, cases, fixtures, tensors};
use sora_diffusion::models::Umt5EncoderModel;
use sora_diffusion::models::umt5::TOLERATED_KEYS;
use sora_model::config::{Config, TextEncoderConfig};
use sora_model::weights::WeightFiles;
use tch::{Kind, Tensor};

fn model(name: &str) -> Umt5EncoderModel {
    let dir = fixtures().join(name).join("text_encoder");
    let config = TextEncoderConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    // Views of the mapped file must outlive the model; a test process can keep the map for ever.
    std::mem::forget(files.clone());
    build(&files, TOLERATED_KEYS, |w| Umt5EncoderModel::new(w, &config))
}

#[test]
fn matches_transformers() {
    let _no_grad = tch::no_grad_guard();
    for case in cases("cases.json", "text_encoder") {
        let t = tensors(case["file"].as_str().expect("file"));
        let hidden =
            model(case["model"].as_str().expect("model")).forward(&t["input_ids"], &t["attention_mask"]);
        // What stands at padding is not used by anyone; the real tokens are.
        let real = t["attention_mask"].unsqueeze(-1).to_kind(Kind::Float);
        let name = case["name"].as_str().expect("name");
        assert_close(name, &(hidden * &real), &(&t["last_hidden_state"] * &real));
    }
}

#[test]
fn padding_does_not_change_the_tokens_before_it() {
    let _no_grad = tch::no_grad_guard();
    let model = model("tiny-wan21");
    let ids = Tensor::from_slice(&[5i64, 9, 30, 7, 1]).unsqueeze(0);
    let alone = model.forward(&ids, &ids.ones_like());
    let padding = Tensor::zeros([1, 40], (Kind::Int64, tch::Device::Cpu));
    let padded = Tensor::cat(&[&ids, &padding], 1);
    let mask = padded.gt(0).to_kind(Kind::Int64);
    let hidden = model.forward(&padded, &mask).narrow(1, 0, 5);
    assert_close("padded against alone", &hidden, &alone);
}

#[test]
fn gradients_reach_every_parameter() {
    let dir = fixtures().join("tiny-wan21/text_encoder");
    let config = TextEncoderConfig::open(&dir.join("config.json")).expect("config");
    let files = WeightFiles::open(&dir).expect("weights");
    let parameters = std::rc::Rc::new(Parameters { files, made: Default::default() });
    let weights = sora_diffusion::weights::Weights::new(parameters.clone());
    let model = Umt5EncoderModel::new(&weights, &config).expect("the fixture has all keys");
    let ids = Tensor::arange(config.vocab_size.min(60), (Kind::Int64, tch::Device::Cpu)).view([2, -1]);
    model.forward(&ids, &ids.ones_like()).square().mean(Kind::Float).backward();
    let made = parameters.made.borrow();
    assert!(made.len() > 10, "only {} parameters", made.len());
    for (name, tensor) in made.iter() {
        let gradient = tensor.grad();
        assert!(gradient.defined() && gradient.abs().max().double_value(&[]) > 0.0, "{name} has no gradient");
    }
}

/// Parameters with gradients, as training has them.
struct Parameters {
    files: WeightFiles,
    made: std::cell::RefCell<Vec<(String, Tensor)>>,
}

impl sora_diffusion::weights::WeightSource for Parameters {
    fn tensor(&self, name: &str, shape: &[i64]) -> sora_diffusion::Result<Tensor> {
        let view = self.files.get(name).expect("the fixture has all keys");
        let tensor = Tensor::from_data_size(view.data, shape, Kind::Float).set_requires_grad(true);
        self.made.borrow_mut().push((name.to_owned(), tensor.shallow_clone()));
        Ok(tensor)
    }
}
