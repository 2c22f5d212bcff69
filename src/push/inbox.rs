//! What is asked of the inbox: which recipients get a row, what an event owes, and the asks ([`pieces`]).
//!
//! Refuses to know events: [`ledger`](super::ledger) has them.

mod content;
mod pieces;

use std::sync::Arc;

use crate::model::ids::UserIx;
use crate::model::outcome::RecipientOutcome;

pub use self::content::ContentAsks;
pub use self::pieces::InboxAsks;
pub(super) use self::pieces::{Asked, Piece, Verdict, retry_pause};
pub use crate::config::InboxStore;

/// What an event owes the inbox, or the dead letters in its place.
#[derive(Debug, Default)]
pub struct PendingRows {
    /// Who could not be reached, and why; without an end until they are in the inbox or the dead letters.
    pub unreached: Vec<(UserIx, RecipientOutcome)>,
    /// `inbox.store` is `all`: everyone who gets a row, but for the sender.
    pub everyone: Option<(Arc<[UserIx]>, Option<UserIx>)>,
    /// Whether its content is being looked for before its rows are asked for.
    pub is_sought: bool,
    /// Sets of its rows that are not stored yet and have no other end.
    pub pieces: u32,
    /// Dead letters about single recipients that are not kept yet.
    pub letters: u32,
}

impl PendingRows {
    /// Who gets a row.
    pub(super) fn users(&self) -> impl Iterator<Item = UserIx> {
        let (everyone, sender) = match &self.everyone {
            Some((everyone, sender)) => (&everyone[..], *sender),
            None => (&[][..], None),
        };
        let unreached = if self.everyone.is_none() { &self.unreached[..] } else { &[] };
        let of_unreached = unreached.iter().map(|(user, _)| *user);
        everyone.iter().copied().filter(move |user| Some(*user) != sender).chain(of_unreached)
    }

    /// Names who gets a row, once some are to be asked for without the others.
    pub(super) fn name_users(&mut self) -> Box<[UserIx]> {
        self.unreached.sort_unstable_by_key(|(user, _)| *user);
        self.users().collect()
    }

    /// Why these users (all, when none are named) could not be reached; those who were are left out.
    pub(super) fn unreached_of(&mut self, users: Option<&[UserIx]>) -> Vec<(UserIx, RecipientOutcome)> {
        let Some(users) = users else { return std::mem::take(&mut self.unreached) };
        let why = |user: &UserIx| {
            let place = self.unreached.binary_search_by_key(user, |(user, _)| *user).ok()?;
            Some(self.unreached[place])
        };
        users.iter().filter_map(why).collect()
    }
}
