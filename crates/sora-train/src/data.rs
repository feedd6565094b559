//! Which scenes are trained on, and which never.

use sora_world::{Attributes, Domain, Scene, Size, Subject};

use crate::seeds::Seeds;

/// A domain of `sora-world`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DomainChoice {
    /// Three solids, one style, a still camera.
    Starter,
    /// Six subjects, four styles, two cameras: what sora-tiny learns.
    Core,
    /// Everything there is.
    Full,
}

impl DomainChoice {
    /// The domain.
    pub(crate) fn domain(self) -> Domain {
        match self {
            Self::Starter => Domain::starter(),
            Self::Core => Domain::core(),
            Self::Full => Domain::full(),
        }
    }

    /// The name it has on the command line and in files.
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// The picture sizes of sora-tiny: 1:1, 5:3 and 3:5.
pub(crate) const NATIVE_SIZES: [Size; 3] =
    [Size { width: 128, height: 128 }, Size { width: 160, height: 96 }, Size { width: 96, height: 160 }];

/// Whether scenes with this subject, colour and ground are kept out of the transformer's training: one
/// combination in eleven, spread evenly, so that each subject, colour and ground is seen with others. Boats are
/// never kept out: they are found at sea alone, and one of a colour kept out there would be kept out altogether.
pub(crate) fn is_held_out(attributes: &Attributes) -> bool {
    let a = attributes;
    a.subject != Subject::Boat
        && (3 * a.subject.index() + 5 * a.colour.index() + 7 * a.ground.index()).is_multiple_of(11)
}

/// What a stream of seeds is for; the numbers stay as they are, or runs would see other scenes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Crops for the VAE.
    Vae = 1,
    /// Clips for the transformer.
    Latents = 4,
    /// Clips for the transformer's validation loss.
    Validation = 5,
    /// Training of probes.
    Probe = 6,
    /// Captions for the prompt enhancer.
    Enhancer = 8,
    /// Everything that is reported: no training ever draws from it.
    Evaluation = 7,
}

/// Scene `index` of a purpose.
pub(crate) fn scene(seed: u64, purpose: Purpose, index: u64, domain: &Domain) -> Scene {
    Scene::sample(Seeds::new(seed, purpose as u64, index).next_u64(), domain)
}

/// Scene `index` of a purpose among those that are held out, or among those that are not.
pub(crate) fn scene_of_split(
    seed: u64,
    purpose: Purpose,
    index: u64,
    domain: &Domain,
    held_out: bool,
) -> Scene {
    let mut seeds = Seeds::new(seed, purpose as u64, index);
    loop {
        let scene = Scene::sample(seeds.next_u64(), domain);
        if is_held_out(scene.attributes()) == held_out {
            return scene;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_combination_in_eleven_is_held_out_and_no_value_is_unseen() {
        let domain = Domain::core();
        let scenes: Vec<Scene> = (0..4000).map(|i| scene(1, Purpose::Latents, i, &domain)).collect();
        let held = scenes.iter().filter(|s| is_held_out(s.attributes())).count();
        assert!((200..600).contains(&held), "{held} of 4000 are held out");
        for seen in scenes.iter().filter(|s| is_held_out(s.attributes())) {
            let a = seen.attributes();
            let learned = |same: &dyn Fn(&Attributes) -> bool| {
                scenes.iter().any(|s| !is_held_out(s.attributes()) && same(s.attributes()))
            };
            assert!(learned(&|b| b.subject == a.subject && b.colour == a.colour), "{a:?}");
            assert!(learned(&|b| b.subject == a.subject && b.ground == a.ground), "{a:?}");
        }
    }

    #[test]
    fn a_split_holds_only_its_own() {
        let domain = Domain::core();
        for i in 0..200 {
            for wanted in [true, false] {
                let scene = scene_of_split(1, Purpose::Evaluation, i, &domain, wanted);
                assert_eq!(is_held_out(scene.attributes()), wanted);
            }
        }
    }
}
