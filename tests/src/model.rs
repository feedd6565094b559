//! A tiny model in a folder of its own, to be used and to be broken.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A copy of `tests/fixtures/tiny-wan21` whose own size is small: 48x32, 5 frames, 8 per second, 2
/// steps, no guidance.
pub struct Model {
    folder: TempDir,
}

impl Model {
    /// A copy that works.
    #[expect(clippy::new_without_default, reason = "it copies files")]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy(&crate::fixtures().join("tiny-wan21"), folder.path());
        let model = Self { folder };
        model.write(
            "sora.json",
            r#"{"width": 48, "height": 32, "num_frames": 5, "frame_rate": [8, 1],
                "num_inference_steps": 2, "guidance_scale": 1.0}"#,
        );
        model
    }

    /// The model directory.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the model.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces a file.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.file(name), contents).expect("the temporary folder can be written");
    }

    /// Takes a file away.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("the file is there");
    }

    /// Replaces a piece of text in a file, which must be there once.
    pub fn replace(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.file(name)).expect("the file is text");
        assert_eq!(text.matches(old).count(), 1, "{old} in {name}");
        self.write(name, text.replace(old, new));
    }

    /// The beginning of a pipeline: the element with this model and `settings`. In f32, so that frames can be compared
    /// on every machine.
    pub fn soragen(&self, settings: &str) -> String {
        format!("soragen name=src model-path=\"{}\" device=cpu dtype=f32 {settings}", self.path().display())
    }

    /// The element that restyles, with this model and `settings`; called `transform`.
    pub fn soratransform(&self, settings: &str) -> String {
        format!(
            "soratransform name=transform model-path=\"{}\" device=cpu dtype=f32 seed=1 {settings}",
            self.path().display()
        )
    }

    /// The element that merges, with this model and `settings`; called `merge`.
    pub fn soramerge(&self, settings: &str) -> String {
        format!(
            "soramerge name=merge model-path=\"{}\" device=cpu dtype=f32 seed=1 {settings}",
            self.path().display()
        )
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the temporary folder can be written");
    for entry in fs::read_dir(from).expect("the fixtures are there") {
        let entry = entry.expect("the fixtures can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the temporary folder can be written");
        }
    }
}
