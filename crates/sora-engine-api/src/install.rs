//! Where things are, seen from the shared object that holds this code.

use std::ffi::{CStr, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The places of one installation.
///
/// `<prefix>/lib/gstreamer-1.0/libgstsora.so` has its engine at `<prefix>/lib/libsoraengine.so`,
/// its libtorch in `<prefix>/lib/libtorch` (a folder or a link to one) or in `<prefix>/lib`, and
/// its models in `<prefix>/share/sora/models`. Where the system has a folder per architecture
/// (`<prefix>/lib/x86_64-linux-gnu/gstreamer-1.0`), the same holds with that folder for `lib`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Folder of shared libraries: two above the plugin.
    pub libdir: PathBuf,
    /// What `lib` and `share` are in.
    pub prefix: PathBuf,
}

impl Install {
    /// The installation that the running code belongs to; `None` if the dynamic linker does not
    /// say which file it came from.
    pub fn of_this_code() -> Option<Self> {
        let file = this_object()?;
        // A plugin folder may hold links into the real installation.
        Self::of_plugin(&file.canonicalize().unwrap_or(file))
    }

    /// The installation that a plugin file belongs to.
    pub fn of_plugin(file: &Path) -> Option<Self> {
        let libdir = file.parent()?.parent()?;
        let above = libdir.parent()?;
        let multiarch = above.file_name().is_some_and(|name| name == "lib");
        let prefix = if multiarch { above.parent()? } else { above };
        Some(Self { libdir: libdir.into(), prefix: prefix.into() })
    }

    /// Folder of the models that come with the installation.
    pub fn models(&self) -> PathBuf {
        self.prefix.join("share/sora/models")
    }

    /// Where the engine would be.
    pub(crate) fn engine(&self) -> PathBuf {
        self.libdir.join("libsoraengine.so")
    }

    /// Where libtorch would be, best place first.
    pub(crate) fn libtorch(&self) -> [PathBuf; 2] {
        [self.libdir.join("libtorch"), self.libdir.clone()]
    }
}

/// The shared object (or program) that this function was linked into.
fn this_object() -> Option<PathBuf> {
    let address = this_object as *const c_void;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr only reads the address and fills `info`, which is large enough.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) } != 0;
    // SAFETY: zeroed is a valid Dl_info, and dladdr left it so or filled it.
    let info = unsafe { info.assume_init() };
    if !found || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr gives a NUL-terminated path that lives as long as the object is loaded.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_plugin_finds_its_prefix() {
        let install = Install::of_plugin(Path::new("/opt/sora/lib/gstreamer-1.0/libgstsora.so"));
        let install = install.expect("three folders above the file");
        assert_eq!(install.prefix, Path::new("/opt/sora"));
        assert_eq!(install.engine(), Path::new("/opt/sora/lib/libsoraengine.so"));
        assert_eq!(install.libtorch()[0], Path::new("/opt/sora/lib/libtorch"));
        assert_eq!(install.models(), Path::new("/opt/sora/share/sora/models"));
    }

    #[test]
    fn a_system_plugin_in_a_folder_per_architecture_finds_its_prefix() {
        let file = Path::new("/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstsora.so");
        let install = Install::of_plugin(file).expect("three folders above the file");
        assert_eq!(install.libdir, Path::new("/usr/lib/x86_64-linux-gnu"));
        assert_eq!(install.prefix, Path::new("/usr"));
    }

    #[test]
    fn this_code_is_in_a_file() {
        assert!(this_object().expect("the test program is a file").is_file());
    }
}
