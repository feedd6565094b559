//! Lessons are what they are meant to be; a student learns what a judge and a critic miss.

use tch::Device;

use super::assignment::Streams;
use super::restyled::Way;
use super::*;
use crate::parameters::Parameters;

fn lesson(causal: bool) -> Lesson {
    let options = (Kind::Float, tch::Device::Cpu);
    let batch = Batch {
        clips: Tensor::randn([3, 2, 4, 4, 4], options),
        source: Some(Tensor::randn([3, 2, 4, 4, 4], options)),
        noise: Tensor::randn([3, 2, 4, 4, 4], options),
        sigma: Tensor::zeros([3, 4], options),
        weight: Tensor::ones([3, 4], options),
        causal,
    };
    Lesson::new(batch, &levels(3.0, 4).expect("a schedule"), &mut Seeds::new(1, 2, 3))
}

#[test]
fn levels_are_those_of_the_exported_scheduler() {
    let levels = levels(3.0, 4).expect("a schedule");
    assert_eq!(levels.len(), 5);
    for (level, expected) in levels.iter().zip([1.0, 0.9, 0.75, 0.5, 0.0]) {
        assert!((level - expected).abs() < 2e-3, "{levels:?}");
    }
}

#[test]
fn whole_clips_move_as_one() {
    let lesson = lesson(false);
    assert_eq!(lesson.batch.weight.sum(Kind::Float).double_value(&[]), 12.0);
    let spread = &lesson.batch.sigma - lesson.batch.sigma.narrow(1, 0, 1);
    assert_eq!(spread.abs().max().double_value(&[]), 0.0);
    assert!(lesson.goal.lt_tensor(&lesson.batch.sigma).all().int64_value(&[]) == 1);
}

#[test]
fn causal_lessons_teach_the_last_frame_alone() {
    let lesson = lesson(true);
    let frames = lesson.batch.sigma.size()[1];
    assert_eq!(lesson.batch.clips.size()[2], frames);
    assert_eq!(lesson.batch.weight.sum(Kind::Float).double_value(&[]), 3.0);
    if frames > 1 {
        let before = (&lesson.goal - &lesson.batch.sigma).narrow(1, 0, frames - 1);
        assert_eq!(before.abs().max().double_value(&[]), 0.0);
    }
}

/// One layer over latents of two channels, with a projection that is not zero; it may see sources.
fn network(sources: bool) -> (Configs, Parameters, TextToLatents) {
    let preset = crate::presets::TransformerPreset::Xxs;
    let mut transformer = preset.transformer(2);
    transformer.num_layers = 1;
    let statistics = Statistics { mean: vec![0.0; 2], std: vec![1.0; 2] };
    let configs = Configs {
        text_encoder: preset.text_encoder(9),
        transformer,
        statistics,
        sources,
        source_encoder: None,
    };
    let (parameters, model) = TextToLatents::build(Device::Cpu, 3, &configs).expect("a network");
    let mask = parameters.mask(|name| name == "transformer.proj_out.weight").to_kind(Kind::Float);
    let mut flat = parameters.flat.shallow_clone();
    let noise = Seeds::new(4, 0, 0).normal(&flat.size());
    let _ = tch::no_grad(|| flat.g_add_(&(noise * 0.05 * mask)));
    (configs, parameters, model)
}

/// Follows the gradient of `loss`; what it was first and last.
fn descend(parameters: &mut Parameters, (steps, rate): (u32, f64), loss: impl Fn() -> Tensor) -> (f64, f64) {
    let mut adam = AdamW::new(&parameters.flat, 0.0, 0.9);
    let first = tch::no_grad(&loss).double_value(&[]);
    for _ in 0..steps {
        loss().backward();
        let gradient = parameters.take_gradients();
        adam.step(&mut parameters.flat, &gradient, rate).expect("finite");
    }
    (first, tch::no_grad(&loss).double_value(&[]))
}

const TOKENS: [&[i64]; 2] = [&[2, 1], &[3, 4, 1]];
const LEVELS: [f64; 3] = [1.0, 0.75, 0.0];

fn encoded() -> Tensor {
    Seeds::new(6, 0, 0).normal(&[2, 2, 5, 8, 8]).cumsum(4, Kind::Float) * 0.3
}

fn named() -> Tensor {
    Tensor::from_slice(&[1i64, 2])
        .view([2, 1])
        .repeat([1, crate::probe::questions::Question::ALL.len() as i64])
}

#[test]
fn a_stream_goes_on_where_it_was_left_and_begins_anew_where_it_is_told_to() {
    tch::set_num_threads(1);
    let (_, _, student) = network(false);
    let mut streams = Streams::default();
    let mut stretch = |begins, seed| {
        let assignment = Assignment::stretch(named(), encoded(), (begins, 1), seed);
        tch::no_grad(|| assignment.draw(&student, &mut streams, &TOKENS, &LEVELS))
    };
    let (first, second, third) = (stretch(true, 1), stretch(false, 2), stretch(false, 3));
    // One frame that is not judged and one that is; the last four before that are remembered.
    let frames = |seen: &Tensor| seen.size()[2];
    assert_eq!((frames(&first), frames(&second), frames(&third)), (2, 4, 5));
    assert_eq!(second.narrow(2, 0, 2), first);
    assert_eq!(third.narrow(2, 0, 3), second.narrow(2, 1, 3));
    assert_eq!(stretch(true, 1), first, "the same seed, the same beginning");
    assert_ne!(stretch(false, 4).narrow(2, 2, 2), second.narrow(2, 2, 2));
}

#[test]
fn a_frame_over_the_cache_is_what_one_forward_over_all_frames_gives() {
    // As long as nothing has been forgotten; the first frame is drawn behind nothing, the second behind it.
    tch::set_num_threads(1);
    let (_, _, student) = network(false);
    let assignment = Assignment::stretch(named(), encoded(), (true, 1), 9);
    let mut streams = Streams::default();
    let seen = tch::no_grad(|| assignment.draw(&student, &mut streams, &TOKENS, &LEVELS));
    let _no_grad = tch::no_grad_guard();
    let context = student.context(&TOKENS, Device::Cpu);
    let mut seeds = Seeds::new(9, 0, 0);
    let mut noise = || sora_diffusion::noise::seeded_noise(seeds.next_u64(), &[2, 2, 1, 8, 8]);
    let _ = noise();
    let x = second_frame(noise(), &seen.narrow(2, 0, 1), &LEVELS, |both, sigma, mask| {
        student.velocity(both, sigma, &context, Some(mask))
    });
    let difference = (seen.narrow(2, 1, 1) - x).abs().max().double_value(&[]);
    assert!(difference < 1e-4, "{difference}");
}

/// A frame behind the first, drawn from `x` in forwards over both.
fn second_frame(
    mut x: Tensor,
    first: &Tensor,
    levels: &[f64],
    velocity: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor,
) -> Tensor {
    let mask = sora_diffusion::models::transformer_wan::block_causal_mask(2, 4, 1, Device::Cpu);
    for pair in levels.windows(2) {
        let sigma = Tensor::from_slice(&[0.0, pair[0] as f32]).view([1, 2]).repeat([2, 1]);
        let both = Tensor::cat(&[first, &x], 2);
        x += velocity(&both, &sigma, &mask).narrow(2, 1, 1) * (pair[1] - pair[0]);
    }
    x
}

#[test]
fn a_source_is_restyled_from_its_noise_on_behind_finished_frames() {
    tch::set_num_threads(1);
    let (_, _, student) = network(true);
    let source = encoded();
    let _no_grad = tch::no_grad_guard();
    let target = source.flip([4i64]);
    let commission = Commission::of(source.shallow_clone(), target.shallow_clone(), (0.75, Way::Walk));
    let (made, shown) = commission.restyle(&student, &TOKENS, (4, 3.0));
    assert_eq!(shown, source);
    assert_eq!(made.size(), source.size());
    let context = student.context(&TOKENS, Device::Cpu);
    let levels = [0.9, 0.75, 0.5, 0.0];
    let begin = &commission.noise * levels[0] + source.narrow(2, 1, 1) * (1.0 - levels[0]);
    let x = second_frame(begin, &target.narrow(2, 0, 1), &levels, |both, sigma, mask| {
        let seen = Tensor::cat(&[both.shallow_clone(), source.narrow(2, 0, 2)], 1);
        student.velocity(&seen, sigma, &context, Some(mask))
    });
    let difference = (made.narrow(2, 1, 1) - x).abs().max().double_value(&[]);
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn a_student_that_saw_no_guesses_goes_on_as_it_was_and_learns_to_see_them() {
    tch::set_num_threads(1);
    let (configs, mut before, student) = network(true);
    let _no_grad = tch::no_grad_guard();
    let add = |parameters: &mut Parameters, part: &str, size: f64| {
        let mask = parameters.mask(|name| name == part).to_kind(Kind::Float);
        let noise = Seeds::new(8, 0, 0).normal(&parameters.flat.size());
        let _ = parameters.flat.g_add_(&(noise * mask * size));
    };
    add(&mut before, "source_embedding.weight", 0.2);
    let run = tempfile::tempdir().expect("a folder");
    crate::presets::settle(run.path(), configs.clone()).expect("a config");
    let adam = AdamW::new(&before.flat, 0.0, 0.9);
    checkpoint::save(&run.path().join("checkpoint.safetensors"), &before, &adam).expect("a checkpoint");

    let encoder = sora_model::config::SourceEncoderConfig { channels: 8, num_layers: 1 };
    let configs = Configs { source_encoder: Some(encoder), ..configs };
    let (mut parameters, guided) = TextToLatents::build(Device::Cpu, 5, &configs).expect("a network");
    begin::at_run(&mut parameters, run.path()).expect("weights of the same transformer");
    let share = parameters.mask(|name| name == "source_embedding.guess_share");
    let _ = parameters.flat.masked_fill_(&share, 0.0);
    let source = encoded;
    let commission = Commission::of(source(), -source(), (0.75, Way::Walk));
    let restyled = |student: &TextToLatents| commission.restyle(student, &TOKENS, (4, 3.0));
    let ((made, shown), (expected, _)) = (restyled(&guided), restyled(&student));
    // The source, and a guess that is the source.
    assert_eq!(shown, Tensor::cat(&[source(), source()], 1));
    let difference = |made: &Tensor| (made - &expected).abs().max().double_value(&[]);
    assert!(difference(&made) < 1e-5, "{}", difference(&made));

    // It is the guess that it sees beside the source.
    add(&mut parameters, "source_embedding.weight", 0.2);
    let seen = restyled(&guided).0;
    assert!(difference(&seen) > 1e-3);
    add(&mut parameters, "source_encoder.conv_out.weight", 0.2);
    assert!((restyled(&guided).0 - seen).abs().max().double_value(&[]) > 1e-4);
    // And what it makes is the guess where all of it is to be.
    let _ = parameters.flat.masked_fill_(&share, 1.0);
    let (made, shown) = restyled(&guided);
    let difference = (made - shown.narrow(1, 2, 2)).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn a_student_learns_to_make_of_a_source_what_its_target_is() {
    tch::set_num_threads(1);
    for way in [Way::Walk, Way::OwnWalk, Way::Step(0.0), Way::Step(0.6)] {
        let (_, mut parameters, student) = network(true);
        let commission = Commission::of(encoded(), -encoded(), (1.0, way));
        let difference = || commission.difference(&commission.restyle(&student, &TOKENS, (2, 3.0)).0);
        let (first, last) = descend(&mut parameters, (40, 1e-2), difference);
        assert!(last < 0.6 * first, "{way:?}: the difference went from {first} to {last}");
    }
}

#[test]
fn a_student_learns_what_a_judge_misses_in_clips_and_in_streams() {
    use crate::probe::questions::Question;
    tch::set_num_threads(1);
    let judge = crate::judge::Judge::untrained(2, vec![Question::Subject, Question::Ground]);
    for stream in [false, true] {
        let (configs, mut parameters, student) = network(false);
        let assignment = match stream {
            false => Assignment::whole(named(), encoded(), 5),
            true => Assignment::stretch(named(), encoded(), (true, 2), 5),
        };
        let complaint = || {
            let drawn = assignment.draw(&student, &mut Streams::default(), &TOKENS, &LEVELS);
            match stream {
                false => judge.complaint(&drawn, &named(), &configs.statistics),
                true => judge.complaint_of_last(&drawn, &named(), &configs.statistics),
            }
        };
        let (first, last) = descend(&mut parameters, (30, 1e-2), complaint);
        // Of a stream one frame alone is the student's to change.
        assert!(last < 0.9 * first, "stream {stream}: what is missed went from {first} to {last}");
    }
}

#[test]
fn a_critic_learns_to_tell_and_latents_to_be_taken_for_encoded_ones() {
    tch::set_num_threads(1);
    let (mut parameters, critic) =
        Parameters::build(Device::Cpu, 1, |w| critic::Critic::new(w, 2)).expect("a critic");
    let encoded = encoded();
    let drawn = Seeds::new(7, 0, 0).normal(&encoded.size()).set_requires_grad(true);
    let wrong = || critic.lesson((&encoded, &drawn), critic::Frames::All, 1);
    let (first, last) = descend(&mut parameters, (60, 2e-3), wrong);
    assert!(!drawn.grad().defined(), "its lessons teach it alone");
    assert!(last < 0.7 * first, "what it gets wrong went from {first} to {last}");
    let (seems_drawn, seems_encoded) = tch::no_grad(|| {
        (
            critic.complaint(&drawn, critic::Frames::All).double_value(&[]),
            critic.complaint(&encoded, critic::Frames::All).double_value(&[]),
        )
    });
    assert!(seems_drawn > 0.0 && seems_encoded < 0.0, "drawn {seems_drawn}, encoded {seems_encoded}");
    critic.complaint(&drawn, critic::Frames::All).backward();
    let gradient = drawn.grad();
    let moved = tch::no_grad(|| {
        critic.complaint(&(&drawn - &gradient * (3.0 / gradient.norm())), critic::Frames::All)
    });
    assert!(moved.double_value(&[]) < seems_drawn);
}
