//! A run folder: what was asked, what came of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sora_diffusion::device::DeviceChoice;
use sora_diffusion::models::transformer_wan;
use tch::{Device, Kind};

/// The folder of one training stage.
pub(crate) struct Run {
    dir: PathBuf,
}

impl Run {
    /// Makes the folder and notes the command, and the seed, which may be one that it does not name.
    pub(crate) fn create(dir: &Path, seed: Option<u64>) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("run folder {}", dir.display()))?;
        let run = Self { dir: dir.into() };
        run.note_command(seed).with_context(|| format!("run folder {} is not writable", dir.display()))?;
        Ok(run)
    }

    /// Notes the command in a folder that is there, as a shell takes it.
    pub(crate) fn note(dir: &Path) -> anyhow::Result<()> {
        let run = Self { dir: dir.into() };
        run.note_command(None).with_context(|| format!("run folder {}", dir.display()))
    }

    fn note_command(&self, seed: Option<u64>) -> anyhow::Result<()> {
        let mut log = OpenOptions::new().create(true).append(true).open(self.file("command.txt"))?;
        let words: Vec<String> = std::env::args().map(|word| quoted(&word)).collect();
        let seed = seed.map_or(String::new(), |seed| format!(" # seed {seed}"));
        writeln!(log, "{}{seed}", words.join(" "))?;
        Ok(())
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The checkpoint of the stage.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint.safetensors")
    }

    /// A file in the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Appends one line of figures to `loss.csv`.
    pub(crate) fn log(&self, header: &str, values: &[f64]) -> anyhow::Result<()> {
        self.log_to("loss.csv", header, values)
    }

    /// Appends one line of figures to a table, which begins with `header`.
    pub(crate) fn log_to(&self, name: &str, header: &str, values: &[f64]) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        let fresh = !path.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if fresh {
            writeln!(file, "{header}")?;
        }
        let line: Vec<String> = values.iter().map(|v| format!("{v}")).collect();
        writeln!(file, "{}", line.join(","))?;
        Ok(())
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Options of what computes.
#[derive(clap::Args)]
pub(crate) struct Compute {
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of one operation.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=1024))]
    pub(crate) threads: i32,
}

impl Compute {
    /// [`Self::begin`] for what the inference engine computes.
    pub(crate) fn choose(&self) -> anyhow::Result<DeviceChoice> {
        // A device that is not there is named before anything is loaded.
        self.begin()?;
        device_choice(&self.device)
    }

    /// Has operations of this thread take as many threads as asked for. Returns where to compute.
    pub(crate) fn begin(&self) -> anyhow::Result<Device> {
        tch::set_num_threads(self.threads);
        Ok(device_choice(&self.device)?.resolve()?)
    }
}

/// Options of a training whose batches are shared out.
#[derive(clap::Args)]
pub(crate) struct Sharing {
    /// Number format of the arithmetic.
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// Threads that each take a share of the batch; on a CPU better than threads within an operation.
    #[arg(long, default_value_t = 1)]
    pub(crate) replicas: usize,
}

impl Sharing {
    /// Fails if a batch cannot be shared out equally.
    pub(crate) fn check(&self, batch: usize) -> anyhow::Result<()> {
        let replicas = self.replicas;
        anyhow::ensure!(
            replicas > 0 && batch.is_multiple_of(replicas),
            "batch is {batch}, it must be a multiple of the {replicas} replicas"
        );
        Ok(())
    }
}

/// `cpu` or `cuda:N`.
fn device_choice(name: &str) -> anyhow::Result<DeviceChoice> {
    Ok(match name {
        "cpu" => DeviceChoice::Cpu,
        "cuda" => DeviceChoice::Cuda(0),
        other => {
            let index = other.strip_prefix("cuda:").and_then(|n| n.parse().ok());
            DeviceChoice::Cuda(index.with_context(|| format!("device is {other}, it must be cpu or cuda:N"))?)
        }
    })
}

/// Number format of the arithmetic; parameters, their average and the optimizer are in f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16, but for the modules that the reference keeps in f32.
    Bf16,
}

impl Dtype {
    /// The format of large parameters and of what is computed with them.
    pub(crate) fn large(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// The format of a transformer's or text encoder's parameter.
    pub(crate) fn kind(self, parameter: &str) -> Kind {
        let keep = transformer_wan::KEEP_IN_F32.iter().any(|part| parameter.contains(part));
        if self == Self::F32 || keep { Kind::Float } else { Kind::BFloat16 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_was_noted_is_read_back_by_a_shell() {
        let words = ["--run", "runs/a b", "it's", "$HOME", "", "--size", "64x64x5", "a*", "\\"];
        let line = words.map(quoted).join(" ");
        let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let read = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), words, "{line}");
        assert!(line.starts_with("--run 'runs/a b'"), "what needs no quotes has none: {line}");
    }
}
