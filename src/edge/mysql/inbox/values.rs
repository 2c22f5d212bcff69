//! What statements take.

use mysql::Value;

use crate::edge::sql::inbox::row::Row;

/// A row's values, as a statement takes them.
pub(super) fn values(row: &Row<'_>) -> [Value; 4] {
    [text(row.user), text(&row.of.session), Value::Int(row.of.msg_id), Value::Int(row.of.seq_id)]
}

/// A text as a statement takes it.
pub(super) fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}
