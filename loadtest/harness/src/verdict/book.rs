//! What came of one session: a bit for each (message, member), and each member's highest message.
//!
//! Promises memory that grows with what was sent, without ever moving what is there: a session may get its next message
//! while a gateway waits for the book.

use std::collections::BTreeSet;

/// The books of one session; members are numbered, 0 is the sender.
#[derive(Debug, Default)]
pub(super) struct Book {
    sent: u32,
    /// The bits of messages 0, then 1 to 2, then 3 to 6, ...: each part for twice as many messages as the one before.
    parts: Vec<Box<[u64]>>,
    /// For each member the highest message that came, plus one. Not there before a second message: one has no order.
    highest: Box<[u32]>,
    /// Messages that the broker did not take.
    struck_out: Vec<u32>,
    /// Messages that whoever was not pushed finds by their content.
    readable: BTreeSet<u32>,
    /// Where there are notices: when each message was to be sent.
    instants: Vec<u64>,
    /// The same: for each member how many messages the highest notice told of.
    told: Box<[u32]>,
    /// When somebody was last told of the last message.
    last_told_at: u64,
}

/// What a notice made known to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// How its own message came.
    pub came: Came,
    /// Other messages that nothing had told of.
    pub conflated: u32,
    /// The first of them.
    pub oldest: Option<u32>,
}

/// How a push came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    First,
    /// For the first time, but after a later message.
    Late,
    Again,
}

/// Where a bit is.
struct Bit {
    part: usize,
    word: usize,
    mask: u64,
}

impl Bit {
    fn of(message: u32, member: u32, members: u32) -> Self {
        let part = (u64::from(message) + 1).ilog2();
        let in_part = u64::from(message) + 1 - (1 << part);
        let bit = in_part * u64::from(members) + u64::from(member);
        Self { part: part as usize, word: (bit / 64) as usize, mask: 1 << (bit % 64) }
    }
}

impl Book {
    /// The next message is about to be sent; gives its number.
    pub fn enter(&mut self, members: u32) -> u32 {
        let number = self.sent;
        self.sent += 1;
        if Bit::of(number, 0, members).part == self.parts.len() {
            let bits = u64::from(members) << self.parts.len();
            self.parts.push(vec![0; bits.div_ceil(64) as usize].into_boxed_slice());
        }
        if self.sent == 2 {
            self.highest = vec![0; members as usize].into_boxed_slice();
        }
        number
    }

    /// The same, with the instant at which it is to be sent where there are notices.
    pub fn enter_at(&mut self, members: u32, instant: Option<u64>) -> u32 {
        if let Some(instant) = instant {
            self.instants.push(instant);
            if self.told.is_empty() {
                self.told = vec![0; members as usize].into_boxed_slice();
            }
        }
        self.enter(members)
    }

    /// When a message was to be sent, where that is known.
    pub fn instant(&self, message: u32) -> u64 {
        self.instants.get(message as usize).copied().unwrap_or(0)
    }

    /// A notice of a message came which says that there are so many; none when no such message was sent, or it was struck out.
    pub fn know(&mut self, message: u32, up_to: u32, member: u32, members: u32) -> Option<Known> {
        let came = self.take(message, member, members)?;
        let from = self.told.get_mut(member as usize).map_or(up_to, |told| std::mem::replace(told, up_to.max(*told)));
        let (mut conflated, mut oldest) = (0, None);
        for other in from..up_to {
            let Bit { part, word, mask } = Bit::of(other, member, members);
            let word = &mut self.parts[part][word];
            if *word & mask == 0 && (self.struck_out.is_empty() || !self.struck_out.contains(&other)) {
                *word |= mask;
                conflated += 1;
                oldest.get_or_insert(other);
            }
        }
        if let Some(highest) = self.highest.get_mut(member as usize) {
            *highest = (*highest).max(up_to);
        }
        Some(Known { came, conflated, oldest })
    }

    /// Somebody was told of so many messages.
    pub fn note_last(&mut self, up_to: u32, at: u64) {
        if up_to == self.sent {
            self.last_told_at = at;
        }
    }

    /// How long after the instant of the last message somebody was last told of it, in nanoseconds; where there are notices.
    pub fn last_known_after(&self) -> Option<u64> {
        self.instants.last().map(|instant| self.last_told_at.saturating_sub(*instant))
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// A message is not to come after all; false when it was never sent, or that is known.
    pub fn strike_out(&mut self, message: u32) -> bool {
        let is_new = message < self.sent && !self.is_struck_out(message);
        if is_new {
            self.struck_out.push(message);
        }
        is_new
    }

    /// Whether a message is not to come.
    #[inline]
    pub fn is_struck_out(&self, message: u32) -> bool {
        !self.struck_out.is_empty() && self.struck_out.contains(&message)
    }

    /// Whoever is not pushed finds a message by its content.
    pub fn keep_content(&mut self, message: u32) {
        self.readable.insert(message);
    }

    /// Whether that is so.
    pub fn is_readable(&self, message: u32) -> bool {
        self.readable.contains(&message)
    }

    /// How many such messages there are.
    pub fn readable(&self) -> u32 {
        self.readable.iter().filter(|message| !self.is_struck_out(**message)).count() as u32
    }

    /// How many messages are to come.
    pub fn expected(&self) -> u32 {
        self.sent - self.struck_out.len() as u32
    }

    /// A push came; none when no such message was sent, or it was struck out.
    pub fn take(&mut self, message: u32, member: u32, members: u32) -> Option<Came> {
        if message >= self.sent || self.is_struck_out(message) {
            return None;
        }
        let Bit { part, word, mask } = Bit::of(message, member, members);
        let word = &mut self.parts[part][word];
        if *word & mask != 0 {
            return Some(Came::Again);
        }
        *word |= mask;
        let Some(highest) = self.highest.get_mut(member as usize) else { return Some(Came::First) };
        let is_late = *highest > message;
        *highest = (*highest).max(message + 1);
        Some(if is_late { Came::Late } else { Came::First })
    }

    /// Whether a push has come.
    pub fn has(&self, message: u32, member: u32, members: u32) -> bool {
        let Bit { part, word, mask } = Bit::of(message, member, members);
        self.parts[part][word] & mask != 0
    }

    /// How many pushes have come, each counted once.
    pub fn came(&self) -> u64 {
        self.parts.iter().flat_map(|part| part.iter()).map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_push_has_a_bit_of_its_own() {
        for members in [2, 3, 63, 64, 65, 1_000] {
            let mut book = Book::default();
            for message in 0..70 {
                assert_eq!(book.enter(members), message);
            }
            for message in 0..70 {
                for member in 1..members {
                    assert!(!book.has(message, member, members));
                    assert_eq!(book.take(message, member, members), Some(Came::First));
                    assert_eq!(book.take(message, member, members), Some(Came::Again));
                }
            }
            assert_eq!(book.came(), 70 * u64::from(members - 1));
            assert_eq!(book.take(70, 1, members), None);
        }
    }

    #[test]
    fn late_is_what_comes_after_a_later_one_also_when_that_was_sent_later() {
        let mut book = Book::default();
        book.enter(3);
        assert_eq!(book.take(0, 1, 3), Some(Came::First));
        book.enter(3);
        book.enter(3);
        assert_eq!(book.take(2, 2, 3), Some(Came::First));
        assert_eq!(book.take(1, 2, 3), Some(Came::Late));
        assert_eq!(book.take(0, 2, 3), Some(Came::Late));
        assert_eq!(book.take(1, 1, 3), Some(Came::First), "another member's order is its own");
        assert_eq!(book.take(0, 2, 3), Some(Came::Again));
    }

    #[test]
    fn a_notice_makes_known_what_is_below_it_once() {
        let mut book = Book::default();
        (0..6_u32).for_each(|message| _ = book.enter_at(3, Some(100 * u64::from(message))));
        assert_eq!(book.take(1, 1, 3), Some(Came::First));
        assert!(book.strike_out(2));
        let known = |came, conflated, oldest| Some(Known { came, conflated, oldest });
        assert_eq!(book.know(3, 5, 1, 3), known(Came::First, 2, Some(0)), "0 and 4: 1 came, and 2 is none");
        assert_eq!(book.know(3, 5, 1, 3), known(Came::Again, 0, None));
        assert_eq!(book.know(5, 6, 1, 3), known(Came::First, 0, None));
        assert_eq!(book.know(5, 6, 2, 3), known(Came::First, 4, Some(0)), "another member's are its own");
        assert_eq!(book.know(4, 6, 2, 3), known(Came::Again, 0, None));
        assert_eq!((book.know(2, 6, 2, 3), book.know(6, 7, 2, 3)), (None, None));
        assert_eq!((book.came(), book.expected()), (10, 5));
        book.note_last(5, 900);
        book.note_last(6, 700);
        assert_eq!(book.last_known_after(), Some(200));
    }

    #[test]
    fn what_is_struck_out_is_neither_expected_nor_taken() {
        let mut book = Book::default();
        (0..3).for_each(|_| _ = book.enter(2));
        assert!(book.strike_out(1) && !book.strike_out(1) && !book.strike_out(3));
        assert_eq!((book.expected(), book.take(1, 1, 2), book.take(2, 1, 2)), (2, None, Some(Came::First)));
    }

    #[test]
    fn a_hundred_million_pushes_fit_in_what_two_bits_each_take() {
        let members = 1_001;
        let mut book = Book::default();
        for _ in 0..100_000 {
            book.enter(members);
        }
        let bytes: usize = book.parts.iter().map(|part| part.len() * 8).sum();
        assert!(bytes <= 100_000 * 1_001 * 2 / 8, "{bytes}");
    }
}
