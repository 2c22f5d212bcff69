//! A publisher with partitions and classes of events, into JetStream.
//!
//!     cargo run --example publisher -- --session group-1 --from ann --partitions 64 --class urgent --count 10
#![allow(deprecated, reason = "the sync client is one call a line; a service takes async-nats")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use nats::header::HeaderMap;
use prost::Message;
use task_engine::model::ids::Partition;
use task_engine::model::priority::Priority;
use task_engine::model::proto::event::PushEvent;

#[derive(Parser)]
#[command(about = "An example of a publisher: one session's messages, one after the other")]
struct Args {
    /// NATS, host:port.
    #[arg(long, default_value = "127.0.0.1:4222")]
    nats: String,
    /// consumer.topic of the engines.
    #[arg(long, default_value = "resonance.push.event.v1")]
    topic: String,
    /// consumer.partitions of the engines; 0: the topic itself, for `assignment: queue` and for `partitioner: on`.
    #[arg(long, default_value_t = 64)]
    partitions: u32,
    /// The session.
    #[arg(long, default_value = "group-1")]
    session: String,
    /// Who writes.
    #[arg(long, default_value = "ann")]
    from: String,
    /// urgent, normal, bulk or fleeting; nothing: the engine's other rules decide.
    #[arg(long)]
    class: Option<String>,
    /// The header that the engine reads the class from (priority.header).
    #[arg(long, default_value = "Resonance-Priority")]
    header: String,
    /// How many messages.
    #[arg(long, default_value_t = 3)]
    count: i64,
}

/// Where a session's events go.
fn subject(topic: &str, partitions: u32, session: &str) -> String {
    match partitions {
        0 => topic.to_owned(),
        _ => format!("{topic}.{}", Partition::of(session.as_bytes(), partitions).0),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let class = args.class.as_deref();
    if let Some(class) = class.filter(|class| !Priority::ALL.iter().any(|known| known.label() == *class)) {
        return Err(format!("{class} is no class: urgent, normal, bulk or fleeting").into());
    }
    let stream = nats::jetstream::new(nats::connect(&args.nats)?);
    let subject = subject(&args.topic, args.partitions, &args.session);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    for number in 0..args.count {
        // Real publishers have ids from their database; these grow, and differ from run to run.
        let id = now + number;
        let event = PushEvent {
            msg_id: id,
            seq_id: id,
            session_id: args.session.clone(),
            from_username: args.from.clone(),
            content: format!("message {number}"),
            r#type: "text".to_owned(),
            timestamp: id,
            ..PushEvent::default()
        };
        let mut headers = HeaderMap::new();
        // What is sent twice within the stream's duplicate window is stored once.
        headers.insert("Nats-Msg-Id", format!("{}/{id}", args.session));
        if let Some(class) = class {
            headers.insert(&args.header, class.to_owned());
        }
        // The next one goes when this one is stored: so the session keeps its order.
        let message = nats::Message::new(&subject, None, event.encode_to_vec(), Some(headers));
        let stored = stream.publish_message(&message)?;
        println!("{} has message {id} of {} at {}", stored.stream, args.session, stored.sequence);
    }
    Ok(())
}
