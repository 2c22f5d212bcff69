//! What one seed sets up before its first step: how many shards, which settings, how rough the world is.

use std::time::Duration;

use task_engine::model::ids::ShardId;
use task_engine::model::limits::GROUP_USERS_MAX;
use task_engine::model::priority::{Priority, PriorityRules, Said};
use task_engine::push::inbox::InboxStore;
use task_engine::push::{Push, RecipientRules, Settings, TableBounds, TraceRules};

use super::rng::Rng;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Faults stop, all settles, probes are sent, then the stop.
    Calm,
    /// The stop comes while much is in flight and faults go on for a while; then they end and it drains.
    StopInTheMiddle,
    /// The same, and the drain deadline passes.
    CutOff,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// What may go wrong, so that a shrunken schedule can do without.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault { $($(#[$doc])* $name,)+ }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word of `SIM_OFF`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

faults! {
    /// The engine is killed.
    Kill = "kill",
    /// Events come again although the engine has them.
    Redelivery = "redelivery",
    /// The inbox and the dead letters.
    Keepers = "keepers",
    /// The queues before the threads of members, inbox and dead letters.
    Queues = "queues",
    /// Members and routes.
    Lookups = "lookups",
    /// Gateways and their streams.
    Gateways = "gateways",
    /// What gateways answer.
    Serving = "serving",
    /// Late messages between shards.
    Mesh = "mesh",
    /// Routes that name gateways that nobody ever hears of again.
    Strangers = "strangers",
    /// A store is away for so long that what waits for it is given back.
    Retreat = "retreat",
}

/// What a core lacks so that a bound on waits is passed: it shows that the bound is worth something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// It knows no classes: all wait in the order in which they came.
    NoClasses,
    /// Its lines have shares of a turn that is much larger than its own, so that the best one takes all of it.
    SharesOfALargeTurn,
    /// It takes what it writes to a stream of protocol `group` as answered at once, so that nothing waits for the answer to a notice.
    NoRoundTrips,
    /// The notice of the last message of a session is lost on its way, and answered all the same.
    LastNoticeLost,
    /// Contents count as kept before anybody has seen them.
    UnseenContents,
    /// Who was to get a notice that a newer one replaced is counted twice.
    ConflatedTwice,
}

/// Less than a seed's whole schedule, to find the shortest one that still fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reduction {
    /// At most so many rough steps.
    pub steps: Option<usize>,
    /// At most so many events before the probes.
    pub events: Option<usize>,
    /// Faults that do not happen.
    pub off: Vec<Fault>,
    /// Users stay where they are.
    pub no_moves: bool,
    /// Not less, but another one: many messages come to few sessions whose members get notices.
    pub notices: bool,
    /// What the core lacks.
    pub mutant: Option<Mutant>,
}

/// A seed's set-up.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: u16,
    pub tracked: bool,
    pub members_ttl: Duration,
    pub delivery_timeout: Duration,
    pub max_retry: u32,
    pub retry_interval: Duration,
    /// Steps with faults.
    pub steps: usize,
    pub users: usize,
    pub sessions: usize,
    pub gateways: usize,
    /// 0: nothing ever fails; 4: everything does.
    pub roughness: u64,
    /// How often users move, in thousandths a step.
    pub moves: u64,
    /// Events a step, in thousandths.
    pub rate: u64,
    pub ending: Ending,
    pub inbox: InboxStore,
    /// How often the engine is killed, in thousandths a step at roughness 1.
    pub kills: u64,
    /// Events at most, before the probes.
    pub events: usize,
    pub off: Vec<Fault>,
    /// See [`Reduction::notices`].
    pub is_of_notices: bool,
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// Draws a set-up.
    pub fn draw(rng: &mut Rng, reduction: &Reduction) -> Self {
        let drawn = Self::draw_whole(rng);
        let drawn = if reduction.notices { drawn.of_notices() } else { drawn };
        Self {
            steps: drawn.steps.min(reduction.steps.unwrap_or(usize::MAX)),
            events: reduction.events.unwrap_or(usize::MAX),
            moves: if reduction.no_moves { 0 } else { drawn.moves },
            off: reduction.off.clone(),
            mutant: reduction.mutant,
            ..drawn
        }
    }

    /// The same with many messages in few sessions whose members get notices; in every other one nothing fails and nobody moves.
    fn of_notices(self) -> Self {
        let is_still = self.steps.is_multiple_of(2);
        Self {
            is_of_notices: true,
            users: self.users.max(12),
            sessions: 1 + self.sessions % 2,
            rate: 4_000,
            inbox: if self.inbox == InboxStore::Off { InboxStore::Offline } else { self.inbox },
            roughness: if is_still { 0 } else { self.roughness },
            moves: if is_still { 0 } else { self.moves },
            // Long steps of the world are no reason to end anything there.
            delivery_timeout: if is_still { Duration::from_secs(30) } else { self.delivery_timeout },
            ..self
        }
    }

    /// Whether nothing fails and nobody moves.
    pub fn is_still(&self) -> bool {
        self.roughness == 0 && self.moves == 0
    }

    /// Whether anyone gets rows.
    pub fn inbox_is_on(&self) -> bool {
        self.inbox != InboxStore::Off
    }

    /// Whether everyone does.
    pub fn stores_all(&self) -> bool {
        self.inbox == InboxStore::All
    }

    fn draw_whole(rng: &mut Rng) -> Self {
        let millis = |rng: &mut Rng, of: &[u64]| Duration::from_millis(rng.pick(of));
        let users = rng.pick(&[2, 5, 12, 40, 120]);
        Self {
            shards: rng.pick(&[1, 1, 2, 2, 3, 4]),
            tracked: rng.chance(600),
            members_ttl: millis(rng, &[0, 0, 100, 1_000]),
            delivery_timeout: millis(rng, &[200, 500, 1_000, 3_000]),
            max_retry: rng.below(4) as u32,
            retry_interval: millis(rng, &[0, 20, 200]),
            steps: 80 + rng.below(160),
            users,
            sessions: 1 + rng.below(6),
            gateways: 1 + rng.below(5),
            roughness: rng.pick(&[0, 1, 1, 2, 2, 4]),
            moves: rng.pick(&[0, 30, 150, 500]),
            rate: rng.pick(&[200, 600, 1500]),
            ending: rng.pick(&[Ending::Calm, Ending::Calm, Ending::Calm, Ending::StopInTheMiddle, Ending::CutOff]),
            inbox: rng.pick(&[InboxStore::Off, InboxStore::Offline, InboxStore::Offline, InboxStore::All]),
            kills: rng.pick(&[0, 0, 2, 8]),
            events: usize::MAX,
            off: Vec::new(),
            is_of_notices: false,
            mutant: None,
        }
    }

    /// Some sources let so few events out that gateways which do not move meet what they may hold.
    pub fn events_window(&self) -> usize {
        if self.steps.is_multiple_of(3) { 8 + self.steps % 56 } else { usize::MAX }
    }

    /// In some worlds whoever could not be reached in a session of more members reads a message by its content.
    pub fn rows_up_to(&self) -> usize {
        let up_to = [0, 0, 1, 3][self.steps / 11 % 4];
        if self.is_of_notices { up_to.max(1) } else { up_to }
    }

    /// In some of those, members of sessions of more members get notices where their gateway understands them.
    pub fn notice_above(&self) -> usize {
        let has_contents = self.rows_up_to() > 0 && self.inbox_is_on();
        let above = [1, 1, 3, 0][self.steps / 17 % 4];
        match has_contents {
            true if self.is_of_notices => above.max(1),
            true => above,
            false => 0,
        }
    }

    /// In some worlds users have up to so many devices, each at a gateway of its own.
    pub fn devices(&self) -> usize {
        [1, 1, 2, 4][self.steps / 13 % 4]
    }

    /// In some worlds the sender is pushed its own message.
    pub fn echoes(&self) -> bool {
        self.steps % 9 == 2
    }

    /// In some worlds events are told of, and the traces that publishers record go on to gateways.
    pub fn traces(&self) -> bool {
        self.steps % 7 == 3
    }

    /// In some of those where all get rows the sender does.
    pub fn has_sender_rows(&self) -> bool {
        self.steps % 5 == 1
    }

    /// How long an event waits for the first member of its session.
    pub fn empty_wait(&self) -> Duration {
        Duration::from_millis([0, 100, 1_000, 3_000][self.steps / 7 % 4])
    }

    /// In some worlds the inbox and the dead letters fail as a whole, for one while and in words that nobody knows, and refuse
    /// nothing else but the rows of [`is_bad_owner`](Self::is_bad_owner): then no other row or letter may be given up.
    pub fn keepers_fail_whole(&self) -> bool {
        self.steps.is_multiple_of(2)
    }

    /// Whose rows the inbox never takes, however often and with whom it is asked.
    pub fn is_bad_owner(&self, user: usize) -> bool {
        self.steps.is_multiple_of(4) && user == 0
    }

    /// In some worlds a letter that is refused is lost at once, as where nobody keeps its event.
    pub fn letters_are_final(&self) -> bool {
        self.steps % 4 == 1
    }

    /// In some worlds large groups are those of more than a quarter of all users.
    pub fn group_users_max(&self) -> usize {
        if (self.steps / 3).is_multiple_of(2) { (self.users / 4).max(2) } else { GROUP_USERS_MAX }
    }

    /// In some worlds the address of a gateway that is not listed is used for a while, in some always, in some never.
    pub fn registry_forget_after(&self) -> Duration {
        [Duration::from_millis(300), Duration::ZERO, Duration::from_secs(300)][self.steps / 5 % 3]
    }

    /// Hardly more places than there are gateways, and none for one that is idle: strangers come, and go for the next.
    pub fn gateway_table(&self) -> TableBounds {
        let unlisted = self.gateways + self.steps % 3;
        TableBounds { unlisted, forget_after: Duration::from_millis(400), forget_soon: Duration::from_millis(40) }
    }

    /// In some worlds events have classes.
    pub fn has_classes(&self) -> bool {
        self.steps % 5 < 2
    }

    /// In some worlds partitions come here from other instances.
    pub fn has_comings(&self) -> bool {
        self.steps % 4 == 1
    }

    /// How events get them.
    pub fn priorities(&self) -> PriorityRules {
        if !self.has_classes() {
            return PriorityRules::default();
        }
        let types = [("typing", Priority::Fleeting), ("recall", Priority::Urgent), ("edit", Priority::Bulk)];
        PriorityRules {
            header: "Priority".into(),
            types: types.map(|(kind, class)| (kind.to_owned(), class)).into(),
            members_above: vec![((self.users / 3) as u32, Priority::Bulk)],
            has_urgent_topic: false,
            default: Priority::Normal,
            fleeting_ttl: if self.steps.is_multiple_of(2) { Duration::from_millis(300) } else { Duration::ZERO },
            stream_target: Duration::from_millis([0, 1, 5, 40][self.steps / 7 % 4]),
        }
    }

    /// What the publisher of the event with this number says of its class.
    pub fn said(&self, number: usize) -> Said {
        let said = [Said::Class(Priority::Urgent), Said::Class(Priority::Bulk), Said::Class(Priority::Fleeting)];
        match number * 7 % 12 {
            _ if !self.has_classes() => Said::Nothing,
            which @ 0..=2 => said[which],
            3 => Said::Unknown,
            4 | 5 => Said::Class(Priority::Fleeting),
            _ => Said::Nothing,
        }
    }

    /// Recipients of a turn: in worlds with classes so few that there is something to share.
    pub fn turn_recipients(&self) -> usize {
        if self.has_classes() { [3, 26, 130, 16 * 1024][self.steps / 10 % 4] } else { 16 * 1024 }
    }

    /// The core of one shard.
    pub fn push(&self, shard: u16) -> Push {
        let rules = RecipientRules {
            rows_up_to: self.rows_up_to(),
            notice_above: self.notice_above(),
            sender_row: self.has_sender_rows(),
            echo_sender: self.echoes(),
        };
        let told = TraceRules { slow_after: Duration::from_secs(1), spans_per_second: 50 };
        let push = Push::new(self.settings(shard))
            .with_final_letters(self.letters_are_final())
            .with_recipient_rules(rules)
            .with_recorder(true)
            .with_traces(self.traces().then_some(told))
            .with_push_latency(self.traces());
        match self.mutant {
            Some(Mutant::NoClasses) => push.with_turn_recipients(self.turn_recipients()),
            Some(Mutant::SharesOfALargeTurn) => {
                push.with_priorities(self.priorities()).with_turn_recipients(self.turn_recipients())
            }
            _ => push.with_turn_recipients(self.turn_recipients()).with_priorities(self.priorities()),
        }
    }

    /// What the core of one shard is given.
    pub fn settings(&self, shard: u16) -> Settings {
        Settings {
            shard: ShardId(shard),
            shards: self.shards,
            events_window: self.events_window(),
            group_users_max: self.group_users_max(),
            members_ttl: self.members_ttl,
            empty_wait: self.empty_wait(),
            caches_routes: self.tracked,
            delivery_timeout: self.delivery_timeout,
            registry_forget_after: self.registry_forget_after(),
            gateway_table: self.gateway_table(),
            // A row that was asked for with a bad one has failed once before the store does.
            max_retry: if self.keepers_fail_whole() { self.max_retry.max(1) } else { self.max_retry },
            retry_interval: self.retry_interval,
            inbox: self.inbox,
        }
    }
}
