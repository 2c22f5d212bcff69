//! Many words that one thread publishes as one value, and any thread reads whole.
//!
//! Promises that the writer never waits and that a read is one publication, never half of one and half of the next.
//! Refuses a second writer only by its users: two at a time would mix their words.
//!
//! # Memory ordering
//! A sequence lock whose data are atomics (H.-J. Boehm, "Can seqlocks get along with programming language memory
//! models?", 2012). The writer makes `sequence` odd, writes the words, makes it even again:
//!
//! - The release fence after the odd store: a reader that sees any new word (relaxed) and then passes its acquire fence
//!   is ordered after that fence, so its second load of `sequence` sees the odd number or a later one, and it retries.
//! - The release store of the even number: a reader whose first load (acquire) sees it sees all words written before.
//!
//! So equal and even numbers on both sides mean that all words come from one publication. On x86-64 both fences cost
//! nothing; a publication is `WORDS` plain stores to lines that only the writer writes.
//!
//! fuzz/interleavings runs this very file through every order that the memory model allows; so it names nothing of the crate.

#[cfg(loom)]
use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
    thread::yield_now,
};
#[cfg(not(loom))]
use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
    thread::yield_now,
};

/// Looks at a publication under way before the reader lets the writer's thread have the CPU.
const SPINS: u32 = 64;

/// The words.
#[derive(Debug)]
pub struct SeqLock<const WORDS: usize> {
    sequence: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> SeqLock<WORDS> {
    /// All words are 0.
    pub fn new() -> Self {
        Self { sequence: AtomicU64::new(0), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// The newest whole publication. Waits only while one is under way.
    pub fn read(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        let mut tries = 0_u32;
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            if before & 1 == 0 {
                for (to, from) in words.iter_mut().zip(&self.words) {
                    *to = from.load(Ordering::Relaxed);
                }
                fence(Ordering::Acquire);
                if self.sequence.load(Ordering::Relaxed) == before {
                    return words;
                }
            }
            tries += 1;
            if tries.is_multiple_of(SPINS) {
                yield_now();
            } else {
                spin_loop();
            }
        }
    }

    /// Publishes. Only one thread may write.
    pub fn write(&self, words: &[u64; WORDS]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (to, from) in self.words.iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }
}

impl<const WORDS: usize> Default for SeqLock<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}
