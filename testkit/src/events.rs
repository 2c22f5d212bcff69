//! Events as publishers send them.

use prost::Message;
use task_engine::model::proto::event::PushEvent;

/// A text message as publishers of today send it.
pub fn event(session: &str, from: &str, msg_id: i64) -> PushEvent {
    PushEvent {
        msg_id,
        seq_id: msg_id,
        session_id: session.to_owned(),
        from_username: from.to_owned(),
        content: format!("message {msg_id}"),
        r#type: "text".to_owned(),
        timestamp: 1_700_000_000,
        ..PushEvent::default()
    }
}

/// An event with only a session and a number, encoded.
pub fn numbered(session: &str, number: u64) -> Vec<u8> {
    let msg_id = i64::try_from(number).expect("a small number");
    PushEvent { msg_id, session_id: session.to_owned(), ..PushEvent::default() }.encode_to_vec()
}

/// The session and the number of such an event.
pub fn session_and_number(payload: &[u8]) -> (String, u64) {
    let event = PushEvent::decode(payload).expect("an event of these tests");
    (event.session_id, event.msg_id as u64)
}
