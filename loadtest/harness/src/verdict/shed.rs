//! What an engine drops on purpose: recipients of fleeting messages, which are then neither lost nor delivered.
//!
//! Promises that what never came of fleeting messages is what the engine says that it dropped. Refuses to excuse any other message.

use task_engine::model::priority::Priority;

use super::{Book, Verdict, lock};

/// What an engine counted of fleeting events since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShedByEngine {
    /// Recipients that it dropped.
    pub recipients: u64,
    /// Events that it dropped as they came, before it looked for their recipients.
    pub whole_events: u64,
    /// Recipients that it did not push to for another reason: they are offline, or their gateway did not answer.
    pub unreached: u64,
}

impl Verdict {
    /// The engine's own counts, once nothing is under way; without them nothing may be shed.
    pub fn shed_by_engine(&self, counted: ShedByEngine) {
        *lock(&self.shed_by_engine) = counted;
    }

    /// Whether a message may be dropped.
    pub(super) fn is_fleeting(&self, session: usize, message: u32) -> bool {
        self.world.class_of(session, message) == Some(Priority::Fleeting)
    }

    /// How many pushes of a session's fleeting messages were owed and never came.
    pub(super) fn fleeting_pushes_missing(&self, session: usize, book: &Book) -> u64 {
        self.fleeting_missing(session, book, &|user| self.is_owed(user), &|missing, _| missing.into())
    }

    /// How many such recipients of fleeting messages never got them, at none of their gateways.
    pub(super) fn fleeting_recipients_missing(&self, whom: impl Fn(u32) -> bool) -> u64 {
        let missing = |session: usize| {
            let book = lock(&self.books[session]);
            self.fleeting_missing(session, &book, &whom, &|missing, devices| u64::from(missing == devices))
        };
        (0..self.books.len()).map(missing).sum()
    }

    /// The sum over a session's fleeting messages and such recipients of what `count` makes of the pushes that never came to one and
    /// of those that were to come.
    fn fleeting_missing(
        &self,
        session: usize,
        book: &Book,
        whom: &impl Fn(u32) -> bool,
        count: &impl Fn(u32, u32) -> u64,
    ) -> u64 {
        let world = &self.world;
        if !world.workload().sessions[world.group_of(session)].has_fleeting() {
            return 0;
        }
        let members = (1..world.members_count(session)).map(|member| (member, world.member(session, member)));
        let recipients: Vec<(u32, u32)> =
            members.filter(|(_, user)| whom(*user)).map(|(member, user)| (member, world.devices(user))).collect();
        let has = |message, member, device| book.has(message, self.slot(member, device), self.slots(session));
        let missing = |message, (member, devices): &(u32, u32)| {
            let missing = (0..*devices).filter(|device| !has(message, *member, *device)).count();
            count(missing as u32, *devices)
        };
        let fleeting = |message: &u32| !book.is_struck_out(*message) && self.is_fleeting(session, *message);
        let of_message = |message| recipients.iter().map(|recipient| missing(message, recipient)).sum::<u64>();
        (0..book.sent()).filter(fleeting).map(of_message).sum()
    }

    /// How what never came differs from what the engine says that it dropped, in words.
    pub(super) fn shed_fault(&self) -> Option<String> {
        let ShedByEngine { recipients, whole_events, unreached } = *lock(&self.shed_by_engine);
        let missing = self.fleeting_recipients_missing(|_| true);
        let groups = self.world.workload().sessions.iter().filter(|group| group.has_fleeting());
        let fan_outs = || groups.clone().map(|group| u64::from(group.members) - 1);
        let least = recipients + whole_events * fan_outs().min().unwrap_or(0);
        let most = recipients + whole_events * fan_outs().max().unwrap_or(0) + unreached;
        (!(least..=most).contains(&missing)).then(|| {
            format!(
                "shed: {missing} recipients of fleeting messages never got them, but the engine counts {recipients} recipients and \
                 {whole_events} whole events that it shed, and {unreached} recipients that it did not reach"
            )
        })
    }
}
