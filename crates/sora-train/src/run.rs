//! A run folder: what was asked, what came of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sora_diffusion::models::transformer_wan;
use tch::{Device, Kind};

/// The folder of one training stage.
pub(crate) struct Run {
    dir: PathBuf,
}

impl Run {
    /// Makes the folder and notes the command.
    pub(crate) fn create(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("run folder {}", dir.display()))?;
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("command.txt"))
            .with_context(|| format!("run folder {} is not writable", dir.display()))?;
        let command: Vec<String> = std::env::args().collect();
        writeln!(log, "{}", command.join(" "))?;
        Ok(Self { dir: dir.into() })
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
    /// Has operations of this thread take as many threads as asked for. Returns where to compute.
    pub(crate) fn begin(&self) -> anyhow::Result<Device> {
        tch::set_num_threads(self.threads);
        device(&self.device)
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
pub(crate) fn device(name: &str) -> anyhow::Result<Device> {
    use sora_diffusion::device::DeviceChoice;
    let choice = match name {
        "cpu" => DeviceChoice::Cpu,
        "cuda" => DeviceChoice::Cuda(0),
        other => {
            let index = other.strip_prefix("cuda:").and_then(|n| n.parse().ok());
            DeviceChoice::Cuda(index.with_context(|| format!("device is {other}, it must be cpu or cuda:N"))?)
        }
    };
    Ok(choice.resolve()?)
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
