//! One TLS connection as bytes: what came from the socket in, what is to go to it out, and the plain bytes of both ways. It knows
//! no socket and no clock.
//!
//! Promises that plain bytes go as far as possible straight into the reader's memory; that nothing which was handed in and could
//! be read is left when [`read`](Session::read) gives 0; and that what is held is bounded: [`IN_BYTES`] of what came, what of that
//! found no room, and twice [`OUT_BYTES`] (with its records' heads) of what is to go.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

/// What came and was not decrypted: two full records.
const IN_BYTES: usize = 36 * 1024;
/// The same in the handshake, where a message (a long chain of certificates) may take several records.
const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;
/// Plain bytes of one record: half of what may be, so that the block in which rustls makes each is one of mimalloc's small ones. Those
/// come from 64 KiB that stay in the processor's cache; larger ones from 512 KiB, each of them cold again when its turn comes.
const RECORD_BYTES: usize = 8 * 1024 - RECORD_HEAD_BYTES;
/// What a record takes besides.
const RECORD_HEAD_BYTES: usize = 64;
/// Plain bytes that are taken before what stands is sent.
const OUT_BYTES: usize = 64 * 1024;

/// See the module.
pub(in crate::edge) struct Session {
    tls: UnbufferedClientConnection,
    incoming: Vec<u8>,
    /// How much of `incoming` is used up, and how much of it came.
    used: usize,
    came: usize,
    outgoing: Vec<u8>,
    sent: usize,
    /// Of a record that found no room.
    rest: Vec<u8>,
    rest_read: usize,
    /// What is wrong with the peer, once all before it was read.
    failed: Option<rustls::Error>,
    /// The peer has said that it sends nothing more.
    has_ended: bool,
}

/// What TLS is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// It waits for the peer, in the handshake.
    Handshake,
    /// Plain bytes can go both ways.
    Traffic,
    /// Plain bytes were read.
    Read,
}

impl Session {
    /// One that has not begun its handshake.
    ///
    /// # Errors
    /// When the name cannot be used.
    pub(in crate::edge) fn new(client: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: UnbufferedClientConnection::new(client, name)?,
            incoming: vec![0; IN_BYTES],
            used: 0,
            came: 0,
            outgoing: Vec::new(),
            sent: 0,
            rest: Vec::new(),
            rest_read: 0,
            failed: None,
            has_ended: false,
        })
    }

    /// Goes on with the handshake; true once it is done. What is to be sent must be sent either way.
    ///
    /// # Errors
    /// What is wrong with the peer. What tells the peer so is to be sent.
    pub(in crate::edge) fn shake(&mut self) -> Result<bool, rustls::Error> {
        loop {
            match self.step(&mut [], &mut 0)? {
                At::Handshake => return Ok(false),
                // A farewell in the handshake is none that is done.
                At::Traffic => return Ok(!self.tls.is_handshaking()),
                At::Read => {}
            }
        }
    }

    /// Plain bytes into `room`, as many as came and fit. 0: more must come first, or there is no more ([`has_ended`](Self::has_ended)).
    ///
    /// # Errors
    /// See [`shake`](Self::shake).
    pub(in crate::edge) fn read(&mut self, room: &mut [u8]) -> Result<usize, rustls::Error> {
        let mut filled = self.rest(room);
        while filled < room.len() {
            match self.failed.take().map_or_else(|| self.step(room, &mut filled), Err) {
                Ok(At::Read) => {}
                Ok(At::Handshake | At::Traffic) => break,
                // What came before it is read first.
                Err(error) if filled > 0 => {
                    self.failed = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Whether the peer said that it sends nothing more.
    pub(in crate::edge) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes plain bytes; gives how many, 0 when what stands must be sent first.
    ///
    /// # Errors
    /// See [`shake`](Self::shake).
    pub(in crate::edge) fn write(&mut self, plain: &[u8]) -> Result<usize, rustls::Error> {
        let plain = &plain[..plain.len().min(OUT_BYTES)];
        if self.outgoing.len() - self.sent >= OUT_BYTES || plain.is_empty() {
            return Ok(0);
        }
        self.with_traffic(|traffic, outgoing| {
            outgoing.reserve(plain.len() + plain.len().div_ceil(RECORD_BYTES) * RECORD_HEAD_BYTES);
            plain.chunks(RECORD_BYTES).try_for_each(|record| {
                append(outgoing, record.len() + RECORD_HEAD_BYTES, |room| traffic.encrypt(record, room))
            })
        })?;
        Ok(plain.len())
    }

    /// Says that nothing more is sent.
    pub(in crate::edge) fn end(&mut self) -> Result<(), rustls::Error> {
        self.with_traffic(|traffic, outgoing| {
            append(outgoing, RECORD_HEAD_BYTES, |room| traffic.queue_close_notify(room))
        })
    }

    /// Where the next bytes from the socket go, once there is nothing to read any more.
    ///
    /// # Errors
    /// When the peer has begun a message that is longer than any.
    pub(in crate::edge) fn room(&mut self) -> Result<&mut [u8], rustls::Error> {
        if self.used > 0 {
            self.incoming.copy_within(self.used..self.came, 0);
            (self.used, self.came) = (0, self.came - self.used);
        }
        if self.came == self.incoming.len() {
            if self.came >= HANDSHAKE_BYTES_MAX {
                return Err(rustls::Error::General("a message of the handshake has no end".to_owned()));
            }
            self.incoming.resize(HANDSHAKE_BYTES_MAX, 0);
        } else if self.came <= IN_BYTES / 2 && self.incoming.len() > IN_BYTES {
            self.incoming.truncate(IN_BYTES);
            self.incoming.shrink_to_fit();
        }
        Ok(&mut self.incoming[self.came..])
    }

    /// So many bytes came into [`room`](Self::room).
    pub(in crate::edge) fn came(&mut self, bytes: usize) {
        self.came += bytes;
    }

    /// What is to be sent.
    pub(in crate::edge) fn to_send(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// So many bytes of it were sent.
    pub(in crate::edge) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.outgoing.len() {
            self.sent = 0;
            self.outgoing.clear();
            self.outgoing.shrink_to(OUT_BYTES + 8 * RECORD_HEAD_BYTES);
        }
    }

    /// What an earlier record left.
    fn rest(&mut self, room: &mut [u8]) -> usize {
        let rest = &self.rest[self.rest_read..];
        let bytes = rest.len().min(room.len());
        room[..bytes].copy_from_slice(&rest[..bytes]);
        self.rest_read += bytes;
        if self.rest_read == self.rest.len() {
            self.rest_read = 0;
            self.rest.clear();
        }
        bytes
    }

    /// Works off one thing of what came.
    fn step(&mut self, room: &mut [u8], filled: &mut usize) -> Result<At, rustls::Error> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut self.incoming[self.used..self.came]);
            let at = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let AppDataRecord { discard: more, payload } = record?;
                        discard += more;
                        let fits = payload.len().min(room.len() - *filled);
                        room[*filled..*filled + fits].copy_from_slice(&payload[..fits]);
                        *filled += fits;
                        self.rest.extend_from_slice(&payload[fits..]);
                    }
                    Some(At::Read)
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(&mut self.outgoing, data)?;
                    None
                }
                // It stands in `outgoing`, before whatever follows.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(At::Handshake),
                Ok(ConnectionState::WriteTraffic(_)) => Some(At::Traffic),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.has_ended = true;
                    Some(At::Traffic)
                }
                Ok(state) => return Err(rustls::Error::General(format!("an unexpected state: {state:?}"))),
                Err(error) => {
                    self.used += discard;
                    self.take_leave();
                    return Err(error);
                }
            };
            self.used += discard;
            if let Some(at) = at {
                return Ok(at);
            }
        }
    }

    /// What TLS has to tell the peer after an error: an alert.
    fn take_leave(&mut self) {
        let status = self.tls.process_tls_records(&mut self.incoming[self.used..self.came]);
        if let Ok(ConnectionState::EncodeTlsData(data)) = status.state {
            // The error is what counts.
            let _ = encode(&mut self.outgoing, data);
        }
    }

    /// Does something that needs a finished handshake. What could be read meanwhile stays to be read.
    fn with_traffic(
        &mut self,
        work: impl FnOnce(&mut WriteTraffic<'_, ClientConnectionData>, &mut Vec<u8>) -> Result<(), EncryptError>,
    ) -> Result<(), rustls::Error> {
        while self.step(&mut [], &mut 0)? == At::Read {}
        let UnbufferedStatus { discard, state } =
            self.tls.process_tls_records(&mut self.incoming[self.used..self.came]);
        let done = match state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                work(&mut traffic, &mut self.outgoing).map_err(|error| rustls::Error::General(error.to_string()))
            }
            _ => Err(rustls::Error::HandshakeNotComplete),
        };
        self.used += discard;
        done
    }
}

fn encode(outgoing: &mut Vec<u8>, mut data: EncodeTlsData<'_, ClientConnectionData>) -> Result<(), rustls::Error> {
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(()),
    };
    let begin = outgoing.len();
    outgoing.resize(begin + needed, 0);
    data.encode(&mut outgoing[begin..]).map(drop).map_err(|error| rustls::Error::General(error.to_string()))
}

/// Appends what is written into room of this size, or of the size that it asks for.
fn append(
    outgoing: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let begin = outgoing.len();
    outgoing.resize(begin + room, 0);
    let written = match write(&mut outgoing[begin..]) {
        Err(EncryptError::InsufficientSize(size)) => {
            outgoing.resize(begin + size.required_size, 0);
            write(&mut outgoing[begin..])
        }
        other => other,
    };
    outgoing.truncate(begin + *written.as_ref().unwrap_or(&0));
    written.map(drop)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
