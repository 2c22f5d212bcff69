//! `task-engine dlq`: look at dead letters, send them again, or drop them.
//!
//! Promises the exit codes of [`exit`], that listing and showing change nothing, that nothing is dropped unless it was
//! named or confirmed, and that a replay which was broken off can simply be run again.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::exit;
use super::table::{aligned, plain};
use crate::cli::dead_letter_store::{DeadLetterStore, DeadLetterStoreError, Entry, Selection};
use crate::config::{self, Config, Flags};
use crate::edge::dead_letters::letter::StoredLetter;
use crate::model::proto::event::PushEvent;

pub(super) const ABOUT: &str = "Look at dead letters, send them again, or drop them.

A dead letter is an event that could not be pushed however often it was tried (broken, too large, refused by a store), \
or one recipient of it. It stays until it is replayed or dropped.

They are in the JetStream stream <consumer.stream>_DLQ, or, with core NATS without such a stream, in the local file of \
dead_letters.path. The configuration says which; --file names a file directly.";

const AFTER: &str = "Examples:
  task-engine dlq list --config task.yaml
  task-engine dlq list --reason lookup_failed --newer-than 2h --json
  task-engine dlq show 17                              one letter in full, with its event
  task-engine dlq replay --reason lookup_failed        after the database was mended
  task-engine dlq replay --reason inbox_rejected       one recipient each: nobody else is pushed to again
  task-engine dlq drop --older-than 30days
  task-engine dlq drop --yes                           all of them

Replaying twice is safe: a letter is taken out only when its event is confirmed, and an event that is published again \
carries the same message id.

Exit codes:
  0  done
  1  failed, or some letters were left where they are; standard error says which and why
  2  wrong configuration or command line; nothing was opened";

/// `task-engine dlq`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER)]
pub struct DlqArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DlqCommand,
    /// YAML file of the engine; the environment is read as well.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Work on this file of dead letters instead of what the configuration says.
    #[arg(long, value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum DlqCommand {
    /// One line a letter, oldest first.
    List {
        /// Which letters; none named: all.
        #[command(flatten)]
        which: Which,
    },
    /// One letter in full, with its event.
    Show {
        /// The id that `list` shows.
        id: String,
    },
    /// Publish the events again where they were published first, and take out what was confirmed.
    Replay {
        /// Which letters; none named: all.
        #[command(flatten)]
        which: Which,
        /// Letters about one recipient, and replays for one that failed again, are replayed for that recipient alone; with this
        /// their event goes to all members again. Not before the engine has forgotten the event (five minutes), as it would
        /// take it for a repeat.
        #[arg(long)]
        everyone: bool,
    },
    /// Take letters out for good.
    Drop {
        /// Which letters; none named: all, with --yes.
        #[command(flatten)]
        which: Which,
        /// Yes, all of them.
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters; all that is named must hold.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Ids as `list` shows them.
    pub ids: Vec<String>,
    /// Only of this reason, such as undecodable, lookup_failed or inbox_conflict.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only those stored longer ago than this, such as 30min, 12h or 7days.
    #[arg(long, value_name = "AGE", value_parser = config::span)]
    pub older_than: Option<Duration>,
    /// Only those stored since, such as 30min, 12h or 7days.
    #[arg(long, value_name = "AGE", value_parser = config::span)]
    pub newer_than: Option<Duration>,
}

impl Which {
    fn selection(self) -> Selection {
        let Self { ids, reason, older_than, newer_than } = self;
        Selection { ids, reason, older_than, newer_than }
    }
}

/// Why it ends otherwise than well.
enum Failure {
    DeadLetterStore(DeadLetterStoreError),
    Output(io::Error),
    /// The command line as a whole; says what to write.
    Usage(&'static str),
    /// Said already.
    Said,
}

impl From<DeadLetterStoreError> for Failure {
    fn from(error: DeadLetterStoreError) -> Self {
        Self::DeadLetterStore(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs it; gives the exit code. What was asked for goes to `out`, everything else to `err`.
pub fn run(args: DlqArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let checked = match config::load(args.config.as_deref(), std::env::vars_os(), &Flags::default()) {
        Ok(checked) => checked,
        Err(mistakes) => {
            let _ = writeln!(err, "{mistakes}");
            return exit::CONFIG;
        }
    };
    let failure = match work(args, &checked.config, out, err).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => return exit::OK,
        Err(failure) => failure,
    };
    // Standard error is the last place to say it: when that fails too, the exit code is left.
    match failure {
        Failure::Usage(what) => {
            let _ = writeln!(err, "{what}");
            exit::CONFIG
        }
        // Whoever reads us has had enough, as `head` does.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK,
        Failure::Output(error) => {
            let _ = writeln!(err, "cannot write the output: {error}");
            exit::FAILED
        }
        Failure::DeadLetterStore(error) => {
            let _ = writeln!(err, "{error}");
            exit::FAILED
        }
        Failure::Said => exit::FAILED,
    }
}

fn work(args: DlqArgs, config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    let DlqArgs { command, file, json, .. } = args;
    if let DlqCommand::Drop { which, yes: false } = &command
        && which.clone().selection().is_all()
    {
        return Err(Failure::Usage("this would drop all dead letters: name some (see --help), or say --yes"));
    }
    let mut store = open(config, file.as_deref())?;
    let done = match command {
        DlqCommand::List { which } => list(&mut store, &which.selection(), json, out),
        DlqCommand::Show { id } => show(&mut store, id, json, out),
        DlqCommand::Replay { which, everyone } => replay(&mut store, &which.selection(), everyone, json, out, err),
        DlqCommand::Drop { which, .. } => drop_letters(&mut store, &which.selection(), json, out),
    };
    for note in &store.notes {
        writeln!(err, "note: {note}")?;
    }
    done
}

fn open(config: &Config, file: Option<&Path>) -> Result<DeadLetterStore, Failure> {
    if let Some(path) = file
        && !path.exists()
    {
        return Err(DeadLetterStoreError(format!("{}: there is no such file; check the path", path.display())).into());
    }
    Ok(DeadLetterStore::open(config, file)?)
}

fn list(store: &mut DeadLetterStore, selection: &Selection, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let entries = store.list(selection, false)?;
    if json {
        for entry in &entries {
            writeln!(out, "{}", head_of(entry))?;
        }
        return Ok(());
    }
    if entries.is_empty() {
        writeln!(out, "no dead letters ({})", store.place())?;
        return Ok(());
    }
    let heads = ["ID", "STORED", "REASON", "TRIES", "BYTES", "RECIPIENT", "DETAIL"].map(str::to_owned);
    let rows: Vec<[String; 7]> = std::iter::once(heads).chain(entries.iter().map(row)).collect();
    out.write_all(aligned(&rows).as_bytes())?;
    writeln!(out, "{} in {}", count(entries.len()), store.place())?;
    Ok(())
}

fn row(entry: &Entry) -> [String; 7] {
    let letter = &entry.letter;
    [
        entry.id.clone(),
        time(letter.last_unix_nanos),
        plain(&letter.reason),
        letter.tries.to_string(),
        entry.payload_bytes.to_string(),
        is_for(entry).map_or("-".to_owned(), |names| plain(&names)),
        plain(&letter.detail),
    ]
}

fn show(store: &mut DeadLetterStore, id: String, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let selection = Selection { ids: vec![id.clone()], ..Selection::default() };
    let Some(entry) = store.list(&selection, true)?.pop() else {
        return Err(DeadLetterStoreError(format!("there is no dead letter {id} in {}", store.place())).into());
    };
    if json {
        let mut whole = head_of(&entry);
        whole["payload_base64"] =
            serde_json::to_value(&entry.letter).map_or_else(|_| "".into(), |all| all["payload"].clone());
        whole["event"] = event(&entry.letter).unwrap_or_default();
        writeln!(out, "{whole}")?;
        return Ok(());
    }
    let letter = &entry.letter;
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let lines = [
        ("id", entry.id.clone()),
        ("reason", plain(&letter.reason)),
        ("detail", plain(&letter.detail)),
        ("recipient", is_for(&entry).map_or("all of the event".to_owned(), |names| plain(&names))),
        ("subject", if letter.subject.is_empty() { "-".to_owned() } else { plain(&letter.subject) }),
        ("sequence", number(letter.sequence)),
        ("published", letter.first_unix_nanos.map_or("-".to_owned(), time)),
        ("stored", time(letter.last_unix_nanos)),
        ("tries", letter.tries.to_string()),
        ("deliveries", letter.deliveries.to_string()),
        ("key", plain(&letter.key)),
        ("payload", format!("{} bytes", entry.payload_bytes)),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:10} {value}")?;
    }
    match event(letter) {
        Some(event) => writeln!(out, "event      {event}")?,
        None => {
            writeln!(out, "event      no PushEvent; its bytes: {}", plain(&letter.payload.escape_ascii().to_string()))?
        }
    }
    Ok(())
}

fn replay(
    store: &mut DeadLetterStore,
    selection: &Selection,
    everyone: bool,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let done = store.replay(selection, everyone)?;
    if json {
        let failed: Vec<_> = done.failed.iter().map(|(id, why)| serde_json::json!({"id": id, "why": why})).collect();
        let all = serde_json::json!({"replayed": done.replayed, "one_recipient": done.one_recipient, "failed": failed});
        writeln!(out, "{all}")?;
    } else {
        let for_one = match done.one_recipient.len() {
            0 => String::new(),
            letters => format!(", {letters} of them for one recipient each"),
        };
        let is_none = done.replayed.is_empty() && done.failed.is_empty();
        let of_none = selection.reason.as_ref().filter(|_| is_none).map_or_else(String::new, |reason| {
            format!(": none that was asked for has the reason {reason}; dlq list shows which there are")
        });
        writeln!(out, "{} replayed{for_one}{of_none}", count(done.replayed.len()))?;
    }
    for (id, why) in &done.failed {
        writeln!(err, "{id}: stays: {why}")?;
    }
    let known: HashSet<&String> = done.replayed.iter().chain(done.failed.iter().map(|(id, _)| id)).collect();
    all_were_there(selection, |id| known.contains(id))?;
    if done.failed.is_empty() { Ok(()) } else { Err(Failure::Said) }
}

/// Refuses ids that were named and that there was nothing to do with.
fn all_were_there(selection: &Selection, is_there: impl Fn(&String) -> bool) -> Result<(), Failure> {
    let missing: Vec<&str> = selection.ids.iter().filter(|id| !is_there(id)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(DeadLetterStoreError(format!("not there, or not of what else was asked for: {}", missing.join(" "))).into())
}

fn drop_letters(
    store: &mut DeadLetterStore,
    selection: &Selection,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let ids: HashSet<String> = store.list(selection, false)?.into_iter().map(|entry| entry.id).collect();
    store.remove(&ids)?;
    if json {
        writeln!(out, "{}", serde_json::json!({"dropped": ids.len()}))?;
    } else {
        writeln!(out, "{} dropped", count(ids.len()))?;
    }
    all_were_there(selection, |id| ids.contains(id))
}

/// Whom a replay would be for; none: all members.
fn is_for(entry: &Entry) -> Option<String> {
    let named = || (!entry.only_usernames.is_empty()).then(|| entry.only_usernames.join(", "));
    entry.letter.recipient.clone().or_else(named)
}

/// All but the payload.
fn head_of(entry: &Entry) -> serde_json::Value {
    let letter = &entry.letter;
    // `buried`: scripts of operators read that key.
    serde_json::json!({
        "id": entry.id, "key": letter.key, "reason": letter.reason, "detail": letter.detail,
        "subject": letter.subject, "sequence": letter.sequence, "recipient": letter.recipient,
        "only_usernames": entry.only_usernames,
        "tries": letter.tries, "deliveries": letter.deliveries, "payload_bytes": entry.payload_bytes,
        "published": letter.first_unix_nanos.map(time), "buried": time(letter.last_unix_nanos),
    })
}

fn event(letter: &StoredLetter) -> Option<serde_json::Value> {
    let event: PushEvent = prost::Message::decode(&*letter.payload).ok()?;
    Some(serde_json::json!({
        "msg_id": event.msg_id, "seq_id": event.seq_id, "session_id": event.session_id,
        "from_username": event.from_username, "to_username": event.to_username, "content": event.content,
        "type": event.r#type, "timestamp": event.timestamp, "only_usernames": event.only_usernames,
    }))
}

fn time(unix_nanos: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)).to_string()
}

fn count(letters: usize) -> String {
    format!("{letters} letter{}", if letters == 1 { "" } else { "s" })
}
