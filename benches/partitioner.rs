//! Events per second through the partitioner, beside a bare loop that pulls, publishes, waits for the confirmation and
//! acknowledges: same server, same events, in turns. Then what the partitioner adds to an event's way at 200 events per second.
//! Starts a real nats-server.
//!
//! `cargo bench --bench partitioner` (or with `-- EVENTS`; 300,000 unless told). The bare loop keeps no order and knows no copies.

#![expect(clippy::disallowed_methods, reason = "the bench polls a real server, and publishes at a rate")]
#![allow(deprecated)]

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use harness::servers::{Nats, NatsOptions};
use nats::HeaderMap;
use task_engine::config::{
    Assignment, Config, ConsumerConfig, ConsumerMode, HostPort, NatsConfig, NatsServer, Partitioner,
};
use task_engine::edge::nats::jetstream::setup::{MAX_AGE, SetupPlan, setup};
use task_engine::edge::resolve::Resolver;
use task_engine::engine::adapters::source_of;

use task_engine::model::ids::Partition;
use task_engine::ports::{Disposition, Settled};
use testkit::taking::Taking;

const ROUNDS: usize = 3;
const PARTITIONS: u32 = 64;
const SESSIONS: u64 = 1000;
/// Events of one pull of the bare loop, two of which overlap.
const BATCH: usize = 4096;
/// The rate at which the added time is measured, and for how many events.
const CALM_PAUSE: Duration = Duration::from_millis(5);
const CALM_EVENTS: u64 = 1000;

fn settings(server: &Nats, name: &str) -> Config {
    let at = HostPort::parse(&server.addr(), 4222).expect("host:port");
    let nats = NatsConfig { servers: vec![NatsServer::plain(at)], ..NatsConfig::default() };
    let consumer = ConsumerConfig {
        topic: name.to_owned(),
        mode: ConsumerMode::JetStream,
        assignment: Assignment::Partitioned,
        partitioner: Partitioner::On,
        stream: name.to_uppercase(),
        durable: "engine".to_owned(),
        partitions: PARTITIONS,
        ack_wait: Duration::from_secs(30),
        ..ConsumerConfig::default()
    };
    Config { nats, consumer, ..Config::default() }
}

fn set_up(settings: &Config) {
    let plan = SetupPlan { max_age: MAX_AGE, replicas: 1, dry_run: false, change: false };
    setup(&settings.nats, &settings.consumer, plan, &mut drop).expect("setup");
}

fn session_of(number: u64) -> String {
    format!("group:{:04}", number % SESSIONS)
}

/// An event of 128 bytes of content: fields 1, 3 and 6.
fn event(number: u64) -> Vec<u8> {
    let session = session_of(number);
    let id = number + 1;
    let mut payload = vec![0x08, 0x80 | (id & 0x7f) as u8, 0x80 | (id >> 7 & 0x7f) as u8, (id >> 14 & 0x7f) as u8];
    payload.extend([0x1a, session.len() as u8]);
    payload.extend(session.as_bytes());
    payload.extend([0x32, 0x80, 0x01]);
    payload.extend([b'x'; 128]);
    payload
}

fn fill(client: &nats::Connection, topic: &str, events: u64) {
    (0..events).for_each(|number| client.publish(topic, event(number)).expect("published"));
    client.flush_timeout(Duration::from_secs(60)).expect("flushed");
}

fn wait_acked(client: &nats::Connection, settings: &Config, events: u64) {
    let subject = format!("$JS.API.CONSUMER.INFO.{}.engine-in", settings.consumer.input_stream());
    loop {
        let info = client.request(&subject, "").expect("an answer");
        let info: serde_json::Value = serde_json::from_slice(&info.data).expect("JSON");
        if info["ack_floor"]["stream_seq"] == events {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Pulls with overlap; publishes each event under an id and acknowledges it when the stream has confirmed it.
fn bare(client: &nats::Connection, settings: &Config, events: usize) -> Duration {
    let (inbox, answers) = (client.new_inbox(), client.new_inbox());
    let pulled = client.subscribe(&inbox).expect("subscribed");
    let confirmed = client.subscribe(&format!("{answers}.*")).expect("subscribed");
    let (stream, topic) = (settings.consumer.input_stream(), &settings.consumer.topic);
    let ask = || {
        let body = format!(r#"{{"batch":{BATCH},"expires":30000000000}}"#);
        client.publish_request(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.engine-in"), &inbox, body).expect("asked");
    };
    let started = Instant::now();
    (0..2).for_each(|_| ask());
    let (mut read, mut done, mut acks) = (0, 0, HashMap::new());
    while done < events {
        let mut is_idle = true;
        while let Some(message) = pulled.try_next() {
            let Some(ack) = message.reply.clone() else { continue };
            let partition = Partition::of(session_of(read as u64).as_bytes(), PARTITIONS).0;
            let mut headers = HeaderMap::default();
            headers.insert("Nats-Msg-Id", read.to_string());
            let (subject, reply) = (format!("{topic}.{partition}"), format!("{answers}.{read}"));
            client
                .publish_with_reply_or_headers(&subject, Some(&reply), Some(&headers), &message.data)
                .expect("published");
            acks.insert(read, ack);
            read += 1;
            is_idle = false;
            if read % BATCH == 0 {
                ask();
            }
        }
        while let Some(answer) = confirmed.try_next() {
            let number: usize =
                answer.subject.rsplit('.').next().and_then(|number| number.parse().ok()).expect("a number");
            let ack: serde_json::Value = serde_json::from_slice(&answer.data).expect("JSON");
            assert!(ack["seq"].is_u64(), "{ack}");
            client.publish(&acks.remove(&number).expect("published"), "+ACK").expect("acked");
            done += 1;
            is_idle = false;
        }
        if is_idle {
            thread::sleep(Duration::from_micros(50));
        }
    }
    client.flush().expect("flushed");
    wait_acked(client, settings, events as u64);
    started.elapsed()
}

/// The partitioner alone: nothing is read of the partitions.
fn ours(client: &nats::Connection, settings: &Config, events: usize) -> Duration {
    let started = Instant::now();
    let resolver = Resolver::start().expect("threads");
    let source = source_of(settings, &resolver).expect("no TLS");
    let taking = Taking::of(source, false, PARTITIONS, 1);
    wait_acked(client, settings, events as u64);
    let took = started.elapsed();
    taking.stop();
    took
}

/// How long events take to their lane when they are published on the topic itself, or on their partition; sorted.
fn calm(client: &nats::Connection, settings: &Config, is_plain: bool) -> Vec<Duration> {
    let taking = Taking::start(settings, PARTITIONS, 1);
    taking.until_ready();
    thread::sleep(Duration::from_millis(500));
    let mut times = Vec::new();
    for number in 0..CALM_EVENTS {
        let topic = &settings.consumer.topic;
        let partition = Partition::of(session_of(number).as_bytes(), PARTITIONS).0;
        let subject = if is_plain { topic.clone() } else { format!("{topic}.{partition}") };
        let began = Instant::now();
        client.publish(&subject, event(number)).expect("published");
        client.flush().expect("flushed");
        let (_, tag) = loop {
            match taking.lanes[0].try_take() {
                Some(event) => break event,
                None => thread::yield_now(),
            }
        };
        times.push(began.elapsed());
        taking.source.settle(&[Settled { tag, how: Disposition::Ack }]);
        thread::sleep(CALM_PAUSE.saturating_sub(began.elapsed()));
    }
    taking.stop();
    times.sort();
    times
}

fn main() {
    let events = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(300_000);
    let server = Nats::start(&NatsOptions { jetstream: true, ..NatsOptions::default() }).expect("nats-server starts");
    let client = nats::connect(server.url()).expect("a client");
    let mut best = [f64::INFINITY; 2];
    for round in 0..ROUNDS {
        for (at, name) in ["bare", "ours"].into_iter().enumerate() {
            let settings = settings(&server, &format!("{name}{round}"));
            set_up(&settings);
            fill(&client, &settings.consumer.topic, events as u64);
            let took = match at {
                0 => bare(&client, &settings, events),
                _ => ours(&client, &settings, events),
            };
            best[at] = best[at].min(took.as_secs_f64());
            println!("{name:5} {:>9.0} events/s", events as f64 / took.as_secs_f64());
        }
    }
    let [bare, ours] = best.map(|seconds| events as f64 / seconds);
    println!("best: bare loop {bare:.0} events/s, partitioner {ours:.0} events/s, ratio {:.2}", ours / bare);
    let settings = settings(&server, "calm");
    set_up(&settings);
    let [direct, moved] = [false, true].map(|is_plain| calm(&client, &settings, is_plain));
    for (name, times) in [("to the partition", &direct), ("to the topic", &moved)] {
        println!(
            "published {name:16} at 200/s: p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
}
