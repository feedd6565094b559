//! A run folder: what was asked, what came of it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use sora_diffusion::device::DeviceChoice;
use sora_diffusion::models::transformer_wan;
use tch::{Device, Kind};

use crate::checkpoint::write_whole;

/// The tables of a run. The first cell of a row is the step that it belongs to.
const TABLES: [&str; 3] = ["loss.csv", "validation.csv", "judged.csv"];

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
        let values: Vec<String> = values.iter().map(|v| format!("{v}")).collect();
        let mut line = values.join(",") + "\n";
        if !path.exists() {
            line = format!("{header}\n{line}");
        }
        let append = || OpenOptions::new().create(true).append(true).open(&path)?.write_all(line.as_bytes());
        append().with_context(|| format!("table {}", path.display()))
    }

    /// Drops the rows of steps after the first `done` from the tables: a run that was stopped between two
    /// checkpoints takes those steps again, and writes their rows again.
    pub(crate) fn drop_rows_after(&self, done: u64) -> anyhow::Result<()> {
        for name in TABLES {
            let path = self.file(name);
            let context = || format!("table {}", path.display());
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                text => text.with_context(context)?,
            };
            let kept = rows_up_to(&text, done);
            if kept.is_empty() {
                fs::remove_file(&path).with_context(context)?;
            } else if kept != text {
                write_whole(&path, |p| Ok(fs::write(p, kept)?))?;
            }
        }
        Ok(())
    }
}

/// The header of a table and its rows of the first `done` steps; nothing where the header itself is only half
/// written.
fn rows_up_to(table: &str, done: u64) -> String {
    let whole = |line: &&str| line.ends_with('\n');
    let mut lines = table.split_inclusive('\n');
    let Some(header) = lines.next().filter(whole) else { return String::new() };
    let is_done = |line: &&str| {
        let step = line.split(',').next().and_then(|cell| cell.parse::<u64>().ok());
        step.is_some_and(|step| step <= done)
    };
    let rows = lines.filter(whole).filter(is_done);
    std::iter::once(header).chain(rows).collect()
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

/// A whole number of the command line that is not 0: steps between checkpoints, clips per step.
pub(crate) fn at_least_one<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| format!("{text} is not a whole number from 1 on"))
}

/// A peak learning rate of the command line.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{text} is not a finite number above 0"))
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
        anyhow::ensure!(batch > 0, "batch is 0, it must be at least 1");
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

    #[test]
    fn rows_of_steps_that_are_taken_again_are_dropped() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = Run::create(dir.path(), None).expect("a run");
        for step in 1..=5 {
            run.log("step,loss", &[f64::from(step), 0.5]).expect("a row");
        }
        run.log_to("validation.csv", "step,flop,loss", &[2.0, 1e9, 0.5]).expect("a row");
        run.log_to("validation.csv", "step,flop,loss", &[4.0, 2e9, 0.5]).expect("a row");
        run.log_to("others.csv", "x,y", &[9.0, 1.0]).expect("a row");
        run.drop_rows_after(3).expect("dropped");
        let read = |name: &str| fs::read_to_string(run.file(name)).expect(name);
        assert_eq!(read("loss.csv"), "step,loss\n1,0.5\n2,0.5\n3,0.5\n");
        assert_eq!(read("validation.csv"), "step,flop,loss\n2,1000000000,0.5\n");
        assert_eq!(read("others.csv"), "x,y\n9,1\n", "it is no table of steps");
        // A row that is half written must not look like one of an early step.
        fs::write(run.file("loss.csv"), "step,loss\n1,0.5\n2").expect("written");
        run.drop_rows_after(3).expect("dropped");
        assert_eq!(read("loss.csv"), "step,loss\n1,0.5\n");
        fs::write(run.file("loss.csv"), "step,lo").expect("written");
        run.drop_rows_after(3).expect("dropped");
        run.log("step,loss", &[1.0, 0.5]).expect("a row");
        assert_eq!(read("loss.csv"), "step,loss\n1,0.5\n");
    }

    #[test]
    fn a_table_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let run = Run::create(dir.path(), None).expect("a run");
        fs::create_dir(run.file("loss.csv")).expect("a folder in its place");
        let error = run.log("step,loss", &[1.0, 0.5]).expect_err("it is a folder");
        assert!(error.to_string().contains("loss.csv"), "{error}");
    }

    #[test]
    fn numbers_that_nothing_can_be_trained_with_are_refused() {
        assert_eq!(at_least_one::<u64>("1"), Ok(1));
        assert_eq!(rate("1e-4"), Ok(1e-4));
        for text in ["0", "-1", "", "x", "1.5"] {
            let said = at_least_one::<u64>(text).expect_err(text);
            assert!(said.starts_with(&format!("{text} is not")) && said.contains('1'), "{said}");
        }
        for text in ["0", "-1e-3", "NaN", "inf", "x"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
