//! Scenes are found again, and a student learns what a judge misses.

use tch::{Kind, Tensor};

use super::truth::{Origin, Truth};
use super::*;
use crate::latents::Bucket;
use crate::probe::network::MAPS;

const ORIGIN: Origin = Origin { seed: 3, purpose: Purpose::Latents, domain: DomainChoice::Core };

/// Clips 100 to 103 of [`ORIGIN`] in a folder of latents of 16×12 positions and 3 frames; the latents are noise.
fn bucket() -> Bucket {
    let scenes: Vec<u64> = (100..104).collect();
    let captions = scenes.iter().map(|&index| {
        let domain = DomainChoice::Core.domain();
        let scene = crate::data::scene_of_split(ORIGIN.seed, ORIGIN.purpose, index, &domain, false);
        (scene.caption(), scene.detailed_caption())
    });
    let captions = captions.collect();
    let latents = Seeds::new(1, 0, 0).normal(&[4, 2, 3, 12, 16]).to_kind(Kind::Half);
    Bucket { latents, sources: None, captions, scenes }
}

#[test]
fn scenes_are_found_again_by_their_seed_and_no_other() {
    let bucket = bucket();
    let truth = Truth::of(&bucket, ORIGIN).expect("these scenes");
    assert_eq!(truth.labels.size(), [4, Question::ALL.len() as i64]);
    // A caption names nothing that is not so.
    let differs = truth.named.ge(0).logical_and(&truth.named.not_equal_tensor(&truth.labels));
    assert_eq!(differs.any().int64_value(&[]), 0);
    assert!(truth.named.lt(0).any().int64_value(&[]) == 1, "some things are left open");
    let subject = |row: i64| truth.named.int64_value(&[row, Question::Subject as i64]) as usize;
    for (row, (short, _)) in bucket.captions.iter().enumerate() {
        assert!(short.contains(Question::Subject.word(subject(row as i64))), "{short}");
    }
    let error = Truth::of(&bucket, Origin { seed: 4, ..ORIGIN }).err().expect("other scenes").to_string();
    assert!(error.contains(&bucket.captions[0].0) && error.contains("seed 4"), "{error}");
}

#[test]
fn a_latent_frame_shows_what_its_four_frames_show() {
    let truth = Truth::of(&bucket(), ORIGIN).expect("these scenes");
    let mut clips = 0;
    let maps = truth.maps([3, 12, 16], || clips += 1).to_kind(Kind::Float) / 255.0;
    assert_eq!((clips, maps.size()), (4, vec![4, 3, MAPS, 12, 16]));
    let area = |t: &Tensor| t.select(2, 0).sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Float);
    assert!(area(&maps).max().double_value(&[]) > 3.0, "subjects fill some positions");
    // The first frame alone is what the first latent frame of a longer clip is.
    let first = truth.maps([1, 12, 16], || ()).to_kind(Kind::Float) / 255.0;
    assert_eq!(first, maps.narrow(1, 0, 1));
}

#[test]
fn a_judge_is_trusted_with_what_it_knows_and_does_not_guess() {
    let known = |right, commonest| Known { tally: Tally { right, of: 100 }, commonest };
    assert!(known(90, 0.2).is_trusted());
    assert!(!known(70, 0.2).is_trusted(), "wrong too often");
    assert!(!known(85, 0.8).is_trusted(), "hardly better than always the same");
    assert!(known(95, 0.8).is_trusted());
}

#[test]
fn latents_can_be_moved_until_the_judge_misses_less() {
    tch::set_num_threads(1);
    let judge = Judge::untrained(2, vec![Question::Subject, Question::Ground]);
    let bucket = bucket();
    let named = Truth::of(&bucket, ORIGIN).expect("these scenes").named;
    let statistics = Statistics { mean: vec![0.5; 2], std: vec![2.0; 2] };
    for last_alone in [false, true] {
        let mut latents = bucket.latents.to_kind(Kind::Float).set_requires_grad(true);
        let complaint = |latents: &Tensor| match last_alone {
            false => judge.complaint(latents, &named, &statistics),
            true => judge.complaint_of_last(latents, &named, &statistics),
        };
        let first = complaint(&latents);
        first.backward();
        let gradient = latents.grad();
        let moved = tch::no_grad(|| &latents - &gradient * (2.0 / gradient.norm()));
        assert!(complaint(&moved).double_value(&[]) < first.double_value(&[]), "last alone {last_alone}");
        if last_alone {
            // Its frame cannot be read without the one before, which is shown but not asked about.
            assert!(gradient.narrow(2, 2, 1).abs().max().double_value(&[]) > 0.0);
        }
        latents.zero_grad();
    }
}
