//! A dead letter as it is kept: what it says, how it is known, and its two forms: a message's headers, a line of JSON.
//!
//! Promises that the same letter has the same key however often it is written, that both forms can be read again
//! without loss, and that nothing in a letter can break out of its header or line.

use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::limits::MSG_ID_HEADER;
use crate::model::percent;
use crate::ports::{DeadLetter, Origin};

/// How much of the detail is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 1024;

/// A letter that is kept. Times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLetter {
    /// Its stable key: equal for the same event, reason and recipient.
    pub key: String,
    /// Why.
    pub reason: String,
    /// More, for a person.
    pub detail: String,
    /// Where the event was published; empty when the source did not say.
    pub subject: String,
    /// Its number in its stream.
    pub sequence: Option<u64>,
    /// When the broker took it.
    pub first_unix_nanos: Option<u64>,
    /// When the engine gave up.
    pub last_unix_nanos: u64,
    /// How often the engine tried.
    pub tries: u32,
    /// How often the broker delivered it.
    pub deliveries: u64,
    /// The one recipient it is about; none: all of the event.
    pub recipient: Option<String>,
    /// The event as it came.
    #[serde(with = "as_base64")]
    pub payload: Bytes,
}

impl StoredLetter {
    /// What is kept of a letter now.
    pub fn of(letter: &DeadLetter, origin: &Origin, now_unix_nanos: u64) -> Self {
        let recipient = letter.recipient.as_deref().map(str::to_owned);
        let mut hash = fnv1a64(FNV_START, origin.subject.as_bytes());
        for part in [recipient.as_deref().unwrap_or("").as_bytes(), &letter.payload] {
            // What parts them is no byte of UTF-8.
            hash = fnv1a64(fnv1a64(hash, &[0xff]), part);
        }
        let number = origin.stream_sequence.map_or("event".to_owned(), |sequence| sequence.to_string());
        Self {
            key: format!("{number}-{}-{hash:016x}", letter.reason),
            reason: letter.reason.to_owned(),
            detail: cut(&letter.detail, DETAIL_BYTES_MAX).to_owned(),
            subject: origin.subject.clone(),
            sequence: origin.stream_sequence,
            first_unix_nanos: origin.published_unix_nanos,
            last_unix_nanos: now_unix_nanos,
            tries: letter.tries,
            deliveries: origin.deliveries,
            recipient,
            payload: letter.payload.clone(),
        }
    }

    /// As headers of a message whose payload is the event.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let all = [
            (MSG_ID_HEADER, Some(escape(&self.key))),
            ("Resonance-Reason", Some(escape(&self.reason))),
            ("Resonance-Detail", Some(escape(&self.detail))),
            ("Resonance-Subject", Some(escape(&self.subject))),
            ("Resonance-Sequence", number(self.sequence)),
            ("Resonance-First", number(self.first_unix_nanos)),
            ("Resonance-Last", number(Some(self.last_unix_nanos))),
            ("Resonance-Tries", number(Some(u64::from(self.tries)))),
            ("Resonance-Deliveries", number(Some(self.deliveries))),
            ("Resonance-Recipient", self.recipient.as_deref().map(escape)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Reads a message of the dead-letter stream: its header block and its payload. What is not there or not readable
    /// is empty: a letter that someone else put there is shown too.
    pub fn read(block: &str, payload: Bytes) -> Self {
        let header = |name: &str| {
            let lines = block.lines().filter_map(|line| line.split_once(':'));
            lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| unescape(value.trim()))
        };
        let number = |name: &str| header(name).and_then(|text| text.parse::<u64>().ok());
        Self {
            key: header(MSG_ID_HEADER).unwrap_or_default(),
            reason: header("Resonance-Reason").unwrap_or_default(),
            detail: header("Resonance-Detail").unwrap_or_default(),
            subject: header("Resonance-Subject").unwrap_or_default(),
            sequence: number("Resonance-Sequence"),
            first_unix_nanos: number("Resonance-First"),
            last_unix_nanos: number("Resonance-Last").unwrap_or_default(),
            tries: number("Resonance-Tries").and_then(|tries| u32::try_from(tries).ok()).unwrap_or_default(),
            deliveries: number("Resonance-Deliveries").unwrap_or_default(),
            recipient: header("Resonance-Recipient"),
            payload,
        }
    }
}

/// Control characters and `%` as `%XX`, so that a value stays in its line; the rest as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let ends = |at: usize| at == 0 || at + 1 == text.len();
    for (at, letter) in text.char_indices() {
        // Blanks at either end would be trimmed by whoever reads the header.
        if letter == '%' || letter.is_ascii_control() || (letter == ' ' && ends(at)) {
            escaped.push_str(&format!("%{:02X}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// The text that was escaped; one that nobody escaped stays as it is.
fn unescape(text: &str) -> String {
    percent::decode(text).unwrap_or_else(|| text.to_owned())
}

/// At most so many bytes of a text, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: the same on every machine and in every version, as keys must be.
fn fnv1a64(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

mod as_base64 {
    use base64::Engine as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{BASE64, Bytes};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(payload: &'static [u8], recipient: Option<&str>) -> DeadLetter {
        DeadLetter {
            reason: "undecodable",
            detail: "line one\r\nNats-Msg-Id: forged 100 % \u{e9}".to_owned(),
            payload: Bytes::from_static(payload),
            recipient: recipient.map(Into::into),
            tries: 4,
        }
    }

    #[test]
    fn both_forms_are_read_again_without_loss() {
        let origin = Origin {
            subject: "resonance.push.event.v1".into(),
            stream_sequence: Some(17),
            deliveries: 2,
            published_unix_nanos: Some(1_700_000_000_000_000_001),
        };
        for recipient in [None, Some(" o'brien\u{7f}\n ")] {
            let kept = StoredLetter::of(&letter(b"\xff\x00\r\n", recipient), &origin, 1_800_000_000_000_000_002);
            let block: String = kept.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            assert_eq!(block.lines().count(), 9 + usize::from(recipient.is_some()), "{block}");
            assert_eq!(StoredLetter::read(&format!("NATS/1.0\r\n{block}\r\n"), kept.payload.clone()), kept);
            let line = serde_json::to_string(&kept).expect("it is JSON");
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<StoredLetter>(&line).expect("it is read again"), kept);
        }
    }

    #[test]
    fn the_key_is_the_same_for_the_same_letter_only() {
        let key = |payload, recipient, sequence| {
            let origin = Origin { stream_sequence: sequence, ..Origin::default() };
            StoredLetter::of(&letter(payload, recipient), &origin, 1).key
        };
        let first = key(b"a", None, Some(1));
        assert_eq!(first, key(b"a", None, Some(1)));
        for other in [key(b"b", None, Some(1)), key(b"a", Some("u"), Some(1)), key(b"a", None, None)] {
            assert_ne!(first, other);
        }
        assert!(first.starts_with("1-undecodable-") && key(b"a", None, None).starts_with("event-undecodable-"));
    }

    #[test]
    fn a_letter_of_somebody_else_is_shown_as_it_is() {
        for detail in ["50% %41", "%ff", "%"] {
            let block = format!("NATS/1.0\r\nResonance-Detail: {detail}\r\n\r\n");
            assert_eq!(StoredLetter::read(&block, Bytes::new()).detail, detail);
        }
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let long = DeadLetter { detail: "\u{1f600}".repeat(1000), ..letter(b"", None) };
        let kept = StoredLetter::of(&long, &Origin::default(), 1);
        assert_eq!(kept.detail, "\u{1f600}".repeat(DETAIL_BYTES_MAX / 4));
        assert_eq!(cut("a\u{e9}", 2), "a");
    }
}
