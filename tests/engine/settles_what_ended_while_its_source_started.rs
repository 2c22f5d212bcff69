//! Promise: an event that ends before its source's `start` has returned is settled all the same.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::pages;
use harness::servers::free_port;
use prost::Message as _;
use task_engine::Engine;
use task_engine::config::Config;
use task_engine::edge::memory::{MemoryDeadLetters, MemoryInbox, MemoryMembers, MemoryRegistry, MemoryRoutes};
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::{DeliveryTag, Health, Intake, RunningSource, Settled, Source};

const PATIENCE: Duration = Duration::from_secs(30);

/// Hands in one event and starts only when the engine has ended it.
struct SlowStart {
    admin: SocketAddr,
    settled: mpsc::Sender<DeliveryTag>,
}

impl Source for SlowStart {
    fn start(self: Box<Self>, intake: Intake) -> std::io::Result<Box<dyn RunningSource>> {
        intake.report(0, Health::Ready);
        let event =
            PushEvent { msg_id: 1, session_id: "s".into(), from_username: "ann".into(), ..PushEvent::default() };
        intake.offer(event.encode_to_vec().into(), DeliveryTag { reader: 3, number: 7 });
        let deadline = Instant::now() + PATIENCE;
        while !metrics(self.admin).contains("task_engine_events_ended_total{end=\"settled\",shard=\"0\"} 1\n") {
            assert!(Instant::now() < deadline, "the event never ended:\n{}", metrics(self.admin));
        }
        Ok(Box::new(Started(self.settled)))
    }
}

struct Started(mpsc::Sender<DeliveryTag>);

impl RunningSource for Started {
    fn settle(&self, settled: &[Settled]) {
        settled.iter().for_each(|settled| self.0.send(settled.tag).expect("the test waits"));
    }
    fn stop(&self) {}
}

fn metrics(admin: SocketAddr) -> String {
    pages::request(admin, "GET", "/metrics", "", PATIENCE).expect("an answer").body
}

#[test]
fn engine_settles_what_ended_while_its_source_started() {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port().expect("a free port")));
    let mut config = Config::default();
    (config.engine.cores, config.admin.listen) = (1, admin);
    let (settled, all_settled) = mpsc::channel();
    let members = MemoryMembers::new();
    members.set("s", ["ann"]);
    let engine = Engine::builder(config)
        .members(members)
        .routes(MemoryRoutes::new())
        .registry(MemoryRegistry::new())
        .inbox(MemoryInbox::new())
        .dead_letters(MemoryDeadLetters::new())
        .source(SlowStart { admin, settled })
        .start()
        .expect("the engine starts");
    assert_eq!(all_settled.recv_timeout(PATIENCE), Ok(DeliveryTag { reader: 3, number: 7 }));
    let page = metrics(admin);
    for name in ["inbox_rows_total", "dead_letters_total{reason=\"undecodable\"}", "inbox_asks_queued"] {
        assert!(page.contains(&format!("task_engine_{name}")), "{name}: {page}");
    }
    assert!(engine.stop().is_clean());
}
