//! The closed lists of ends: of a recipient, of an event, and of what was refused before it became one.
//! They are also the metric labels, so a counter cannot exist without its meaning written here.

macro_rules! labelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of the metric page.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many variants there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label on the metric page and in logs.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

pub(super) use labelled;

labelled! {
    /// How one recipient of one event ended. Each recipient has exactly one end.
    RecipientOutcome {
        /// The gateway answered for it without an error.
        Delivered = "delivered",
        /// In its stead the gateway answered for a notice, which names a sequence that is not below the message's; the content is kept.
        Noticed = "noticed",
        /// A newer event's notice took the place of the one about it before that was sent; the content is kept, and whether the
        /// recipient was told is the end of that event.
        Conflated = "conflated",
        /// It is the sender, and is not pushed to, or with `consumer.echo_sender` could not be reached.
        SkippedSender = "skipped_sender",
        /// It has no route: not connected anywhere.
        Offline = "offline",
        /// The gateway said twice that the user is not connected, the route asked again in between.
        NotConnected = "not_connected",
        /// The gateway answered with any other error for this user.
        Refused = "refused",
        /// The gateway stayed unknown, unreachable, or silent past `gateway.delivery_timeout`.
        TimedOut = "timed_out",
        /// The gateway's stream broke several times in a row at this event, sent alone, without an answer to it.
        BrokeStream = "broke_stream",
        /// The gateway's outbox was full and not moving.
        OutboxFull = "outbox_full",
        /// It is of class bulk, and bulk had half of what its gateway or the shard may have.
        Yielded = "yielded",
        /// It is of class fleeting, and there was no room for it, or it was late: it is in no store.
        Shed = "shed",
        /// The route in Redis is not one (no JSON, no gateway_id): treated as offline.
        BadRoute = "bad_route",
        /// The route names a gateway for which the shard has no place, as it knows too many: treated as offline.
        GatewayTableFull = "gateway_table_full",
        /// The frame would be over the gateway's message size limit.
        TooLarge = "too_large",
        /// It could not be reached, and its row is committed in the inbox; `unreached` says why it could not.
        Stored = "stored",
        /// It could not be reached, is in a session of more than `inbox.rows_up_to` members, and the message's content is kept: it is
        /// found there by session and sequence; `unreached` says why it could not.
        Readable = "readable",
        /// It could not be reached, another message holds its place in the inbox, and the dead letters say so.
        InboxConflict = "inbox_conflict",
        /// It could not be reached, the inbox refused its row (and took others), and the dead letters say so.
        InboxRejected = "inbox_rejected",
        /// It could not be reached, the inbox did not take it and the dead letters refused it: it is in no store.
        DeadLetterLost = "dead_letter_lost",
        /// It waited for a store that was away for too long, and its event comes again: here or at another instance.
        GivenBack = "given_back",
        /// The stop ended before the gateway answered or the inbox had its row.
        CutByStop = "cut_by_stop",
    }
}

labelled! {
    /// How one event ended. Each arrival has exactly one end.
    EventOutcome {
        /// Each of its recipients has its end.
        Settled = "settled",
        /// It is of class fleeting, and there was no room for it, or it was late: nobody was pushed and nothing is stored.
        Shed = "shed",
        /// The same session and message were taken before: settled with the first one, or at once when that has its end.
        Repeat = "repeat",
        /// The session had no members for `members.empty_wait`, and the event is in the dead letters.
        NoMembers = "no_members",
        /// The payload is no PushEvent.
        Undecodable = "undecodable",
        /// session_id is empty.
        NoSessionId = "no_session_id",
        /// session_id is over 64 characters.
        LongSessionId = "long_session_id",
        /// The payload is over the message size limit.
        TooLarge = "too_large",
        /// The lookup of its members, and not that of others, failed more than `consumer.max_retry` times.
        LookupFailed = "lookup_failed",
        /// It could never succeed, and the dead letters refused it: it is in no store.
        DeadLetterLost = "dead_letter_lost",
        /// A store that it waited for was away for too long: its broker is to deliver it to an instance that can work.
        GivenBack = "given_back",
        /// The stop ended before its lookups or its recipients did.
        CutByStop = "cut_by_stop",
    }
}

labelled! {
    /// Why the partitioner could not move an event to its partition: the reason of its dead letter.
    NotMoved {
        /// It is no PushEvent, or its session_id is empty: no partition follows from it.
        Unpartitionable = "unpartitionable",
        /// It is over what the server or the partitioned stream takes, or the stream refused it more than `consumer.max_retry`
        /// times while it took others.
        NotTaken = "not_taken",
    }
}

labelled! {
    /// Why a route's list of gateways is not taken as it stands: the reason of the warning.
    RouteFault {
        /// It names nobody: the route's gateway_id is taken.
        Empty = "route_list_empty",
        /// It is no list.
        NoList = "route_list_is_none",
        /// It names what is no id of a gateway: that is left out.
        NoId = "route_list_names_no_id",
        /// It names a gateway twice: that counts once.
        Repeated = "route_list_repeats",
        /// It is longer than [`ROUTE_GATEWAYS_MAX`](crate::model::limits::ROUTE_GATEWAYS_MAX): the first of it are taken.
        TooLong = "route_list_too_long",
    }
}

labelled! {
    /// The mesh lanes and other queues whose full state is a decision.
    Lane {
        /// Bundles from a home shard to an owner shard.
        Bundles = "bundles",
        /// Results from an owner shard back to the home shard.
        Results = "results",
    }
}

impl RecipientOutcome {
    /// Whether a gateway told the recipient.
    pub const fn is_reached(self) -> bool {
        matches!(self, Self::Delivered | Self::Noticed)
    }

    /// Whether the recipient could not be reached.
    pub const fn is_unreached(self) -> bool {
        !matches!(
            self,
            Self::Delivered | Self::Noticed | Self::Conflated | Self::Stored | Self::Readable | Self::SkippedSender
        )
    }

    /// Whether that is a failure of this engine, of a gateway or of a route: the recipient was connected, and its event does not
    /// come again.
    pub const fn is_failure(self) -> bool {
        self.is_unreached() && !matches!(self, Self::Offline | Self::GivenBack | Self::CutByStop)
    }
}

/// What the core tells about ends, as plain counters; the meter publishes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Events taken by this shard.
    pub events_arrived: u64,
    /// Events by end.
    pub events_ended: [u64; EventOutcome::COUNT],
    /// Recipients of all bundled events (members at that time, the sender included).
    pub recipients_arrived: u64,
    /// Recipients by end.
    pub recipients_ended: [u64; RecipientOutcome::COUNT],
    /// Why they could not be reached, counted when they end, for those that end as unreached, stored, or in the dead
    /// letters; not for `given_back` and `cut_by_stop`.
    pub unreached_by: [u64; RecipientOutcome::COUNT],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            events_arrived: 0,
            events_ended: [0; EventOutcome::COUNT],
            recipients_arrived: 0,
            recipients_ended: [0; RecipientOutcome::COUNT],
            unreached_by: [0; RecipientOutcome::COUNT],
        }
    }
}
