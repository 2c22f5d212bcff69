//! What went wrong in the harness, in words; there is nothing to match on, a person reads it.

use std::fmt;

/// A failure of the harness itself (never a verdict on the engine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// Shorthand for results of the harness.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error from its words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// Puts what was being done before what went wrong.
    pub fn of(doing: &str, cause: impl fmt::Display) -> Self {
        Self(format!("{doing}: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
