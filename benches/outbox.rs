//! The outbox without its encoder, per recipient: `put` takes bundles in, `ack` reads the gateway's answers as they
//! come off the stream, matches them and ends the bundles.
//!
//! Not in it: writing frames (`encode`), HTTP/2, failures, and the protocol `unary`. The answers to one chunk of frames
//! come in one piece here; on a socket they come in pieces of at most 16 KiB.

mod support;

use support::outbox::{Clocks, OpenOutbox};
use task_engine::ports::Protocol;

fn main() {
    support::run("outbox", |cases| {
        for protocol in [Protocol::Stream, Protocol::Batch, Protocol::Group] {
            for recipients in [1, 10, 100, 1_000] {
                let name = |step| format!("{step}/{}/group-of-{recipients}", protocol.label());
                let mut outbox = OpenOutbox::new(recipients, protocol);
                cases.case(name("put"), outbox.round_recipients(), |clock| {
                    let mut clocks = Clocks { put: std::mem::take(clock), ..Clocks::default() };
                    outbox.round(&mut clocks);
                    *clock = clocks.put;
                });
                cases.case(name("ack"), outbox.round_recipients(), |clock| {
                    let mut clocks = Clocks { ack: std::mem::take(clock), ..Clocks::default() };
                    outbox.round(&mut clocks);
                    *clock = clocks.ack;
                });
            }
        }
    });
}
