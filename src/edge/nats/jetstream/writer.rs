//! The writer of one connection: settlements, reports of work and pulls, in batches.
//!
//! Promises that a settlement leaves within some milliseconds while there is a connection, and that what is in work for
//! half of ack_wait is reported. It may hang in a write to a link that died: then it is left behind with its
//! connection, and what it had taken is lost, which the server answers with a repeat.

#![expect(clippy::disallowed_methods, reason = "the acker's thread, which gathers acknowledgements")]

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, select};

use super::desk::Desk;
use super::given_up::GivenUp;
use super::lines::Lines;
use super::pulls::{Ask, body};
use super::share;

/// Bytes of one call of the client.
const BATCH_BYTES: usize = 64 * 1024;
/// Settlements taken with one lock.
const LOCK_SETTLEMENTS: usize = 1024;
/// Slots looked at with one lock when work is reported.
const LOCK_SLOTS: usize = 4096;
/// Under load batches are gathered for this long; the client flushes every 5 ms anyway.
const GATHER: Duration = Duration::from_millis(1);

/// What the writer needs of its connection.
pub(super) trait Wire {
    /// See [`Lines::write`].
    fn publish(&self, subject: &str, payload: &str) -> io::Result<()>;
    /// A round trip.
    fn flush(&self) -> io::Result<()>;
}

/// What a reader wants written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge::nats) enum Wanted {
    /// A pull.
    Pull(Ask),
    /// A look at the consumer of a queue; see [`share`].
    Look,
}

/// One connection's writer.
pub(super) struct Writer<W> {
    pub wire: W,
    pub desk: Arc<Desk>,
    pub inbox: String,
    pub asks: Receiver<Wanted>,
    /// What the server gave up.
    pub given_up: GivenUp,
    /// Disconnected when the connection is given up.
    pub over: Receiver<()>,
    pub ack_wait: Duration,
}

impl<W: Wire> Writer<W> {
    /// Writes until the connection is given up.
    ///
    /// # Errors
    /// When the client does not take a write: the connection is lost.
    pub(super) fn run(self) -> io::Result<()> {
        let (mut lines, mut wrote) = (Lines::default(), Instant::now());
        let look_every = (self.ack_wait / 10).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut looked = Instant::now();
        let mut is_finished = false;
        loop {
            select! {
                recv(self.asks) -> wanted => if let Ok(wanted) = wanted { self.put_wanted(wanted, &mut lines) },
                recv(self.desk.settled) -> settled => {
                    if let Ok(settled) = settled {
                        self.desk.flight().settle_all(&settled, &mut lines);
                    }
                }
                recv(self.desk.finish.1) -> _ => {}
                recv(self.over) -> _ => return Ok(()),
                default(look_every) => {}
            }
            if wrote.elapsed() < GATHER * 2 {
                thread::sleep(GATHER);
            }
            while let Ok(wanted) = self.asks.try_recv() {
                self.put_wanted(wanted, &mut lines);
            }
            while self.take_settled(&mut lines) {
                self.write(&mut lines)?;
            }
            if looked.elapsed() >= look_every {
                looked = Instant::now();
                // What a store that is away holds up is somebody else's to do, if somebody is there.
                if !self.desk.has_left() {
                    self.report_work(&mut lines)?;
                }
                self.given_up.look(&self.desk);
            }
            if self.desk.is_finishing() && !is_finished {
                is_finished = true;
                self.give_back(&mut lines)?;
            }
            self.write(&mut lines)?;
            wrote = Instant::now();
            if self.over.try_recv() == Err(TryRecvError::Disconnected) {
                return Ok(());
            }
        }
    }

    fn put_wanted(&self, wanted: Wanted, lines: &mut Lines) {
        let plan = &self.desk.plan;
        let Wanted::Pull(ask) = wanted else {
            let subject = format!("$JS.API.CONSUMER.INFO.{}.{}", plan.stream, plan.consumers[0].name);
            return lines.put(&subject, Some(&format!("{}.{}", self.inbox, share::LOOK)), "");
        };
        let subject =
            format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", plan.stream, plan.consumers[ask.consumer as usize].name);
        let reply = format!("{}.{}.{}", self.inbox, ask.consumer, ask.id);
        lines.put(&subject, Some(&reply), &body(ask));
    }

    /// Takes what is there, up to a batch; whether there may be more.
    fn take_settled(&self, lines: &mut Lines) -> bool {
        let mut flight = self.desk.flight();
        let mut taken = 0;
        while taken < LOCK_SETTLEMENTS && lines.bytes() < BATCH_BYTES {
            let Ok(settled) = self.desk.settled.try_recv() else { break };
            taken += settled.len();
            flight.settle_all(&settled, lines);
        }
        taken > 0
    }

    fn report_work(&self, lines: &mut Lines) -> io::Result<()> {
        let now = self.desk.now();
        // Looked at ten times in ack_wait: what is not past half now would be past six tenths the next time.
        let before = now.saturating_sub((self.ack_wait / 2).as_millis() as u64);
        if self.desk.plan.is_ordered() {
            let due = self.desk.flight().due(before);
            for consumer in due {
                self.desk.flight().progress_in_order(consumer, now, lines);
                if lines.bytes() >= BATCH_BYTES {
                    self.write(lines)?;
                }
            }
            return Ok(());
        }
        let mut from = 0;
        loop {
            from = self.desk.flight().progress(from, LOCK_SLOTS, before, now, lines);
            if lines.bytes() >= BATCH_BYTES {
                self.write(lines)?;
            }
            if from == 0 {
                return Ok(());
            }
        }
    }

    fn give_back(&self, lines: &mut Lines) -> io::Result<()> {
        let given_back = self.desk.flight().give_back(lines);
        if given_back > 0 {
            tracing::info!(reader = self.desk.plan.reader, given_back, "JetStream: unsettled events are given back");
        }
        self.write(lines)?;
        self.wire.flush()?;
        let _ = self.desk.finished.0.try_send(());
        Ok(())
    }

    fn write(&self, lines: &mut Lines) -> io::Result<()> {
        lines.write(|subject, payload| self.wire.publish(subject, payload))
    }
}
