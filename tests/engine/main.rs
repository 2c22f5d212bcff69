//! The running binary between real servers and gateways, and what operators, proxies and servers that move do to it:
//! signals, rotations, a Redis behind a proxy, a log that is asked for more. One promise a module.

mod collector;
mod proxy;
mod raw_gateway;
mod siege;

mod bad_admin_clients;
mod bad_gateways;
mod bad_registry;
mod bad_routes;
mod counts_bad_input;
mod each_key_is_reloaded_or_said;
mod finds_a_moved_user;
mod follows_a_goaway;
mod gateway_generations;
mod isolates_a_hung_gateway;
mod keeps_order;
mod log_of_others;
mod moved_servers;
mod over_tls;
mod pushes_to_each_device;
mod pushes_to_every_gateway;
mod reads_partitions;
mod redis_behind_a_proxy;
mod redis_comes_back_empty;
mod reloads;
mod resonance_today;
mod rotations_lose_no_line;
mod says_that_it_cannot_keep_dead_letters;
mod says_what_the_machine_lacks;
mod settles_what_ended_while_its_source_started;
mod signals;
mod stops_as_told;
mod tap_shows_events;
mod tells_by_notices;
mod tells_of_events;
mod tells_when_a_shard_is_gone;
mod waits_out_lost_servers;
mod why_is_answered;
