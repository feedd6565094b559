//! A trained probe at work on clips of any size and length.

use std::path::Path;

use anyhow::ensure;
use tch::{Device, Kind, Tensor};

use crate::probe::clips::shrink;
use crate::probe::file::{self, Card};
use crate::probe::network::{Probe, Reading, WINDOW};
use crate::probe::questions::Question;

/// A probe and what is known of it.
pub(crate) struct Reader {
    probe: Probe,
    pub(crate) card: Card,
}

/// What a clip shows.
pub(crate) struct Read {
    /// Per question of [`Question::ALL`].
    pub(crate) answers: [usize; Question::ALL.len()],
    /// `[feature]`
    pub(crate) feature: Tensor,
}

impl Read {
    /// The answer to one question.
    pub(crate) fn answer(&self, question: Question) -> usize {
        self.answers[question as usize]
    }
}

impl Reader {
    /// Opens a probe's folder.
    ///
    /// # Errors
    /// Those of [`file::open`].
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let (probe, card) = file::open(dir, Device::Cpu)?;
        Ok(Self { probe, card })
    }

    /// What the network makes of one clip `[3, T, H, W]` in −1…1, at least two frames.
    pub(crate) fn reading(&self, video: &Tensor) -> anyhow::Result<Reading> {
        let t = video.size()[1];
        ensure!(t >= 2, "the clip has {t} frames, a probe reads at least 2");
        let _no_grad = tch::no_grad_guard();
        Ok(self.probe.forward(&shrink(&video.transpose(0, 1)).unsqueeze(0)))
    }

    /// Reads a clip `[3, T, H, W]` in −1…1: windows of 17 frames after each other, which share their last and
    /// first frames; what they say is added up.
    ///
    /// # Errors
    /// If it has fewer than two frames.
    pub(crate) fn read(&self, video: &Tensor) -> anyhow::Result<Read> {
        let t = video.size()[1];
        let window = WINDOW as i64;
        let starts: Vec<i64> =
            if t < window { vec![0] } else { (0..=t - window).step_by(WINDOW - 1).collect() };
        let mut sums: Option<(Vec<Tensor>, Tensor)> = None;
        for &start in &starts {
            let reading = self.reading(&video.narrow(1, start, window.min(t)))?;
            let answers: Vec<Tensor> =
                reading.answers.iter().map(|logits| logits.log_softmax(-1, Kind::Float)).collect();
            sums = Some(match sums {
                None => (answers, reading.feature),
                Some((so_far, feature)) => {
                    (so_far.iter().zip(&answers).map(|(a, b)| a + b).collect(), feature + reading.feature)
                }
            });
        }
        let (answers, feature) = sums.ok_or_else(|| anyhow::anyhow!("the clip is empty"))?;
        Ok(Read {
            answers: std::array::from_fn(|q| answers[q].argmax(-1, false).int64_value(&[0]) as usize),
            feature: feature.squeeze_dim(0) / starts.len() as f64,
        })
    }
}
