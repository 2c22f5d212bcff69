//! The gateways on the metric page.
//!
//! Promises a bounded page however many gateways come and go: the first [`GATEWAYS_NAMED`] have lines of their own, the
//! rest is the line `other`, whose counters only grow. Refuses to move a gateway from `other` to a name while it is
//! known, which would look like pushes that were undone.

use std::collections::HashMap;

use crate::model::ids::GatewayId;

/// Gateways with lines of their own.
pub const GATEWAYS_NAMED: usize = 256;
/// The label of all others.
pub const OTHER: &str = "other";

/// What the owner shard is doing about a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GatewayState {
    /// Routes name it, the registry does not (yet): its bundles are parked.
    Unknown,
    /// Listed, and no connection is needed.
    Idle,
    /// A connection is being opened.
    Opening,
    /// Its stream is open.
    Open,
    /// The last try failed; the next waits for its time.
    Backoff,
    /// It left the registry: its stream, or for `registry.forget_after` its last address, is used while it answers.
    Draining,
}

impl GatewayState {
    /// Every state.
    pub const ALL: &'static [Self] =
        &[Self::Unknown, Self::Idle, Self::Opening, Self::Open, Self::Backoff, Self::Draining];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label on the metric page.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Idle => "idle",
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Backoff => "backoff",
            Self::Draining => "draining",
        }
    }
}

/// One gateway as its owner shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRow {
    /// Which.
    pub gateway: GatewayId,
    /// What is done about it.
    pub state: GatewayState,
    /// Recipients that wait for it, unsent or unanswered.
    pub backlog_recipients: u64,
    /// Age of the oldest push that waits for it; 0 when none does.
    pub oldest_push_seconds: u64,
    /// Recipients it answered for without an error, since it is known.
    pub delivered: u64,
    /// Recipients that ended as `timed_out` on it, since it is known.
    pub timed_out: u64,
}

/// A line of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLine {
    /// The gateway's id, or `other`.
    pub label: GatewayId,
    /// How many gateways of this line are in each state.
    pub states: [u64; GatewayState::COUNT],
    /// Recipients that wait.
    pub backlog_recipients: u64,
    /// Age of the oldest push that waits.
    pub oldest_push_seconds: u64,
    /// Recipients delivered.
    pub delivered: u64,
    /// Recipients timed out.
    pub timed_out: u64,
}

#[derive(Debug)]
struct Known {
    row: GatewayRow,
    named: bool,
}

/// All gateways of one meter, by the shard that owns them.
#[derive(Debug)]
pub(super) struct GatewayTable {
    shards: Vec<HashMap<GatewayId, Known>>,
    named: usize,
    other_delivered: u64,
    other_timed_out: u64,
}

impl GatewayTable {
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| HashMap::new()).collect(), named: 0, other_delivered: 0, other_timed_out: 0 }
    }

    /// Takes a shard's newest list; what is no longer on it is forgotten, and its name is free for a newcomer.
    pub(super) fn replace(&mut self, shard: usize, rows: &[GatewayRow]) {
        let mut before = std::mem::take(&mut self.shards[shard]);
        let mut after = HashMap::with_capacity(rows.len());
        let mut newcomers = Vec::new();
        for row in rows {
            match before.remove(&row.gateway) {
                Some(known) => self.insert(&mut after, row, known.named, (known.row.delivered, known.row.timed_out)),
                None => newcomers.push(row),
            }
        }
        self.named -= before.values().filter(|known| known.named).count();
        for row in newcomers {
            let named = self.named < GATEWAYS_NAMED && row.gateway.as_ref() != OTHER;
            self.named += usize::from(named);
            self.insert(&mut after, row, named, (0, 0));
        }
        self.shards[shard] = after;
    }

    fn insert(&mut self, into: &mut HashMap<GatewayId, Known>, row: &GatewayRow, named: bool, counted: (u64, u64)) {
        if !named {
            self.other_delivered += row.delivered.saturating_sub(counted.0);
            self.other_timed_out += row.timed_out.saturating_sub(counted.1);
        }
        into.insert(row.gateway.clone(), Known { row: row.clone(), named });
    }

    /// The lines, by name, `other` last and always there.
    pub(super) fn lines(&self) -> Vec<GatewayLine> {
        let mut other = GatewayLine {
            label: OTHER.into(),
            states: [0; GatewayState::COUNT],
            backlog_recipients: 0,
            oldest_push_seconds: 0,
            delivered: self.other_delivered,
            timed_out: self.other_timed_out,
        };
        let mut lines = Vec::with_capacity(self.named + 1);
        for Known { row, named } in self.shards.iter().flat_map(HashMap::values) {
            if *named {
                let mut states = [0; GatewayState::COUNT];
                states[row.state as usize] = 1;
                let GatewayRow { gateway, backlog_recipients, oldest_push_seconds, delivered, timed_out, .. } =
                    row.clone();
                lines.push(GatewayLine {
                    label: gateway,
                    states,
                    backlog_recipients,
                    oldest_push_seconds,
                    delivered,
                    timed_out,
                });
            } else {
                other.states[row.state as usize] += 1;
                other.backlog_recipients += row.backlog_recipients;
                other.oldest_push_seconds = other.oldest_push_seconds.max(row.oldest_push_seconds);
            }
        }
        lines.sort_by(|a, b| a.label.cmp(&b.label));
        lines.push(other);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize, delivered: u64) -> GatewayRow {
        GatewayRow {
            gateway: format!("gw-{number:04}").into(),
            state: GatewayState::Open,
            backlog_recipients: 2,
            oldest_push_seconds: number as u64,
            delivered,
            timed_out: 1,
        }
    }

    #[test]
    fn the_page_is_bounded_and_other_never_goes_back() {
        let mut table = GatewayTable::new(2);
        let rows: Vec<_> = (0..GATEWAYS_NAMED + 10).map(|number| row(number, 5)).collect();
        table.replace(1, &rows);
        let lines = table.lines();
        let other = lines.last().unwrap();
        assert_eq!(lines.len(), GATEWAYS_NAMED + 1);
        assert_eq!((&*other.label, other.delivered, other.timed_out, other.backlog_recipients), (OTHER, 50, 10, 20));
        assert_eq!(other.states[GatewayState::Open as usize], 10);

        // Half of the unnamed leave, one of them delivers more: its growth is counted once, the leavers' stays.
        let mut rows = rows[..GATEWAYS_NAMED + 5].to_vec();
        rows[GATEWAYS_NAMED].delivered = 8;
        table.replace(1, &rows);
        let other = table.lines().pop().unwrap();
        assert_eq!((other.delivered, other.backlog_recipients), (53, 10));

        // A named one leaves: its name goes to a newcomer, not to one that was counted as other.
        rows.remove(0);
        rows.push(row(9_000, 1));
        table.replace(1, &rows);
        let lines = table.lines();
        assert_eq!(lines.len(), GATEWAYS_NAMED + 1);
        assert!(lines.iter().any(|line| &*line.label == "gw-9000" && line.delivered == 1));
        assert_eq!(lines.last().unwrap().delivered, 53);
        assert_eq!(table.named, GATEWAYS_NAMED);
    }
}
