//! `PushGroups` by hand: lists are kept, pushes to them are read in place.

use bytes::{BufMut, BytesMut};
use prost::Message as _;
use task_engine::model::proto::gateway::GroupChange;

use super::{Fields, Malformed, Taker, Value, message_of, put_number, put_text, put_varint, read_message, text};

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
        let (mut group, mut version, mut except, mut message) = (0, 0, Vec::new(), None);
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
                (4, Value::Bytes(bytes)) => message = Some(read_message(bytes)?),
                _ => {}
            }
        }
        let message = message.ok_or(Malformed)?;
        // Taken out and put back: what is recorded needs the whole of the taker.
        let mut kept = std::mem::take(&mut self.kept);
        let users = kept.users(group, version);
        let is_unknown = users.is_none();
        let told = (0..).zip(users.unwrap_or_default());
        for (place, user) in told.filter(|(place, _)| except.binary_search(place).is_err()) {
            let error = self.record(user, &message, at);
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
