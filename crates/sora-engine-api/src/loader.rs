//! Finding and opening libtorch and the engine.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::abi::{ABI_VERSION, ENTRY_POINT, EngineTable, EntryPoint};
use crate::error::EngineError;
use crate::install::Install;

/// What became of CUDA when the engine was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cuda {
    /// libtorch's CUDA half is loaded.
    Loaded,
    /// The machine has no NVIDIA driver (`libcuda.so.1`), so nothing was tried.
    NoDriver,
    /// There is a driver, but this libtorch was installed without its CUDA half.
    NoLibrary,
    /// The CUDA half is there and could not be opened.
    Failed(String),
}

/// The opened engine. It stays open until the process ends: libtorch starts threads and registers
/// destructors, and closing it while they live is not possible.
#[derive(Debug)]
pub struct Engine {
    pub(crate) table: &'static EngineTable,
    cuda: Cuda,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

impl Engine {
    /// Whether engine and libtorch are where [`Engine::open`] looks. Opens nothing.
    ///
    /// # Errors
    /// [`EngineError::LibtorchNotFound`], [`EngineError::EngineNotFound`].
    pub fn find() -> Result<(), EngineError> {
        if ENGINE.get().is_none() {
            let places = Places::from_environment();
            places.find_libtorch()?;
            places.find_engine()?;
        }
        Ok(())
    }

    /// The engine of this process; the first call opens it, which takes about 0.2 s.
    ///
    /// libtorch is taken from the first of `$SORA_LIBTORCH` (if set, only from there),
    /// `$LIBTORCH`, `<prefix>/lib/libtorch` and `<prefix>/lib`; the engine from `$SORA_ENGINE` (if
    /// set, only from there) or `<prefix>/lib/libsoraengine.so`. A failure is not remembered: the
    /// next call tries again.
    ///
    /// Sets `GOMP_SPINCOUNT=10000` unless that or `OMP_WAIT_POLICY` is set: OpenMP threads that spin for long
    /// while they wait take the cores from the encoder that runs beside them, and threads that do not spin
    /// at all are too slow to wake for the short operations of a small model.
    ///
    /// # Errors
    /// [`EngineError::LibtorchNotFound`], [`EngineError::EngineNotFound`], [`EngineError::Open`],
    /// [`EngineError::WrongAbi`].
    pub fn open() -> Result<&'static Self, EngineError> {
        static OPENING: Mutex<()> = Mutex::new(());
        // The lock guards no data, only the order of opening.
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = ENGINE.get() {
            return Ok(engine);
        }
        let engine = open(&Places::from_environment())?;
        Ok(ENGINE.get_or_init(|| engine))
    }

    /// Whether CUDA can be used, and why not.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }
}

/// Whether the machine has an NVIDIA driver. Loads no torch.
pub fn cuda_driver_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| open_library(Path::new("libcuda.so.1")).is_ok())
}

/// Where to look, best place first.
struct Places {
    libtorch: Vec<PathBuf>,
    engine: Vec<PathBuf>,
}

impl Places {
    fn from_environment() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        Self::new(set("SORA_LIBTORCH"), set("LIBTORCH"), set("SORA_ENGINE"), Install::of_this_code())
    }

    /// A variable of ours is an order; `$LIBTORCH` is other people's too, so only a hint.
    fn new(
        sora_libtorch: Option<OsString>,
        libtorch: Option<OsString>,
        sora_engine: Option<OsString>,
        install: Option<Install>,
    ) -> Self {
        let libtorch = match sora_libtorch {
            Some(dir) => vec![dir.into()],
            None => {
                let hint = libtorch.map(|dir| PathBuf::from(dir).join("lib"));
                let beside = install.iter().flat_map(Install::libtorch);
                hint.into_iter().chain(beside).collect()
            }
        };
        let engine = match sora_engine {
            Some(file) => vec![file.into()],
            None => install.iter().map(Install::engine).collect(),
        };
        Self { libtorch, engine }
    }

    /// The folder with libtorch's libraries. A place may be that folder or the one above it.
    fn find_libtorch(&self) -> Result<PathBuf, EngineError> {
        let folders = self.libtorch.iter().flat_map(|place| [place.clone(), place.join("lib")]);
        folders
            .into_iter()
            .find(|folder| folder.join(TORCH_CPU).is_file())
            .ok_or_else(|| EngineError::LibtorchNotFound { tried: self.libtorch.clone() })
    }

    fn find_engine(&self) -> Result<PathBuf, EngineError> {
        let found = self.engine.iter().find(|file| file.is_file());
        found.cloned().ok_or_else(|| EngineError::EngineNotFound { tried: self.engine.clone() })
    }
}

const TORCH_CPU: &str = "libtorch_cpu.so";
const TORCH_CUDA: &str = "libtorch_cuda.so";

fn open(places: &Places) -> Result<Engine, EngineError> {
    // Both are looked for before anything is opened: what is opened cannot be closed again.
    let libtorch = places.find_libtorch()?;
    let engine = places.find_engine()?;

    if env::var_os("OMP_WAIT_POLICY").is_none() && env::var_os("GOMP_SPINCOUNT").is_none() {
        // SAFETY: setenv races with getenv in other threads of a C program; that is accepted here,
        // once per process, because libgomp reads its settings only while it is being loaded.
        unsafe { env::set_var("GOMP_SPINCOUNT", "10000") };
    }

    // In this order and by absolute path: a later library then finds the earlier ones by name,
    // wherever its own search path points.
    for name in ["libc10.so", TORCH_CPU] {
        open_library(&libtorch.join(name))?;
    }
    // Before any torch call: libtorch decides once per process whether it sees CUDA.
    let cuda = open_cuda(&libtorch.join(TORCH_CUDA));
    let table = open_table(&engine)?;
    tracing::info!(libtorch = %libtorch.display(), engine = %engine.display(), ?cuda, "engine opened");
    Ok(Engine { table, cuda })
}

fn open_cuda(library: &Path) -> Cuda {
    if !cuda_driver_present() {
        return Cuda::NoDriver;
    }
    if !library.is_file() {
        return Cuda::NoLibrary;
    }
    match open_library(library) {
        Ok(()) => Cuda::Loaded,
        Err(error) => Cuda::Failed(error.to_string()),
    }
}

/// Opens a library for good, keeping its symbols from the rest of the process (libtorch exports
/// tens of thousands, among them protobuf's, which other plugins must not bind to).
fn open_library(path: &Path) -> Result<(), EngineError> {
    load(path).map(std::mem::forget)
}

fn load(path: &Path) -> Result<Library, EngineError> {
    // $ORIGIN in a library's search path is the folder of the link it was opened through, so the
    // wheels' libraries only find each other by their real path.
    let real = path.canonicalize().unwrap_or_else(|_| path.into());
    // SAFETY: runs the library's initialisers; these are libtorch's, the driver's and ours.
    unsafe { Library::open(Some(&real), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|error| EngineError::Open { path: real, reason: reason(&error) })
}

/// What the dynamic linker said; `libloading` keeps it in the source of its error.
fn reason(error: &libloading::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn open_table(path: &Path) -> Result<&'static EngineTable, EngineError> {
    let library = load(path)?;
    let wrong_abi = || EngineError::WrongAbi { path: path.into(), wanted: ABI_VERSION };
    // SAFETY: the symbol of that name has that type in every engine.
    let entry = unsafe { library.get::<EntryPoint>(ENTRY_POINT.to_bytes_with_nul()) }
        .map(|symbol| *symbol)
        .map_err(|_| wrong_abi())?;
    std::mem::forget(library);
    // SAFETY: the entry point takes any version and answers with null or a table that stays.
    let table = unsafe { entry(ABI_VERSION).as_ref() }.ok_or_else(wrong_abi)?;
    if table.abi_version == ABI_VERSION { Ok(table) } else { Err(wrong_abi()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install() -> Option<Install> {
        Install::of_plugin(Path::new("/p/lib/gstreamer-1.0/libgstsora.so"))
    }

    #[test]
    fn without_variables_the_installation_is_searched() {
        let places = Places::new(None, None, None, install());
        assert_eq!(places.libtorch, [Path::new("/p/lib/libtorch"), Path::new("/p/lib")]);
        assert_eq!(places.engine, [Path::new("/p/lib/libsoraengine.so")]);
    }

    #[test]
    fn libtorch_variable_comes_before_the_installation() {
        let places = Places::new(None, Some("/torch".into()), None, install());
        assert_eq!(places.libtorch[0], Path::new("/torch/lib"));
        assert_eq!(places.libtorch.len(), 3);
    }

    #[test]
    fn our_variables_are_the_only_places() {
        let places = Places::new(Some("/a".into()), Some("/b".into()), Some("/e.so".into()), install());
        assert_eq!(places.libtorch, [Path::new("/a")]);
        assert_eq!(places.engine, [Path::new("/e.so")]);
    }

    #[test]
    fn a_missing_libtorch_says_what_to_do_and_where_it_was_looked_for() {
        let places = Places::new(Some("/nowhere/torch".into()), None, None, install());
        let text = open(&places).expect_err("the folder does not exist").to_string();
        for part in ["scripts/setup", "LIBTORCH", "/nowhere/torch"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_with_the_linkers_reason() {
        let file = std::env::temp_dir().join(format!("sora-not-a-library-{}", std::process::id()));
        std::fs::write(&file, "text").expect("the temporary folder can be written");
        let error = open_table(&file).expect_err("text is no library");
        std::fs::remove_file(&file).expect("just written");
        assert!(matches!(&error, EngineError::Open { reason, .. } if !reason.is_empty()), "{error}");
    }
}
