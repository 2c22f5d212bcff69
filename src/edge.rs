//! The only place that opens sockets to servers and gateways: one adapter per protocol, each behind a trait of
//! [`ports`](crate::ports).

pub(crate) mod alarm;
pub mod dead_letters;
pub mod etcd;
pub mod gateway;
mod gateway_id;
pub mod memory;
pub mod mysql;
pub mod nats;
pub mod otlp;
pub(crate) mod pace;
pub mod postgres;
mod race;
pub(crate) mod random;
pub mod reach;
pub mod redis;
pub mod resolve;
pub mod socket;
mod sql;
pub mod tls;
pub mod transport;
