//! What task-engine is measured against: the reference engine in plain Tokio ([`reference`](mod@reference)), and the program
//! that promises nothing ([`bare`]).
//!
//! Both read the engine's configuration and speak its wire. Neither runs a line of the engine's push path, so that a mistake
//! in it cannot hide in the ratio.

pub mod bare;
mod page;
pub mod reference;
mod wiring;
