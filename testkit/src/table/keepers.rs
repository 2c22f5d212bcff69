//! What the test has the inbox, the contents and the dead letters answer.

use task_engine::model::names::{NameList, Route, RouteList};
use task_engine::ports::{DeadLetter, InboxRows, LookupError, MessageKey};
use task_engine::push::facts::Input;

use super::Table;

impl Table {
    /// What the route store says.
    pub(super) fn routes_of(&self, users: &NameList) -> RouteList {
        let mut list = RouteList::new();
        for user in users.iter() {
            match self.routes.get(user) {
                None => list.push(Route::Offline),
                Some(gateways) => list.push_gateways(gateways.split('+')),
            }
        }
        list
    }

    /// The inbox answers its oldest open ask; what the rows were.
    pub fn store(&mut self, answer: Result<&[&str], LookupError>) -> InboxRows {
        let (ask, rows) = self.stores.pop_front().expect("rows to store");
        let answer = answer.map(|conflicts| conflicts.iter().collect::<NameList>());
        self.push.take(Input::Stored { ask, answer });
        self.run();
        rows
    }

    /// The oldest open look-up of a content is answered; which message it was.
    pub fn find(&mut self, answer: Result<bool, LookupError>) -> MessageKey {
        let (ask, message) = self.contents.pop_front().expect("a content to find");
        self.push.take(Input::ContentFound { ask, answer });
        self.run();
        message
    }

    /// The inbox answers its probe.
    pub fn probe(&mut self, answer: Result<(), LookupError>) {
        let ask = self.probes.pop_front().expect("a probe");
        self.push.take(Input::Stored { ask, answer: answer.map(|()| NameList::new()) });
        self.run();
    }

    /// The dead letters answer their oldest open ask; what the letter was.
    pub fn publish_letter(&mut self, answer: Result<(), LookupError>) -> DeadLetter {
        let (ask, _, letter) = self.letters.pop_front().expect("a letter to publish");
        self.push.take(Input::LetterPublished { ask, answer });
        self.run();
        letter
    }
}
