//! Events from a JetStream stream: pulled, kept in sight until they are settled, and acknowledged in batches.
//!
//! Promises that an event is acknowledged only when the engine settled it; that no more are out than
//! `consumer.max_ack_pending`; that what stays in work is reported before the server delivers it again; and that what
//! is not settled when the engine ends is given back at once. Refuses to change a stream or consumer that exists.
//!
//! Assignment *queue*: one durable for all instances, of whose window each has its share (`share.rs`). *Partitioned*: a
//! durable `<durable>-<partition>` a partition, in stream order also after a crash (see `prepare.rs`). Both with explicit
//! acks, many in one write.

mod ack_subject;
mod api;
pub(super) mod connect;
mod desk;
mod fit;
mod flight;
mod given_up;
mod lines;
mod prepare;
mod pulls;
pub(super) mod reader;
mod rights;
pub mod setup;
mod share;
mod unreadable;
mod usable;
mod writer;

pub(super) use self::desk::{Desk, ReaderPlan};
pub(super) use self::pulls::Terms;
pub(super) use self::rights::is_of_probe;
pub(super) use self::writer::Wanted;
