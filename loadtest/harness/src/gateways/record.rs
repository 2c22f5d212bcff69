//! What a gateway tells of each push it was sent.
//!
//! A [`Recorder`] is called on the gateway's thread for every push and must be quick; [`Log`] keeps all of it for
//! tests, [`Verdict`](crate::verdict::Verdict) keeps bits for load tests.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use task_engine::model::proto::gateway::PushMessage;

/// What the gateway says of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Delivered, and says so.
    Delivered,
    /// Taken while deaf: the answer is held back until the gateway changes its behaviour, or is never given.
    Held,
    /// Not delivered: the user is in the refusing or failing set.
    Refused,
}

/// One push as a gateway saw it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The gateway's id.
    pub gateway: &'a Arc<str>,
    /// Counts the streams (or unary connections' calls) of this gateway from 1.
    pub stream: u64,
    /// Counts the pushes of this gateway from 0, over all its streams.
    pub order: u64,
    /// When, on [`clock::now`](crate::clock::now).
    pub at: u64,
    /// What the gateway says of it.
    pub answer: Answer,
    /// Whom it is for.
    pub recipient: &'a str,
    /// Its session.
    pub session: &'a str,
    /// Its message.
    pub msg_id: i64,
    /// The message's number.
    pub seq_id: i64,
    /// The sender.
    pub from: &'a str,
    /// The message's content.
    pub content: &'a str,
    /// The message's type.
    pub kind: &'a str,
    /// The message's timestamp.
    pub timestamp: i64,
    /// The whole message; the fast gateway leaves it out.
    pub message: Option<&'a PushMessage>,
    /// What the recorder found of the message when it came to another of its recipients; none where it came for one.
    pub checked: Option<&'a Checked>,
}

/// Notes of a recorder on one message that came once for many users: it is the same for all of them, and is checked for the first.
#[derive(Debug, Default)]
pub struct Checked(Cell<Option<(u32, u64)>>);

impl Checked {
    /// The message's number and the instant it was meant to be sent at, once it was found to be as it was published.
    pub fn get(&self) -> Option<(u32, u64)> {
        self.0.get()
    }

    /// It is as it was published.
    pub fn set(&self, number: u32, intended_nanos: u64) {
        self.0.set(Some((number, intended_nanos)));
    }
}

/// One user whom a gateway was to tell by a notice.
#[derive(Clone, Copy, Debug)]
pub struct Noticed<'a> {
    /// The gateway's id.
    pub gateway: &'a Arc<str>,
    /// When, on [`clock::now`](crate::clock::now).
    pub at: u64,
    /// What the gateway says of it.
    pub answer: Answer,
    /// Whom it is for.
    pub recipient: &'a str,
    /// Its session.
    pub session: &'a str,
    /// The session's highest sequence.
    pub max_seq_id: i64,
    /// The message that it was made for.
    pub msg_id: i64,
    /// Notices of other messages of the session that came before it on its stream and are not answered.
    pub unanswered: u32,
}

/// One notice to one user, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNotice {
    /// The gateway's id.
    pub gateway: Arc<str>,
    /// Whom it was for.
    pub recipient: String,
    /// Its session.
    pub session: String,
    /// The session's highest sequence.
    pub max_seq_id: i64,
    /// The message that it was made for.
    pub msg_id: i64,
    /// What the gateway says of it.
    pub answer: Answer,
}

/// Takes what gateways see.
pub trait Recorder: Send + Sync + 'static {
    /// One push arrived. Called in the order of arrival for each gateway.
    fn push(&self, seen: &Seen<'_>);

    /// One user was told by a notice; only gateways that announce them get any. In the order of arrival among pushes.
    fn notice(&self, _told: &Noticed<'_>) {}

    /// A request came to this gateway that is not one: bytes that cannot be read. The fast gateway tells it and goes on.
    fn unreadable(&self, _gateway: &Arc<str>) {}

    /// Whether a user is connected to a gateway (by their names) now; when not, the gateway refuses its pushes. Asked just
    /// before each push is told.
    fn is_connected(&self, _gateway: &str, _user: &str) -> bool {
        true
    }
}

/// One push, kept.
#[derive(Clone, Debug)]
pub struct Record {
    /// The gateway's id.
    pub gateway: Arc<str>,
    /// See [`Seen::stream`].
    pub stream: u64,
    /// See [`Seen::order`].
    pub order: u64,
    /// See [`Seen::at`].
    pub at: u64,
    /// See [`Seen::answer`].
    pub answer: Answer,
    /// Whom it is for.
    pub recipient: String,
    /// Its session.
    pub session: String,
    /// Its message.
    pub msg_id: i64,
    /// The whole message; the fast gateway leaves it out.
    pub message: Option<PushMessage>,
}

/// Keeps every push of the gateways it is given to, in order of arrival: for tests.
#[derive(Debug, Default)]
pub struct Log {
    records: Mutex<Vec<Record>>,
    notices: Mutex<Vec<KeptNotice>>,
    grown: Condvar,
}

impl Log {
    /// An empty log, to be shared by gateways.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// All pushes so far.
    pub fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    /// All users who were told by notices so far.
    pub fn notices(&self) -> Vec<KeptNotice> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The message ids of the delivered (or held) pushes of one session to one user, in order of arrival.
    pub fn delivered(&self, session: &str, recipient: &str) -> Vec<i64> {
        let records = self.lock();
        let mine = records.iter().filter(|record| record.session == session && record.recipient == recipient);
        mine.filter(|record| record.answer != Answer::Refused).map(|record| record.msg_id).collect()
    }

    /// Waits until the pushes so far satisfy `enough`, and gives them; after `deadline` gives what there is as the
    /// error.
    ///
    /// # Errors
    /// When the deadline passes first.
    pub fn wait(&self, deadline: Duration, enough: impl Fn(&[Record]) -> bool) -> Result<Vec<Record>, Vec<Record>> {
        let until = Instant::now() + deadline;
        let mut records = self.lock();
        while !enough(&records) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(records.clone());
            }
            records = self.grown.wait_timeout(records, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(records.clone())
    }

    /// Waits for at least this many pushes.
    ///
    /// # Errors
    /// When the deadline passes first; with what there is.
    pub fn wait_for(&self, pushes: usize, deadline: Duration) -> Result<Vec<Record>, Vec<Record>> {
        self.wait(deadline, |records| records.len() >= pushes)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Log {
    fn push(&self, seen: &Seen<'_>) {
        let record = Record {
            gateway: seen.gateway.clone(),
            stream: seen.stream,
            order: seen.order,
            at: seen.at,
            answer: seen.answer,
            recipient: seen.recipient.to_owned(),
            session: seen.session.to_owned(),
            msg_id: seen.msg_id,
            message: seen.message.cloned(),
        };
        self.lock().push(record);
        self.grown.notify_all();
    }

    fn notice(&self, told: &Noticed<'_>) {
        let kept = KeptNotice {
            gateway: told.gateway.clone(),
            recipient: told.recipient.to_owned(),
            session: told.session.to_owned(),
            max_seq_id: told.max_seq_id,
            msg_id: told.msg_id,
            answer: told.answer,
        };
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        self.grown.notify_all();
    }
}
