//! The domains that models were trained on never change.

use sora_world::{Domain, Scene, Size};

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Pixels and captions of the first 200 scenes, at the aspects and lengths that training uses.
fn hash_of(domain: &Domain) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for seed in 0..200 {
        let scene = Scene::sample(seed, domain);
        let (width, height) = [(64, 64), (80, 48), (48, 80)][seed as usize % 3];
        let clip = scene.render(Size { width, height }, 9);
        hash = fnv1a(hash, &clip.frames);
        hash = fnv1a(hash, scene.caption().as_bytes());
        hash = fnv1a(hash, scene.detailed_caption().as_bytes());
    }
    let full_size = Scene::sample(1234, domain).render(Size { width: 128, height: 128 }, 33);
    fnv1a(hash, &full_size.frames)
}

#[test]
fn starter_scenes_keep_their_bytes() {
    let hash = hash_of(&Domain::starter());
    assert_eq!(hash, 0x90db_8548_e4ea_8096, "the starter domain differs from what it was: {hash:#018x}");
}

#[test]
fn core_scenes_keep_their_bytes() {
    let hash = hash_of(&Domain::core());
    assert_eq!(
        hash, 0x5aad_384e_1755_72a0,
        "the core domain differs from what sora-tiny was trained on: {hash:#018x}"
    );
}
