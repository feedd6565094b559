//! Compiles the few lines of C++ through which a device's streams are reached, and lets this package's tests find
//! libtorch without LD_LIBRARY_PATH.

use std::path::{Path, PathBuf};

fn compile(include: &Path, file: &str, name: &str) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(include)
        // Warnings in libtorch's own headers are not ours to mend.
        .warnings(false)
        .file(file)
        .compile(name);
    println!("cargo:rerun-if-changed={file}");
}

fn main() {
    // torch-sys tells where it found libtorch. The file may be a link into a Python environment, and the
    // libraries look for their own neighbours beside the real file.
    let lib = PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys is a dependency"));
    let include = lib.parent().map(|root| root.join("include")).expect("libtorch's lib/ lies in a folder");
    compile(&include, "src/side_stream/streams.cpp", "sora_side_stream");
    // For tests; where nobody asks for it, nothing of it is linked.
    compile(&include, "src/side_stream/recording.cpp", "sora_side_stream_recording");
    let real = lib.join("libtorch_cpu.so").canonicalize().ok();
    let dir = real.as_deref().and_then(std::path::Path::parent).unwrap_or(&lib);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", dir.display());
    println!("cargo:rerun-if-changed=build.rs");
}
