//! A thread that changes the world while events are published, until it is stopped.
//!
//! Promises that it ends with its owner, so that it never outlives the servers.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// See the module.
pub struct Background {
    name: &'static str,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Background {
    /// Starts the work; it is to end when the channel's other end is gone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(name: &'static str, work: impl FnOnce(&Receiver<()>) -> Result<()> + Send + 'static) -> Result<Self> {
        let (stop, stopping) = channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&stopping));
        let thread = thread.map_err(|cause| Error::of(&format!("cannot start the thread {name}"), cause))?;
        Ok(Self { name, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends it.
    ///
    /// # Errors
    /// What kept it from its work.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(Error::new(format!("the thread {} panicked", self.name))),
            None => Ok(()),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Whoever drops it has no use for its failure.
        let _ = self.end();
    }
}
