//! One outbox with its stream open, taken step by step: bundles in, frames out, answers in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use task_engine::model::ids::{GatewayIx, Nanos, StreamNo};
use task_engine::ports::Protocol;
use task_engine::push::bundle::{Bundle, BundleEnd, Group};
use task_engine::push::facts::{Output, StreamFact};
use task_engine::push::ingest;
use task_engine::push::outbox::{Effects, Outbox, OutboxSettings};

use super::Clock;
use super::facts::{FIRST_MSG_ID, answers_to, bundle, event, gateway_name, group, record};

/// Its place and the number of its first stream.
const AT: GatewayIx = GatewayIx(0);
const STREAM: StreamNo = StreamNo(1);
/// Recipients put in at once: what a stream takes in one turn.
const ROUND_RECIPIENTS: usize = 2048;
/// Bundles put in at once at the most.
const ROUND_BUNDLES_MAX: usize = 256;

/// The clock of each step; those that a bench does not show are for nothing.
#[derive(Default)]
pub struct Clocks {
    /// Taking bundles in.
    pub put: Clock,
    /// Writing frames.
    pub write: Clock,
    /// Reading answers, which ends the bundles.
    pub ack: Clock,
}

/// The outbox.
pub struct OpenOutbox {
    outbox: Outbox,
    protocol: Protocol,
    group: Arc<Group>,
    now: Nanos,
    msg_id: i64,
    chunks: Vec<Bytes>,
}

impl OpenOutbox {
    /// One whose stream is open and whose bundles have so many recipients.
    pub fn new(recipients: usize, protocol: Protocol) -> Self {
        let settings = OutboxSettings {
            delivery_timeout: Duration::from_secs(3600),
            forget_after: Duration::ZERO,
            group_users_min: 8,
            stream_target: None,
            fleeting_ttl: Duration::ZERO,
        };
        let mut outbox = Outbox::new(gateway_name(0).into(), settings);
        let now = Nanos(1);
        outbox.list(record(0, protocol), now);
        let mut open =
            Self { outbox, protocol, group: group(recipients), now, msg_id: FIRST_MSG_ID, chunks: Vec::new() };
        let mut effects = Effects::default();
        let first = open.next_bundle();
        assert!(open.outbox.put(first, now).is_ok());
        open.outbox.flush(AT, now, &mut effects);
        assert!(matches!(effects.outputs[..], [Output::Open { gateway: AT, stream: STREAM, .. }]));
        open.outbox.take(STREAM, StreamFact::Opened, now, &mut effects);
        open.write(&mut Clock::default());
        assert_eq!(open.ack(&mut Clock::default()), 1);
        open
    }

    /// Recipients of one [`round`](Self::round).
    pub fn round_recipients(&self) -> u64 {
        (self.round_bundles() * self.group.users.len()) as u64
    }

    fn round_bundles(&self) -> usize {
        (ROUND_RECIPIENTS / self.group.users.len()).clamp(1, ROUND_BUNDLES_MAX)
    }

    fn next_bundle(&mut self) -> Bundle {
        self.msg_id += 1;
        let message = ingest::read(event(0, "sender", self.msg_id)).expect("an event").message();
        bundle(&self.group, self.msg_id, &message, self.now)
    }

    /// Puts bundles in, writes them, has them answered.
    ///
    /// # Panics
    /// When a recipient was not written once, or a bundle is not delivered.
    pub fn round(&mut self, clocks: &mut Clocks) {
        self.now = self.now.after(Duration::from_micros(100));
        let bundles: Vec<_> = (0..self.round_bundles()).map(|_| self.next_bundle()).collect();
        let (outbox, now) = (&mut self.outbox, self.now);
        let sent = bundles.len();
        clocks.put.time(|| {
            for bundle in bundles {
                assert!(outbox.put(bundle, now).is_ok(), "there is room");
            }
        });
        self.write(&mut clocks.write);
        assert_eq!(self.ack(&mut clocks.ack), sent, "each bundle is delivered");
    }

    fn write(&mut self, clock: &mut Clock) {
        loop {
            let mut effects = Effects::default();
            let (outbox, now) = (&mut self.outbox, self.now);
            clock.time(|| outbox.flush(AT, now, &mut effects));
            if effects.outputs.is_empty() {
                return;
            }
            for output in effects.outputs {
                let Output::Send { chunk, .. } = output else { panic!("only frames: {output:?}") };
                self.outbox.take(STREAM, StreamFact::Taken(chunk.len()), now, &mut Effects::default());
                self.chunks.push(chunk);
            }
        }
    }

    fn ack(&mut self, clock: &mut Clock) -> usize {
        let mut delivered = 0;
        let before = self.outbox.backlog() as u64;
        let mut answered = 0;
        for chunk in std::mem::take(&mut self.chunks) {
            let (answers, recipients) = answers_to(&chunk, self.protocol, self.group.users.len());
            answered += recipients;
            let mut effects = Effects::default();
            let (outbox, now) = (&mut self.outbox, self.now);
            clock.time(|| outbox.take(STREAM, StreamFact::Answers(answers), now, &mut effects));
            assert!(effects.results.iter().all(|result| result.end == BundleEnd::Answered(Vec::new())));
            delivered += effects.results.len();
        }
        assert_eq!((answered, self.outbox.backlog()), (before, 0), "each recipient is written and answered once");
        delivered
    }
}
