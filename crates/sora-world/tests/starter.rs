//! The starter domain never changes: a model was trained on it.

use sora_world::{Domain, Scene, Size};

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Pixels and captions of the first 200 starter scenes, at the aspects and lengths that training uses.
#[test]
fn starter_scenes_keep_their_bytes() {
    let domain = Domain::starter();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for seed in 0..200 {
        let scene = Scene::sample(seed, &domain);
        let (width, height) = [(64, 64), (80, 48), (48, 80)][seed as usize % 3];
        let clip = scene.render(Size { width, height }, 9);
        hash = fnv1a(hash, &clip.frames);
        hash = fnv1a(hash, scene.caption().as_bytes());
        hash = fnv1a(hash, scene.detailed_caption().as_bytes());
    }
    let full_size = Scene::sample(1234, &domain).render(Size { width: 128, height: 128 }, 33);
    hash = fnv1a(hash, &full_size.frames);
    assert_eq!(
        hash, 0x90db_8548_e4ea_8096,
        "starter() renders or captions differ from those the first model was trained on: {hash:#018x}"
    );
}
