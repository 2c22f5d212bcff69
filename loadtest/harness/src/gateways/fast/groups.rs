//! `PushGroups` by hand: lists are kept, pushes to them are read in place.

use bytes::{BufMut, BytesMut};
use prost::Message as _;
use task_engine::model::proto::gateway::GroupChange;

use std::sync::atomic::Ordering;

use super::super::control::NoticeHere;
use super::{
    Fields, Malformed, Message, Taker, Value, message_of, put_number, put_text, put_varint, read_message, text,
};

/// What is handed to the users of a list.
enum Handed<'a> {
    Message(Message<'a>),
    Notice(NoticeHere<'a>),
}

/// The sessions of notices that came since the last answers left: each with the message of the latest, and how many messages had one.
#[derive(Default)]
pub(super) struct Unanswered(Vec<(String, i64, u32)>);

impl Unanswered {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many notices of other messages of its session are unanswered as well. Parts of one list come one after the other.
    fn note(&mut self, session: &str, msg_id: i64) -> u32 {
        let Some((_, latest, count)) = self.0.iter_mut().find(|(known, ..)| known == session) else {
            self.0.push((session.to_owned(), msg_id, 1));
            return 0;
        };
        *count += u32::from(*latest != msg_id);
        *latest = msg_id;
        *count - 1
    }
}

impl Taker {
    /// Changes, then pushes, then singles.
    pub(super) fn take_groups(&mut self, frame: &[u8], at: u64, answers: &mut BytesMut) -> Result<(), Malformed> {
        self.control.forget_some(&mut self.kept, &mut self.rng);
        for field in Fields(frame) {
            match field? {
                (1, Value::Number(frame_id)) => put_number(answers, 1, frame_id),
                (2, Value::Bytes(change)) => {
                    let change = GroupChange::decode(change).map_err(|_| Malformed)?;
                    if !self.kept.change(change) {
                        self.control.recorder.unreadable(&self.control.id);
                    }
                }
                _ => {}
            }
        }
        let (mut number, mut unknown) = (0, Vec::new());
        for field in Fields(frame) {
            if let (3, Value::Bytes(push)) = field? {
                if let Some(group) = self.take_group(push, number, at, answers)?
                    && !unknown.contains(&group)
                {
                    unknown.push(group);
                    put_number(answers, 3, u64::from(group));
                }
                number += 1;
            }
        }
        for field in Fields(frame) {
            if let (4, Value::Bytes(single)) = field? {
                self.take_single(single, number, at, answers)?;
                number += 1;
            }
        }
        Ok(())
    }

    /// One message for a group; the group when it is not known.
    fn take_group(
        &mut self,
        push: &[u8],
        number: u64,
        at: u64,
        answers: &mut BytesMut,
    ) -> Result<Option<u32>, Malformed> {
        let (mut group, mut version, mut except, mut handed) = (0, 0, Vec::new(), None);
        for field in Fields(push) {
            match field? {
                (1, Value::Number(id)) => group = id as u32,
                (2, Value::Number(number)) => version = number as u32,
                (3, Value::Bytes(packed)) => {
                    let mut packed = Fields(packed);
                    while !packed.0.is_empty() {
                        except.push(packed.varint()? as u32);
                    }
                }
                (4, Value::Bytes(bytes)) => handed = Some(Handed::Message(read_message(bytes)?)),
                (5, Value::Bytes(bytes)) if self.control.protocols.notice => {
                    let notice = NoticeHere { at, ..read_notice(bytes)? };
                    handed = Some(Handed::Notice(notice));
                }
                _ => {}
            }
        }
        let mut handed = handed.ok_or(Malformed)?;
        if let Handed::Notice(notice) = &mut handed {
            notice.unanswered = self.unanswered.note(notice.session, notice.msg_id);
        }
        // Taken out and put back: what is recorded needs the whole of the taker.
        let mut kept = std::mem::take(&mut self.kept);
        let users = kept.users(group, version);
        let is_unknown = users.is_none();
        let is_notice = matches!(handed, Handed::Notice(_)) && !is_unknown;
        self.control.counters.notices.fetch_add(u64::from(is_notice), Ordering::Relaxed);
        let told = (0..).zip(users.unwrap_or_default());
        for (place, user) in told.filter(|(place, _)| except.binary_search(place).is_err()) {
            let error = match &handed {
                Handed::Message(message) => self.record(user, message, at),
                Handed::Notice(notice) => self.control.notify(user, notice),
            };
            put_failure(answers, number, place, &error);
        }
        self.kept = kept;
        Ok(is_unknown.then_some(group))
    }

    /// One message for users that are named.
    fn take_single(&self, single: &[u8], number: u64, at: u64, answers: &mut BytesMut) -> Result<(), Malformed> {
        let message = message_of(single)?;
        let mut place = 0;
        for field in Fields(single) {
            if let (1, Value::Bytes(name)) = field? {
                let error = self.record(text(name)?, &message, at);
                put_failure(answers, number, place, &error);
                place += 1;
            }
        }
        Ok(())
    }
}

fn read_notice(bytes: &[u8]) -> Result<NoticeHere<'_>, Malformed> {
    let mut notice = NoticeHere::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => notice.session = text(bytes)?,
            (2, Value::Number(number)) => notice.max_seq_id = number as i64,
            (3, Value::Number(number)) => notice.msg_id = number as i64,
            _ => {}
        }
    }
    Ok(notice)
}

/// A GroupFailure of one place, when there is an error.
fn put_failure(answers: &mut BytesMut, push: u64, place: u32, error: &str) {
    if error.is_empty() {
        return;
    }
    let mut failure = BytesMut::new();
    put_number(&mut failure, 1, push);
    failure.put_u8(2 << 3);
    put_varint(&mut failure, u64::from(place));
    put_text(&mut failure, 3, error.as_bytes());
    put_text(answers, 2, &failure);
}
