//! Who is in a session, ready to be written: names in wire form, by gateway.

use std::collections::HashMap;

use super::preload::World;
use super::wire::put_varint;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// All sessions there are.
pub(super) struct Tables {
    sessions: Map<Box<[u8]>, Session>,
}

/// One session.
#[derive(Default)]
pub(super) struct Session {
    /// Its members with a gateway.
    pub groups: Vec<Group>,
    /// Where each of them stands: group, and place in it.
    places: Map<Box<[u8]>, (usize, usize)>,
    /// Members without a gateway.
    nowhere: Vec<Box<[u8]>>,
}

/// The members of a session on one gateway.
pub(super) struct Group {
    /// Which.
    pub gateway: usize,
    /// Each name as a field 1: tag, length, name; all in one piece.
    names: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
}

impl Tables {
    /// The groups of each session.
    pub fn new(world: World) -> Self {
        let mut tables = Self { sessions: Map::default() };
        for (session, members) in world.members {
            let mut known = Session::default();
            for user in members {
                match world.routes.get(&user) {
                    Some(gateway) => known.add(&user, *gateway),
                    None => known.nowhere.push(user.into()),
                }
            }
            tables.sessions.insert(session.into(), known);
        }
        tables
    }

    /// The session of this id.
    pub fn session(&self, id: &[u8]) -> Option<&Session> {
        self.sessions.get(id)
    }
}

impl Session {
    fn add(&mut self, user: &[u8], gateway: usize) {
        let known = self.groups.iter().position(|group| group.gateway == gateway);
        let at = known.unwrap_or_else(|| {
            self.groups.push(Group { gateway, names: Vec::new(), ends: Vec::new() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        self.places.insert(user.into(), (at, group.ends.len()));
        group.names.push(0x0a);
        put_varint(&mut group.names, user.len() as u64);
        group.names.extend_from_slice(user);
        group.ends.push(group.names.len());
    }

    /// Where a member stands.
    pub fn place_of(&self, user: &[u8]) -> Option<(usize, usize)> {
        self.places.get(user).copied()
    }

    /// Recipients without a gateway, when this one sends.
    pub fn unreached(&self, sender: &[u8]) -> u64 {
        self.nowhere.iter().filter(|user| ***user != *sender).count() as u64
    }
}

impl Group {
    /// How many members.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The names but one, each in wire form.
    pub fn each(&self, skipped: Option<usize>) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let all = starts.zip(&self.ends).map(|(start, end)| &self.names[start..*end]).enumerate();
        all.filter(move |(place, _)| Some(*place) != skipped).map(|(_, name)| name)
    }

    /// The same in two pieces: what is before the one that is left out, and what is behind.
    pub fn pieces(&self, skipped: Option<usize>) -> [&[u8]; 2] {
        let Some(place) = skipped else { return [&self.names, &[]] };
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        [&self.names[..start], &self.names[self.ends[place]..]]
    }
}
