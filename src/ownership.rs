//! Which instance owns which partition: a plain state machine, facts in ([`facts::Fact`]) and intentions out ([`facts::Intention`]).
//!
//! etcd says who should own a partition and notices the dead; consumer generations at NATS say who still may; a permit ends before a
//! successor can begin. Refuses to know a client library, a clock or randomness: time is a fact, so the same facts give the same
//! intentions.

pub mod facts;
pub mod keys;
pub mod records;
pub mod settings;
pub mod settled_text;
