//! The NATS protocol, per event: `msg` reads events of 230 bytes from a buffer of 64 KiB, `msg-shared` also takes each payload as
//! `Bytes` of the buffer, `jetstream` reads them with the reply that acknowledges them, `hmsg` with two headers, `hmsg-get` looks one
//! of them up; `publish` writes such an event, `ack` an acknowledgement.
//!
//! Not in it: the socket and its reads, and what is done with an event.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use support::Clock;
use task_engine::edge::nats::protocol::{Decoder, Frame, Headers, Message, Step, publish};

const PAYLOAD_BYTES: usize = 230;
const BUFFER_BYTES: usize = 64 * 1024;
const SUBJECT: &[u8] = b"resonance.events.17";
const ACK: &[u8] = b"$JS.ACK.RESONANCE.task-service-17.1.123456789.123456.1700000000000000000.4096";
const HEADERS: &[u8] = b"NATS/1.0\r\nNats-Msg-Id: 7500000000000000000\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";

fn main() {
    support::run("nats (per event)", |cases| {
        let plain = line(b"MSG", b"", b"");
        read(cases, "msg", &plain, |_, message| message.payload.len());
        read(cases, "msg-shared", &plain, |buffer, message| buffer.slice_ref(message.payload).len());
        read(cases, "jetstream", &line(b"MSG", ACK, b""), |_, message| message.reply.map_or(0, <[u8]>::len));
        let headers = line(b"HMSG", b"", HEADERS);
        read(cases, "hmsg", &headers, |_, message| message.payload.len());
        read(cases, "hmsg-get", &headers, |_, message| {
            Headers::of(message.headers.unwrap_or_default()).get("traceparent").map_or(0, <[u8]>::len)
        });
        write(cases, "publish", SUBJECT, &[b'x'; PAYLOAD_BYTES]);
        write(cases, "ack", ACK, b"+ACK");
    });
}

/// An event as a server sends it.
fn line(operation: &[u8], reply: &[u8], headers: &[u8]) -> Vec<u8> {
    let mut words = vec![operation.to_vec(), SUBJECT.to_vec(), b"17".to_vec()];
    words.extend((!reply.is_empty()).then(|| reply.to_vec()));
    words.extend((!headers.is_empty()).then(|| headers.len().to_string().into_bytes()));
    words.push((headers.len() + PAYLOAD_BYTES).to_string().into_bytes());
    [&words.join(&b' ')[..], b"\r\n", headers, &[b'x'; PAYLOAD_BYTES], b"\r\n"].concat()
}

fn read(cases: &mut support::Cases, name: &str, event: &[u8], look: impl Fn(&Bytes, Message<'_>) -> usize) {
    let events = BUFFER_BYTES / event.len();
    let buffer = Bytes::from(event.repeat(events));
    let mut decoder = Decoder::default();
    cases.case(name, events as u64, |clock: &mut Clock| {
        let seen = clock.time(|| {
            let (mut at, mut seen) = (0, 0);
            while let Ok(Step::Frame(frame, used)) = decoder.next(&black_box(&buffer)[at..]) {
                let Frame::Message(message) = frame else { break };
                black_box(look(&buffer, message));
                at += used;
                seen += 1;
            }
            seen
        });
        assert_eq!(seen, events);
    });
}

fn write(cases: &mut support::Cases, name: &str, subject: &[u8], payload: &[u8]) {
    const LINES: usize = 256;
    let mut out = Vec::with_capacity(BUFFER_BYTES * 2);
    cases.case(name, LINES as u64, |clock: &mut Clock| {
        out.clear();
        clock.time(|| {
            (0..LINES)
                .for_each(|_| publish(&mut out, black_box(subject), None, black_box(payload)).expect("a subject"));
        });
        assert!(out.len() > LINES * payload.len());
    });
}
