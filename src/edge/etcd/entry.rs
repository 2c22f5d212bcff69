//! One value of the registry, read: JSON in, a gateway or the reasons against it out. Touches nothing else.
//!
//! Promises to take the JSON that Resonance's gateways write, and whatever of it is usable when a part is wrong.
//! Refuses a value without an id or without a single good endpoint.

use serde::Deserialize;
use serde_json::Value;

use crate::edge::gateway_id::IdText;
use crate::model::limits::NAME_BYTES_MAX;
use crate::model::redact;
use crate::ports::registry::RegistryFault;
use crate::ports::{Endpoint, GatewayRecord, Protocols};

/// Endpoints kept of one gateway.
pub(super) const ENDPOINTS_MAX: usize = 16;
/// Bad endpoints of one value that are told one by one.
const BAD_ENDPOINTS_TOLD: usize = 16;

/// What a value holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The gateway, when there is enough to reach it.
    pub record: Option<GatewayRecord>,
    /// What is wrong with it, also when a gateway could be made of the rest.
    pub faults: Vec<(RegistryFault, String)>,
}

impl Entry {
    /// Reads a value; a gateway that announces nothing speaks `unannounced`.
    pub fn read(value: &[u8], unannounced: Protocols) -> Self {
        let mut faults = Vec::new();
        let record = match read(value, unannounced, &mut faults) {
            Ok(record) => Some(record),
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        Self { record, faults }
    }
}

type Faults = Vec<(RegistryFault, String)>;

fn read(value: &[u8], unannounced: Protocols, faults: &mut Faults) -> Result<GatewayRecord, (RegistryFault, String)> {
    let value: Value = serde_json::from_slice(value).map_err(|why| (RegistryFault::NotJson, why.to_string()))?;
    if !value.is_object() {
        return Err((RegistryFault::NotJson, "the value is JSON but no object".to_owned()));
    }
    let metadata = &value["metadata"];
    let id = word(&metadata["gateway_id"])
        .or_else(|| word(&value["id"]))
        .ok_or((RegistryFault::NoId, "neither metadata.gateway_id nor id is set".to_owned()))?;
    if id.len() > NAME_BYTES_MAX {
        return Err((RegistryFault::NoId, format!("the gateway id is over {NAME_BYTES_MAX} bytes")));
    }
    let endpoints = endpoints(&value["endpoints"], faults)?;
    let protocols = protocols(&metadata["push_protocols"], faults).unwrap_or(unannounced);
    let protocols = protocols.with_group_members_max(count(&metadata["group_members_max"], faults));
    Ok(GatewayRecord { gateway_id: id.into(), endpoints, protocols, others: Vec::new() })
}

/// By the rule that routes are read by as well.
fn word(value: &Value) -> Option<String> {
    let IdText(id) = IdText::deserialize(value).ok()?;
    (!id.is_empty()).then(|| id.into_owned())
}

/// A comma list, or a JSON list of words; anything else says nothing.
fn protocols(value: &Value, faults: &mut Faults) -> Option<Protocols> {
    let list = match value {
        Value::Null => return None,
        Value::String(list) => list.clone(),
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        _ => {
            let why = "push_protocols is no list of words; it counts as not written".to_owned();
            faults.push((RegistryFault::BadMetadata, why));
            return None;
        }
    };
    let words = || list.split(',').map(str::trim).filter(|word| !word.is_empty());
    if let Some(word) = words().find(|word| !Protocols::is_word(word)) {
        let (word, known) = (redact::value(word), Protocols::WORDS.join(", "));
        faults.push((RegistryFault::BadMetadata, format!("push_protocols names {word}, which is none of {known}")));
    } else if words().any(|word| word.eq_ignore_ascii_case("notice")) && Protocols::parse(&list).group.is_none() {
        let why = "push_protocols names notice without group, which carries notices".to_owned();
        faults.push((RegistryFault::BadMetadata, why));
    }
    Some(Protocols::parse(&list))
}

/// A number, or its digits as text, since registries keep metadata as text; anything else says nothing. What is larger than can be
/// counted is no bound.
fn count(value: &Value, faults: &mut Faults) -> u32 {
    let number = match value {
        Value::Null => return 0,
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    if number.is_none() {
        let why = "group_members_max is no whole number; it counts as not written, and so as no bound".to_owned();
        faults.push((RegistryFault::BadMetadata, why));
    }
    number.map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// The good endpoints, `grpc://` before others: a Kratos service announces its HTTP/1 port beside its gRPC port.
fn endpoints(value: &Value, faults: &mut Faults) -> Result<Vec<Endpoint>, (RegistryFault, String)> {
    let listed = value.as_array().map_or(&[][..], Vec::as_slice);
    if listed.is_empty() {
        return Err((RegistryFault::NoEndpoint, "endpoints is missing, empty or no list".to_owned()));
    }
    let (mut grpc, mut other) = (Kept::default(), Kept::default());
    let mut bad = 0;
    for item in listed {
        let text = item.as_str().unwrap_or_default();
        match endpoint(text) {
            Ok(endpoint) if text.starts_with("grpc://") || text.starts_with("grpcs://") => grpc.keep(endpoint),
            Ok(endpoint) => other.keep(endpoint),
            Err(why) => {
                bad += 1;
                if bad <= BAD_ENDPOINTS_TOLD {
                    faults.push((RegistryFault::BadEndpoint, why));
                }
            }
        }
    }
    if bad > BAD_ENDPOINTS_TOLD {
        let why = format!("{} more of its endpoints are not addresses", bad - BAD_ENDPOINTS_TOLD);
        faults.push((RegistryFault::BadEndpoint, why));
    }
    other.good.retain(|endpoint| !grpc.good.contains(endpoint));
    let mut left_out = grpc.left_out + other.left_out;
    let mut good = grpc.good;
    // A gateway that speaks gRPC over TLS is reached in no other way.
    let is_secure = good.iter().any(|endpoint| endpoint.secure);
    good.append(&mut other.good);
    good.retain(|endpoint| endpoint.secure || !is_secure);
    left_out += good.len().saturating_sub(ENDPOINTS_MAX);
    good.truncate(ENDPOINTS_MAX);
    if good.is_empty() {
        let why = faults.pop().map_or_else(|| "no endpoint is an address".to_owned(), |(_, why)| why);
        return Err((RegistryFault::BadEndpoint, why));
    }
    if left_out > 0 {
        let why = format!("of its good endpoints only the first {ENDPOINTS_MAX} are used, {left_out} are left out");
        faults.push((RegistryFault::TooManyEndpoints, why));
    }
    Ok(good)
}

/// The first good endpoints of a kind, each once, and how many more there are.
#[derive(Default)]
struct Kept {
    good: Vec<Endpoint>,
    left_out: usize,
}

impl Kept {
    fn keep(&mut self, endpoint: Endpoint) {
        if self.good.contains(&endpoint) {
            return;
        }
        if self.good.len() < ENDPOINTS_MAX {
            self.good.push(endpoint);
        } else {
            self.left_out += 1;
        }
    }
}

/// As [`Endpoint::parse`], and with what Kratos appends: `?isSecure=true` asks for TLS.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let mut endpoint = Endpoint::parse(address)?;
    endpoint.secure |= query.split('&').any(|pair| pair.eq_ignore_ascii_case("isSecure=true"));
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use RegistryFault::{BadEndpoint, BadMetadata, NoEndpoint, NoId, NotJson};

    fn read_it(value: &[u8]) -> Entry {
        Entry::read(value, Protocols::STREAM)
    }

    fn brief(entry: &Entry) -> (Option<String>, Vec<RegistryFault>) {
        let record = entry.record.as_ref().map(|record| {
            let shown = |endpoint: &Endpoint| format!("{endpoint}{}", if endpoint.secure { "+tls" } else { "" });
            let endpoints: Vec<_> = record.endpoints.iter().map(shown).collect();
            let best = record.protocols.best().map_or("none", |best| best.label());
            format!("{} {} {}", record.gateway_id, endpoints.join(","), best)
        });
        (record, entry.faults.iter().map(|(fault, _)| *fault).collect())
    }

    #[test]
    fn values_and_what_becomes_of_them() {
        let table: &[(&str, Option<&str>, &[RegistryFault])] = &[
            // What Resonance's gateways of today write.
            (
                r#"{"id":"gateway-service-437","name":"gateway-service","version":"v1","metadata":null,
                    "endpoints":["grpc://localhost:15191"]}"#,
                Some("gateway-service-437 localhost:15191 stream"),
                &[],
            ),
            (
                r#"{"id":"i","metadata":{"gateway_id":"g","push_protocols":"stream,batch"},"endpoints":["grpc://h:1"]}"#,
                Some("g h:1 batch"),
                &[],
            ),
            (
                r#"{"id":"g","metadata":{"push_protocols":"group,batch","group_members_max":"9"},"endpoints":["h:1"]}"#,
                Some("g h:1 group"),
                &[],
            ),
            (
                r#"{"id":"g","metadata":{"push_protocols":"stream, Stream-Many"},"endpoints":["h:1"]}"#,
                Some("g h:1 stream-many"),
                &[],
            ),
            (r#"{"id":"i","metadata":{"gateway_id":""},"endpoints":["h:1"]}"#, Some("i h:1 stream"), &[]),
            (
                r#"{"id":7,"metadata":{"weight":3,"tags":["x"],"push_protocols":["unary"]},"endpoints":["[::1]:9"]}"#,
                Some("7 [::1]:9 unary"),
                &[],
            ),
            (r#"{"id":"i","metadata":"text","endpoints":["h:1"]}"#, Some("i h:1 stream"), &[]),
            (
                r#"{"id":"i","metadata":{"gateway_id":{"a":1},"push_protocols":5},"endpoints":["h:1"]}"#,
                Some("i h:1 stream"),
                &[BadMetadata],
            ),
            (
                r#"{"id":"k","endpoints":["http://h:8000","grpc://h:9000?isSecure=false","grpc://h:9000"]}"#,
                Some("k h:9000,h:8000 stream"),
                &[],
            ),
            (r#"{"id":" 7 ","metadata":{"gateway_id":7.5},"endpoints":["h:1"]}"#, Some("7 h:1 stream"), &[]),
            ("", None, &[NotJson]),
            ("{", None, &[NotJson]),
            ("[]", None, &[NotJson]),
            ("null", None, &[NotJson]),
            ("\u{fe}", None, &[NotJson]),
            (r#"{"endpoints":["h:1"]}"#, None, &[NoId]),
            (r#"{"id":" ","endpoints":["h:1"]}"#, None, &[NoId]),
            (r#"{"id":"i"}"#, None, &[NoEndpoint]),
            (r#"{"id":"i","endpoints":[]}"#, None, &[NoEndpoint]),
            (r#"{"id":"i","endpoints":"h:1"}"#, None, &[NoEndpoint]),
            (r#"{"id":"i","endpoints":["h"]}"#, None, &[BadEndpoint]),
            (r#"{"id":"i","endpoints":["h:0","grpct://h:1"]}"#, None, &[BadEndpoint, BadEndpoint]),
        ];
        check(table);
    }

    fn check(table: &[(&str, Option<&str>, &[RegistryFault])]) {
        for (value, record, faults) in table {
            let expected = (record.map(str::to_owned), faults.to_vec());
            assert_eq!(brief(&read_it(value.as_bytes())), expected, "{value}");
        }
    }

    #[test]
    fn what_is_not_understood_of_protocols_is_told() {
        for (protocols, most, best, faults) in [
            ("batch,gruop", r#""many""#, "batch", 2),
            ("notice,batch", r#""9""#, "batch", 1),
            ("Group, notice,,", "-1", "group", 1),
            ("stream, stream-MANY ,unary", "0", "stream-many", 0),
        ] {
            let metadata = format!(r#"{{"push_protocols":"{protocols}","group_members_max":{most}}}"#);
            let value = format!(r#"{{"id":"i","metadata":{metadata},"endpoints":["h:1"]}}"#);
            let expected = (Some(format!("i h:1 {best}")), vec![BadMetadata; faults]);
            assert_eq!(brief(&read_it(value.as_bytes())), expected, "{value}");
        }
    }

    #[test]
    fn only_one_that_announces_nothing_speaks_what_the_configuration_says() {
        for (metadata, best) in [
            ("null", "stream-many"),
            (r#"{"http_addr":"h:8080"}"#, "stream-many"),
            (r#"{"push_protocols":"stream"}"#, "stream"),
            (r#"{"push_protocols":""}"#, "stream"),
            (r#"{"push_protocols":["unary"]}"#, "unary"),
        ] {
            let value = format!(r#"{{"id":"i","metadata":{metadata},"endpoints":["h:1"]}}"#);
            let entry = Entry::read(value.as_bytes(), Protocols::STREAM_MANY);
            assert_eq!(brief(&entry).0, Some(format!("i h:1 {best}")), "{metadata}");
        }
    }

    #[test]
    fn a_gateway_that_speaks_grpc_over_tls_is_reached_in_no_other_way() {
        check(&[
            (
                r#"{"id":"i","endpoints":["nowhere","grpc://h:1",5,"grpc://s:2?isSecure=true"]}"#,
                Some("i s:2+tls stream"),
                &[BadEndpoint, BadEndpoint],
            ),
            (
                r#"{"id":"k","endpoints":["https://h:8000","grpc://h:9000?isSecure=false"]}"#,
                Some("k h:9000,h:8000+tls stream"),
                &[],
            ),
            (
                r#"{"id":"k","endpoints":["http://h:8000","h:7000","grpcs://h:9000","https://h:8443"]}"#,
                Some("k h:9000+tls,h:8443+tls stream"),
                &[],
            ),
            (r#"{"id":"i","endpoints":["h:0","grpcs://h:1"]}"#, Some("i h:1+tls stream"), &[BadEndpoint]),
        ]);
    }

    #[test]
    fn fuzzed_registry() {
        crate::fuzz::run("registry", 20_000, |bytes| {
            let entry = read_it(bytes);
            assert!(entry.faults.len() <= BAD_ENDPOINTS_TOLD + 5, "what is told is bounded");
            let Some(record) = entry.record else {
                assert!(!entry.faults.is_empty(), "a value that is not taken has a reason");
                return;
            };
            assert!(!record.gateway_id.is_empty() && record.gateway_id.len() <= NAME_BYTES_MAX);
            assert!((1..=ENDPOINTS_MAX).contains(&record.endpoints.len()));
            // Written as a gateway writes it, it is the same gateway.
            let written = |at: &Endpoint| format!("{}://{at}", if at.secure { "https" } else { "http" });
            let endpoints: Vec<_> = record.endpoints.iter().map(written).collect();
            let protocols = &record.protocols;
            let group = (protocols.group.is_some(), "group");
            let notice = (protocols.notice, "notice");
            let many = (protocols.stream_many, "stream-many");
            let (stream, batch, unary) =
                ((protocols.stream, "stream"), (protocols.batch, "batch"), (protocols.unary, "unary"));
            let words = [group, notice, many, stream, batch, unary];
            let words: Vec<_> = words.iter().filter(|(speaks, _)| *speaks).map(|(_, word)| *word).collect();
            let written = serde_json::json!({
                "id": &*record.gateway_id,
                "metadata": { "push_protocols": words, "group_members_max": protocols.group },
                "endpoints": endpoints,
            });
            let again = read_it(written.to_string().as_bytes());
            assert_eq!((again.record, again.faults), (Some(record), Vec::new()), "{written}");
        });
    }

    #[test]
    fn bad_endpoints_are_sorted_out_before_they_are_bounded_and_what_is_left_out_is_told() {
        let bad = (0..40).map(|_| r#""nowhere""#.to_owned());
        let http = (0..20).map(|port| format!(r#""http://h:{}""#, port + 1));
        let value = |list: Vec<String>| format!(r#"{{"id":"i","endpoints":[{}]}}"#, list.join(","));
        let entry = read_it(value(bad.clone().chain([r#""grpc://h:99""#.to_owned()]).collect()).as_bytes());
        let (record, faults) = brief(&entry);
        assert_eq!(record.as_deref(), Some("i h:99 stream"));
        assert_eq!(faults.len(), BAD_ENDPOINTS_TOLD + 1, "the others are told as one");
        assert!(entry.faults[BAD_ENDPOINTS_TOLD].1.starts_with("24 more"), "{:?}", entry.faults);
        let entry = read_it(value(http.chain([r#""grpc://h:99""#.to_owned()]).collect()).as_bytes());
        let endpoints = &entry.record.as_ref().expect("a gateway").endpoints;
        assert_eq!((endpoints.len(), endpoints[0].port), (ENDPOINTS_MAX, 99), "grpc:// first, wherever it stands");
        assert_eq!(brief(&entry).1, [RegistryFault::TooManyEndpoints]);
        assert!(entry.faults[0].1.contains("5 are left out"), "{:?}", entry.faults);
    }

    #[test]
    fn no_password_of_an_endpoint_is_ever_told() {
        for endpoint in [
            "grpc://user:hunter2@host:1",
            "grpc://user:hunter2@host",
            "user:hunter2@host:1",
            "https://user:hunter2@host:1",
            "user:hunter2://x@host:1",
            "grpc://user:hunter2@host:1?isSecure=true",
            "grpc://h:x?token=hunter2&isSecure=true",
            "grpc://user:hunter2@",
            "grpc://user:@hunter2@host:x",
        ] {
            let value = format!(r#"{{"id":"i","endpoints":["{endpoint}"]}}"#);
            let entry = read_it(value.as_bytes());
            assert_eq!(brief(&entry), (None, vec![BadEndpoint]), "{endpoint}");
            assert!(!format!("{entry:?}").contains("hunter2"), "{entry:?}");
        }
    }

    #[test]
    fn an_endless_id_is_refused() {
        let value = format!(r#"{{"id":"{}","endpoints":["h:1"]}}"#, "x".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(brief(&read_it(value.as_bytes())), (None, vec![NoId]));
    }
}
