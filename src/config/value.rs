//! A checked value, on its way from what was written to the field that it fills.

use std::net::SocketAddr;
use std::time::Duration;

use super::addresses::{Dsn, HostPort, NatsUrls};
use crate::model::priority::Priority;

/// A value that its kind has checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    Count(u64),
    Span(Duration),
    /// None is all of them.
    Cores(Option<u16>),
    Hosts(Vec<HostPort>),
    /// Of etcd, and whether TLS is asked for.
    EtcdUrls(Vec<HostPort>, bool),
    Dsn(Box<Dsn>),
    NatsUrls(NatsUrls),
    Listen(SocketAddr),
    TypeClasses(Vec<(String, Priority)>),
    SizeClasses(Vec<(u32, Priority)>),
}
