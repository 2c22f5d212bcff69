//! What a gateway speaks, and how it says so in the registry.

/// Which rpcs a gateway knows; the others it answers with UNIMPLEMENTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// `PushMessage`.
    pub stream: bool,
    /// `Push`.
    pub unary: bool,
    /// `PushBatch`.
    pub batch: bool,
    /// `PushGroups`.
    pub group: bool,
    /// Notices in the place of messages, in `PushGroups`.
    pub notice: bool,
}

impl Protocols {
    /// All that name each user.
    pub const ALL: Self = Self { stream: true, unary: true, batch: true, group: false, notice: false };
    /// What today's gateways know.
    pub const STREAM: Self = Self { stream: true, unary: false, batch: false, group: false, notice: false };
    /// Only `Push`.
    pub const UNARY: Self = Self { stream: false, unary: true, batch: false, group: false, notice: false };
    /// Only `PushBatch`.
    pub const BATCH: Self = Self { stream: false, unary: false, batch: true, group: false, notice: false };
    /// Only `PushGroups`.
    pub const GROUP: Self = Self { stream: false, unary: false, batch: false, group: true, notice: false };
    /// Only `PushGroups`, with notices.
    pub const NOTICE: Self = Self { notice: true, ..Self::GROUP };

    /// The registry's `push_protocols` for these.
    pub fn announcement(self) -> String {
        let words = [
            (self.group, "group"),
            (self.notice, "notice"),
            (self.batch, "batch"),
            (self.stream, "stream"),
            (self.unary, "unary"),
        ];
        words.iter().filter(|(spoken, _)| *spoken).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
    }
}
