//! The id of a gateway as routes in Redis and registrations in etcd write it: one rule for both, so that they meet.
//!
//! A text is the id without the blanks (of Unicode) around it. A whole number that fits 64 bits is the id of its digits:
//! `7` and `"7"` are the same. Anything else (a fraction, a number with an exponent, a larger one, a list) is no id.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// An id as it was read; empty when there is none. Copies only what has escapes, and digits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct IdText<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for IdText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl<'de> Visitor<'de> for IdVisitor {
    type Value = IdText<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a gateway id")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Borrowed(text.trim())))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Owned(text.trim().to_owned())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<IdText<'de>, E> {
        Ok(IdText(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<IdText<'de>, E> {
        Ok(IdText::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<IdText<'de>, E> {
        Ok(IdText::default())
    }

    fn visit_unit<E: Error>(self) -> Result<IdText<'de>, E> {
        Ok(IdText::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<IdText<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(IdText::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<IdText<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(IdText::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_however_it_is_read() {
        for (json, id) in [
            (r#""gw-1""#, "gw-1"),
            (r#""  gw-1\t""#, "gw-1"),
            ("\"\u{3000}gw-1\u{a0}\"", "gw-1"),
            (r#""\u2003gw 1\u2003""#, "gw 1"),
            ("\"\u{200b}gw\"", "\u{200b}gw"),
            (r#""7""#, "7"),
            ("7", "7"),
            ("-7", "-7"),
            ("0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("18446744073709551616", ""),
            ("7.0", ""),
            ("7e0", ""),
            ("-0", ""),
            (r#""""#, ""),
            (r#"" \n ""#, ""),
            ("true", ""),
            ("null", ""),
            (r#"["gw-1"]"#, ""),
            (r#"{"gateway_id":"gw-1"}"#, ""),
        ] {
            let read = serde_json::from_str::<IdText<'_>>(json).expect(json);
            assert_eq!(read.0, id, "read in place: {json}");
            let value = serde_json::from_str::<serde_json::Value>(json).expect(json);
            assert_eq!(IdText::deserialize(&value).expect(json).0, id, "read from a value: {json}");
        }
    }
}
