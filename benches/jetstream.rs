//! Events per second through the JetStream puller and acker with no engine behind, beside a bare pull-and-ack loop of the
//! same client on the same server: the ratio is what our bookkeeping costs. Starts a real nats-server.
//!
//! `cargo bench --bench jetstream` (or with `-- EVENTS`; 300,000 unless told).

#![expect(clippy::disallowed_methods, reason = "the bench polls a real server")]
#![allow(deprecated)]

use std::thread;
use std::time::{Duration, Instant};

use harness::servers::{Nats, NatsOptions};
use task_engine::config::{Config, ConsumerConfig, ConsumerMode, HostPort, NatsConfig, NatsServer};
use task_engine::edge::nats::jetstream::setup::{MAX_AGE, SetupPlan, setup};
use task_engine::ports::{Disposition, Settled};
use testkit::taking::Taking;

const ROUNDS: usize = 3;
/// Events of one pull of the bare loop, two of which overlap.
const BATCH: usize = 4096;

fn settings(server: &Nats, durable: String) -> Config {
    let at = HostPort::parse(&server.addr(), 4222).expect("host:port");
    let nats = NatsConfig { servers: vec![NatsServer::plain(at)], ..NatsConfig::default() };
    let consumer = ConsumerConfig {
        topic: "events".to_owned(),
        mode: ConsumerMode::JetStream,
        stream: "STREAM".to_owned(),
        durable,
        partitions: 1,
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 65_536,
        ..ConsumerConfig::default()
    };
    Config { nats, consumer, ..Config::default() }
}

fn set_up(settings: &Config) {
    let plan = SetupPlan { max_age: MAX_AGE, replicas: 1, dry_run: false, change: false };
    setup(&settings.nats, &settings.consumer, plan, &mut drop).expect("setup");
}

/// An event of 128 bytes of content: fields 1, 3 and 6.
fn event(number: u64) -> Vec<u8> {
    let session = format!("group:{:04}", number % 1000);
    let mut payload = vec![0x08, 0x80 | (number & 0x7f) as u8, (number >> 7 & 0x7f) as u8, 0x1a, session.len() as u8];
    payload.extend(session.as_bytes());
    payload.extend([0x32, 0x80, 0x01]);
    payload.extend([b'x'; 128]);
    payload
}

fn wait_acked(client: &nats::Connection, durable: &str, events: u64) {
    loop {
        let info = client.request(&format!("$JS.API.CONSUMER.INFO.STREAM.{durable}"), "").expect("an answer");
        let info: serde_json::Value = serde_json::from_slice(&info.data).expect("JSON");
        if info["ack_floor"]["stream_seq"] == events {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Pulls with overlap and one publish of the client an ack.
fn bare(client: &nats::Connection, durable: &str, events: usize) -> Duration {
    let inbox = client.new_inbox();
    let subscription = client.subscribe(&inbox).expect("subscribed");
    let ask = || {
        let body = format!(r#"{{"batch":{BATCH},"expires":30000000000}}"#);
        client.publish_request(&format!("$JS.API.CONSUMER.MSG.NEXT.STREAM.{durable}"), &inbox, body).expect("asked");
    };
    let started = Instant::now();
    (0..2).for_each(|_| ask());
    for at in 1..=events {
        let message = subscription.next().expect("a message");
        client.publish(message.reply.as_deref().expect("an ack subject"), "+ACK").expect("acked");
        if at % BATCH == 0 {
            ask();
        }
    }
    client.flush().expect("flushed");
    wait_acked(client, durable, events as u64);
    started.elapsed()
}

/// The source, its one lane emptied and settled as a shard does: what is there, in turns.
fn ours(client: &nats::Connection, settings: &Config, events: usize) -> Duration {
    let durable = &settings.consumer.durable;
    let started = Instant::now();
    let taking = Taking::start(settings, 1, 1);
    let (mut done, mut settled) = (0, Vec::new());
    while done < events {
        while settled.len() < 512
            && let Some((_, tag)) = taking.lanes[0].try_take()
        {
            settled.push(Settled { tag, how: Disposition::Ack });
        }
        if settled.is_empty() {
            thread::sleep(Duration::from_micros(100));
        }
        taking.source.settle(&settled);
        done += settled.len();
        settled.clear();
    }
    wait_acked(client, durable, events as u64);
    let took = started.elapsed();
    taking.stop();
    took
}

fn main() {
    let events = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(300_000);
    let server = Nats::start(&NatsOptions { jetstream: true, ..NatsOptions::default() }).expect("nats-server starts");
    set_up(&settings(&server, "first".to_owned()));
    let client = nats::connect(server.url()).expect("a client");
    for number in 0..events as u64 {
        client.publish("events", event(number)).expect("published");
    }
    client.request("events.none", "").expect_err("nobody listens");
    let mut best = [f64::INFINITY; 2];
    for round in 0..ROUNDS {
        for (at, name) in ["bare", "ours"].into_iter().enumerate() {
            let settings = settings(&server, format!("{name}-{round}"));
            set_up(&settings);
            let took = match at {
                0 => bare(&client, &format!("{name}-{round}"), events),
                _ => ours(&client, &settings, events),
            };
            best[at] = best[at].min(took.as_secs_f64());
            println!("{name:5} {:>9.0} events/s", events as f64 / took.as_secs_f64());
        }
    }
    let [bare, ours] = best.map(|seconds| events as f64 / seconds);
    println!("best: bare loop {bare:.0} events/s, puller and acker {ours:.0} events/s, ratio {:.2}", ours / bare);
}
