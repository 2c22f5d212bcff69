//! Who manages consumers for the thread that owns partitions: two threads with a blocking connection each, one for what may take
//! long, one for proofs, which must not wait for it.
//!
//! Promises that what was asked for meanwhile is asked for at once, all in one round trip; that each ask has one answer, also when
//! there is none; and that a change of whether NATS can be reached is told. Of proofs that wait only the newest is made.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::jetstream::generations::{Generations, Outcome, Standing, Which};
use crate::config::{ConsumerConfig, Current, NatsConfig};
use crate::model::ids::Partition;
use crate::model::ownership::Generation;
use crate::ownership::facts::{Answer, Ask, AskNo, ConsumerInfo, Fact, Refusal};
use crate::ports::ownership::{ConsumerDesk, OwnerFacts};

/// Asks of one round trip.
const AT_ONCE: usize = 512;
/// How often to look whether NATS can be reached while nothing is asked: as long as it can, and while it cannot.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AWAY: Duration = Duration::from_millis(200);
/// A proof that comes later is no proof any more.
const PROOF_PATIENCE: Duration = Duration::from_millis(800);

enum Job {
    Ask(AskNo, Ask),
    Settled(Which, String),
}

/// See the module. Its threads end when it is dropped.
#[derive(Debug)]
pub struct NatsDesk {
    jobs: Sender<Job>,
    proofs: Sender<(AskNo, Vec<Which>)>,
}

impl NatsDesk {
    /// Starts the threads; answers go to `facts`.
    ///
    /// # Errors
    /// When the machine refuses a thread.
    pub fn start(
        nats: &Current<NatsConfig>,
        consumer: &ConsumerConfig,
        instance: String,
        facts: OwnerFacts,
    ) -> io::Result<Self> {
        let ((jobs, to_do), (proofs, to_prove)) = (unbounded(), unbounded());
        let mut all = Generations::new(nats.clone(), consumer, nats.now().timeout);
        let told = facts.clone();
        thread::Builder::new().name("owner-nats".to_owned()).spawn(move || work(&to_do, &mut all, &told))?;
        let mut proven = Generations::new(nats.clone(), consumer, PROOF_PATIENCE);
        let prove = move || prove(&to_prove, &mut proven, &instance, &facts);
        thread::Builder::new().name("owner-proofs".to_owned()).spawn(prove)?;
        Ok(Self { jobs, proofs })
    }
}

impl ConsumerDesk for NatsDesk {
    fn ask(&mut self, ask: AskNo, what: Ask) {
        let _ = self.jobs.send(Job::Ask(ask, what));
    }

    fn prove(&mut self, ask: AskNo, of: Vec<Which>) {
        let _ = self.proofs.send((ask, of));
    }

    fn publish_settled(&mut self, partition: Partition, generation: Generation, text: String) {
        let _ = self.jobs.send(Job::Settled((partition, generation), text));
    }
}

fn prove(proofs: &Receiver<(AskNo, Vec<Which>)>, generations: &mut Generations, instance: &str, facts: &OwnerFacts) {
    while let Ok(first) = proofs.recv() {
        let (ask, of) = proofs.try_iter().last().unwrap_or(first);
        let (standing, word) = generations.prove(instance, &of);
        let found = of.iter().zip(standing).filter_map(|((partition, generation), standing)| {
            standing.done().map(|standing| (*partition, *generation, standing.created))
        });
        facts.tell(Fact::Proved { ask, is_confirmed: word == Outcome::Done(()), found: found.collect() });
    }
}

fn work(jobs: &Receiver<Job>, generations: &mut Generations, facts: &OwnerFacts) {
    let mut was_reached = false;
    loop {
        let first = match jobs.recv_timeout(if was_reached { LOOK } else { LOOK_AWAY }) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let is_reached = match first {
            None => !matches!(generations.stream(), Outcome::NoAnswer(_)),
            Some(first) => {
                let mut round = Round::default();
                std::iter::once(first).chain(jobs.try_iter().take(AT_ONCE - 1)).for_each(|job| round.add(job));
                round.run(generations, facts)
            }
        };
        if std::mem::replace(&mut was_reached, is_reached) != is_reached {
            facts.tell(Fact::Nats { is_connected: is_reached });
        }
    }
}

/// What is asked for at once, by kind.
#[derive(Default)]
struct Round {
    names: Vec<AskNo>,
    infos: Vec<(AskNo, Which)>,
    deletes: Vec<(AskNo, Which)>,
    creates: Vec<(AskNo, (Which, u64))>,
    reads: Vec<(AskNo, Which)>,
    settled: BTreeMap<Which, String>,
}

impl Round {
    fn add(&mut self, job: Job) {
        match job {
            Job::Ask(ask, Ask::Names) => self.names.push(ask),
            Job::Ask(ask, Ask::Info(partition, generation)) => self.infos.push((ask, (partition, generation))),
            Job::Ask(ask, Ask::Delete(partition, generation)) => self.deletes.push((ask, (partition, generation))),
            Job::Ask(ask, Ask::Create(partition, generation, start)) => {
                self.creates.push((ask, ((partition, generation), start)));
            }
            Job::Ask(ask, Ask::ReadSettled(partition, generation)) => self.reads.push((ask, (partition, generation))),
            Job::Settled(of, text) => _ = self.settled.insert(of, text),
        }
    }

    /// Whether NATS was reached.
    fn run(self, generations: &mut Generations, facts: &OwnerFacts) -> bool {
        let mut teller = Teller { facts, is_reached: true };
        if !self.names.is_empty() {
            let names = generations.names();
            for ask in self.names {
                teller.tell(ask, names.clone(), Answer::Names, None);
            }
        }
        let (asks, which): (Vec<_>, Vec<_>) = self.infos.into_iter().unzip();
        for (ask, info) in asks.into_iter().zip(generations.standing(&which)) {
            teller.tell(ask, info, |info| Answer::Info(Some(info_of(&info))), Some(Answer::Info(None)));
        }
        let (asks, which): (Vec<_>, Vec<_>) = self.deletes.into_iter().unzip();
        for (ask, gone) in asks.into_iter().zip(generations.delete(&which)) {
            teller.tell(ask, gone, |()| Answer::Deleted, Some(Answer::Deleted));
        }
        let (asks, which): (Vec<_>, Vec<_>) = self
            .creates
            .into_iter()
            .map(|(ask, ((partition, generation), start))| (ask, (partition, generation, start)))
            .unzip();
        for (ask, made) in asks.into_iter().zip(generations.create(&which)) {
            teller.tell(ask, made, |info| Answer::Created(info_of(&info)), None);
        }
        let (asks, which): (Vec<_>, Vec<_>) = self.reads.into_iter().unzip();
        for (ask, kept) in asks.into_iter().zip(generations.kept(&which)) {
            teller.tell(ask, kept, |text| Answer::Settled(Some(text)), Some(Answer::Settled(None)));
        }
        let settled: Vec<_> = self.settled.into_iter().collect();
        let kept = generations.keep(&settled);
        teller.is_reached && !kept.iter().any(|kept| matches!(kept, Outcome::NoAnswer(_)))
    }
}

struct Teller<'a> {
    facts: &'a OwnerFacts,
    is_reached: bool,
}

impl Teller<'_> {
    /// `absent` is the answer when what is asked about is not there; none: then the stream is not.
    fn tell<T>(&mut self, ask: AskNo, outcome: Outcome<T>, done: impl Fn(T) -> Answer, absent: Option<Answer>) {
        let answer = match outcome {
            Outcome::Done(value) => Ok(done(value)),
            Outcome::Absent => absent.ok_or_else(|| Refusal::Refused("the stream does not exist".to_owned())),
            Outcome::Refused(why) => Err(Refusal::Refused(why)),
            Outcome::NoAnswer(_) => {
                self.is_reached = false;
                Err(Refusal::NoAnswer)
            }
        };
        self.facts.tell(Fact::Answered { ask, answer });
    }
}

fn info_of(standing: &Standing) -> ConsumerInfo {
    let Standing { floor, start, delivered, created, .. } = *standing;
    ConsumerInfo { floor, start, delivered, created }
}
