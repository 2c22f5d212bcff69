//! The vocabulary of the engine: ids, names, outcomes, bounds, wire messages. No behaviour, no clock, no input or output.

pub mod backoff;
pub mod delivery;
pub mod ends;
pub mod finding;
pub mod gateway;
pub mod ids;
pub mod limits;
pub mod names;
pub mod outcome;
pub mod ownership;
pub mod percent;
pub mod prefetch;
pub mod priority;
pub mod proto;
pub mod protobuf;
pub mod publication;
pub mod push_latency;
pub mod redact;
pub mod slots;
pub mod stage;
pub mod tap;
pub mod trace;
pub mod words;
