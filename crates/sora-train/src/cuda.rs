//! libtorch's part for CUDA, which the trainer is not linked to: one build serves machines with and without it.
//!
//! libtorch looks for it once in a process, at its first use, so it is opened before anything else happens. It lies beside
//! the `libtorch_cpu.so` that the trainer is linked to, where that is the libtorch of a Python with CUDA (`scripts/setup`).

use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

const CPU: &str = "libtorch_cpu.so";
const CUDA: &str = "libtorch_cuda.so";

/// Opens it, if the command line asks for a CUDA device and there is a driver. Who asks for one that is not there is told
/// so when the device is resolved; a library that is there and cannot be opened is told at once.
pub(crate) fn load_if_asked(arguments: impl Iterator<Item = String>) {
    if !asked(arguments) || open(Path::new("libcuda.so.1")).is_err() {
        return;
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    match beside(&maps).filter(|path| path.is_file()) {
        Some(path) => {
            if let Err(error) = open(&path) {
                eprintln!("{} cannot be opened: {error}", path.display());
            }
        }
        None => eprintln!(
            "the libtorch that sora-train is linked to has no {CUDA}: it was made for CPUs (scripts/setup)"
        ),
    }
}

/// Whether the value of `--device` begins with "cuda".
fn asked(arguments: impl Iterator<Item = String>) -> bool {
    let mut before = String::new();
    for argument in arguments {
        let value = argument.strip_prefix("--device=").or((before == "--device").then_some(&argument));
        if value.is_some_and(|value| value.starts_with("cuda")) {
            return true;
        }
        before = argument;
    }
    false
}

/// The place of the CUDA part, by what a process has mapped.
fn beside(maps: &str) -> Option<PathBuf> {
    // Address, rights, offset, device and inode stand before the path.
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let cpu = paths.into_iter().find(|path| path.file_name().is_some_and(|name| name == CPU))?;
    Some(cpu.with_file_name(CUDA))
}

/// Opens a library for good.
fn open(path: &Path) -> Result<(), libloading::Error> {
    // SAFETY: runs the initialisers of libtorch and of the driver.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(std::mem::forget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cuda_device_asks_for_it() {
        for (line, wanted) in [
            ("sora-train vae --device cuda:0 --run r", true),
            ("sora-train vae --device=cuda", true),
            ("sora-train vae --device cpu", false),
            ("sora-train vae --run cuda", false),
            ("sora-train vae --run r --device", false),
        ] {
            assert_eq!(asked(line.split(' ').map(str::to_owned)), wanted, "{line}");
        }
    }

    #[test]
    fn it_lies_beside_the_library_that_is_linked() {
        let maps = "7f00-7f10 r--p 00000000 fe:00 1  /usr/lib/libc.so.6\n\
                    7f10-7f20 r-xp 00000000 fe:00 2  /a place/torch/lib/libtorch_cpu.so\n7f20-7f30 rw-p 0 00:00 0 \n";
        assert_eq!(beside(maps), Some("/a place/torch/lib/libtorch_cuda.so".into()));
        assert_eq!(beside(&maps.replace("torch_cpu", "other")), None);
        // As it is in this very process, which is linked to libtorch.
        let own = std::fs::read_to_string("/proc/self/maps").expect("Linux tells");
        assert!(tch::get_num_threads() > 0);
        let found = beside(&own).expect("libtorch is linked");
        assert!(found.with_file_name(CPU).is_file(), "{found:?}");
    }
}
