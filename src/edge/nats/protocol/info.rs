//! What a server says of itself.
//!
//! Promises that a field that is missing or of another type is as if it had not been said, and that what is kept is bounded, however
//! long the line is. Refuses only what is not a JSON object.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cut;
use crate::config::HostPort;

/// Other servers that are kept of one INFO.
pub const CONNECT_URLS_MAX: usize = 64;
/// Bytes of a text that are kept.
const TEXT_BYTES_MAX: usize = 1024;
/// The largest `max_payload` that is believed.
const MAX_PAYLOAD: u64 = 64 << 20;

/// What of an INFO matters to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its identity, another after each start.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// Its version.
    pub version: String,
    /// Where it listens, as it believes.
    pub host: String,
    /// The port there; 0 when it does not say.
    pub port: u16,
    /// Whether it takes headers.
    pub headers: bool,
    /// Bytes of headers and payload that it takes; 0 when it does not say.
    pub max_payload: usize,
    /// Whether it has JetStream.
    pub jetstream: bool,
    /// Whether it wants a login.
    pub auth_required: bool,
    /// Whether it wants TLS.
    pub tls_required: bool,
    /// Whether it would speak TLS.
    pub tls_available: bool,
    /// Whether it wants our certificate.
    pub tls_verify: bool,
    /// What a key must sign; empty when it wants no signature.
    pub nonce: String,
    /// Other servers of its cluster, at most [`CONNECT_URLS_MAX`].
    pub connect_urls: Vec<HostPort>,
    /// It is about to stop: clients should move.
    pub lame_duck_mode: bool,
    /// The number of this connection.
    pub client_id: u64,
    /// JetStream's domain; empty when there is none.
    pub domain: String,
}

/// An INFO that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoError(String);

impl fmt::Display for InfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server's INFO cannot be read as JSON: {}", self.0)
    }
}

impl std::error::Error for InfoError {}

impl ServerInfo {
    /// Reads the JSON of an INFO.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(json: &[u8]) -> Result<Self, InfoError> {
        serde_json::from_slice(json).map_err(|error| InfoError(error.to_string()))
    }

    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        fn value<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Said, A::Error> {
            map.next_value()
        }
        match key {
            "server_id" => self.server_id = value(map)?.text(),
            "server_name" => self.server_name = value(map)?.text(),
            "version" => self.version = value(map)?.text(),
            "host" => self.host = value(map)?.text(),
            "port" => self.port = u16::try_from(value(map)?.number()).unwrap_or(0),
            "headers" => self.headers = value(map)?.flag(),
            "max_payload" => self.max_payload = value(map)?.number().min(MAX_PAYLOAD) as usize,
            "jetstream" => self.jetstream = value(map)?.flag(),
            "auth_required" => self.auth_required = value(map)?.flag(),
            "tls_required" => self.tls_required = value(map)?.flag(),
            "tls_available" => self.tls_available = value(map)?.flag(),
            "tls_verify" => self.tls_verify = value(map)?.flag(),
            "nonce" => self.nonce = value(map)?.text(),
            "connect_urls" => self.connect_urls = value(map)?.servers(),
            "ldm" => self.lame_duck_mode = value(map)?.flag(),
            "client_id" => self.client_id = value(map)?.number(),
            "domain" => self.domain = value(map)?.text(),
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ServerInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = ServerInfo;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ServerInfo, A::Error> {
                let mut info = ServerInfo::default();
                while let Some(Said::Text(key)) = map.next_key::<Said>()? {
                    info.read(&key, &mut map)?;
                }
                Ok(info)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A text, truth value, number or list of servers; everything else is passed over.
enum Said {
    Text(String),
    Flag(bool),
    Number(u64),
    Servers(Vec<HostPort>),
    Other,
}

impl Said {
    fn text(self) -> String {
        if let Self::Text(text) = self { text } else { String::new() }
    }

    fn flag(&self) -> bool {
        matches!(self, Self::Flag(true))
    }

    fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }

    fn servers(self) -> Vec<HostPort> {
        if let Self::Servers(servers) = self { servers } else { Vec::new() }
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Said;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Said, E> {
                Ok(Said::Text(cut(text, TEXT_BYTES_MAX).to_owned()))
            }
            fn visit_bool<E>(self, flag: bool) -> Result<Said, E> {
                Ok(Said::Flag(flag))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Said, E> {
                Ok(Said::Number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Said, E> {
                Ok(Said::Number(number.max(0) as u64))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Said, E> {
                Ok(Said::Number(number as u64))
            }
            fn visit_unit<E>(self) -> Result<Said, E> {
                Ok(Said::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Said, A::Error> {
                let mut servers: Vec<HostPort> = Vec::new();
                while servers.len() < CONNECT_URLS_MAX {
                    match seq.next_element::<Said>()? {
                        Some(said) => servers.extend(host_and_port(&said.text()).filter(|one| !servers.contains(one))),
                        None => return Ok(Said::Servers(servers)),
                    }
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Said::Servers(servers))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Said::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Servers say both, always; a name of more than 255 bytes is none.
fn host_and_port(text: &str) -> Option<HostPort> {
    let is_plain = !text.contains("//") && !text.starts_with(':') && text.len() <= 255 + 8;
    HostPort::parse(text, 0).ok().filter(|url| is_plain && url.port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> ServerInfo {
        ServerInfo::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn what_servers_say_is_read() {
        let info = parsed(
            r#"{"server_id":"NAB","server_name":"n-1","version":"2.15.1","proto":1,"git_commit":"x","go":"go1.25","host":"0.0.0.0",
            "port":4222,"headers":true,"auth_required":true,"tls_required":true,"tls_verify":true,"tls_available":true,
            "max_payload":1048576,"jetstream":true,"client_id":7,"client_ip":"127.0.0.1","nonce":"pO1","ldm":true,"domain":"hub",
            "cluster":"c","connect_urls":["10.0.0.1:4222","[::1]:4223","host.example:4224","10.0.0.1:4222"],"xkey":"X","new":{"a":[1]}}"#,
        );
        let texts = [&info.server_id, &info.server_name, &info.version, &info.host, &info.nonce, &info.domain];
        assert_eq!(texts, ["NAB", "n-1", "2.15.1", "0.0.0.0", "pO1", "hub"]);
        assert_eq!((info.port, info.max_payload, info.client_id), (4222, 1 << 20, 7));
        let flags = [info.headers, info.jetstream, info.auth_required, info.lame_duck_mode];
        assert_eq!((flags, [info.tls_required, info.tls_available, info.tls_verify]), ([true; 4], [true; 3]));
        let urls: Vec<_> = info.connect_urls.iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["10.0.0.1:4222", "[::1]:4223", "host.example:4224"]);
    }

    #[test]
    fn what_is_missing_or_of_another_type_was_not_said() {
        let silent = ServerInfo::default();
        for json in
            ["{}", " {} ", r#"{"server_id":1,"port":"4222","headers":"yes","max_payload":[1],"connect_urls":7}"#]
        {
            assert_eq!(parsed(json), silent, "{json}");
        }
        for value in
            ["null", "true", "\"text\"", "-1", "1.5", "{\"a\":[1,{}]}", "[null,1,{},[],\"no port\",\":1\",\"h:0\"]"]
        {
            assert!(parsed(&format!("{{\"connect_urls\":{value}}}")).connect_urls.is_empty(), "{value}");
            let other = parsed(&format!("{{\"nonce\":{value},\"ldm\":{value},\"max_payload\":{value},\"x\":{value}}}"));
            assert_eq!(other.nonce, if value == "\"text\"" { "text" } else { "" });
            assert_eq!((other.lame_duck_mode, other.max_payload), (value == "true", usize::from(value == "1.5")));
        }
    }

    #[test]
    fn numbers_and_texts_are_bounded() {
        for (json, port, max_payload) in [
            (r#"{"port":65536,"max_payload":99999999999999999999999}"#, 0, 64 << 20),
            (r#"{"port":-4222,"max_payload":-1}"#, 0, 0),
            (r#"{"port":1e300,"max_payload":1e300}"#, 0, 64 << 20),
            (r#"{"port":65535,"max_payload":2147483647}"#, 65535, 64 << 20),
        ] {
            let info = parsed(json);
            assert_eq!((info.port, info.max_payload), (port, max_payload), "{json}");
        }
        let name = "\u{e9}".repeat(30_000);
        assert_eq!(parsed(&format!("{{\"server_name\":\"{name}\"}}")).server_name, name[..1024]);
    }

    #[test]
    fn of_ten_thousand_servers_some_are_kept() {
        let urls: Vec<_> = (0..10_000).map(|at| format!("\"10.0.{}.{}:4222\"", at / 256, at % 256)).collect();
        let info = parsed(&format!("{{\"connect_urls\":[{}],\"ldm\":true}}", urls.join(",")));
        assert_eq!((info.connect_urls.len(), info.lame_duck_mode), (CONNECT_URLS_MAX, true));
        let bad = "\"nats://h:1\",\"user:pw@h:1\",\"h\",\"h:70000\",\"a b:1\",\"http://h:1\",".repeat(1_000);
        let info = parsed(&format!("{{\"connect_urls\":[{bad}\"good:1\",\"{}:1\"]}}", "l".repeat(300)));
        assert_eq!(info.connect_urls, [HostPort { host: "good".to_owned(), port: 1 }]);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for json in ["", "[]", "7", "\"INFO\"", "{", "{\"a\":}", "{} {}", "{\"a\":1", &"[".repeat(100_000)] {
            let error = ServerInfo::parse(json.as_bytes()).expect_err(json).to_string();
            assert!(error.starts_with("the server's INFO cannot be read as JSON: ") && error.len() < 200, "{error}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert!(ServerInfo::parse(deep.as_bytes()).is_err());
        assert!(ServerInfo::parse(b"{\"server_id\":\"\xff\"}").is_err());
    }
}
