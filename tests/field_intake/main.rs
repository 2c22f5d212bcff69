//! What happens at the way in: an instance that cannot work takes no events and holds none back from one that can, and
//! what somebody else does to a stream costs no event that is still in it.
#![allow(deprecated)]

#[path = "../jetstream_support/mod.rs"]
mod jetstream_support;
#[path = "../support/engine.rs"]
mod support;

mod changed_consumers;
mod deleted_messages;
mod door;
mod lost_links;
mod scene;
mod shared_windows;
mod sick_core;
mod sick_inboxes;
mod sick_links;
mod sick_queue;
mod sick_stops;
