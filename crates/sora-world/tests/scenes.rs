//! What whoever trains on these scenes relies on.

use std::collections::HashSet;

use sora_world::{
    Camera, Clip, Colour, Domain, Event, Ground, Motion, Scene, Size, Sky, Style, Subject, Weather,
};

const SQUARE: Size = Size { width: 48, height: 48 };

/// The full domain with only the values named.
fn only(names: &[&str]) -> Domain {
    let mut domain = Domain::full();
    for name in names {
        assert!(domain.restrict(name), "no attribute has a value {name:?}");
    }
    domain
}

fn events(clip: &Clip) -> Vec<Event> {
    clip.truth.iter().flat_map(|frame| frame.events.iter().copied()).collect()
}

#[test]
fn same_seed_same_clip() {
    for seed in 0..40 {
        let scenes = [Scene::sample(seed, &Domain::full()), Scene::sample(seed, &Domain::full())];
        let [a, b] = scenes.map(|scene| (scene.caption(), scene.detailed_caption(), scene.render(SQUARE, 5)));
        assert!(a == b, "seed {seed} gives two different clips");
    }
}

#[test]
fn other_seeds_give_other_clips() {
    let domain = only(&["ball", "red", "grass", "clear", "bounces", "fair", "still", "shaded", "plain"]);
    let clips: HashSet<Vec<u8>> =
        (0..50).map(|seed| Scene::sample(seed, &domain).render(SQUARE, 1).frames).collect();
    assert_eq!(clips.len(), 50, "seeds of the same attributes must differ in position, light or phase");
}

#[test]
fn a_short_clip_begins_a_long_one() {
    for seed in 0..30 {
        let scene = Scene::sample(seed, &Domain::full());
        let (short, long) = (scene.render(SQUARE, 3), scene.render(SQUARE, 9));
        assert_eq!(short.frames, long.frames[..short.frames.len()], "seed {seed}");
        assert_eq!(short.truth, long.truth[..3], "seed {seed}");
    }
}

#[test]
fn any_aspect_and_length_renders() {
    let sizes = [(1, 1), (7, 3), (160, 96), (96, 160), (33, 250), (300, 20)];
    for (seed, (width, height)) in (0..60).zip(sizes.into_iter().cycle()) {
        let size = Size { width, height };
        let clip = Scene::sample(seed, &Domain::full()).render(size, 2);
        assert_eq!(clip.frames.len(), 2 * size.area() * 3);
        assert!(clip.truth.iter().all(|frame| frame.mask.len() == size.area()));
    }
    for frames in [0, 1, 2, 33, 65] {
        let clip = Scene::sample(3, &Domain::starter()).render(SQUARE, frames);
        assert_eq!((clip.frames.len(), clip.truth.len()), (frames * 48 * 48 * 3, frames));
    }
    let empty = Scene::sample(3, &Domain::full()).render(Size { width: 0, height: 20 }, 4);
    assert!(empty.frames.is_empty() && empty.truth.is_empty());
}

#[test]
fn captions_name_what_the_scene_shows() {
    for seed in 0..4000 {
        let scene = Scene::sample(seed, &Domain::full());
        let a = *scene.attributes();
        let stem = match (a.motion, a.subject) {
            (Motion::Bounces, _) => "bounc",
            (Motion::Rolls, _) => "roll",
            (Motion::Spins, _) => "spin",
            (Motion::Falls, _) => "fall",
            (Motion::Slides, Subject::Car) => "driv",
            (Motion::Slides, Subject::Boat) => "sail",
            (Motion::Slides | Motion::Floats, Subject::Kite) => "fl",
            (Motion::Slides, _) => "slid",
            (Motion::Floats, _) => "float",
            (Motion::Orbits, _) => "orbit",
            (Motion::Collides, _) => "collid",
            (Motion::PassesBehind, _) => "pass",
            (Motion::LeavesTrail, _) => "trail",
            (Motion::Stands, _) => "stand",
            other => panic!("no verb is expected for {other:?}"),
        };
        let weather = match a.weather {
            Weather::Fair => "",
            Weather::Rain => "in the rain",
            Weather::Snowfall => "while it snows",
            _ => "in the fog",
        };
        let style = match a.style {
            Style::Shaded => "",
            Style::Pencil => "pencil",
            other => other.name(),
        };
        for caption in [scene.caption(), scene.detailed_caption()] {
            let mut expected = vec![a.subject.name(), stem, a.ground.name(), weather, style];
            if a.style.shows_colour() {
                expected.push(a.colour.name());
            }
            if let Some(other) = a.companion {
                expected.push(other.subject.name());
            }
            for word in expected {
                assert!(caption.contains(word), "{caption:?} does not say {word:?} ({a:?})");
            }
            assert!(!caption.contains("  ") && !caption.contains(" ,"), "{caption:?}");
            for vowel in ["a orange", "an red", "a old", "an blue"] {
                assert!(!format!(" {caption}").contains(&format!(" {vowel}")), "{caption:?}");
            }
        }
        let detailed = scene.detailed_caption();
        let sky = match a.sky {
            Sky::Clear => "clear",
            Sky::Sunset => "sunset",
            Sky::Night => "night",
            Sky::Storm => "storm",
            _ => "cloudy",
        };
        assert!(detailed.contains(sky), "{detailed:?} does not say {sky:?}");
        assert!(a.camera == Camera::Walk || detailed.contains("the camera"), "{detailed:?}");
    }
}

#[test]
fn starter_captions_are_short_and_plain() {
    for seed in 0..500 {
        let caption = Scene::sample(seed, &Domain::starter()).caption();
        let words = caption.split_whitespace().count();
        assert!((5..=12).contains(&words), "{caption:?}");
        assert!(!caption.contains("camera") && !caption.contains("night"), "{caption:?}");
    }
}

/// On white snow a red thing is where red is seen: the mask is compared with the pixels themselves.
#[test]
fn masks_lie_on_what_is_seen() {
    let domain = only(&["red", "snow", "clear", "fair", "shaded", "plain", "still", "bounces"]);
    let size = Size { width: 96, height: 96 };
    let (mut inside, mut red_inside, mut red_outside) = (0, 0, 0);
    for seed in 0..20 {
        let clip = Scene::sample(seed, &domain).render(size, 4);
        for (t, truth) in clip.truth.iter().enumerate() {
            let frame = clip.frame(t).expect("a frame for each truth");
            for row in 1..95 {
                for column in 1..95 {
                    let at = row * 96 + column;
                    let here = truth.mask[at];
                    // Pixels along the outline show both.
                    let around = [at - 97, at - 96, at - 95, at - 1, at + 1, at + 95, at + 96, at + 97];
                    if around.iter().any(|&n| truth.mask[n] != here) {
                        continue;
                    }
                    let [r, g, b] = [0, 1, 2].map(|c| i32::from(frame[at * 3 + c]));
                    let red = r > g + 40 && r > b + 40;
                    inside += i32::from(here == 1);
                    red_inside += i32::from(here == 1 && red);
                    red_outside += i32::from(here == 0 && red);
                }
            }
        }
    }
    assert!(inside > 10_000, "{inside} pixels of a subject in 80 frames");
    assert!(red_inside * 100 > inside * 97, "{red_inside} of {inside} masked pixels are red");
    assert_eq!(red_outside, 0, "red pixels that no mask covers");
}

#[test]
fn truth_counts_the_pixels_of_the_mask() {
    for seed in 0..60 {
        let clip = Scene::sample(seed, &Domain::full()).render(SQUARE, 3);
        for frame in &clip.truth {
            for object in &frame.objects {
                let counted = frame.mask.iter().filter(|&&id| id == object.id).count();
                assert_eq!(object.visible_px as usize, counted, "seed {seed}, object {}", object.id);
                assert!((0.0..=1.0).contains(&object.visibility), "seed {seed}: {}", object.visibility);
            }
            let highest = frame.mask.iter().copied().max().unwrap_or(0);
            assert!(usize::from(highest) <= frame.objects.len(), "seed {seed}: unknown id {highest}");
        }
    }
}

#[test]
fn the_subject_is_in_the_picture_from_the_start() {
    for size in [SQUARE, Size { width: 80, height: 48 }, Size { width: 48, height: 80 }] {
        for seed in 0..150 {
            let scene = Scene::sample(seed, &Domain::starter());
            let clip = scene.render(size, 1);
            let seen = clip.truth[0].objects[0].visible_px as usize;
            let share = seen as f32 / (size.width.min(size.height) as f32).powi(2);
            let least = if scene.attributes().motion == Motion::Falls { 0.005 } else { 0.03 };
            assert!(share > least, "{size:?}, seed {seed} ({}): {share}", scene.caption());
        }
    }
}

#[test]
fn what_bounces_touches_the_ground() {
    let domain = only(&["bounces", "still"]);
    for seed in 0..60 {
        let clip = Scene::sample(seed, &domain).render(SQUARE, 17);
        let contacts: Vec<f32> = events(&clip).iter().map(Event::time).collect();
        assert!(contacts.len() >= 2, "seed {seed}: contacts at {contacts:?} in two seconds");
        for frame in clip.truth.iter().filter(|frame| !frame.events.is_empty()) {
            let heights = clip.truth.iter().map(|f| f.objects[0].position[1]);
            let (low, high) = heights.fold((f32::MAX, f32::MIN), |(l, h), y| (l.min(y), h.max(y)));
            let y = frame.objects[0].position[1];
            assert!(y < low + 0.4 * (high - low), "seed {seed}: contact at height {y} of {low}..{high}");
        }
    }
    let spinning = only(&["spins", "still"]);
    for seed in 0..20 {
        assert!(events(&Scene::sample(seed, &spinning).render(SQUARE, 17)).is_empty(), "seed {seed}");
    }
}

#[test]
fn collisions_push_the_other_object_away() {
    let domain = only(&["collides", "still"]);
    for seed in 0..40 {
        let clip = Scene::sample(seed, &domain).render(SQUARE, 17);
        let hit = events(&clip).into_iter().find_map(|event| match event {
            Event::Collision { objects: [1, 2], time } => Some(time),
            _ => None,
        });
        let hit = hit.expect("a collision within two seconds");
        for frame in &clip.truth {
            let moved = (frame.objects[1].position[0] - clip.truth[0].objects[1].position[0]).abs();
            assert_eq!(moved > 1e-3, frame.time > hit + 1e-3, "seed {seed}: moved {moved} at {}", frame.time);
        }
    }
}

/// Object permanence: what goes behind something is gone from the pixels, not from the world.
#[test]
fn what_passes_behind_vanishes_and_comes_out_again() {
    let domain = only(&["passes behind", "still", "ball"]);
    let mut completely = 0;
    for seed in 0..30 {
        let clip = Scene::sample(seed, &domain).render(SQUARE, 25);
        let least = clip.truth.iter().map(|frame| frame.objects[0].visibility).fold(1.0, f32::min);
        assert!(least < 0.05, "seed {seed}: never hidden, {least} visible");
        if let Some(hidden) = clip.truth.iter().position(|frame| frame.objects[0].visible_px == 0) {
            completely += 1;
            let all = events(&clip);
            let vanishes = all.iter().any(|event| matches!(event, Event::Vanishes { object: 1, .. }));
            let appears = all.iter().any(|event| matches!(event, Event::Appears { object: 1, .. }));
            assert!(vanishes && appears, "seed {seed}: hidden in frame {hidden}, events {all:?}");
        }
    }
    assert!(completely > 24, "{completely} of 30 balls are hidden completely for at least a frame");
}

#[test]
fn trails_stay_where_they_were_made() {
    let domain = only(&["leaves a trail", "still"]);
    for seed in 0..30 {
        let clip = Scene::sample(seed, &domain).render(SQUARE, 17);
        let (first, last) = (&clip.truth[0], &clip.truth[16]);
        let count = |marks: &[u8]| marks.iter().filter(|&&m| m == 1).count();
        assert!(count(&last.marks) > count(&first.marks) + 10, "seed {seed}: no trail");
        for pair in clip.truth.windows(2) {
            let lost = (0..SQUARE.area())
                .filter(|&at| pair[0].marks[at] == 1 && pair[1].marks[at] == 0 && pair[1].mask[at] == 0)
                .count();
            assert!(lost <= 2, "seed {seed}: {lost} marked pixels healed");
        }
    }
    let without = Scene::sample(0, &Domain::starter()).render(SQUARE, 2);
    assert!(without.truth.iter().all(|frame| frame.marks.is_empty()));
}

#[test]
fn a_scene_in_two_styles_is_one_world() {
    for seed in 0..16 {
        let scene = Scene::sample(seed, &Domain::full());
        let mut pictures = HashSet::new();
        for &style in Style::ALL {
            let drawn = scene.with_style(style);
            assert_eq!(drawn.attributes().style, style);
            let clip = drawn.render(SQUARE, 3);
            assert_eq!(clip.truth, scene.render(SQUARE, 3).truth, "seed {seed}, {style}");
            assert!(pictures.insert(clip.frames), "seed {seed}: {style} looks like another style");
        }
    }
}

#[test]
fn keys_steer_the_walk() {
    let walk = only(&["first person walk"]);
    let (mut ahead, mut turned) = (0, 0);
    for seed in 0..30 {
        let scene = Scene::sample(seed, &walk);
        assert_eq!(scene.attributes().camera, Camera::Walk, "{}", scene.caption());
        let clip = scene.render(Size { width: 16, height: 16 }, 33);
        assert!(clip.truth[0].keys.forward && clip.truth[0].objects.len() >= 5);
        for pair in clip.truth.windows(3) {
            // Feet and head have inertia: only steady keys tell.
            if pair[0].keys != pair[1].keys || pair[1].keys != pair[2].keys {
                continue;
            }
            let (a, b) = (pair[1].camera, pair[2].camera);
            let step: f32 = (0..3).map(|k| (b.position[k] - a.position[k]) * a.forward[k]).sum();
            let aside: f32 = (0..3).map(|k| b.forward[k] * a.right[k]).sum();
            let keys = pair[1].keys;
            if keys.forward && step > 0.0 {
                ahead += 1;
            }
            if keys.left || keys.right {
                turned += 1;
                assert_eq!(aside < 0.0, keys.left, "seed {seed}: {keys:?} turned by {aside}");
            }
        }
    }
    assert!(ahead > 100 && turned > 60, "{ahead} steps ahead, {turned} turns");
    let other = Scene::sample(1, &only(&["orbits"])).render(SQUARE, 5);
    assert!(other.truth.iter().all(|frame| frame.keys == sora_world::Keys::default()));
}

#[test]
fn cameras_do_what_captions_say() {
    let run = |camera: Camera, seed| {
        let domain = only(&[camera.name(), "stands", "cube", "shaded"]);
        let scene = Scene::sample(seed, &domain);
        assert_eq!(scene.attributes().camera, camera, "{}", scene.caption());
        let truth = scene.render(SQUARE, 25).truth;
        (truth[0].clone(), truth[24].clone())
    };
    for seed in 0..10 {
        let (start, end) = run(Camera::DollyIn, seed);
        assert!(end.objects[0].visible_px as f32 > 1.5 * start.objects[0].visible_px as f32);
        let (start, end) = run(Camera::DollyOut, seed);
        assert!((end.objects[0].visible_px as f32) < 0.7 * start.objects[0].visible_px as f32);
        let (start, end) = run(Camera::PanLeft, seed);
        assert!(end.camera.forward[0] < start.camera.forward[0] - 0.2);
        assert_eq!(end.camera.position, start.camera.position);
        let (start, end) = run(Camera::PanRight, seed);
        assert!(end.camera.forward[0] > start.camera.forward[0] + 0.2);
        let (start, end) = run(Camera::Orbit, seed);
        let moved = (end.camera.position[0] - start.camera.position[0]).abs();
        assert!(moved > 2.0, "an orbit of {moved}");
    }
}

#[test]
fn a_domain_admits_only_its_own_values() {
    let domain = Domain::starter();
    let mut seen = HashSet::new();
    for seed in 0..40_000 {
        let a = *Scene::sample(seed, &domain).attributes();
        assert!(domain.subjects.contains(&a.subject) && domain.colours.contains(&a.colour));
        assert!(domain.motions.contains(&a.motion) && domain.grounds.contains(&a.ground));
        assert_eq!((a.camera, a.style, a.weather), (Camera::Still, Style::Shaded, Weather::Fair));
        assert!(a.subject != Subject::Pyramid || a.motion != Motion::Rolls, "a pyramid rolls");
        seen.insert(a);
    }
    // 7 ways to move for ball and cube, 5 for the pyramid, on 5 grounds, in 8 colours, under 3 skies. The
    // count also tells high bounces from low ones, two sides of the light and two sizes.
    assert_eq!(seen.len(), 19 * 5 * 8 * 3);
    assert_eq!(domain.count(), 22 * 5 * 8 * 3 * 4);
    for seed in 0..300 {
        let trail = *Scene::sample(seed, &only(&["leaves a trail"])).attributes();
        assert_eq!(trail.motion, Motion::LeavesTrail, "{trail:?}");
        assert_ne!(trail.ground, Ground::Sea, "{trail:?}");
    }
}

#[test]
fn there_are_more_than_a_thousand_million_scenes() {
    let count = Domain::full().count();
    assert!(count >= 1_000_000_000, "{count}");
    println!("{count} scenes differ in words");
}

#[test]
fn every_value_is_reached() {
    let mut names = HashSet::new();
    for seed in 0..6000 {
        let a = *Scene::sample(seed, &Domain::full()).attributes();
        names.extend([a.subject.name(), a.colour.name(), a.ground.name(), a.sky.name(), a.motion.name()]);
        names.extend([a.camera.name(), a.style.name(), a.weather.name(), a.texture.name()]);
    }
    let all = Subject::ALL.iter().map(|v| v.name()).chain(Colour::ALL.iter().map(|v| v.name()));
    let all = all.chain(Ground::ALL.iter().map(|v| v.name())).chain(Motion::ALL.iter().map(|v| v.name()));
    for name in all.chain(Camera::ALL.iter().map(|v| v.name())).chain(Style::ALL.iter().map(|v| v.name())) {
        assert!(names.contains(name), "{name} never comes up");
    }
}

#[test]
fn restricting_to_an_unknown_word_changes_nothing() {
    let mut domain = Domain::full();
    assert!(!domain.restrict("elephant"));
    assert_eq!(domain, Domain::full());
    assert!(domain.restrict("orbits"));
    assert_eq!(domain.motions, [Motion::Orbits]);
}
