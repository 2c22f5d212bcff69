//! What is seen: each source is asked at the same time as the others, and says what it knows or why it does not.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::tables::{self, Known, RowSeen};
use super::{LATEST, WhyArgs, cause};
use crate::cli::admin_port::{self, ask};
use crate::cli::dead_letter_store::{DeadLetterStore, Selection};
use crate::config::{Config, InboxStore};
use crate::edge::{etcd, redis};
use crate::model::ends::End;
use crate::model::words::counted;
use crate::push::ingest;

/// The most that `/debug/ends` answers.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A user's route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteSeen {
    /// There is none.
    None,
    /// It is none that can be read.
    Bad,
    /// It names these gateways.
    At {
        /// Their ids.
        gateways: Vec<String>,
        /// How long it holds; none: without an end.
        ttl: Option<Duration>,
    },
}

/// A dead letter about the user, or about the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterSeen {
    /// How `dlq` knows it.
    pub id: String,
    /// Why it is one.
    pub reason: String,
    /// Whether it is about this one recipient.
    pub is_of_recipient: bool,
}

/// An end that an engine remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndSeen {
    /// The message.
    pub msg: i64,
    /// How it ended.
    pub end: End,
    /// At which gateway.
    pub gateway: Option<String>,
    /// When.
    pub ended_unix_millis: u64,
    /// How long after the event arrived.
    pub took: Duration,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineSeen {
    /// Its admin port.
    pub address: SocketAddr,
    /// What it remembers; none when it remembers nothing at all.
    pub ends: Known<Option<Vec<EndSeen>>>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which database holds members and rows.
    pub database: &'static str,
    /// The session.
    pub session: String,
    /// The user.
    pub user: String,
    /// The message.
    pub msg: Option<i64>,
    /// Whether rows are written at all.
    pub has_inbox: bool,
    /// Whether everybody gets rows.
    pub stores_all: bool,
    /// Whether large sessions read messages by their contents.
    pub reads_content: bool,
    /// Whether the user is in the session.
    pub is_member: Known<bool>,
    /// How many are.
    pub members: Known<u64>,
    /// The user's route.
    pub route: Known<RouteSeen>,
    /// The gateways that are registered.
    pub listed: Known<Vec<String>>,
    /// The user's rows of the session, or of the message, the latest first.
    pub rows: Known<Vec<RowSeen>>,
    /// Who sent the message, by its kept content.
    pub content: Known<Option<String>>,
    /// Dead letters of the message, those about the user first.
    pub letters: Known<Vec<LetterSeen>>,
    /// Engines that were asked.
    pub engines: Vec<EngineSeen>,
}

impl Facts {
    /// All ends that are remembered, the latest first.
    pub fn ends(&self) -> impl Iterator<Item = &EndSeen> {
        let mut all: Vec<&EndSeen> =
            self.engines.iter().filter_map(|engine| engine.ends.as_ref().ok()?.as_ref()).flatten().collect();
        all.sort_by_key(|end| std::cmp::Reverse(end.ended_unix_millis));
        all.into_iter()
    }

    /// Whether any engine remembers ends.
    pub fn remembers(&self) -> bool {
        self.engines.iter().any(|engine| matches!(engine.ends, Ok(Some(_))))
    }

    /// Gateways of the route that are not registered, as far as is known.
    pub fn unlisted(&self) -> Vec<&str> {
        match (&self.route, &self.listed) {
            (Ok(RouteSeen::At { gateways, .. }), Ok(listed)) => {
                gateways.iter().filter(|gateway| !listed.contains(gateway)).map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A line a source.
    pub fn lines(&self) -> Vec<[String; 2]> {
        let known = |known: Known<String>| known.unwrap_or_else(|why| format!("not known: {why}"));
        let line = |name: &str, what: String| [name.to_owned(), what];
        let member = self.is_member.clone().and_then(|is| {
            let of = counted(self.members.clone()?, "member");
            Ok(if is { format!("yes, one of {of}") } else { format!("no; the session has {of}") })
        });
        let rows = self.rows.clone().map(|rows| match rows.len() {
            _ if !self.has_inbox => "not used (inbox.store: off)".to_owned(),
            0 => "no row".to_owned(),
            _ => rows.iter().map(row_words).collect::<Vec<_>>().join("; "),
        });
        let content = self
            .content
            .clone()
            .map(|sender| sender.map_or("not kept".to_owned(), |sender| format!("kept, from {sender}")));
        let letters = self.letters.clone().map(|letters| match letters.len() {
            0 => "none".to_owned(),
            _ => {
                letters.iter().map(|letter| format!("{} ({})", letter.id, letter.reason)).collect::<Vec<_>>().join("; ")
            }
        });
        let mut lines = vec![
            line("member", known(member)),
            line("route", known(self.route.clone().map(route_words))),
            line("registry", known(self.registry_words())),
            line("inbox", known(rows)),
            line("content", known(content)),
            line("dead letters", known(letters)),
        ];
        lines.extend(self.engines.iter().map(|engine| {
            let ends = engine.ends.clone().map(|ends| match ends {
                None => "remembers nothing (engine.recorder is off)".to_owned(),
                Some(ends) if ends.is_empty() => "remembers no end of it".to_owned(),
                Some(ends) => ends.iter().take(LATEST).map(end_words).collect::<Vec<_>>().join("; "),
            });
            line(&format!("engine {}", engine.address), known(ends))
        }));
        lines
    }

    fn registry_words(&self) -> Known<String> {
        let listed = self.listed.clone()?;
        Ok(match (self.unlisted().as_slice(), &self.route) {
            ([], Ok(RouteSeen::At { gateways, .. })) => format!("{} registered", gateways.join(", ")),
            ([], _) => counted(listed.len() as u64, "gateway"),
            (unlisted, _) => format!("not registered: {}", unlisted.join(", ")),
        })
    }
}

/// A time as people write it.
pub(super) fn clock(unix_millis: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(unix_millis)).to_string()
}

fn row_words(row: &RowSeen) -> String {
    format!("message {} at sequence {}, {}", row.msg, row.seq, if row.is_read { "read" } else { "unread" })
}

fn route_words(route: RouteSeen) -> String {
    match route {
        RouteSeen::None => "none".to_owned(),
        RouteSeen::Bad => "cannot be read".to_owned(),
        RouteSeen::At { gateways, ttl } => {
            let until = ttl.map_or("without an end".to_owned(), |ttl| format!("for {} s more", ttl.as_secs()));
            format!("{}, {until}", gateways.join(", "))
        }
    }
}

fn end_words(end: &EndSeen) -> String {
    let at = end.gateway.as_ref().map_or(String::new(), |gateway| format!(" at {gateway}"));
    format!(
        "message {} {}{at}, {} after {:.1} s",
        end.msg,
        end.end.label(),
        clock(end.ended_unix_millis),
        end.took.as_secs_f64()
    )
}

/// Asks all of them.
pub(super) fn gather(config: &Config, args: &WhyArgs) -> Facts {
    thread::scope(|scope| {
        let route = scope.spawn(|| route(config, &args.user));
        let listed = scope.spawn(|| listed(config));
        let letters = scope.spawn(|| letters(config, args));
        let engines = scope.spawn(|| engines(config, args));
        let tables::Tables { is_member, members, rows, content } = tables::look(config, args);
        let lost = || "the look at it panicked".to_owned();
        Facts {
            database: config.database.product(),
            session: args.session.clone(),
            user: args.user.clone(),
            msg: args.msg,
            has_inbox: config.inbox.store != InboxStore::Off,
            stores_all: config.inbox.store == InboxStore::All,
            reads_content: config.inbox.rows_up_to > 0,
            is_member,
            members,
            route: route.join().unwrap_or_else(|_| Err(lost())),
            listed: listed.join().unwrap_or_else(|_| Err(lost())),
            rows,
            content,
            letters: letters.join().unwrap_or_else(|_| Err(lost())),
            engines: engines.join().unwrap_or_default(),
        }
    })
}

fn route(config: &Config, user: &str) -> Known<RouteSeen> {
    let config = redis::Config::of(config.redis.clone(), config.routes.cache);
    let (gateways, ttl) = match redis::inspect::route_of(&config, user)? {
        None => return Ok(RouteSeen::None),
        Some((None, _)) => return Ok(RouteSeen::Bad),
        Some((Some(gateways), ttl)) => (gateways, ttl),
    };
    Ok(RouteSeen::At { gateways, ttl })
}

fn listed(config: &Config) -> Known<Vec<String>> {
    let all = etcd::inspect::gateways(config)?;
    Ok(all.into_iter().map(|record| record.gateway_id.to_string()).collect())
}

/// Letters of the message; of the session when none is asked for.
fn letters(config: &Config, args: &WhyArgs) -> Known<Vec<LetterSeen>> {
    let mut store = DeadLetterStore::open(config, None).map_err(|error| error.to_string())?;
    let all = store.list(&Selection::default(), true).map_err(|error| error.to_string())?;
    let mut found: Vec<LetterSeen> = all
        .into_iter()
        .filter(|entry| entry.letter.recipient.as_ref().is_none_or(|recipient| *recipient == args.user))
        .filter(|entry| is_of(&entry.letter.payload, args))
        .map(|entry| {
            let is_of_recipient = entry.letter.recipient.is_some();
            LetterSeen { id: entry.id, reason: entry.letter.reason, is_of_recipient }
        })
        .collect();
    found.sort_by_key(|letter| !letter.is_of_recipient);
    Ok(found)
}

fn is_of(payload: &Bytes, args: &WhyArgs) -> bool {
    ingest::read(payload.clone())
        .is_ok_and(|arrival| arrival.session_id() == args.session && args.msg.is_none_or(|msg| msg == arrival.msg_id))
}

fn engines(config: &Config, args: &WhyArgs) -> Vec<EngineSeen> {
    let msg = args.msg.map_or(String::new(), |msg| format!("&msg={msg}"));
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let path = format!("/debug/ends?session={}&user={}{msg}", escaped(&args.session), escaped(&args.user));
    admin_port::engines(config, &args.admin)
        .into_iter()
        .map(|address| {
            let answer = ask(address, &path, &config.admin.tls, ANSWER_BYTES_MAX);
            let ends = match answer {
                Ok((200, body)) => ends(&body),
                Ok((status, body)) => Err(format!("it answers {status}: {}", body.trim_end())),
                Err(why) => Err(format!("no answer: {why}")),
            };
            EngineSeen { address, ends }
        })
        .collect()
}

fn ends(body: &str) -> Known<Option<Vec<EndSeen>>> {
    let answer: Value = serde_json::from_str(body).map_err(|error| format!("its answer cannot be read: {error}"))?;
    if answer["is_on"] != true {
        return Ok(None);
    }
    let of = |end: &Value| {
        Some(EndSeen {
            msg: end["msg"].as_i64()?,
            end: cause::end_of(end["end"].as_str()?, end["of"] == "recipient")?,
            gateway: end["gateway"].as_str().map(str::to_owned),
            ended_unix_millis: end["ended_unix_millis"].as_u64()?,
            took: Duration::from_millis(end["took_millis"].as_u64()?),
        })
    };
    Ok(Some(answer["ends"].as_array().into_iter().flatten().filter_map(of).collect()))
}
