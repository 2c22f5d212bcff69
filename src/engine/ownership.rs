//! The thread `owner`: drives partition ownership on a runtime and a connection to etcd of its own, so that histograms and pages delay
//! no keepalive.
//!
//! Promises that the core gets each fact with the time of `CLOCK_BOOTTIME` read just before, and that its intentions are carried out
//! in their order; that the permit is in force before the next one is begun; that orders to a shard stay in order while its reader is
//! not there yet; and that a shard which does not move keeps no lease. Refuses to decide anything.

mod beats;
mod board;
mod identity;
mod lock;

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::sleep;

use self::beats::Beats;
pub use self::board::{Board, register};
pub use self::identity::random_boot;
pub use self::lock::LockFile;
use crate::config::{Current, EtcdConfig};
use crate::edge::etcd::ownership::OwnershipEtcd;
use crate::model::ids::ShardId;
use crate::model::ownership::{Boottime, ShardOrder};
use crate::ownership::Ownership;
use crate::ownership::facts::{Fact, Intention, Level};
use crate::ownership::settings::Settings;
use crate::ports::ownership::{ConsumerDesk, OwnerFacts, OwnerInbox, ShardDesk};
use crate::ports::permit::boottime;
use crate::telemetry::watchdog::Heartbeats;

/// How often the shards' beats are told, and how often numbers are published.
const LOOK: Duration = Duration::from_millis(200);
/// Facts that are taken before what follows from them is done.
const FACTS_AT_ONCE: usize = 1024;
/// How long an end waits for etcd to revoke the lease: so that others need not wait for its time.
const REVOKE_PATIENCE: Duration = Duration::from_millis(500);
/// Exit code when a word of a shard was lost.
const EXIT_LOST: u8 = 1;

/// How a process ends that may not go on.
pub trait LastWord: Send + 'static {
    /// Resets all gateway streams (`SO_LINGER` 0), at once: what the kernel holds for them must not leave any more. Must not wait.
    fn reset(&mut self);

    /// Ends the process with this exit code. The sentence is the last line of the log.
    fn exit(&mut self, code: u8, sentence: String);
}

/// What the thread is made of.
pub struct Owner {
    /// What this instance is.
    pub settings: Settings,
    /// How etcd is reached, as it is when a connection is opened.
    pub etcd: Current<EtcdConfig>,
    /// What its keys begin with: [`root`](crate::edge::etcd::ownership::root).
    pub root: String,
    /// Whether the shards move.
    pub heartbeats: Arc<Heartbeats>,
    /// The shards' readers.
    pub shards: Box<dyn ShardDesk>,
    /// Who manages consumers.
    pub desk: Box<dyn ConsumerDesk>,
    /// Puts the permit in force.
    pub permit: Box<dyn Fn(Boottime) + Send>,
    /// How the process ends when it must.
    pub last: Box<dyn LastWord>,
    /// Where what it does is shown.
    pub board: Arc<Board>,
    /// Held as long as the thread runs.
    pub lock: LockFile,
}

/// The running thread. Dropped without a stop it ends, the permit with it, and the lease by its time.
#[derive(Debug)]
pub struct OwnerThread {
    facts: OwnerFacts,
    quit: Option<oneshot::Sender<()>>,
    released: Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl OwnerThread {
    /// Starts it. Facts of shards and of the desk go into `facts`, whose other end is `inbox`.
    ///
    /// # Errors
    /// When the runtime or the thread cannot be started.
    pub fn start(owner: Owner, (facts, inbox): (OwnerFacts, OwnerInbox)) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (quit, quits) = oneshot::channel();
        let (tell, released) = bounded(1);
        let thread = thread::Builder::new().name("owner".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let (told, answers) = unbounded_channel();
                let ttl = owner.settings.timings.lease_ttl;
                let etcd = OwnershipEtcd::start(owner.etcd.clone(), &owner.root, ttl, told);
                let shut = Shut { until: Boottime::NEVER, seen: boottime() };
                let beats = Beats::new(owner.heartbeats.clone(), boottime());
                let driver = Driver { owner, etcd, answers, inbox, waiting: Vec::new(), beats, shut, released: tell };
                tokio::select! {
                    () = driver.run() => {}
                    _ = quits => {}
                }
            });
        })?;
        Ok(Self { facts, quit: Some(quit), released, thread: Some(thread) })
    }

    /// Gives all partitions back, `drain` being what is left of the engine's drain timeout. Begun here, waited for with
    /// [`Self::wait`].
    pub fn stop(&self, drain: Duration) {
        self.facts.tell(Fact::Stop { deadline: boottime().after(drain) });
    }

    /// Waits until everything is given back and the lease is revoked, at most for so long. Whether it was.
    pub fn wait(&self, patience: Duration) -> bool {
        self.released.recv_timeout(patience).unwrap_or(false)
    }
}

impl Drop for OwnerThread {
    fn drop(&mut self) {
        drop(self.quit.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The time without a permit.
struct Shut {
    until: Boottime,
    seen: Boottime,
}

impl Shut {
    /// What of the time since the last look had no permit.
    fn look(&mut self, now: Boottime) -> Duration {
        let from = self.seen.max(self.until);
        self.seen = now;
        now.since(from)
    }
}

struct Driver {
    owner: Owner,
    etcd: OwnershipEtcd,
    answers: UnboundedReceiver<Fact>,
    inbox: OwnerInbox,
    /// Orders that their shard's reader did not take yet.
    waiting: Vec<VecDeque<ShardOrder>>,
    beats: Beats,
    shut: Shut,
    released: Sender<bool>,
}

impl Driver {
    async fn run(mut self) {
        let mut core = Ownership::new(self.owner.settings.clone(), boottime());
        self.waiting.resize_with(usize::from(self.owner.settings.shards.max(1)), VecDeque::new);
        core.take(boottime(), Fact::Time);
        let mut look_at = Boottime::NEVER;
        loop {
            if boottime() >= look_at {
                look_at = boottime().after(LOOK);
                let now = boottime();
                core.take(now, Fact::Heartbeat { oldest: self.beats.oldest(now) });
                self.owner.board.shut_for(self.shut.look(now));
                self.owner.board.publish(core.status(), now);
                self.order_again();
            }
            for intention in core.intentions() {
                if self.carry_out(intention).await.is_break() {
                    return self.owner.board.publish(core.status(), boottime());
                }
            }
            if self.inbox.has_lost() {
                let why = "the thread that owns partitions did not keep up with what shards said: it cannot go on";
                return self.exit(EXIT_LOST, why.to_owned()).await;
            }
            let wait = core.wake_at().min(look_at).since(boottime());
            let fact = tokio::select! {
                biased;
                Some(fact) = self.answers.recv() => fact,
                Some(fact) = self.inbox.next() => fact,
                // At most a look long: the runtime's clock stands while the machine sleeps.
                () = sleep(wait.min(LOOK)) => Fact::Time,
            };
            core.take(boottime(), fact);
            self.take_more(&mut core);
        }
    }

    /// What came meanwhile.
    fn take_more(&mut self, core: &mut Ownership) {
        for _ in 0..FACTS_AT_ONCE {
            let Some(fact) = self.answers.try_recv().ok().or_else(|| self.inbox.try_next()) else { return };
            core.take(boottime(), fact);
        }
    }

    /// Carries one out; breaks when it is the last.
    async fn carry_out(&mut self, intention: Intention) -> ControlFlow<()> {
        match intention {
            Intention::List => self.etcd.list(),
            Intention::Grant { ask, ttl } => self.etcd.grant(ask, ttl),
            Intention::KeepAlive { ask, lease } => self.etcd.keep_alive(ask, lease),
            Intention::Revoke { lease } => self.etcd.revoke(lease),
            Intention::Commit { ask, txn } => self.etcd.commit(ask, txn),
            Intention::Ask { ask, what } => self.owner.desk.ask(ask, what),
            Intention::Prove { ask, of } => self.owner.desk.prove(ask, of),
            Intention::PublishSettled { partition, generation, text } => {
                self.owner.desk.publish_settled(partition, generation, text);
            }
            Intention::Order { shard, order } => self.order(shard, order),
            Intention::Permit(until) => self.permit(until),
            Intention::Moved(moved) => self.owner.board.moved(&moved),
            Intention::Say { level: Level::Info, text } => tracing::info!("{text}"),
            Intention::Say { level: Level::Warn, text } => tracing::warn!("{text}"),
            Intention::Released { is_whole } => {
                self.etcd.revoked(REVOKE_PATIENCE).await;
                let _ = self.released.try_send(is_whole);
                return ControlFlow::Break(());
            }
            Intention::Exit { code, sentence } => {
                self.exit(code, sentence).await;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn permit(&mut self, until: Boottime) {
        (self.owner.permit)(until);
        self.owner.board.shut_for(self.shut.look(boottime()));
        self.shut.until = until;
    }

    fn order(&mut self, shard: ShardId, order: ShardOrder) {
        let Some(waiting) = self.waiting.get_mut(usize::from(shard.0)) else { return };
        waiting.push_back(order);
        self.give(shard);
    }

    /// Hands in what waits for a reader.
    fn order_again(&mut self) {
        (0..self.waiting.len()).for_each(|shard| self.give(ShardId(shard as u16)));
    }

    fn give(&mut self, shard: ShardId) {
        let waiting = &mut self.waiting[usize::from(shard.0)];
        while let Some(order) = waiting.pop_front() {
            if let Err(order) = self.owner.shards.order(shard, order) {
                return waiting.push_front(order);
            }
        }
    }

    async fn exit(&mut self, code: u8, sentence: String) {
        self.permit(Boottime::NEVER);
        self.owner.last.reset();
        // Our own lease: the others need not wait for its time.
        self.etcd.revoked(REVOKE_PATIENCE).await;
        self.owner.last.exit(code, sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_without_a_permit_is_counted_once() {
        let second = |number: u64| Boottime(number * 1_000_000_000);
        let mut shut = Shut { until: Boottime::NEVER, seen: second(1) };
        assert_eq!(shut.look(second(3)), Duration::from_secs(2), "never given");
        shut.until = second(5);
        assert_eq!(shut.look(second(4)), Duration::ZERO);
        assert_eq!(shut.look(second(7)), Duration::from_secs(2), "from its end on");
        shut.until = second(20);
        assert_eq!(shut.look(second(8)), Duration::ZERO);
    }
}
