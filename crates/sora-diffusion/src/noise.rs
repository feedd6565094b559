//! Noise that depends on the seed alone.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

/// libtorch's default CPU generator is one per process, and `tch` binds no other.
static GENERATOR: Mutex<()> = Mutex::new(());

/// Standard normal noise of `shape` in f32 on the CPU.
///
/// The values are those of `torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))`,
/// whatever the device of the model and whatever else draws noise in this process at the same time.
pub fn seeded_noise(seed: u64, shape: &[i64]) -> Tensor {
    // A panic while drawing leaves no state behind that the next seeding does not replace.
    let _exclusive = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    // Python takes seeds up to 2^64 − 1 and reinterprets negative ones the same way.
    tch::manual_seed(seed as i64);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_noise_beside_another_thread() {
        let alone = seeded_noise(42, &[1, 4, 3, 5, 7]);
        let other = std::thread::spawn(|| {
            for seed in 0..200 {
                let _ = seeded_noise(seed, &[64]);
            }
        });
        for _ in 0..200 {
            assert_eq!(seeded_noise(42, &[1, 4, 3, 5, 7]), alone);
        }
        other.join().expect("the other thread only draws noise");
        assert_ne!(seeded_noise(43, &[1, 4, 3, 5, 7]), alone);
    }

    #[test]
    fn noise_is_that_of_python_torch() {
        // torch.randn(3, generator=torch.Generator("cpu").manual_seed(0)) of torch 2.11
        let expected = [1.540_996_1, -0.293_428_9, -2.178_789_4];
        for (got, want) in
            Vec::<f32>::try_from(seeded_noise(0, &[3])).expect("three floats").iter().zip(expected)
        {
            assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        }
    }
}
