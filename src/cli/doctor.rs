//! `task-engine doctor`: looks at everything that the engine needs, as it would use it, and says what to do.
//!
//! Promises to change nothing, an end within [`WITHIN`], that servers which do not depend on each other are looked at side by side, that a
//! check which does not end is named, and that no secret is shown. Where one check fails, those that need it are not made.

mod links;
mod machine;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::config_of;
use crate::cli::table::{aligned, plain};
use crate::model::finding::{Finding, Grade};
use crate::model::words::counted;

pub(super) const ABOUT: &str = "Look at everything the engine needs, and say what to do about what is wrong.

Each server is asked as the engine would use it: name, TCP, TLS, login, then what is read and written there, with the rights of \
the engine's user. This machine is looked at too. Nothing is changed, nothing is pushed, no event is taken.";

const AFTER: &str = "Exit codes:
  0  all is well
  1  something should be looked at; the engine works
  2  the engine cannot do its work with this, or the configuration is wrong";

/// How long the whole of it may take.
pub const WITHIN: Duration = Duration::from_secs(30);
/// How long one check may take: longer than its own timeouts with their defaults.
pub const CHECK_WITHIN: Duration = Duration::from_secs(15);

/// The flags of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub struct DoctorArgs {
    /// YAML file of the engine; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Looks, and gives the exit code: findings go to `out`, a wrong configuration to `err`.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(
    args: &DoctorArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let Some(config) = config_of(args.config.as_deref(), environment, err)? else { return Ok(code_of(Grade::Fail)) };
    let findings = links::look(&config);
    let worst = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok);
    match args.json {
        true => writeln!(out, "{:#}", as_json(&findings, worst))?,
        false => write!(out, "{}", as_text(&findings))?,
    }
    out.flush()?;
    Ok(code_of(worst))
}

const fn code_of(grade: Grade) -> u8 {
    match grade {
        Grade::Ok => 0,
        Grade::Warn => 1,
        Grade::Fail => 2,
    }
}

fn as_json(findings: &[Finding], worst: Grade) -> serde_json::Value {
    let one = |Finding { check, grade, what, advice }: &Finding| serde_json::json!({ "check": check.label(), "grade": grade.word(), "what": what, "advice": advice });
    serde_json::json!({ "grade": worst.word(), "findings": findings.iter().map(one).collect::<Vec<_>>() })
}

/// A line a finding, and what to do below it.
fn as_text(findings: &[Finding]) -> String {
    let rows: Vec<[String; 2]> =
        findings.iter().map(|finding| [finding.grade.word().to_owned(), finding.check.label().to_owned()]).collect();
    let heads = aligned(&rows);
    let width = heads.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (head, Finding { what, advice, .. }) in heads.lines().zip(findings) {
        text += &format!("{head:width$}  {}\n", plain(what));
        if !advice.is_empty() {
            text += &format!("{:width$}  -> {}\n", "", plain(advice));
        }
    }
    let count = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count() as u64;
    let (failed, warned) = (count(Grade::Fail), count(Grade::Warn));
    let looked = counted(findings.len() as u64, "check");
    text + &match (failed, warned) {
        (0, 0) => format!("\nall is well: {looked}\n"),
        (0, warned) => format!("\nit works; {} to look at, of {looked}\n", counted(warned, "thing")),
        (failed, warned) => {
            format!("\nit does not work: {failed} failed, {} besides, of {looked}\n", counted(warned, "warning"))
        }
    }
}
