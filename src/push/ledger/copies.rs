//! The recipients of an event who are at several gateways: each gateway gets the push, and the recipient has one end.
//!
//! Promises that such a recipient ends as delivered with the first gateway that takes the message, and as not reached only when the
//! last of them did not; and that what is under way for it is counted until each gateway has its end.

use std::borrow::Cow;

use crate::model::ids::UserIx;
use crate::push::bundle::{EventIx, Group, Refusal};
use crate::push::layout::Several;
use crate::push::ledger::Ledger;
use crate::push::users::SetIx;

/// One recipient of one event.
#[derive(Clone, Copy, Debug)]
struct Copy {
    user: UserIx,
    /// The gateways that it was sent to first.
    set: SetIx,
    /// How many have no end.
    open: u8,
    /// How many did not take it.
    missed: u8,
    is_taken: bool,
    /// It was offered to further gateways once.
    is_rerouted: bool,
}

/// Those of one event; ascending.
#[derive(Debug, Default)]
pub struct Copies(Vec<Copy>);

impl Copy {
    fn new(user: UserIx, set: SetIx, gateways: u8) -> Self {
        Self { user, set, open: gateways, missed: 0, is_taken: false, is_rerouted: false }
    }

    /// Pushes that are under way and counted as no recipient.
    fn extra(&self) -> usize {
        usize::from(self.open).saturating_sub(usize::from(!self.is_taken))
    }
}

impl Copies {
    fn get_mut(&mut self, user: UserIx) -> Option<&mut Copy> {
        let at = self.0.binary_search_by_key(&user, |copy| copy.user).ok()?;
        Some(&mut self.0[at])
    }

    fn get(&self, user: UserIx) -> Option<&Copy> {
        let at = self.0.binary_search_by_key(&user, |copy| copy.user).ok()?;
        Some(&self.0[at])
    }

    /// See [`Copy::extra`].
    pub(super) fn extra(&self) -> usize {
        self.0.iter().map(Copy::extra).sum()
    }

    /// The sets that it refers to.
    fn sets(&self) -> impl Iterator<Item = SetIx> {
        self.0.iter().map(|copy| copy.set)
    }
}

impl Ledger {
    /// Pushes of bundled events under way: recipients without an end, and what else is under way to those at several gateways.
    #[inline]
    pub fn pushes_in_flight(&self) -> usize {
        self.open_recipients + self.extra_pushes
    }

    /// How many pushes there were to further gateways, and how many gateways did not take what another one took.
    pub(in crate::push) fn copies_told(&self) -> (u64, u64) {
        (self.copies_sent, self.copies_missed)
    }

    /// The sets of gateways that events in flight refer to.
    pub(in crate::push) fn sets_in_use(&self) -> impl Iterator<Item = SetIx> {
        self.events().filter_map(|event| event.copies.as_ref()).flat_map(|copies| copies.sets())
    }

    /// An event goes to each gateway of these; `skipped` is left out.
    #[inline]
    pub(in crate::push) fn enter_copies(&mut self, event: EventIx, several: &[Several], skipped: Option<UserIx>) {
        if several.is_empty() {
            return;
        }
        let of_others = several.iter().filter(|several| Some(several.user) != skipped);
        let copies = of_others.map(|several| Copy::new(several.user, several.set, several.gateways)).collect();
        let copies = Copies(copies);
        self.extra_pushes += copies.extra();
        self.copies_sent += copies.extra() as u64;
        self[event].copies = Some(Box::new(copies));
    }

    /// An event that waited for one user goes to so many gateways of the user's `set` now; `is_again` when it was tried before.
    pub(in crate::push) fn open_copies(
        &mut self,
        event: EventIx,
        user: UserIx,
        set: Option<SetIx>,
        gateways: u8,
        is_again: bool,
    ) {
        let known = self[event].copies.as_mut().and_then(|copies| copies.get_mut(user));
        let (before, after) = match (known, set) {
            (Some(copy), _) => {
                let before = copy.extra();
                // What waited counts as one.
                (copy.open, copy.is_rerouted) = (copy.open - 1 + gateways, true);
                (before, copy.extra())
            }
            (None, Some(set)) if gateways > 1 => {
                let copy = Copy { is_rerouted: is_again, ..Copy::new(user, set, gateways) };
                let copies = self[event].copies.get_or_insert_default();
                let at = copies.0.partition_point(|other| other.user < user);
                copies.0.insert(at, copy);
                (0, copy.extra())
            }
            _ => return,
        };
        self.extra_pushes = self.extra_pushes + after - before;
        self.copies_sent += u64::from(gateways - 1);
    }

    /// Whether the user's end of this event is that of several pushes.
    pub(in crate::push) fn has_copies(&self, event: EventIx, user: UserIx) -> bool {
        self[event].copies.as_ref().is_some_and(|copies| copies.get(user).is_some())
    }

    /// The set of gateways that it was sent to first, and whether it was offered to others since.
    pub(in crate::push) fn copies_of(&self, event: EventIx, user: UserIx) -> Option<(SetIx, bool)> {
        self[event].copies.as_ref()?.get(user).map(|copy| (copy.set, copy.is_rerouted))
    }

    /// How many recipients of what was sent (an event to a group, but to the one who is skipped) have their end by it as delivered: of those that the gateway answered for (before `from`),
    /// `delivered` without an error.
    #[inline]
    pub(in crate::push) fn newly_delivered(
        &mut self,
        sent: (EventIx, &Group, u32),
        refused: &[(u32, Refusal)],
        from: u32,
        delivered: u32,
    ) -> u32 {
        match sent.1.several().is_empty() {
            true => delivered,
            false => delivered - self.take_copies(sent, refused, from),
        }
    }

    /// Gateways took what others had taken before: for how many recipients.
    #[inline(never)]
    fn take_copies(
        &mut self,
        (event, group, skip): (EventIx, &Group, u32),
        refused: &[(u32, Refusal)],
        from: u32,
    ) -> u32 {
        let is_taken = |place: &u32| {
            let is_refused = refused.binary_search_by_key(place, |(place, _)| *place).is_ok();
            *place < from && *place != skip && !is_refused
        };
        let taken = group.several().iter().copied().filter(is_taken);
        taken.map(|place| u32::from(!self.copy_taken(event, group.users[place as usize]))).sum()
    }

    /// A gateway took it; whether it is the first one.
    fn copy_taken(&mut self, event: EventIx, user: UserIx) -> bool {
        let Some(copy) = self[event].copies.as_mut().and_then(|copies| copies.get_mut(user)) else { return true };
        let before = copy.extra();
        copy.open -= 1;
        let is_first = !std::mem::replace(&mut copy.is_taken, true);
        let missed = if is_first { std::mem::take(&mut copy.missed) } else { 0 };
        let after = copy.extra();
        self.extra_pushes = self.extra_pushes + after - before;
        self.copies_missed += u64::from(missed);
        is_first
    }

    /// A gateway did not take it; whether that is the recipient's end.
    fn copy_missed(&mut self, event: EventIx, user: UserIx) -> bool {
        let Some(copy) = self[event].copies.as_mut().and_then(|copies| copies.get_mut(user)) else { return true };
        let before = copy.extra();
        copy.open -= 1;
        let (is_taken, is_last) = (copy.is_taken, copy.open == 0);
        copy.missed += u8::from(!is_taken);
        let after = copy.extra();
        self.extra_pushes = self.extra_pushes + after - before;
        self.copies_missed += u64::from(is_taken);
        is_last && !is_taken
    }

    /// A gateway did not take an event for some of its recipients: those who have their end by that. One at several gateways has it
    /// with the last of them, and only when none took the message.
    #[inline]
    pub(super) fn ended_by<'a>(&mut self, event: EventIx, users: &'a [UserIx]) -> Cow<'a, [UserIx]> {
        match self[event].copies {
            None => Cow::Borrowed(users),
            Some(_) => self.ended_copies(event, users).into(),
        }
    }

    #[inline(never)]
    fn ended_copies(&mut self, event: EventIx, users: &[UserIx]) -> Vec<UserIx> {
        users.iter().copied().filter(|user| self.copy_missed(event, *user)).collect()
    }
}
