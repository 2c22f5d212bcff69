//! The engine inside this process, on stores in memory: needs no server, and its allocations can be counted.

use harness::error::{Error, Result};
use harness::world::MemoryStores as Stores;
use task_engine::config::Config;
use task_engine::edge::memory::{MemoryDeadLetters, MemoryInbox, MemorySource, Publisher};
use task_engine::model::priority::PriorityRules;

use super::Stopped;
use crate::cost;

/// A running embedded engine.
pub struct Embedded {
    engine: task_engine::Engine,
}

impl Embedded {
    /// Starts it on these stores; gives what feeds it.
    ///
    /// # Errors
    /// What the engine says.
    pub fn start(cores: u16, rules: PriorityRules, stores: Stores, inbox: MemoryInbox) -> Result<(Self, Publisher)> {
        cost::count_allocations();
        let mut config = Config { priority: rules, ..Config::default() };
        config.engine.cores = cores;
        config.admin.listen = ([127, 0, 0, 1], 0).into();
        let (source, publisher) = MemorySource::new();
        let builder = task_engine::Engine::builder(config).members(stores.members).routes(stores.routes);
        let builder = builder.inbox(inbox).dead_letters(MemoryDeadLetters::new());
        let engine = builder.registry(stores.registry).source(source).start();
        let engine = engine.map_err(|error| Error::of("the engine did not start", error))?;
        Ok((Self { engine }, publisher))
    }

    /// Where its pages are.
    pub fn admin_port(&self) -> u16 {
        self.engine.admin_address().port()
    }

    /// Stops it.
    pub fn stop(self) -> Stopped {
        let report = self.engine.stop();
        Stopped { last_words: report.to_string(), is_clean: report.is_clean(), code: None }
    }
}
