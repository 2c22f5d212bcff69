//! The bounds that several modules share, or that must stand in a certain relation to each other. The relations are asserted at compile
//! time.
//!
//! A bound that one module alone needs stands in that module. Each queue, cache and table has a bound in one of the two places.

use std::time::Duration;

use crate::model::backoff::Backoff;

/// Characters in a session id or username: the width of the MySQL columns.
pub const NAME_CHARS_MAX: usize = 64;
/// The same in bytes of utf8mb4.
pub const NAME_BYTES_MAX: usize = NAME_CHARS_MAX * 4;
/// gRPC's default limit for a received message, which today's gateways have.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of names in one group: with the largest event around it, a PushRequest still fits a gRPC message.
pub const GROUP_WIRE_BYTES_MAX: usize = 64 * 1024;
/// Users of one group; a larger one is cut into parts, so that pushes of other sessions can go between them.
pub const GROUP_USERS_MAX: usize = 256;
/// The same on a gateway that was told a list of users (protocol `group`), where a part costs one push instead of its users' names.
pub const LISTED_USERS_MAX: usize = 4 * GROUP_USERS_MAX;
/// The largest event: with a group's names and the batch's heads around it, it still fits a gRPC message.
pub const EVENT_BYTES_MAX: usize = GRPC_MESSAGE_BYTES_MAX - 128 * 1024;

/// Events that wait in the lane from a reader thread to a shard.
pub const INTAKE_LANE_EVENTS: usize = 16 * 1024;
/// Events that a reader of core NATS holds for full lanes, and their bytes; beyond either it reads nothing until the shards
/// have taken some. It bridges a pause of the shards, which the server bridges for some 10 s more.
pub const NATS_PENDING_MESSAGES: usize = 512 * 1024;
/// See [`NATS_PENDING_MESSAGES`].
pub const NATS_PENDING_BYTES: usize = 64 << 20;
/// Events that one reader has asked JetStream for and that have not come.
pub const JETSTREAM_ASKED_EVENTS: u32 = 16 * 1024;
/// Bytes of events in one JetStream pull (of which up to four overlap): what large events may take while they wait.
pub const JETSTREAM_PULL_BYTES: usize = 32 << 20;
/// Events of one partition that may be out at the least, however small `consumer.max_ack_pending` is.
pub const JETSTREAM_PARTITION_WINDOW_MIN: u32 = 16;
/// Events that the partitioner holds: those under way, and what waits behind them in its session. One session whose events
/// come faster than one a round trip fills it, and then the others wait too.
pub const PARTITIONER_WINDOW: u32 = 16 * 1024;
/// Events a shard takes from its lane in one turn.
pub const TURN_EVENTS_MAX: usize = 512;
/// Events whose memory is asked for before the first of them is taken: what they need together must fit the nearest cache.
pub const PREFETCH_EVENTS_MAX: usize = 8;

/// Recipients bundled in one turn, past which the other events wait for the next turn: what keeps a turn short. One
/// event is bundled whole, however many it has.
pub const TURN_RECIPIENTS_MAX: usize = 16 * 1024;
/// The parts of a turn's recipients that urgent, normal, and bulk with fleeting events have while all of them wait.
pub const TURN_PARTS: [usize; 3] = [8, 4, 1];
/// Names of answered member lists that one turn makes known; the rest waits for the next turn.
pub const TURN_NAMES_MAX: usize = 4 * 1024;
/// Bytes of frames that one turn writes, past which the other gateways wait for the next turn.
pub const TURN_FRAME_BYTES_MAX: usize = 2 << 20;

/// Events in flight on one shard: past it the shard takes no more.
pub const EVENTS_IN_FLIGHT_MAX: usize = 64 * 1024;
/// Recipients in flight on one shard, past bundling: past it the shard takes no more events.
pub const RECIPIENTS_IN_FLIGHT_MAX: usize = 256 * 1024;
/// Payload bytes of the events in flight on one shard: past it the shard takes no more.
pub const PAYLOAD_BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// Where there are classes: the part of what a shard or an outbox may hold that only urgent events may use.
pub const URGENT_RESERVE_PART: usize = 16;
/// Bulk and fleeting events yield at this part of what a shard, a gateway's share or an outbox may hold.
pub const BULK_YIELDS_PART: usize = 2;

/// Recipients that wait for one gateway (queued and unanswered) before it must show that it moves.
pub const OUTBOX_RECIPIENTS_SOFT: usize = 64 * 1024;
/// Recipients that wait for one gateway at the most, moving or not.
pub const OUTBOX_RECIPIENTS_MAX: usize = 192 * 1024;
/// Payload bytes that wait for one gateway before it must show that it moves.
pub const OUTBOX_BYTES_SOFT: usize = 16 << 20;
/// A gateway whose oldest unanswered push is younger than this moves.
pub const OUTBOX_MOVING_WITHIN: Duration = Duration::from_secs(1);

// What gateways that do not move may hold of one home shard, as parts of what the shard may have in flight (its capacity: the
// bounds above, and for events the source's window if that is smaller). At the capacity intake pauses, and whoever waits for
// a healthy gateway waits with all others; so those that do not move must never fill it, one alone or many together.
// How long "does not move" takes to show matters as much: in GATEWAY_QUIET_AFTER, an eighth of a million events per second
// for one gateway that hangs fill half of the capacity, and from there on it gets no more than a small share.

/// A gateway that has answered nothing for this long, though it was sent something, is quiet.
pub const GATEWAY_QUIET_AFTER: Duration = Duration::from_millis(250);
/// While the shard is half full, a quiet gateway may hold this part of the events, and of recipients and bytes what all
/// silent ones may; one that moves has no bound but the shard's.
pub const QUIET_GATEWAY_PART: usize = 64;
/// A gateway that has answered nothing for [`OUTBOX_MOVING_WITHIN`] is silent: it may hold this part of the events.
pub const SILENT_GATEWAY_PART: usize = 8;
/// All silent gateways together may hold this part of events, recipients and bytes.
pub const SILENT_GATEWAYS_PART: usize = 4;
/// What a silent gateway may hold, whatever the other silent ones do, while the shard has that last part free.
pub const SILENT_GATEWAY_FLOOR_PART: usize = 1024;
/// All gateways that answer, but what is older than [`OUTBOX_MOVING_WITHIN`], together with the silent ones, may hold this
/// part while any gateway is prompt; while none is, the whole engine is behind, and pausing intake is right.
pub const LATE_GATEWAYS_PART: usize = 2;
/// An answer within this is prompt.
pub const GATEWAY_PROMPT_WITHIN: Duration = Duration::from_millis(250);
/// For how long one prompt answer says that some gateway is prompt.
pub const SOMEONE_IS_PROMPT_WITHIN: Duration = Duration::from_millis(500);

/// Parts of large groups that are on a gateway's stream without an answer while smaller groups are pushed over it too: what
/// a small one finds before it. With an answer after 5 ms still 100,000 recipients per second.
pub const PARTS_UNANSWERED_MAX: usize = 2;
/// A small group was pushed so lately: more are coming.
pub const SMALL_GROUPS_WITHIN: Duration = Duration::from_secs(1);
/// For how long a part of a large group lets small ones that came later go before it; at most this part of the delivery
/// timeout.
pub const PARTS_GIVE_WAY: Duration = Duration::from_millis(250);
/// See [`PARTS_GIVE_WAY`].
pub const PARTS_GIVE_WAY_PART: u32 = 4;
/// Small groups that one which comes later passes by to find parts to overtake.
pub const SMALL_BETWEEN_PARTS_MAX: usize = 16;
/// Recipients of urgent bundles that pass others in an outbox before these get their part of what is written.
pub const URGENT_PASS_FREELY: usize = 64;
/// Bundles of its own session that an urgent one takes along when it passes others in an outbox. Of more it waits behind the last,
pub const URGENT_BRINGS_MAX: usize = 16;
/// and when they stand behind more bundles than this;
pub const URGENT_LOOKED_AT: usize = 2048;
/// then it passes so many bundles of other sessions.
pub const URGENT_PASSES_MAX: usize = 64;
/// How old a bundle is that it does not pass then; at most [`URGENT_PASSES_WITHIN_PART`] of the delivery timeout.
pub const URGENT_PASSES_WITHIN: Duration = Duration::from_millis(250);
/// See [`URGENT_PASSES_WITHIN`].
pub const URGENT_PASSES_WITHIN_PART: u32 = 4;
/// Encoded bytes handed to a connection and not yet taken by HTTP/2.
pub const STREAM_UNSENT_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one encoded chunk (one hand-over to the connection); one frame may be larger.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// Bytes of one PushBatch frame before the next one is begun.
pub const BATCH_FRAME_BYTES: usize = 64 * 1024;
/// Users of one group below which a gateway of protocol `group` is told their names each time: a list is not worth it.
pub const GROUP_USERS_MIN: usize = 8;
/// Users in all lists that one gateway is told at the most, however many it keeps: their names stay in memory here as well.
pub const GROUP_MEMBERS_KEPT_MAX: usize = 256 * 1024;
/// Lists of a session to which nothing was pushed for this long are forgotten when there is something else to write.
pub const GROUPS_FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// How often a gateway may say of one push that it does not know the list that came with it, before it is told no more lists.
pub const UNKNOWN_LISTS_MAX: u8 = 3;
/// How often a stream may break at one push, sent alone, before that push ends without an answer and the rest goes on.
pub const BREAKS_AT_ONE_PUSH_MAX: u8 = 3;
/// A gateway whose streams break although it answers is left alone for growing pauses until none broke for this long,
pub const BREAKS_FORGOTTEN: Duration = Duration::from_secs(2);
/// and one that answered what does not fit, until it did not for this long.
pub const MISFITS_FORGOTTEN: Duration = Duration::from_secs(10);
/// Pushes without an answer up to which a gateway whose stream broke without any is sent more only as it answers.
pub const PROBE_WINDOW_MAX: usize = 1024;
/// Unary calls open at once on one gateway; those of two events of a session never are.
pub const UNARY_CALLS_MAX: usize = 64;
/// Of those, calls about parts of large groups; fewer while small groups come ([`PARTS_UNANSWERED_MAX`]).
pub const UNARY_PART_CALLS_MAX: usize = 32;
/// Pushes, from the front of a unary gateway's queue, among which those to call now are looked for: more than there are parts
/// of full size in a full outbox.
pub const UNARY_CALLS_LOOKED_AT: usize = 1024;
const _: () = assert!(UNARY_CALLS_LOOKED_AT > OUTBOX_RECIPIENTS_MAX / GROUP_USERS_MAX);

/// Sessions kept by one shard; the one longest unused goes first.
pub const SESSIONS_MAX: usize = 256 * 1024;
/// Member places kept by one shard over all sessions.
pub const MEMBER_PLACES_MAX: usize = 16 << 20;
/// Bytes of groups that one shard keeps ready for its sessions; those of the sessions longest unused go first. What
/// is in flight keeps its groups beside that.
pub const LAYOUT_BYTES_MAX: usize = 32 << 20;
/// Sessions looked at for room when one more is grouped.
pub const LAYOUTS_LOOKED_AT: usize = 16;
/// Route changes remembered one by one, so that a session can tell that none of them is about its members.
pub const ROUTE_CHANGES_KEPT: usize = 1024;
/// Replaced member lists that one session keeps for its events in flight; at the bound its next events wait until none
/// is in flight.
pub const RETIRED_LISTS_MAX: usize = 64;
/// Sessions of one shard whose member lists are read again ahead of their urgent events.
pub const RENEWED_SESSIONS_MAX: usize = 1024;
/// For how many lifetimes of a list (`members.cache_ttl`) after an urgent event.
pub const RENEWED_FOR: u32 = 10;
/// Sessions in one member query.
pub const MEMBER_QUERY_SESSIONS: usize = 256;
/// Member queries of one shard under way at once, of sets and of single sessions that were never suspected.
pub const MEMBER_QUERIES_IN_FLIGHT: usize = 4;
/// Members of a session that is asked for alone, on the threads of those that may take their time: it must not hold up others.
pub const MEMBER_LARGE: usize = 2048;
/// Such sessions of one shard under way at once.
pub const MEMBER_LARGE_IN_FLIGHT: usize = 2;
/// Single sessions of one shard under way at once out of a set that failed; on threads of their own.
pub const MEMBER_SINGLES_IN_FLIGHT: usize = 7;
/// Keys in one MGET: more would hold up Redis's other clients.
pub const MGET_KEYS: usize = 512;
/// MGETs of one shard under way at once.
pub const MGETS_IN_FLIGHT: usize = 16;

/// Gateways of one user: what a route names beyond them is not pushed to.
pub const ROUTE_GATEWAYS_MAX: usize = 16;
/// Different sets of gateways that the users of one shard are at. Users beyond are pushed at their newest gateway only.
pub const GATEWAY_SETS_MAX: usize = 256 * 1024;
/// How often it is looked which of them nobody is at any more, while there is no room for another.
pub const GATEWAY_SETS_SWEPT: Duration = Duration::from_secs(10);

/// Gateways that the registry may list; and gateways that one shard knows from routes only: a route to one more ends as
/// `gateway_table_full`. A listed one always finds a place, for a shard has twice as many.
pub const GATEWAYS_MAX: usize = 64 * 1024;
/// A gateway that is not listed, holds nothing, and was not named for this long is forgotten: the ids of months of roll-outs
/// must not fill the table.
pub const GATEWAY_FORGET_AFTER: Duration = Duration::from_secs(180);
/// The same while more than half of the places for those are taken.
pub const GATEWAY_FORGET_SOON: Duration = Duration::from_secs(5);
/// Places of gateways that are looked at at once for some to forget, five times in the shorter of those waits.
pub const GATEWAYS_LOOKED_AT: usize = 4096;
/// Users and sessions looked at in one tick for what refers to gateways that are to be forgotten.
pub const FORGETTING_USERS_A_TICK: usize = 16 * 1024;
/// See [`FORGETTING_USERS_A_TICK`].
pub const FORGETTING_SESSIONS_A_TICK: usize = 1024;
/// Messages in a mesh lane from one shard to another.
pub const MESH_LANE_MESSAGES: usize = 8 * 1024;
/// Facts that wait in a shard's inbox from the control, lookup and gateway sides.
pub const INBOX_FACTS: usize = 64 * 1024;

/// Settled events remembered so that a repeat is known, one shard (those in flight are known as well).
pub const REPEAT_WINDOW_EVENTS: usize = 128 * 1024;
/// How long an event is remembered after it was settled, at the most.
pub const REPEAT_WINDOW_AGE: Duration = Duration::from_secs(300);
/// Repeats that wait for the end of one event in flight; one more is given back to its source, to come again.
pub const JOINED_REPEATS_MAX: usize = 256;
/// Events of one shard whose inbox rows are under way at once; the others wait for their turn, in flight as before.
pub const STORE_ASKS_IN_FLIGHT: usize = 1024;
/// Look-ups of contents of one shard under way at once.
pub const CONTENT_ASKS_IN_FLIGHT: usize = 256;
/// Members of a session above which a high rate has its members told by notices.
pub const NOTICE_HOT_MEMBERS: usize = 2_000;
/// Messages a second that are such a rate.
pub const NOTICE_HOT_RATE: u32 = 20;
/// Which part of the delivery timeout a message waits for the look-up of its content before it is pushed in full, and a notice
/// for the answer to the one before it.
pub const NOTICE_WAIT_PART: u32 = 8;
/// Contents that one query looks for.
pub const CONTENT_QUERY_MESSAGES: usize = 256;
/// Inbox rows of one shard under way at once (one event's rows go together, however many).
pub const STORE_ROWS_IN_FLIGHT: usize = 64 * 1024;
/// Of those, asks for rows that failed before though the store was there: they must not fill its threads.
pub const STORE_SUSPECTS_IN_FLIGHT: usize = 8;
/// Sets of rows of one shard that failed and were not stored yet, past which none is asked for in halves.
pub const STORE_PIECES_MAX: usize = 16 * 1024;
/// The longest wait before one row, or one letter, that was refused alone is tried again.
pub const STORE_RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Dead letters of one shard under way at once.
pub const LETTER_ASKS_IN_FLIGHT: usize = 64;
/// How long nothing more is asked of a store after the queue before its threads was full.
pub const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(50);
/// Inbox asks of one shard under way at once that are always allowed: each full queue halves the number down to it, and each
/// ask that is stored adds one.
pub const STORE_ASKS_AT_FULL_QUEUE: usize = 8;
/// For how long a session whose events ended as refused, or a user whose row did, ends the next ones with the first failure that
/// is charged.
pub const REFUSED_REMEMBERED: Duration = Duration::from_secs(60);
/// Users remembered for that by one shard; the rows of one more are tried as often as everybody's.
pub const REFUSED_OWNERS_MAX: usize = 1024;
/// Events of sessions whose member lookups are refused may be this part of what a shard may have in flight (events and bytes);
/// past it the oldest of them end before `consumer.max_retry`.
pub const REFUSED_WAITS_PART: usize = 4;
/// How long an ask waits that never left for want of a connection, before it goes again: to a thread that has one, if any has.
pub const NOT_REACHED_PAUSE: Duration = Duration::from_millis(50);
/// How long a thread without a connection leaves the asks to those that have one, before it tries again to get one.
pub const WITHOUT_CONNECTION_PAUSE: Duration = Duration::from_millis(200);
/// How long an ask waits before it goes again to a store that is away: at first, and after it was away for a while.
pub const STORE_AWAY_PAUSE: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
/// A set of lookups that failed after this long was dear: its members are asked one by one, not in halves.
pub const LOOKUP_DEAR_AFTER: Duration = Duration::from_millis(100);
/// An ask that fails alone is asked again after so many times what it took, so that a slow one costs its store little.
pub const SUSPECT_PAUSE_TIMES: u32 = 4;
/// The longest pause of an ask that fails alone; of a slow one, twice that.
pub const SUSPECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Users whose route the store refuses, asked for again alone until it does not; one more is asked with others again.
pub const REFUSED_USERS_MAX: usize = 1024;
/// How long more users' routes may fail at once than a probe is trusted with, before users whose routes are known are asked for
/// as witnesses: as long as one of several servers may take to come back.
pub const ROUTES_PARTLY_AWAY: Duration = Duration::from_secs(10);
/// How long a user is pushed where it was when all routes were lost, while the store has no route of it.
pub const LOST_ROUTES_KEPT: Duration = Duration::from_secs(300);
/// The first and the longest pause before a session whose member list was empty is asked for again.
pub const EMPTY_LIST_PAUSE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// Events of sessions without members may be this part of what a shard may have in flight (events and bytes); past it the
/// oldest of them end before `members.empty_wait`.
pub const EMPTY_WAITS_PART: usize = 4;
/// A pushed recipient ends unanswered when its gateway, though it answers others, took this many delivery timeouts.
pub const SLOW_GATEWAY_TIMEOUTS: u32 = 3;
/// Warnings that one shard remembers so as not to say them again; beyond it gateways are said of as one.
pub const WARNINGS_KEPT: usize = 1024;

/// Facts of one kind that a shard takes in one turn before it looks at the other kinds.
pub const INBOX_FACTS_A_TURN: usize = 4096;

/// Threads that ask MySQL.
pub const MEMBER_THREADS: usize = 4;
/// Threads that ask MySQL for single sessions out of a set that failed, so that slow ones never hold the others up.
pub const MEMBER_SUSPECT_THREADS: usize = 8;
/// Threads that write the inbox: one commits while the other fills its batch.
pub const INBOX_THREADS: usize = 2;
/// Asks that wait for an inbox thread, and the rows in them; one ask alone may have more rows.
pub const INBOX_ASKS_QUEUED: usize = 16 * 1024;
/// See [`INBOX_ASKS_QUEUED`].
pub const INBOX_ROWS_QUEUED: usize = 512 * 1024;
/// Rows that one transaction takes before the next one is begun: what makes a commit's fsync cheap per row.
pub const INBOX_BATCH_ROWS: usize = 4096;
/// Rows in one INSERT. A power of two: a batch is cut into powers of two, so few statements need preparing.
pub const INBOX_STATEMENT_ROWS: usize = 512;
/// Dead letters that wait for their thread, and their bytes.
pub const LETTERS_QUEUED: usize = 4096;
/// See [`LETTERS_QUEUED`].
pub const LETTER_BYTES_QUEUED: usize = 64 << 20;
/// Dead letters written at once, and their bytes.
pub const LETTERS_A_BATCH: usize = 256;
/// See [`LETTERS_A_BATCH`].
pub const LETTER_BYTES_A_BATCH: usize = 4 << 20;
/// How long letters wait for a local file that cannot be written (rights, a full disk) before they are refused, in core
/// mode: a rotated disk comes back within that, and nobody keeps their events for longer.
pub const LETTER_FILE_PATIENCE: Duration = Duration::from_secs(5);
/// The local file of dead letters takes no more past this.
pub const LETTER_FILE_BYTES_MAX: u64 = 256 << 20;
/// How often a shard looks at its clock: coarse deadlines and heartbeat.
pub const TICK: Duration = Duration::from_millis(20);
/// The same while the core rests: nothing is in flight, and nothing is due soon. Also the net under a lost wake, and how late what
/// is due in minutes may be.
pub const REST_TICK: Duration = Duration::from_millis(500);
/// How long tasks of a shard run, when there is always one to run, before it looks at its sockets again (see `edge::pace`).
pub const SHARD_LOOK_EVERY: Duration = Duration::from_millis(1);
/// What glommio's own preemption timer is set to. When it passes between glommio's look at the sockets and its first task (a busy
/// machine took the CPU away), glommio parks with work to do: so it is longer than any machine takes one away.
pub const SHARD_PREEMPT_AFTER: Duration = Duration::from_secs(60);
/// Memory registered with io_uring per shard: nothing here uses it, and more would not fit common memlock limits.
pub const SHARD_IO_MEMORY_BYTES: usize = 64 * 1024;
/// What an executor asks RLIMIT_MEMLOCK to be at the least (glommio looks at the limit, not at what it locks).
pub const SHARD_MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// How long a shard whose work has ended waits for its reader to settle the last events.
pub const SHARD_READER_END_DEADLINE: Duration = Duration::from_secs(5);
/// How long all shards together may take to start.
pub const SHARDS_START_DEADLINE: Duration = Duration::from_secs(30);
/// A shard that has not moved for this long fails /livez.
pub const HEARTBEAT_STALE_AFTER: Duration = Duration::from_secs(5);
/// A gateway connection that pushed nothing for this long is closed.
pub const GATEWAY_IDLE_CLOSE: Duration = Duration::from_secs(300);
/// A gateway that left the registry is half-closed once it was quiet for this long.
pub const GATEWAY_DRAIN_QUIET: Duration = Duration::from_secs(1);
/// How long an old address may take to answer what it was sent before it is cut.
pub const GATEWAY_SWITCH_DEADLINE: Duration = Duration::from_secs(2);
/// Where several records claim one gateway id: how long the addresses of the others are used before those of the one written
/// last are tried again, at first and at the most.
pub const OTHER_RECORDS_PAUSE: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// The first and the longest wait before a gateway, Redis or etcd is dialled again: what a recovery may cost its users.
pub const RECONNECT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How long a TCP connect and HTTP/2 handshake may take.
pub const GATEWAY_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a gateway may acknowledge nothing of what was sent to it.
pub const GATEWAY_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same where partitions have owners, also of the partitioner's connection: what a stopped owner's kernel still holds must be dead before a successor pushes, which
/// is no sooner than 3.5 s after the owner's permit ended. (The kernel fires up to half a second late.)
pub const USER_TIMEOUT_OWNED: Duration = Duration::from_millis(2500);

const _: () = assert!(SHARD_LOOK_EVERY.as_nanos() < TICK.as_nanos() && TICK.as_nanos() < REST_TICK.as_nanos());
const _: () = assert!(REST_TICK.as_nanos() * 5 < HEARTBEAT_STALE_AFTER.as_nanos());
const _: () = assert!(EVENT_BYTES_MAX + GROUP_WIRE_BYTES_MAX + 64 < GRPC_MESSAGE_BYTES_MAX);
const _: () = assert!(NAME_BYTES_MAX + 4 < GROUP_WIRE_BYTES_MAX, "a group holds at least one name");
const _: () = assert!(OUTBOX_RECIPIENTS_SOFT < OUTBOX_RECIPIENTS_MAX);
const _: () = assert!(OUTBOX_RECIPIENTS_MAX < RECIPIENTS_IN_FLIGHT_MAX, "one gateway must not fill its shard");
const _: () = assert!(
    OUTBOX_RECIPIENTS_SOFT + RECIPIENTS_IN_FLIGHT_MAX / URGENT_RESERVE_PART <= OUTBOX_RECIPIENTS_MAX,
    "where an outbox does not move, urgent ones have no more than where it does"
);
const _: () = assert!(
    OUTBOX_RECIPIENTS_MAX + OUTBOX_RECIPIENTS_MAX / URGENT_RESERVE_PART < RECIPIENTS_IN_FLIGHT_MAX,
    "with the urgent reserve too, one gateway must not fill its shard"
);
const _: () = assert!(TURN_PARTS[2] * 20 >= TURN_PARTS[0] + TURN_PARTS[1] + TURN_PARTS[2], "bulk has 5 % at the least");
const _: () = assert!(OUTBOX_BYTES_SOFT * 2 < PAYLOAD_BYTES_IN_FLIGHT_MAX, "one gateway must not fill its shard");
const _: () = assert!(SILENT_GATEWAY_PART > SILENT_GATEWAYS_PART, "one silent gateway must not take what all may");
const _: () =
    assert!(SILENT_GATEWAYS_PART > LATE_GATEWAYS_PART && LATE_GATEWAYS_PART > 1, "half is for those that move");
const _: () = assert!(
    EVENTS_IN_FLIGHT_MAX / SILENT_GATEWAYS_PART + TURN_EVENTS_MAX < EVENTS_IN_FLIGHT_MAX / 2,
    "silent gateways and a turn's events leave half of the events"
);
const _: () = assert!(
    OUTBOX_RECIPIENTS_SOFT <= RECIPIENTS_IN_FLIGHT_MAX / SILENT_GATEWAYS_PART
        && OUTBOX_BYTES_SOFT <= PAYLOAD_BYTES_IN_FLIGHT_MAX / SILENT_GATEWAYS_PART,
    "what an outbox may hold before it moves, one alone may hold"
);
const _: () = assert!(
    GATEWAY_PROMPT_WITHIN.as_millis() + SOMEONE_IS_PROMPT_WITHIN.as_millis() < OUTBOX_MOVING_WITHIN.as_millis(),
    "when all slow down alike, none is prompt any more before one is late"
);
const _: () = assert!(GATEWAY_QUIET_AFTER.as_nanos() < OUTBOX_MOVING_WITHIN.as_nanos());
const _: () = assert!(MEMBER_SINGLES_IN_FLIGHT < MEMBER_SUSPECT_THREADS, "one more is for a session that failed alone");
const _: () = assert!(EMPTY_WAITS_PART > LATE_GATEWAYS_PART, "most of the room is for sessions with members");
const _: () = assert!(
    STORE_ASKS_IN_FLIGHT + CONTENT_ASKS_IN_FLIGHT + LETTER_ASKS_IN_FLIGHT < INBOX_FACTS,
    "their answers fit the shard's inbox"
);
const _: () = assert!(STORE_SUSPECTS_IN_FLIGHT * 16 < STORE_ASKS_IN_FLIGHT, "rows that fail leave room for the others");
const _: () = assert!(JOINED_REPEATS_MAX * 16 < EVENTS_IN_FLIGHT_MAX, "repeats of one event must not fill its shard");
const _: () = assert!(TURN_EVENTS_MAX < INTAKE_LANE_EVENTS && INTAKE_LANE_EVENTS < EVENTS_IN_FLIGHT_MAX);
const _: () = assert!(STREAM_UNSENT_BYTES_MAX <= TURN_FRAME_BYTES_MAX, "a turn's last gateway may write this past it");
const _: () = assert!(INBOX_STATEMENT_ROWS.is_power_of_two() && INBOX_STATEMENT_ROWS <= INBOX_BATCH_ROWS);
const _: () = assert!(INBOX_BATCH_ROWS < INBOX_ROWS_QUEUED && LETTERS_A_BATCH < LETTERS_QUEUED);
const _: () = assert!(LETTER_BYTES_A_BATCH + EVENT_BYTES_MAX < LETTER_BYTES_QUEUED);

/// JetStream's header for what must not be stored twice.
pub const MSG_ID_HEADER: &str = "Nats-Msg-Id";
/// What the names of the engine's own headers begin with.
pub const ENGINE_HEADERS: &str = "Task-Engine-";
/// The header of an event that a person had published again: it counts as new, whatever is known of it.
pub const REPLAY_HEADER: &str = "Task-Engine-Replay";
