//! The command line: what can be asked for, `check-config` and `setup`.
//!
//! Promises the exit codes of [`exit`], and that whatever is wrong with the configuration is said on standard error
//! before anything is opened.

pub mod admin_port;
pub mod check_config;
pub mod dead_letter_store;
pub mod dlq;
pub mod doctor;
pub mod hangup;
pub mod partitions;
pub mod probe;
mod table;
pub mod tap;
pub mod top;
pub mod why;
pub mod written;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Checked, Config, Flags, Mistakes};
use crate::edge::nats::jetstream::setup::{self, SetupPlan};
use crate::engine::adapters;

/// What the process says when it ends.
pub mod exit {
    /// A clean stop, or a configuration that is right.
    pub const OK: u8 = 0;
    /// Something failed while it started or ran, or the stop cut off or dropped events, or the broker refused acks.
    pub const FAILED: u8 = 1;
    /// The configuration or the command line is wrong; nothing was opened. Or the instances are not configured alike.
    pub const CONFIG: u8 = 2;
    /// Another instance has the partitions that this one read.
    pub const FENCED: u8 = crate::ownership::facts::EXIT_FENCED;
}

const ABOUT: &str = "The push engine of the Resonance IM system.

It takes each message event from NATS, finds the session's members (MySQL or PostgreSQL) and the gateway each of them is \
connected to (Redis), and pushes the message over gRPC to those gateways (found in etcd).

Without --config all servers are expected on 127.0.0.1, on their standard ports.";

const AFTER: &str = "Examples:
  task-engine                                      everything on this machine, all cores
  task-engine --config /etc/task.yaml --cores 2
  task-engine check-config /etc/task.yaml          what holds and where it is written, or what is wrong
  task-engine dlq list --config /etc/task.yaml     events that could not be pushed; see dlq --help
  task-engine partitions --config task.yaml        which instance reads what; see partitions --help
  task-engine doctor --config /etc/task.yaml       what is wrong with servers and machine; changes nothing
  task-engine why --session S --user U --msg M     did U get M, and if not, why?
  task-engine tap --session S --for 60s            what the events of S do, as they end
  task-engine top 10.0.0.1:9100 10.0.0.2:9100      what these engines do now
  task-engine setup --config task.yaml --dry-run   what JetStream lacks: stream, consumers, dead letters
  RESONANCE_MYSQL_PASSWORD=... task-engine --config task.yaml

Environment:
  Each key of the file has a variable, RESONANCE_<SECTION>_<KEY> in capitals: mysql.password is
  RESONANCE_MYSQL_PASSWORD. Variables win over the file, flags over both. Keep secrets here,
  or each in a file of its own (mysql.password_file). A variable that is no key's is a mistake.

Stopping:
  SIGTERM or SIGINT lets what is in flight end (engine.drain_timeout); a second one stops at once.

Reloading:
  SIGHUP opens the log file again, and reads configuration, secrets and certificates again. The log says of each key
  that differs whether it is applied or takes effect at the next start. A configuration that is wrong changes nothing.

Exit codes:
  0  clean stop
  1  failed at the start or while running, or a stop that cut off or dropped events (the last line says how many)
  2  wrong configuration or command line, and nothing was opened; or the instances are not configured alike
  3  another instance has the partitions that this one read (consumer.ownership etcd); start it again

config/task.yaml has every key with its default, unit and reason; config/REFERENCE.md what may be written for each.";

/// The command line of `task-engine`.
#[derive(Debug, Parser)]
#[command(name = "task-engine", version, about = ABOUT, after_help = AFTER, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; nothing: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What else than running can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the configuration that holds, secrets as ***, or each mistake with its line.
    #[command(long_about = check_config::ABOUT)]
    CheckConfig(check_config::CheckConfigArgs),
    /// Look at dead letters, send them again, or drop them.
    #[command(long_about = dlq::ABOUT)]
    Dlq(dlq::DlqArgs),
    /// Show which instance owns which partition, take an instance out, or in again.
    #[command(long_about = partitions::ABOUT)]
    Partitions(partitions::PartitionsArgs),
    /// Make the JetStream stream, its consumers and the dead-letter stream where they are missing.
    ///
    /// Changes nothing that exists: what differs is said (but see --change). A stream of events keeps them for --max-age, settled or
    /// not, so it must be longer than any outage and the disk must hold that much; dead letters stay for 30 days.
    Setup(SetupArgs),
    /// Look at everything that the engine needs, and say what to do about what is wrong. Changes nothing.
    #[command(long_about = doctor::ABOUT)]
    Doctor(doctor::DoctorArgs),
    /// Say whether a user got a message, and if not, why. Works with an engine that is down.
    #[command(long_about = why::ABOUT)]
    Why(why::WhyArgs),
    /// Look on at the events of one session, or to one user, as they end.
    #[command(long_about = tap::ABOUT)]
    Tap(tap::TapArgs),
    /// Show what one or several engines do now, on one screen.
    #[command(long_about = top::ABOUT)]
    Top(top::TopArgs),
    /// Ask a running engine's admin port once: exit code 0 for yes, 1 for no or no answer. For images without curl.
    Probe(probe::ProbeArgs),
    /// Write the completions of a shell to standard output.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man page to standard output.
    Man {
        /// A command, for its own page.
        command: Option<String>,
    },
}

/// The flags of `setup`.
#[derive(Clone, Debug, Args)]
pub struct SetupArgs {
    /// YAML file; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only say what would be made.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace consumers that earlier engines made for partitions (ack policy all) by ones with explicit acks, which begin at
    /// the first unsettled event. Stop all instances first.
    #[arg(long)]
    pub change: bool,
    /// How long events stay in a stream that is made, at least 1s: 30m, 72h, 7d.
    #[arg(long, value_name = "TIME", default_value = "72h", value_parser = max_age)]
    pub max_age: Duration,
    /// On how many servers of a cluster a stream that is made is kept.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub replicas: u32,
}

fn max_age(text: &str) -> Result<Duration, String> {
    let time = config::span(text)?;
    if time < Duration::from_secs(1) { Err("is below 1s".to_owned()) } else { Ok(time) }
}

/// The flags of a run.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// YAML file; the one of the Go service runs unchanged.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Shards, each a thread on its own CPU: a number or `all` [default: engine.cores].
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// Address of /metrics, /livez, /readyz [default: admin.listen].
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
}

impl RunArgs {
    /// The configuration of a run: flags, this process's environment, the file.
    ///
    /// # Errors
    /// All mistakes.
    pub fn load(&self) -> Result<Checked, Mistakes> {
        let flags = Flags { cores: self.cores.clone(), admin: self.admin.clone() };
        config::load(self.config.as_deref(), std::env::vars_os(), &flags)
    }

    /// The file's name as [`note_lines`] wants it.
    pub fn file_name(&self) -> String {
        self.config.as_ref().map_or("configuration".to_owned(), |path| path.display().to_string())
    }
}

/// The configuration that a command besides the engine goes by; none: its mistakes are on `err`.
fn config_of(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    err: &mut dyn Write,
) -> std::io::Result<Option<Config>> {
    match config::load(file, environment, &Flags::default()) {
        Ok(checked) => Ok(Some(checked.config)),
        Err(mistakes) => writeln!(err, "{mistakes}").map(|()| None),
    }
}

/// `setup`: each thing looked at is a line on `out`, what is wrong one on `err`; gives the exit code.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn setup(
    args: &SetupArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let Some(config) = config_of(args.config.as_deref(), environment, err)? else { return Ok(exit::CONFIG) };
    if let Err(what) = adapters::check_nats(&config) {
        writeln!(err, "{what}")?;
        return Ok(exit::CONFIG);
    }
    let plan = SetupPlan { max_age: args.max_age, replicas: args.replicas, change: args.change, dry_run: args.dry_run };
    let mut written = Ok(());
    let result = setup::setup(&config.nats, &config.consumer, plan, &mut |line| {
        if written.is_ok() {
            written = writeln!(out, "{line}");
        }
    });
    written?;
    out.flush()?;
    match result {
        Ok(true) => Ok(exit::OK),
        Ok(false) => {
            writeln!(err, "setup: something that exists cannot be used as it is; see above")?;
            Ok(exit::FAILED)
        }
        Err(what) => {
            writeln!(err, "{what}")?;
            Ok(exit::FAILED)
        }
    }
}

/// Notes on a configuration as lines, for the log or a terminal.
pub fn note_lines<'a>(checked: &'a Checked, file: &'a str) -> impl Iterator<Item = String> + 'a {
    let of_several = checked.config.consumer.of_several().map(ToOwned::to_owned);
    checked.notes.iter().map(move |note| note.line(file)).chain(of_several)
}
