//! `task-engine why`: did this user get this message, and if not, why?
//!
//! Promises to change nothing, an answer also when the engine or any of the stores is down (then it says what is not known), and that the
//! last line is one sentence. Refuses to show what a message says.

mod cause;
mod facts;
mod tables;
mod verdict;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::table::{aligned, plain};
use crate::cli::{config_of, exit};

pub use self::cause::of as cause_of;
pub use self::facts::{EndSeen, EngineSeen, Facts, LetterSeen, RouteSeen};
pub use self::tables::{Known, RowSeen};
pub use self::verdict::verdict;

/// Rows that are looked at without a message.
const LATEST: usize = 16;

pub(super) const ABOUT: &str = "Say whether a user got a message, and if not, why.

Reads who is in the session, the user's route and whether its gateway is registered, the inbox, the kept content, the dead letters, and \
asks the engine what it remembers (engine.recorder: on). What cannot be reached is said, and the rest is told all the same. Shows \
nothing of what the message says.";

const AFTER: &str = "Examples:
  task-engine why --config task.yaml --session group:1 --user ann --msg 4711
  task-engine why --session group:1 --user ann                       what is known of the latest messages
  task-engine why --session s --user u --admin 10.0.0.1:9100 --admin 10.0.0.2:9100

Exit codes:
  0  answered
  2  wrong configuration or command line; nothing was opened";

/// The flags of `why`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub struct WhyArgs {
    /// The session (session_id).
    #[arg(long, value_name = "S", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub session: String,
    /// The recipient (username).
    #[arg(long, value_name = "U", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub user: String,
    /// The message (msg_id); without it the latest that is known.
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub msg: Option<i64>,
    /// YAML file of the engine; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of an engine's admin port, several times for several [default: admin.listen, and with consumer.ownership etcd those of all
    /// instances].
    #[arg(long, value_name = "ADDR")]
    pub admin: Vec<std::net::SocketAddr>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Finds out; what is seen and the sentence go to `out`, a wrong configuration to `err`. Gives the exit code.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(
    args: &WhyArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let Some(config) = config_of(args.config.as_deref(), environment, err)? else { return Ok(exit::CONFIG) };
    let facts = facts::gather(&config, args);
    let sentence = verdict(&facts);
    if args.json {
        let seen: serde_json::Map<_, _> = facts.lines().into_iter().map(|[name, what]| (name, what.into())).collect();
        writeln!(
            out,
            "{:#}",
            serde_json::json!({ "session": args.session, "user": args.user, "msg": args.msg, "seen": seen, "why": sentence })
        )?;
    } else {
        let rows: Vec<_> = facts.lines().into_iter().map(|line| line.map(|cell| plain(&cell))).collect();
        writeln!(out, "{}\n{}", aligned(&rows), plain(&sentence))?;
    }
    out.flush()?;
    Ok(exit::OK)
}
