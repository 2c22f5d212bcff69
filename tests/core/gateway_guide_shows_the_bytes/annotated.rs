//! Bytes of the gateway protocols as a person reads them: one field a line, with its number, name and value.

use std::fmt::Write;

/// What a field holds.
#[derive(Clone, Copy)]
pub enum Holds {
    Number,
    Text,
    /// Numbers one after the other.
    Numbers,
    Message(&'static Shape),
}

/// The fields of a message: number, name, what it holds.
pub struct Shape(&'static [(u64, &'static str, Holds)]);

use Holds::{Message, Number, Numbers, Text};

static MESSAGE: Shape = Shape(&[
    (1, "msg_id", Number),
    (2, "seq_id", Number),
    (3, "session_id", Text),
    (4, "from_username", Text),
    (5, "to_username", Text),
    (6, "content", Text),
    (7, "type", Text),
    (8, "timestamp", Number),
]);
pub static REQUEST_TO_ONE: Shape = Shape(&[(1, "to_username", Text), (2, "message", Message(&MESSAGE))]);
pub static ANSWER_OF_ONE: Shape = Shape(&[(1, "msg_id", Number), (2, "seq_id", Number), (3, "error", Text)]);
pub static REQUEST: Shape = Shape(&[(1, "to_usernames", Text), (2, "message", Message(&MESSAGE))]);
pub static ANSWER: Shape = Shape(&[(1, "msg_id", Number), (2, "error", Text), (3, "failed_usernames", Text)]);
pub static BATCH: Shape = Shape(&[(1, "batch_id", Number), (2, "pushes", Message(&REQUEST))]);
pub static BATCH_ANSWER: Shape = Shape(&[(1, "batch_id", Number), (2, "failures", Message(&ANSWER))]);
static CHANGE: Shape = Shape(&[
    (1, "group_id", Number),
    (2, "version", Number),
    (3, "replace", Number),
    (4, "add", Text),
    (5, "remove", Numbers),
    (6, "forget", Number),
]);
static PUSH: Shape = Shape(&[
    (1, "group_id", Number),
    (2, "version", Number),
    (3, "except", Numbers),
    (4, "message", Message(&MESSAGE)),
]);
pub static GROUPS: Shape = Shape(&[
    (1, "frame_id", Number),
    (2, "changes", Message(&CHANGE)),
    (3, "pushes", Message(&PUSH)),
    (4, "singles", Message(&REQUEST)),
]);
static FAILURE: Shape = Shape(&[(1, "push", Number), (2, "places", Numbers), (3, "error", Text)]);
pub static GROUPS_ANSWER: Shape =
    Shape(&[(1, "frame_id", Number), (2, "failures", Message(&FAILURE)), (3, "unknown_groups", Numbers)]);

/// Where the words of a line begin.
const COLUMN: usize = 40;
/// How many values of one repeated text are shown.
const TEXTS: usize = 3;

/// Frames of messages of this shape, line by line.
pub fn frames(mut bytes: &[u8], shape: &'static Shape) -> String {
    let mut text = String::new();
    while let Some((head, rest)) = bytes.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        line(&mut text, 0, head, &format!("head: not compressed, {length} bytes"));
        fields(&mut text, 0, &rest[..length], shape);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "whole frames");
    text
}

fn fields(text: &mut String, depth: usize, mut bytes: &[u8], shape: &'static Shape) {
    let mut repeated = (0, 0);
    while !bytes.is_empty() {
        let all = bytes;
        let tag = varint(&mut bytes);
        let (number, is_delimited) = (tag >> 3, tag & 7 == 2);
        let known = shape.0.iter().find(|(known, ..)| *known == number);
        let (_, name, holds) = known.unwrap_or_else(|| panic!("field {number} has no name here"));
        let value = varint(&mut bytes);
        let words = format!("{number} {name}");
        if !is_delimited {
            line(text, depth, &all[..all.len() - bytes.len()], &format!("{words} = {value}"));
            continue;
        }
        let head = &all[..all.len() - bytes.len()];
        let (inner, rest) = bytes.split_at(value as usize);
        let whole = &all[..all.len() - rest.len()];
        bytes = rest;
        match holds {
            Message(shape) => {
                line(text, depth, head, &format!("{words}, {value} bytes:"));
                fields(text, depth + 1, inner, shape);
            }
            Numbers => {
                let mut left = inner;
                let values: Vec<_> =
                    std::iter::from_fn(|| (!left.is_empty()).then(|| varint(&mut left).to_string())).collect();
                line(text, depth, whole, &format!("{words} = [{}]", values.join(", ")));
            }
            Text | Number => {
                repeated = if repeated.0 == number { (number, repeated.1 + 1) } else { (number, 1) };
                let more = bytes.first() == all.first();
                if repeated.1 <= TEXTS || !more {
                    line(text, depth, whole, &format!("{words} = {:?}", std::str::from_utf8(inner).expect("UTF-8")));
                } else if repeated.1 == TEXTS + 1 {
                    line(text, depth, b"", "... more of them, alike");
                }
            }
        }
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The bytes that have room before the words, then the others below them.
fn line(text: &mut String, depth: usize, bytes: &[u8], words: &str) {
    let indent = " ".repeat(2 * depth);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let (first, rest) = bytes.split_at(bytes.len().min((COLUMN - indent.len()) / 3));
    writeln!(text, "{:COLUMN$} {words}", format!("{indent}{}", hex(first))).expect("a string takes everything");
    for more in rest.chunks((COLUMN - indent.len()) / 3) {
        writeln!(text, "{indent}{}", hex(more)).expect("a string takes everything");
    }
}
