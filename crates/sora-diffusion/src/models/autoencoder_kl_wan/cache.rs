use tch::Tensor;

/// What one causal layer remembers of the frames before the chunk at hand.
#[derive(Default)]
pub(super) enum Slot {
    /// Nothing seen yet.
    #[default]
    Empty,
    /// The first frame has passed, but this layer keeps no features of it ("Rep" in the reference).
    FirstPassed,
    /// The last one or two input frames.
    Frames(Tensor),
}

/// Features of past frames, one slot per causal layer in visiting order.
///
/// Keep one for the whole life of a stream: decoding a later chunk with a fresh cache shows as a cut.
#[derive(Default)]
pub struct FeatureCache {
    slots: Vec<Slot>,
    next: usize,
    begun: bool,
}

impl FeatureCache {
    /// Before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a pass over the layers.
    pub(super) fn begin(&mut self) -> &mut Self {
        self.next = 0;
        self
    }

    /// Ends a pass: the next chunk is not the first.
    pub(super) fn end(&mut self) {
        self.begun = true;
    }

    /// Whether the chunk at hand holds the first frame of the clip.
    pub(super) fn is_first_chunk(&self) -> bool {
        !self.begun
    }

    /// The slot of the layer being visited.
    pub(super) fn slot(&mut self) -> &mut Slot {
        if self.next == self.slots.len() {
            self.slots.push(Slot::Empty);
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}
