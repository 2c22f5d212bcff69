//! What gateways, and hops before them, may do to a stream: the whole core and its real gateway connections against servers that
//! answer what was not asked, say "not now" in every way there is, or break at one push.

mod breaking;
mod engine;
mod flooding;
mod generations;
mod not_now;
mod peer;
mod tables;
mod whole;
