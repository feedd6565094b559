//! How blocks lead from one video to another: the tail of the one is remembered, and the last blocks are drawn to the
//! head of the other by noise that falls from block to block (SDEdit, arXiv 2108.01073). No GStreamer here.

/// Most blocks that are drawn to what comes next.
const MOST_DRAWN: usize = 3;
/// Noise levels that the first and the last block that is drawn begin at: above, nothing of the target shows; below,
/// nothing is left to be made.
const LEVELS: (f64, f64) = (0.9, 0.3);

/// How many of the last blocks of a bridge are drawn; those before them are made freely. At least one, and at most half
/// of them.
pub(crate) fn drawn(blocks: usize) -> usize {
    (blocks / 2).clamp(1, MOST_DRAWN)
}

/// Strengths of so many blocks that are drawn, for a model whose schedule is shifted by `shift`: the noise levels they
/// stand for fall by equal steps.
pub(crate) fn strengths(drawn: usize, shift: f64) -> Vec<f64> {
    let (first, last) = LEVELS;
    let level = |block: usize| match drawn {
        1 => f64::midpoint(first, last),
        _ => first + (last - first) * block as f64 / (drawn - 1) as f64,
    };
    // The inverse of the shift.
    (0..drawn).map(level).map(|level| level / (shift - (shift - 1.0) * level)).collect()
}

/// What the model does not see of a picture that its own follow: it fades out over the first of them, so that the join
/// does not show.
pub(crate) struct Detail(Vec<i16>);

impl Detail {
    /// Of a picture, and of what the model makes of it unchanged.
    pub(crate) fn lost(own: &[u8], seen: &[u8]) -> Self {
        Self(own.iter().zip(seen).map(|(own, seen)| i16::from(*own) - i16::from(*seen)).collect())
    }

    /// Lays it over the pictures that follow.
    pub(crate) fn fade_out(&self, made: &mut [u8]) {
        let size = self.0.len().max(1);
        let count = made.len() / size;
        for (n, picture) in made.chunks_exact_mut(size).enumerate() {
            let (left, of) = ((count - n) as i16, count as i16 + 1);
            for (pixel, lost) in picture.iter_mut().zip(&self.0) {
                *pixel = (i16::from(*pixel) + lost * left / of).clamp(0, 255) as u8;
            }
        }
    }
}

/// Fades pictures of `size` bytes into those that they were drawn to, so that what follows these joins on.
pub(crate) fn fade_into(made: &mut [u8], target: &[u8], size: usize) {
    let count = made.len() / size.max(1);
    for (n, (picture, target)) in made.chunks_exact_mut(size).zip(target.chunks_exact(size)).enumerate() {
        let (share, of) = (n as u32 + 1, count as u32 + 1);
        for (pixel, target) in picture.iter_mut().zip(target) {
            *pixel = ((u32::from(*pixel) * (of - share) + u32::from(*target) * share) / of) as u8;
        }
    }
}

/// The last of these frames in whole blocks, joined, to be remembered: the first one of `first` frames, the others of
/// `block`. Where there are too few for one, the first frame stood still before.
pub(crate) fn context(frames: &[Vec<u8>], first: usize, block: usize) -> Vec<Vec<u8>> {
    let Some(oldest) = frames.first() else { return Vec::new() };
    let still = std::iter::repeat_n(oldest, first.saturating_sub(frames.len()));
    let padded: Vec<&Vec<u8>> = still.chain(frames).collect();
    let last = &padded[padded.len() - whole_blocks(padded.len(), first, block)..];
    let (head, rest) = last.split_at(first);
    let joined = |frames: &[&Vec<u8>]| frames.iter().flat_map(|frame| frame.iter().copied()).collect();
    std::iter::once(head).chain(rest.chunks(block.max(1))).map(joined).collect()
}

/// How many frames of what there is make whole blocks, where the first one has `first` frames and the others `block`;
/// 0 where there is not one.
fn whole_blocks(there: usize, first: usize, block: usize) -> usize {
    match there.checked_sub(first) {
        None => 0,
        Some(rest) => first + rest / block.max(1) * block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_blocks_are_drawn_by_falling_noise() {
        assert_eq!([1, 2, 3, 4, 7, 20].map(drawn), [1, 1, 1, 2, 3, 3]);
        let close = |a: Vec<f64>, b: &[f64]| {
            assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?}");
        };
        close(strengths(1, 1.0), &[0.6]);
        close(strengths(3, 1.0), &[0.9, 0.6, 0.3]);
        // 3 t / (1 + 2 t) is 0.9 at 3/4 and 0.3 at 1/8.
        close(strengths(2, 3.0), &[0.75, 0.125]);
    }

    #[test]
    fn joins_fade() {
        // The model sees 90 for 100 and 250 for 255.
        let detail = Detail::lost(&[100, 255], &[90, 250]);
        let mut made = [90, 250, 90, 252, 90, 250, 90, 250];
        detail.fade_out(&mut made);
        assert_eq!(made, [98, 254, 96, 255, 94, 252, 92, 251]);
        let mut made = [0, 100, 0, 100, 0, 100];
        fade_into(&mut made, &[200, 100, 200, 0, 200, 100], 2);
        assert_eq!(made, [50, 100, 100, 50, 150, 100]);
    }

    #[test]
    fn a_context_is_whole_blocks() {
        for (there, whole) in [(0, 0), (1, 1), (4, 1), (5, 5), (12, 9), (13, 13)] {
            assert_eq!(whole_blocks(there, 1, 4), whole);
        }
        assert_eq!(whole_blocks(8, 9, 12), 0);
        assert_eq!(whole_blocks(40, 9, 12), 33);
        let frames: Vec<Vec<u8>> = (0..7).map(|n| vec![n]).collect();
        assert_eq!(context(&frames, 1, 4), [vec![2], vec![3, 4, 5, 6]]);
        assert_eq!(context(&frames[..2], 3, 4), [vec![0, 0, 1]]);
        assert!(context(&[], 1, 4).is_empty());
    }
}
