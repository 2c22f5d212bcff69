//! What operators, proxies and clients of the admin port do to a running engine: signals, rotations, slow heads, a Redis behind
//! a proxy, servers that move, a log that is asked for more; and events that are no repeats. Each test is a promise.

#[path = "../support/engine.rs"]
mod engine;
#[path = "../order_support/mod.rs"]
mod order_support;
#[path = "../support/redis_only.rs"]
mod redis_only;

mod admin_port;
mod config_of_secrets;
mod log_of_others;
mod moved_servers;
mod proxy;
mod redis_behind_a_proxy;
mod repeats;
mod signals;
