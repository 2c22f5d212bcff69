//! This build's own programs: what an engine's name means, and `task-engine setup`.
//!
//! Refuses to look for a program anywhere but beside this one: what is measured is what was built with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::error::{Error, Result};

/// task-engine with its events from a JetStream stream.
pub const ON_JETSTREAM: &str = "task-engine-jetstream";

/// The command line behind an engine's name; a command line is its own.
///
/// # Errors
/// When the program is not there.
pub fn command_of(engine: Option<&str>) -> Result<String> {
    let (program, subcommand) = match engine {
        None | Some("task-engine" | ON_JETSTREAM) => ("task-engine", ""),
        Some("reference") => ("loadtest", " reference"),
        Some("bare") => ("loadtest", " bare"),
        Some(command) => return Ok(command.to_owned()),
    };
    Ok(format!(
        "{}{subcommand} --config {{config}} --admin {{admin}} --cores {{cores}}",
        quoted(&program_path(program)?)?
    ))
}

/// `task-engine setup`: makes the stream that this configuration names, and what goes with it.
///
/// # Errors
/// What it says when it fails.
pub fn set_up(config: &Path) -> Result<()> {
    let output = Command::new(program_path("task-engine")?).arg("setup").arg("--config").arg(config).output();
    let output = output.map_err(|cause| Error::of("cannot start task-engine setup", cause))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::of("task-engine setup failed", String::from_utf8_lossy(&output.stderr)))
}

/// Where a program of this build is.
///
/// # Errors
/// When it is not there.
pub fn program_path(program: &str) -> Result<PathBuf> {
    let beside = std::env::current_exe().map(|path| path.with_file_name(program));
    let there: Option<PathBuf> = beside.ok().filter(|path| path.is_file());
    there.ok_or_else(|| {
        Error::new(format!(
            "{program} is not beside this program: run `make loadtest`, or give --engine \"CMD {{config}}\""
        ))
    })
}

fn quoted(path: &Path) -> Result<String> {
    let path = path.display().to_string();
    shlex::try_quote(&path)
        .map(|quoted| quoted.into_owned())
        .map_err(|cause| Error::of("the path of the engine", cause))
}
