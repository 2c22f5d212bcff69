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
    pub fn announcement(mut self) -> String {
        let words = self.words();
        words.iter().filter(|(spoken, _)| **spoken).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
    }

    /// Those that an [`announcement`](Self::announcement) names.
    ///
    /// # Errors
    /// The word that names none.
    pub fn of_announcement(text: &str) -> Result<Self> {
        let mut all = Self::NONE;
        for word in text.split(',') {
            let one = all.words().into_iter().find(|(_, known)| *known == word);
            let (spoken, _) = one.ok_or_else(|| Error::new(format!("no gateway speaks `{word}`")))?;
            *spoken = true;
        }
        Ok(all)
    }

    fn words(&mut self) -> [(&mut bool, &'static str); 6] {
        [
            (&mut self.group, "group"),
            (&mut self.notice, "notice"),
            (&mut self.batch, "batch"),
            (&mut self.many, "stream-many"),
            (&mut self.stream, "stream"),
            (&mut self.unary, "unary"),
        ]
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
