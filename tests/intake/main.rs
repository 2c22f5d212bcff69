//! The way in over core NATS and in memory: order, partitions, pauses, stops. One promise a module.

mod intake_support;

mod a_paused_shard_pauses_reading;
mod broken_servers_are_named;
mod classes_are_read_from_headers;
mod goes_on_after_the_broker_was_away;
mod memory_source_keeps_the_promises;
mod names_itself_to_the_broker;
mod order_is_the_brokers;
mod partitions_reach_their_shard;
mod proves_who_it_is;
mod real_servers_are_understood;
mod says_what_the_broker_refuses;
mod speaks_tls;
mod stop_hands_in_all_that_was_received;
mod stops_at_the_shards_bounds;
