//! Threads that make the blocking calls of member stores, inboxes and dead letters, and bring the answers to the shards.

pub mod members;
mod store_state;
pub mod writers;
