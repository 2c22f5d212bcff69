//! What a row of the table of numbers is, and what follows from the rows.
//!
//! Promises that a row is all it takes: the field that the core counts in, the word of the snapshot, the lines of the page
//! and the line of METRICS.md follow from it. Refuses numbers that have no row: a [`Metric`] is made nowhere else.

/// What every name on the page begins with.
pub const PREFIX: &str = "task_engine_";

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, until the process ends.
    Counter,
    /// Up and down.
    Gauge,
    /// How many values fell below each of some bounds, their sum and their count; all only go up.
    Histogram,
    /// Always 1; the labels say something.
    Info,
}

impl Kind {
    /// The word in METRICS.md and, but for an info, in both page formats.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// What a number measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// It counts what its name says.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// The end of each name with this unit; none for a count.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Count => None,
            Self::Seconds => Some("seconds"),
            Self::Bytes => Some("bytes"),
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Metric {
    /// Without [`PREFIX`], and without the ending that samples of its kind have.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub(super) help: &'static str,
    /// The heading that it stands under.
    pub group: &'static str,
}

impl Metric {
    /// What it means, in one sentence.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// The name of its family in OpenMetrics.
    pub fn family(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The name of its samples, by which a query asks; samples of a histogram also have one of its three endings.
    pub fn sample(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{PREFIX}{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.family(),
            Kind::Info => format!("{PREFIX}{}_info", self.name),
        }
    }
}

/// A number of a shard whose only label is the shard.
#[derive(Debug)]
pub struct Scalar<S> {
    /// Its row.
    pub metric: Metric,
    /// Reads it.
    pub read: fn(&S) -> u64,
}

macro_rules! unit {
    () => {
        $crate::telemetry::metrics::Unit::Count
    };
    ($unit:ident) => {
        $crate::telemetry::metrics::Unit::$unit
    };
}

/// Three parts, in the order of the page. `families`: `ROW => Kind "name" [labels] in Unit`, written by whoever has the
/// values. `activity`: `field => "name" in Unit`, counters of [`Push`](crate::push::Push). `shard`: `field => Kind in
/// Unit`, what the pump adds; the field is the name. A text in front of rows is their heading.
macro_rules! metrics {
    (
        families {
            $($group:literal {
                $($(#[doc = $help:literal])+ $row:ident => $kind:ident $name:literal
                    [$($label:literal),*] $(in $unit:ident)?;)+
            })+
        }
        activity $a_group:literal {
            $($(#[doc = $a_help:literal])+ $a:ident => $a_name:literal $(in $a_unit:ident)?;)+
        }
        shard $s_group:literal {
            $($(#[doc = $s_help:literal])+ $s:ident => $s_kind:ident $(in $s_unit:ident)?;)+
        }
    ) => {
        $($(
            #[doc = concat!($($help),+)]
            pub static $row: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                unit: unit!($($unit)?),
                help: concat!($($help),+),
                group: $group,
            };
        )+)+

        /// All rows whose values come from elsewhere than from [`ShardSnapshot`]'s plain numbers.
        static FAMILIES: &[&Metric] = &[$($(&$row,)+)+];

        /// The plain numbers of a shard, in the order of the page.
        pub(super) static SCALARS: &[Scalar<ShardSnapshot>] = &[
            $(Scalar {
                metric: Metric {
                    name: $a_name,
                    kind: Kind::Counter,
                    labels: &["shard"],
                    unit: unit!($($a_unit)?),
                    help: concat!($($a_help),+),
                    group: $a_group,
                },
                read: |snapshot| snapshot.activity.$a,
            },)+
            $(Scalar {
                metric: Metric {
                    name: stringify!($s),
                    kind: Kind::$s_kind,
                    labels: &["shard"],
                    unit: unit!($($s_unit)?),
                    help: concat!($($s_help),+),
                    group: $s_group,
                },
                read: |snapshot| snapshot.$s,
            },)+
        ];

        /// Every row, in the order of METRICS.md.
        pub fn all() -> impl Iterator<Item = &'static Metric> {
            FAMILIES.iter().copied().chain(SCALARS.iter().map(|scalar| &scalar.metric))
        }

        /// What a shard's core has done besides ending events; all only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Activity {
            $($(#[doc = $a_help])+ pub $a: u64,)+
        }

        /// One shard's numbers at one instant. Counters count since the shard started.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct ShardSnapshot {
            /// Arrivals and ends.
            pub counts: Counts,
            /// Times a full lane was met, by lane.
            pub lane_full: [u64; Lane::COUNT],
            /// What else the core has done.
            pub activity: Activity,
            $($(#[doc = $s_help])+ pub $s: u64,)+
        }

        impl ShardSnapshot {
            /// Every number, always in the same order.
            pub(super) fn numbers(&self) -> impl Iterator<Item = &u64> {
                let counts = &self.counts;
                [&counts.events_arrived, &counts.recipients_arrived]
                    .into_iter()
                    .chain(&counts.events_ended)
                    .chain(&counts.recipients_ended)
                    .chain(&counts.unreached_by)
                    .chain(&self.lane_full)
                    .chain([$(&self.activity.$a,)+])
                    .chain([$(&self.$s,)+])
            }

            /// The same, to be written.
            pub(super) fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
                let counts = &mut self.counts;
                [&mut counts.events_arrived, &mut counts.recipients_arrived]
                    .into_iter()
                    .chain(&mut counts.events_ended)
                    .chain(&mut counts.recipients_ended)
                    .chain(&mut counts.unreached_by)
                    .chain(&mut self.lane_full)
                    .chain([$(&mut self.activity.$a,)+])
                    .chain([$(&mut self.$s,)+])
            }
        }

        impl Default for ShardSnapshot {
            fn default() -> Self {
                Self {
                    counts: Counts::default(),
                    lane_full: [0; Lane::COUNT],
                    activity: Activity::default(),
                    $($s: 0,)+
                }
            }
        }
    };
}

pub(super) use metrics;
pub(super) use unit;
