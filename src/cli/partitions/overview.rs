//! What stands in etcd, put together: partitions with their owners, and instances.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Standing;
use crate::cli::table::{aligned, plain};
use crate::edge::etcd::ownership::once::Look;
use crate::model::ids::Partition;
use crate::model::ownership::Generation;
use crate::model::words::counted;
use crate::ownership::keys::{Instance, Key};
use crate::ownership::records::{self, Epoch, Layout, Member, Owner, Plan, State, Unreadable};

/// A partition.
#[derive(Clone, Debug, Default)]
struct Row {
    owner: Option<Owner>,
    planned: Option<Instance>,
    epoch: Epoch,
    standing: Option<Standing>,
}

impl Row {
    fn state(&self) -> &'static str {
        match (&self.owner, &self.planned, self.epoch.state) {
            (Some(owner), planned, _) if planned.as_ref() == Some(&owner.instance) => "owned",
            (Some(_), ..) => "moving",
            (None, _, State::Clean | State::Cut) => "free",
            (None, _, State::Open) => "fenced",
        }
    }
}

/// An instance that is there, or is to own nothing.
#[derive(Clone, Debug, Default)]
struct Place {
    member: Option<Member>,
    lease: Option<Duration>,
    is_drained: bool,
    owned: usize,
    planned: usize,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Overview {
    revision: i64,
    layout: Option<Layout>,
    plan: Option<Plan>,
    rows: Vec<Row>,
    places: BTreeMap<Instance, Place>,
    unreadable: Vec<String>,
    has_standings: bool,
}

impl Overview {
    /// Of what etcd holds.
    pub(super) fn of(look: &Look) -> Self {
        let mut overview = Self { revision: look.revision, ..Self::default() };
        let (mut owners, mut epochs) = (BTreeMap::new(), BTreeMap::new());
        for state in &look.keys {
            let Some(value) = state.value.as_deref() else { continue };
            let read = match &state.key {
                Key::Layout => records::read(value).map(|layout| overview.layout = Some(layout)),
                Key::Plan => records::read(value).map(|plan| overview.plan = Some(plan)),
                Key::Owner(at) => records::read::<Owner>(value).map(|owner| drop(owners.insert(at.0, owner))),
                Key::Epoch(at) => records::read::<Epoch>(value).map(|epoch| drop(epochs.insert(at.0, epoch))),
                Key::Drained(name) => {
                    overview.place(name).is_drained = true;
                    Ok(())
                }
                Key::Member(name) => records::read_member(value).map(|member| {
                    let lease = look.leases.get(&member.lease()).copied();
                    let place = overview.place(name);
                    (place.member, place.lease) = (Some(member), lease);
                }),
            };
            if let Err(why) = read {
                overview.note(&state.key, &why);
            }
        }
        let last = owners.keys().chain(epochs.keys()).max().map_or(0, |last| last + 1);
        let laid = overview.layout.as_ref().map_or(0, |layout| layout.partitions + u32::from(layout.has_input));
        for at in 0..laid.max(last) {
            let planned = overview.plan.as_ref().and_then(|plan| plan.owner(Partition(at))).cloned();
            let row = Row {
                owner: owners.remove(&at),
                planned,
                epoch: epochs.remove(&at).unwrap_or_default(),
                standing: None,
            };
            if let Some(owner) = &row.owner {
                overview.place(&owner.instance).owned += 1;
            }
            if let Some(planned) = &row.planned {
                overview.place(planned).planned += 1;
            }
            overview.rows.push(row);
        }
        overview
    }

    fn place(&mut self, name: &Instance) -> &mut Place {
        self.places.entry(name.clone()).or_default()
    }

    fn note(&mut self, key: &Key, why: &Unreadable) {
        self.unreadable.push(format!("{}: {}", plain(&key.to_string()), plain(&why.to_string())));
    }

    /// Records that cannot be read, and why.
    pub(super) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The consumer of each partition.
    pub(super) fn consumers(&self) -> Vec<(Partition, Generation)> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(at, row)| (Partition(at as u32), row.epoch.generation())).collect()
    }

    /// What the broker says of [`Self::consumers`].
    pub(super) fn stand(&mut self, standings: Vec<Option<Standing>>) {
        self.has_standings = true;
        self.rows.iter_mut().zip(standings).for_each(|(row, standing)| row.standing = standing);
    }

    /// Whether an instance is there.
    pub(super) fn is_member(&self, name: &Instance) -> bool {
        self.places.get(name).is_some_and(|place| place.member.is_some())
    }

    /// How many partitions it owns.
    pub(super) fn owned_by(&self, name: &Instance) -> usize {
        self.places.get(name).map_or(0, |place| place.owned)
    }

    /// Whether another instance takes partitions.
    pub(super) fn has_taker_besides(&self, name: &Instance) -> bool {
        let takes = |place: &Place| !place.is_drained && place.member.as_ref().is_some_and(Member::is_live);
        self.places.iter().any(|(other, place)| other != name && takes(place))
    }

    fn name(&self, at: usize) -> String {
        let is_input = self.layout.as_ref().is_some_and(|layout| layout.has_input && layout.partitions as usize == at);
        if is_input { "input".to_owned() } else { at.to_string() }
    }

    /// For a script.
    pub(super) fn json(&self, root: &str) -> serde_json::Value {
        let partitions = self.rows.iter().enumerate().map(|(at, row)| {
            serde_json::json!({
                "partition": at, "is_input": self.name(at) == "input",
                "owner": row.owner.as_ref().map(|owner| &owner.instance), "planned": row.planned,
                "state": row.state(), "epoch": row.epoch.epoch, "generation": row.epoch.generation, "start": row.epoch.start,
                "how": row.owner.as_ref().map(|owner| owner.how), "record": row.epoch.state,
                "lag": row.standing.map(|standing| standing.lag), "unacked": row.standing.map(|standing| standing.unacked),
            })
        });
        let members = self.places.iter().map(|(name, place)| {
            let member = place.member.as_ref();
            serde_json::json!({
                "instance": name, "is_there": member.is_some(), "drained": place.is_drained, "owns": place.owned,
                "planned": place.planned, "weight": member.map(|member| member.weight),
                "state": member.map(|member| member.state), "nats": member.map(|member| member.nats),
                "lease_seconds": place.lease.map(|left| left.as_secs()), "admin": member.map(|member| &member.admin),
                "version": member.map(|member| &member.version),
            })
        });
        serde_json::json!({
            "root": root, "revision": self.revision, "layout": self.layout, "unreadable": self.unreadable,
            "plan": self.plan.as_ref().map(|plan| serde_json::json!({ "version": plan.version, "by": plan.by })),
            "partitions": partitions.collect::<Vec<_>>(), "members": members.collect::<Vec<_>>(),
        })
    }

    /// For a person.
    pub(super) fn table(&self) -> String {
        let mut text = self.head();
        let mut rows = vec![
            ["instance", "owns", "planned", "weight", "lease", "state", "nats", "version", "admin"]
                .map(str::to_owned)
                .to_vec(),
        ];
        rows.extend(self.places.iter().map(|(name, place)| place_row(name, place)));
        text += &aligned(&rows);
        text.push('\n');
        let mut head: Vec<String> =
            ["partition", "state", "owner", "planned", "epoch", "generation"].map(str::to_owned).to_vec();
        if self.has_standings {
            head.extend(["lag", "unacked"].map(str::to_owned));
        }
        let mut rows = vec![head];
        rows.extend(self.rows.iter().enumerate().map(|(at, row)| self.partition_row(at, row)));
        text + &aligned(&rows)
    }

    fn head(&self) -> String {
        let owned = self.rows.iter().filter(|row| row.owner.is_some()).count();
        let of = counted(self.rows.len() as u64, "partition");
        let plan = match &self.plan {
            Some(plan) => {
                format!("plan {} by {}", plan.version, plain(plan.by.0.rsplitn(3, '/').nth(2).unwrap_or(&plan.by.0)))
            }
            None => "no plan yet".to_owned(),
        };
        format!("{owned} of {of} have an owner; {plan}\n\n")
    }

    fn partition_row(&self, at: usize, row: &Row) -> Vec<String> {
        let name = |name: Option<&Instance>| name.map_or("-".to_owned(), |name| plain(name));
        let mut cells = vec![
            self.name(at),
            row.state().to_owned(),
            name(row.owner.as_ref().map(|owner| &owner.instance)),
            name(row.planned.as_ref()),
            row.epoch.epoch.to_string(),
            row.epoch.generation.to_string(),
        ];
        if self.has_standings {
            let number =
                |of: fn(Standing) -> u64| row.standing.map_or("-".to_owned(), |standing| of(standing).to_string());
            cells.extend([number(|standing| standing.lag), number(|standing| standing.unacked)]);
        }
        cells
    }
}

fn place_row(name: &Instance, place: &Place) -> Vec<String> {
    let Place { member, lease, is_drained, owned, planned } = place;
    let of = |read: fn(&Member) -> String| member.as_ref().map_or("-".to_owned(), read);
    let state = match (member, is_drained) {
        (None, true) => "gone, drained",
        (None, false) => "gone",
        (Some(_), true) => "drained",
        (Some(member), false) if member.is_live() => "live",
        (Some(_), false) => "leaving",
    };
    vec![
        plain(name),
        owned.to_string(),
        planned.to_string(),
        of(|member| member.weight.to_string()),
        lease.map_or("-".to_owned(), |left| format!("{} s", left.as_secs())),
        state.to_owned(),
        of(|member| if member.nats { "yes" } else { "no" }.to_owned()),
        of(|member| plain(&member.version)),
        of(|member| plain(&member.admin)),
    ]
}

#[cfg(test)]
#[path = "overview_tests.rs"]
mod tests;
