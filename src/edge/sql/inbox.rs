//! How a batch of rows is stored although some of them cannot be: what both databases have in common.
//!
//! Promises that neither a refused row, nor a locked one, nor one that is slow keeps the others from being stored ([`walk`]), and
//! that a row which failed by itself is asked apart from the others for a while ([`suspects`]).

pub mod row;
pub mod suspects;
mod walk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::row::Row;
use self::suspects::Suspects;
use self::walk::Walk;
use super::fault::{Fault, Place};
use crate::model::names::NameList;
use crate::ports::{ContentReader, Inbox, InboxRows, InboxWriter, LookupError};

/// The longest that a lock is waited for: whoever reads inboxes holds theirs for milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// The longest that a statement may take while the one is looked for that makes a set slow.
const CAREFUL_LIMIT: Duration = Duration::from_millis(500);
/// How long the search may take at least: a few times what one slow row costs, once for each time a set is cut in two.
const SEARCH_MIN: Duration = Duration::from_secs(20);

/// What opens the writers and readers of an inbox: the section of a database.
pub trait InboxServer: Clone + fmt::Debug + Send + Sync + 'static {
    /// A writer for one thread.
    fn writer(&self, suspects: Arc<Suspects>) -> Box<dyn InboxWriter>;
    /// A reader of contents for one thread.
    fn contents(&self) -> Box<dyn ContentReader>;
}

/// Where messages for users who could not be reached are remembered, in a database.
#[derive(Clone)]
pub struct SqlInbox<S> {
    server: S,
    /// Shared by all writers: what one found out the others need not.
    suspects: Arc<Suspects>,
}

impl<S> SqlInbox<S> {
    /// The inbox on this server; connects when first used.
    pub fn new(server: impl Into<S>) -> Self {
        Self { server: server.into(), suspects: Arc::default() }
    }
}

impl<S: fmt::Debug> fmt::Debug for SqlInbox<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqlInbox").field(&self.server).finish()
    }
}

impl<S: InboxServer> Inbox for SqlInbox<S> {
    fn open(&self) -> Box<dyn InboxWriter> {
        self.server.writer(self.suspects.clone())
    }

    fn open_contents(&self) -> Option<Box<dyn ContentReader>> {
        Some(self.server.contents())
    }
}

/// What stores sets of rows: each in one transaction.
pub trait RowStore: Send {
    /// Where an operator finds whose a lock is.
    const LOCKS_IN: &str;

    /// One transaction; `is_careful`: it gives up at once. Gives the rows that are not there byte for byte afterwards. Says whether
    /// it got as far as the server.
    ///
    /// # Errors
    /// Why nothing was committed.
    fn transaction<'a>(
        &mut self,
        rows: &[Row<'a>],
        is_careful: bool,
        was_connected: &mut bool,
    ) -> Result<Vec<Row<'a>>, Fault>;
    /// Whether rows could be written now.
    ///
    /// # Errors
    /// Why not.
    fn probe(&mut self) -> Result<(), LookupError>;
    /// A batch is over.
    fn is_over(&mut self) {}
    /// Which server it is.
    fn place(&self) -> &Place;
    /// A fault in words.
    fn explain(&self, fault: Fault) -> LookupError;
    /// A fault in words; `row` is the user and session it concerns, if that is known.
    fn in_words(&self, fault: Fault, row: Option<(&str, &InboxRows)>) -> LookupError {
        let is_lock = fault.is_lock_conflict();
        let said = self.explain(fault);
        if is_lock { lock_words(self.place(), &said, row, Self::LOCKS_IN) } else { said }
    }
    /// Rows that failed by themselves.
    fn suspects(&self) -> &Suspects;
    /// How long the search for what is in the way may take.
    fn search_limit(&self) -> Duration;
}

/// Stores batches in it.
pub struct Batches<S>(pub S);

impl<S: RowStore> InboxWriter for Batches<S> {
    fn store(&mut self, batch: &[InboxRows]) -> Vec<Result<NameList, LookupError>> {
        let Self(store) = self;
        // By itself, so that it cannot be the reason that others fail.
        let probe = if batch.iter().any(|ask| ask.users.is_empty()) { store.probe() } else { Ok(()) };
        let mut answers = Walk::store(store, batch);
        for (answer, _) in answers.iter_mut().zip(batch).filter(|(_, ask)| ask.users.is_empty()) {
            *answer = probe.clone().map(|()| NameList::new());
        }
        store.is_over();
        answers
    }

    fn ping(&mut self) -> Result<(), LookupError> {
        self.0.probe()
    }
}

/// The words for a lock that is in the way; `said` is what the server says, `see` where an operator finds whose it is.
fn lock_words(place: &Place, said: &LookupError, row: Option<(&str, &InboxRows)>, see: &str) -> LookupError {
    let row = row.map(|(user, rows)| format!(" the row of user {user:?} in session {:?}", rows.session));
    let what = row.map_or_else(|| " rows".to_owned(), |row| format!("{row} or its neighbours"));
    LookupError::Rejected(format!(
        "{place}: a lock that another transaction holds on t_inbox or on{what} is in the way; it is asked again; see {see} for \
         the transaction ({said})"
    ))
}

/// How long things may take, out of the read timeout: below it, so that the server ends what takes too long, not we.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// What a lock is waited for: a quarter of the read timeout, at most [`LOCK_WAIT_MAX`].
    pub lock: Duration,
    /// What a statement may take.
    pub statement: Duration,
    /// What a statement may take while the one is looked for that holds up a set.
    pub careful_statement: Duration,
    /// How long the search may take.
    pub search: Duration,
}

impl Times {
    /// Of this read timeout.
    pub fn of(read_timeout: Duration) -> Self {
        let statement = read_timeout.mul_f64(0.75);
        Self {
            lock: (read_timeout / 4).min(LOCK_WAIT_MAX),
            statement,
            careful_statement: statement.min(CAREFUL_LIMIT),
            search: read_timeout.max(SEARCH_MIN),
        }
    }
}
