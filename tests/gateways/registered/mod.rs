//! What gateways and their registry may do to the engine: ids that come and go by the ten thousand, registrations that are
//! lost while their gateways live, addresses of which most are dead.

mod addresses;
mod registrations;
mod table;
mod world;
