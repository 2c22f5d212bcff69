//! The bare program, the yardstick: what one core can push when nothing is promised. Everything is read once at the start;
//! then an event's own bytes are framed for each recipient and written to gateways, and answers are thrown away.
//!
//! One glommio core, pinned where it can be, takes messages out of the sync client's own channel. Recipients of a session
//! stand ready in wire form, by gateway; all frames of a turn for one gateway are one DATA chunk. Of task-engine it takes
//! the configuration, where a shard is pinned, and the socket under hyper ([`Wire`](task_engine::edge::gateway::io::Wire),
//! which gathers writes): none of these is on trial. Nothing of the push path is.
//!
//! Promises the same bytes on the wire as any engine, a bounded queue for each gateway, and at SIGTERM a line that counts
//! what it could not do. Refuses every other promise: no retry, no ledger, no lookup, no repeat is known, no inbox; an
//! answer is not read; a gateway that stands still holds up all; a user who moves, or a gateway that is registered later,
//! is not seen; a stream that breaks is not opened again.

mod encode;
mod gateway;
mod intake;
mod preload;
mod tables;
mod wire;

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::yield_now;
use glommio::{Latency, LocalExecutorBuilder, Shares};
use harness::error::{Error, Result};
use task_engine::config::{self, Config, ConsumerMode, Flags};
use task_engine::edge::gateway::io::SpareBuffer;
use task_engine::model::ids::ShardId;
use task_engine::model::limits::{SHARD_IO_MEMORY_BYTES, SHARD_LOOK_EVERY, TICK};
use task_engine::shard::cores::Cores;
use tokio::sync::oneshot;

use self::encode::Encoder;
use self::gateway::Gateway;
use self::intake::Intake;
use self::tables::Tables;
use crate::page;

/// What one turn takes at the most: events, and bytes written for them.
const TURN_EVENTS: usize = 512;
const TURN_BYTES: usize = 512 * 1024;
/// An empty channel is looked at again this often, after so long, before the core asks to be woken: while events come in a
/// flood a nap gathers many for one wake, and an event on a quiet core never waits for one.
const NAPS: u32 = 3;
const NAP: Duration = Duration::from_micros(100);
/// How long gateways may take to answer what is left, after a signal.
const DRAIN: Duration = Duration::from_secs(20);

/// What was done and what could not be.
#[derive(Debug, Default)]
struct Counts {
    events: u64,
    pushes: u64,
    /// Payloads that are no events.
    malformed: u64,
    /// Events of sessions that were not there at the start.
    unknown_sessions: u64,
    /// Recipients without a route, or with one to a gateway that was not there or speaks neither `batch` nor `stream`.
    unreached: u64,
    /// Pushes to a gateway whose stream has ended.
    lost: u64,
    /// Messages that the NATS client dropped.
    dropped: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, pushes, malformed, unknown_sessions, unreached, lost, dropped } = self;
        write!(
            f,
            "bare: {events} events, {pushes} pushes written, {unreached} unreached, {lost} lost with a stream; events: \
             {malformed} malformed, {unknown_sessions} of unknown sessions, {dropped} dropped"
        )
    }
}

/// Runs until SIGTERM or SIGINT, then lets gateways read what is written and prints one line of counts.
///
/// # Errors
/// When the configuration is wrong or asks for what is not here, or a server does not answer at the start.
pub fn run(config: &Path, admin: Option<SocketAddr>, cores: Option<u16>) -> Result<()> {
    let flags = Flags { cores: cores.map(|cores| cores.to_string()), admin: admin.map(|admin| admin.to_string()) };
    let checked = config::load(Some(config), std::env::vars_os(), &flags);
    let config = checked.map_err(|mistakes| Error::new(mistakes.to_string()))?.config;
    if config.consumer.mode == ConsumerMode::JetStream {
        return Err(Error::new("the bare program reads core NATS only: set consumer.mode to core"));
    }
    if cores.is_some_and(|cores| cores != 1) {
        return Err(Error::new("the bare program has one core: leave --cores out, or give 1"));
    }
    // Before any thread starts, so that all of them leave the signals to the one that waits.
    let stop = page::stop_signal()?;
    let is_ready = Arc::new(AtomicBool::new(false));
    let page_reads = is_ready.clone();
    page::serve(config.admin.listen, move || page_reads.load(Ordering::Acquire))?;
    let world = preload::read(&config)?;
    let cores = Cores::decide(1);
    eprintln!("bare: {}", cores.describe());
    let executor = LocalExecutorBuilder::new(cores.placement(ShardId(0)))
        .name("bare")
        .io_memory(SHARD_IO_MEMORY_BYTES)
        .preempt_timer(SHARD_LOOK_EVERY)
        .spawn(move || async move {
            let urgent = Latency::Matters(Duration::from_millis(1));
            let queue = glommio::executor().create_task_queue(Shares::default(), urgent, "push");
            let task = glommio::spawn_local_into(serve(config, world, stop, is_ready), queue);
            task.expect("the queue was made above").await
        });
    let executor = executor.map_err(|cause| Error::of("cannot start an io_uring executor", cause))?;
    let counts = executor.join().map_err(|cause| Error::of("the core's thread is gone", cause))??;
    println!("{counts}");
    Ok(())
}

async fn serve(
    config: Config,
    world: preload::World,
    stop: oneshot::Receiver<()>,
    is_ready: Arc<AtomicBool>,
) -> Result<Counts> {
    let (spare, room) = (SpareBuffer::default(), Rc::new(gateway::Room::default()));
    let mut gateways = Vec::new();
    for place in &world.gateways {
        gateways.push(Gateway::open(place, spare.clone(), room.clone()).await?);
    }
    let tables = Tables::new(world);
    let intake = Intake::subscribe(&config)?;
    is_ready.store(true, Ordering::Release);
    let stopping = Rc::new(Cell::new(false));
    let (told, bell, full) = (stopping.clone(), intake.bell(), room.clone());
    glommio::spawn_local(async move {
        // An error is the end of the thread that waits for signals: then there is nothing to wait for either.
        let _ = stop.await;
        told.set(true);
        bell.ring();
        full.look();
    })
    .detach();
    let ticks = intake.bell();
    // The net under an executor that parks with work to do (glommio issue 53).
    glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(TICK).await;
            ticks.ring();
        }
    })
    .detach();
    let mut pump = Pump { intake, tables, gateways, encoder: Encoder::default(), counts: Counts::default() };
    pump.run(&stopping, &room).await;
    is_ready.store(false, Ordering::Release);
    pump.finish().await
}

struct Pump {
    intake: Intake,
    tables: Tables,
    gateways: Vec<Gateway>,
    encoder: Encoder,
    counts: Counts,
}

impl Pump {
    async fn run(&mut self, stopping: &Cell<bool>, room: &gateway::Room) {
        let mut naps = 0;
        loop {
            if self.turn() > 0 {
                naps = 0;
                // Once for the tasks that take the chunks, once for those that write them: while they are in the cache.
                yield_now().await;
                yield_now().await;
                while !stopping.get() && self.gateways.iter().any(Gateway::is_full) {
                    room.wait().await;
                }
            } else if stopping.get() {
                return;
            } else if naps < NAPS {
                naps += 1;
                glommio::timer::sleep(NAP).await;
            } else {
                self.intake.wait(|| stopping.get()).await;
            }
        }
    }

    /// Takes what is there and hands each gateway its frames; gives how many events that were.
    fn turn(&mut self) -> usize {
        let (mut taken, mut bytes) = (0, 0);
        while taken < TURN_EVENTS && bytes < TURN_BYTES {
            let Some(payload) = self.intake.take() else { break };
            taken += 1;
            bytes += self.push(&payload);
        }
        if taken > 0 {
            self.counts.events += taken as u64;
            self.gateways.iter_mut().for_each(Gateway::hand_over);
        }
        taken
    }

    /// Writes an event's frames; gives how many bytes that were.
    fn push(&mut self, payload: &[u8]) -> usize {
        let Some(event) = self.encoder.read(payload) else {
            self.counts.malformed += 1;
            return 0;
        };
        let Some(session) = self.tables.session(event.session) else {
            self.counts.unknown_sessions += 1;
            return 0;
        };
        let sender = session.place_of(event.sender);
        self.counts.unreached += session.unreached(event.sender);
        let mut bytes = 0;
        for (at, group) in session.groups.iter().enumerate() {
            let skipped = sender.filter(|(own, _)| *own == at).map(|(_, place)| place);
            let recipients = group.len() - usize::from(skipped.is_some());
            if recipients > 0 {
                self.counts.pushes += recipients as u64;
                bytes += self.gateways[group.gateway].write(&self.encoder, group, skipped, recipients);
            }
        }
        bytes
    }

    /// Half-closes all streams and waits for their ends.
    async fn finish(mut self) -> Result<Counts> {
        self.counts.dropped = self.intake.dropped();
        self.gateways.iter().for_each(Gateway::finish);
        let ends = async {
            for gateway in &mut self.gateways {
                gateway.ended().await;
            }
            true
        };
        let late = async {
            glommio::timer::sleep(DRAIN).await;
            false
        };
        let ended = futures_lite::future::or(ends, late).await;
        self.counts.lost = self.gateways.iter().map(Gateway::lost).sum();
        self.counts.pushes -= self.counts.lost;
        if ended {
            return Ok(self.counts);
        }
        println!("{}", self.counts);
        Err(Error::new(format!("gateways have not read all {} s after the stop", DRAIN.as_secs())))
    }
}
