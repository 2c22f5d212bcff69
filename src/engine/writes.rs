//! The numbers of what is written: inbox rows and dead letters.

use crate::shard::workers::writers::{BuryThread, InboxThreads, LETTER_REASONS};
use crate::telemetry::metrics::Meter;

/// Puts them on the metric page; those of the inbox only when there is one.
pub(super) fn register(meter: &Meter, inbox: Option<&InboxThreads>, burier: &BuryThread) {
    if let Some(inbox) = inbox {
        register_inbox(meter, inbox);
    }
    for reason in LETTER_REASONS.iter().copied() {
        let burier = burier.clone();
        let help = "Dead letters that are kept";
        meter.counter("dead_letters", help, &[("reason", reason)], move || burier.buried(reason));
    }
    let (rejected, dropped, queued) = (burier.clone(), burier.clone(), burier.clone());
    let help = "Dead letters that their store refused for good (the local file is full or cannot be written): they are in the log only";
    meter.counter("dead_letters_rejected", help, &[], move || rejected.rejected());
    let help = "Answers about dead letters given up because a shard stood still";
    meter.counter("dead_letter_answers_dropped", help, &[], move || dropped.dropped_answers());
    let help = "Dead letters that wait for the thread that writes them";
    meter.gauge("dead_letters_queued", help, &[], move || queued.queued() as u64);
}

fn register_inbox(meter: &Meter, inbox: &InboxThreads) {
    type Read = fn(&InboxThreads) -> u64;
    let counters: [(&'static str, &'static str, Read); 5] = [
        ("inbox_rows", "Inbox rows that are committed, those that were there already included", |all| {
            all.rows_stored()
        }),
        ("inbox_conflicts", "Inbox rows not stored because another message holds their place", |all| all.conflicts()),
        (
            "inbox_rows_rejected",
            "Rows of inbox asks that the store answered with an error; asked again they count again",
            |all| all.rows_rejected(),
        ),
        ("inbox_batches", "Batches of inbox rows written, those that failed included", |all| all.batches()),
        ("inbox_answers_dropped", "Inbox answers given up because a shard stood still", |all| all.dropped_answers()),
    ];
    for (name, help, read) in counters {
        let inbox = inbox.clone();
        meter.counter(name, help, &[], move || read(&inbox));
    }
    let queued = inbox.clone();
    meter.gauge("inbox_asks_queued", "Inbox writes that wait for a thread", &[], move || queued.queued() as u64);
}
