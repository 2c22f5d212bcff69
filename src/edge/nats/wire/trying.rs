//! What a connection is asked that only wants to know how it is.

use std::time::Instant;

use super::{Got, Wire, WireError, protocol};

/// The number of the subscription that is tried; 1 is that of answers.
const TRIED: u64 = 2;

impl Wire {
    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    /// Whether the user may subscribe to this subject: subscribed and unsubscribed in one write. What comes in between is dropped, as a
    /// copy of what others get: it is no member of their group.
    ///
    /// # Errors
    /// The server's words against it.
    pub fn try_to_subscribe(&mut self, subject: &str) -> Result<(), WireError> {
        let deadline = Instant::now() + self.timeout;
        let mut lines = Vec::new();
        let written = protocol::subscribe(&mut lines, subject.as_bytes(), None, TRIED);
        written.map_err(|why| self.unwritable(subject, why))?;
        protocol::unsubscribe(&mut lines, TRIED, None);
        lines.extend_from_slice(protocol::PING);
        self.write(&lines, deadline)?;
        while !matches!(self.got(deadline)?, Got::Pong) {}
        Ok(())
    }
}
