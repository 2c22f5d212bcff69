//! One GroupFrame on its way to bytes: changes, pushes and singles each in memory of their own, which is kept, and put together at
//! the end.

use crate::model::protobuf::{Fields, GRPC_HEAD_BYTES, Value, put_grpc_head, put_varint, varint_len};
use crate::push::bundle::Bundle;
use crate::push::outbox::encode::Names;
use crate::push::outbox::groups::list::{Difference, List, NamesOf};

const LENGTH_DELIMITED: u8 = 2;
/// GroupFrame.
const FRAME_ID_TAG: u8 = 1 << 3;
const CHANGES_TAG: u8 = 2 << 3 | LENGTH_DELIMITED;
const PUSHES_TAG: u8 = 3 << 3 | LENGTH_DELIMITED;
const SINGLES_TAG: u8 = 4 << 3 | LENGTH_DELIMITED;
/// GroupChange and GroupPush.
const GROUP_ID_TAG: u8 = 1 << 3;
const VERSION_TAG: u8 = 2 << 3;
/// GroupChange.
const REPLACE_TAG: u8 = 3 << 3;
const ADD_TAG: u8 = 4 << 3 | LENGTH_DELIMITED;
const REMOVE_TAG: u8 = 5 << 3 | LENGTH_DELIMITED;
const FORGET_TAG: u8 = 6 << 3;
/// GroupPush.
const EXCEPT_TAG: u8 = 3 << 3 | LENGTH_DELIMITED;
const MESSAGE_TAG: u8 = 4 << 3 | LENGTH_DELIMITED;
const NOTICE_TAG: u8 = 5 << 3 | LENGTH_DELIMITED;
/// SessionNotice.
const SESSION_TAG: u8 = 1 << 3 | LENGTH_DELIMITED;
const HIGHEST_SEQ_TAG: u8 = 2 << 3;
const MSG_ID_TAG: u8 = 3 << 3;

/// A frame that is being made.
#[derive(Debug, Default)]
pub(super) struct Frame {
    id: u64,
    changes: Vec<u8>,
    pushes: Vec<u8>,
    singles: Vec<u8>,
    /// The field that is being made.
    field: Vec<u8>,
    /// Packed numbers of it.
    numbers: Vec<u8>,
    notice: Vec<u8>,
}

impl Frame {
    pub(super) fn begin(&mut self, id: u64) {
        self.clear();
        self.id = id;
    }

    pub(super) fn clear(&mut self) {
        self.id = 0;
        for part in [&mut self.changes, &mut self.pushes, &mut self.singles] {
            part.clear();
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len() + self.pushes.len() + self.singles.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn has_singles(&self) -> bool {
        !self.singles.is_empty()
    }

    /// A whole list.
    pub(super) fn put_list(&mut self, list: &List) {
        self.begin_field(list.id, list.version);
        self.field.extend([REPLACE_TAG, 1]);
        for name in NamesOf(&list.group.wire) {
            self.field.push(ADD_TAG);
            self.field.extend_from_slice(&name[1..]);
        }
        put_field(&mut self.changes, CHANGES_TAG, &self.field);
    }

    /// What became of a list.
    pub(super) fn put_change(&mut self, list: &List, difference: &Difference) {
        self.begin_field(list.id, list.version);
        let mut added = difference.added.iter().peekable();
        for (place, name) in (0..).zip(NamesOf(&list.group.wire)) {
            if added.next_if(|next| **next == place).is_some() {
                self.field.push(ADD_TAG);
                self.field.extend_from_slice(&name[1..]);
            }
        }
        self.put_numbers(REMOVE_TAG, difference.removed.iter().copied());
        put_field(&mut self.changes, CHANGES_TAG, &self.field);
    }

    /// A list is used no more.
    pub(super) fn put_forget(&mut self, list: u32) {
        self.field.clear();
        self.field.push(GROUP_ID_TAG);
        put_varint(&mut self.field, u64::from(list));
        self.field.extend([FORGET_TAG, 1]);
        put_field(&mut self.changes, CHANGES_TAG, &self.field);
    }

    /// A message to all of a list but some, which are places in its group.
    pub(super) fn put_push(&mut self, list: &List, except: impl Iterator<Item = u32>, message: &[u8]) {
        self.put_to_list(list, except, MESSAGE_TAG, message);
    }

    /// A notice to the same.
    pub(super) fn put_notice(&mut self, list: &List, except: impl Iterator<Item = u32>, bundle: &Bundle) {
        let mut notice = std::mem::take(&mut self.notice);
        notice.clear();
        put_session_notice(bundle, &mut notice);
        self.put_to_list(list, except, NOTICE_TAG, &notice);
        self.notice = notice;
    }

    fn put_to_list(&mut self, list: &List, except: impl Iterator<Item = u32>, tag: u8, message: &[u8]) {
        self.begin_field(list.id, list.version);
        match &list.order {
            None => self.put_numbers(EXCEPT_TAG, except),
            Some(_) => {
                let mut places: Vec<_> = except.map(|place| list.in_list(place)).collect();
                places.sort_unstable();
                self.put_numbers(EXCEPT_TAG, places.into_iter());
            }
        }
        let message_len = 1 + varint_len(message.len() as u64) + message.len();
        self.pushes.push(PUSHES_TAG);
        put_varint(&mut self.pushes, (self.field.len() + message_len) as u64);
        self.pushes.extend_from_slice(&self.field);
        put_field(&mut self.pushes, tag, message);
    }

    /// A message to users that are named.
    pub(super) fn put_single(&mut self, names: Names, bundle: &Bundle) {
        self.singles.push(SINGLES_TAG);
        put_varint(&mut self.singles, names.request_len(bundle) as u64);
        names.put_request(bundle, &mut self.singles);
    }

    /// The frame's bytes, with gRPC's head.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = 1 + varint_len(self.id) + self.len();
        let mut bytes = Vec::with_capacity(GRPC_HEAD_BYTES + length);
        put_grpc_head(&mut bytes, length);
        bytes.push(FRAME_ID_TAG);
        put_varint(&mut bytes, self.id);
        for part in [&self.changes, &self.pushes, &self.singles] {
            bytes.extend_from_slice(part);
        }
        debug_assert_eq!(bytes.len(), GRPC_HEAD_BYTES + length);
        bytes
    }

    fn begin_field(&mut self, list: u32, version: u32) {
        self.field.clear();
        self.field.push(GROUP_ID_TAG);
        put_varint(&mut self.field, u64::from(list));
        self.field.push(VERSION_TAG);
        put_varint(&mut self.field, u64::from(version));
    }

    fn put_numbers(&mut self, tag: u8, numbers: impl Iterator<Item = u32>) {
        self.numbers.clear();
        numbers.for_each(|number| put_varint(&mut self.numbers, u64::from(number)));
        if !self.numbers.is_empty() {
            put_field(&mut self.field, tag, &self.numbers);
        }
    }
}

/// The SessionNotice of a message: what it needs of the message stands among its first fields.
fn put_session_notice(bundle: &Bundle, out: &mut Vec<u8>) {
    let (mut session, mut seq_id) = (&b""[..], 0);
    let mut fields = Fields::new(&bundle.message);
    while let Ok(Some(field)) = fields.next_field() {
        match (field.number, field.value) {
            (2, Value::Varint(seq)) => seq_id = seq as i64,
            (3, Value::Bytes(text)) => session = text,
            _ => {}
        }
    }
    put_field(out, SESSION_TAG, session);
    let highest = seq_id.saturating_add(i64::from(bundle.notice) - 1);
    for (tag, number) in [(HIGHEST_SEQ_TAG, highest), (MSG_ID_TAG, bundle.msg_id)] {
        out.push(tag);
        put_varint(out, number as u64);
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
