//! The numbers that are not a shard's: each is read where it is counted, when the page is asked for.

use std::sync::Arc;

use crate::engine::shards::Workers;
use crate::ports::Members;
use crate::ports::intake::{Backlog, DropReason, Intake, Moves, StreamPart};
use crate::ports::registry::{Directory, RegistryFault, RegistrySink};
use crate::shard::workers::members::MemberThreads;
use crate::shard::workers::writers::{DeadLetterThread, InboxThreads, LETTER_REASONS};
use crate::telemetry::logging;
use crate::telemetry::metrics::{Meter, Metric, Value, table};

/// All of them.
pub(super) fn register_all(
    meter: &Meter,
    intake: &Intake,
    (sink, directory): (&RegistrySink, &Directory),
    members: Arc<dyn Members>,
    workers: &Workers,
) {
    register_intake(meter, intake);
    register_gateways(meter, sink, directory);
    register_members(meter, members, &workers.lookups);
    register_writes(meter, workers.inbox.as_ref(), &workers.letters);
    meter.register(&table::LOG_LINES_DROPPED, &[], logging::dropped_lines);
}

/// What the readers saw.
fn register_intake(meter: &Meter, intake: &Intake) {
    let counts = intake.counts().clone();
    meter.register(&table::EVENTS_READ, &[], move || counts.read());
    let counts = intake.counts().clone();
    meter.register(&table::EVENTS_TAKEN, &[], move || counts.taken());
    for reason in DropReason::ALL {
        let counts = intake.counts().clone();
        meter.register(&table::EVENTS_DROPPED, &[("reason", reason.label())], move || counts.dropped(*reason));
    }
    let counts = intake.counts().clone();
    meter.register(&table::READERS_CUT_OFF, &[], move || counts.cut_off());
    let counts = intake.counts().clone();
    meter.register(&table::EVENTS_GIVEN_UP_BY_BROKER, &[], move || counts.given_up());
    let counts = intake.counts().clone();
    meter.register(&table::REPEAT_WINDOWS_PARTIAL, &[], move || counts.partial_windows());
    let (times, seconds) = (intake.counts().clone(), intake.counts().clone());
    meter.register(&table::INTAKE_SHUT, &[], move || times.shut().0);
    meter.register(&table::INTAKE_SHUT_SECONDS, &[], move || seconds.shut().1);
    register_backlog(meter, intake);
    register_partitioner(meter, intake);
    let open = intake.clone();
    meter.register(&table::INTAKE_OPEN, &[], move || u64::from(open.is_open()));
}

/// What the broker holds; without a line while nobody knows it.
fn register_backlog(meter: &Meter, intake: &Intake) {
    type Read = fn(Backlog) -> u64;
    let numbers: [(&'static Metric, Read); 2] =
        [(&table::STREAM_PENDING, |of| of.pending), (&table::STREAM_UNSETTLED, |of| of.unsettled)];
    for (metric, read) in numbers {
        let backlogs = intake.counts().backlogs().clone();
        meter.register_lines(metric, move || {
            let line = |(part, backlog)| (vec![StreamPart::label(part).to_owned()], Value::Number(read(backlog)));
            backlogs.known().map(line).collect()
        });
    }
}

fn register_partitioner(meter: &Meter, intake: &Intake) {
    let numbers: [(&'static Metric, Moves); 6] = [
        (&table::PARTITIONER_MOVED, Moves::Moved),
        (&table::PARTITIONER_COPIES, Moves::Copies),
        (&table::PARTITIONER_REFUSED, Moves::Refused),
        (&table::PARTITIONER_LETTERS, Moves::Letters),
        (&table::PARTITIONER_GAP, Moves::Gap),
        (&table::PARTITIONER_FOREIGN, Moves::Foreign),
    ];
    for (metric, number) in numbers {
        let counts = intake.counts().partitioner().clone();
        meter.register(metric, &[], move || counts.of(number));
    }
    let counts = intake.counts().partitioner().clone();
    meter.register(&table::PARTITIONER_WAITING, &[], move || counts.waiting());
}

/// What the registry says of gateways.
fn register_gateways(meter: &Meter, sink: &RegistrySink, directory: &Directory) {
    for fault in RegistryFault::ALL {
        let sink = sink.clone();
        meter.register(&table::REGISTRY_BAD_ENTRIES, &[("reason", fault.label())], move || sink.bad_entries(fault));
    }
    let directory = directory.clone();
    meter.register(&table::GATEWAYS_LISTED, &[], move || directory.len() as u64);
}

/// How the lookups of members go.
fn register_members(meter: &Meter, members: Arc<dyn Members>, lookups: &MemberThreads) {
    let (queued, dropped) = (lookups.clone(), lookups.clone());
    meter.register(&table::MEMBER_LOOKUPS_QUEUED, &[], move || queued.queued() as u64);
    meter.register(&table::MEMBER_ANSWERS_DROPPED, &[], move || dropped.dropped_answers());
    let (checked, read) = (members.clone(), members.clone());
    meter.register(&table::MEMBER_PAGES_CHECKED, &[], move || checked.pages_checked());
    meter.register(&table::MEMBER_PAGES_READ, &[], move || read.pages_read());
    meter.register(&table::MEMBER_ROWS_SKIPPED, &[], move || members.rows_skipped());
}

/// What is written; inbox rows only when there is an inbox.
fn register_writes(meter: &Meter, inbox: Option<&InboxThreads>, letters: &DeadLetterThread) {
    if let Some(inbox) = inbox {
        register_inbox(meter, inbox);
    }
    for reason in LETTER_REASONS.iter().copied() {
        let letters = letters.clone();
        meter.register(&table::DEAD_LETTERS, &[("reason", reason)], move || letters.published(reason));
    }
    type Read = fn(&DeadLetterThread) -> u64;
    let numbers: [(&'static Metric, Read); 3] = [
        (&table::DEAD_LETTERS_REJECTED, DeadLetterThread::rejected),
        (&table::DEAD_LETTER_ANSWERS_DROPPED, DeadLetterThread::dropped_answers),
        (&table::DEAD_LETTERS_QUEUED, |all| all.queued() as u64),
    ];
    for (metric, read) in numbers {
        let letters = letters.clone();
        meter.register(metric, &[], move || read(&letters));
    }
}

fn register_inbox(meter: &Meter, inbox: &InboxThreads) {
    type Read = fn(&InboxThreads) -> u64;
    let numbers: [(&'static Metric, Read); 6] = [
        (&table::INBOX_ROWS, InboxThreads::rows_stored),
        (&table::INBOX_CONFLICTS, InboxThreads::conflicts),
        (&table::INBOX_ROWS_REJECTED, InboxThreads::rows_rejected),
        (&table::INBOX_BATCHES, InboxThreads::batches),
        (&table::INBOX_ANSWERS_DROPPED, InboxThreads::dropped_answers),
        (&table::INBOX_ASKS_QUEUED, |all| all.queued() as u64),
    ];
    for (metric, read) in numbers {
        let inbox = inbox.clone();
        meter.register(metric, &[], move || read(&inbox));
    }
}
