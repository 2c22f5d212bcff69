//! What travels between shards: a [`Bundle`] (all recipients of one event in one group) out, a [`BundleResult`] back.
//!
//! Promises that a bundle costs the same whatever its group's size: the group is shared, in wire form, by all events
//! that go to it, and the message is shared by all groups. Refuses to hold an index that only its home shard
//! understands anywhere but in what comes back to that shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;

use crate::model::ids::{GatewayId, GatewayIx, Nanos, SessionIx, ShardId, UserIx};
use crate::model::limits::GROUP_WIRE_BYTES_MAX;
use crate::model::outcome::RecipientOutcome;
use crate::model::prefetch::{prefetch_all, prefetch_to_write};
use crate::model::priority::Priority;
use crate::push::admission::Load;

/// An event's place in its home shard's ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventIx(pub u32);

impl EventIx {
    /// A place that no ledger has.
    pub(super) const NOWHERE: Self = Self(u32::MAX);
}

/// A place of a shard's gateway table, and the how-manieth gateway that has it: what refers to an earlier one can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// The place.
    pub place: GatewayIx,
    /// Grows when the gateway there is forgotten.
    pub number: u32,
}

/// The owner shard has said nothing yet.
const NO_PLACE: u64 = u64::MAX;
/// The same of whether the gateway keeps lists of users;
const NOT_SAID: u8 = 0;
/// it said that it does not,
const KEEPS_NONE: u8 = 1;
/// and that it does.
const KEEPS_LISTS: u8 = 2;

/// Sessions are told apart by their place on their home shard.
pub type SessionKey = (ShardId, SessionIx);

/// Places in a group.
#[derive(Debug)]
struct Places(Box<[u32]>);

/// Some users of one session on one gateway, at most [`GROUP_WIRE_BYTES_MAX`] of names; a larger group is cut into
/// parts.
#[derive(Debug)]
pub struct Group {
    /// The gateway's id, for the owner shard.
    pub gateway_id: GatewayId,
    /// The gateway's place in the home shard's table.
    pub gateway: GatewayIx,
    /// The users, in the home shard's table; their order is the order in `wire`.
    pub users: Box<[UserIx]>,
    /// Their names as `to_username`/`to_usernames` fields: tag, length, name, one after the other.
    pub wire: Box<[u8]>,
    /// The place of the home session's lane to the gateway when the group was made: lanes move, so only where to look
    /// first.
    pub lane: u32,
    /// See [`several`](Self::several). Most have none: a group is read once an event, and each line of it is a miss.
    several: Option<Box<Places>>,
    /// It is one of several that the session's users on this gateway are cut into.
    pub is_part: bool,
    /// It is not the last of those: an event counts as one with its last part, which has its end last.
    pub has_more_parts: bool,
    /// Which of those it is, from 0.
    pub part: u32,
    /// Whether its gateway keeps lists of users.
    keeps_lists: AtomicU8,
    owner_place: AtomicU64,
}

impl Group {
    /// Collects a group; `wire` is the users' wire names in the same order.
    pub fn new(gateway_id: GatewayId, gateway: GatewayIx, lane: u32, users: Box<[UserIx]>, wire: Box<[u8]>) -> Self {
        debug_assert!(wire.len() <= GROUP_WIRE_BYTES_MAX);
        Self {
            gateway_id,
            gateway,
            lane,
            users,
            wire,
            several: None,
            is_part: false,
            has_more_parts: false,
            part: 0,
            keeps_lists: AtomicU8::new(NOT_SAID),
            owner_place: AtomicU64::new(NO_PLACE),
        }
    }

    /// The same as one of several.
    pub fn as_part(self, is_part: bool, part: u32, has_more_parts: bool) -> Self {
        Self { is_part, part, has_more_parts, ..self }
    }

    /// The same, of whose users those at these places are at other gateways as well.
    pub fn with_several(self, several: Box<[u32]>) -> Self {
        let several = (!several.is_empty()).then(|| Box::new(Places(several)));
        Self { several, ..self }
    }

    /// Whether a gateway that keeps lists is told one of these users; `users_min` is what a list takes at the least. The last part of a
    /// large group may be small: named, it would wait for the answers to the parts of the event before.
    #[inline]
    pub fn is_worth_a_list(&self, users_min: usize) -> bool {
        self.is_part || self.users.len() >= users_min
    }

    /// The places of users who are at other gateways as well; ascending.
    #[inline]
    pub fn several(&self) -> &[u32] {
        self.several.as_ref().map_or(&[], |places| &places.0)
    }

    /// The gateway's place on the owner shard, once that shard has said it; saves it a hash of the id per bundle. Good only
    /// while the place has the same tenancy: afterwards it may be another gateway's.
    pub fn owner_place(&self) -> Option<Tenancy> {
        let noted = self.owner_place.load(Ordering::Relaxed);
        (noted != NO_PLACE).then_some(Tenancy { place: GatewayIx(noted as u32), number: (noted >> 32) as u32 })
    }

    /// Whether its gateway keeps lists of users, once the owner shard has said it: larger parts are worth it there.
    #[inline]
    pub fn keeps_lists(&self) -> Option<bool> {
        let said = self.keeps_lists.load(Ordering::Relaxed);
        (said != NOT_SAID).then_some(said == KEEPS_LISTS)
    }

    /// The owner shard says whether the gateway keeps lists of users. Written only when it changes: the home shard reads it.
    #[inline]
    pub fn say_keeps_lists(&self, keeps: bool) {
        if self.keeps_lists() != Some(keeps) {
            self.keeps_lists.store(if keeps { KEEPS_LISTS } else { KEEPS_NONE }, Ordering::Relaxed);
        }
    }

    /// The owner shard notes the gateway's place in its own table.
    pub fn set_owner_place(&self, at: Tenancy) {
        self.owner_place.store(u64::from(at.number) << 32 | u64::from(at.place.0), Ordering::Relaxed);
    }
}

/// Asks for the memory of a group, and of its count of owners, which is written: it stands before it.
pub fn prefetch_group(group: &Arc<Group>) {
    let start = Arc::as_ptr(group);
    prefetch_to_write(start.cast::<usize>().wrapping_sub(2));
    prefetch_all(&**group);
}

/// No recipient of the group is left out.
pub const SKIP_NONE: u32 = u32::MAX;

/// One event's recipients in one group.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Whose event it is.
    pub home: ShardId,
    /// The event there.
    pub event: EventIx,
    /// The session there; with `home` it tells sessions apart where their order matters.
    pub session: SessionIx,
    /// The event's msg_id, to check answers against.
    pub msg_id: i64,
    /// The PushMessage's bytes.
    pub message: Bytes,
    /// The recipients.
    pub group: Arc<Group>,
    /// The place in the group of the one who is left out (the sender), or [`SKIP_NONE`].
    pub skip: u32,
    /// How often these recipients were bundled for this event before: 0 or 1.
    pub attempt: u8,
    /// How many fences its home shard had raised before it, modulo 256: between two bundles of equal count and time none was.
    pub fences_before: u8,
    /// The class of its event.
    pub class: Priority,
    /// How old its event was then, of a fleeting one; no more than fits.
    pub age_millis: u16,
    /// It is urgent, and its gateway had all that it may hold.
    pub is_reserved: bool,
    /// It goes as a notice to gateways that understand those: how far the session's highest sequence is above the message's, and one.
    /// 0: always in full. In a result: 0 when it was pushed in full.
    pub notice: u32,
    /// When it was made.
    pub made_at: Nanos,
}

impl Bundle {
    /// Which session it is of.
    #[inline]
    pub fn session_key(&self) -> SessionKey {
        (self.home, self.session)
    }

    /// How many recipients it has.
    #[inline]
    pub fn recipients(&self) -> usize {
        self.group.users.len() - usize::from(self.skip != SKIP_NONE)
    }

    /// The same, for its result.
    #[inline]
    pub fn as_it_was_sent(self, is_notice: bool) -> Self {
        Self { notice: if is_notice { self.notice } else { 0 }, ..self }
    }

    /// How its recipients end for whom the gateway answered without an error.
    #[inline]
    pub fn end_of_answered(&self) -> RecipientOutcome {
        if self.notice > 0 { RecipientOutcome::Noticed } else { RecipientOutcome::Delivered }
    }

    /// What it takes of its home shard's bounds while it has no end.
    #[inline]
    pub fn load(&self) -> Load {
        let (events, bytes) = if self.group.has_more_parts { (0, 0) } else { (1, self.message.len()) };
        Load { events, recipients: self.recipients(), bytes }
    }
}

/// What a gateway said against one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `user not connected`.
    NotConnected,
    /// Any other text.
    Other,
}

/// How a bundle ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleEnd {
    /// The gateway answered; the places in the group it answered for with an error, ascending.
    Answered(Vec<(u32, Refusal)>),
    /// The recipients before `from` were answered (with these errors), the rest have this end without an answer.
    Unanswered {
        /// The first place in the group without an answer.
        from: u32,
        /// The errors before it.
        refused: Vec<(u32, Refusal)>,
        /// The end of the rest.
        end: RecipientOutcome,
        /// Its gateway may still read it; [`Self::OffStream`] follows.
        is_on_stream: bool,
    },
    /// What had ended without an answer was answered, or its stream is gone: from now on nobody reads it but who had it already.
    OffStream,
}

/// A bundle's end on its way home.
#[derive(Clone, Debug)]
pub struct BundleResult {
    /// The bundle.
    pub bundle: Bundle,
    /// Its end.
    pub end: BundleEnd,
    /// When it was written and answered.
    pub times: Times,
}

/// When a bundle was written and answered: in eight bytes, as results cross the mesh by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Microseconds since the bundle was made; [`NEVER`](Self::NEVER) when it was not.
    written: u32,
    answered: u32,
}

impl Times {
    /// Longer than any push may wait.
    const NEVER: u32 = u32::MAX;
    /// It was neither.
    pub const NONE: Self = Self { written: Self::NEVER, answered: Self::NEVER };

    /// Of a bundle that was made then.
    pub fn of(made_at: Nanos, written_at: Option<Nanos>, answered_at: Option<Nanos>) -> Self {
        let after = |at: Nanos| at.micros_since(made_at, Self::NEVER - 1);
        let [written, answered] = [written_at, answered_at].map(|at| at.map_or(Self::NEVER, after));
        Self { written, answered }
    }

    /// When the last of a bundle was written that was made then; nothing when none of it was.
    pub fn written_at(self, made_at: Nanos) -> Option<Nanos> {
        Self::at(self.written, made_at)
    }

    /// When its last answer came; nothing when it ended without.
    pub fn answered_at(self, made_at: Nanos) -> Option<Nanos> {
        Self::at(self.answered, made_at)
    }

    fn at(after: u32, made_at: Nanos) -> Option<Nanos> {
        (after != Self::NEVER).then(|| made_at.after_micros(after))
    }
}

impl BundleResult {
    /// Of a bundle that ended before anything of it was written.
    #[inline(always)]
    pub fn unwritten(bundle: Bundle, end: BundleEnd) -> Self {
        Self { bundle, end, times: Times::NONE }
    }

    /// Of a bundle that no outbox took.
    #[inline(always)]
    pub fn turned_away(bundle: Bundle, end: RecipientOutcome) -> Self {
        Self::unwritten(bundle, BundleEnd::Unanswered { from: 0, refused: Vec::new(), end, is_on_stream: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_the_microsecond() {
        let at = |micros: u64| Nanos(micros * 1_000);
        let times = Times::of(at(5), Some(at(7)), Some(at(600_000_000)));
        assert_eq!((times.written_at(at(5)), times.answered_at(at(5))), (Some(at(7)), Some(at(600_000_000))));
        let times = Times::of(at(5), Some(at(3)), None);
        assert_eq!(
            (times.written_at(at(5)), times.answered_at(at(5))),
            (Some(at(5)), None),
            "never before it was made"
        );
        assert_eq!(Times::of(at(5), None, None), Times::NONE);
        assert!(size_of::<BundleResult>() <= 120, "{}", size_of::<BundleResult>());
    }
}
