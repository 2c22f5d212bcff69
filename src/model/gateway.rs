//! A gateway as the registry knows it: its id, addresses and protocols.

use std::fmt;
use std::num::NonZeroU32;

use crate::model::ids::GatewayId;
use crate::model::redact;

/// What a gateway understands, best first: `group`, `batch`, `stream-many`, `stream`, `unary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `PushGroups`: a list of users is said once a stream and then referred to.
    Group,
    /// `PushBatch`: many pushes a frame, one answer a batch.
    Batch,
    /// `PushMessage`, with all users of a message in a frame: one answer a request, which names whom it could not reach.
    StreamMany,
    /// `PushMessage`: a stream, one user and one answer a request.
    Stream,
    /// `Push`: one call a message.
    Unary,
}

impl Protocol {
    /// The word of `push_protocols` and of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Batch => "batch",
            Self::StreamMany => "stream-many",
            Self::Stream => "stream",
            Self::Unary => "unary",
        }
    }
}

/// The protocols of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocols {
    /// Speaks `PushGroups`, and keeps so many members of groups on a stream.
    pub group: Option<NonZeroU32>,
    /// Speaks `PushBatch`.
    pub batch: bool,
    /// Takes several users in a frame of `PushMessage`.
    pub stream_many: bool,
    /// Speaks `PushMessage`.
    pub stream: bool,
    /// Speaks `Push`.
    pub unary: bool,
    /// Understands notices, which only `group` has.
    pub notice: bool,
}

impl Protocols {
    /// What a gateway that announces nothing speaks.
    pub const STREAM: Self =
        Self { group: None, batch: false, stream_many: false, stream: true, unary: false, notice: false };
    /// The same with several users a frame.
    pub const STREAM_MANY: Self = Self { stream_many: true, ..Self::STREAM };

    /// The words of the registry's `push_protocols`, in any case of letters.
    pub const WORDS: [&str; 6] = ["group", "notice", "batch", "stream-many", "stream", "unary"];

    /// Whether a word is one of them.
    pub fn is_word(word: &str) -> bool {
        Self::WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
    }

    /// Reads the comma list of the registry's `push_protocols`; unknown words are passed over, and a list without a
    /// known word means `stream`.
    pub fn parse(list: &str) -> Self {
        let has = |word: &str| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
        let group = has("group").then_some(NonZeroU32::MAX);
        let notice = group.is_some() && has("notice");
        let stream_many = has(Protocol::StreamMany.label());
        let stream = stream_many || has("stream");
        let all = Self { group, batch: has("batch"), stream_many, stream, unary: has("unary"), notice };
        if all.best().is_some() { all } else { Self::STREAM }
    }

    /// The same with what the registry says of `group_members_max`; 0 is no bound.
    pub fn with_group_members_max(self, most: u32) -> Self {
        let most = NonZeroU32::new(most).unwrap_or(NonZeroU32::MAX);
        Self { group: self.group.map(|_| most), ..self }
    }

    /// The best that is left.
    pub fn best(self) -> Option<Protocol> {
        match self {
            Self { group: Some(_), .. } => Some(Protocol::Group),
            Self { batch: true, .. } => Some(Protocol::Batch),
            Self { stream_many: true, .. } => Some(Protocol::StreamMany),
            Self { stream: true, .. } => Some(Protocol::Stream),
            Self { unary: true, .. } => Some(Protocol::Unary),
            _ => None,
        }
    }
}

/// Where a gateway listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub secure: bool,
}

impl Endpoint {
    /// Reads `grpc://host:port`, `http://host:port` or `host:port`, and with TLS `grpcs://` and `https://`; IPv6 addresses in brackets.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Whoever wrote a user into it may have written a password.
        let shown = redact::address(text);
        if shown != text {
            return Err(format!("endpoint {shown:?} names a user; write host:port"));
        }
        let (secure, rest) = match text.split_once("://") {
            Some((scheme @ ("grpc" | "http" | "grpcs" | "https"), rest)) => (scheme.ends_with('s'), rest),
            Some((scheme, _)) => {
                return Err(format!("endpoint {text:?}: scheme {scheme:?} is not grpc, grpcs, http or https"));
            }
            None => (false, text),
        };
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').ok_or(format!("endpoint {text:?} has no port"))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| format!("endpoint {text:?}: {port:?} is not a port number"))?;
        if host.is_empty() || host.contains(['/', '@', ' ']) || port == 0 {
            return Err(format!("endpoint {text:?} is not host:port"));
        }
        Ok(Self { host: host.to_owned(), port, secure })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One gateway of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRecord {
    /// The id that routes name.
    pub gateway_id: GatewayId,
    /// Addresses of the same gateway, tried in order.
    pub endpoints: Vec<Endpoint>,
    /// What it announced.
    pub protocols: Protocols,
    /// Addresses in other records of the same id, the one written last first. They are used while no stream can be opened at
    /// any of `endpoints`. Most have none.
    pub others: Vec<Endpoint>,
}
