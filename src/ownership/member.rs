//! This instance among the others: its lease, its key, and the namesake whose key is in the way (T0).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Ownership;
use super::txns::{End, Purpose};
use crate::model::ownership::Boottime;
use crate::ownership::facts::{AskNo, Compare, Intention, Is, Level, Rejection, Write};
use crate::ownership::keys::{Key, LeaseId, Revision};
use crate::ownership::records::{self, Member, Presence};

/// A grant without an answer is asked for again.
const GRANT_TIME: Duration = Duration::from_secs(5);
/// Keepalives whose answers are waited for; older ones are given up.
const KEEPALIVES_MAX: usize = 8;

/// See the module.
#[derive(Default)]
pub struct Membership {
    /// Our lease.
    pub lease: Option<LeaseId>,
    /// `create_revision` of our key, while it is under our lease.
    pub joined: Option<Revision>,
    granting: Option<(AskNo, Boottime)>,
    last_keepalive: Boottime,
    flying: BTreeMap<AskNo, (LeaseId, Boottime, Revision)>,
    writing: bool,
    /// The lease of a namesake that was dealt with.
    namesake: Option<LeaseId>,
    /// Whether NATS can be reached, since when, and what is said of it.
    nats_since: Boottime,
    has_nats: bool,
    had_nats: bool,
    says_nats: bool,
    /// Keepalives that were answered well, that said that there is no lease, and grants.
    pub results: [u64; 3],
}

impl Membership {
    /// Whether the consumers can be managed.
    pub fn has_nats(&self) -> bool {
        self.has_nats
    }

    /// The next keepalive is sent now: whether etcd is there must be known.
    pub fn ask_now(&mut self) {
        self.last_keepalive = Boottime::NEVER;
    }

    /// NATS was reached or lost. The first time that it is reached is said at once.
    pub fn nats(&mut self, now: Boottime, is_connected: bool) {
        if is_connected != self.has_nats {
            (self.has_nats, self.nats_since) = (is_connected, now);
            self.says_nats |= is_connected && !self.had_nats;
            self.had_nats |= is_connected;
        }
    }
}

impl Ownership {
    /// Whether shards move and so the lease may be kept.
    pub(super) fn is_alive(&self) -> bool {
        self.now.since(self.beat) < self.settings.timings.shard_silent
    }

    /// Gets, keeps and describes our membership, as far as time and the view ask for it.
    pub(super) fn mind_membership(&mut self) {
        let timings = self.settings.timings;
        match self.member.lease {
            None if self.member.granting.is_none_or(|(_, sent)| self.now.since(sent) > GRANT_TIME) => {
                let ask = self.number();
                self.member.granting = Some((ask, self.now));
                self.member.results[2] += 1;
                self.out.push(Intention::Grant { ask, ttl: timings.lease_ttl });
            }
            Some(lease)
                if self.is_alive() && self.now.since(self.member.last_keepalive) >= timings.keepalive_period =>
            {
                let ask = self.number();
                self.member.last_keepalive = self.now;
                self.member.flying.insert(ask, (lease, self.now, self.view.revision));
                while self.member.flying.len() > KEEPALIVES_MAX {
                    self.member.flying.pop_first();
                }
                self.out.push(Intention::KeepAlive { ask, lease });
            }
            _ => {}
        }
        let since = self.now.since(self.member.nats_since);
        let is_said = self.member.says_nats;
        let wait = if is_said { timings.nats_lost } else { timings.nats_back };
        if self.member.has_nats != is_said && since >= wait {
            self.member.says_nats = self.member.has_nats;
        }
        self.mind_key();
    }

    /// When [`Self::mind_membership`] has something to do.
    pub(super) fn membership_wake(&self) -> Boottime {
        let timings = &self.settings.timings;
        let lease = match self.member.lease {
            None => self.member.granting.map_or(self.now, |(_, sent)| sent.after(GRANT_TIME)),
            Some(_) => self.member.last_keepalive.after(timings.keepalive_period),
        };
        let wait = if self.member.says_nats { timings.nats_lost } else { timings.nats_back };
        let nats = (self.member.has_nats != self.member.says_nats).then(|| self.member.nats_since.after(wait));
        nats.map_or(lease, |nats| lease.min(nats))
    }

    /// etcd gave a lease, or none.
    pub(super) fn granted(&mut self, ask: AskNo, lease: Option<LeaseId>) {
        let Some((_, sent)) = self.member.granting.take_if(|(granting, _)| *granting == ask) else {
            // One that was given up: it must not stand beside the other for a whole TTL, unless our key came under it.
            if let Some(lease) = lease.filter(|lease| self.member.lease != Some(*lease)) {
                self.out.push(Intention::Revoke { lease });
            }
            return;
        };
        match lease {
            Some(lease) => {
                self.member.lease = Some(lease);
                self.member.last_keepalive = sent;
                self.permit.kept(sent);
            }
            // Not at once, since etcd may be away.
            None => {
                self.member.granting = Some((ask, self.now.before(GRANT_TIME - self.settings.timings.keepalive_period)))
            }
        }
    }

    /// A keepalive was answered.
    pub(super) fn kept_alive(&mut self, ask: AskNo, ttl: Duration, revision: Revision) {
        let Some((lease, sent, known)) = self.member.flying.remove(&ask) else { return };
        if self.member.lease != Some(lease) {
            return;
        }
        // The lease may have been restored with the rest, so that only the revision tells.
        self.view.is_listed &= revision >= known;
        if ttl.is_zero() {
            self.member.results[1] += 1;
            self.lose_lease();
        } else {
            self.member.results[0] += 1;
            self.permit.kept(sent);
        }
    }

    /// Our lease is gone, and with it every key under it.
    pub(super) fn lose_lease(&mut self) {
        if self.member.lease.take().is_some() {
            self.say(Level::Warn, "etcd says that our lease is over: taking a new one".to_owned());
        }
        self.member.joined = None;
        self.member.flying.clear();
        self.permit.lease_lost();
        for partition in self.mine.clone() {
            self.slot(partition).is_held = false;
            self.dirty.insert(partition);
        }
        // The watch tells what is left of it, and a new listing tells it sooner when the watch is behind.
        self.view.is_listed = false;
    }

    /// Sees that our key is there and says what is true.
    fn mind_key(&mut self) {
        let Some(lease) = self.member.lease.filter(|_| self.view.is_listed && !self.member.writing) else { return };
        let me = self.settings.instance.clone();
        let seen = self.view.members.get(&me).filter(|seen| !seen.is_absent());
        let Some((record, created)) = seen.map(|seen| (seen.get().cloned(), seen.created)) else {
            self.member.joined = None;
            let compare = Compare { key: Key::Member(me), is: Is::Absent };
            return self.put_member(Purpose::Join, compare, lease);
        };
        let record = record.unwrap_or_default();
        if record.boot != self.settings.boot {
            self.member.joined = None;
            return self.meet_namesake(&record);
        }
        if record.lease() != lease {
            // Our own key under a lease of ours that we took for lost: it stands, or the key would be gone with it.
            self.out.push(Intention::Revoke { lease });
            self.member.lease = Some(record.lease());
            self.member.last_keepalive = Boottime::NEVER;
            self.permit.lease_lost();
            return;
        }
        if self.member.joined != Some(created) {
            self.member.joined = Some(created);
            self.planner.is_stale = true;
            self.dirty_all();
            self.warn_of_one_machine();
        }
        if (record.state, record.nats) != (self.presence(), self.member.says_nats) {
            let compare = Compare { key: Key::Member(me), is: Is::Created(created) };
            self.put_member(Purpose::Member, compare, lease);
        }
    }

    /// Instances on one machine die with it together, and then nobody is left to take their partitions. Said by who joins.
    fn warn_of_one_machine(&mut self) {
        let (me, kernel) = (&self.settings.instance, &self.settings.lock.kernel);
        let is_here = |member: &Member| !kernel.is_empty() && member.kernel == *kernel;
        let members = self.view.members.iter().filter(|(name, seen)| *name != me && !seen.is_absent());
        let here: Vec<_> =
            members.filter(|(_, seen)| seen.get().is_some_and(is_here)).map(|(name, _)| &**name).collect();
        if here.is_empty() {
            return;
        }
        let text = format!(
            "this machine runs {} too (same kernel boot id): when it fails, the partitions of all of them stand still until others \
             have taken them. Run the instances on different machines",
            here.join(", ")
        );
        self.say(Level::Warn, text);
    }

    fn presence(&self) -> Presence {
        if self.stop.is_some() { Presence::Leaving } else { Presence::Live }
    }

    fn put_member(&mut self, purpose: Purpose, compare: Compare, lease: LeaseId) {
        let settings = &self.settings;
        let record = Member {
            lease: lease.0,
            boot: settings.boot.clone(),
            weight: settings.weight,
            state: self.presence(),
            nats: self.member.says_nats,
            admin: settings.admin.clone(),
            version: settings.version.clone(),
            reads: records::VERSION,
            lock: settings.lock.id.clone(),
            kernel: settings.lock.kernel.clone(),
            by: records::Nonce::default(),
        };
        let key = Key::Member(settings.instance.clone());
        self.member.writing = true;
        self.commit(purpose, key.clone(), vec![compare], |by| {
            vec![Write::Put { key, value: records::write(&Member { by, ..record }), lease: Some(lease) }]
        });
    }

    /// Our key was written, or not.
    pub(super) fn member_written(&mut self, end: &End) {
        self.member.writing = false;
        match end {
            End::Rejected(Rejection::NoLease) => self.lose_lease(),
            End::Rejected(Rejection::Other(why)) => self.refused_by_etcd(why.clone()),
            End::Applied | End::Refused => {}
        }
    }

    /// Another process has our name. When it surely is a dead predecessor, its lease is ended; else it is waited for.
    fn meet_namesake(&mut self, other: &Member) {
        if self.member.namesake == Some(other.lease()) {
            return;
        }
        let lock = &self.settings.lock;
        let is_predecessor =
            lock.is_held && !lock.id.is_empty() && lock.id == other.lock && lock.kernel == other.kernel;
        if is_predecessor && self.now.since(self.started) < self.settings.timings.margin {
            // Its kernel may still hold pushes for a gateway that reads late; a lease that ends by itself gives as much time.
            return;
        }
        self.member.namesake = Some(other.lease());
        let name = &self.settings.instance;
        if is_predecessor {
            let text = format!("instance {name} ran here before and did not stop: its lease is ended");
            self.say(Level::Info, text);
            self.out.push(Intention::Revoke { lease: other.lease() });
        } else {
            let admin = if other.admin.is_empty() { "an unknown address" } else { &other.admin };
            let text = format!(
                "another process has the name {name} (its admin pages are at {admin}): waiting until it is gone; \
                 give each instance a name of its own (engine.instance)"
            );
            self.say(Level::Warn, text);
        }
    }
}
