//! An event whose headers are none (a line without a colon, bytes that are no UTF-8) is read and settled like any other,
//! and so are those around it, in their order.
#![allow(deprecated)]

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::jetstream_support::{
    NatsVersion, Taking, client, consumer, event, numbers, on_both_servers, publish, ready, started, until,
};
use harness::servers::Nats;
use task_engine::config::Assignment;
use task_engine::ports::Disposition;

on_both_servers! {
    they_are_taken_from_a_queue
    they_are_taken_from_a_partition_in_order
}

/// As no client would let us.
fn publish_with(server: &Nats, subject: &str, headers: &[u8], payload: &[u8]) {
    let mut socket = TcpStream::connect(server.addr()).expect("a connection");
    let block = [b"NATS/1.0\r\n", headers, b"\r\n\r\n"].concat();
    let lines = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB {subject} {} {}\r\n",
        block.len(),
        block.len() + payload.len()
    );
    let all = [lines.as_bytes(), &block, payload, b"\r\nPING\r\n"].concat();
    socket.write_all(&all).expect("written");
    let (mut said, mut chunk) = (Vec::new(), [0; 4096]);
    while !said.windows(6).any(|end| end == b"PONG\r\n") {
        let length = socket.read(&mut chunk).expect("an answer");
        assert!(length > 0, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&chunk[..length]);
    }
}

fn publish_all(server: &Nats, subject: &str) {
    let client = client(server);
    publish(&client, subject, "s", 0..5);
    publish_with(server, subject, b"no colon here", &event("s", 5));
    publish(&client, subject, "s", 6..10);
    publish_with(server, subject, b"name: \xff\xfe", &event("s", 10));
    publish(&client, subject, "s", 11..15);
}

/// Everything that comes until all is acknowledged, each number where it came first.
fn firsts(server: &Nats, taking: &Taking, name: &str) -> Vec<u64> {
    let client = client(server);
    let mut firsts = Vec::new();
    until("all is acknowledged", || {
        let events = taking.take();
        taking.settle(&events, Disposition::Ack);
        for number in numbers(&events) {
            if !firsts.contains(&number) {
                firsts.push(number);
            }
        }
        let info = consumer(&client, name);
        firsts.len() == 15 && info["num_ack_pending"] == 0 && info["num_pending"] == 0
    });
    firsts
}

fn they_are_taken_from_a_queue(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Queue);
    publish_all(&server, "events");
    let taking = started(&settings, 1);
    let mut all = firsts(&server, &taking, "engine");
    all.sort_unstable();
    assert_eq!(all, (0..15).collect::<Vec<_>>());
    taking.stop();
}

fn they_are_taken_from_a_partition_in_order(version: NatsVersion) {
    let (server, settings) = ready(version, Assignment::Partitioned);
    publish_all(&server, "events.1");
    let taking = started(&settings, 1);
    assert_eq!(firsts(&server, &taking, "engine-1"), (0..15).collect::<Vec<_>>());
    taking.stop();
}
