//! libtorch's own tensors in this memory.

use tch::{Device, Kind, Tensor};

#[test]
fn tensors_live_here_and_results_are_the_same() {
    let options = (Kind::Float, Device::Cpu);
    let before = Tensor::arange(1 << 20, options);
    sora_memory::install();
    assert_eq!(sora_memory::held(), (0, 0), "tensors that were there keep their memory");

    let after = Tensor::arange(1 << 20, options);
    let (used, _) = sora_memory::held();
    assert!((4 << 20..5 << 20).contains(&used), "{used} bytes");
    assert!(after.equal(&before));
    assert_eq!(after.data_ptr() as usize % 64, 0);

    // Grown in place, freed by another thread, and empty ones.
    let mut grown = after.shallow_clone();
    let _ = grown.resize_([3 << 20]);
    assert!(grown.narrow(0, 0, 1 << 20).equal(&before));
    std::thread::spawn(move || drop((grown, after))).join().expect("freed");
    let (used, kept) = sora_memory::held();
    assert_eq!(used, 0);
    assert!(kept > 0, "freed pieces are kept for the next");
    assert_eq!(Tensor::zeros([0], options).numel(), 0);
    sora_memory::trim();
    assert_eq!(sora_memory::held(), (0, 0));
    drop(before);

    // More than there is, in words that the engine knows.
    let error = Tensor::f_empty([1 << 48], options).expect_err("a petabyte is too much").to_string();
    assert!(error.contains("can't allocate memory: you tried to allocate 1125899906842624 bytes"), "{error}");
}
