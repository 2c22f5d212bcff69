//! Where users are connected, each in one atomic word: gateways and the verdict ask it for each push.
//!
//! Promises that a user that moves is connected somewhere at any instant: first to both gateways, then to the new one only.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rng::Rng;
use crate::workload::{How, Workload};

const IS_MOVING: u64 = 1 << 32;
const IS_OFFLINE: u64 = 1 << 33;
const MOVES_SHIFT: u32 = 34;
const MOVES_MAX: u64 = (1 << (64 - MOVES_SHIFT)) - 1;

/// Where one user is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The gateway it is connected to.
    pub current: u32,
    /// The one before; the same when it never moved.
    pub previous: u32,
    /// Whether it is on its way, so that the previous gateway still takes its pushes.
    pub is_moving: bool,
    /// Whether it is connected nowhere.
    pub is_offline: bool,
    /// How often it moved.
    pub moves: u32,
}

impl Place {
    /// Whether a push to this user is taken at a gateway.
    pub fn is_at(&self, gateway: u32) -> bool {
        !self.is_offline && (gateway == self.current || self.is_moving && gateway == self.previous)
    }

    /// Whether it may have been connected to a gateway at some time: of those before the previous one nothing is kept.
    pub fn may_have_been_at(&self, gateway: u32) -> bool {
        !self.is_offline && (gateway == self.current || gateway == self.previous || self.moves > 1)
    }

    fn packed(self) -> u64 {
        let gateways = u64::from(self.current) | u64::from(self.previous) << 16;
        let moving = if self.is_moving { IS_MOVING } else { 0 };
        let offline = if self.is_offline { IS_OFFLINE } else { 0 };
        gateways | moving | offline | u64::from(self.moves).min(MOVES_MAX) << MOVES_SHIFT
    }

    fn unpacked(word: u64) -> Self {
        Self {
            current: (word & 0xffff) as u32,
            previous: (word >> 16 & 0xffff) as u32,
            is_moving: word & IS_MOVING != 0,
            is_offline: word & IS_OFFLINE != 0,
            moves: (word >> MOVES_SHIFT) as u32,
        }
    }
}

/// Where all users are connected.
#[derive(Debug)]
pub(crate) struct Places {
    users: Vec<AtomicU64>,
    /// By gateway: whether its users' pushes are not judged.
    excused: Vec<bool>,
    /// The gateways that users move between.
    open: Vec<u32>,
    gateways: u32,
    offline_percent: u32,
    /// Gateways that a hundred users have together.
    devices_of_hundred: u64,
}

impl Places {
    pub fn new(workload: &Workload) -> Self {
        let how = |gateway| workload.misbehaviour_of(gateway).map(|misbehaving| misbehaving.how);
        let excused: Vec<bool> =
            (0..workload.gateways).map(|gateway| how(gateway).is_some_and(How::is_excused)).collect();
        let (gateways, offline_percent) = (workload.gateways, workload.offline_percent);
        let place = |user: u64| {
            let gateway = home(user, gateways, offline_percent);
            let is_offline = offline_before(user + 1, offline_percent) > offline_before(user, offline_percent);
            Place { current: gateway, previous: gateway, is_moving: false, is_offline, moves: 0 }
        };
        let users = (0..u64::from(workload.users)).map(|user| AtomicU64::new(place(user).packed())).collect();
        let open = (0..workload.gateways).filter(|gateway| !excused[*gateway as usize]).collect();
        let devices_of_hundred = (workload.devices * 100.0).round() as u64;
        Self { users, excused, open, gateways, offline_percent, devices_of_hundred }
    }

    /// How many gateways a user is connected to; 1 when it is offline, as one that would be.
    pub fn devices(&self, user: u32) -> u32 {
        let before = |user: u64| user * self.devices_of_hundred / 100;
        let devices = before(u64::from(user) + 1) - before(user.into());
        if self.get(user).is_offline { 1 } else { devices as u32 }
    }

    /// The gateways of a user besides the one that it moves from.
    pub fn others(&self, user: u32) -> impl Iterator<Item = u32> + use<> {
        let (home, gateways) = (home(user.into(), self.gateways, self.offline_percent), self.gateways);
        (1..self.devices(user)).map(move |device| (home + device) % gateways)
    }

    /// Whether a push to a user is taken at a gateway.
    pub fn is_connected(&self, user: u32, gateway: u32) -> bool {
        self.get(user).is_at(gateway) || self.others(user).any(|other| other == gateway)
    }

    /// Which of a user's connections a gateway has, or may have had: 0 is the one that moves.
    pub fn device_at(&self, user: u32, gateway: u32) -> Option<u32> {
        match self.others(user).position(|other| other == gateway) {
            Some(other) => Some(other as u32 + 1),
            None => self.get(user).may_have_been_at(gateway).then_some(0),
        }
    }

    pub fn get(&self, user: u32) -> Place {
        Place::unpacked(self.users[user as usize].load(Ordering::Acquire))
    }

    /// Whether pushes at this gateway are not judged.
    pub fn is_excused(&self, gateway: u32) -> bool {
        self.excused[gateway as usize]
    }

    /// Whether pushes to this user are.
    pub fn is_judged(&self, user: u32) -> bool {
        let place = self.get(user);
        !place.is_offline && !self.is_excused(place.current)
    }

    /// Another gateway for a user, when it can move.
    pub fn elsewhere(&self, user: u32, rng: &mut Rng) -> Option<u32> {
        let place = self.get(user);
        if self.open.len() < 2 || !self.is_judged(user) {
            return None;
        }
        if self.devices(user) > 1 {
            let is_free =
                |gateway: &&u32| **gateway != place.current && self.others(user).all(|other| other != **gateway);
            let free: Vec<u32> = self.open.iter().filter(is_free).copied().collect();
            return (!free.is_empty()).then(|| free[rng.below(free.len() as u64) as usize]);
        }
        let others = self.open.len() as u64 - 1;
        let picked = self.open[rng.below(others) as usize];
        // The last one stands in for the one it is at.
        Some(if picked == place.current { self.open[others as usize] } else { picked })
    }

    /// From now on both gateways take the user's pushes. Only one thread moves users.
    pub fn begin_move(&self, user: u32, to: u32) {
        let place = self.get(user);
        let moves = place.moves.saturating_add(1);
        self.put(user, Place { current: to, previous: place.current, is_moving: true, moves, ..place });
    }

    /// From now on only the new one does.
    pub fn end_move(&self, user: u32) {
        self.put(user, Place { is_moving: false, ..self.get(user) });
    }

    fn put(&self, user: u32, place: Place) {
        self.users[user as usize].store(place.packed(), Ordering::Release);
    }
}

fn offline_before(user: u64, offline_percent: u32) -> u64 {
    user * u64::from(offline_percent) / 100
}

/// Where a user is before it moves; counted among those that are connected, so that every gateway has as many.
fn home(user: u64, gateways: u32, offline_percent: u32) -> u32 {
    ((user - offline_before(user, offline_percent)) % u64::from(gateways)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Misbehaving;

    fn places(change: impl FnOnce(&mut Workload)) -> Places {
        let mut workload = Workload::find("mixed").expect("mixed");
        change(&mut workload);
        Places::new(&workload)
    }

    #[test]
    fn a_word_keeps_all_of_a_place() {
        for (current, previous, moves) in [(0, 0, 0), (9_999, 1, 1), (65_535, 65_535, MOVES_MAX as u32)] {
            for (is_moving, is_offline) in [(false, false), (true, false), (false, true), (true, true)] {
                let place = Place { current, previous, is_moving, is_offline, moves };
                assert_eq!(Place::unpacked(place.packed()), place);
            }
        }
    }

    #[test]
    fn a_user_that_moves_is_somewhere_at_any_instant() {
        let places = places(|_| {});
        let from = places.get(5).current;
        let to = places.elsewhere(5, &mut Rng::new(1)).expect("it can move");
        assert_ne!(from, to);
        places.begin_move(5, to);
        assert!(places.get(5).is_at(from) && places.get(5).is_at(to));
        places.end_move(5);
        assert!(!places.get(5).is_at(from) && places.get(5).is_at(to));
        assert!(places.get(5).may_have_been_at(from));
        assert!(!places.get(5).may_have_been_at((0..8).find(|gateway| ![from, to].contains(gateway)).expect("eight")));
        assert_eq!(places.get(5).moves, 1);
    }

    #[test]
    fn nobody_moves_to_or_from_a_gateway_that_is_not_judged() {
        let places = places(|it| {
            it.gateways = 3;
            it.misbehaving = vec![Misbehaving { gateway: 0, how: How::Deaf, ms: 0 }];
        });
        let mut rng = Rng::new(3);
        for user in 0..100 {
            match (places.get(user).current, places.elsewhere(user, &mut rng)) {
                (0, None) | (1, Some(2)) | (2, Some(1)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn users_have_so_many_gateways_in_the_mean_and_each_once() {
        let places = places(|it| (it.devices, it.offline_percent) = (1.6, 20));
        let online: Vec<u32> = (0..1_000).filter(|user| !places.get(*user).is_offline).collect();
        let mut rng = Rng::new(3);
        for user in online.iter().copied() {
            let at = || -> Vec<u32> { std::iter::once(places.get(user).current).chain(places.others(user)).collect() };
            let before = at();
            places.begin_move(user, places.elsewhere(user, &mut rng).expect("it can move"));
            places.end_move(user);
            let after = at();
            assert!(before[0] != after[0] && before[1..] == after[1..], "{before:?} {after:?}");
            for (device, gateway) in after.iter().enumerate() {
                assert!(places.is_connected(user, *gateway) && !after[..device].contains(gateway), "{after:?}");
                assert_eq!(places.device_at(user, *gateway), Some(device as u32));
            }
        }
        let devices: u32 = online.iter().map(|user| places.devices(*user)).sum();
        assert!((1_200..=1_360).contains(&devices), "{devices} of 800");
    }

    #[test]
    fn every_other_gateway_is_moved_to() {
        let (places, mut rng) = (places(|_| {}), Rng::new(3));
        let mut went = [0; 8];
        (0..800).for_each(|_| went[places.elsewhere(3, &mut rng).expect("it can") as usize] += 1);
        let at = places.get(3).current as usize;
        assert_eq!(went[at], 0);
        assert!(went.iter().enumerate().all(|(gateway, times)| gateway == at || *times > 60), "{went:?}");
    }
}
