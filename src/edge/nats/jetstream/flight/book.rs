//! What the owner of a partition knows of its events: how far they are settled without a gap, and which above that.
//!
//! Promises that what it calls settled is: an event that is out, or was given back, holds the floor. It costs an event a push and a
//! pop; an event that is settled pays nothing. Pure: sequences in, [`Settled`] out. Whether an event is out is asked of the flight.

use std::collections::{BTreeSet, VecDeque};

use crate::model::ownership::Settled;

/// The number of an event that is not, and never was, out here.
const NOT_HERE: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct Book {
    /// The highest consumer sequence that came.
    pub(super) seen: u64,
    /// Entries that are out and that the present generation has not delivered.
    pub(super) unknown: u32,
    /// It goes elsewhere: what is given back is left to whoever takes it.
    pub(super) is_leaving: bool,
    /// All of the partition up to this stream sequence is settled.
    floor: u64,
    /// Events above the floor that came here, in the stream's order: their sequence and the flight's number. What is not out and
    /// was not given back is settled.
    recent: VecDeque<(u64, u64)>,
    /// Events that came here and were given back.
    left: BTreeSet<u64>,
    /// Events above the floor that an earlier owner settled, and that have not come.
    before: BTreeSet<u64>,
}

impl Book {
    /// An earlier owner, or an earlier generation of ours, left it so.
    pub(super) fn learn(&mut self, settled: &Settled) {
        self.floor = self.floor.max(settled.floor);
        self.before.extend(&settled.above);
        self.before = self.before.split_off(&(self.floor + 1));
        self.left = self.left.split_off(&(self.floor + 1));
        while self.recent.front().is_some_and(|(sequence, _)| *sequence <= self.floor) {
            self.recent.pop_front();
        }
    }

    /// Whether something was given back and has not come again.
    pub(super) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether an event that comes, and is not out, was settled.
    pub(super) fn is_settled(&mut self, sequence: u64, is_out: impl Fn(u64) -> bool) -> bool {
        if sequence <= self.floor {
            return true;
        }
        if self.before.remove(&sequence) {
            self.enter(sequence, NOT_HERE, is_out);
            return true;
        }
        let is_newest = self.recent.back().is_none_or(|(newest, _)| *newest < sequence);
        !is_newest && self.place(sequence).is_ok() && !self.left.contains(&sequence)
    }

    /// An event came that was not settled.
    pub(super) fn enter(&mut self, sequence: u64, number: u64, is_out: impl Fn(u64) -> bool) {
        if !self.left.is_empty() {
            self.left.remove(&sequence);
        }
        match self.recent.back() {
            Some((newest, _)) if *newest >= sequence => match self.place(sequence) {
                Ok(at) => self.recent[at].1 = number,
                Err(at) => self.recent.insert(at, (sequence, number)),
            },
            _ => self.recent.push_back((sequence, number)),
        }
        self.raise(is_out);
    }

    /// An event that came was given back.
    pub(super) fn leave(&mut self, sequence: u64) {
        if sequence > self.floor {
            self.left.insert(sequence);
        }
    }

    /// Where it stands.
    pub(super) fn settled(&mut self, is_out: impl Fn(u64) -> bool) -> Settled {
        self.raise(&is_out);
        let here = self.recent.iter().filter(|(sequence, number)| self.is_done(*sequence, *number, &is_out));
        let mut above: Vec<u64> = here.map(|(sequence, _)| *sequence).chain(self.before.iter().copied()).collect();
        above.sort_unstable();
        above.dedup();
        Settled { floor: self.floor, above }
    }

    fn is_done(&self, sequence: u64, number: u64, is_out: impl Fn(u64) -> bool) -> bool {
        !is_out(number) && (self.left.is_empty() || !self.left.contains(&sequence))
    }

    fn raise(&mut self, is_out: impl Fn(u64) -> bool) {
        while let Some(&(sequence, number)) = self.recent.front()
            && self.is_done(sequence, number, &is_out)
        {
            self.floor = sequence;
            self.recent.pop_front();
        }
        if !self.before.is_empty() {
            self.before = self.before.split_off(&(self.floor + 1));
        }
    }

    fn place(&self, sequence: u64) -> Result<usize, usize> {
        self.recent.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn book(floor: u64, above: &[u64]) -> Book {
        let mut book = Book::default();
        book.learn(&Settled { floor, above: above.to_vec() });
        book
    }

    #[test]
    fn the_floor_stops_at_what_is_out_and_at_what_was_given_back() {
        let (mut book, mut out) = (book(10, &[]), HashSet::new());
        for number in [12, 15, 17, 20] {
            assert!(!book.is_settled(number, |_| false));
            out.insert(number);
            book.enter(number, number, |number| out.contains(&number));
        }
        out.remove(&15);
        out.remove(&20);
        let settled = |floor, above: &[u64]| Settled { floor, above: above.to_vec() };
        assert_eq!(book.settled(|number| out.contains(&number)), settled(10, &[15, 20]));
        out.remove(&12);
        assert_eq!(book.settled(|number| out.contains(&number)), settled(15, &[20]));
        out.remove(&17);
        book.leave(17);
        assert!(book.has_left());
        assert_eq!(book.settled(|number| out.contains(&number)), settled(15, &[20]));
        // It comes again under another number.
        assert!(!book.is_settled(17, |_| false) && book.is_settled(20, |_| false) && book.is_settled(15, |_| false));
        book.enter(17, 99, |number| number == 99);
        assert_eq!(book.settled(|number| number == 99), settled(15, &[20]));
        assert_eq!((book.settled(|_| false), book.has_left()), (settled(20, &[]), false));
    }

    #[test]
    fn what_an_earlier_owner_settled_is_settled_until_it_has_come_and_after() {
        let mut book = book(10, &[13, 14, 9]);
        assert_eq!(book.settled(|_| false), Settled { floor: 10, above: vec![13, 14] });
        assert!(!book.is_settled(12, |_| false));
        book.enter(12, 1, |_| true);
        assert!(book.is_settled(13, |number| number == 1));
        assert_eq!(book.settled(|number| number == 1), Settled { floor: 10, above: vec![13, 14] });
        assert_eq!(book.settled(|_| false), Settled { floor: 13, above: vec![14] });
        assert!(book.is_settled(14, |_| false) && book.is_settled(14, |_| false), "however often it comes");
        assert_eq!(book.settled(|_| false), Settled { floor: 14, above: vec![] });
        book.learn(&Settled { floor: 30, above: vec![32] });
        assert_eq!(book.settled(|_| false), Settled { floor: 30, above: vec![32] });
    }

    /// Against a plain model: any order of arrivals, ends, give-backs and generations.
    #[test]
    fn it_agrees_with_a_model_of_each_event() {
        #[derive(Clone, Copy, PartialEq)]
        enum Is {
            Never,
            Out(u64),
            Left,
            Done,
        }
        let mut random = 7_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let (mut book, mut all, mut numbers) = (Book::default(), vec![Is::Never; 41], 0);
            let mut newest = 0_usize;
            for _ in 0..400 {
                let at = 1 + next(40) as usize;
                match (next(4), all[at]) {
                    // The next of the stream, with gaps of other partitions; or one that was left comes again.
                    (0, _) if newest < 40 => {
                        newest += 1 + next(2) as usize;
                        newest = newest.min(40);
                        all[..newest].iter_mut().skip(1).filter(|is| **is == Is::Never).for_each(|is| *is = Is::Done);
                        if all[newest] == Is::Never {
                            let outs: Vec<Is> = all.clone();
                            let is_out = |number| outs.contains(&Is::Out(number));
                            assert!(!book.is_settled(newest as u64, is_out));
                            numbers += 1;
                            all[newest] = Is::Out(numbers);
                            book.enter(newest as u64, numbers, |number| all.contains(&Is::Out(number)));
                        }
                    }
                    (1, Is::Out(_)) => all[at] = Is::Done,
                    (2, Is::Out(_)) => {
                        all[at] = Is::Left;
                        book.leave(at as u64);
                    }
                    (_, Is::Left) => {
                        assert!(!book.is_settled(at as u64, |number| all.contains(&Is::Out(number))));
                        numbers += 1;
                        all[at] = Is::Out(numbers);
                        book.enter(at as u64, numbers, |number| all.contains(&Is::Out(number)));
                    }
                    _ => {}
                }
                let settled = book.settled(|number| all.contains(&Is::Out(number)));
                let open = (1..=newest).find(|at| matches!(all[*at], Is::Out(_) | Is::Left));
                for sequence in 1..=newest as u64 {
                    let says = sequence <= settled.floor || settled.above.contains(&sequence);
                    let is_open = matches!(all[sequence as usize], Is::Out(_) | Is::Left);
                    assert!(!(says && is_open), "{sequence} is called settled");
                }
                assert!(open.is_none_or(|open| settled.floor < open as u64));
            }
        }
    }
}
