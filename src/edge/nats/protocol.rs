//! The client's side of the NATS protocol as bytes and values: frames out of what was read, lines into what is written.
//!
//! Promises that a frame borrows from the bytes that were read (no copy, no allocation), that the same frames come out however
//! the bytes are cut, that every length has a bound before anything waits for it, and that nothing is written that a server
//! would read as something else. Refuses to know a socket, a clock, a runtime or a log, and to show a payload in an error.

mod connect;
mod decode;
#[cfg(test)]
mod decode_tests;
mod encode;
mod fault;
mod headers;
mod info;
mod server_error;

pub use connect::{Connect, Login, connect};
pub use decode::{Decoder, Frame, Limits, Message, Step};
pub use encode::{
    PING, PONG, Unwritable, header_bytes, publish, publish_with_block, publish_with_headers, subscribe, unsubscribe,
};
pub use fault::{Fault, ProtocolError};
pub use headers::{Headers, Marks, Status, published};
pub use info::{CONNECT_URLS_MAX, InfoError, ServerInfo};
pub use server_error::{ErrorKind, ServerError};

/// The begin of a foreign text, at most so many bytes of it.
fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
