//! How often a probe is right.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::augment::Batch;
use super::clips::Clips;
use super::network::Probe;
use super::questions::Question;

/// Right answers to one question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// How many were right.
    pub(crate) right: u64,
    /// How many there were.
    pub(crate) of: u64,
}

impl Tally {
    /// Counts one answer.
    pub(crate) fn count(&mut self, right: bool) {
        self.right += u64::from(right);
        self.of += 1;
    }

    /// Share of right answers; not a number where nothing was asked.
    pub(crate) fn share(self) -> f64 {
        self.right as f64 / self.of as f64
    }
}

/// One tally per question, and what was taken for what.
#[derive(Default)]
pub(crate) struct Accuracy {
    pub(crate) tallies: [Tally; Question::ALL.len()],
    /// (question, truth, answer) of every error.
    errors: Vec<(usize, i64, i64)>,
}

/// Clips per pass: bounds memory.
pub(crate) const CHUNK: usize = 20;

/// Asks the probe about clips with known answers.
pub(crate) fn measure(probe: &Probe, clips: &Clips, rows: &[i64]) -> Accuracy {
    let _no_grad = tch::no_grad_guard();
    let mut accuracy = Accuracy::default();
    for rows in rows.chunks(CHUNK) {
        let batch = Batch::plain(&clips.select(rows));
        accuracy.count(probe, &batch.video, &batch.labels);
    }
    accuracy
}

fn list(t: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(t).expect("a list of numbers")
}

impl Accuracy {
    /// Asks about one batch; `labels` `[B, questions]`, −1 where there is no answer.
    pub(crate) fn count(&mut self, probe: &Probe, video: &Tensor, labels: &Tensor) {
        let reading = probe.forward(video);
        for (q, logits) in reading.answers.iter().enumerate() {
            let answers = list(&logits.argmax(-1, false));
            let truths = list(&labels.select(1, q as i64));
            for (answer, truth) in answers.into_iter().zip(truths).filter(|(_, truth)| *truth >= 0) {
                self.tallies[q].count(answer == truth);
                if answer != truth {
                    self.errors.push((q, truth, answer));
                }
            }
        }
    }

    /// "subject 98.0 % colour 99.1 % …"
    pub(crate) fn line(&self) -> String {
        let part = |(q, tally): (&Question, &Tally)| format!("{} {:.1}", q.name(), 100.0 * tally.share());
        let parts: Vec<String> = Question::ALL.iter().zip(&self.tallies).map(part).collect();
        parts.join(", ") + " %"
    }

    /// The most frequent errors: "motion: floats taken for stands 3×".
    pub(crate) fn confusions(&self, most: usize) -> Vec<String> {
        let mut counts = std::collections::BTreeMap::new();
        for error in &self.errors {
            *counts.entry(error).or_insert(0u32) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let line = |((q, truth, answer), count): (&(usize, i64, i64), u32)| {
            let question = Question::ALL[*q];
            let word = |class: i64| question.word(class as usize);
            format!("{}: {} taken for {} {count}×", question.name(), word(*truth), word(*answer))
        };
        counts.into_iter().take(most).map(line).collect()
    }
}
