//! The inbox and the dead letters: late, in bursts, away, refusing, silent until the faults end, committing without saying
//! so, or answering about strangers. What they keep outlives the engine.
//!
//! In some worlds ([`Plan::keepers_fail_whole`](super::plan::Plan::keepers_fail_whole)) they are whole or not at all: each
//! fails every ask for one while, in words that nobody knows, and the inbox refuses each set with the row of a bad owner in
//! it. What must hold there: only a bad owner's row is given up, no letter is lost, and no event ends otherwise for it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use task_engine::model::ids::Nanos;
use task_engine::model::names::NameList;
use task_engine::ports::{DeadLetter, InboxRows, LookupError};
use task_engine::push::facts::{AskNo, Input, Queue};

use super::plan::Fault;
use super::world::{MILLI, World};

/// What was asked, of whom, and when it is looked at; none until the faults end.
#[derive(Debug)]
struct Ask<T> {
    shard: usize,
    ask: AskNo,
    what: T,
    due: Option<Nanos>,
}

/// Both stores.
#[derive(Debug, Default)]
pub struct Keeping {
    store_asks: Vec<Ask<InboxRows>>,
    letter_asks: Vec<Ask<DeadLetter>>,
    inbox_away_until: Nanos,
    letters_away_until: Nanos,
    /// When each fails as a whole, once known.
    whole: [Option<(Nanos, Nanos)>; 2],
    /// Answers come together then.
    burst_at: Nanos,
    /// By owner, session and sequence: the msg_id.
    rows: HashMap<(usize, usize, i64), i64>,
    letters: HashSet<(Bytes, Option<String>)>,
    /// Letters that were refused for good.
    lost: HashSet<(Bytes, Option<String>)>,
    /// Rows, and letters about recipients, that each shard was told of, as upper bounds of what may end so.
    told: Vec<Told>,
}

/// What one shard heard from the stores since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub rows: u64,
    pub letters: u64,
    pub lost: u64,
}

impl World {
    /// The core stores rows.
    pub fn store_asked(&mut self, shard: usize, ask: AskNo, rows: InboxRows) {
        self.trace.line(self.now, || {
            format!(
                "< shard {shard}: store {ask}: msg {} of {:?} for {:?}",
                rows.msg_id,
                rows.session,
                rows.users.parts().0
            )
        });
        let mut names = rows.users.iter().collect::<Vec<_>>();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "each user once: {names:?}");
        assert!(!names.is_empty() || rows.session.is_empty(), "only a probe has no users");
        assert!(self.plan.inbox_is_on(), "there is no inbox");
        self.check_needed(&rows);
        if self.finds_queue_full() {
            return self.not_asked(shard, Queue::Inbox, ask);
        }
        let due = self.keeper_due();
        self.keeping.store_asks.push(Ask { shard, ask, what: rows, due });
    }

    /// The core publishes a letter.
    pub fn letter_asked(&mut self, shard: usize, ask: AskNo, letter: DeadLetter) {
        self.trace.line(self.now, || {
            format!("< shard {shard}: publish letter {ask}: {} {:?}", letter.reason, letter.recipient)
        });
        self.check_letter(&letter);
        if self.plan.keepers_fail_whole() && letter.reason == "inbox_rejected" {
            let user = letter.recipient.as_deref().map(|name| self.user_of[name]).expect("it names its recipient");
            assert!(self.plan.is_bad_owner(user), "the row of user {user} is given up, and nothing is wrong with it");
        }
        if self.finds_queue_full() {
            return self.not_asked(shard, Queue::DeadLetters, ask);
        }
        let due = self.keeper_due();
        self.keeping.letter_asks.push(Ask { shard, ask, what: letter, due });
    }

    fn keeper_due(&mut self) -> Option<Nanos> {
        if self.fault(Fault::Keepers, 20) {
            return None;
        }
        if self.fault(Fault::Keepers, 60) {
            return Some(self.keeping.burst_at.max(self.now));
        }
        let late = if self.fault(Fault::Keepers, 80) { 2_000 } else { 6 };
        Some(self.soon(late))
    }

    /// The stores go away, or hold back their answers for a burst.
    pub fn disturb_keepers(&mut self) {
        if self.ask_fault(8) {
            self.keeping.inbox_away_until = Nanos(self.now.0 + self.rng.within(0, 1_500) * MILLI);
        }
        if self.ask_fault(8) {
            self.keeping.letters_away_until = Nanos(self.now.0 + self.rng.within(0, 1_500) * MILLI);
        }
        if self.fault(Fault::Keepers, 20) {
            self.keeping.burst_at = Nanos(self.now.0 + self.rng.within(0, 800) * MILLI);
        }
    }

    /// The inbox is away until then, where it does not fail as a whole.
    pub fn take_inbox_away(&mut self, until: Nanos) {
        if !self.plan.keepers_fail_whole() {
            self.keeping.inbox_away_until = self.keeping.inbox_away_until.max(until);
        }
    }

    /// Whether one of them fails everything now, and how: its one while begins some time and is drawn when first looked at.
    fn fails_whole(&mut self, which: usize) -> Option<LookupError> {
        if !self.plan.keepers_fail_whole() || self.is_calm || self.plan.off.contains(&Fault::Keepers) {
            return None;
        }
        if self.keeping.whole[which].is_none() {
            let first = self.now.0 + self.rng.within(0, 2_000) * MILLI;
            let last = first + self.rng.within(0, 4_000) * MILLI * self.plan.roughness.min(1);
            self.keeping.whole[which] = Some((Nanos(first), Nanos(last)));
        }
        let (first, last) = self.keeping.whole[which]?;
        if self.now < first || self.now >= last {
            return None;
        }
        let words = "proxy: no writer, code 9001".to_owned();
        Some(if first.0.is_multiple_of(2) { LookupError::Rejected(words) } else { LookupError::Unavailable(words) })
    }

    /// A fault of one ask, in worlds where there are such.
    fn ask_fault(&mut self, thousandths: u64) -> bool {
        !self.plan.keepers_fail_whole() && self.fault(Fault::Keepers, thousandths)
    }

    /// Answers of both stores to a shard, in any order.
    pub fn feed_keepers(&mut self, shard: usize) {
        let is_due = |due: Option<Nanos>, of: usize, now| of == shard && due.is_some_and(|due| due <= now);
        while let Some(at) = self.keeping.store_asks.iter().position(|ask| is_due(ask.due, ask.shard, self.now)) {
            let Ask { ask, what, .. } = self.keeping.store_asks.swap_remove(at);
            let answer = self.store(&what);
            if let Ok(conflicts) = &answer {
                let rows = what.users.len().saturating_sub(conflicts.len()) as u64;
                self.keeping.told[shard].rows += rows;
            }
            self.feed(shard, Input::Stored { ask, answer });
        }
        while let Some(at) = self.keeping.letter_asks.iter().position(|ask| is_due(ask.due, ask.shard, self.now)) {
            let Ask { ask, what, .. } = self.keeping.letter_asks.swap_remove(at);
            let answer = self.publish_letter(&what);
            match &answer {
                Ok(()) => self.keeping.told[shard].letters += 1,
                Err(LookupError::Rejected(_)) => self.keeping.told[shard].lost += 1,
                Err(LookupError::NotReached(_) | LookupError::Unavailable(_)) => {}
            }
            self.feed(shard, Input::LetterPublished { ask, answer });
        }
    }

    fn store(&mut self, rows: &InboxRows) -> Result<NameList, LookupError> {
        if let Some(error) = self.fails_whole(0) {
            return Err(error);
        }
        if rows.users.iter().any(|name| self.plan.is_bad_owner(self.user_of[name])) {
            return Err(LookupError::Rejected("Data too long for column 'owner_username'".into()));
        }
        if let Some(error) = self.inbox_is_away(30) {
            return Err(error);
        }
        if rows.users.is_empty() {
            return Ok(NameList::new());
        }
        if self.ask_fault(40) {
            return Err(LookupError::Rejected("the inbox refuses".into()));
        }
        let mut conflicts = self.commit(rows);
        if self.ask_fault(30) {
            return Err(LookupError::Unavailable("committed, and the answer is lost".into()));
        }
        if self.ask_fault(10) {
            conflicts.push("nobody");
        }
        Ok(conflicts)
    }

    fn inbox_is_away(&mut self, thousandths: u64) -> Option<LookupError> {
        let is_away = self.now < self.keeping.inbox_away_until || self.ask_fault(thousandths);
        let why = || "the inbox is away".into();
        is_away.then(|| match self.rng.chance(500) {
            true => LookupError::NotReached(why()),
            false => LookupError::Unavailable(why()),
        })
    }

    /// The server of the inbox fails, as a whole or this ask.
    pub fn inbox_fails(&mut self, thousandths: u64) -> Option<LookupError> {
        self.fails_whole(0).or_else(|| self.inbox_is_away(thousandths))
    }

    fn commit(&mut self, rows: &InboxRows) -> NameList {
        if rows.users.is_empty() {
            return NameList::new();
        }
        let session = self.session_of[&*rows.session];
        let mut conflicts = NameList::new();
        for name in rows.users.iter() {
            let user = self.user_of[name];
            let known = *self.keeping.rows.entry((user, session, rows.seq_id)).or_insert(rows.msg_id);
            if known != rows.msg_id {
                conflicts.push(name);
            }
        }
        conflicts
    }

    fn publish_letter(&mut self, letter: &DeadLetter) -> Result<(), LookupError> {
        if let Some(error) = self.fails_whole(1) {
            return Err(error);
        }
        if self.now < self.keeping.letters_away_until || self.ask_fault(30) {
            return Err(LookupError::Unavailable("the dead letters are away".into()));
        }
        let key = (letter.payload.clone(), letter.recipient.as_deref().map(str::to_owned));
        if self.ask_fault(20) {
            self.keeping.lost.insert(key);
            return Err(LookupError::Rejected("the dead letters refuse".into()));
        }
        self.keeping.letters.insert(key);
        if self.ask_fault(30) {
            return Err(LookupError::Unavailable("kept, and the answer is lost".into()));
        }
        Ok(())
    }

    /// The stores work; whoever never answered does so now.
    pub fn calm_keepers(&mut self) {
        let keeping = &mut self.keeping;
        (keeping.inbox_away_until, keeping.letters_away_until) = (self.now, self.now);
        keeping.store_asks.iter_mut().for_each(|ask| ask.due = Some(self.now));
        keeping.letter_asks.iter_mut().for_each(|ask| ask.due = Some(self.now));
        self.calm_contents();
    }

    /// The engine dies: what it asked for is done or not, and nobody hears of it.
    pub fn forget_keepers_asks(&mut self) {
        let stores = std::mem::take(&mut self.keeping.store_asks);
        for ask in stores {
            let is_bad = |name: &str| self.plan.is_bad_owner(self.user_of[name]);
            if self.rng.chance(500) && !ask.what.users.iter().any(is_bad) {
                self.commit(&ask.what);
            }
        }
        let letters = std::mem::take(&mut self.keeping.letter_asks);
        for Ask { what, .. } in letters {
            if self.rng.chance(500) {
                self.keeping.letters.insert((what.payload, what.recipient.map(String::from)));
            }
        }
        self.keeping.told = vec![Told::default(); self.shards.len()];
        self.forget_content_asks();
    }

    /// What a shard may have ended so far.
    pub fn told(&self, shard: usize) -> Told {
        self.keeping.told[shard]
    }

    /// Whether the inbox has the row.
    pub fn has_row(&self, user: usize, session: usize, seq_id: i64, msg_id: i64) -> bool {
        self.keeping.rows.get(&(user, session, seq_id)) == Some(&msg_id)
    }

    /// Whether there is a letter about the event, or about one of its recipients, or it was refused for good.
    pub fn has_letter(&self, payload: &Bytes, user: Option<usize>) -> bool {
        let key = (payload.clone(), user.map(|user| self.users[user].name.clone()));
        self.keeping.letters.contains(&key) || self.keeping.lost.contains(&key)
    }
}
