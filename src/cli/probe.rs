//! `probe`: asks a running engine's admin port once, for images that have no curl.
//!
//! Promises an answer or an error within [`WITHIN`](crate::cli::admin_port::WITHIN), as an exit code and one line. Refuses to look further than the admin
//! port: what the engine says of itself is what counts.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cli::admin_port::{ask, reachable};
use crate::cli::exit;
use crate::config::{self, Flags};

/// More than any answer has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The flags of `probe`.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// Ask whether it takes events (/readyz); without it whether all shards move (/livez).
    #[arg(long)]
    pub ready: bool,
    /// YAML file whose admin.listen is asked; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the admin port [default: admin.listen].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

/// What `probe` does: the engine's words go to `out`, what is wrong to `err`; gives the exit code: 0 yes, 1 no or no answer, 2 wrong
/// configuration.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(args: &ProbeArgs, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<u8> {
    let flags = Flags { cores: None, admin: args.admin.clone() };
    let admin = match config::load(args.config.as_deref(), std::env::vars_os(), &flags) {
        Ok(checked) => checked.config.admin,
        Err(mistakes) => {
            writeln!(err, "{mistakes}")?;
            return Ok(exit::CONFIG);
        }
    };
    let address = reachable(admin.listen);
    let path = if args.ready { "/readyz?verbose" } else { "/livez" };
    match ask(address, path, &admin.tls, ANSWER_BYTES_MAX) {
        Ok((status, words)) => {
            write!(out, "{words}")?;
            out.flush()?;
            Ok(if status == 200 { exit::OK } else { exit::FAILED })
        }
        Err(why) => {
            writeln!(
                err,
                "no answer from the admin port {address}: {why}; is task-engine running, and is this its admin.listen?"
            )?;
            Ok(exit::FAILED)
        }
    }
}
