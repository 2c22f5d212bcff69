//! What is read of an event, and what is refused.

use prost::Message as _;

use super::*;
use crate::model::proto::{event::PushEvent, gateway::PushMessage, gateway::SessionMeta};

fn event() -> PushEvent {
    PushEvent {
        msg_id: 7_530_768_693_212_696_576,
        seq_id: 42,
        session_id: "group:1".into(),
        from_username: "ann".into(),
        to_username: "group:1".into(),
        content: "hello".into(),
        r#type: "text".into(),
        timestamp: 1_700_000_000,
        ..PushEvent::default()
    }
}

fn message_of(event: &PushEvent) -> PushMessage {
    let has_meta = !event.session_name.is_empty() || event.session_type != 0;
    PushMessage {
        msg_id: event.msg_id,
        seq_id: event.seq_id,
        session_id: event.session_id.clone(),
        from_username: event.from_username.clone(),
        to_username: event.to_username.clone(),
        content: event.content.clone(),
        r#type: event.r#type.clone(),
        timestamp: event.timestamp,
        session_meta: has_meta.then(|| SessionMeta { name: event.session_name.clone(), r#type: event.session_type }),
        ..PushMessage::default()
    }
}

#[test]
fn an_old_publishers_bytes_are_the_message() {
    let payload = Bytes::from(event().encode_to_vec());
    let arrival = read(payload.clone()).unwrap();
    assert_eq!(arrival.session_id(), "group:1");
    assert_eq!(arrival.from_username(), "ann");
    assert_eq!((arrival.msg_id, arrival.seq_id), (7_530_768_693_212_696_576, 42));
    assert_eq!(arrival.bytes(), payload.len());
    assert_eq!(arrival.message().as_ptr(), payload.as_ptr(), "no copy");
    assert_eq!(PushMessage::decode(arrival.message()).unwrap(), message_of(&event()));
}

#[test]
fn session_name_type_and_trace_headers_become_session_meta() {
    for (name, kind) in [("Team", 2), ("", 1), ("Team", 0), ("", -1)] {
        let mut event = event();
        event.session_name = name.into();
        event.session_type = kind;
        event.trace_headers.insert("traceparent".into(), "00-1".into());
        let arrival = read(Bytes::from(event.encode_to_vec())).unwrap();
        assert_eq!(arrival.bytes(), arrival.payload.len() + arrival.message().len(), "{name:?} {kind}: a copy");
        assert_eq!(PushMessage::decode(arrival.message()).unwrap(), message_of(&event), "{name:?} {kind}");
    }
}

#[test]
fn whom_a_replay_is_for_is_read_and_not_passed_on() {
    let plain = read(Bytes::from(event().encode_to_vec())).unwrap();
    assert!(!plain.has_only() && plain.only_usernames().next().is_none());
    let mut replayed = event();
    replayed.only_usernames = vec!["bob".into(), "café".into()];
    let arrival = read(Bytes::from(replayed.encode_to_vec())).unwrap();
    assert_eq!(arrival.only_usernames().collect::<Vec<_>>(), ["bob", "café"]);
    assert_eq!(arrival.message(), plain.message(), "byte for byte");
    let mut broken = event().encode_to_vec();
    broken.extend([15 << 3 | 2, 1, 0xff]);
    assert_eq!(read(Bytes::from(broken)).map(|_| ()).map_err(|(_, end)| end), Err(EventOutcome::Undecodable));
    let mut largest = event();
    largest.content = "x".repeat(EVENT_BYTES_MAX - event().encoded_len() + "hello".len() - 3);
    assert_eq!(largest.encoded_len(), EVENT_BYTES_MAX);
    largest.only_usernames = vec!["b".repeat(64)];
    assert!(read(Bytes::from(largest.encode_to_vec())).is_ok(), "the largest event can be replayed");
    largest.content.push('x');
    assert_eq!(
        read(Bytes::from(largest.encode_to_vec())).map(|_| ()).map_err(|(_, end)| end),
        Err(EventOutcome::TooLarge)
    );
}

#[test]
fn fields_in_any_order_make_the_same_message() {
    let mut meta_first = vec![9 << 3 | 2, 1, b'T'];
    meta_first.extend(event().encode_to_vec());
    let arrival = read(Bytes::from(meta_first)).unwrap();
    let expected = message_of(&PushEvent { session_name: "T".into(), ..event() });
    assert_eq!(PushMessage::decode(arrival.message()).unwrap(), expected);
}

#[test]
fn what_can_never_be_pushed_is_refused_by_name() {
    let of = |change: fn(&mut PushEvent)| {
        let mut event = event();
        change(&mut event);
        read(Bytes::from(event.encode_to_vec())).map(|_| ()).map_err(|(_, end)| end)
    };
    assert_eq!(of(|event| event.session_id.clear()), Err(EventOutcome::NoSessionId));
    assert_eq!(of(|event| event.session_id = "é".repeat(64)), Ok(()));
    assert_eq!(of(|event| event.session_id = "é".repeat(65)), Err(EventOutcome::LongSessionId));
    assert_eq!(of(|event| event.content = "x".repeat(EVENT_BYTES_MAX)), Err(EventOutcome::TooLarge));
    let of_bytes = |bytes: &'static [u8]| read(Bytes::from_static(bytes)).map(|_| ()).map_err(|(_, end)| end);
    assert_eq!(of_bytes(b"\xff\xff"), Err(EventOutcome::Undecodable));
    assert_eq!(of_bytes(b"\x1a\x02\xff\xfe"), Err(EventOutcome::Undecodable), "no UTF-8");
    assert_eq!(of_bytes(b"\x18\x01"), Err(EventOutcome::Undecodable), "session_id a number");
    assert_eq!(of_bytes(b""), Err(EventOutcome::NoSessionId));
}

#[test]
fn fuzzed_event() {
    crate::fuzz::run("event", 20_000, |bytes| {
        let theirs = PushEvent::decode(bytes);
        let ours = match read(Bytes::copy_from_slice(bytes)) {
            Ok(arrival) => arrival,
            Err((kept, end)) => {
                assert_eq!(kept, bytes, "what is refused goes to the dead letters as it came");
                assert!(theirs.is_err() || end != EventOutcome::Undecodable, "prost reads it");
                return;
            }
        };
        let message = PushMessage::decode(ours.message()).expect("a gateway can read it");
        assert!(ours.message().len() <= EVENT_BYTES_MAX && ours.message_bytes() == ours.message());
        assert!(!ours.session_id().is_empty() && !is_long(ours.session_id_bytes()));
        let Ok(theirs) = theirs else { return };
        assert_eq!((ours.msg_id, ours.seq_id), (theirs.msg_id, theirs.seq_id));
        assert_eq!((ours.session_id(), ours.from_username()), (&*theirs.session_id, &*theirs.from_username));
        assert_eq!(ours.kind_bytes(), theirs.r#type.as_bytes());
        assert_eq!(ours.only_usernames().collect::<Vec<_>>(), theirs.only_usernames);
        assert_eq!(message, message_of(&theirs));
        let _ = head(bytes);
    });
}

#[test]
fn the_last_timestamp_counts_and_none_is_0() {
    let of = |event: &PushEvent, more: &[u8]| {
        let payload = [event.encode_to_vec(), more.to_vec()].concat();
        read(Bytes::from(payload)).unwrap().timestamp()
    };
    let none = PushEvent { timestamp: 0, ..event() };
    assert_eq!([of(&event(), b""), of(&none, b"")], [1_700_000_000, 0]);
    assert_eq!(of(&PushEvent { timestamp: -5, ..event() }, b""), -5);
    assert_eq!(of(&event(), b"\x40\x07"), 7, "once more at the end");
    let alone = [b"\x40\x07".to_vec(), none.encode_to_vec()].concat();
    assert_eq!(read(Bytes::from(alone)).unwrap().timestamp(), 7, "before all others");
}
