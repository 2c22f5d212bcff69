//! What a seed does to the world, and the mutants.

use crate::rng::Rng;
use crate::world::{MILLI, SECOND};

/// Something that fails, or that an operator does. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9.
    Kill,
    /// SIGSTOP for so long.
    Pause(u64),
    /// SIGTERM.
    Stop,
    /// An instance is drained, or no longer.
    Drain,
    /// One instance cannot reach etcd.
    CutEtcd(u64),
    /// One instance cannot reach NATS.
    CutNats(u64),
    /// One instance can reach neither.
    CutBoth(u64),
    /// etcd is away for all, and is started again: all leases have their full time.
    EtcdAway(u64),
    /// A watch ends.
    CutWatch,
    /// etcd ends a lease that is kept alive, and for a moment answers its keepalives well.
    Revoke(u64),
    /// etcd is emptied.
    Wipe,
    /// etcd is put back to what it was so long ago.
    Restore(u64),
    /// A person deletes a consumer.
    Delete,
    /// The cluster splits: one instance, with its server and its etcd, is in the minority.
    Split(u64),
    /// The gateways of one instance read late.
    SlowGateway(u64),
    /// A second process with the name of a running one, on another host.
    Namesake,
}

/// A part of the design that is left out, to see that the oracle notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// X = 0.
    NoFenceWait,
    /// M = 0.
    NoMargin,
    /// Every close counts as clean, and who opens does not look whether anything is pending.
    NoCloseCheck,
    /// Each generation has the same consumer name.
    SameName,
    /// F is what INFO says, without the record's start.
    FloorWithoutStart,
    /// A proof without a confirmed publish.
    ProofByInfoOnly,
    /// Records do not say which write made them.
    NoNonce,
    /// T3 compares only the owner.
    FenceWithoutCompare,
    /// T2 or T2' without an answer counts as one that wrote nothing.
    DelayedReleaseUnguarded,
    /// What is settled above the floor is not in the records.
    SettledNotCarried,
}

impl Mutant {
    /// All.
    pub const ALL: [Self; 10] = [
        Self::NoFenceWait,
        Self::NoMargin,
        Self::NoCloseCheck,
        Self::SameName,
        Self::FloorWithoutStart,
        Self::ProofByInfoOnly,
        Self::NoNonce,
        Self::FenceWithoutCompare,
        Self::DelayedReleaseUnguarded,
        Self::SettledNotCarried,
    ];
}

/// Kinds of schedules. What is in one of them may happen together; two that make a double fault, which the design does not promise to
/// stand, are in no theme together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Restarts and drains, nothing fails.
    Rolling,
    /// Instances die or stand still.
    Crashes,
    /// Answers of etcd are lost or late, and it goes away.
    Etcd,
    /// etcd revokes leases early and lies.
    Revokes,
    /// Deliveries, answers and links of NATS are lost; a person deletes consumers; requests arrive late.
    Nats,
    /// A cluster splits.
    Split,
    /// etcd is emptied.
    Wipe,
    /// etcd is put back to an earlier state; played by a test of its own.
    Restored,
    /// Links are cut, gateways read late.
    Links,
    /// Most of it.
    Mixed,
    /// Instances are cut from etcd while requests to NATS arrive late.
    Late,
    /// Partitions move while deliveries are lost.
    Moves,
}

impl Theme {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Rolling,
        Self::Crashes,
        Self::Etcd,
        Self::Revokes,
        Self::Nats,
        Self::Split,
        Self::Wipe,
        Self::Links,
        Self::Mixed,
        Self::Late,
        Self::Moves,
    ];
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many there are.
    pub instances: usize,
    /// How many there are.
    pub partitions: u32,
    /// How many there are.
    pub sessions: usize,
    /// When faults end.
    pub calm_at: u64,
    /// What fails, and when.
    pub faults: Vec<(u64, Fault)>,
    /// Clocks run up to a hundredth fast or slow.
    pub clocks_differ: bool,
    /// Watches are late now and then.
    pub slow_watch: bool,
    /// Transactions are lost, late, or done without an answer.
    pub etcd_trouble: bool,
    /// Answers of NATS are lost.
    pub nats_trouble: bool,
    /// Deliveries are lost although nothing was disconnected.
    pub loses_deliveries: bool,
    /// Requests to make a consumer arrive late.
    pub delays_creates: bool,
    /// Some pushes take seconds.
    pub slow_sessions: bool,
    /// etcd may be emptied or put back.
    pub wipes: bool,
    /// It may be put back, so that its states are kept.
    pub restores: bool,
    /// What is left out.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// Of a seed; `theme` and `mutant` when they are given.
    pub fn new(rng: &mut Rng, theme: Option<Theme>, mutant: Option<Mutant>) -> Self {
        let theme = theme.unwrap_or_else(|| rng.pick(&Theme::ALL));
        let calm_at = 40 * SECOND;
        let many = if theme == Theme::Moves { 20 } else { rng.within(2, 9) };
        let kinds = kinds(theme);
        let faults = (0..many).map(|_| {
            let at = rng.within(4_000, 38_000) * MILLI;
            (at, sized(rng.pick(kinds), rng))
        });
        let faults = faults.collect();
        let is = |themes: &[Theme]| themes.contains(&theme);
        Self {
            instances: if is(&[Theme::Rolling, Theme::Mixed]) {
                rng.within(1, 4) as usize
            } else {
                rng.within(2, 4) as usize
            },
            partitions: rng.within(2, 7) as u32,
            sessions: 12,
            calm_at,
            faults,
            clocks_differ: rng.chance(500),
            slow_watch: rng.chance(400) && !is(&[Theme::Wipe, Theme::Restored]),
            etcd_trouble: is(&[Theme::Etcd]) || (is(&[Theme::Mixed]) && rng.chance(600)),
            nats_trouble: is(&[Theme::Nats, Theme::Mixed]),
            loses_deliveries: is(&[Theme::Nats, Theme::Moves]) || (is(&[Theme::Mixed]) && rng.chance(500)),
            delays_creates: is(&[Theme::Nats, Theme::Late]) || (is(&[Theme::Mixed]) && rng.chance(500)),
            slow_sessions: rng.chance(500),
            wipes: is(&[Theme::Wipe, Theme::Restored]),
            restores: is(&[Theme::Restored]),
            mutant,
        }
    }
}

fn kinds(theme: Theme) -> &'static [Fault] {
    use Fault::{
        CutBoth, CutEtcd, CutNats, CutWatch, Delete, Drain, EtcdAway, Kill, Namesake, Pause, Restore, Revoke,
        SlowGateway, Split, Stop, Wipe,
    };
    match theme {
        Theme::Rolling => &[Stop, Stop, Drain, Drain, CutWatch],
        Theme::Crashes => &[Kill, Kill, Pause(0), Stop, SlowGateway(0), Namesake],
        Theme::Etcd => &[Stop, Drain, Drain, CutEtcd(0), EtcdAway(0), CutWatch],
        Theme::Revokes => &[Revoke(0), Revoke(0), Stop],
        Theme::Nats => &[CutNats(0), Delete, Kill, Stop, CutEtcd(0)],
        Theme::Split => &[Split(0), Split(0), Kill],
        Theme::Wipe => &[Wipe, Stop, Drain],
        Theme::Restored => &[Restore(0), Restore(0), Stop, Drain, Kill],
        Theme::Links => &[CutBoth(0), CutBoth(0), CutEtcd(0), CutNats(0), SlowGateway(0), SlowGateway(0)],
        Theme::Late => &[CutEtcd(0), CutEtcd(0), Kill],
        Theme::Moves => &[Stop, Drain, Drain],
        Theme::Mixed => {
            &[Kill, Pause(0), Stop, Drain, CutEtcd(0), CutNats(0), CutBoth(0), Delete, CutWatch, EtcdAway(0)]
        }
    }
}

fn sized(fault: Fault, rng: &mut Rng) -> Fault {
    match fault {
        Fault::Pause(_) => Fault::Pause(rng.pick(&[1_500, 2_900, 3_500, 4_600, 5_500, 7_000, 12_000])),
        Fault::CutEtcd(_) => Fault::CutEtcd(rng.within(500, 14_000)),
        Fault::CutNats(_) => Fault::CutNats(rng.within(300, 12_000)),
        Fault::CutBoth(_) => Fault::CutBoth(rng.within(2_000, 14_000)),
        Fault::EtcdAway(_) => Fault::EtcdAway(rng.within(500, 12_000)),
        // A lie that lasts longer than the fence is a double fault.
        Fault::Revoke(_) => Fault::Revoke(rng.pick(&[0, 0, 300, 900])),
        Fault::Restore(_) => Fault::Restore(rng.within(100, 9_000)),
        Fault::Split(_) => Fault::Split(rng.within(4_000, 14_000)),
        Fault::SlowGateway(_) => Fault::SlowGateway(rng.within(2_000, 10_000)),
        other => other,
    }
}
