//! What the stores in MySQL and in PostgreSQL have in common: how a connection is kept ([`live`]), what a fault means ([`fault`]),
//! how member lists are read ([`members`]) and how rows of the inbox are stored although some of them cannot be ([`inbox`]).
//!
//! Refuses to know any SQL but what both servers take alike: statements are the adapters'.

pub mod asked;
pub mod contents;
pub mod fault;
pub mod inbox;
pub mod inspect;
pub mod live;
pub mod members;

/// How many times the read timeout a whole result may take: each read alone is bounded by the socket's timeout.
pub(super) const RESULT_READS: u32 = 2;
