//! Which rpcs a gateway of a test knows, and how it says so.

use crate::error::{Error, Result};

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
    /// `PushMessage` as gateways of Resonance 0.1.0 have it: several users a frame, and an answer that names whom it could not reach.
    pub many: bool,
}

impl Protocols {
    /// All that name each user.
    pub const ALL: Self = Self { stream: true, unary: true, batch: true, ..Self::NONE };
    /// What today's gateways know.
    pub const STREAM: Self = Self { unary: false, batch: false, ..Self::ALL };
    /// What those of version 0.1.0 know.
    pub const MANY: Self = Self { many: true, ..Self::NONE };
    /// Only `Push`.
    pub const UNARY: Self = Self { unary: true, ..Self::NONE };
    /// Only `PushBatch`.
    pub const BATCH: Self = Self { batch: true, ..Self::NONE };
    /// Only `PushGroups`.
    pub const GROUP: Self = Self { group: true, ..Self::NONE };
    /// Only `PushGroups`, with notices.
    pub const NOTICE: Self = Self { notice: true, ..Self::GROUP };
    const NONE: Self = Self { stream: false, unary: false, batch: false, group: false, notice: false, many: false };

    /// The registry's `push_protocols` for these.
    pub fn announcement(self) -> String {
        let words = self.words();
        words.iter().filter(|(spoken, _)| *spoken).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
    }

    /// Those that an [`announcement`](Self::announcement) names.
    ///
    /// # Errors
    /// The word that names none.
    pub fn of_announcement(text: &str) -> Result<Self> {
        let known = |word: &str| Self::EACH.iter().find(|one| one.announcement() == word);
        text.split(',').try_fold(Self::NONE, |sum, word| {
            let one = known(word).ok_or_else(|| Error::new(format!("no gateway speaks `{word}`")))?;
            Ok(sum.and(*one))
        })
    }

    const EACH: [Self; 6] = [
        Self { group: true, ..Self::NONE },
        Self { notice: true, ..Self::NONE },
        Self { batch: true, ..Self::NONE },
        Self { many: true, ..Self::NONE },
        Self { stream: true, ..Self::NONE },
        Self { unary: true, ..Self::NONE },
    ];

    fn words(self) -> [(bool, &'static str); 6] {
        [
            (self.group, "group"),
            (self.notice, "notice"),
            (self.batch, "batch"),
            (self.many, "stream-many"),
            (self.stream, "stream"),
            (self.unary, "unary"),
        ]
    }

    fn and(self, other: Self) -> Self {
        Self {
            stream: self.stream || other.stream,
            unary: self.unary || other.unary,
            batch: self.batch || other.batch,
            group: self.group || other.group,
            notice: self.notice || other.notice,
            many: self.many || other.many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_read_again() {
        for protocols in [Protocols::ALL, Protocols::STREAM, Protocols::MANY, Protocols::GROUP, Protocols::NOTICE] {
            let read = Protocols::of_announcement(&protocols.announcement());
            assert_eq!(read.expect("its own words"), protocols);
        }
        assert!(Protocols::of_announcement("group,carrier-pigeon").is_err());
    }
}
