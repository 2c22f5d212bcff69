//! What a verdict says at the end.

use serde::{Deserialize, Serialize};

/// What a [`Verdict`](super::Verdict) found, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCounts {
    /// Pushes that were to come.
    pub expected: u64,
    /// Pushes that came, each once.
    pub delivered: u64,
    /// Recipients who were told of a message by its own notice.
    #[serde(default)]
    pub noticed: u64,
    /// Recipients who were told of a message by the notice of a newer one.
    #[serde(default)]
    pub conflated: u64,
    /// The most notices of one session that one stream had without an answer.
    #[serde(default)]
    pub notices_at_once: u64,
    /// With notices: milliseconds after the last message of a session was to be sent until the last of those who were told of it was.
    #[serde(default)]
    pub last_known_ms: u64,
    /// Those that never came and have no row in the inbox; of an engine that has one, whoever cannot be reached counts too.
    pub lost: u64,
    /// Those that came again.
    pub repeated: u64,
    /// Those that came after a later one of the same session to the same user.
    pub out_of_order: u64,
    /// Those to a user they were not for, or at a gateway that the user is not connected to.
    pub misdelivered: u64,
    /// Those whose message is not what was published.
    pub corrupt: u64,
    /// Pushes that gateways refused because the user had moved away; they are no fault, the next try counts.
    pub refused: u64,
    /// Pushes at gateways that misbehave on purpose, which are not expected and not judged.
    pub excused: u64,
    /// Rows in the inbox: of whoever could not be reached, or not in time.
    #[serde(default)]
    pub stored: u64,
    /// Recipients that could not be reached and need no row, as the content of the message is kept (`inbox.rows_up_to`).
    #[serde(default)]
    pub readable: u64,
    /// Recipients that fleeting messages were to come to and never did: the engine dropped them, and counted that.
    #[serde(default)]
    pub shed: u64,
    /// Events that the broker did not take, which are not expected.
    #[serde(default)]
    pub not_taken_events: u64,
    /// Whether the workload cuts streams, so that repeats are allowed (and only they).
    pub may_repeat: bool,
    /// Whether all is as it must be.
    pub is_clean: bool,
    /// The first ten cases, in words.
    pub cases: Vec<String>,
}
