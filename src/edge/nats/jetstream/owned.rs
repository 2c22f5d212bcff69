//! Partitions that have owners: how one is opened, closed and found broken over a reader's connection.
//!
//! Promises that nothing is pulled of a partition before its consumer was looked at and is as it should be; that after a close
//! nothing of it is half done and the server has heard of all that was settled, or the answer says that it may not have; and that
//! nothing which lies behind a hole is handed in. Each step is begun anew over the next connection. Each partition has a
//! subscription of its own, and each opening another one, so what is on its way for an earlier one is told apart.
//!
//! ```text
//! Absent -Prepare-> ToLookAhead -its turn-> LookingAhead (INFO) -> ReadingAhead (the repeat window so far) -> Absent, as at once
//!        with any other order
//! Absent -Open-> ToOpen -> Informing (INFO) -> ReadingBack (the repeat window) -> Starting -first pull-> Open
//! Open -Close-> Unsubscribing (PONG) -> Draining (nothing half done) -> Confirming (PONG) -> Checking (INFO) -> Absent
//!               any of these -Reopen-> Reopening -> ToOpen          Open -hole, silence, deleted-> Broken -Open-> ToOpen
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::ahead::{Ahead, Turn};
use super::calls::BatchNo;
use super::pulls::Terms;
use super::window::ReadBack;
use crate::model::ids::ShardId;
use crate::model::ownership::{Boottime, Break, Generation, Settled, ShardWord};
use crate::push::facts::Input;

/// Who hears what a shard's reader says.
pub(in crate::edge::nats) type Hearer = Arc<OnceLock<Box<dyn Fn(ShardId, ShardWord) + Send + Sync>>>;

/// The first number of a partition's subscription.
const FIRST_SID: u64 = 16;
/// How soon what waits for time or for another task is looked at again.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Of what a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Pulls.
    Pulls = 0,
    /// The repeat window.
    Window = 1,
}

#[derive(Debug)]
pub(super) enum Stage {
    Absent,
    /// It will probably come here, and what was settled of it is read once others of which it is are done.
    ToLookAhead(Generation),
    /// Asks how far its owner is.
    LookingAhead(BatchNo),
    /// Reads the repeat window back so far.
    ReadingAhead(Box<ReadBack>),
    ToOpen,
    Informing {
        batch: Option<BatchNo>,
        at: Instant,
    },
    ReadingBack(Box<ReadBack>),
    /// It is asked for; the terms, until then.
    Starting(Option<Terms>),
    Open,
    /// The PING whose answer tells that nothing more comes; the server may be silent, so it is waited for in vain only for a time.
    Unsubscribing {
        ping: Option<u64>,
        until: Instant,
    },
    Draining,
    /// The PING whose answer tells that all acks were heard.
    Confirming {
        ping: Option<u64>,
        until: Instant,
    },
    Checking {
        batch: Option<BatchNo>,
        at: Instant,
        until: Instant,
    },
    /// The shard gives back nothing more of it; whether it was seen that it knows.
    Reopening {
        has_heard: bool,
    },
    Broken,
}

impl Stage {
    /// Nothing of it is or was pulled here since it was last closed.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Absent) || self.turn() != Turn::None
    }

    /// How far its reading ahead is.
    fn turn(&self) -> Turn {
        match self {
            Self::ToLookAhead(_) => Turn::Waits,
            Self::LookingAhead(_) | Self::ReadingAhead(_) => Turn::UnderWay,
            _ => Turn::None,
        }
    }

    /// It is on its way to be closed.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Self::Unsubscribing { .. } | Self::Draining | Self::Confirming { .. } | Self::Checking { .. })
    }

    /// Something is to be done about it that no event tells.
    fn is_busy(&self) -> bool {
        !matches!(self, Self::Absent | Self::Open | Self::Broken)
    }
}

/// One partition.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) stage: Stage,
    pub(super) generation: Generation,
    /// How far it was settled when it was to be opened.
    pub(super) wish: Settled,
    /// How often it was subscribed to.
    pub(super) opening: u64,
    /// Its consumer was looked at since it was to be opened: from then on it must be as our flight has it.
    pub(super) is_informed: bool,
    /// A delivery was lost while it was closed.
    pub(super) is_holed: bool,
    /// The shard knows what was settled before it had the partition.
    pub(super) knows_window: bool,
    /// Up to which stream sequence the shard knows what was settled of it, also of the time before it comes here; 0: of none.
    pub(super) known_to: u64,
    /// What holds its floor.
    pub(super) held: Option<Held>,
    /// How far it was settled when it was closed: whoever gives it away may change his mind.
    pub(super) closed: Option<Settled>,
}

/// What the server says of a consumer, as far as its owner minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Deliveries, by consumer sequence.
    pub(super) delivered: u64,
    /// How many of them are not acknowledged.
    pub(super) pending: u64,
}

impl Account {
    /// Whether the server knows exactly what was settled, once nothing is half done here; none: it is to be asked again, since what was
    /// acknowledged a moment ago may not be counted yet. `seen`: how many deliveries came.
    pub(super) fn is_clean(self, seen: u64) -> Option<bool> {
        match self.delivered == seen {
            false => Some(false),
            true => (self.pending == 0).then_some(true),
        }
    }
}

impl Place {
    /// What is wrong with the consumer before its first pull. Nobody may have left anything in it; over a new connection it must be as
    /// we have it, `seen` being the deliveries that came and `out` what is out of them.
    pub(super) fn fault(&self, account: Account, (seen, out): (u64, u32)) -> Option<Break> {
        // More may be pending than is out: acks were lost with the connection. These events come again, and are known.
        let is_ours = account.delivered == seen && account.pending >= u64::from(out);
        match self.is_informed {
            true => (!is_ours).then_some(Break::Reconnected),
            false => (account.pending > 0).then_some(Break::Hole),
        }
    }

    /// The reading of its repeat window.
    pub(super) fn back(&mut self) -> Option<&mut ReadBack> {
        match &mut self.stage {
            Stage::ReadingBack(back) | Stage::ReadingAhead(back) => Some(back),
            _ => None,
        }
    }

    /// Where to go on reading its repeat window up to `to`; none: at its beginning.
    pub(super) fn window_from(&self, to: u64) -> Option<u64> {
        (1..=to).contains(&self.known_to).then_some(self.known_to + 1)
    }

    /// Whether the shard is to be told what was settled before the partition came, before the first pull. What is settled from then on
    /// it knows by itself.
    pub(super) fn needs_window(&mut self) -> bool {
        let needs_it = !self.knows_window && self.wish.floor > 0 && self.known_to != self.wish.floor;
        self.knows_window |= !needs_it;
        needs_it
    }
}

/// An event that is not settled, at two looks or more.
#[derive(Debug)]
pub(super) struct Held {
    /// What is settled around it.
    pub(super) settled: Settled,
    /// When it was first seen to be the oldest.
    pub(super) since: Boottime,
    /// It was said.
    pub(super) is_said: bool,
}

/// All of a reader.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) places: Vec<Place>,
    /// Places where something is to be done.
    pub(super) busy: BTreeSet<usize>,
    /// Repeat windows that are read.
    pub(super) reading_back: u32,
    pub(super) reading_back_max: u32,
    /// When which of them is read ahead.
    pub(super) ahead: Ahead,
    /// What the shard is to be told and has no room for.
    pub(super) untold: VecDeque<Input>,
    /// Events that are to be acknowledged at once.
    pub(super) owed_acks: Vec<bytes::Bytes>,
    pub(super) hold_at: Instant,
    /// Since when there is no connection.
    pub(super) lost_at: Option<Instant>,
}

impl Owned {
    pub(super) fn new(partitions: usize, reading_back_max: u32, now: Instant) -> Self {
        let place = || Place {
            stage: Stage::Absent,
            generation: Generation(0),
            wish: Settled::default(),
            opening: 0,
            is_informed: false,
            is_holed: false,
            knows_window: false,
            known_to: 0,
            held: None,
            closed: None,
        };
        Self {
            places: (0..partitions).map(|_| place()).collect(),
            busy: BTreeSet::new(),
            reading_back: 0,
            reading_back_max,
            ahead: Ahead::new(now),
            untold: VecDeque::new(),
            owed_acks: Vec::new(),
            hold_at: now,
            lost_at: None,
        }
    }

    /// The number of a place's present subscription.
    pub(super) fn sid(&self, at: usize, of: Of) -> u64 {
        FIRST_SID + (self.places[at].opening * self.places.len() as u64 + at as u64) * 2 + of as u64
    }

    /// Of which place a subscription is, if it is a present one.
    #[inline]
    pub(super) fn place_of(&self, sid: u64) -> Option<(usize, Of)> {
        let number = sid.checked_sub(FIRST_SID)?;
        let (of, number) = (if number & 1 == 0 { Of::Pulls } else { Of::Window }, number / 2);
        let at = (number % self.places.len() as u64) as usize;
        (self.places[at].opening == number / self.places.len() as u64).then_some((at, of))
    }

    /// Whether any partition is here, or was to be.
    pub(super) fn is_any(&self) -> bool {
        self.places.iter().any(|place| !place.stage.is_elsewhere() && !matches!(place.stage, Stage::Broken))
    }

    /// Whether any is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.busy.iter().any(|at| self.places[*at].stage.is_closing())
    }

    /// How a place is pulled from, given once: as soon as the shard was told all that it has to know before.
    pub(super) fn start_of(&mut self, at: usize) -> Option<Terms> {
        match &mut self.places[at].stage {
            Stage::Starting(terms) if self.untold.is_empty() => terms.take(),
            _ => None,
        }
    }

    /// Another stage.
    pub(super) fn set(&mut self, at: usize, stage: Stage) {
        if stage.is_busy() {
            self.busy.insert(at);
        } else {
            self.busy.remove(&at);
        }
        let before = std::mem::replace(&mut self.places[at].stage, stage);
        self.ahead.changed(before.turn(), self.places[at].stage.turn());
    }

    /// The connection is gone: what was waited for is begun anew over the next one.
    pub(super) fn lost(&mut self) {
        self.reading_back = 0;
        self.lost_at.get_or_insert_with(Instant::now);
        for at in 0..self.places.len() {
            let next = match &self.places[at].stage {
                Stage::Informing { .. } | Stage::ReadingBack(_) | Stage::Starting(_) | Stage::Open => Stage::ToOpen,
                Stage::Unsubscribing { until, .. } => Stage::Unsubscribing { ping: None, until: *until },
                // The time goes on: the next connection may never come.
                Stage::Confirming { until, .. } | Stage::Checking { until, .. } => {
                    Stage::Confirming { ping: None, until: *until }
                }
                Stage::ToLookAhead(_) | Stage::LookingAhead(_) | Stage::ReadingAhead(_) => Stage::Absent,
                Stage::Absent | Stage::ToOpen | Stage::Draining | Stage::Reopening { .. } | Stage::Broken => continue,
            };
            self.set(at, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pulls::Standing;
    use super::*;

    #[test]
    fn a_subscription_is_known_until_the_next_opening_of_its_partition() {
        let mut owned = Owned::new(3, 1, Instant::now());
        let mut seen = BTreeSet::new();
        for opening in 0..4 {
            for at in 0..3 {
                owned.places[at].opening = opening;
                for of in [Of::Pulls, Of::Window] {
                    let sid = owned.sid(at, of);
                    assert!(seen.insert(sid) && owned.place_of(sid) == Some((at, of)));
                }
            }
        }
        assert_eq!(seen.iter().filter(|sid| owned.place_of(**sid).is_some()).count(), 6, "the latest of each");
        assert!((0..FIRST_SID).all(|sid| owned.place_of(sid).is_none()));
    }

    #[test]
    fn a_close_is_clean_when_the_server_has_all_acks_of_all_that_came() {
        let is_clean = |delivered, pending| Account { delivered, pending }.is_clean(10);
        assert_eq!([is_clean(10, 0), is_clean(10, 1), is_clean(10, 10)], [Some(true), None, None]);
        assert_eq!([is_clean(11, 0), is_clean(11, 1), is_clean(9, 0)], [Some(false); 3], "it did not all come here");
    }

    #[test]
    fn nothing_is_pulled_from_a_consumer_that_another_has_left_something_in_or_that_is_not_as_we_have_it() {
        let mut owned = Owned::new(1, 1, Instant::now());
        let place = &mut owned.places[0];
        let look = |place: &Place, delivered, pending| place.fault(Account { delivered, pending }, (5, 2));
        for delivered in [0, 5, 9] {
            assert_eq!([look(place, delivered, 0), look(place, delivered, 1)], [None, Some(Break::Hole)]);
        }
        place.is_informed = true;
        assert_eq!([look(place, 5, 2), look(place, 5, 3)], [None, None], "acks may be lost");
        assert_eq!([look(place, 5, 1), look(place, 4, 2), look(place, 6, 2)], [Some(Break::Reconnected); 3]);
    }

    #[test]
    fn nothing_is_pulled_before_the_shard_knows_what_was_settled_before() {
        let mut owned = Owned::new(1, 1, Instant::now());
        assert!(!owned.places[0].needs_window(), "nothing was");
        owned.places[0].knows_window = false;
        owned.places[0].wish.floor = 7;
        assert!(owned.places[0].needs_window() && owned.places[0].needs_window(), "until it was read");
        owned.places[0].knows_window = true;
        assert!(!owned.places[0].needs_window());

        let standing = Standing::of(Duration::from_secs(10));
        let terms = Terms { window: 100, batch_max: 1, bytes_max: 1, standing, from: None };
        owned.set(0, Stage::ReadingBack(Box::new(ReadBack::new(None, 7, 0, Some(terms)))));
        assert!(owned.start_of(0).is_none());
        owned.set(0, Stage::Starting(Some(terms)));
        owned.untold.push_back(Input::Known(Vec::new()));
        assert!(owned.start_of(0).is_none(), "the shard has no room for what it is to be told");
        owned.untold.clear();
        assert!(owned.start_of(0).is_some() && owned.start_of(0).is_none(), "once");
    }

    #[test]
    fn what_a_lost_connection_was_waited_for_is_begun_anew() {
        let now = Instant::now();
        let mut owned = Owned::new(4, 1, now);
        owned.set(0, Stage::Open);
        owned.set(1, Stage::Confirming { ping: Some(1), until: now });
        owned.set(2, Stage::Broken);
        assert_eq!(owned.busy, BTreeSet::from([1]));
        owned.lost();
        assert!(
            matches!(owned.places[0].stage, Stage::ToOpen)
                && matches!(owned.places[1].stage, Stage::Confirming { ping: None, .. })
        );
        assert!(matches!(owned.places[2].stage, Stage::Broken) && matches!(owned.places[3].stage, Stage::Absent));
        assert_eq!((owned.busy.len(), owned.is_closing(), owned.is_any()), (2, true, true));
    }
}
