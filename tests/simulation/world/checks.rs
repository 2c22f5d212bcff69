//! What holds after each turn: counts are conserved, each end has its cause, no outbox holds what has ended.

use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::model::priority::Priority;
use task_engine::push::Push;

use super::World;

impl World {
    pub(super) fn check_counts(&self, shard: usize) {
        let push = &self.shards[shard];
        let counts = push.counts();
        let ended: u64 = counts.events_ended.iter().sum();
        let in_flight = push.events_in_flight() as u64;
        assert_eq!(counts.events_arrived, ended + in_flight, "shard {shard}: events are conserved");
        let ended: u64 = counts.recipients_ended.iter().sum();
        let in_flight = push.recipients_in_flight() as u64;
        assert_eq!(counts.recipients_arrived, ended + in_flight, "shard {shard}: recipients are conserved");
        let told = [RecipientOutcome::Delivered, RecipientOutcome::Noticed, RecipientOutcome::Conflated];
        let reached =
            [&told[..], &[RecipientOutcome::SkippedSender, RecipientOutcome::CutByStop, RecipientOutcome::GivenBack]]
                .concat();
        let reached: u64 = reached.iter().map(|end| counts.recipients_ended[*end as usize]).sum();
        assert_eq!(ended, reached + counts.unreached_by.iter().sum::<u64>(), "shard {shard}: each has its why");
        self.check_causes(shard);
        check_recorder(push, shard);
        check_classes(push, shard);
        let (sessions, users) = push.kept();
        assert!(sessions <= self.sessions.len(), "shard {shard} keeps {sessions} sessions");
        assert!(users <= self.users.len(), "shard {shard} keeps {users} users");
    }

    /// Nobody ends as stored or in a dead letter before the stores have said so.
    fn check_causes(&self, shard: usize) {
        let ended = |end: RecipientOutcome| self.shards[shard].counts().recipients_ended[end as usize];
        let told = self.told(shard);
        assert!(ended(RecipientOutcome::Stored) <= told.rows, "shard {shard}: more stored than rows");
        let readers = self.may_be_readers(shard);
        assert!(
            ended(RecipientOutcome::Readable) <= readers,
            "shard {shard}: more readers than contents: {} of {readers}",
            ended(RecipientOutcome::Readable)
        );
        assert!(ended(RecipientOutcome::InboxConflict) <= told.letters, "shard {shard}: more conflicts than letters");
        let rejected = ended(RecipientOutcome::InboxRejected) > 0;
        assert!(!rejected || told.letters > 0, "shard {shard}: rejected without a letter");
        let lost = self.shards[shard].activity().letters_lost;
        assert!(lost <= told.lost, "shard {shard}: letters lost");
        let is_each_lost = lost == told.lost || self.is_cut_off || !self.plan.letters_are_final();
        assert!(is_each_lost, "shard {shard}: a refusal is final, and a letter is not lost");
        assert!(lost == 0 || !self.plan.keepers_fail_whole(), "shard {shard}: a letter lost by an outage");
        assert!(told.lost > 0 || ended(RecipientOutcome::DeadLetterLost) == 0, "shard {shard}: lost without a cause");
        if self.plan.inbox_is_on() {
            let unstored = RecipientOutcome::ALL.iter().filter(|end| {
                let is_kept =
                    [RecipientOutcome::Stored, RecipientOutcome::InboxConflict, RecipientOutcome::InboxRejected];
                let is_else =
                    [RecipientOutcome::DeadLetterLost, RecipientOutcome::CutByStop, RecipientOutcome::GivenBack];
                end.is_unreached() && !is_kept.contains(end) && !is_else.contains(end)
            });
            let of_fleeting = &self.shards[shard].by_class().recipients_ended[Priority::Fleeting as usize];
            let unstored = unstored.map(|end| ended(*end) - of_fleeting[*end as usize]).sum::<u64>();
            assert_eq!(unstored, 0, "shard {shard}: unreached and not stored");
            let kept = of_fleeting[RecipientOutcome::Stored as usize];
            assert_eq!(kept, 0, "shard {shard}: a row of what is worthless when it is read");
        }
    }

    /// What waits at gateways is in flight somewhere: an outbox holds nothing that has ended.
    pub(super) fn check_backlog(&self) {
        let backlog: usize = self.shards.iter().flat_map(Push::outboxes).map(|outbox| outbox.backlog()).sum();
        let open: usize = self.shards.iter().map(Push::pushes_in_flight).sum();
        assert!(self.is_cut_off || backlog <= open, "{backlog} recipients wait at gateways, {open} are in flight");
        for outbox in self.shards.iter().flat_map(Push::outboxes) {
            assert!(
                outbox.has_order_in_its_books(),
                "{}: who is passed, or what is unanswered, is lost count of",
                outbox.id()
            );
        }
    }
}

/// Whoever was not reached is remembered: by why, when that was known, and by what the dead letters said.
fn check_recorder(push: &Push, shard: usize) {
    let counts = push.counts();
    // Of what is shed whole the event's end is remembered.
    for end in RecipientOutcome::ALL.iter().filter(|end| **end != RecipientOutcome::Shed) {
        let remembered = push.recorded(*end).expect("it remembers");
        let unreached = counts.unreached_by[*end as usize];
        assert!(remembered >= unreached, "shard {shard}: {} for {unreached}, remembered {remembered}", end.label());
    }
    for end in [RecipientOutcome::InboxConflict, RecipientOutcome::InboxRejected, RecipientOutcome::DeadLetterLost] {
        let remembered = push.recorded(end).expect("it remembers");
        assert_eq!(remembered, counts.recipients_ended[end as usize], "shard {shard}: ends as {}", end.label());
    }
}

/// What is counted by class is all there is, and only those yield, or are dropped, whose class may be.
fn check_classes(push: &Push, shard: usize) {
    let (counts, by_class) = (push.counts(), push.by_class());
    for end in RecipientOutcome::ALL {
        let of_classes: u64 = by_class.recipients_ended.iter().map(|ended| ended[*end as usize]).sum();
        let all = counts.recipients_ended[*end as usize];
        assert_eq!(of_classes, all, "shard {shard}: recipients that ended as {} by class", end.label());
    }
    for class in Priority::ALL {
        let recipients = &by_class.recipients_ended[*class as usize];
        let shed = recipients[RecipientOutcome::Shed as usize]
            + by_class.events_ended[*class as usize][EventOutcome::Shed as usize];
        assert!(shed == 0 || *class == Priority::Fleeting, "shard {shard}: {} was shed", class.label());
        let yielded = recipients[RecipientOutcome::Yielded as usize];
        assert!(yielded == 0 || *class == Priority::Bulk, "shard {shard}: {} yielded", class.label());
    }
    let shed: u64 = by_class.recipients_shed.iter().sum();
    assert_eq!(shed, counts.recipients_ended[RecipientOutcome::Shed as usize], "shard {shard}: each has its reason");
    let shed: u64 = by_class.events_shed.iter().sum();
    assert_eq!(shed, counts.events_ended[EventOutcome::Shed as usize], "shard {shard}: each has its reason");
}
