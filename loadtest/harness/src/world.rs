//! The world that a workload describes: who is in which session, where each user is connected, which session is next.
//!
//! Promises the same world and the same order of sessions for the same workload on every machine, users spread evenly over
//! gateways and sessions, and shares followed exactly. Refuses nothing: a workload is checked before it becomes a world.

mod gateways;
mod places;
mod stores;

use std::sync::Arc;

use task_engine::model::priority::Priority;

pub use self::places::Place;
use self::places::Places;
pub(crate) use self::stores::put_route;
pub use self::stores::{MemoryStores, register, registration, registration_at, registration_over_tls};
use crate::rng::Rng;
use crate::workload::Workload;

/// Whatever is random in a world comes from this.
const SEED: u64 = 7;
/// Full turn times the golden ratio: steps of it through a circle leave no part out for long.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// A world.
#[derive(Debug)]
pub struct World {
    workload: Workload,
    sessions: Vec<Shape>,
    places: Places,
    /// For each user and one more: how many connections of the users before it are judged.
    judged_before: Vec<u32>,
    schedule: Schedule,
}

/// A session's members are `members` users from `first` on, around the circle of users.
#[derive(Clone, Copy, Debug)]
struct Shape {
    first: u32,
    members: u32,
}

/// Which group of sessions an event is for.
#[derive(Debug)]
struct Schedule {
    /// For each group: the first place of the circle that is no longer its own, its first session, and its count.
    groups: Vec<(u64, usize, u32)>,
    /// Events until shares have been followed exactly.
    round: u64,
    /// From one event's place on the circle to the next; visits each place once a round.
    step: u64,
}

impl World {
    /// The world of a workload, nobody having moved yet.
    pub fn new(workload: &Workload) -> Arc<Self> {
        let places = Places::new(workload);
        let mut judged_before = Vec::with_capacity(workload.users as usize + 1);
        let mut judged = 0;
        for user in 0..workload.users {
            judged_before.push(judged);
            judged += if places.is_judged(user) { places.devices(user) } else { 0 };
        }
        judged_before.push(judged);
        let schedule = Schedule::new(workload);
        Arc::new(Self { workload: workload.clone(), sessions: shapes(workload), places, judged_before, schedule })
    }

    /// What it was made of.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The name of a session.
    pub fn session_name(session: usize) -> String {
        format!("session-{session}")
    }

    /// The name of a user.
    pub fn user_name(user: u32) -> String {
        format!("user-{user}")
    }

    /// The name of a gateway.
    pub fn gateway_name(gateway: u32) -> String {
        format!("gateway-{gateway}")
    }

    /// The session of this name; none when there is none.
    pub fn session_of(&self, name: &str) -> Option<usize> {
        number_of(name, "session-").map(|session| session as usize).filter(|session| *session < self.sessions.len())
    }

    /// The user of this name; none when there is none.
    pub fn user_of(&self, name: &str) -> Option<u32> {
        number_of(name, "user-").filter(|user| *user < self.workload.users)
    }

    /// The gateway of this name; none when there is none.
    pub fn gateway_of(&self, name: &str) -> Option<u32> {
        number_of(name, "gateway-").filter(|gateway| *gateway < self.workload.gateways)
    }

    /// Which group of the workload's sessions a session is of.
    pub fn group_of(&self, session: usize) -> usize {
        self.schedule.groups.partition_point(|(_, first, _)| *first <= session).saturating_sub(1)
    }

    /// Whether each message of a session says that it is urgent.
    pub fn is_all_urgent(&self, session: usize) -> bool {
        self.workload.sessions[self.group_of(session)].is_all_urgent()
    }

    /// The class that a message of a session says, by its number there.
    pub fn class_of(&self, session: usize, message: u32) -> Option<Priority> {
        self.workload.sessions[self.group_of(session)].class_of(message)
    }

    /// The users of a session; the first is the sender.
    pub fn members(&self, session: usize) -> impl Iterator<Item = u32> + use<> {
        let (shape, users) = (self.sessions[session], u64::from(self.workload.users));
        (0..shape.members).map(move |member| ((u64::from(shape.first) + u64::from(member)) % users) as u32)
    }

    /// How many members a session has, the sender included.
    pub fn members_count(&self, session: usize) -> u32 {
        self.sessions[session].members
    }

    /// Who sends a session's messages.
    pub fn sender(&self, session: usize) -> u32 {
        self.sessions[session].first
    }

    /// A user's number in a session, 0 for the sender; none when it is no member.
    pub fn member_number(&self, session: usize, user: u32) -> Option<u32> {
        let shape = self.sessions[session];
        let number = if user >= shape.first { user - shape.first } else { user + (self.workload.users - shape.first) };
        (number < shape.members).then_some(number)
    }

    /// The user of a number in a session.
    pub fn member(&self, session: usize, number: u32) -> u32 {
        ((u64::from(self.sessions[session].first) + u64::from(number)) % u64::from(self.workload.users)) as u32
    }

    /// Where a user is connected now.
    pub fn place(&self, user: u32) -> Place {
        self.places.get(user)
    }

    /// Where users are connected.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the user of this name has no route.
    pub fn is_offline(&self, name: &str) -> bool {
        self.user_of(name).is_some_and(|user| self.place(user).is_offline)
    }

    /// How many recipients of a session's events have no route.
    pub fn offline_members(&self, session: usize) -> u32 {
        let recipients = self.members(session).skip(1);
        recipients.filter(|user| self.place(*user).is_offline).count() as u32
    }

    /// Whether this user's pushes are expected: it is connected, and to a gateway that can take them. Moves do not change it.
    pub fn is_judged(&self, user: u32) -> bool {
        let user = user as usize;
        self.judged_before[user + 1] > self.judged_before[user]
    }

    /// How many pushes of each of a session's events are expected.
    pub fn expected(&self, session: usize) -> u32 {
        let Shape { first, members } = self.sessions[session];
        let (users, from) = (self.workload.users as usize, first as usize);
        let end = from + members as usize;
        let all = self.judged_before[users];
        let until_end = if end <= users { self.judged_before[end] } else { all + self.judged_before[end - users] };
        let of_sender = self.judged_before[from + 1] - self.judged_before[from];
        until_end - self.judged_before[from] - of_sender
    }

    /// How many gateways a user is connected to; 1 when it is offline.
    pub fn devices(&self, user: u32) -> u32 {
        self.places.devices(user)
    }

    /// The most that a user has.
    pub fn devices_max(&self) -> u32 {
        self.workload.devices.ceil() as u32
    }

    /// The gateways of a user now, the newest first.
    pub fn gateways_of(&self, user: u32, newest: u32) -> impl Iterator<Item = u32> + use<> {
        std::iter::once(newest).chain(self.places.others(user))
    }

    /// The session of an event: the same for the same number, and following the groups' shares; in a cold world one after
    /// the other.
    pub fn next_session(&self, event_number: u64) -> usize {
        if self.workload.cold {
            event_number as usize % self.sessions.len()
        } else {
            self.schedule.session(event_number)
        }
    }

    /// How many events there can be: in a cold world each session has one.
    pub fn events_max(&self) -> u64 {
        if self.workload.cold { self.sessions.len() as u64 } else { u64::MAX }
    }
}

/// The number that a name ends with, without an allocation: this is asked of each push.
fn number_of(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    // Only as it was written: another spelling of the same number is another name.
    if digits.starts_with('+') || digits.len() > 1 && digits.starts_with('0') { None } else { digits.parse().ok() }
}

/// Each session's members begin where the last one's end, so that all users are in as many sessions, one more or less.
fn shapes(workload: &Workload) -> Vec<Shape> {
    let users = u64::from(workload.users);
    let mut shapes = Vec::with_capacity(workload.sessions_count() as usize);
    let mut first = 0;
    for group in &workload.sessions {
        for _ in 0..group.count {
            shapes.push(Shape { first: first as u32, members: group.members });
            first = (first + u64::from(group.members)) % users;
        }
    }
    shapes
}

impl Schedule {
    fn new(workload: &Workload) -> Self {
        let (mut round, mut first) = (0, 0);
        let mut groups = Vec::new();
        for group in &workload.sessions {
            round += u64::from(group.share);
            groups.push((round, first, group.count));
            first += group.count as usize;
        }
        Self { groups, round, step: coprime_step(round) }
    }

    fn session(&self, event_number: u64) -> usize {
        let at = (u128::from(event_number % self.round) * u128::from(self.step) % u128::from(self.round)) as u64;
        let group = self.groups.partition_point(|(end, ..)| *end <= at);
        let (_, first, count) = self.groups[group];
        // A source of its own for each event: any event's session can be told without those before it.
        let mut rng = Rng::new(SEED ^ event_number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next();
        first + rng.below(u64::from(count)) as usize
    }
}

/// A step that visits each place of a circle once before any again, and leaves no part of it out for long.
pub(crate) fn coprime_step(places: u64) -> u64 {
    let mut step = ((places as f64 * GOLDEN) as u64).max(1);
    while common_divisor(step, places) != 1 {
        step += 1;
    }
    step
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    use crate::workload::{How, Misbehaving, SessionGroup};

    fn group(count: u32, members: u32, share: u32) -> SessionGroup {
        SessionGroup { count, members, share, ..SessionGroup::default() }
    }

    /// Many shapes of worlds: users, gateways, offline, misbehaving, sessions.
    fn worlds() -> Vec<Arc<World>> {
        let mut worlds = Vec::new();
        for (users, gateways, offline_percent) in [(7, 1, 0), (100, 8, 20), (1_000, 5, 20), (999, 64, 33), (101, 3, 99)]
        {
            for sessions in [vec![group(9, 2, 1)], vec![group(50, 7, 3), group(3, 2, 5), group(1, 6, 1)]] {
                for misbehaving in [vec![], vec![Misbehaving { gateway: gateways - 1, how: How::Deaf, ms: 0 }]] {
                    let mut workload = Workload::find("mixed").expect("mixed");
                    (workload.users, workload.gateways) = (users, gateways);
                    (workload.offline_percent, workload.sessions) = (offline_percent, sessions.clone());
                    workload.misbehaving = misbehaving;
                    worlds.push(World::new(&workload));
                }
            }
        }
        worlds
    }

    #[test]
    fn members_are_distinct_and_known_by_number() {
        for world in worlds() {
            for session in 0..world.sessions() {
                let members: Vec<u32> = world.members(session).collect();
                assert_eq!(members.len(), world.members_count(session) as usize);
                assert_eq!(members.iter().collect::<HashSet<_>>().len(), members.len(), "distinct");
                assert_eq!(members[0], world.sender(session));
                for user in 0..world.workload().users {
                    let number = members.iter().position(|member| *member == user).map(|at| at as u32);
                    assert_eq!(world.member_number(session, user), number);
                    assert!(number.is_none_or(|number| world.member(session, number) == user));
                }
            }
        }
    }

    #[test]
    fn who_is_expected_is_each_recipient_that_can_be_reached() {
        for world in worlds() {
            for session in 0..world.sessions() {
                let is_judged = |user: &u32| {
                    let place = world.place(*user);
                    let how = world.workload().misbehaviour_of(place.current);
                    !place.is_offline && !how.is_some_and(|misbehaving| misbehaving.how.is_excused())
                };
                let expected = world.members(session).skip(1).filter(is_judged).count();
                assert_eq!(world.expected(session) as usize, expected);
            }
        }
    }

    #[test]
    fn users_are_in_as_many_sessions_and_on_gateways_evenly() {
        for world in worlds() {
            let mut sessions_of = vec![0_u32; world.workload().users as usize];
            (0..world.sessions())
                .flat_map(|session| world.members(session))
                .for_each(|user| sessions_of[user as usize] += 1);
            assert!(
                sessions_of.iter().max().zip(sessions_of.iter().min()).is_some_and(|(most, least)| most - least <= 1)
            );
            let mut on = vec![0_u32; world.workload().gateways as usize];
            let places = (0..world.workload().users).map(|user| world.place(user));
            let online: Vec<Place> = places.filter(|place| !place.is_offline).collect();
            online.iter().for_each(|place| on[place.current as usize] += 1);
            assert!(on.iter().max().zip(on.iter().min()).is_some_and(|(most, least)| most - least <= 1), "{on:?}");
            let (users, percent) = (world.workload().users, world.workload().offline_percent);
            assert_eq!(users - online.len() as u32, (u64::from(users) * u64::from(percent) / 100) as u32);
        }
    }

    #[test]
    fn shares_are_followed_exactly_and_spread_over_time() {
        let world = World::new(&Workload::find("mixed").expect("mixed"));
        let group_of = |event| match world.next_session(event) {
            0..200 => 2,
            200..220 => 100,
            _ => 5_000,
        };
        for round in 0..5 {
            let mut events: HashMap<u32, u32> = HashMap::new();
            (round * 400..(round + 1) * 400).for_each(|event| *events.entry(group_of(event)).or_default() += 1);
            assert_eq!((events[&2], events[&100], events[&5_000]), (279, 120, 1));
        }
        for from in 0..360 {
            let groups = (from..from + 40).filter(|event| group_of(*event) == 100).count();
            assert!((10..=14).contains(&groups), "{groups} of 40 events, where 12 are its share");
        }
        let again = World::new(&Workload::find("mixed").expect("mixed"));
        assert!((0..2_000).all(|event| again.next_session(event) == world.next_session(event)), "always the same");
        for (session, group) in [(0, 0), (199, 0), (200, 1), (219, 1), (220, 2)] {
            assert_eq!(world.group_of(session), group, "session {session}");
        }
        let seen: HashSet<usize> = (0..40_000).map(|event| world.next_session(event)).collect();
        assert_eq!(seen.len(), world.sessions(), "no session is left out");
    }

    #[test]
    fn a_cold_world_visits_each_session_once_and_in_order() {
        let cold = Workload { cold: true, ..Workload::find("mixed").expect("mixed") };
        let (cold, warm) = (World::new(&cold), World::new(&Workload::find("mixed").expect("mixed")));
        assert_eq!((cold.events_max(), warm.events_max()), (221, u64::MAX));
        assert!((0..221).all(|event| cold.next_session(event) == event as usize));
    }

    #[test]
    fn names_are_read_back_and_others_are_not() {
        let world = World::new(&Workload::find("mixed").expect("mixed"));
        assert_eq!(world.session_of(&World::session_name(220)), Some(220));
        assert_eq!(world.user_of(&World::user_name(9_999)), Some(9_999));
        assert_eq!(world.gateway_of(&World::gateway_name(7)), Some(7));
        for name in
            ["session-221", "user-10000", "gateway-8", "user-", "user-x", "user-+1", "user-01", "user-99999999999", ""]
        {
            assert_eq!(
                (world.session_of(name), world.user_of(name), world.gateway_of(name)),
                (None, None, None),
                "{name}"
            );
        }
    }
}
