//! Many publishes as one call of the client.
//!
//! Promises that what was put in leaves in that order, at the cost of one lock of the client for all of it. The client
//! has no call for it; it writes a subject as it is, so one publish carries the lines of the others in its subject.

use std::fmt::Write;

/// Publishes that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// All but the length and payload of the last one, and without the first one's `PUB `: the client adds those.
    text: String,
    payload: String,
    count: usize,
}

impl Lines {
    /// Adds one. Subjects must hold neither blanks nor line ends: ours come from checked names and from the server.
    pub(super) fn put(&mut self, subject: &str, reply: Option<&str>, payload: &str) {
        if self.count > 0 {
            let _ = write!(self.text, " {}\r\n{}\r\nPUB ", self.payload.len(), self.payload);
        }
        self.text.push_str(subject);
        if let Some(reply) = reply {
            self.text.push(' ');
            self.text.push_str(reply);
        }
        self.payload.clear();
        self.payload.push_str(payload);
        self.count += 1;
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// About how many bytes they are.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Hands them to `publish` as its subject and payload, and starts anew.
    pub(super) fn write<E>(&mut self, publish: impl FnOnce(&str, &str) -> Result<(), E>) -> Result<(), E> {
        if self.count == 0 {
            return Ok(());
        }
        let result = publish(&self.text, &self.payload);
        self.text.clear();
        self.count = 0;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_shows_each_publish() {
        let mut lines = Lines::default();
        lines.put("a.1", None, "+ACK");
        lines.put("next", Some("inbox.1"), "{}");
        lines.put("b.2", None, "");
        let mut wire = String::new();
        // As the client's encoder does it.
        let publish = |subject: &str, payload: &str| write!(wire, "PUB {subject} {}\r\n{payload}\r\n", payload.len());
        lines.write(publish).expect("a string");
        assert_eq!(wire, "PUB a.1 4\r\n+ACK\r\nPUB next inbox.1 2\r\n{}\r\nPUB b.2 0\r\n\r\n");
        assert!(lines.is_empty());
    }
}
