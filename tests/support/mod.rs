//! What the tests share lives in the load-test harness; this only gives it a short name.
#![allow(unused_imports, dead_code, reason = "each test file uses its own part")]

pub use loadtest::{clock, gateways, servers};
