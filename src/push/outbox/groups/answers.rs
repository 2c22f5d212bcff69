//! Writes frames of items, and reads their answers: each names the frame, who could not be reached, and which lists are not known.
//!
//! Promises that a push to a list that the gateway does not know is written again with it, behind nothing later of its session;
//! and that to a gateway to which lists are said in vain users are named, until its stream ends.

use crate::model::gateway::Protocol;
use crate::model::ids::{GatewayIx, Nanos, StreamNo};
use crate::model::limits::{LISTED_USERS_MAX, STREAM_UNSENT_BYTES_MAX, UNKNOWN_LISTS_MAX};
use crate::model::protobuf::{Fields, Value, read_varint};
use crate::push::bundle::Refusal;
use crate::push::outbox::answers::{Mismatch, refuse, refuse_all};
use crate::push::outbox::groups::Put;
use crate::push::outbox::link::Link;
use crate::push::outbox::{Effects, Item, Outbox};

/// How many items that wait for answers to earlier ones of their session others may pass.
const ITEMS_PASSED_MAX: usize = 64;
/// Large lists that a gateway keeps at the least, that sessions are cut into them.
const LISTS_KEPT_MIN: usize = 8;

/// A GroupAnswer.
struct Answer<'a> {
    bytes: &'a [u8],
    frame_id: u64,
    /// Ascending.
    unknown: Vec<u32>,
    has_failures: bool,
}

impl<'a> Answer<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Mismatch> {
        let mut answer = Self { bytes, frame_id: 0, unknown: Vec::new(), has_failures: false };
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next_field()? {
            match (field.number, field.value) {
                (1, Value::Varint(id)) => answer.frame_id = id,
                (2, Value::Bytes(_)) => answer.has_failures = true,
                (3, value) => numbers(value, |id| answer.unknown.push(id))?,
                _ => {}
            }
        }
        answer.unknown.sort_unstable();
        Ok(answer)
    }

    fn failures(&self, mut take: impl FnMut(&[u8]) -> Result<(), Mismatch>) -> Result<(), Mismatch> {
        let mut fields = Fields::new(self.bytes);
        while let Some(field) = fields.next_field()? {
            if let (2, Value::Bytes(failure)) = (field.number, field.value) {
                take(failure)?;
            }
        }
        Ok(())
    }
}

/// A repeated uint32, packed or not.
fn numbers(value: Value<'_>, mut take: impl FnMut(u32)) -> Result<(), Mismatch> {
    let mut take = |number| u32::try_from(number).map(&mut take).map_err(|_| Mismatch("a number is too large"));
    match value {
        Value::Varint(number) => take(number),
        Value::Other => Err(Mismatch("malformed frame")),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let (number, used) = read_varint(packed).ok_or(Mismatch("malformed frame"))?;
                packed = &packed[used..];
                take(number)?;
            }
            Ok(())
        }
    }
}

impl Outbox {
    /// Whether the gateway keeps lists of users that are large; none while there is no stream, which says nothing of the next one.
    #[inline]
    pub(in crate::push::outbox) fn keeps_lists(&self) -> Option<bool> {
        let Link::Open { protocol, .. } = self.stream.link else { return None };
        Some(protocol == Protocol::Group && self.list_users_max() >= LISTS_KEPT_MIN * LISTED_USERS_MAX)
    }

    /// Users of all lists that the gateway keeps; none when it does not know them, however often they are said.
    fn list_users_max(&self) -> usize {
        let announced = self.peer.record.as_ref().and_then(|record| record.protocols.group);
        announced.filter(|_| !self.stream.groups.is_in_vain).map_or(0, |most| most.get() as usize)
    }

    /// `PushGroups`: as many bundles a frame as it has room for, at least one that need not wait for an answer.
    pub(in crate::push::outbox) fn write_groups(
        &mut self,
        at: GatewayIx,
        stream: StreamNo,
        now: Nanos,
        effects: &mut Effects,
    ) {
        let takes_notices = self.peer.record.as_ref().is_some_and(|record| record.protocols.notice);
        let worth = self.settings.group_users_min..=self.list_users_max();
        let mut left = self.in_turn(now);
        while left > 0 && self.stream.unsent_bytes < STREAM_UNSENT_BYTES_MAX {
            let frame_id = self.stream.next_batch;
            self.stream.groups.begin(frame_id, takes_notices);
            let (mut items, mut index) = (0, 0);
            while index < left && index - items <= ITEMS_PASSED_MAX {
                let item = &mut self.queue.queued_mut()[index];
                match self.stream.groups.put(item, &worth, now, &mut effects.counted) {
                    Put::Written => {
                        item.note_written(now, effects);
                        self.queue.pass_to(index, items);
                        items += 1;
                    }
                    Put::Waits => {}
                    Put::Full => break,
                }
                index += 1;
            }
            if items == 0 {
                return;
            }
            self.stream.groups.forget_oldest(now, &mut effects.counted);
            let frame = self.stream.groups.frame.bytes();
            self.stream.next_batch += 1;
            self.queue.note_batch_written(items);
            left -= items;
            self.stream.batches.push_back((frame_id, items));
            self.send(at, stream, frame, effects);
        }
    }

    /// One GroupAnswer.
    pub(in crate::push::outbox) fn take_group_answer(
        &mut self,
        answer: &[u8],
        now: Nanos,
        effects: &mut Effects,
    ) -> Result<(), Mismatch> {
        let (expected, items) = *self.stream.batches.front().ok_or(Mismatch("an answer came for no frame"))?;
        let answer = Answer::read(answer)?;
        if answer.frame_id != expected {
            return Err(Mismatch("a frame's answer is out of order"));
        }
        if answer.has_failures {
            self.note_failures(&answer, items, effects)?;
        }
        let is_hopeless = !answer.unknown.is_empty() && self.note_unknown(&answer.unknown, items, effects)?;
        self.note_answer(now);
        self.stream.batches.pop_front();
        for _ in 0..items {
            self.settle_front(now, effects);
        }
        self.queue_returned();
        if is_hopeless {
            self.stream.groups.is_in_vain = true;
            let what = format!(
                "it answered {UNKNOWN_LISTS_MAX} times that it does not know a group whose list came with the push: users are \
                 named to it until its stream ends; look at its group_members_max"
            );
            effects.warning = Some(("gateway_groups_unknown", what));
        }
        Ok(())
    }

    /// Failures name pushes by their place among the frame's pushes, and its singles after them.
    fn note_failures(&mut self, answer: &Answer<'_>, items: usize, effects: &mut Effects) -> Result<(), Mismatch> {
        let written = self.queue.sent().iter().take(items).enumerate();
        let (singles, pushes): (Vec<_>, Vec<_>) = written.partition(|(_, item)| item.written.list == 0);
        let places: Vec<_> = pushes.iter().chain(&singles).map(|(index, _)| *index).collect();
        answer.failures(|failure| {
            let (mut push, mut error) = (0, &b""[..]);
            let mut fields = Fields::new(failure);
            while let Some(field) = fields.next_field()? {
                match (field.number, field.value) {
                    (1, Value::Varint(number)) => push = number,
                    (3, Value::Bytes(text)) => error = text,
                    _ => {}
                }
            }
            let index = usize::try_from(push).ok().and_then(|push| places.get(push));
            let index = index.ok_or(Mismatch("a frame's failure names a push that was not in it"))?;
            note_failure(&mut self.queue.sent_mut()[*index], failure, effects.refusal_of(error))
        })
    }

    /// Marks what was not delivered; true when a list that was said again and again is not known.
    fn note_unknown(&mut self, unknown: &[u32], items: usize, effects: &mut Effects) -> Result<bool, Mismatch> {
        if unknown.last().is_some_and(|id| !self.stream.groups.was_said(*id)) {
            return Err(Mismatch("an answer names a group that was never said"));
        }
        let mut is_hopeless = false;
        for item in self.queue.sent_mut().iter_mut().take(items) {
            if item.written.list == 0 || unknown.binary_search(&item.written.list).is_err() {
                continue;
            }
            item.written.is_unknown = true;
            item.written.unknown_times += u8::from(item.written.is_said);
            is_hopeless |= item.written.unknown_times >= UNKNOWN_LISTS_MAX;
            effects.counted.groups_unknown += 1;
            self.stream.groups.lose(item);
        }
        Ok(is_hopeless)
    }

    fn settle_front(&mut self, now: Nanos, effects: &mut Effects) {
        let Some(front) = self.queue.sent().front() else { return };
        match self.stream.groups.settle(front) {
            true => self.queue.return_front(),
            false => self.complete_front(now, effects),
        }
    }

    /// What was not delivered is written next, in its order, once nothing of its session is on the stream.
    fn queue_returned(&mut self) {
        if self.queue.has_returned() {
            let groups = &mut self.stream.groups;
            let items = self.queue.take_returned(|item| groups.is_all_returned(item));
            items.iter().for_each(|item| groups.note_left(item));
            self.queue.queue_first(items);
        }
    }
}

/// Notes a failure against the places that it names, or against all.
fn note_failure(item: &mut Item, failure: &[u8], refusal: Refusal) -> Result<(), Mismatch> {
    let mut names_one = false;
    let mut fields = Fields::new(failure);
    while let Some(field) = fields.next_field()? {
        if field.number != 2 {
            continue;
        }
        let mut is_wrong = false;
        numbers(field.value, |place| {
            names_one = true;
            match place_in_group(item, place) {
                // Who sent the message got the notice as well, and is no recipient.
                Some(place) if place == item.bundle.skip => {}
                Some(place) => refuse(item, place, refusal),
                None => is_wrong = true,
            }
        })?;
        if is_wrong {
            return Err(Mismatch("a failure names a place that was not sent to"));
        }
    }
    if !names_one {
        refuse_all(item, refusal);
    }
    Ok(())
}

/// The place in the group that an answer means, when it was sent to.
fn place_in_group(item: &Item, place: u32) -> Option<u32> {
    let place = match (&item.written.order, item.written.list) {
        (Some(order), _) => *order.in_group.get(place as usize)?,
        (None, 0) => {
            let place = place.checked_add(item.answer_place)?;
            place + u32::from(item.bundle.skip >= item.answer_place && place >= item.bundle.skip)
        }
        (None, _) => place,
    };
    let is_sent_to =
        (item.answer_place..item.end_place()).contains(&place) && (place != item.bundle.skip || item.written.is_notice);
    is_sent_to.then_some(place)
}
