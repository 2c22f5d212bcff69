//! Promise: a shard that ends before it was told to is told, in words, to whoever runs the engine; the stop after that does
//! not wait for it, and its report is not clean.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::servers::free_port;
use task_engine::Engine;
use task_engine::config::Config;
use task_engine::edge::memory::{MemoryDeadLetters, MemoryInbox, MemoryMembers, MemoryRegistry};
use task_engine::ports::{Health, Intake, LocalFuture, RouteQueue, Routes, RunningSource, Settled, Source};

const PATIENCE: Duration = Duration::from_secs(30);

/// Routes that end the shard they run on.
struct Broken;

impl Routes for Broken {
    fn serve(&self, _: RouteQueue) -> LocalFuture<()> {
        Box::pin(async { panic!("this shard is to end") })
    }
}

struct Nothing;

impl Source for Nothing {
    fn start(self: Box<Self>, intake: Intake) -> std::io::Result<Box<dyn RunningSource>> {
        intake.report(0, Health::Ready);
        Ok(Box::new(Nothing))
    }
}

impl RunningSource for Nothing {
    fn settle(&self, _: &[Settled]) {}
    fn stop(&self) {}
}

#[test]
fn engine_tells_when_a_shard_is_gone() {
    let mut config = Config::default();
    config.engine.cores = 2;
    config.engine.drain_timeout = PATIENCE;
    config.admin.listen = SocketAddr::from(([127, 0, 0, 1], free_port().expect("a free port")));
    let (failed, told) = mpsc::channel();
    let engine = Engine::builder(config)
        .members(MemoryMembers::new())
        .routes(Broken)
        .registry(MemoryRegistry::new())
        .inbox(MemoryInbox::new())
        .dead_letters(MemoryDeadLetters::new())
        .source(Nothing)
        .on_failure(move |why| failed.send(why).expect("the test waits"))
        .start()
        .expect("the engine starts");
    let why = told.recv_timeout(PATIENCE).expect("it is told");
    assert!(why.starts_with("shard-") && why.contains("its executor ended"), "{why}");
    let began = Instant::now();
    let report = engine.stop();
    assert!(report.shards_failed > 0 && !report.is_clean(), "{report:?}");
    assert!(began.elapsed() < PATIENCE / 2, "the stop waits for no drain: {:?}", began.elapsed());
}
