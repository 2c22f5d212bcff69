//! What was written -> what is meant: the YAML file, the environment and the flags become one checked [`Config`].
//!
//! Promises that a file of the Go service is taken unchanged; that *all* mistakes are told at once, each with its
//! place, its key, what is allowed and, for an unknown key, the nearest known one; that nothing is opened before all is
//! checked; and that no secret is in any message, in `Debug` or in what [`show`] prints. Refuses unknown keys,
//! keys written twice, unknown variables and settings that contradict each other. Flags win over the environment, that over the file.

mod addresses;
mod chinese;
mod current;
mod environment;
mod etcd;
mod field;
mod joins;
pub mod keys;
pub mod kinds;
pub mod log_filter;
mod log_output;
mod nats;
mod nearest;
mod otel;
mod others;
mod own;
mod plain;
mod priority;
mod read;
pub mod reload;
mod secret;
mod secret_files;
mod sections;
mod show;
mod stores;
mod value;
pub mod yaml;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

pub use addresses::{HostPort, NatsAuth, NatsServer};
pub use current::{Current, Held};
pub use plain::span;
pub use secret::Secret;
pub use sections::*;
pub use show::{Language, held, reference, sample, show, show_with};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file, at this line and column, both from 1.
    File(usize, usize),
    /// In this environment variable.
    Variable(String),
    /// In this flag.
    Flag(&'static str),
    /// Nowhere: a default.
    Default,
}

/// A mistake, or a note: `what` about `key` at `place`. Its text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where.
    pub place: Place,
    /// The key in full, `mysql.host`; empty when it is about the file as a whole.
    pub key: String,
    /// What, in words; with what is allowed.
    pub what: String,
    /// The nearest key that is known.
    pub nearest: Option<String>,
}

impl Remark {
    /// As one line: `FILE:LINE:COL: key: what; did you mean ...?`.
    pub fn line(&self, file: &str) -> String {
        let place = match &self.place {
            Place::File(line, column) => format!("{file}:{line}:{column}: "),
            Place::Variable(name) => format!("environment {name}: "),
            Place::Flag(name) => format!("flag {name}: "),
            Place::Default => format!("{file}: "),
        };
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        let hint = self.nearest.as_ref().map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        format!("{place}{key}{}{hint}", self.what)
    }
}

/// The flags that set a key; they win over everything.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--cores`: `engine.cores`.
    pub cores: Option<String>,
    /// `--admin`: `admin.listen`.
    pub admin: Option<String>,
}

/// A configuration that is right, and what is worth knowing about it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Keys without effect, settings that do nothing: one line each.
    pub notes: Vec<Remark>,
    /// Each key that was written, in full, and where what holds for it was.
    pub written: Vec<(String, Place)>,
}

/// All that is wrong, in the order file, environment, flags, contradictions. `Display` gives one line each.
#[derive(Clone, Debug)]
pub struct Mistakes {
    /// The file's name as lines begin with it.
    pub file: String,
    /// At least one.
    pub all: Vec<Remark>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, remark) in self.all.iter().enumerate() {
            let end = if at + 1 == self.all.len() { "" } else { "\n" };
            write!(f, "{}{end}", remark.line(&self.file))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Reads the file (if one is named), the environment and the flags.
///
/// # Errors
/// All mistakes; also when the file is missing, unreadable, no UTF-8 or over
/// [`FILE_BYTES_MAX`](yaml::FILE_BYTES_MAX).
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &Flags,
) -> Result<Checked, Mistakes> {
    let name = file.map_or("configuration".to_owned(), |path| path.display().to_string());
    let text = match file {
        None => String::new(),
        Some(path) => read::file(path, yaml::FILE_BYTES_MAX).map_err(|what| {
            let remark = Remark { place: Place::Default, key: String::new(), what, nearest: None };
            Mistakes { file: name.clone(), all: vec![remark] }
        })?,
    };
    parse(&name, &text, environment, flags)
}

/// Reads a text as if it were the file `name`, the environment and the flags.
///
/// # Errors
/// All mistakes.
pub fn parse(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &Flags,
) -> Result<Checked, Mistakes> {
    let mut reading = read::Reading::default();
    reading.take_file(text);
    reading.take_environment(environment);
    reading.take_flags(flags);
    reading.take_secret_files();
    let config = joins::build(&mut reading);
    if reading.mistakes.is_empty() {
        Ok(Checked { config, written: reading.written(), notes: reading.notes })
    } else {
        Err(Mistakes { file: name.to_owned(), all: reading.mistakes })
    }
}

impl Default for Config {
    /// What holds when nothing is written.
    fn default() -> Self {
        joins::build(&mut read::Reading::default())
    }
}
