//! Encoding, per recipient: what waits in one gateway's outbox is written as gRPC frames, for bundles of so many
//! recipients; the memory of the chunks is in it.
//!
//! Not in it: taking the bundles in (`outbox`), HTTP/2, the socket, and the protocol `unary`.

mod support;

use support::outbox::{Clocks, OpenOutbox};
use task_engine::ports::Protocol;

fn main() {
    support::run("encode", |cases| {
        for protocol in [Protocol::Stream, Protocol::Batch] {
            for recipients in [1, 10, 100, 1_000] {
                let mut outbox = OpenOutbox::new(recipients, protocol);
                let name = format!("{}/group-of-{recipients}", protocol.label());
                cases.case(name, outbox.round_recipients(), |clock| {
                    let mut clocks = Clocks { write: std::mem::take(clock), ..Clocks::default() };
                    outbox.round(&mut clocks);
                    *clock = clocks.write;
                });
            }
        }
    });
}
