//! Where log lines go: two words, or a path.

use std::path::PathBuf;

use super::field::{Blank, Field, wrong};
use super::value::Value;

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The end of a file.
    File(PathBuf),
}

impl Blank for LogOutput {
    fn blank() -> Self {
        Self::Stdout
    }
}

impl Field for LogOutput {
    fn set(&mut self, value: Value) {
        *self = match value {
            Value::Text(text) if text == "stdout" => Self::Stdout,
            Value::Text(text) if text == "stderr" => Self::Stderr,
            Value::Text(path) => Self::File(path.into()),
            other => wrong(&other),
        };
    }

    fn show(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::Stderr => "stderr".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}
