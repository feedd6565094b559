//! A toy probe learns, is written, read, and refused where it does not fit.

use tch::{Device, Kind, Tensor};

use super::accuracy::measure;
use super::clips::{Clips, Source};
use super::network::{Input, MAP_SIDE, MAPS, Probe, ProbeConfig, SIDE, WINDOW, staying};
use super::{MARKED, augment::Batch, available, file, losses, marked};
use crate::data::{DomainChoice, Purpose};
use crate::optimizer::AdamW;
use crate::parameters::Parameters;
use crate::seeds::Seeds;

fn toy() -> ProbeConfig {
    ProbeConfig {
        channels: [8, 16],
        token: 32,
        feature: 16,
        close: true,
        compares: true,
        input: Input::Pixels,
    }
}

fn build(config: &ProbeConfig) -> (Parameters, Probe) {
    Parameters::build(Device::Cpu, 1, |w| Probe::new(w, config)).expect("a probe")
}

fn few(count: usize) -> Clips {
    let source = Source {
        domain: DomainChoice::Starter,
        seed: 1,
        purpose: Purpose::Probe,
        name: "clips",
        small: true,
    };
    source.render(0..count as u64, None)
}

#[test]
fn a_toy_probe_learns_what_it_is_shown() {
    // Two threads inside an operation wait for each other on a busy machine.
    tch::set_num_threads(1);
    let clips = few(10);
    assert_eq!(clips.video.size(), [10, WINDOW as i64, 3, SIDE, SIDE]);
    let (mut parameters, probe) = build(&toy());
    let mut adam = AdamW::new(&parameters.flat, 0.0, 0.8);
    let batch = Batch::plain(&clips);
    let mut first = f64::NAN;
    let mut last = f64::NAN;
    for step in 0..50 {
        let [answers, frames, maps] = losses(&probe, &batch, 0.0);
        let loss = answers + frames * 0.3 + maps * 5.0;
        loss.backward();
        last = loss.double_value(&[]);
        if step == 0 {
            first = last;
        }
        let gradient = parameters.take_gradients();
        adam.step(&mut parameters.flat, &gradient, 5e-3).expect("finite");
    }
    assert!(last < 0.4 * first, "the loss went from {first} to {last}");
    // Eight questions about ten clips; one question alone would hang on a single clip.
    let accuracy = measure(&probe, &clips, &clips.rows(false));
    let (right, of) = accuracy.tallies.iter().fold((0, 0), |(right, of), t| (right + t.right, of + t.of));
    assert!(of >= 75 && right * 4 >= of * 3, "{right} of {of}: {}", accuracy.line());
}

#[test]
fn maps_are_as_true_as_the_masks() {
    let clips = few(4);
    let maps = clips.maps.to_kind(Kind::Float) / 255.0;
    let subject = maps.select(2, 0).sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Float);
    assert_eq!(maps.size(), [4, WINDOW as i64, MAPS, MAP_SIDE, MAP_SIDE]);
    assert!(subject.max().double_value(&[]) > 5.0, "a subject fills some cells");
    assert_eq!(maps.select(2, 1).max().double_value(&[]), 0.0, "nobody has a companion in this domain");
}

#[test]
fn augmented_clips_keep_their_shape_and_range() {
    let clips = few(6);
    let batch = Batch::augmented(&clips, &mut Seeds::new(1, 2, 3));
    assert_eq!(batch.video.size(), [6, WINDOW as i64, 3, SIDE, SIDE]);
    assert!(batch.video.abs().max().double_value(&[]) <= 1.0);
    assert!(batch.maps.min().double_value(&[]) >= 0.0 && batch.maps.max().double_value(&[]) <= 1.0);
    // The clips themselves are not touched: they are drawn again.
    assert_eq!(clips.labels, few(6).labels);
    let again = Batch::augmented(&clips, &mut Seeds::new(1, 2, 3));
    assert_eq!(batch.video, again.video, "the same seeds, the same batch");
}

#[test]
fn a_probe_comes_back_from_disk_and_another_size_does_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (parameters, probe) = build(&toy());
    let card = file::Card {
        config: toy(),
        domain: "starter".into(),
        steps: 0,
        marked_weight: 30.0,
        renders: Default::default(),
        reconstructions: Default::default(),
    };
    file::write(dir.path(), &parameters, &parameters.flat, &card).expect("written");
    let (read, read_card) = file::open(dir.path(), Device::Cpu).expect("read");
    assert_eq!(read_card, card);
    let clip = Batch::plain(&few(1)).video;
    let difference = (probe.forward(&clip).feature - read.forward(&clip).feature).abs().max();
    assert!(difference.double_value(&[]) < 0.05, "half precision: {difference}");

    let other = file::Card { config: ProbeConfig { channels: [8, 24], ..toy() }, ..card };
    let json = serde_json::to_string(&other).expect("json");
    std::fs::write(dir.path().join(file::CARD), json).expect("written");
    let error = format!("{:#}", file::open(dir.path(), Device::Cpu).err().expect("an error"));
    assert!(error.contains("probe.safetensors") && error.contains("24"), "{error}");
    let error =
        format!("{:#}", file::open(&dir.path().join("nowhere"), Device::Cpu).err().expect("an error"));
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn what_is_no_vae_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let error = file::open_vae(dir.path()).err().expect("an error").to_string();
    assert!(error.contains("it is no VAE") && error.contains(dir.path().to_str().expect("UTF-8")), "{error}");
}

#[test]
fn shards_grow_with_the_steps() {
    assert_eq!(available(0, 900, 30), 2);
    assert_eq!(available(600, 900, 30), 30);
    assert_eq!(available(899, 900, 30), 30);
    assert!((0..900).all(|step| available(step, 900, 30) <= available(step + 1, 900, 30)));
    assert_eq!(available(0, 10, 1), 1, "there are no more");
}

#[test]
fn clips_with_marks_are_found_and_drawn_often_until_the_last_third() {
    let mut clips = few(4);
    let _ = clips.maps.zero_();
    assert!(clips.marked_rows().is_empty());
    // A mark in one cell of one frame; the subject's map says nothing about it.
    let _ =
        clips.maps.select(0, 2).select(1, MAPS - 1).narrow(0, 5, 1).narrow(1, 3, 1).narrow(2, 7, 1).fill_(90);
    let _ = clips.maps.select(0, 1).select(1, 0).fill_(255);
    assert_eq!(clips.marked_rows(), [2]);
    assert_eq!([0, 66, 67, 99].map(|step| marked(step, 101)), [MARKED, MARKED, 0, 0]);
}

#[test]
fn a_probe_that_compares_begins_by_saying_what_one_that_does_not_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let less = ProbeConfig { compares: false, ..toy() };
    let (parameters, former) = build(&less);
    let named: Vec<_> = parameters.named(&parameters.flat).collect();
    Tensor::write_safetensors(&named, dir.path().join(file::WEIGHTS)).expect("written");
    let (mut parameters, probe) = build(&toy());
    let clip = Batch::plain(&few(2)).video;
    let differs = |probe: &Probe| (probe.forward(&clip).feature - former.forward(&clip).feature).abs().max();
    assert!(differs(&probe).double_value(&[]) > 1e-2);
    parameters.begin_at_less(&dir.path().join(file::WEIGHTS)).expect("fewer columns");
    assert!(differs(&probe).double_value(&[]) < 1e-4);
    let (mut other, _) = build(&ProbeConfig { channels: [8, 24], ..toy() });
    let error = other.begin_at_less(&dir.path().join(file::WEIGHTS)).expect_err("another size");
    assert!(format!("{error:#}").contains("wants"), "{error:#}");
}

#[test]
fn a_trail_stays_and_a_shadow_does_not() {
    let marks = Tensor::zeros([2, 9, 6, 6], (Kind::Float, Device::Cpu));
    for frame in 0..9 {
        // The first clip's mark goes on to another cell with each frame, the second's gets longer.
        let _ = marks.get(0).get(frame).view(-1).narrow(0, 4 * frame, 1).fill_(0.9);
        let _ = marks.get(1).get(frame).view(-1).narrow(0, 0, frame + 1).fill_(0.9);
    }
    let told = staying(&marks);
    let values = Vec::<Vec<f64>>::try_from(&told).expect("numbers");
    assert!(values[0].iter().all(|value| *value < 1e-6), "{values:?}");
    assert!((values[1][0] - 0.9).abs() < 1e-6 && (values[1][1] - 0.9).abs() < 1e-6, "{values:?}");
    // The five cells of five frames ago, and those beside them.
    assert!((values[1][3] - 0.9 * 12.0 / 32.0).abs() < 1e-6, "{values:?}");
    // A clip of fewer frames has none that is missing.
    assert_eq!(staying(&marks.narrow(1, 0, 2)).size(), [2, 4]);
}
