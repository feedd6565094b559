//! What the tests across crates share: where the built things are, small models to break, pipelines
//! that are run and watched.

mod model;
mod run;

use std::path::{Path, PathBuf};
use std::sync::Once;

pub use model::Model;
pub use run::{Playing, Report, play, run};

/// Long enough for anything that is not stuck, also on a busy machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Starts GStreamer with the plugins inside the test program and the engine that cargo built beside
/// it. From then on a GLib warning or critical ends the program.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the first thing that every test does; nothing else runs that reads variables.
        unsafe {
            if cfg!(feature = "engine") {
                std::env::set_var("SORA_ENGINE", built("libsoraengine.so"));
            }
            // Cargo sets it from the workspace's config; a debugger does not.
            if std::env::var_os("LIBTORCH").is_none() {
                std::env::set_var("LIBTORCH", root().join("third_party/libtorch"));
            }
            std::env::remove_var("GST_PLUGIN_PATH");
            std::env::remove_var("SORA_WATERMARK_KEY");
            std::env::remove_var("SORA_SIGN_CHAIN");
            std::env::remove_var("SORA_SIGN_KEY");
        }
        gst::init().expect("GStreamer starts");
        gstsora::plugin_register_static().expect("the plugin registers");
        gstsoraprovenance::plugin_register_static().expect("the plugin registers");
        let fatal = gst::glib::LogLevels::LEVEL_WARNING | gst::glib::LogLevels::LEVEL_CRITICAL;
        gst::glib::log_set_always_fatal(fatal);
    });
}

/// A shared library of this workspace, as cargo built it for the running test.
pub fn built(library: &str) -> PathBuf {
    let program = std::env::current_exe().expect("the test is a file");
    let folder = program.parent().expect("in a folder");
    let file = folder.join(library);
    assert!(file.is_file(), "{} is built with the tests", file.display());
    file
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root")
}

/// The parity fixtures.
pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}
