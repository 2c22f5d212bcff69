//! One shard: a glommio executor on a core of its own. [`pump`] is its loop, [`mesh`] how shards reach each other,
//! [`workers`] the threads that make blocking store calls for it.

pub mod cores;
pub mod mesh;
pub mod pump;
pub mod stop;
pub mod uring_check;
pub mod workers;
