//! The way in over JetStream: each event is settled once; an instance that cannot work takes no events and holds none back
//! from one that can; what somebody else does to a stream costs no event that is still in it. One promise a module.
#![allow(deprecated, reason = "the sync nats client publishes for the tests")]

mod door;
mod jetstream_support;
mod scene;

mod backlog_is_told;
mod changed_consumers;
mod classes_are_read_from_headers;
mod deleted_messages;
mod each_event_is_settled_once;
mod headers_that_are_none_stop_nothing;
mod lost_links;
mod over_tls;
mod owned_generations;
mod owned_input;
mod owned_input_with_engines;
mod owned_partitions;
mod owned_servers;
mod owned_windows;
mod owners_with_engines;
mod partitioner;
mod partitioner_poison;
mod partitioner_setup;
mod partitioner_support;
mod partitioner_with_engines;
mod redelivered_out_of_order;
mod rights;
mod says_what_is_wrong;
mod setup_changes_nothing_that_exists;
mod shared_windows;
mod sick_core;
mod sick_inboxes;
mod sick_links;
mod sick_queue;
mod sick_stops;
mod unsettled_events_come_again;
mod urgent_topic;
mod what_brings_nothing;
