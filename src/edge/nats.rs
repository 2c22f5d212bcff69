//! Events from NATS, core or JetStream ([`jetstream`]): each shard that owns partitions reads them over a connection of its
//! own, on its own ring; without partitions one shard reads for all.
//!
//! Promises that what one connection delivers is handed in in that order; that a server that is away, hangs or refuses
//! is named with its address and what to check, and is tried for as long as it takes; that a half-open link is noticed
//! and replaced; and that a clean stop hands in all that the server had sent. Refuses to show a secret: not in a log, an
//! error, or Debug.
//!
//! A [`Reader`] keeps the connection ([`connection`], opened by [`opening`] at one of the [`servers`]); its [`feed`] is what
//! it does over it: [`core_nats`] or [`jetstream`]. [`protocol`] is the wire; [`control`] what other threads tell a reader.
//! [`wire`] is a blocking connection, for what may wait: dead letters and `setup`.

#[doc(hidden)]
pub mod auth;
mod connection;
mod control;
mod core_nats;
mod desk;
mod feed;
pub mod inspect;
pub mod jetstream;
mod opening;
mod partitions;
#[doc(hidden)]
pub mod protocol;
mod reader;
mod server;
mod servers;
#[cfg(test)]
mod tests;
#[doc(hidden)]
pub mod wire;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use self::control::{Control, Mail, Phase};
use self::core_nats::{CoreFeed, CorePlan};
pub use self::desk::NatsDesk;
use self::jetstream::{BacklogThread, Hearer, JetFeed, Mover, ReaderPlan};
pub use self::partitions::Partitions;
use self::protocol::ServerInfo;
use self::reader::Reader;
use crate::config::{Assignment, ConsumerConfig, ConsumerMode, Current, NatsConfig, NatsServer, Partitioner};
use crate::edge::resolve::Resolver;
use crate::edge::tls::{self, TlsError};
use crate::model::ids::ShardId;
use crate::ports::{
    DeliveryTag, Intake, LetterPost, LocalFuture, Origin, RunningSource, Settled, ShardReaders, Source,
};
use crate::telemetry::log_limiter::LogLimiter;

/// Where the keys of TLS to NATS stand in the configuration.
const TLS_SECTION: &str = "nats.tls";
/// How long a stop may take until what was received is handed in; then the rest is let go, and counted.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long the readers get after that to notice.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// How long the last acks may take to leave.
const FINISH_DEADLINE: Duration = Duration::from_secs(2);
/// Questions where an event came from that a reader may be asked before it looks, beside the settlements.
const QUESTIONS: usize = 16;

/// Whether the files that say who we are, and those of TLS, can be used. Servers may still refuse them.
///
/// # Errors
/// Which cannot, and why.
pub fn check_files(nats: &NatsConfig) -> Result<(), String> {
    auth::Identity::read(&nats.auth).map_err(|error| error.to_string())?;
    match nats.wants_tls() {
        true => tls::client(&nats.tls, TLS_SECTION, &[]).map(drop).map_err(|error| error.to_string()),
        false => Ok(()),
    }
}

/// What TLS to this server takes. Reads files.
fn tls_to(server: &NatsServer, nats: &NatsConfig) -> Result<(Arc<ClientConfig>, ServerName<'static>), TlsError> {
    Ok((tls::client(&nats.tls, TLS_SECTION, &[])?, tls::server_name(&nats.tls, certified_as(server))?))
}

/// What this server's certificate must be for, unless the configuration says another name.
fn certified_as(server: &NatsServer) -> &str {
    server.known_as.as_ref().unwrap_or(&server.at.host)
}

/// Whether TLS is to follow a server's first word, or why that word is no good start of it.
fn wants_tls_after(info: &ServerInfo, nats: &NatsConfig) -> Result<bool, String> {
    let is_wanted = nats.wants_tls();
    if is_wanted && !info.tls_required && !info.tls_available {
        return Err(
            "it offers no TLS, and nats.url (tls://) or nats.tls demands it; give the server a tls block, or do not demand it"
                .to_owned(),
        );
    }
    let is_used = is_wanted || info.tls_required;
    if is_used && info.tls_verify && nats.tls.cert.as_os_str().is_empty() {
        return Err("it wants a certificate of ours (TLS verify); set nats.tls.cert and nats.tls.key".to_owned());
    }
    Ok(is_used)
}

/// Reads events from NATS, core or JetStream.
pub struct NatsSource {
    shared: Arc<Shared>,
}

/// What all threads of the source share.
struct Shared {
    nats: Current<NatsConfig>,
    consumer: ConsumerConfig,
    resolver: Resolver,
    letters: OnceLock<LetterPost>,
    /// One for each reader, once it is known how many shards there are; the partitioner's is the last. No partitioner moves
    /// urgent events.
    readers: OnceLock<Vec<Start>>,
    /// Who hears of partitions that have owners.
    hearer: Hearer,
}

/// One reader to be started on its shard.
struct Start {
    plan: Plan,
    control: Arc<Control>,
}

#[derive(Clone, Debug)]
enum Plan {
    Core(CorePlan),
    JetStream(ReaderPlan),
}

impl Plan {
    fn reader(&self) -> u16 {
        match self {
            Self::Core(plan) => plan.reader,
            Self::JetStream(plan) => plan.reader,
        }
    }

    /// The shard that it runs on.
    fn shard(&self, shards: u16) -> ShardId {
        match self {
            Self::Core(plan) => plan.own.unwrap_or(ShardId(0)),
            Self::JetStream(plan) => plan.shard(shards),
        }
    }

    fn is_partitioner(&self) -> bool {
        matches!(self, Self::JetStream(plan) if plan.is_input)
    }

    /// What it may be told before it looks: of core NATS nothing; else as many settlements as can be out, and as many again, as
    /// pulls that were thought dead may still deliver.
    /// Which partitions it reads is not known yet where they have owners; then there is no bound but that.
    fn mail(&self) -> Option<usize> {
        match self {
            Self::Core(_) => Some(0),
            Self::JetStream(plan) => (!plan.is_owned()).then(|| plan.events_out_max() * 2 + QUESTIONS),
        }
    }
}

impl fmt::Debug for NatsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { nats, consumer, .. } = &*self.shared;
        f.debug_struct("NatsSource").field("nats", nats).field("consumer", consumer).finish_non_exhaustive()
    }
}

impl NatsSource {
    /// A source that has not connected yet: where it reads, and which events. Each connection is opened by what `nats` says then.
    pub fn new(nats: impl Into<Current<NatsConfig>>, consumer: ConsumerConfig, resolver: Resolver) -> Self {
        let nats = nats.into();
        let (letters, readers, hearer) = (OnceLock::new(), OnceLock::new(), Hearer::default());
        Self { shared: Arc::new(Shared { nats, consumer, resolver, letters, readers, hearer }) }
    }

    /// The way to its readers, for whoever decides which partitions they read.
    pub fn partitions(&self) -> Partitions {
        Partitions(self.shared.clone())
    }
}

impl Shared {
    fn plans(&self, intake: &Intake) -> Vec<Plan> {
        let consumer = &self.consumer;
        let (shards, partitions) = (intake.shards(), intake.partitions());
        let core = |reader, own, subjects| {
            Plan::Core(CorePlan { reader, own, subjects, queue_group: consumer.queue_group.clone() })
        };
        match (consumer.mode, consumer.assignment) {
            (ConsumerMode::JetStream, _) => {
                let is_owned = consumer.is_owned();
                let of_partitions = if is_owned { ReaderPlan::owned } else { ReaderPlan::all };
                let of_input = if is_owned { ReaderPlan::owned_input } else { ReaderPlan::input };
                let mut all = of_partitions(consumer, shards, partitions);
                if consumer.partitioner == Partitioner::On {
                    all.push(of_input(consumer, all.len() as u16));
                }
                all.into_iter().map(Plan::JetStream).collect()
            }
            (ConsumerMode::Core, Assignment::Queue) => vec![core(0, None, vec![consumer.topic.clone()])],
            (ConsumerMode::Core, Assignment::Partitioned) => {
                let of = |partition| format!("{}.{partition}", consumer.topic);
                let subjects =
                    |shard: u16| (u32::from(shard)..partitions).step_by(usize::from(shards)).map(of).collect();
                let all = (0..shards).map(|shard| (shard, subjects(shard)));
                all.filter(|(_, subjects): &(u16, Vec<String>)| !subjects.is_empty())
                    .map(|(shard, subjects)| core(shard, Some(ShardId(shard)), subjects))
                    .collect()
            }
        }
    }

    /// All readers; the place of each is its number. Those of a topic's partitions stand where their shards do.
    fn readers(&self, intake: &Intake) -> &[Start] {
        self.readers.get_or_init(|| {
            let start = |plan: Plan| {
                let control = Arc::new(Control::new(plan.mail()));
                intake.wakes_at_a_change(control.wake());
                Start { control, plan }
            };
            self.plans(intake).into_iter().map(start).collect()
        })
    }

    /// The partitioner's reader, when there is one.
    fn partitioner(&self) -> Option<&Start> {
        self.readers.get()?.last().filter(|start| start.plan.is_partitioner())
    }

    fn run(&self, start: &Start, intake: &Intake) -> LocalFuture<()> {
        let Start { plan, control } = start;
        let (nats, resolver, number) = (self.nats.hold(), self.resolver.clone(), plan.reader());
        let (control, intake) = (control.clone(), intake.clone());
        match plan.clone() {
            Plan::Core(plan) => {
                let feed = CoreFeed::new(plan, nats.value().clone(), intake.clone());
                Box::pin(Reader::new(nats, intake, number, control, resolver, feed).run())
            }
            Plan::JetStream(plan) => {
                let mover = plan.is_input.then(|| {
                    let (letters, counts) = (self.letters.get().cloned(), intake.counts().partitioner().clone());
                    Mover::new(&self.consumer, nats.timeout, letters, control.wake(), counts)
                });
                let (held, hearer) = (nats.value().clone(), self.hearer.clone());
                let feed = JetFeed::new(plan, held, intake.clone(), control.clone(), hearer, mover);
                Box::pin(Reader::new(nats, intake, number, control, resolver, feed).run())
            }
        }
    }

    fn go(&self, phase: Phase) {
        self.readers.get().into_iter().flatten().for_each(|start| start.control.go(phase));
    }
}

impl ShardReaders for Shared {
    fn serve(&self, shard: ShardId, intake: Intake) -> LocalFuture<()> {
        let own = self.readers(&intake).iter().filter(|start| start.plan.shard(intake.shards()) == shard);
        let mut own: Vec<_> = own.map(|start| self.run(start, &intake)).collect();
        let Some(last) = own.pop() else { return Box::pin(std::future::ready(())) };
        if own.is_empty() {
            return last;
        }
        Box::pin(async move {
            let others: Vec<_> = own.into_iter().map(glommio::spawn_local).collect();
            last.await;
            for other in others {
                other.await;
            }
        })
    }
}

impl Source for NatsSource {
    fn letters_go_to(&self, letters: LetterPost) {
        let _ = self.shared.letters.set(letters);
    }

    fn shard_readers(&self) -> Option<Arc<dyn ShardReaders>> {
        Some(self.shared.clone())
    }

    fn start(self: Box<Self>, intake: Intake) -> io::Result<Box<dyn RunningSource>> {
        self.shared.readers(&intake);
        let (shared, Shared { nats, consumer, .. }) = (self.shared.clone(), &*self.shared);
        let is_kept = consumer.mode == ConsumerMode::JetStream;
        let backlog = is_kept.then(|| BacklogThread::start(nats, consumer, intake.counts().backlogs().clone()));
        Ok(Box::new(RunningNats { shared, intake, no_room: LogLimiter::default(), _backlog: backlog.transpose()? }))
    }
}

impl Drop for Shared {
    /// Readers hold their own way here; what is dropped is the last that could tell them anything.
    fn drop(&mut self) {
        self.go(Phase::Closed);
    }
}

struct RunningNats {
    shared: Arc<Shared>,
    intake: Intake,
    no_room: LogLimiter,
    _backlog: Option<BacklogThread>,
}

impl RunningNats {
    fn readers(&self) -> &[Start] {
        self.shared.readers.get().map_or(&[], Vec::as_slice)
    }

    fn tell(&self, reader: u16, mail: Mail) {
        let Some(start) = self.readers().get(usize::from(reader)) else { return };
        match start.control.tell(mail) {
            Ok(()) => {}
            Err(Mail::WhereFrom(_, then)) => then(Origin::default()),
            Err(Mail::Order(_)) => {}
            // Cannot be: there is room for everything that can be out. They come again, and are settled as repeats.
            Err(Mail::Settled(_)) => {
                if let Some(left_out) = self.no_room.allow() {
                    tracing::warn!(reader, left_out, "NATS: settlements found no room");
                }
            }
        }
    }

    fn acknowledges(&self) -> bool {
        self.shared.consumer.mode == ConsumerMode::JetStream
    }
}

impl RunningSource for RunningNats {
    /// Core NATS keeps nothing, so there is nobody to tell.
    fn settle(&self, settled: &[Settled]) {
        if !self.acknowledges() {
            return;
        }
        for run in settled.chunk_by(|one, next| one.tag.reader == next.tag.reader) {
            self.tell(run[0].tag.reader, Mail::Settled(run.into()));
        }
    }

    fn with_origin(&self, tag: DeliveryTag, then: Box<dyn FnOnce(Origin) + Send>) {
        match self.acknowledges() {
            true => self.tell(tag.reader, Mail::WhereFrom(tag, then)),
            false => then(Origin { subject: self.shared.consumer.topic.clone(), ..Origin::default() }),
        }
    }

    fn may_give_back(&self) -> bool {
        let mut reading = self.readers().iter().filter(|start| !start.plan.is_partitioner());
        self.acknowledges() && reading.all(|start| start.control.has_left())
    }

    fn stop(&self) {
        let deadline = Instant::now() + STOP_DEADLINE;
        self.shared.go(Phase::Leaving);
        let is_in_time = |start: &Start| start.control.wait_handed_in(deadline);
        if !self.readers().iter().all(is_in_time) {
            let seconds = STOP_DEADLINE.as_secs();
            tracing::warn!(seconds, "NATS: the shards did not take what was read in time");
            self.intake.stop();
            let deadline = Instant::now() + STOP_GRACE;
            self.readers().iter().for_each(|start| {
                start.control.wait_handed_in(deadline);
            });
        }
    }

    fn finish(&self) {
        let deadline = Instant::now() + FINISH_DEADLINE;
        self.shared.go(Phase::Finishing);
        for Start { plan, control } in self.readers() {
            let reader = plan.reader();
            if !control.wait_finished(deadline) {
                tracing::warn!(reader, "NATS: the last acks did not leave in time; what they were for comes again");
            }
            let refused = control.refused_acks();
            if refused > 0 {
                self.intake.acks_refused(refused);
                tracing::warn!(
                    reader,
                    refused,
                    "JetStream: the server refused acks: what they were for is settled here and not there, and comes again"
                );
            }
        }
        self.shared.go(Phase::Closed);
    }
}

impl Drop for RunningNats {
    /// Ends the readers; with JetStream nothing more is acknowledged or given back.
    fn drop(&mut self) {
        self.shared.go(Phase::Closed);
    }
}
