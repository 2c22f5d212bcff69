//! Why an engine did not start.

use std::{fmt, io};

use crate::admin;
use crate::shard::uring_check::UringError;

/// Why an engine did not start. A retry can help only after someone changed something.
#[derive(Debug)]
pub enum StartError {
    /// The admin address cannot be listened on.
    Admin(admin::BindError),
    /// What was configured cannot be used; says which key.
    Config(String),
    /// No shard can run on this machine as it is set up.
    Uring(UringError),
    /// The machine refuses a thread or a socket.
    Machine(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin(error) => error.fmt(f),
            Self::Config(what) => f.write_str(what),
            Self::Uring(error) => error.fmt(f),
            Self::Machine(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
