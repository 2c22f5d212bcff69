//! One shard: a glommio executor on a core of its own. [`pump`] is its loop, [`inbox`] how facts reach it, [`intake`]
//! how events do, [`mesh`] how shards reach each other, `net` keeps it from sleeping for ever; [`routes_port`] and [`registry`] are what route stores and
//! registries are given.

pub mod inbox;
pub mod intake;
pub mod mesh;
pub(crate) mod net;
pub mod pump;
pub mod registry;
pub mod routes_port;
