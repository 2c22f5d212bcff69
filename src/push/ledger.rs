//! The ledger: each event of this (home) shard from its arrival to its end, and the end of each of its recipients.
//!
//! Promises the conservation law at every instant: arrivals = endings + in flight, for events and for recipients. In
//! flight is what the source was not told of yet: events on their way, events whose rows or dead letters are not kept
//! yet, what was refused and is not in the dead letters yet, and repeats that wait for the event they joined. An entry
//! leaves the ledger exactly once, when nothing of it is pending, and all its tags are settled then.

mod classes;
mod content;
mod copies;
mod letters;
mod on_streams;
mod rows;
mod untaken;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::{Index, IndexMut};

use bytes::Bytes;
use thin_vec::ThinVec;

use crate::model::delivery::{DeliveryTag, Disposition, Settled};
use crate::model::ids::{Nanos, SessionIx, UserIx};
use crate::model::limits::{EVENTS_IN_FLIGHT_MAX, JOINED_REPEATS_MAX};
use crate::model::outcome::{Counts, EventOutcome, RecipientOutcome};
use crate::model::prefetch::prefetch_to_write;
use crate::model::priority::{ClassCounts, Priority};
use crate::model::publication::Published;
use crate::model::slots::Slots;
use crate::push::admission::Load;
use crate::push::bundle::EventIx;
use crate::push::context::Context;
use crate::push::dead_letters::DeadLetterAsks;
use crate::push::facts::Output;
use crate::push::inbox::{ContentAsks, InboxAsks, PendingRows};
use crate::push::ingest::Arrival;
pub(super) use crate::push::ledger::classes::AtGateways;
pub(super) use crate::push::ledger::content::{Content, ContentFound};
use crate::push::ledger::copies::Copies;
use crate::push::repeats::Key;
use crate::push::telling::Pushes;
use crate::telemetry::metrics::Stage;

/// How an event's source, and its repeats, know it.
#[derive(Debug)]
pub struct Source {
    /// What repeats know it by.
    pub key: Key,
    /// How the source knows it.
    pub tag: DeliveryTag,
    /// The tags of repeats that wait for its end.
    joined: ThinVec<DeliveryTag>,
}

impl Source {
    /// Of an event that no repeat has joined.
    pub fn new(key: Key, tag: DeliveryTag) -> Self {
        Self { key, tag, joined: ThinVec::new() }
    }
}

/// How far an event has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bundles and held recipients without an end.
    pub pending: u32,
    /// Recipients without an end.
    pub open: u32,
    /// Its recipients are entered, and it is not (or no longer) in its session's queue.
    pub is_bundled: bool,
    /// The sender, where it is pushed to as well: it gets no row for that.
    pub echoed: Option<UserIx>,
    /// Whoever could not be reached needs no row when its content is kept.
    pub reads_content: bool,
    /// What is known of its content, where it may be a notice.
    pub(super) content: Content,
    /// It goes as a notice to gateways that understand those: see [`Bundle::notice`](crate::push::bundle::Bundle::notice).
    pub notice: u32,
    /// A gateway took it for one of them.
    pub has_reached: bool,
    /// One who was connected could not be reached.
    pub has_missed: bool,
    /// Its pushes have all ended, and what it owes waits for the store.
    pub(super) is_at_store: bool,
    /// Pushes that have ended and that their gateways may still read.
    pub on_streams: u32,
    /// Its end, which waits for those: whoever gets its partition next pushes later events over other streams, and these could be read
    /// first.
    pub ends: Option<EventOutcome>,
}

/// One event in flight.
#[derive(Debug)]
pub struct Event {
    /// Its session; once it is bundled, the session and its users keep their places until the event ends.
    pub session: SessionIx,
    /// Its place in the order of this shard's arrivals.
    pub order: u64,
    /// What was read of it.
    pub arrival: Arrival,
    /// Who waits for its end.
    pub source: Source,
    /// When it was published, where somebody wants to know.
    pub published: Published,
    /// When it arrived.
    pub arrived: Nanos,
    /// When its members were known.
    pub members_known: Nanos,
    /// When it was bundled; when it arrived until then.
    pub bundled_at: Nanos,
    /// The first route ask that was not sent before it arrived.
    pub first_ask: u32,
    /// How far it has come.
    pub progress: Progress,
    /// What it owes the inbox; most events owe nothing.
    pub owed: Option<Box<PendingRows>>,
    /// Who goes first, and who yields.
    pub class: Priority,
    /// The size of its session decides that, and is not known yet.
    pub is_class_open: bool,
    /// How long it had waited for its shard, in milliseconds, where events have classes.
    pub waited_millis: u32,
    /// Its recipients at several gateways.
    pub copies: Option<Box<Copies>>,
    /// Its pushes, where it is to be told of; most are not.
    pub pushes: Option<Box<Pushes>>,
    payload_bytes: usize,
}

impl Event {
    /// What it owes, made when it owes nothing yet.
    pub fn owed_mut(&mut self) -> &mut PendingRows {
        self.owed.get_or_insert_default()
    }
}

/// What came and is no event that could be pushed.
#[derive(Debug)]
pub struct Refused {
    /// Its bytes.
    pub payload: Bytes,
    /// How the source knows it.
    pub tag: DeliveryTag,
    /// Why.
    pub end: EventOutcome,
    /// When it arrived.
    pub arrived: Nanos,
}

/// What the other stages keep of an event that has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// What repeats know it by.
    pub(super) key: Key,
    /// Its session, when its recipients had been entered.
    pub(super) bundled_of: Option<SessionIx>,
}

/// All events in flight, what is asked of the inbox and the dead letters about them, and the counts.
#[derive(Debug, Default)]
pub struct Ledger {
    events: Slots<Event, EVENTS_IN_FLIGHT_MAX>,
    refused: Slots<Refused>,
    joined: usize,
    next_order: u64,
    pub(super) inbox: InboxAsks,
    pub(super) content: ContentAsks,
    pub(super) letters: DeadLetterAsks,
    /// The sum over all events in flight.
    pub payload_bytes: usize,
    /// The sum over all events in flight.
    pub open_recipients: usize,
    /// Pushes under way to recipients at several gateways, beyond those that count as the recipient.
    extra_pushes: usize,
    /// How many there were, and how many gateways did not take what another one took.
    copies_sent: u64,
    copies_missed: u64,
    /// Ends of recipients by the dead letters, until they are recorded, where they are.
    pub(super) late_ends: Option<Vec<(EventIx, UserIx, RecipientOutcome)>>,
    /// Arrivals and ends.
    pub counts: Counts,
    /// Ends by class.
    pub by_class: ClassCounts,
    /// Events in flight by class, their recipients without an end, and their bytes.
    load_of: [Load; Priority::COUNT],
    /// Of those, what gateways are to take: without what waits in its session's queue, and without what waits for the store.
    at_gateways: [AtGateways; Priority::COUNT],
}

impl Index<EventIx> for Ledger {
    type Output = Event;
    fn index(&self, at: EventIx) -> &Event {
        &self.events[at.0]
    }
}

impl IndexMut<EventIx> for Ledger {
    fn index_mut(&mut self, at: EventIx) -> &mut Event {
        &mut self.events[at.0]
    }
}

const _: () = assert!(size_of::<Event>() <= 256, "four lines of the cache, which are asked for ahead");

/// How an event's end is told to its source.
const fn settled_as(end: EventOutcome) -> Disposition {
    match end {
        EventOutcome::Settled | EventOutcome::Repeat | EventOutcome::Shed => Disposition::Ack,
        EventOutcome::GivenBack | EventOutcome::CutByStop => Disposition::Nak,
        // A letter that was refused is lost, counted and said; the event must not go in circles for ever.
        EventOutcome::Undecodable
        | EventOutcome::NoSessionId
        | EventOutcome::LongSessionId
        | EventOutcome::TooLarge
        | EventOutcome::NoMembers
        | EventOutcome::LookupFailed
        | EventOutcome::DeadLetterLost => Disposition::Term,
    }
}

impl Ledger {
    /// Arrivals that the source was not told of yet.
    pub fn in_flight(&self) -> usize {
        self.events.len() + self.refused.len() + self.joined
    }

    /// When the oldest of them arrived. Looks at each.
    pub fn oldest_arrival(&self) -> Option<Nanos> {
        let events = self.events.iter().map(|(_, event)| event.arrived);
        events.chain(self.refused.iter().map(|(_, refused)| refused.arrived)).min()
    }

    /// The place of the event that arrived last in the order of arrivals.
    pub(super) fn newest_order(&self) -> u64 {
        self.next_order
    }

    /// What is in flight of each of the shard's bounds.
    #[inline]
    pub fn load(&self) -> Load {
        Load { events: self.in_flight(), recipients: self.pushes_in_flight(), bytes: self.payload_bytes }
    }

    /// Enters an event.
    #[inline]
    pub fn enter(
        &mut self,
        arrival: Arrival,
        source: Source,
        session: SessionIx,
        now: Nanos,
        first_ask: u32,
        class: Priority,
    ) -> EventIx {
        let payload_bytes = arrival.bytes();
        self.payload_bytes += payload_bytes;
        self.next_order += 1;
        let event = Event {
            session,
            order: self.next_order,
            arrival,
            source,
            published: Published::UNKNOWN,
            arrived: now,
            members_known: now,
            bundled_at: now,
            first_ask,
            progress: Progress::default(),
            owed: None,
            class,
            is_class_open: false,
            waited_millis: 0,
            copies: None,
            pushes: None,
            payload_bytes,
        };
        self.load_of[class as usize].add(Load { events: 1, recipients: 0, bytes: payload_bytes });
        EventIx(self.events.insert(event))
    }

    /// Enters what was refused, until it is in the dead letters.
    pub fn enter_refused(&mut self, refused: Refused) -> u32 {
        self.payload_bytes += refused.payload.len();
        self.refused.insert(refused)
    }

    /// Whether this event, known by this key, is in flight.
    pub fn has(&self, at: EventIx, key: Key) -> bool {
        self.events.get(at.0).is_some_and(|event| event.source.key == key)
    }

    /// Asks for the memory of an event.
    pub fn prefetch(&self, at: EventIx) {
        self.events.prefetch(at.0);
    }

    /// Asks for the memory of so many events that are entered next.
    pub fn prefetch_next(&self, events: usize) {
        self.events.prefetch_next(events);
    }

    /// Asks for the bytes of an event: to free them writes to the first.
    pub fn prefetch_payload(&self, at: EventIx) {
        if let Some(event) = self.events.get(at.0) {
            prefetch_to_write(event.arrival.payload.as_ptr());
        }
    }

    /// What was refused.
    pub fn refused(&self, at: u32) -> &Refused {
        &self.refused[at]
    }

    /// All events in flight, in the order of their arrival; those on their way to the dead letters included.
    pub fn in_order(&self) -> Vec<EventIx> {
        let mut all: Vec<_> = self.events.iter().map(|(at, event)| (event.order, EventIx(at))).collect();
        all.sort_unstable_by_key(|(order, _)| *order);
        all.into_iter().map(|(_, at)| at).collect()
    }

    /// All events in flight.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    /// Whether something waits for the dead letters as a whole.
    pub fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// An event leaves that is not (or no longer) in its session's queue, and its source is told, of its repeats as well.
    #[inline]
    pub(super) fn end(&mut self, at: EventIx, end: EventOutcome, cx: &mut Context) -> Left {
        // Where it stands: to move it out copies four lines.
        let event = &mut self.events[at.0];
        cx.tell_of(event, end);
        debug_assert!(event.progress.open == 0, "a recipient without an end");
        self.payload_bytes -= event.payload_bytes;
        self.extra_pushes -= event.copies.as_ref().map_or(0, |copies| copies.extra());
        self.counts.events_ended[end as usize] += 1;
        self.by_class.events_ended[event.class as usize][end as usize] += 1;
        self.load_of[event.class as usize].remove(Load { events: 1, recipients: 0, bytes: event.payload_bytes });
        let joined = std::mem::take(&mut event.source.joined);
        self.joined -= joined.len();
        let of_joined =
            if matches!(end, EventOutcome::CutByStop | EventOutcome::GivenBack) { end } else { EventOutcome::Repeat };
        self.counts.events_ended[of_joined as usize] += joined.len() as u64;
        let took_nanos = cx.now.nanos_since(event.arrived);
        cx.stages.record(Stage::Event, took_nanos);
        if cx.has_classes {
            self.by_class.latency[event.class as usize].record_nanos(took_nanos, 1);
        }
        let how = settled_as(end);
        let tags = std::iter::once(event.source.tag).chain(joined);
        cx.out.extend(tags.map(|tag| Output::Settle(Settled { tag, how })));
        let left = Left { key: event.source.key, bundled_of: event.progress.is_bundled.then_some(event.session) };
        self.leave_gateways(at);
        self.events.discard(at.0);
        left
    }

    /// Some recipients of an event could not be reached: the inbox gets their rows, and then they end; without an inbox
    /// they end now. One at several gateways ends with the last of them, and only when none took the message. Gives those whose end it is.
    pub(super) fn end_unreached<'a>(
        &mut self,
        event: EventIx,
        users: &'a [UserIx],
        why: RecipientOutcome,
        cx: &Context,
    ) -> Cow<'a, [UserIx]> {
        debug_assert!(why.is_unreached());
        let ended = self.ended_by(event, users);
        if !ended.is_empty() {
            self.end_unreached_everywhere(event, &ended, why, cx);
        }
        ended
    }

    fn end_unreached_everywhere(&mut self, event: EventIx, users: &[UserIx], why: RecipientOutcome, cx: &Context) {
        if let Some(sender) = self[event].progress.echoed
            && let Some(at) = users.iter().position(|user| *user == sender)
        {
            // An echo is no message that anybody misses.
            self.end_recipients(event, RecipientOutcome::SkippedSender, 1);
            self[event].progress.echoed = None;
            for users in [&users[..at], &users[at + 1..]].into_iter().filter(|users| !users.is_empty()) {
                self.end_unreached_everywhere(event, users, why, cx);
            }
            return;
        }
        self[event].progress.has_missed |= why.is_failure();
        if !self.stores_rows(event, cx) {
            self.counts.unreached_by[why as usize] += users.len() as u64;
            return self.end_recipients(event, why, users.len() as u32);
        }
        self[event].owed_mut().unreached.extend(users.iter().map(|user| (*user, why)));
    }

    /// A repeat of an event in flight: it is settled together with it. A tag that is there already is settled once; one
    /// repeat too many is given back, so that it comes again when the event has its end: nothing is lost by that.
    pub(super) fn join(&mut self, at: EventIx, tag: DeliveryTag, cx: &mut Context) {
        let event = &mut self[at];
        let is_known = event.source.tag == tag || event.source.joined.contains(&tag);
        if !is_known && event.source.joined.len() < JOINED_REPEATS_MAX {
            event.source.joined.push(tag);
            self.joined += 1;
            return;
        }
        self.counts.events_ended[EventOutcome::Repeat as usize] += 1;
        if !is_known {
            cx.activity.repeats_given_back += 1;
            cx.out.push(Output::Settle(Settled { tag, how: Disposition::Nak }));
        }
    }

    /// A bundle or held recipient of a bundled event has ended. True after the last one: then the event is to end, unless it
    /// owes the inbox something.
    #[inline]
    pub(super) fn bundle_ended(&mut self, at: EventIx) -> bool {
        let event = &mut self[at];
        event.progress.pending -= 1;
        if event.progress.pending > 0 {
            return false;
        }
        if event.owed.is_some() {
            return self.want_kept(at);
        }
        true
    }

    /// Whether what would keep a message for those who could not be reached is away, for an event that owes them that.
    pub(super) fn is_keeper_away(&self, owed: &PendingRows) -> bool {
        self.inbox.is_away() || (owed.is_sought && self.content.is_away())
    }

    /// The events of which rows or contents are asked for now.
    pub(super) fn at_store(&self) -> HashSet<EventIx> {
        let mut events = self.inbox.at_store();
        events.extend(self.content.at_store());
        events
    }

    /// What is in flight: the events, and what was refused.
    pub(super) fn all_in_flight(&self) -> (Vec<EventIx>, Vec<u32>) {
        let events = self.events.iter().map(|(at, _)| EventIx(at)).collect();
        (events, self.refused.iter().map(|(at, _)| at).collect())
    }
}
