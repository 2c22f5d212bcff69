//! Where contents of messages are kept: most are, some never; late, away, refusing, or silent until the faults end.
//!
//! What must hold: only messages of large sessions are looked for; and one of a large session whose content is kept costs no
//! row, unless its look-up failed twice.

use std::collections::{HashMap, HashSet};

use task_engine::model::ids::Nanos;
use task_engine::ports::{InboxRows, LookupError, MessageKey};
use task_engine::push::facts::{AskNo, Input, Queue};

use super::plan::{Fault, Mutant};
use super::world::World;

/// A session, a msg_id and a sequence.
type Key = (usize, i64, i64);

/// The store of contents.
#[derive(Debug, Default)]
pub struct Contents {
    /// What each shard asked, and when it is answered; none until the faults end.
    asks: Vec<(usize, AskNo, MessageKey, Option<Nanos>)>,
    /// The engine was told that these are kept.
    seen: HashSet<Key>,
    /// How often the look-up of one failed, since the engine started.
    failed: HashMap<Key, u32>,
    /// How many contents of each session each shard was told of since it started.
    found: HashMap<(usize, usize), u64>,
}

/// Whether a content is kept.
fn is_kept((_, msg_id, seq_id): Key) -> bool {
    (msg_id ^ seq_id).rem_euclid(5) != 0
}

impl World {
    /// The core looks for a content.
    pub fn content_asked(&mut self, shard: usize, ask: AskNo, message: MessageKey) {
        self.trace.line(self.now, || format!("< shard {shard}: find content {ask}: {message:?}"));
        let session = self.session_of[&*message.session];
        let (up_to, members) = (self.plan.rows_up_to(), self.sessions[session].ever.len());
        assert!(up_to > 0 && members > up_to, "the session of {message:?} has never had more than {members} members");
        assert!(message.msg_id != 0, "it has no id that a content could be found by");
        if self.finds_queue_full() {
            return self.not_asked(shard, Queue::Content, ask);
        }
        let due = match self.fault(Fault::Keepers, 20) {
            true => None,
            false if self.fault(Fault::Keepers, 80) => Some(self.soon(1_000)),
            false => Some(self.soon(4)),
        };
        self.contents.asks.push((shard, ask, message, due));
    }

    /// Answers to a shard, in any order.
    pub fn feed_contents(&mut self, shard: usize) {
        let now = self.now;
        let is_due = |of: usize, due: Option<Nanos>| of == shard && due.is_some_and(|due| due <= now);
        while let Some(at) = self.contents.asks.iter().position(|(of, _, _, due)| is_due(*of, *due)) {
            let (_, ask, message, _) = self.contents.asks.swap_remove(at);
            let key = (self.session_of[&*message.session], message.msg_id, message.seq_id);
            let answer = self.find_content(key);
            match &answer {
                Ok(true) => {
                    self.contents.seen.insert(key);
                    *self.contents.found.entry((shard, key.0)).or_default() += 1;
                }
                Ok(false) | Err(LookupError::NotReached(_)) => {}
                Err(_) => *self.contents.failed.entry(key).or_default() += 1,
            }
            let is_unseen = matches!(answer, Ok(false)) && self.plan.mutant == Some(Mutant::UnseenContents);
            let answer = if is_unseen { Ok(true) } else { answer };
            self.feed(shard, Input::ContentFound { ask, answer });
        }
    }

    fn find_content(&mut self, key: Key) -> Result<bool, LookupError> {
        if let Some(error) = self.inbox_fails(30) {
            return Err(error);
        }
        if self.fault(Fault::Keepers, 30) {
            return Err(LookupError::Rejected("the table is being repaired".into()));
        }
        Ok(is_kept(key))
    }

    /// Rows are asked for: none of them would be needed if all was well.
    pub fn check_needed(&self, rows: &InboxRows) {
        let up_to = self.plan.rows_up_to();
        if up_to == 0 || rows.users.is_empty() || rows.msg_id == 0 {
            return;
        }
        let session = self.session_of[&*rows.session];
        let key = (session, rows.msg_id, rows.seq_id);
        let known = &self.sessions[session];
        let is_large = known.changed.is_empty() && known.members.len() > up_to;
        let failed = self.contents.failed.get(&key).copied().unwrap_or(0);
        assert!(!is_large || !is_kept(key) || failed >= 2, "rows of {key:?}, whose content is kept");
    }

    /// Whether the engine was told that whoever could not be reached finds the message.
    pub fn is_readable(&self, session: usize, seq_id: i64, msg_id: i64) -> bool {
        self.contents.seen.contains(&(session, msg_id, seq_id))
    }

    /// Whether the store keeps the content.
    pub fn is_content_kept(&self, session: usize, seq_id: i64, msg_id: i64) -> bool {
        is_kept((session, msg_id, seq_id))
    }

    /// At most so many may have ended as readable on a shard: all who were ever members, for a content may be found before its event is
    /// bundled, and somebody may join in between; and the sender, who may be no member.
    pub fn may_be_readers(&self, shard: usize) -> u64 {
        let of_shard = self.contents.found.iter().filter(|((of, _), _)| *of == shard);
        of_shard.map(|((_, session), found)| found * (self.sessions[*session].ever.len() as u64 + 1)).sum()
    }

    /// It works; whoever never answered does so now.
    pub fn calm_contents(&mut self) {
        let now = self.now;
        self.contents.asks.iter_mut().for_each(|(.., due)| *due = Some(now));
    }

    /// The engine dies.
    pub fn forget_content_asks(&mut self) {
        self.contents.asks.clear();
        self.contents.failed.clear();
        self.contents.found.clear();
    }
}
