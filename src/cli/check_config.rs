//! `check-config`: what holds, and where each value was written; or all that is wrong.
//!
//! Promises the exit codes of [`exit`], that no secret is shown, and that what is printed as YAML can be read again and means the same.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::table::plain;
use crate::cli::{exit, note_lines};
use crate::config::{self, Checked, Config, Flags, Mistakes, Place, Remark};
use crate::engine::adapters;

pub(super) const ABOUT: &str = "Print the configuration that holds, secrets as ***, or each mistake with its line.

Each value that is no default has a comment that says where it was written: a line of the file, a variable of the environment, or \
another key that it follows from. Files of keys and certificates are looked at as well. Without a file, what the environment says.";

/// What is checked.
#[derive(Clone, Debug, Args)]
pub struct CheckConfigArgs {
    /// The YAML file; the environment is read as well. Without one, all comes from the environment.
    pub file: Option<PathBuf>,
    /// Print JSON: keys with their values and where those were written, notes and mistakes.
    #[arg(long)]
    pub json: bool,
}

/// What holds goes to `out`, notes and mistakes to `err` (with `--json` all to `out`), also those in files that the start would read;
/// gives the exit code.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(
    args: &CheckConfigArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let name = args.file.as_ref().map_or("configuration".to_owned(), |file| file.display().to_string());
    let checked = match config::load(args.file.as_deref(), environment, &Flags::default()) {
        Ok(checked) => checked,
        Err(mistakes) => {
            match args.json {
                true => writeln!(out, "{:#}", wrong(&mistakes))?,
                false => writeln!(err, "{mistakes}")?,
            }
            out.flush()?;
            return Ok(exit::CONFIG);
        }
    };
    let in_files = adapters::mistakes_in_files(&checked.config);
    let notes: Vec<_> = note_lines(&checked, &name).collect();
    if args.json {
        let keys: Vec<_> = origins(&checked, &name).into_iter().map(Origin::json).collect();
        let answer = json!({ "right": in_files.is_empty(), "keys": keys, "notes": notes, "mistakes": in_files });
        writeln!(out, "{answer:#}")?;
    } else {
        notes.iter().try_for_each(|line| writeln!(err, "note: {line}"))?;
        let origins = origins(&checked, &name);
        let comment = |key: &str| origins.iter().find(|origin| origin.key == key).and_then(Origin::comment);
        write!(out, "{}", config::show_with(&checked.config, &comment))?;
    }
    out.flush()?;
    if !args.json {
        in_files.iter().try_for_each(|what| writeln!(err, "{what}"))?;
    }
    Ok(if in_files.is_empty() { exit::OK } else { exit::CONFIG })
}

/// A key, what holds for it, and where that was written.
struct Origin {
    key: String,
    value: String,
    /// `default`, `file`, `environment`, `flag`, or `other keys` that it follows from.
    from: &'static str,
    /// Where exactly.
    at: Option<String>,
}

impl Origin {
    fn comment(&self) -> Option<String> {
        match (self.from, &self.at) {
            ("default", _) => None,
            (_, Some(at)) => Some(plain(at)),
            (from, None) => Some(from.to_owned()),
        }
    }

    fn json(self) -> Value {
        json!({ "key": self.key, "value": self.value, "from": self.from, "at": self.at })
    }
}

fn origins(checked: &Checked, file: &str) -> Vec<Origin> {
    let defaults = config::held(&Config::default());
    let default_of = |key: &str| defaults.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let origin = |(key, value): (String, String)| {
        let place = checked.written.iter().find(|(written, _)| *written == key).map(|(_, place)| place);
        let (from, at) = match place {
            Some(Place::File(line, column)) => ("file", Some(format!("{file}:{line}:{column}"))),
            Some(Place::Variable(name)) => ("environment", Some(name.clone())),
            Some(Place::Flag(name)) => ("flag", Some((*name).to_owned())),
            Some(Place::Default) | None if default_of(&key).is_some_and(|default| default != value) => {
                ("other keys", None)
            }
            Some(Place::Default) | None => ("default", None),
        };
        Origin { key, value, from, at }
    };
    config::held(&checked.config).into_iter().map(origin).collect()
}

fn wrong(mistakes: &Mistakes) -> Value {
    let of = |remark: &Remark| {
        let from = match &remark.place {
            Place::File(line, column) => json!({ "file": mistakes.file, "line": line, "column": column }),
            Place::Variable(name) => json!({ "variable": name }),
            Place::Flag(name) => json!({ "flag": name }),
            Place::Default => json!({ "file": mistakes.file }),
        };
        json!({ "at": from, "key": remark.key, "what": remark.what, "nearest": remark.nearest })
    };
    let all: Vec<_> = mistakes.all.iter().map(of).collect();
    json!({ "right": false, "mistakes": all })
}
