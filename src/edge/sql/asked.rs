//! A database asked by a command: at what that failed, in words.

use super::fault::{Answer, Cause, Fault, Place};
use crate::ports::LookupError;

/// Why it failed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// At what.
    pub cause: Cause,
    /// In words, with the place and what to check.
    pub words: String,
}

/// What to check when a table is not as expected.
const SCHEMA: &str = "check the table, its columns and the user's rights to it";

impl Refusal {
    /// Of this fault, at this place.
    pub fn of(fault: Fault, place: &Place) -> Self {
        let cause = match &fault {
            Fault::Unresolved(_) => Cause::Name,
            Fault::NotConnected(_) | Fault::NotOpened(_) => Cause::Tcp,
            Fault::Insecure(_) => Cause::Tls,
            Fault::Silent(_) | Fault::Broken(_) => Cause::Login,
            Fault::Server(Answer { cause, .. }) => *cause,
            Fault::NotReached(_) | Fault::GoesOn(_) | Fault::TooSlow => Cause::Other,
        };
        let (LookupError::NotReached(words) | LookupError::Unavailable(words) | LookupError::Rejected(words)) =
            fault.explain(place, SCHEMA);
        Self { cause, words }
    }
}
