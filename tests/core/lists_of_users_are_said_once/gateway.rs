//! The core and one gateway of protocol `group`, which keeps lists as `proto/gateway.proto` has it, written for these tests alone.

use std::collections::BTreeMap;

use task_engine::model::limits::{GROUP_USERS_MAX, SMALL_GROUPS_WITHIN};
use task_engine::model::proto::gateway::group_push::What;
use task_engine::model::proto::gateway::{
    GroupAnswer, GroupChange, GroupFailure, GroupFrame, PushMessage, PushRequest,
};
use task_engine::ports::{Protocol, Protocols};
use testkit::table::{Table, only};

pub fn name(user: usize) -> String {
    format!("user-{user:04}")
}

pub fn not_connected(push: u32, places: Vec<u32>) -> GroupFailure {
    GroupFailure { push, places, error: "user not connected".into() }
}

/// The lists of one gateway, written for this test from `proto/gateway.proto`.
#[derive(Default)]
pub struct Lists {
    pub lists: BTreeMap<u32, (u32, Vec<String>)>,
}

impl Lists {
    pub fn change(&mut self, change: &GroupChange) {
        let GroupChange { group_id, version, replace, add, remove, forget } = change;
        if *forget {
            self.lists.remove(group_id);
        } else if *replace {
            self.lists.insert(*group_id, (*version, add.clone()));
        } else if self.lists.get(group_id).is_some_and(|(known, _)| known + 1 != *version) {
            self.lists.remove(group_id);
        } else if let Some((known, users)) = self.lists.get_mut(group_id) {
            remove.iter().rev().for_each(|place| {
                users.remove(*place as usize);
            });
            users.extend(add.iter().cloned());
            *known = *version;
        }
    }

    pub fn users(&mut self, group_id: u32, version: u32) -> Option<Vec<String>> {
        self.lists.retain(|id, (known, _)| *id != group_id || *known == version);
        self.lists.get(&group_id).map(|(_, users)| users.clone())
    }
}

/// The core and one gateway, A, that speaks `group`.
pub struct World {
    pub table: Table,
    pub lists: Lists,
    /// Who got what, in order.
    pub told: Vec<(String, i64)>,
    /// Frames so far.
    pub frames: Vec<GroupFrame>,
    /// Users whom the gateway does not have.
    pub gone: Vec<String>,
}

impl World {
    pub fn new(members: usize) -> Self {
        let mut world = Self::of(members, only(Protocol::Group));
        if members > GROUP_USERS_MAX {
            world.let_it_be_known();
        }
        world
    }

    pub fn of(members: usize, protocols: Protocols) -> Self {
        let names: Vec<_> = (0..members).map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let routes: Vec<_> = names.iter().map(|user| (*user, "A")).collect();
        let mut table = Table::new(&names, &routes);
        table.list("A", protocols);
        Self { table, lists: Lists::default(), told: Vec::new(), frames: Vec::new(), gone: Vec::new() }
    }

    /// The first push to a gateway tells that it keeps lists: of large groups are fewer, larger parts from then on.
    fn let_it_be_known(&mut self) {
        let others = self.table.members.split_off(1);
        self.event("the first one", 1);
        self.serve();
        self.table.members.extend(others);
        // Few parts are on their way at once while small groups come.
        self.table.pass(SMALL_GROUPS_WITHIN.as_millis() as u64 + 100);
        self.told.clear();
        self.frames.clear();
    }

    pub fn event(&mut self, session: &str, msg_id: i64) {
        self.table.arrive(session, msg_id);
        self.table.run();
    }

    /// Reads and answers until nothing comes.
    pub fn serve(&mut self) {
        while self.serve_once(|_, _| {}) > 0 {}
    }

    /// Reads and answers what is on the stream; before each frame's pushes something happens to the lists.
    pub fn serve_once(&mut self, mut happens: impl FnMut(&mut Lists, &GroupFrame)) -> usize {
        let frames: Vec<GroupFrame> = self.table.take_frames("A");
        for frame in &frames {
            frame.changes.iter().for_each(|change| self.lists.change(change));
            happens(&mut self.lists, frame);
            let answer = self.answer_to(frame);
            self.table.answer("A", &answer);
        }
        self.frames.extend(frames.iter().cloned());
        frames.len()
    }

    pub fn answer_to(&mut self, frame: &GroupFrame) -> GroupAnswer {
        let mut answer = GroupAnswer { frame_id: frame.frame_id, ..Default::default() };
        for (number, push) in (0..).zip(&frame.pushes) {
            let Some(What::Message(message)) = &push.what else { panic!("a push has a message") };
            assert!(push.except.is_sorted(), "{:?}", push.except);
            match self.lists.users(push.group_id, push.version) {
                Some(users) => {
                    let meant = (0..).zip(users).filter(|(place, _)| !push.except.contains(place)).collect();
                    answer.failures.extend(self.tell(number, meant, message));
                }
                None if answer.unknown_groups.contains(&push.group_id) => {}
                None => answer.unknown_groups.push(push.group_id),
            }
        }
        for (number, single) in (frame.pushes.len() as u32..).zip(&frame.singles) {
            let PushRequest { to_usernames, message: Some(message) } = single else { panic!("a push has a message") };
            answer.failures.extend(self.tell(number, (0..).zip(to_usernames.clone()).collect(), message));
        }
        answer
    }

    pub fn tell(&mut self, push: u32, meant: Vec<(u32, String)>, message: &PushMessage) -> Option<GroupFailure> {
        let (gone, here): (Vec<_>, Vec<_>) = meant.into_iter().partition(|(_, user)| self.gone.contains(user));
        self.told.extend(here.into_iter().map(|(_, user)| (user, message.msg_id)));
        let places: Vec<_> = gone.into_iter().map(|(place, _)| place).collect();
        (!places.is_empty()).then(|| not_connected(push, places))
    }

    /// Each of the first users got these, each once and in order, and nothing is left.
    pub fn expect(&self, users: usize, msg_ids: &[i64]) {
        for user in (0..users).map(name) {
            let got: Vec<_> = self.told.iter().filter(|(told, _)| *told == user).map(|(_, msg_id)| *msg_id).collect();
            assert_eq!(got, msg_ids, "{user}");
        }
        assert_eq!(self.table.push.events_in_flight(), 0);
        self.table.check();
    }

    /// Lists said, changed and forgotten, and pushes to lists that were not known.
    pub fn counts(&self) -> [u64; 4] {
        let counts = self.table.push.activity();
        [counts.groups_said, counts.group_changes, counts.groups_forgotten, counts.groups_unknown]
    }
}
