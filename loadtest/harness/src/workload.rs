//! What a run asks of an engine: who is in which session, where they are connected, and what is published how fast.
//!
//! Promises that what was checked can be run: every mistake is refused in words before anything starts.

mod check;
mod classes;
mod named;

use serde::{Deserialize, Serialize};
use task_engine::model::priority::Priority;

/// The shortest content of a message, which says which message it is.
pub const CONTENT_BYTES_MIN: usize = 48;

/// A workload; the named ones are the files of `loadtest/workloads/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name: the file's.
    #[serde(default)]
    pub name: String,
    /// One line on what it stands for.
    pub about: String,
    /// Users `user-0`, `user-1`, ...; sessions draw their members from them.
    pub users: u32,
    /// Gateways `gateway-0`, ...; users are spread over them evenly.
    pub gateways: u32,
    /// Kinds of sessions.
    pub sessions: Vec<SessionGroup>,
    /// Of 100 users, how many have no route.
    #[serde(default)]
    pub offline_percent: u32,
    /// Gateways that a user is connected to, in the mean: each has so many, rounded up or down. One of them moves.
    #[serde(default = "one_device")]
    pub devices: f64,
    /// Users that move to another gateway each second.
    #[serde(default)]
    pub moves_per_second: u32,
    /// Guests, connected nowhere, that join the largest session each second; each leaves five seconds later.
    #[serde(default)]
    pub guests_per_second: u32,
    /// Each session is visited once, in order, and none before: members and routes have to be looked up for every event.
    /// It has no warm-up, takes no account of shares, and ends when all were visited, or when `seconds` are over.
    #[serde(default)]
    pub cold: bool,
    /// Bytes of each message's content (at least 48: number, instant and checksum are in it).
    pub content_bytes: usize,
    /// How events are published.
    pub load: Load,
    /// Seconds of load before anything is measured.
    pub warm_up_seconds: u32,
    /// Seconds that are measured.
    pub seconds: u32,
    /// Gateways that misbehave; all others answer at once.
    #[serde(default)]
    pub misbehaving: Vec<Misbehaving>,
}

/// Sessions of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionGroup {
    /// How many.
    pub count: u32,
    /// Members of each, the sender included: one fewer is an event's fan-out.
    pub members: u32,
    /// This group's share of the events, relative to the other groups' shares.
    #[serde(default = "one")]
    pub share: u32,
    /// The classes that the messages of each session say in a header, one message after the other and then from the first class
    /// again; none: they say nothing.
    #[serde(default, with = "classes", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<Priority>,
}

/// How events are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Open loop: so many events per second whatever the engine does; latency counts from the intended instant.
    EventsPerSecond(u32),
    /// Closed loop: the next event goes out as soon as fewer pushes than this are under way.
    PushesInFlight(u64),
}

/// A gateway that misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misbehaving {
    /// Its number.
    pub gateway: u32,
    /// How.
    pub how: How,
    /// `slow`: milliseconds before each answer; `flapping`: the mean milliseconds from cut to cut.
    #[serde(default)]
    pub ms: u32,
}

/// How a gateway misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Answers late.
    Slow,
    /// Reads and never answers; its users' pushes are not judged.
    Deaf,
    /// Cuts its streams at random; repeats are then allowed.
    Flapping,
    /// Refuses everybody: `user not connected`; its users' pushes are not judged.
    Refusing,
}

impl Workload {
    /// How many sessions there are, over all groups.
    pub fn sessions_count(&self) -> u64 {
        self.sessions.iter().map(|group| u64::from(group.count)).sum()
    }

    /// Whether its messages say their class.
    pub fn has_classes(&self) -> bool {
        self.sessions.iter().any(|group| !group.classes.is_empty())
    }

    /// How this gateway misbehaves, when it does.
    pub fn misbehaviour_of(&self, gateway: u32) -> Option<Misbehaving> {
        self.misbehaving.iter().find(|misbehaving| misbehaving.gateway == gateway).copied()
    }
}

impl SessionGroup {
    /// The class that a message says, by its number in its session.
    pub fn class_of(&self, message: u32) -> Option<Priority> {
        self.classes.get(message as usize % self.classes.len().max(1)).copied()
    }

    /// Whether all of its messages say that they are urgent.
    pub fn is_all_urgent(&self) -> bool {
        !self.classes.is_empty() && self.classes.iter().all(|class| *class == Priority::Urgent)
    }

    /// Whether an engine may drop some of its messages.
    pub fn has_fleeting(&self) -> bool {
        self.classes.contains(&Priority::Fleeting)
    }
}

impl How {
    /// Each by its word, as a workload file has it.
    pub const WORDS: [(&str, Self); 4] =
        [("slow", Self::Slow), ("deaf", Self::Deaf), ("flapping", Self::Flapping), ("refusing", Self::Refusing)];

    /// Whether pushes to the users of such a gateway are neither expected nor judged: none of them can arrive for sure.
    pub const fn is_excused(self) -> bool {
        matches!(self, Self::Deaf | Self::Refusing)
    }
}

fn one() -> u32 {
    1
}

fn one_device() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_file() {
        for (word, how) in How::WORDS {
            assert_eq!(serde_json::to_value(how).expect("JSON"), word);
        }
    }
}
