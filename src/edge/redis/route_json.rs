//! Reads the one field of a stored route that the engine needs: `gateway_id` of
//! `{"username","gateway_id","remote_ip","timestamp"}`.
//!
//! Promises to take any JSON object that has an id there (by the rule of [`gateway_id`](crate::edge::gateway_id), the one of
//! the registry), whatever else is in it, and to copy only when the id has escapes or is a number. Refuses everything else as [`Route::Bad`]; an id over [`NAME_BYTES_MAX`] bytes too.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::edge::gateway_id::IdText;
use crate::model::limits::NAME_BYTES_MAX;
use crate::model::names::{Route, RouteList};

/// Adds the route that this value is to the list.
pub(super) fn push_route(list: &mut RouteList, value: &[u8]) {
    match serde_json::from_slice::<Stored<'_>>(value) {
        Ok(Stored(IdText(id))) if !id.is_empty() && id.len() <= NAME_BYTES_MAX => list.push(Route::Gateway(&id)),
        _ => list.push(Route::Bad),
    }
}

/// The gateway_id of a stored route; empty when it has none.
struct Stored<'a>(IdText<'a>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    GatewayId,
    #[serde(other)]
    Other,
}

// By hand, because a derived struct also takes an array for an object.
impl<'de> Deserialize<'de> for Stored<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StoredVisitor)
    }
}

struct StoredVisitor;

impl<'de> Visitor<'de> for StoredVisitor {
    type Value = Stored<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a route object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Stored<'de>, M::Error> {
        let mut id = IdText::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::GatewayId => id = map.next_value()?,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Stored(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> RouteList {
        let mut list = RouteList::new();
        push_route(&mut list, value.as_bytes());
        list
    }

    #[test]
    fn a_gateway_id_is_found_wherever_it_stands() {
        for (value, id) in [
            (r#"{"username":"ann","gateway_id":"gw-1","remote_ip":"1.2.3.4","timestamp":1732000000}"#, "gw-1"),
            (r#" { "gateway_id" : "gw-1" } "#, "gw-1"),
            (r#"{"x":{"gateway_id":"no"},"y":[{"gateway_id":7}],"gateway_id":"gw-1"}"#, "gw-1"),
            (r#"{"gateway_id":"a\"b\u00e9\\"}"#, "a\"b\u{e9}\\"),
            (r#"{"gateway\u005fid":"gw-1"}"#, "gw-1"),
            (r#"{"username":"\"gateway_id\":\"no\"","gateway_id":"gw-1"}"#, "gw-1"),
            (r#"{"gateway_id":"old","gateway_id":"new"}"#, "new"),
            (r#"{"gateway_id":{"x":1},"gateway_id":"new"}"#, "new"),
            (r#"{"gateway_id":7}"#, "7"),
            (r#"{"gateway_id":" 7\t"}"#, "7"),
        ] {
            assert_eq!(read(value), [Route::Gateway(id)].into_iter().collect(), "{value}");
        }
    }

    #[test]
    fn fuzzed_route() {
        crate::fuzz::run("route", 20_000, |bytes| {
            let mut list = RouteList::new();
            push_route(&mut list, bytes);
            let routes: Vec<_> = list.iter().collect();
            assert_eq!(routes.len(), 1, "a value is one route");
            let value = serde_json::from_slice::<serde_json::Value>(bytes);
            match (routes[0], value.as_ref().map(|value| &value["gateway_id"])) {
                (Route::Gateway(id), value) => {
                    assert!(!id.is_empty() && id.len() <= NAME_BYTES_MAX);
                    if let Ok(serde_json::Value::String(text)) = value {
                        assert_eq!(id, text.trim());
                    }
                }
                (_, Ok(serde_json::Value::String(text))) => {
                    let text = text.trim();
                    assert!(text.is_empty() || text.len() > NAME_BYTES_MAX, "{text:?} is an id");
                }
                _ => {}
            }
        });
    }

    #[test]
    fn what_is_no_route_is_bad() {
        let long = format!(r#"{{"gateway_id":"{}"}}"#, "g".repeat(NAME_BYTES_MAX + 1));
        let deep = "[".repeat(10_000);
        for value in [
            "",
            "gw-1",
            "null",
            "{}",
            "[]",
            r#"["gw-1"]"#,
            r#""gw-1""#,
            r#"{"gateway_id":""}"#,
            r#"{"gateway_id":null}"#,
            r#"{"gateway_id":7.5}"#,
            r#"{"gateway_id":"  "}"#,
            r#"{"gateway_id":"new","gateway_id":{}}"#,
            r#"{"gateway_id":{"gateway_id":"x"}}"#,
            r#"{"gateway_id":["x"]}"#,
            r#"{"gateway_id":"gw-1""#,
            r#"{"gateway_id":"gw-1"} trailing"#,
            r#"{"route":{"gateway_id":"gw-1"}}"#,
            long.as_str(),
            deep.as_str(),
        ] {
            assert_eq!(read(value), [Route::Bad].into_iter().collect(), "{value}");
        }
        let mut list = RouteList::new();
        push_route(&mut list, b"{\"gateway_id\":\"\xff\"}");
        assert_eq!(list, [Route::Bad].into_iter().collect());
    }
}
