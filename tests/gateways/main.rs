//! Gateways and their registry: connections, streams, addresses, registrations. One promise a module.

mod gateway_support;
mod registry;
mod silent;

mod carries_each_protocol;
mod ends_are_told_apart;
mod example_gateway;
mod over_tls;
mod registered;
mod registry_follows_etcd;
mod registry_keeps_what_is_known;
mod registry_over_tls;
mod streams;
mod written_only_with_a_permit;
