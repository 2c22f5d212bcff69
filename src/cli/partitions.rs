//! `task-engine partitions`: which instance owns which partition; take an instance out, or in again.
//!
//! Promises the exit codes of [`exit`], that showing changes nothing, and that what is not known is said rather than left out: records
//! that cannot be read, and why there is no lag.

mod overview;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::overview::Overview;
use super::exit;
use crate::config::{self, Config, Flags};
use crate::edge::etcd::ownership::once::{self, Look};
use crate::edge::etcd::ownership::root;
use crate::edge::nats::jetstream::generations::{Generations, Outcome};
use crate::model::ids::Partition;
use crate::model::ownership::Generation;
use crate::model::words::counted;
use crate::ownership::facts;
use crate::ownership::keys::{Instance, Key};
use crate::ownership::records::{self, Drained, Nonce};

pub(super) const ABOUT: &str = "Show which instance owns which partition, take an instance out, or in again.

With consumer.ownership etcd each partition of the stream has one instance that reads it. Which, stands in etcd below \
/resonance/task-engine/<stream>/<durable>/, and is shown with the instances that are there.";

const AFTER: &str = "Examples:
  task-engine partitions --config task.yaml
  task-engine partitions --json | jq '.partitions[] | select(.owner == null)'
  task-engine partitions drain push-2          before maintenance: its partitions go to the others
  task-engine partitions undrain push-2

A drained instance runs on and owns nothing, also after a restart, until undrain.

States:
  owned    its owner reads it, and is to keep it
  moving   its owner reads it, and the plan names another one (or nobody)
  free     nobody reads it; the next owner goes on where the last one closed it
  fenced   nobody reads it; the next owner first makes sure that the last one does not any more

Exit codes:
  0  done
  1  failed; standard error says which server and why
  2  wrong configuration or command line; nothing was opened";

/// `task-engine partitions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub struct PartitionsArgs {
    /// What to do; nothing: show.
    #[command(subcommand)]
    pub command: Option<PartitionsCommand>,
    /// YAML file of the engine; the environment is read as well.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What else than showing can be asked for.
#[derive(Clone, Debug, Subcommand)]
pub enum PartitionsCommand {
    /// Let an instance own nothing: its partitions go to the others. It runs on, and stays drained until undrain.
    Drain {
        /// Its name (engine.instance).
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        instance: String,
    },
    /// Let a drained instance own partitions again.
    Undrain {
        /// Its name (engine.instance).
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        instance: String,
    },
}

/// How far the consumer of a partition is, by the broker's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Events that it has not delivered.
    pub lag: u64,
    /// Events that it delivered and that are not acknowledged.
    pub unacked: u64,
}

/// Asks the broker how far these consumers are; `None` for one that is not there. An error is in words.
pub type AskStandings = dyn Fn(&Config, &[(Partition, Generation)]) -> Result<Vec<Option<Standing>>, String>;

/// Asks JetStream, all at once.
///
/// # Errors
/// Why it does not say; no answer of one is none of all.
pub fn ask_jetstream(config: &Config, of: &[(Partition, Generation)]) -> Result<Vec<Option<Standing>>, String> {
    let mut generations = Generations::new(config.nats.clone(), &config.consumer, config.nats.timeout);
    let answers = generations.standing(of).into_iter().map(|answer| match answer {
        Outcome::Done(found) => Ok(Some(Standing { lag: found.to_come, unacked: found.pending })),
        Outcome::Absent => Ok(None),
        Outcome::Refused(why) | Outcome::NoAnswer(why) => Err(why),
    });
    answers.collect()
}

/// Why it ends otherwise than well.
enum Failure {
    Etcd(String),
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs it; gives the exit code. What was asked for goes to `out`, everything else to `err`. Without `standings` no lag is shown.
pub fn run(args: PartitionsArgs, standings: Option<&AskStandings>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let checked = match config::load(args.config.as_deref(), std::env::vars_os(), &Flags::default()) {
        Ok(checked) => checked,
        Err(mistakes) => {
            let _ = writeln!(err, "{mistakes}");
            return exit::CONFIG;
        }
    };
    // Standard error is the last place to say it: when that fails too, the exit code is left.
    match work(args, &checked.config, standings, out, err).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => exit::OK,
        // Whoever reads us has had enough, as `head` does.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Err(Failure::Output(error)) => {
            let _ = writeln!(err, "cannot write the output: {error}");
            exit::FAILED
        }
        Err(Failure::Etcd(why)) => {
            let _ = writeln!(err, "{why}");
            exit::FAILED
        }
    }
}

fn work(
    args: PartitionsArgs,
    config: &Config,
    standings: Option<&AskStandings>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let root = root(&config.consumer.stream, &config.consumer.durable);
    let look = once::look(&config.etcd, &root).map_err(Failure::Etcd)?;
    match args.command {
        None => show(config, &root, &look, standings, args.json, out, err),
        Some(PartitionsCommand::Drain { instance }) => drain(config, &root, &look, &instance, args.json, out, err),
        Some(PartitionsCommand::Undrain { instance }) => undrain(config, &root, &instance, args.json, out),
    }
}

fn show(
    config: &Config,
    root: &str,
    look: &Look,
    standings: Option<&AskStandings>,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    if look.keys.is_empty() {
        return Err(Failure::Etcd(format!(
            "etcd holds nothing below {root}: no instance with consumer.ownership etcd has run for stream {} and durable {}; \
             check consumer.stream and consumer.durable",
            config.consumer.stream, config.consumer.durable
        )));
    }
    let mut overview = Overview::of(look);
    if let Some(ask) = standings {
        match ask(config, &overview.consumers()) {
            Ok(standings) => overview.stand(standings),
            Err(why) => writeln!(err, "lag and unacknowledged events are not known: {why}")?,
        }
    }
    for line in overview.unreadable() {
        writeln!(err, "{line}")?;
    }
    if json {
        writeln!(out, "{}", overview.json(root))?;
    } else {
        write!(out, "{}", overview.table())?;
    }
    Ok(())
}

fn drain(
    config: &Config,
    root: &str,
    look: &Look,
    instance: &str,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let name = Instance::from(instance);
    let value = records::write(&Drained { by: Nonce(format!("task-engine partitions drain/{}", std::process::id())) });
    let put = facts::Write::Put { key: Key::Drained(name.clone()), value, lease: None };
    let was_drained = once::write(&config.etcd, root, &put).map_err(Failure::Etcd)?;
    let overview = Overview::of(look);
    let (is_there, owned) = (overview.is_member(&name), overview.owned_by(&name));
    if json {
        let all = serde_json::json!({
            "instance": instance, "drained": true, "was_drained": was_drained, "is_there": is_there, "owns": owned,
        });
        writeln!(out, "{all}")?;
    } else {
        let of = counted(owned as u64, "partition");
        match (is_there, was_drained) {
            (true, _) => writeln!(out, "{instance} is drained: it owns {of} and gives them to the others")?,
            (false, _) => writeln!(out, "{instance} is drained; it is not there now, and owns nothing when it comes")?,
        }
    }
    if !overview.has_taker_besides(&name) {
        writeln!(err, "note: no other instance is there to take partitions: until one comes nobody reads them")?;
    }
    Ok(())
}

fn undrain(config: &Config, root: &str, instance: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let delete = facts::Write::Delete { key: Key::Drained(Instance::from(instance)) };
    let was_drained = once::write(&config.etcd, root, &delete).map_err(Failure::Etcd)?;
    if json {
        writeln!(out, "{}", serde_json::json!({ "instance": instance, "drained": false, "was_drained": was_drained }))?;
    } else if was_drained {
        writeln!(out, "{instance} is no longer drained: it gets partitions when it is there")?;
    } else {
        writeln!(out, "{instance} was not drained")?;
    }
    Ok(())
}
