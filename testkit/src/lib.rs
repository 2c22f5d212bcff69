//! What several themes of tests share, compiled once: the running binary ([`process`]) on real servers ([`engine`]), servers that are
//! started again and frozen ([`mysql_etcd`], [`redis_only`]), the databases of members and inbox ([`databases`]), the way to one ([`nats`]), a source whose lanes are read
//! ([`taking`]), rows of the inbox ([`inbox`]), certificates ([`tls`]), what is logged ([`log`]), a configuration that is read again ([`reload`]), the seeds of a simulator ([`seeds`]), and one shard of the core in tables ([`table`]), a page in a browser ([`browser`]).
//! What one theme alone needs stands in its folder under `tests/`.
#![allow(missing_docs, reason = "helpers of tests whose names say what they do")]

pub mod browser;
pub mod databases;
pub mod engine;
pub mod events;
pub mod frames;
pub mod inbox;
pub mod log;
pub mod mysql_etcd;
pub mod nats;
pub mod process;
pub mod redis_only;
pub mod reload;
pub mod seeds;
pub mod signals;
pub mod table;
pub mod taking;
pub mod tls;
pub mod wait;
