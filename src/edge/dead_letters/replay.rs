//! What a replay publishes of a letter: for whom, under which message id, where, and when.
//!
//! Promises that who had the event is not sent it again unless that was asked for: a letter about one recipient is for him
//! alone, and a replay that failed, which is about all of *its* event, stays for those it was for. Promises that a replay
//! for everyone waits until the engine has forgotten the event, as it would be settled as a repeat and its letter be gone.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message as _;

use super::letter::StoredLetter;
use crate::config::Assignment;
use crate::model::ids::Partition;
use crate::model::limits::REPEAT_WINDOW_AGE;
use crate::model::proto::event::PushEvent;
use crate::model::protobuf::{Fields, Value, put_varint};

/// How long after a letter was written its event may be settled.
const SETTLE_GRACE: Duration = Duration::from_secs(10);
/// PushEvent.only_usernames, with its wire type.
const ONLY_USERNAMES: u32 = 15;
const ONLY_USERNAMES_TAG: u8 = 15 << 3 | 2;

/// What is published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replay {
    /// The event.
    pub payload: Bytes,
    /// The same whenever the same is published again.
    pub message_id: String,
    /// Whether it is for one recipient only.
    pub is_for_one: bool,
}

impl Replay {
    /// Of this letter, which is known by `key`; the error says why it has to stay.
    pub(crate) fn of(letter: &StoredLetter, key: &str, for_everyone: bool, now: SystemTime) -> Result<Self, String> {
        let named = only_usernames(&letter.payload);
        let is_for_some = letter.recipient.is_some() || !named.is_empty();
        if for_everyone && is_for_some {
            if let Some(wait) = wait_before_replay(letter, now) {
                let wait = humantime::format_duration(Duration::from_secs(wait.as_secs() + 1));
                return Err(format!(
                    "its event was settled a moment ago, so the engine would take it for a repeat; run this again in {wait}"
                ));
            }
            let payload = for_all(&letter.payload).map_or_else(|| letter.payload.clone(), Bytes::from);
            return Ok(Self { payload, message_id: format!("replay-everyone-{key}"), is_for_one: false });
        }
        let payload = match &letter.recipient {
            Some(recipient) => only_for(&letter.payload, recipient)
                .ok_or("it names a recipient, and its event is none; drop it")?
                .into(),
            None => letter.payload.clone(),
        };
        let is_for_one = letter.recipient.is_some() || named.len() == 1;
        Ok(Self { payload, message_id: format!("replay-{key}"), is_for_one })
    }
}

/// Whom an event is for; none: for all, or it is no event.
pub(crate) fn only_usernames(payload: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut fields = Fields::new(payload);
    loop {
        match fields.next_field() {
            Ok(Some(field)) => {
                if let (ONLY_USERNAMES, Value::Bytes(name)) = (field.number, field.value) {
                    names.push(String::from_utf8_lossy(name).into_owned());
                }
            }
            Ok(None) => return names,
            Err(_) => return Vec::new(),
        }
    }
}

/// The event without the list of those it is for; none when there is no such list, or no event.
fn for_all(payload: &[u8]) -> Option<Vec<u8>> {
    let mut event = Vec::with_capacity(payload.len());
    let mut fields = Fields::new(payload);
    while let Some(field) = fields.next_field().ok()? {
        if field.number != ONLY_USERNAMES {
            event.extend_from_slice(&payload[field.start..field.end]);
        }
    }
    (event.len() < payload.len()).then_some(event)
}

/// The event for this recipient alone, its other bytes as they came; none when it is no event.
fn only_for(payload: &[u8], recipient: &str) -> Option<Vec<u8>> {
    PushEvent::decode(payload).ok()?;
    let mut event = for_all(payload).unwrap_or_else(|| payload.to_vec());
    event.push(ONLY_USERNAMES_TAG);
    put_varint(&mut event, recipient.len() as u64);
    event.extend_from_slice(recipient.as_bytes());
    Some(event)
}

/// A letter about some recipients is of an event that was settled: as long as the engine remembers that, the event would be
/// settled again without a push when it comes for everyone, and the letter would be gone. For those recipients alone it is
/// never a repeat. What is in the dead letters as a whole is not remembered.
fn wait_before_replay(letter: &StoredLetter, now: SystemTime) -> Option<Duration> {
    let stored_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(letter.last_unix_nanos);
    let age = now.duration_since(stored_at).unwrap_or_default();
    (REPEAT_WINDOW_AGE + SETTLE_GRACE).checked_sub(age).filter(|wait| !wait.is_zero())
}

/// Where the event is to be published: where it was, unless that follows from the configuration. Core NATS's reader does
/// not always say where, and of another number of partitions nobody may read the one it was in.
pub(crate) fn subject_of(
    letter: &StoredLetter,
    [topic, urgent_topic]: [&str; 2],
    assignment: Assignment,
    partitions: u32,
) -> Option<String> {
    let is_of = |topic: &str| {
        let rest = letter.subject.strip_prefix(topic).filter(|_| !topic.is_empty());
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('.').is_some_and(|number| number.parse::<u32>().is_ok())
        })
    };
    let topic = match letter.subject.is_empty() || is_of(topic) {
        true => topic,
        false if is_of(urgent_topic) => urgent_topic,
        false => return Some(letter.subject.clone()),
    };
    let session = PushEvent::decode(&*letter.payload).map(|event| event.session_id).unwrap_or_default();
    match assignment {
        Assignment::Queue => Some(topic.to_owned()),
        Assignment::Partitioned if session.is_empty() => {
            Some(letter.subject.clone()).filter(|subject| !subject.is_empty())
        }
        Assignment::Partitioned => Some(format!("{topic}.{}", Partition::of(session.as_bytes(), partitions).0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{DeadLetter, Origin};

    const STORED: Duration = Duration::from_secs(1_700_000_000);

    fn event(only: &[&str]) -> Bytes {
        let only_usernames = only.iter().map(|name| (*name).to_owned()).collect();
        PushEvent { msg_id: 7, session_id: "s".to_owned(), only_usernames, ..PushEvent::default() }
            .encode_to_vec()
            .into()
    }

    fn letter(payload: Bytes, recipient: Option<&str>) -> StoredLetter {
        let recipient = recipient.map(Into::into);
        let letter = DeadLetter { reason: "inbox_rejected", detail: String::new(), payload, recipient, tries: 1 };
        StoredLetter::of(&letter, &Origin::default(), STORED.as_nanos() as u64)
    }

    #[test]
    fn a_replay_for_one_names_him_and_changes_nothing_else() {
        let payload = event(&[]);
        let once = only_for(&payload, "bob").expect("an event");
        assert!(once.starts_with(&payload));
        assert_eq!(once, event(&["bob"]));
        let again = only_for(&once, "ann").expect("an event");
        assert_eq!(again, event(&["ann"]), "the list is replaced");
        assert_eq!((for_all(&again), for_all(&payload)), (Some(payload.to_vec()), None));
        assert_eq!(only_for(b"\xff\xff", "bob"), None);
    }

    /// Each form of a letter, without and with `--everyone`, right after it was written and when its event is forgotten.
    #[test]
    fn who_had_the_event_is_not_sent_it_again_unless_that_is_asked_for() {
        /// Whom the letter is about, who is named in its event, whom it is for, and whether that is one.
        type Form = (Option<&'static str>, &'static [&'static str], &'static [&'static str], bool);
        let none: &[&str] = &[];
        let forms: [Form; 6] = [
            (Some("bob"), none, &["bob"], true),
            (Some("bob"), &["bob"], &["bob"], true),
            (Some("ann"), &["bob", "ann"], &["ann"], true),
            (None, &["bob"], &["bob"], true),
            (None, &["bob", "ann"], &["bob", "ann"], false),
            (None, none, none, false),
        ];
        let soon = SystemTime::UNIX_EPOCH + STORED + Duration::from_secs(1);
        let later = SystemTime::UNIX_EPOCH + STORED + REPEAT_WINDOW_AGE + SETTLE_GRACE;
        for (recipient, named, is_for, is_for_one) in forms {
            let letter = letter(event(named), recipient);
            let what = format!("{recipient:?} {named:?}");
            let expected = Replay { payload: event(is_for), message_id: "replay-k".to_owned(), is_for_one };
            for now in [soon, later] {
                assert_eq!(Replay::of(&letter, "k", false, now).as_ref(), Ok(&expected), "{what}");
            }
            let all =
                |message_id: &str| Replay { payload: event(none), message_id: message_id.into(), is_for_one: false };
            let (at_once, in_time) = (Replay::of(&letter, "k", true, soon), Replay::of(&letter, "k", true, later));
            if recipient.is_none() && named.is_empty() {
                assert_eq!((at_once, in_time), (Ok(all("replay-k")), Ok(all("replay-k"))), "{what}");
            } else {
                let why = at_once.expect_err("its event is remembered");
                assert!(why.contains("take it for a repeat; run this again in 5m 10s"), "{what}: {why}");
                assert_eq!(in_time, Ok(all("replay-everyone-k")), "{what}");
            }
        }
    }

    #[test]
    fn what_is_no_event_is_published_as_it_is() {
        for everyone in [false, true] {
            let broken = Bytes::from_static(&[15 << 3 | 2, 3, b'b', b'o', b'b', 0xff]);
            let now = SystemTime::UNIX_EPOCH + STORED;
            let replay = Replay::of(&letter(broken.clone(), None), "k", everyone, now).expect("published");
            assert_eq!((replay.payload, replay.is_for_one), (broken.clone(), false));
            assert!(Replay::of(&letter(broken, Some("bob")), "k", false, now).is_err());
        }
    }

    #[test]
    fn a_letter_goes_to_where_the_engine_reads_now() {
        let of = |subject: &str, session_id: &str, assignment, urgent: &str| {
            let event = PushEvent { session_id: session_id.to_owned(), ..PushEvent::default() };
            let letter = DeadLetter {
                reason: "lookup_failed",
                detail: String::new(),
                payload: event.encode_to_vec().into(),
                recipient: None,
                tries: 1,
            };
            let origin = Origin { subject: subject.to_owned(), ..Origin::default() };
            subject_of(&StoredLetter::of(&letter, &origin, 1), ["events", urgent], assignment, 4)
        };
        let right = format!("events.{}", Partition::of(b"s", 4).0);
        let right_of_urgent = format!("calls.{}", Partition::of(b"s", 4).0);
        for (subject, session, assignment, expected) in [
            ("events", "s", Assignment::Queue, Some("events")),
            ("events.63", "s", Assignment::Queue, Some("events")),
            ("", "s", Assignment::Queue, Some("events")),
            ("other", "s", Assignment::Queue, Some("other")),
            ("eventsé", "s", Assignment::Queue, Some("eventsé")),
            ("events.63", "s", Assignment::Partitioned, Some(right.as_str())),
            ("", "s", Assignment::Partitioned, Some(right.as_str())),
            ("events.2", "", Assignment::Partitioned, Some("events.2")),
            ("", "", Assignment::Partitioned, None),
            ("other.2", "s", Assignment::Partitioned, Some("other.2")),
        ] {
            for urgent in ["", "calls"] {
                let is = of(subject, session, assignment, urgent);
                assert_eq!(is.as_deref(), expected, "{subject:?} {session:?} {assignment:?} {urgent:?}");
            }
        }
        assert_eq!(of("calls", "s", Assignment::Queue, "calls").as_deref(), Some("calls"));
        assert_eq!(of("calls.63", "s", Assignment::Partitioned, "calls"), Some(right_of_urgent));
    }
}
