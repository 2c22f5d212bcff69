//! Reads what the engine needs of a stored route: `gateway_id` and, where a user may be connected to several, `gateways` of
//! `{"username","gateway_id","remote_ip","timestamp","gateways"}`.
//!
//! Promises to take any JSON object that has an id there (by the rule of [`gateway_id`](crate::edge::gateway_id), the one of
//! the registry), whatever else is in it, and to copy only when the id has escapes or is a number. Refuses everything else as [`Route::Bad`]; an id over [`NAME_BYTES_MAX`] bytes too.
//! `gateway_id` is the newest gateway; a list that cannot be taken as it stands costs only what is wrong with it, and is noted.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::edge::gateway_id::IdText;
use crate::model::limits::{NAME_BYTES_MAX, ROUTE_GATEWAYS_MAX};
use crate::model::names::{Route, RouteList};
use crate::model::outcome::RouteFault;

/// Adds the route that this value is to the list.
pub(super) fn push_route(list: &mut RouteList, value: &[u8]) {
    match serde_json::from_slice::<Stored<'_>>(value) {
        Ok(Stored { newest, listed: None }) if is_id(&newest.0) => list.push(Route::Gateway(&newest.0)),
        Ok(Stored { newest, listed: Some(listed) }) => listed.push_into(list, &newest.0),
        _ => list.push(Route::Bad),
    }
}

/// The gateways that this value names; none when it is no route.
pub(super) fn gateways_of(value: &[u8]) -> Option<Vec<String>> {
    let Stored { newest, listed } = serde_json::from_slice(value).ok()?;
    let newest = Some(&*newest.0).filter(|id| is_id(id)).map(ToOwned::to_owned);
    let mut all: Vec<String> = newest.into_iter().collect();
    for id in listed.into_iter().flat_map(|listed| listed.ids) {
        if !all.iter().any(|known| **known == *id) {
            all.push(id.into_owned());
        }
    }
    (!all.is_empty()).then_some(all)
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= NAME_BYTES_MAX
}

/// What a stored route says.
#[derive(Default)]
struct Stored<'a> {
    /// Its gateway_id; empty when it has none.
    newest: IdText<'a>,
    listed: Option<Listed<'a>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    GatewayId,
    Gateways,
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
        let mut stored = Stored::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::GatewayId => stored.newest = map.next_value()?,
                Field::Gateways => stored.listed = map.next_value::<List<'_>>()?.0,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(stored)
    }
}

/// The list of gateways; none where a writer has none (null).
struct List<'a>(Option<Listed<'a>>);

/// The ids that a list names, each once, and what is wrong with it.
#[derive(Default)]
struct Listed<'a> {
    ids: Vec<Cow<'a, str>>,
    faults: Vec<RouteFault>,
}

impl<'a> Listed<'a> {
    fn none(fault: RouteFault) -> List<'a> {
        List(Some(Self { ids: Vec::new(), faults: vec![fault] }))
    }

    fn note(&mut self, fault: RouteFault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn take(&mut self, id: Cow<'a, str>) {
        if !is_id(&id) {
            self.note(RouteFault::NoId);
        } else if self.ids.contains(&id) {
            self.note(RouteFault::Repeated);
        } else if self.ids.len() == ROUTE_GATEWAYS_MAX {
            self.note(RouteFault::TooLong);
        } else {
            self.ids.push(id);
        }
    }

    /// The gateway_id goes first: it is the newest, and an older writer that knows no list may have put it there alone.
    fn push_into(self, list: &mut RouteList, newest: &str) {
        let newest = Some(newest).filter(|id| is_id(id));
        list.push_gateways(newest.into_iter().chain(self.ids.iter().map(|id| &**id)));
        self.faults.into_iter().for_each(|fault| list.note_fault(fault));
    }
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of gateways")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<'de>, A::Error> {
        let mut listed = Listed::default();
        let mut is_empty = true;
        while let Some(IdText(id)) = list.next_element()? {
            is_empty = false;
            listed.take(id);
        }
        if is_empty {
            listed.note(RouteFault::Empty);
        }
        Ok(List(Some(listed)))
    }

    // Redis's cjson writes an empty list as an empty object.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<List<'de>, A::Error> {
        let mut fault = RouteFault::Empty;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            fault = RouteFault::NoList;
        }
        Ok(Listed::none(fault))
    }

    fn visit_unit<E: Error>(self) -> Result<List<'de>, E> {
        Ok(List(None))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<List<'de>, E> {
        Ok(Listed::none(RouteFault::NoList))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<List<'de>, E> {
        Ok(Listed::none(RouteFault::NoList))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<List<'de>, E> {
        Ok(Listed::none(RouteFault::NoList))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<List<'de>, E> {
        Ok(Listed::none(RouteFault::NoList))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<List<'de>, E> {
        Ok(Listed::none(RouteFault::NoList))
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
    fn several_gateways_are_taken_the_newest_first() {
        let many: Vec<String> = (0..40).map(|number| format!(r#""gw-{number}""#)).collect();
        let many = format!(r#"{{"gateway_id":"gw-0","gateways":[{}]}}"#, many.join(","));
        let first: Vec<String> = (0..ROUTE_GATEWAYS_MAX).map(|number| format!("gw-{number}")).collect();
        let first: Vec<&str> = first.iter().map(String::as_str).collect();
        for (value, ids, faults) in [
            (r#"{"gateway_id":"b","gateways":["b","a"]}"#, &["b", "a"][..], &[][..]),
            (r#"{"gateways":["a","b"],"gateway_id":"b"}"#, &["b", "a"], &[]),
            (r#"{"gateway_id":"c","gateways":["b","a"]}"#, &["c", "b", "a"], &[]),
            (r#"{"gateways":["b","a"]}"#, &["b", "a"], &[]),
            (r#"{"gateway_id":7,"gateways":[7," 8 "]}"#, &["7", "8"], &[]),
            (r#"{"gateway_id":"b","gateways":["b","a","b"]}"#, &["b", "a"], &[RouteFault::Repeated]),
            (r#"{"gateway_id":"b","gateways":[null,"a",{}]}"#, &["b", "a"], &[RouteFault::NoId]),
            (many.as_str(), &first, &[RouteFault::TooLong]),
        ] {
            let list = read(value);
            let Some(Route::Gateways(read)) = list.iter().next() else { panic!("{value}: {list:?}") };
            assert_eq!(read.iter().collect::<Vec<_>>(), ids, "{value}");
            assert_eq!(list.faults().map(|(_, fault)| fault).collect::<Vec<_>>(), faults, "{value}");
        }
    }

    #[test]
    fn a_list_that_says_nothing_leaves_the_gateway_id() {
        for (value, faults) in [
            (r#"{"gateway_id":"b","gateways":["b"]}"#, &[][..]),
            (r#"{"gateway_id":"b","gateways":null}"#, &[]),
            (r#"{"gateways":["a"],"gateways":["b"],"gateway_id":""}"#, &[]),
            (r#"{"gateway_id":"b","gateways":[]}"#, &[RouteFault::Empty]),
            (r#"{"gateway_id":"b","gateways":{}}"#, &[RouteFault::Empty]),
            (r#"{"gateway_id":"b","gateways":{"1":"a"}}"#, &[RouteFault::NoList]),
            (r#"{"gateway_id":"b","gateways":"a"}"#, &[RouteFault::NoList]),
            (r#"{"gateway_id":"b","gateways":7}"#, &[RouteFault::NoList]),
            (r#"{"gateway_id":"b","gateways":[[],"",7.5]}"#, &[RouteFault::NoId]),
        ] {
            let list = read(value);
            assert!(list.iter().eq([Route::Gateway("b")]), "{value}: {list:?}");
            assert_eq!(list.faults().map(|(_, fault)| fault).collect::<Vec<_>>(), faults, "{value}");
        }
        assert!(read(r#"{"gateways":[]}"#).iter().eq([Route::Bad]));
    }

    #[test]
    fn fuzzed_route() {
        crate::fuzz::run("route", 20_000, |bytes| {
            let mut list = RouteList::new();
            push_route(&mut list, bytes);
            let routes: Vec<_> = list.iter().collect();
            assert_eq!(routes.len(), 1, "a value is one route");
            let value = serde_json::from_slice::<serde_json::Value>(bytes);
            if let Route::Gateways(ids) = routes[0] {
                let ids: Vec<_> = ids.iter().collect();
                assert!((2..=ROUTE_GATEWAYS_MAX).contains(&ids.len()) && ids.iter().all(|id| is_id(id)), "{ids:?}");
                assert!((1..ids.len()).all(|at| !ids[..at].contains(&ids[at])), "each once: {ids:?}");
            }
            if value.as_ref().is_ok_and(|value| value.get("gateways").is_some()) {
                return;
            }
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
