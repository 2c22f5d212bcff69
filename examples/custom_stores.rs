//! An engine with stores of its own: a source and members written here, the rest kept in memory.
//!
//! Run it with `cargo run --example custom_stores`; it pushes one event to nobody (there is no gateway) and stops.

use std::sync::mpsc;

use task_engine::Engine;
use task_engine::config::Config;
use task_engine::edge::memory::{MemoryDeadLetters, MemoryInbox, MemoryRegistry, MemoryRoutes};
use task_engine::model::ids::SessionId;
use task_engine::model::names::NameList;
use task_engine::model::proto::event::PushEvent;
use task_engine::ports::{
    DeliveryTag, Health, Intake, LookupError, MemberReader, Members, RunningSource, Settled, Source,
};

/// Each session `a+b+c` has the members its id names.
struct MembersInTheId;

impl Members for MembersInTheId {
    fn open(&self) -> Box<dyn MemberReader> {
        Box::new(Self)
    }
}

impl MemberReader for MembersInTheId {
    fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError> {
        Ok(sessions.iter().map(|session| session.split('+').collect()).collect())
    }
}

/// Hands in one event, and says when it is settled.
struct OneEvent(mpsc::Sender<DeliveryTag>);

impl Source for OneEvent {
    fn start(self: Box<Self>, intake: Intake) -> std::io::Result<Box<dyn RunningSource>> {
        let event =
            PushEvent { msg_id: 1, session_id: "ann+bob".into(), from_username: "ann".into(), ..PushEvent::default() };
        intake.report(0, Health::Ready);
        intake.offer(prost::Message::encode_to_vec(&event).into(), DeliveryTag { reader: 0, number: 1 });
        Ok(self)
    }
}

impl RunningSource for OneEvent {
    fn settle(&self, settled: &[Settled]) {
        settled.iter().for_each(|settled| self.0.send(settled.tag).unwrap_or_default());
    }
    fn stop(&self) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (settled, all_settled) = mpsc::channel();
    let mut config = Config::default();
    (config.engine.cores, config.admin.listen) = (1, ([127, 0, 0, 1], 0).into());
    let engine = Engine::builder(config).members(MembersInTheId).source(OneEvent(settled));
    let engine = engine.inbox(MemoryInbox::new()).dead_letters(MemoryDeadLetters::new());
    let engine = engine.routes(MemoryRoutes::new()).registry(MemoryRegistry::new()).start()?;
    println!("settled: {:?}", all_settled.recv()?);
    println!("{}", engine.stop());
    Ok(())
}
