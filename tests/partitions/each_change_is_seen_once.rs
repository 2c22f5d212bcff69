//! Promise: what the watch tells is the history of the keys, each change once and in order, whatever happens to the connection, to
//! etcd, or to its history: what the watch missed is in the listing that follows.

use std::collections::BTreeMap;
use std::time::Duration;

use task_engine::ownership::facts::Fact;
use task_engine::ownership::keys::Key;
use testkit::mysql_etcd::Etcd;

use crate::edge::{Edge, owner, path, value};
use crate::way::Way;

type Keys = BTreeMap<String, String>;

/// What was written, and what is seen of it.
struct History {
    etcd: Etcd,
    edge: Edge,
    /// All keys as of each revision that wrote any.
    states: BTreeMap<i64, Keys>,
    /// As it was seen, up to which revision, and how often everything was listed.
    seen: Keys,
    at: i64,
    listings: u32,
    changes: u32,
}

impl History {
    fn of(etcd: Etcd, endpoint: &str) -> Self {
        let mut edge = Edge::start(endpoint);
        edge.ask(|etcd| etcd.list());
        let (states, seen) = (BTreeMap::new(), Keys::new());
        Self { etcd, edge, states, seen, at: 0, listings: 0, changes: 0 }
    }

    /// Writes one key, or deletes it, beside a key that is none of ours.
    fn write(&mut self, key: &Key, value: Option<&str>) {
        let (place, beside) = (path(key), format!("{}/other", path(key)));
        let mut now = self.states.last_key_value().map_or_else(Keys::new, |(_, state)| state.clone());
        let written = value.map(str::to_owned);
        let revision = self.etcd.run(|mut client| async move {
            client.put(beside, "no key of ours", None).await?;
            match written {
                Some(value) => Ok(client.put(place, value, None).await?.header().map_or(0, |head| head.revision())),
                None => Ok(client.delete(place, None).await?.header().map_or(0, |head| head.revision())),
            }
        });
        match value {
            Some(value) => now.insert(key.to_string(), value.to_owned()),
            None => now.remove(&key.to_string()),
        };
        self.states.insert(revision, now);
    }

    /// Takes one fact in, and holds it against what was written.
    fn take(&mut self) {
        match self.edge.next() {
            Fact::Listed { revision, keys } => {
                self.listings += 1;
                let keys = keys
                    .iter()
                    .map(|state| (state.key.to_string(), value(state).expect("a listed key has a value").to_owned()));
                self.seen = keys.collect();
                self.at = revision;
            }
            Fact::Watched { revision, changes } => {
                for (at, state) in changes {
                    assert!(at > self.at && at <= revision, "{at} after {}, in a response of {revision}", self.at);
                    // No change in between was left out.
                    let between = self.states.range(self.at + 1..at).count();
                    assert_eq!(between, 0, "from {} to {at}", self.at);
                    (self.at, self.changes) = (at, self.changes + 1);
                    match value(&state) {
                        Some(value) => self.seen.insert(state.key.to_string(), value.to_owned()),
                        None => {
                            assert_eq!((state.mod_revision, state.create_revision), (0, 0));
                            self.seen.remove(&state.key.to_string())
                        }
                    };
                }
            }
            Fact::WatchLost => return self.edge.ask(|etcd| etcd.list()),
            other => panic!("{other:?}"),
        }
        // Each moment that is seen is one that was.
        if let Some((_, state)) = self.states.range(..=self.at).next_back() {
            assert_eq!(self.seen, *state, "as of {}", self.at);
        }
    }

    /// Until all that was written is seen.
    fn catch_up(&mut self) {
        let last = self.states.last_key_value().map_or(0, |(at, _)| *at);
        while self.at < last {
            self.take();
        }
    }
}

#[test]
fn while_nothing_happens_to_it() {
    let etcd = Etcd::start();
    let endpoint = etcd.endpoint();
    let mut history = History::of(etcd, &endpoint);
    history.write(&Key::Plan, Some("before the listing"));
    history.catch_up();
    for round in 0..30 {
        history.write(&owner(round % 3), Some(&format!("value {round}")));
        if round % 4 == 0 {
            history.write(&owner(round % 3), None);
        }
        if round % 5 == 0 {
            history.catch_up();
        }
    }
    history.catch_up();
    assert_eq!(history.listings, 1);
    assert!(history.changes >= 38, "{}", history.changes);
}

#[test]
fn over_a_cut_and_while_it_is_cut_off() {
    let etcd = Etcd::start();
    let way = Way::to(etcd.port);
    let mut history = History::of(etcd, &way.endpoint());
    for round in 0..6 {
        history.write(&owner(1), Some(&format!("before {round}")));
        history.catch_up();
        if round % 2 == 0 {
            way.cut();
            history.write(&owner(1), Some(&format!("cut {round}")));
        } else {
            way.shut(true);
            history.write(&owner(2), Some(&format!("away {round}")));
            history.write(&owner(1), None);
            way.shut(false);
        }
        history.catch_up();
    }
    assert!(history.listings >= 4, "{}", history.listings);
}

#[test]
fn over_a_restart() {
    let etcd = Etcd::start();
    let endpoint = etcd.endpoint();
    let mut history = History::of(etcd, &endpoint);
    history.write(&owner(1), Some("before"));
    history.catch_up();
    history.etcd.kill();
    history.etcd.start_again();
    history.write(&owner(2), Some("after"));
    history.write(&owner(1), None);
    history.catch_up();
    assert!(history.listings >= 2);
}

#[test]
fn over_a_compaction_of_what_it_missed() {
    let etcd = Etcd::start();
    let way = Way::to(etcd.port);
    let mut history = History::of(etcd, &way.endpoint());
    history.write(&owner(1), Some("before"));
    history.catch_up();
    way.shut(true);
    for round in 0..10 {
        history.write(&owner(1), Some(&format!("missed {round}")));
    }
    let last = *history.states.last_key_value().expect("written").0;
    history.etcd.run(|mut client| async move { client.compact(last, None).await.map(drop) });
    way.shut(false);
    history.catch_up();
    history.write(&owner(1), Some("after"));
    history.catch_up();
    assert!(history.listings >= 2);
}

#[test]
fn what_one_transaction_wrote_comes_together() {
    let etcd = Etcd::start();
    let endpoint = etcd.endpoint();
    let mut edge = Edge::start(&endpoint);
    edge.ask(|etcd| etcd.list());
    assert!(matches!(edge.next(), Fact::Listed { .. }));
    let writes = (0..40).map(|at| crate::edge::put(owner(at), "x")).collect();
    edge.ask(|etcd| etcd.commit(task_engine::ownership::facts::AskNo(1), crate::edge::txn(Vec::new(), writes)));
    loop {
        match edge.next() {
            Fact::Watched { changes, revision } => {
                assert_eq!(changes.len(), 40);
                assert!(changes.iter().all(|(at, state)| *at == revision && state.mod_revision == revision));
                return;
            }
            Fact::Committed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hung_etcd_is_told_as_a_lost_watch() {
    let etcd = Etcd::start();
    let mut edge = Edge::start(&etcd.endpoint());
    edge.ask(|etcd| etcd.list());
    assert!(matches!(edge.next(), Fact::Listed { .. }));
    etcd.signal(libc::SIGSTOP);
    let lost = edge.next_within(Duration::from_secs(8));
    etcd.signal(libc::SIGCONT);
    assert_eq!(lost, Some(Fact::WatchLost), "nothing else would say so");
    edge.ask(|etcd| etcd.list());
    assert!(matches!(edge.next(), Fact::Listed { .. }));
}

#[test]
fn a_new_listing_ends_the_watch_before_it() {
    let etcd = Etcd::start();
    let mut edge = Edge::start(&etcd.endpoint());
    edge.ask(|etcd| etcd.list());
    assert!(matches!(edge.next(), Fact::Listed { .. }));
    edge.ask(|etcd| etcd.list());
    assert!(matches!(edge.next(), Fact::Listed { .. }));
    etcd.put(&path(&Key::Plan), "once");
    let Fact::Watched { changes, .. } = edge.next() else { panic!("a change") };
    assert_eq!(changes.len(), 1);
    assert_eq!(edge.next_within(Duration::from_millis(500)), None, "nobody else watches");
}
