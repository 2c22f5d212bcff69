//! `task-engine tap`: looks on at the events of one session, or to one user, for a while.
//!
//! Promises to hold nothing when it is killed: an engine that is not asked any more ends by itself. Says how many events were too many
//! to be shown, and which engine is not looked at. Refuses contents that nobody asked for, and control characters in a terminal.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::cli::admin_port::{self, ask};
use crate::cli::table::plain;
use crate::cli::{config_of, exit};
use crate::config::{self, Config, ServerTlsConfig};
use crate::ports::tap::LASTS_MAX;

pub(super) const ABOUT: &str = "Look on at the events of one session, or to one user, as they end.

Asks the running engines to tell of each such event: when it arrived, its session, message and class, to how many users it was pushed at \
which gateways, who could not be reached and why, and how long it took. At most 100 events per second are told, the others are counted. \
An engine that nobody looks at spends nothing on it. One looks on at a time.";

const AFTER: &str = "Examples:
  task-engine tap --config task.yaml --session group:1
  task-engine tap --user ann --for 5m
  task-engine tap --session s --admin 10.0.0.1:9100 --admin 10.0.0.2:9100
  task-engine tap --session s --content              with admin.tap_content: true

Exit codes:
  0  the time is over
  1  no engine could be looked at
  2  wrong configuration or command line; nothing was opened";

/// How often engines are asked for what happened.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// More than 100 events with their contents have.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The flags of `tap`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER, group = clap::ArgGroup::new("of").required(true).multiple(true).args(["session", "user"]))]
pub struct TapArgs {
    /// Events of this session (session_id).
    #[arg(long, value_name = "S", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub session: Option<String>,
    /// Events to this recipient (username).
    #[arg(long, value_name = "U", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// For how long, at most 10m: 30s, 5m.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = lasts)]
    pub lasts: Duration,
    /// Show the first 4 KiB of what messages say; admin.tap_content must be true.
    #[arg(long)]
    pub content: bool,
    /// YAML file of the engine; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of an engine's admin port, several times for several [default: admin.listen, and with consumer.ownership etcd those of all
    /// instances].
    #[arg(long, value_name = "ADDR")]
    pub admin: Vec<SocketAddr>,
    /// Print a JSON object per event instead of a line.
    #[arg(long)]
    pub json: bool,
}

fn lasts(text: &str) -> Result<Duration, String> {
    let time = config::span(text)?;
    match time {
        time if time < Duration::from_secs(1) => Err("is below 1s".to_owned()),
        time if time > LASTS_MAX => Err(format!("is above {} s", LASTS_MAX.as_secs())),
        time => Ok(time),
    }
}

/// What one engine says.
enum Word {
    Events(Vec<Value>, u64),
    /// It is not looked at (any more); in words, when that is no end in time.
    Over(SocketAddr, Option<String>),
}

/// Looks on; events go to `out`, what is wrong to `err`. Gives the exit code.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(
    args: &TapArgs,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let Some(config) = config_of(args.config.as_deref(), environment, err)? else { return Ok(exit::CONFIG) };
    let engines = admin_port::engines(&config, &args.admin);
    let (tell, words) = channel();
    for address in engines.iter().copied() {
        let (look, tell) = (Look::of(&config, args, address), tell.clone());
        std::thread::spawn(move || {
            let why = look.on(args_until(look.lasts), &|word| tell.send(word).is_ok()).err();
            // Nobody may listen any more.
            let _ = tell.send(Word::Over(address, why));
        });
    }
    drop(tell);
    show(args, &words, engines.len(), out, err)
}

fn args_until(lasts: Duration) -> Instant {
    // The engine says when it is over; this is for one that does not.
    Instant::now() + lasts + admin_port::WITHIN
}

fn show(
    args: &TapArgs,
    words: &Receiver<Word>,
    engines: usize,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let (mut failed, mut left_out, mut shown) = (0, 0, 0_u64);
    loop {
        match words.recv_timeout(LASTS_MAX) {
            Ok(Word::Events(events, more)) => {
                for event in &events {
                    if args.json { writeln!(out, "{event}")? } else { writeln!(out, "{}", line(event))? }
                }
                if more > 0 {
                    writeln!(err, "{more} more events were too many to be shown")?;
                }
                (left_out, shown) = (left_out + more, shown + events.len() as u64);
                out.flush()?;
            }
            Ok(Word::Over(address, Some(why))) => {
                failed += 1;
                writeln!(err, "{address}: {}", plain(&why))?;
            }
            Ok(Word::Over(_, None)) => {}
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break,
        }
    }
    writeln!(err, "{shown} events shown, {left_out} too many to be shown")?;
    Ok(if failed == engines { exit::FAILED } else { exit::OK })
}

/// One engine.
struct Look {
    address: SocketAddr,
    tls: ServerTlsConfig,
    path: String,
    lasts: Duration,
}

impl Look {
    fn of(config: &Config, args: &TapArgs, address: SocketAddr) -> Self {
        let mut path = format!("/debug/tap/start?seconds={}&content={}", args.lasts.as_secs(), args.content);
        for (name, value) in [("session", &args.session), ("user", &args.user)] {
            if let Some(value) = value {
                path += &format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        Self { address, tls: config.admin.tls.clone(), path, lasts: args.lasts }
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        match ask(self.address, path, &self.tls, ANSWER_BYTES_MAX) {
            Ok((200, body)) => {
                serde_json::from_str(&body).map_err(|error| format!("its answer cannot be read: {error}"))
            }
            Ok((status, body)) => Err(format!("it answers {status}: {}", body.trim_end())),
            Err(why) => Err(format!("no answer: {why}")),
        }
    }

    /// Looks on until it is over, or nobody wants to hear of it.
    fn on(&self, until: Instant, tell: &dyn Fn(Word) -> bool) -> Result<(), String> {
        let begun = self.ask(&self.path)?;
        let tap = begun["tap"].as_str().ok_or("it does not say which tap it began")?.to_owned();
        loop {
            std::thread::park_timeout(ASK_EVERY);
            let mut read = self.ask(&format!("/debug/tap/read?tap={tap}"))?;
            let Value::Array(events) = read["events"].take() else {
                return Err("it does not tell of events".to_owned());
            };
            let left_out = read["left_out"].as_u64().unwrap_or(0);
            if (!events.is_empty() || left_out > 0) && !tell(Word::Events(events, left_out)) {
                return self.ask(&format!("/debug/tap/stop?tap={tap}")).map(drop);
            }
            if read["is_over"] == true {
                return Ok(());
            }
            if Instant::now() > until {
                return Err("it does not end".to_owned());
            }
        }
    }
}

fn millis(micros: &Value) -> String {
    format!("{:.1} ms", micros.as_f64().unwrap_or(0.0) / 1_000.0)
}

/// An event on one line.
fn line(event: &Value) -> String {
    let word = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
    let arrived = std::time::UNIX_EPOCH + Duration::from_millis(event["arrived_unix_millis"].as_u64().unwrap_or(0));
    let mut text = format!(
        "{} {} msg {} from {} {} {} in {}",
        humantime::format_rfc3339_millis(arrived),
        word("session"),
        event["msg"],
        word("from"),
        word("class"),
        word("end"),
        millis(&event["took_micros"])
    );
    let list = |name: &str| event[name].as_array().cloned().unwrap_or_default();
    for push in list("pushes") {
        let missed = push["missed"].as_u64().filter(|missed| *missed > 0);
        let missed = missed.map_or(String::new(), |missed| format!(", {missed} missed"));
        let (gateway, users) = (push["gateway"].as_str().unwrap_or("?").to_owned(), &push["recipients"]);
        text += &format!("; {gateway}: {users} users{missed}, answered after {}", millis(&push["ended_micros"]));
    }
    for miss in list("unreached") {
        let at = miss["gateway"].as_str().map_or(String::new(), |gateway| format!(" at {gateway}"));
        text += &format!("; {} not reached{at}: {}", miss["recipients"], miss["why"].as_str().unwrap_or("?"));
    }
    if let Some(content) = event["content"].as_str() {
        text += &format!("; says {content:?}");
    }
    plain(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        let event = serde_json::json!({
            "arrived_unix_millis": 1_700_000_000_123_u64, "session": "group:1\u{1b}[2J\nx", "msg": 7, "from": "bob", "class": "urgent",
            "end": "settled", "took_micros": 3_250,
            "pushes": [{ "gateway": "gw-1", "recipients": 3, "missed": 1, "written_micros": 10, "ended_micros": 2_000 }],
            "unreached": [{ "why": "offline", "gateway": null, "recipients": 2 }], "content": "hi\n"
        });
        let want = "2023-11-14T22:13:20.123Z group:1 [2J x msg 7 from bob urgent settled in 3.2 ms; gw-1: 3 users, 1 missed, \
                    answered after 2.0 ms; 2 not reached: offline; says \"hi\\n\"";
        assert_eq!(line(&event), want);
    }

    #[test]
    fn the_time_is_bounded() {
        assert_eq!(lasts("5m"), Ok(Duration::from_secs(300)));
        assert!(lasts("0s").is_err() && lasts("11m").is_err() && lasts("x").is_err());
    }
}
