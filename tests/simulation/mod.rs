//! A seeded world around the pure core. One seed is one whole schedule: `run` plays it and panics where a promise is
//! broken. Nothing of it names a runtime, a socket or a clock.

mod broker;
mod bursts;
mod contents;
mod crowd;
mod events;
mod gateways;
mod keeping;
mod oracle;
pub mod panics;
pub mod plan;
mod rng;
mod serving;
mod stores;
pub mod trace;
mod world;

use std::collections::BTreeSet;

use task_engine::model::outcome::{EventOutcome, RecipientOutcome};
use task_engine::push::Push;
use task_engine::push::facts::Input;

use plan::{Ending, Reduction};
use rng::Rng;
use trace::Trace;
use world::{MILLI, World};

/// What a run has done, to see that the schedules reach what they should.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Events taken.
    pub events: u64,
    /// Events by end, in the order of [`EventOutcome::ALL`].
    pub event_ends: [u64; EventOutcome::COUNT],
    /// Recipients by end, in the order of [`RecipientOutcome::ALL`].
    pub recipient_ends: [u64; RecipientOutcome::COUNT],
    /// Streams that broke, answers that did not fit, recipients sent again, recipients whose route was asked again.
    pub troubles: [u64; 4],
    /// Lists of protocol `group` that were said, changed, forgotten, and not known.
    pub groups: [u64; 4],
    /// Engines that were killed or cut off.
    pub restarts: u64,
    /// Gateways that were forgotten, so that others could have their places.
    pub forgotten: u64,
    /// Sessions that were looked up before their first event.
    pub warmed: u64,
    /// Pushes to further gateways of a recipient, and gateways that did not take what another one took.
    pub copies: [u64; 2],
    /// What was seen of notices.
    pub notices: NoticesSeen,
    /// Shards on which a crowd was played, and the most turns that an event took there beside its wait for its share.
    pub crowds: u64,
    pub longest_wait: u64,
}

/// How much of what must hold of notices was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoticesSeen {
    /// Notices to gateways that were known to take them, where one of another message could have been under way.
    pub rounds: u64,
    /// Bursts after which each gateway knew the last sequence, and recipients whose notices were replaced in them.
    pub bursts: u64,
    pub conflated_in_bursts: u64,
    /// Runs with replaced notices in which each end was counted by what gateways saw.
    pub accounts: u64,
}

impl NoticesSeen {
    fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.bursts += other.bursts;
        self.conflated_in_bursts += other.conflated_in_bursts;
        self.accounts += other.accounts;
    }
}

impl Tally {
    /// Adds what one shard did.
    pub fn add_shard(&mut self, push: &Push) {
        let did = push.activity();
        let troubles = [did.stream_breaks, did.answer_mismatches, did.resent_recipients, did.rerouted_recipients];
        let all = |sum: &mut [u64], one: &[u64]| sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        self.forgotten += did.gateways_forgotten;
        self.warmed += did.sessions_warmed;
        all(&mut self.copies, &[did.copies_sent, did.copies_missed]);
        all(&mut self.event_ends, &push.counts().events_ended);
        all(&mut self.recipient_ends, &push.counts().recipients_ended);
        all(&mut self.troubles, &troubles);
        all(&mut self.groups, &[did.groups_said, did.group_changes, did.groups_forgotten, did.groups_unknown]);
    }

    /// Adds another schedule's.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.restarts += other.restarts;
        self.forgotten += other.forgotten;
        self.warmed += other.warmed;
        self.crowds += other.crowds;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        let all = |sum: &mut [u64], one: &[u64]| sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        all(&mut self.event_ends, &other.event_ends);
        all(&mut self.recipient_ends, &other.recipient_ends);
        all(&mut self.troubles, &other.troubles);
        all(&mut self.copies, &other.copies);
        all(&mut self.groups, &other.groups);
        self.notices.add(&other.notices);
    }
}

/// Plays one seed, whole or reduced.
///
/// # Panics
/// Where a promise is broken.
pub fn run(seed: u64, reduction: &Reduction, trace: &Trace) -> Tally {
    let mut world = World::new(Rng::new(seed), reduction, trace.clone());
    for _ in 0..world.plan.steps {
        rough_step(&mut world);
    }
    match world.plan.ending {
        Ending::Calm => end_calmly(&mut world),
        Ending::StopInTheMiddle => {
            stop(&mut world);
            for _ in 0..30 {
                rough_step(&mut world);
            }
            calm_down(&mut world);
        }
        Ending::CutOff => cut_off(&mut world),
    }
    close_streams(&mut world);
    check_ends(&world);
    world.check_account();
    world.tally_shards();
    world.tally
}

fn rough_step(world: &mut World) {
    if world.is_accepting {
        world.publish_some();
    }
    let dt = match world.rng.below(1000) {
        0..=699 => world.rng.within(0, 8 * MILLI),
        700..=919 => world.rng.within(10, 60) * MILLI,
        920..=984 => world.rng.within(100, 400) * MILLI,
        985..=998 => world.rng.within(1_000, 4_000) * MILLI,
        _ => 301_000 * MILLI,
    };
    world.step(dt);
}

fn calm_down(world: &mut World) {
    world.is_calm = true;
    world.trace.line(world.now, || "faults stop".to_owned());
    world.calm_gateways();
    world.calm_stores();
    world.calm_keepers();
    let bound = world.settle_bound();
    world.run_until(bound, "after the faults everything settles", World::is_quiet);
}

/// Everything settles; then one event of each session reaches everyone who is there.
fn end_calmly(world: &mut World) {
    calm_down(world);
    for _ in 0..120 {
        world.step(60 * MILLI);
    }
    world.play_bursts();
    let cut_before = world.waits_cut();
    let probes = (0..world.sessions.len()).map(|session| world.publish(session)).collect::<Vec<_>>();
    let bound = world.settle_bound();
    world.run_until(bound, "the last events settle", World::is_quiet);
    for (session, number) in probes {
        let event = world.oracle.by_key[&(session, number)];
        for user in world.sessions[session].members.iter().copied() {
            let is_meant = world.plan.echoes() || world.oracle.events[event].sender != Some(user);
            for gateway in 0..world.gateways.len() {
                let is_there = is_meant && world.users[user].at().has(gateway) && world.serves(gateway);
                let is_told = world.oracle.is_told_at(event, user, gateway);
                // The events of sessions that were refused lately hold a part of the window, which may be one event.
                if !is_told && world.waits_cut() > cut_before {
                    continue;
                }
                assert_eq!(
                    is_told, is_there,
                    "event {event} of session {session} for user {user} at gateway {gateway}, when all was well"
                );
            }
        }
    }
    for shard in 0..world.shards.len() {
        let sessions = world.sessions.iter().filter(|session| session.home == shard);
        let users = sessions.flat_map(|session| &session.members).collect::<BTreeSet<_>>();
        assert_eq!(world.shards[shard].kept().1, users.len(), "shard {shard} keeps the users of its member lists only");
    }
    world.play_crowds();
    stop(world);
}

fn stop(world: &mut World) {
    world.is_accepting = false;
    for shard in 0..world.shards.len() {
        world.feed(shard, Input::Stopping);
    }
}

fn close_streams(world: &mut World) {
    let bound = 3_000 * MILLI;
    world.run_until(bound, "the streams close after a stop", |world| !world.shards.iter().any(Push::has_streams));
    assert!(world.conns.is_empty(), "the core holds no stream and the world does: {:?}", world.conns.len());
}

fn cut_off(world: &mut World) {
    stop(world);
    for _ in 0..world.rng.below(10) {
        rough_step(world);
    }
    world.is_cut_off = true;
    for shard in 0..world.shards.len() {
        world.feed(shard, Input::CutOff);
        assert_eq!(world.shards[shard].events_in_flight(), 0, "nothing is in flight after the cut");
    }
    for _ in 0..10 {
        rough_step(world);
    }
    let mut of_this_engine = world.oracle.tags.iter().filter(|tag| tag.is_taken && !tag.is_dead);
    assert!(of_this_engine.all(|tag| tag.is_settled), "each event is settled or given back");
    let given_back = world.events_ended(EventOutcome::CutByStop) + world.events_ended(EventOutcome::GivenBack);
    assert_eq!(world.oracle.given_back, given_back, "what was cut off is given back, and nothing else");
    assert!(
        world.recipients_ended(RecipientOutcome::Delivered) + world.recipients_ended(RecipientOutcome::Noticed)
            <= world.oracle.answered_ok + world.oracle.doubtful,
        "delivered means answered"
    );
    world.restart();
    calm_down(world);
    stop(world);
}

fn check_ends(world: &World) {
    for (number, tag) in world.oracle.tags.iter().enumerate() {
        assert!(tag.is_dead || (tag.is_taken && tag.is_settled), "tag {number} was never settled");
    }
    assert!(world.is_stream_settled(), "the stream is settled");
    assert_eq!(world.oracle.given_back, world.events_ended(EventOutcome::GivenBack), "what was given back is counted");
    let [delivered, noticed, conflated] =
        [RecipientOutcome::Delivered, RecipientOutcome::Noticed, RecipientOutcome::Conflated]
            .map(|end| world.recipients_ended(end));
    // Of a user at several gateways one may be replaced and another one answer.
    let may_be_both = if world.plan.devices() > 1 { conflated } else { 0 };
    let doubtful = world.oracle.doubtful;
    let told = (delivered + noticed).saturating_sub(doubtful)..=delivered + noticed + may_be_both + doubtful;
    assert!(told.contains(&world.oracle.answered_ok), "delivered is what gateways answered for: {told:?}");
    world.check_all_know();
    let bad = [EventOutcome::Undecodable, EventOutcome::NoSessionId, EventOutcome::LongSessionId];
    let bad = bad.into_iter().map(|end| world.events_ended(end)).sum::<u64>();
    let lost = world.events_ended(EventOutcome::DeadLetterLost);
    let is_all_bad = bad <= world.bad_taken && world.bad_taken <= bad + lost;
    assert!(is_all_bad, "what can never be pushed is refused, and nothing else");
    assert_eq!(world.events_ended(EventOutcome::CutByStop) + world.recipients_ended(RecipientOutcome::CutByStop), 0);
    let backlog = world.shards.iter().flat_map(Push::outboxes).map(|outbox| outbox.backlog()).sum::<usize>();
    assert_eq!(backlog, 0, "no outbox holds anything");
    let held = world.shards.iter().map(|push| (push.payload_bytes_in_flight(), push.recipients_in_flight()));
    assert!(held.into_iter().all(|held| held == (0, 0)), "nothing is counted that is not there");
    if world.plan.max_retry > 0 && world.plan.roughness == 0 {
        assert_eq!(world.events_ended(EventOutcome::LookupFailed), 0, "no lookup was refused");
    }
    if world.plan.roughness == 0 && world.plan.events_window() == usize::MAX {
        assert_eq!(world.recipients_ended(RecipientOutcome::OutboxFull), 0);
    }
}
