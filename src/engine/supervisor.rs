//! How the shards' threads begin and end.
//!
//! Promises that a shard whose executor cannot be made is an error of the start, and that one which ends before it was
//! told to, or with an error, is told to whoever waits for it, in words: glommio keeps the reason in a handle that nobody
//! would look at, and an engine without its shards looks idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Instant;

use glommio::ExecutorJoinHandle;

use crate::model::ids::ShardId;
use crate::model::ids::shard_name;
use crate::model::limits::SHARDS_START_DEADLINE;

/// Which shard, and whether as it should.
type Ended = (ShardId, bool);

/// Called once, when a shard is gone that should be there.
pub(super) type OnFailure = Box<dyn FnOnce(String) + Send>;

/// A shard's end, which is told when this is dropped: also when its executor was never made, or panicked.
pub(super) struct Ending {
    shard: ShardId,
    is_clean: bool,
    started: Option<Sender<()>>,
    ended: Sender<Ended>,
}

impl Ending {
    /// Its executor runs.
    pub(super) fn begins(&mut self) {
        if let Some(started) = self.started.take() {
            // Nobody listens when the start was given up.
            let _ = started.send(());
        }
    }

    /// It has ended as it should.
    pub(super) fn ends(&mut self) {
        self.is_clean = true;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.ended.send((self.shard, self.is_clean));
    }
}

/// The shards' handles, in shard order, and what they tell.
pub(super) struct Handles {
    handles: Vec<Option<ExecutorJoinHandle<()>>>,
    started: Receiver<()>,
    ended: Receiver<Ended>,
    /// What each shard's own is a clone of; none once all are there.
    tell: Option<(Sender<()>, Sender<Ended>)>,
}

impl Handles {
    pub(super) fn new() -> Self {
        let (start, started) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        Self { handles: Vec::new(), started, ended, tell: Some((start, end)) }
    }

    /// For the next shard's thread.
    pub(super) fn ending(&self, shard: ShardId) -> Ending {
        let (started, ended) = self.tell.clone().expect("asked for before it is waited for all");
        Ending { shard, is_clean: false, started: Some(started), ended }
    }

    pub(super) fn push(&mut self, handle: ExecutorJoinHandle<()>) {
        self.handles.push(Some(handle));
    }

    /// Waits until all that were pushed run.
    ///
    /// # Errors
    /// Which one does not, and why.
    pub(super) fn all_run(&mut self) -> Result<(), String> {
        self.tell = None;
        let deadline = Instant::now() + SHARDS_START_DEADLINE;
        for _ in 0..self.handles.len() {
            match self.started.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Err(format!("did not run within {SHARDS_START_DEADLINE:?}")),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = self.ended.recv().ok();
                    return Err(ended.map_or_else(String::new, |(shard, _)| self.words(shard)));
                }
            }
        }
        Ok(())
    }

    /// What a shard's thread that was not told to end ended with.
    fn words(&mut self, shard: ShardId) -> String {
        let name = shard_name(shard);
        match self.handles[usize::from(shard.0)].take().map(ExecutorJoinHandle::join) {
            Some(Err(error)) => format!("{name}: its executor ended: {error}"),
            _ => format!("{name} ended before it was told to"),
        }
    }

    /// Watches over their ends, on a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn watch(mut self, on_failure: Option<OnFailure>) -> std::io::Result<Ends> {
        let failed = Arc::new(AtomicUsize::new(0));
        let (over, all_ended) = mpsc::channel::<()>();
        let (count, mut on_failure) = (failed.clone(), on_failure);
        thread::Builder::new().name("shard-ends".to_owned()).spawn(move || {
            let _over = over;
            while let Ok((shard, is_clean)) = self.ended.recv() {
                if is_clean {
                    continue;
                }
                count.fetch_add(1, Ordering::AcqRel);
                let why = self.words(shard);
                tracing::error!(shard = shard.0, "{why}");
                if let Some(tell) = on_failure.take() {
                    tell(why);
                }
            }
        })?;
        Ok(Ends { all_ended, failed })
    }
}

/// The ends of shards that run.
pub(super) struct Ends {
    /// Disconnected when all have ended.
    all_ended: Receiver<()>,
    failed: Arc<AtomicUsize>,
}

impl Ends {
    /// Waits until all shards have ended; false when the deadline came first.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        self.all_ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }

    /// How many shards ended that were not told to.
    pub(super) fn failed(&self) -> usize {
        self.failed.load(Ordering::Acquire)
    }
}
