//! When this instance writes the plan: the oldest live member does, and the next in line when it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Ownership;
use super::plan;
use super::txns::{End, Purpose};
use crate::model::ids::Partition;
use crate::model::ownership::Boottime;
use crate::ownership::facts::{Compare, Is, Level, Write};
use crate::ownership::keys::{Instance, Key};
use crate::ownership::records::{self, Plan};

/// See the module.
#[derive(Default)]
pub struct Planner {
    /// Something that a plan depends on has changed.
    pub is_stale: bool,
    /// When the members last changed.
    pub members_changed: Boottime,
    /// When the plan in force was seen.
    pub plan_seen: Boottime,
    /// The plan that should be, and since when another one stands.
    wish: Option<(Vec<Option<Instance>>, Boottime)>,
    /// When the wish is written by this instance.
    due: Option<Boottime>,
    is_writing: bool,
}

impl Planner {
    /// When there is something to do.
    pub fn wake_at(&self) -> Option<Boottime> {
        self.due.filter(|_| !self.is_writing)
    }
}

impl Ownership {
    /// Who may own partitions, with weights. Who has no NATS may not, while another has it.
    pub(super) fn eligible(&self) -> BTreeMap<Instance, u32> {
        let members = self.view.members.iter().filter_map(|(name, seen)| Some((name, seen.get()?)));
        let is_drained = |name: &Instance| self.view.drained.get(name).is_some_and(|seen| !seen.is_absent());
        let live: Vec<_> = members.filter(|(name, member)| member.is_live() && !is_drained(name)).collect();
        let has_nats = live.iter().any(|(_, member)| member.nats);
        let fit = live.into_iter().filter(|(_, member)| member.nats || !has_nats);
        fit.map(|(name, member)| (name.clone(), member.weight)).collect()
    }

    /// This instance's place among those that may write the plan: 0 writes at once.
    fn rank(&self) -> Option<u32> {
        let (own, created) = self.view.member(&self.settings.instance)?;
        let mine = (!own.is_live(), created);
        let members = self.view.members.values().filter_map(|seen| Some((!seen.get()?.is_live(), seen.created)));
        Some(members.filter(|other| *other < mine).count() as u32)
    }

    /// Sees that the plan is what follows from the members and owners.
    pub(super) fn mind_plan(&mut self) {
        if !self.view.is_listed || !self.has_met_layout || self.member.joined.is_none() {
            self.planner.due = None;
            self.planner.is_stale = true;
            return;
        }
        if std::mem::take(&mut self.planner.is_stale) {
            self.wish();
        }
        if self.planner.due.is_some_and(|due| due <= self.now) && !self.planner.is_writing {
            self.write_plan();
        }
    }

    /// Makes the plan that should be, and says when this instance writes it.
    fn wish(&mut self) {
        let members = self.eligible();
        if let Some(why) = self.view.plan.fault() {
            let text = format!("the plan in etcd is not understood ({why}): what is owned is kept, nothing is claimed");
            self.say(Level::Warn, text);
        }
        let current = self.view.plan.get().filter(|plan| plan.owners.len() == self.slots.len());
        let planned = |at: usize| current.and_then(|plan| plan.owner(Partition(at as u32)));
        let is_there = |name: &&Instance| self.view.member(name).is_some();
        let base: Vec<Option<Instance>> = (0..self.slots.len())
            .map(|at| {
                let owner = self.view.owners[at].get().map(|owner| &owner.instance);
                planned(at).filter(is_there).or(owner).cloned()
            })
            .collect();
        let wish = plan::make(&base, &members);
        let is_met = current.is_some() && wish.iter().enumerate().all(|(at, owner)| planned(at) == owner.as_ref());
        if is_met {
            (self.planner.wish, self.planner.due) = (None, None);
            return;
        }
        let is_orphaned = |at: usize| planned(at).is_some_and(|owner| !members.contains_key(owner));
        let is_loss = (0..self.slots.len()).any(is_orphaned);
        let since = self.planner.wish.take().map_or(self.now, |(_, since)| since);
        let timings = &self.settings.timings;
        let wait = match is_loss {
            true => since,
            false => self.planner.members_changed.max(since).after(timings.join).min(since.after(timings.join_max)),
        };
        let rank = self.rank().unwrap_or(u32::MAX);
        self.planner.due = Some(wait.after(timings.planner_late.saturating_mul(rank)));
        self.planner.wish = Some((wish, since));
    }

    fn write_plan(&mut self) {
        let Some((wish, _)) = &self.planner.wish else { return };
        let names: Vec<Instance> = {
            let mut names: Vec<Instance> = wish.iter().flatten().cloned().collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let place = |owner: &Option<Instance>| {
            let at = owner.as_ref().and_then(|owner| names.binary_search(owner).ok());
            at.map_or(-1, |at| at as i32)
        };
        let owners = wish.iter().map(place).collect();
        let version = self.view.plan.get().map_or(0, |plan| plan.version) + 1;
        let compare = Compare { key: Key::Plan, is: Is::seen(self.view.plan.value.as_ref()) };
        self.planner.is_writing = true;
        self.commit(Purpose::Plan, Key::Plan, vec![compare], |by| {
            let value = records::write(&Plan { version, by, names, owners });
            vec![Write::Put { key: Key::Plan, value, lease: None }]
        });
    }

    /// The plan was written, or another was faster.
    pub(super) fn plan_written(&mut self, end: &End) {
        self.planner.is_writing = false;
        self.planner.is_stale = true;
        match end {
            End::Applied => {
                let members = self.eligible();
                let each: Vec<String> = members
                    .keys()
                    .map(|name| {
                        let owned = (0..self.slots.len() as u32).map(Partition).filter(|at| {
                            self.view.plan.get().and_then(|plan| plan.owner(*at)).is_some_and(|owner| owner == name)
                        });
                        format!("{name} {}", owned.count())
                    })
                    .collect();
                let version = self.view.plan.get().map_or(0, |plan| plan.version);
                let each = if each.is_empty() { "nobody".to_owned() } else { each.join(", ") };
                self.say(Level::Info, format!("plan {version}: {each}"));
            }
            End::Refused => {}
            End::Rejected(why) => {
                self.planner.due = Some(self.now.after(Duration::from_secs(1)));
                self.refused_by_etcd(format!("{why:?}"));
            }
        }
    }
}
