//! What a judge misses in latents that were drawn for a prompt.

use tch::{Kind, Tensor};

use super::Judge;
use crate::latents::Statistics;
use crate::probe::network::Reading;
use crate::probe::questions::Question;
use crate::probe::{frame_labels, surprise};

/// −ln of the probability up to which the judge goes on complaining: 0.86. Pressed further, a generator learns the
/// judge's blind spots.
const CONTENT: f64 = 0.15;
/// What the answers of single frames weigh beside those of the clip.
const FRAMES: f64 = 0.3;
/// Latent frames of the clips that the judge knows.
const CLIP: i64 = 5;
/// What every moment of a stream shows.
const LASTING: [Question; 5] =
    [Question::Subject, Question::Colour, Question::Ground, Question::Sky, Question::Style];

/// What the known answers lack to content the judge, in nats, divided by the number of all: what few prompts name
/// weighs as little as it is asked for.
fn missed(logits: &Tensor, labels: &Tensor) -> Tensor {
    let (surprise, known) = surprise(logits, labels);
    ((surprise - CONTENT).clamp_min(0.0) * known).mean(Kind::Float)
}

impl Judge {
    fn read(&self, latents: &Tensor, statistics: &Statistics) -> Reading {
        let ((mean, std), (my_mean, my_std)) = (statistics.tensors(), self.statistics.tensors());
        let on = |t: Tensor| t.to_device(latents.device());
        let (scale, shift) = (on(&std / &my_std), on((mean - my_mean) / my_std));
        let seen = latents.to_kind(Kind::Float) * scale + shift;
        self.probe.forward(&seen.transpose(1, 2).contiguous())
    }

    /// What every frame answers by itself, of the questions that the judge may be asked.
    fn frame_answers<'a>(&self, reading: &'a Reading) -> impl Iterator<Item = (Question, &'a Tensor)> {
        let answers =
            [(Question::Subject, &reading.frame_subject), (Question::Colour, &reading.frame_colour)];
        answers.into_iter().filter(|(question, _)| self.trusted.contains(question))
    }

    /// What clips `[B, C, F, h, w]`, normalised by `statistics`, miss of what their prompts name (`[B, questions]`, −1 for
    /// what they do not), in nats: a sum over the questions.
    pub(crate) fn complaint(&self, latents: &Tensor, named: &Tensor, statistics: &Statistics) -> Tensor {
        let reading = self.read(latents, statistics);
        let mut sum = Tensor::zeros([], (Kind::Float, latents.device()));
        for &question in self.trusted() {
            sum += missed(&reading.answers[question as usize], &named.select(1, question as i64));
        }
        let maps = reading.maps.sigmoid().detach();
        for (question, logits) in self.frame_answers(&reading) {
            sum += missed(logits, &frame_labels(named, &maps, question)) * FRAMES;
        }
        sum
    }

    /// The same of the last frame of streams, where the subject was seen in the one before. What takes time to show is not
    /// asked for; what does not, of the last frames together as soon as they are as many as a clip's.
    pub(crate) fn complaint_of_last(
        &self,
        latents: &Tensor,
        named: &Tensor,
        statistics: &Statistics,
    ) -> Tensor {
        let reading = self.read(latents, statistics);
        let last = latents.size()[2] - 1;
        let before = reading.maps.sigmoid().detach().narrow(1, last - 1, 1);
        let mut sum = Tensor::zeros([], (Kind::Float, latents.device()));
        for (question, logits) in self.frame_answers(&reading) {
            sum += missed(&logits.narrow(1, last, 1), &frame_labels(named, &before, question));
        }
        if last + 1 >= CLIP {
            for &question in self.trusted().iter().filter(|question| LASTING.contains(question)) {
                sum += missed(&reading.answers[question as usize], &named.select(1, question as i64));
            }
        }
        sum
    }
}
