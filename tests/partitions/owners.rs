//! Instances that own partitions by a real etcd, with shards and a NATS that are a table each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use task_engine::edge::etcd::ownership::root;
use task_engine::engine::ownership::{Board, LastWord, LockFile, Owner, OwnerThread, random_boot};
use task_engine::model::ids::{Partition, ShardId};
use task_engine::model::ownership::{Boottime, Generation, Settled, ShardOrder, ShardWord};
use task_engine::ownership::facts::{Answer, Ask, AskNo, ConsumerInfo, Fact};
use task_engine::ownership::records::Layout;
use task_engine::ownership::settings::{Settings, Timings};
use task_engine::ownership::status::Status;
use task_engine::ports::ownership::{ConsumerDesk, OwnerFacts, OwnerInbox, ShardDesk};
use task_engine::ports::permit::boottime;
use task_engine::telemetry::watchdog::Heartbeats;
use testkit::wait::eventually_within;

use crate::edge::{DURABLE, STREAM, settings};

pub const PARTITIONS: u32 = 64;
const SHARDS: u16 = 2;
const FLOOR: u64 = 10;

/// What all instances share besides etcd: consumers, and who reads what.
#[derive(Default)]
pub struct World {
    consumers: Mutex<BTreeMap<(Partition, Generation), ConsumerInfo>>,
    made: AtomicU64,
    /// Which process reads a partition.
    readers: Mutex<BTreeMap<Partition, String>>,
    /// What must not be.
    pub wrongs: Mutex<Vec<String>>,
}

impl World {
    fn opens(&self, partition: Partition, who: &str, generation: Generation) {
        let wrong = |what: String| self.wrongs.lock().unwrap().push(what);
        if !self.consumers.lock().unwrap().contains_key(&(partition, generation)) {
            wrong(format!("{who} opens {partition:?} by {generation:?}, which is not there"));
        }
        let other = self.readers.lock().unwrap().insert(partition, who.to_owned());
        if let Some(other) = other.filter(|other| other != who) {
            wrong(format!("{who} opens {partition:?}, which {other} still reads"));
        }
    }

    fn closes(&self, partition: Partition, who: &str) {
        let mut readers = self.readers.lock().unwrap();
        if readers.get(&partition).is_some_and(|reader| reader == who) {
            readers.remove(&partition);
        }
    }

    /// A process is gone: it reads nothing any more.
    fn dies(&self, who: &str) {
        self.readers.lock().unwrap().retain(|_, reader| reader != who);
    }

    /// The highest generation that there is of each partition.
    pub fn generations(&self) -> Vec<u32> {
        let mut all = vec![0; PARTITIONS as usize];
        for (partition, generation) in self.consumers.lock().unwrap().keys() {
            let highest = &mut all[partition.0 as usize];
            *highest = (*highest).max(generation.0);
        }
        all
    }

    /// How many partitions are read.
    pub fn open(&self) -> usize {
        self.readers.lock().unwrap().len()
    }

    pub fn nothing_is_wrong(&self) {
        let wrongs = self.wrongs.lock().unwrap();
        assert!(wrongs.is_empty(), "{wrongs:#?}");
    }

    fn answer(&self, what: Ask) -> Answer {
        let mut consumers = self.consumers.lock().unwrap();
        match what {
            Ask::Names => Answer::Names(consumers.keys().copied().collect()),
            Ask::Info(partition, generation) => Answer::Info(consumers.get(&(partition, generation)).copied()),
            Ask::Create(partition, generation, start) => {
                let created = self.made.fetch_add(1, Ordering::Relaxed) + 1;
                let made = ConsumerInfo { floor: FLOOR.max(start.saturating_sub(1)), start, delivered: 0, created };
                Answer::Created(*consumers.entry((partition, generation)).or_insert(made))
            }
            Ask::Delete(partition, generation) => {
                consumers.remove(&(partition, generation));
                Answer::Deleted
            }
            Ask::ReadSettled(..) => Answer::Settled(None),
        }
    }
}

struct Desk {
    world: Arc<World>,
    facts: OwnerFacts,
}

impl ConsumerDesk for Desk {
    fn ask(&mut self, ask: AskNo, what: Ask) {
        self.facts.tell(Fact::Answered { ask, answer: Ok(self.world.answer(what)) });
    }

    fn prove(&mut self, ask: AskNo, of: Vec<(Partition, Generation)>) {
        let consumers = self.world.consumers.lock().unwrap();
        let found = of.into_iter().filter_map(|(partition, generation)| {
            consumers.get(&(partition, generation)).map(|info| (partition, generation, info.created))
        });
        self.facts.tell(Fact::Proved { ask, is_confirmed: true, found: found.collect() });
    }

    fn publish_settled(&mut self, _: Partition, _: Generation, _: String) {}
}

struct Shards {
    world: Arc<World>,
    who: String,
    facts: OwnerFacts,
    /// The first orders are given back, as by readers that do not run yet.
    not_yet: u32,
}

impl ShardDesk for Shards {
    fn order(&mut self, shard: ShardId, order: ShardOrder) -> Result<(), ShardOrder> {
        if self.not_yet > 0 {
            self.not_yet -= 1;
            return Err(order);
        }
        match order {
            ShardOrder::Prepare { .. } => {}
            ShardOrder::Open { partition, generation, .. } => {
                self.world.opens(partition, &self.who, generation);
                self.facts.word(shard, ShardWord::Opened { partition });
            }
            ShardOrder::Reopen { partition } => self.facts.word(shard, ShardWord::Opened { partition }),
            ShardOrder::Close { partition } => {
                self.world.closes(partition, &self.who);
                let settled = Settled { floor: FLOOR, above: Vec::new() };
                self.facts.word(shard, ShardWord::Closed { partition, settled, is_clean: true });
            }
            ShardOrder::Drop { partition } => self.world.closes(partition, &self.who),
        }
        Ok(())
    }
}

struct Last(Arc<Mutex<Vec<String>>>);

impl LastWord for Last {
    fn reset(&mut self) {
        self.0.lock().unwrap().push("reset".to_owned());
    }

    fn exit(&mut self, code: u8, sentence: String) {
        self.0.lock().unwrap().push(format!("exit {code}: {sentence}"));
    }
}

/// `engine.drain_timeout`.
const DRAIN: Duration = Duration::from_secs(10);

/// A running instance.
pub struct Instance {
    world: Arc<World>,
    who: String,
    thread: Option<OwnerThread>,
    board: Arc<Board>,
    pub permit: Arc<AtomicU64>,
    /// What it said last.
    pub last: Arc<Mutex<Vec<String>>>,
    is_beating: Arc<AtomicBool>,
}

impl Instance {
    pub fn start(world: &Arc<World>, endpoint: &str, name: &str, ttl: Duration, state: &Path) -> Self {
        let (facts, inbox) = OwnerInbox::new();
        let boot = random_boot();
        let who = format!("{name}/{boot}");
        let heartbeats = Heartbeats::new(SHARDS);
        let is_beating = Arc::new(AtomicBool::new(true));
        beat(&heartbeats, &is_beating);
        let (permit, last) = (Arc::new(AtomicU64::new(0)), Arc::<Mutex<Vec<String>>>::default());
        let given = permit.clone();
        let board = Arc::<Board>::default();
        let lock = LockFile::take(Some(state), name);
        let layout = Layout { partitions: PARTITIONS, topic: "events".to_owned(), ..Layout::default() };
        let settings_of = Settings {
            instance: name.into(),
            boot,
            lock: lock.lock().clone(),
            weight: 2,
            admin: format!("{name}:9100"),
            version: "1.0.0".to_owned(),
            layout,
            shards: SHARDS,
            timings: Timings::of_ttl(ttl),
        };
        let owner = Owner {
            settings: settings_of,
            etcd: settings(&[endpoint]).into(),
            root: root(STREAM, DURABLE),
            heartbeats,
            shards: Box::new(Shards { world: world.clone(), who: who.clone(), facts: facts.clone(), not_yet: 3 }),
            desk: Box::new(Desk { world: world.clone(), facts: facts.clone() }),
            permit: Box::new(move |until: Boottime| given.store(until.0, Ordering::SeqCst)),
            last: Box::new(Last(last.clone())),
            board: board.clone(),
            lock,
        };
        facts.tell(Fact::Nats { is_connected: true });
        let thread = OwnerThread::start(owner, (facts, inbox)).expect("the thread starts");
        Self { world: world.clone(), who, thread: Some(thread), board, permit, last, is_beating }
    }

    pub fn status(&self) -> Option<Status> {
        self.board.last()
    }

    pub fn owned(&self) -> usize {
        self.status().map_or(0, |status| status.held.iter().filter(|held| held.state == "owned").count())
    }

    /// Waits until it owns so many.
    pub fn owns(&self, partitions: usize) {
        let what = format!("{} owns {partitions}", self.who);
        eventually_within(Duration::from_secs(40), &what, || self.owned() == partitions);
    }

    pub fn has_permit(&self) -> bool {
        self.permit.load(Ordering::SeqCst) > boottime().0
    }

    /// Its shards move no more.
    pub fn hangs(&self) {
        self.is_beating.store(false, Ordering::SeqCst);
    }

    pub fn stop(self) {
        let who = self.who.clone();
        self.begins_to_stop();
        assert!(self.ends(), "{who} gave everything back");
    }

    pub fn begins_to_stop(&self) {
        self.thread.as_ref().expect("it runs").stop(DRAIN);
    }

    /// Waits until it has stopped; whether it gave everything back.
    pub fn ends(mut self) -> bool {
        let thread = self.thread.take().expect("it runs");
        let gave_all_back = thread.wait(2 * DRAIN);
        assert!(!self.has_permit());
        gave_all_back
    }

    /// The process is gone without a word.
    pub fn dies(mut self) {
        self.thread.take();
        self.world.dies(&self.who);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.is_beating.store(false, Ordering::SeqCst);
    }
}

/// Beats for all shards until it is told to end.
fn beat(heartbeats: &Arc<Heartbeats>, is_beating: &Arc<AtomicBool>) {
    let (heartbeats, is_beating) = (heartbeats.clone(), is_beating.clone());
    std::thread::spawn(move || {
        while is_beating.load(Ordering::SeqCst) {
            (0..SHARDS).for_each(|shard| heartbeats.beat(ShardId(shard)));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
}
