//! The tags under which events were handed in.

/// What became of a tag.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tag {
    /// Its place in the stream.
    pub entry: usize,
    pub is_taken: bool,
    pub is_settled: bool,
    /// How often it was handed in and settled.
    pub(super) hand_ins: u32,
    pub(super) settlements: u32,
    /// It was given back without being taken, and that is not heard yet: it says nothing of the event.
    pub is_turned_away: bool,
    /// It was dropped as it came.
    pub is_shed: bool,
    /// The engine that had it is gone.
    pub is_dead: bool,
    /// The event, when it is the first of its kind, and which time it was taken.
    pub event: Option<(usize, u32)>,
}

impl Tag {
    /// Of an event in the stream.
    pub fn of(entry: usize) -> Self {
        Self { entry, ..Self::default() }
    }

    /// A shard takes it, for the first time or again.
    pub fn handed_in(&mut self) {
        self.is_taken = true;
        self.is_settled = false;
        self.hand_ins += 1;
    }
}
