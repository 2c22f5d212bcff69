//! A started NATS source, whose lanes a test reads and whose events it settles.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use glommio::LocalExecutorBuilder;
use task_engine::config::Config;
use task_engine::edge::nats::{NatsSource, Partitions};
use task_engine::edge::resolve::Resolver;
use task_engine::engine::adapters::source_of;
use task_engine::model::ids::ShardId;
use task_engine::model::ownership::ShardWord;
use task_engine::model::priority::Said;
use task_engine::model::publication::Published;
use task_engine::ports::intake::{Intake, IntakeLane, Moves};
use task_engine::ports::mailbox::FactSender;
use task_engine::ports::permit::Permit;
use task_engine::ports::{
    DeadLetter, DeliveryTag, Disposition, Health, Origin, RunningSource, Settled, ShardReaders, Source,
};
use task_engine::push::facts::Input;

use crate::events::session_and_number;
use crate::wait::eventually_within;

/// What a test of a source waits for at the most, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Events that a lane holds unless a test says otherwise.
const LANE_EVENTS: usize = 16 * 1024;

pub struct Taking {
    pub intake: Intake,
    pub lanes: Vec<IntakeLane>,
    pub source: Box<dyn RunningSource>,
    /// Of partitions that have owners.
    pub partitions: Partitions,
    words: Arc<Mutex<VecDeque<(ShardId, ShardWord)>>>,
    /// What the source put into the dead letters; each is kept.
    pub letters: Arc<Mutex<Vec<(DeadLetter, Origin)>>>,
}

impl Taking {
    pub fn start(settings: &Config, partitions: u32, shards: usize) -> Self {
        Self::with_lanes(settings, partitions, shards, LANE_EVENTS)
    }

    pub fn with_lanes(settings: &Config, partitions: u32, shards: usize, lane_events: usize) -> Self {
        let wakes = (0..shards).map(|_| Arc::default()).collect();
        Self::over(
            source_of(settings, &resolver()).expect("files that can be used"),
            Intake::with_lane_events(wakes, partitions, Arc::default(), lane_events),
        )
    }

    /// With a source that was made already; one whose intake is shut hands in nothing.
    pub fn of(source: NatsSource, is_open: bool, partitions: u32, shards: usize) -> Self {
        let wakes = (0..shards).map(|_| Arc::default()).collect();
        let (intake, lanes) = Intake::with_lane_events(wakes, partitions, Arc::default(), LANE_EVENTS);
        if !is_open {
            intake.shut("nobody reads".to_owned());
        }
        Self::over(source, (intake, lanes))
    }

    /// A source that may acknowledge only while this permit holds.
    pub fn with_permit(settings: &Config, partitions: u32, shards: usize, permit: Arc<Permit>) -> Self {
        let wakes = (0..shards).map(|_| Arc::default()).collect();
        let of = Intake::with_permit(wakes, partitions, Arc::default(), permit, settings.rules_of_classes());
        if settings.admin.push_latency {
            of.0.read_published();
        }
        Self::over(source_of(settings, &resolver()).expect("files that can be used"), of)
    }

    fn over(source: NatsSource, (intake, lanes): (Intake, Vec<IntakeLane>)) -> Self {
        let (partitions, words) = (source.partitions(), Arc::<Mutex<VecDeque<_>>>::default());
        let heard = words.clone();
        partitions.on_word(move |shard, word| heard.lock().expect("not poisoned").push_back((shard, word)));
        let letters = Arc::<Mutex<Vec<_>>>::default();
        let kept = letters.clone();
        source.letters_go_to(Arc::new(move |ask, letter, origin, reply: FactSender| {
            kept.lock().expect("no panic").push((letter, origin));
            drop(reply.try_send(Input::LetterPublished { ask, answer: Ok(()) }));
            Ok(())
        }));
        if let Some(readers) = source.shard_readers() {
            read_on_a_thread(readers, intake.clone());
        }
        let source = Box::new(source).start(intake.clone()).expect("threads");
        Self { intake, lanes, source, partitions, words, letters }
    }

    /// The next word of a reader about a partition.
    pub fn word(&self) -> ShardWord {
        let mut word = None;
        eventually_within(PATIENCE, "a word about a partition", || {
            word = self.try_word();
            word.is_some()
        });
        word.expect("waited for")
    }

    /// The same, if there is one.
    pub fn try_word(&self) -> Option<ShardWord> {
        self.words.lock().expect("not poisoned").pop_front().map(|(_, word)| word)
    }

    /// What the shards were told beside events, since this was last asked.
    pub fn facts(&self) -> Vec<Input> {
        self.lanes.iter().flat_map(|lane| std::iter::from_fn(|| lane.try_fact())).collect()
    }

    pub fn until_ready(&self) {
        eventually_within(PATIENCE, "the source is ready", || self.intake.health() == Health::Ready);
    }

    /// What the source says it waits for, once that holds all the words.
    pub fn until_waiting(&self, words: &[&str]) -> String {
        let mut said = String::new();
        eventually_within(PATIENCE, &format!("the source says {words:?}"), || {
            if let Health::Waiting(why) = self.intake.health() {
                said = why;
            }
            words.iter().all(|word| said.contains(word))
        });
        said
    }

    /// What is in the lanes: numbers and tags.
    pub fn take(&self) -> Vec<(u64, DeliveryTag)> {
        let all = self.lanes.iter().flat_map(|lane| std::iter::from_fn(|| lane.try_take()));
        all.map(|(payload, tag)| (session_and_number(&payload).1, tag)).collect()
    }

    /// What is in the lanes: numbers, and what was said of each event's class.
    pub fn take_said(&self) -> Vec<(u64, Said)> {
        let all = self.lanes.iter().flat_map(|lane| std::iter::from_fn(|| lane.try_take_timed()));
        all.map(|(payload, _, said, _)| (session_and_number(&payload).1, said)).collect()
    }

    /// What is in the lanes: numbers, and when each event was published.
    pub fn take_published(&self) -> Vec<(u64, Published)> {
        let all = self.lanes.iter().flat_map(|lane| std::iter::from_fn(|| lane.try_plain()));
        all.map(|event| (session_and_number(&event.payload).1, event.passage.published)).collect()
    }

    /// Waits for so many.
    pub fn take_many(&self, count: usize) -> Vec<(u64, DeliveryTag)> {
        let mut all = Vec::new();
        eventually_within(PATIENCE, &format!("{count} events"), || {
            all.extend(self.take());
            all.len() >= count
        });
        all
    }

    /// A number of the source's partitioner.
    pub fn moves(&self, number: Moves) -> u64 {
        self.intake.counts().partitioner().of(number)
    }

    pub fn settle(&self, events: &[(u64, DeliveryTag)], how: Disposition) {
        let settled: Vec<_> = events.iter().map(|&(_, tag)| Settled { tag, how }).collect();
        self.source.settle(&settled);
    }

    /// Where an event came from, as its reader says.
    pub fn origin(&self, tag: DeliveryTag) -> Origin {
        let (told, tell) = mpsc::channel();
        self.source.with_origin(tag, Box::new(move |origin| told.send(origin).expect("waited for")));
        tell.recv_timeout(PATIENCE).expect("an answer")
    }

    /// As the engine stops.
    pub fn stop(&self) {
        self.source.stop();
        self.source.finish();
    }
}

fn resolver() -> Resolver {
    Resolver::start().expect("threads")
}

/// All readers on one executor, in place of the shards' own; it ends when they do.
fn read_on_a_thread(readers: Arc<dyn ShardReaders>, intake: Intake) {
    let spawn = move || async move {
        let all = (0..intake.shards()).map(|shard| glommio::spawn_local(readers.serve(ShardId(shard), intake.clone())));
        let all: Vec<_> = all.collect();
        // Whoever is dropped last tells the readers to end: it must not be this thread.
        drop(readers);
        for reader in all {
            reader.await;
        }
    };
    LocalExecutorBuilder::default().io_memory(64 << 10).name("readers").spawn(spawn).expect("an executor");
}
