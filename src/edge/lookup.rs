//! The member lookup threads: they take member asks from the shards and put the answers into the shards' mailboxes.
//!
//! Promises that asking never blocks, that each ask taken gets one answer (or is counted as dropped), and that an
//! outage of the store and its end are noticed without traffic. Refuses to retry a failed lookup: when to ask again is
//! the core's decision. A panic in a reader ends the process (panic = abort) with the thread's name in the message.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::ids::SessionId;
use crate::limits::{HEARTBEAT_STALE_AFTER, MEMBER_QUERIES_IN_FLIGHT};
use crate::names::NameList;
use crate::ports::{Health, LookupError, MemberReader, Members};
use crate::push::facts::{AskNo, Input};
use crate::quiet::Quiet;
use crate::shard::inbox::FactSender;

/// Asks that wait for a free thread: what 64 shards may have under way at once.
const ASKS_MAX: usize = MEMBER_QUERIES_IN_FLIGHT * 64;
/// How long a thread may be without an ask before it pings the store.
const PING_IDLE: Duration = Duration::from_secs(5);
/// The same while the store is away: how soon /readyz sees that it is back.
const PING_AWAY: Duration = Duration::from_millis(500);
/// How long a thread holds an answer for a full mailbox; a shard that takes nothing for that long fails /livez.
const ANSWER_DEADLINE: Duration = HEARTBEAT_STALE_AFTER;
/// How often it looks whether there is room again.
const ANSWER_RETRY: Duration = Duration::from_millis(1);

struct Ask {
    ask: AskNo,
    sessions: Vec<SessionId>,
    reply: FactSender,
}

#[derive(Debug)]
struct State {
    health: Mutex<Health>,
    dropped: AtomicU64,
    drop_warning: Quiet,
    away_warning: Quiet,
    back_line: Quiet,
}

/// The asking side; its clones share the threads, which end when the last clone is gone and their last lookup is done.
#[derive(Clone)]
pub struct MemberThreads {
    asks: Sender<Ask>,
    state: Arc<State>,
}

impl MemberThreads {
    /// Starts `threads` threads (at least one), each with a reader of its own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(members: Arc<dyn Members>, threads: usize) -> io::Result<Self> {
        let (asks, queue) = bounded(ASKS_MAX);
        let state = Arc::new(State::new());
        for number in 0..threads.max(1) {
            let (members, queue, state) = (members.clone(), queue.clone(), state.clone());
            thread::Builder::new()
                .name(format!("members-{number}"))
                .spawn(move || serve(&mut *members.open(), &queue, &state))?;
        }
        Ok(Self { asks, state })
    }

    /// Hands an ask to the threads; never blocks. The answer comes to `reply` as [`Input::Members`].
    ///
    /// # Errors
    /// Gives the ask's number back when the queue is full: nothing will come to `reply`; the caller answers the core
    /// with [`queue_full`](Self::queue_full) in its stead.
    pub fn ask(&self, ask: AskNo, sessions: Vec<SessionId>, reply: FactSender) -> Result<(), AskNo> {
        self.asks.try_send(Ask { ask, sessions, reply }).map_err(|refused| refused.into_inner().ask)
    }

    /// The answer to an ask that [`ask`](Self::ask) refused.
    pub fn queue_full() -> LookupError {
        LookupError::Unavailable("member lookup queue is full".to_owned())
    }

    /// What the latest lookup or ping of any thread said of the store; waiting until the first.
    pub fn health(&self) -> Health {
        self.state.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers given up because a shard took nothing for five seconds. Not zero means a shard stood still.
    pub fn dropped_answers(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }

    /// Asks that wait for a free thread now.
    pub fn queued(&self) -> usize {
        self.asks.len()
    }
}

fn serve(reader: &mut dyn MemberReader, queue: &Receiver<Ask>, state: &State) {
    let mut away = state.note(reader.ping().err().as_ref());
    loop {
        match queue.recv_timeout(if away { PING_AWAY } else { PING_IDLE }) {
            Ok(ask) => {
                let answer = checked(reader.members(&ask.sessions), ask.sessions.len());
                away = state.note(answer.as_ref().err());
                state.answer(&ask.reply, Input::Members { ask: ask.ask, answer }, ANSWER_DEADLINE);
            }
            Err(RecvTimeoutError::Timeout) => away = state.note(reader.ping().err().as_ref()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A custom reader that answers for another number of sessions must not shift members from one session to the next.
fn checked(answer: Result<Vec<NameList>, LookupError>, asked: usize) -> Result<Vec<NameList>, LookupError> {
    let lists = answer?;
    if lists.len() == asked {
        return Ok(lists);
    }
    Err(LookupError::Rejected(format!(
        "members: the store answered for {} sessions and {asked} were asked",
        lists.len()
    )))
}

impl State {
    fn new() -> Self {
        Self {
            health: Mutex::new(Health::Waiting("the member store has not answered yet".to_owned())),
            dropped: AtomicU64::new(0),
            drop_warning: Quiet::new(),
            away_warning: Quiet::new(),
            back_line: Quiet::new(),
        }
    }

    /// Keeps the outcome for /readyz and says a change; true when the store is away. A store that rejects an ask
    /// is there.
    fn note(&self, error: Option<&LookupError>) -> bool {
        let now = match error {
            Some(LookupError::Unavailable(why)) => Health::Waiting(why.clone()),
            Some(LookupError::Rejected(_)) | None => Health::Ready,
        };
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *health != now {
            let gate = if now == Health::Ready { &self.back_line } else { &self.away_warning };
            match (&now, gate.may_say()) {
                (_, None) => {}
                (Health::Ready, Some(_)) => tracing::info!("members: the store answers"),
                (Health::Waiting(why), Some(left_out)) => tracing::warn!(left_out, "members: {why}"),
            }
            health.clone_from(&now);
        }
        matches!(now, Health::Waiting(_))
    }

    fn answer(&self, reply: &FactSender, fact: Input, patience: Duration) {
        let Err(mut fact) = reply.try_send(fact) else { return };
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            thread::park_timeout(ANSWER_RETRY);
            match reply.try_send(fact) {
                Ok(()) => return,
                Err(back) => fact = back,
            }
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.drop_warning.may_say() {
            tracing::warn!(left_out, "members: a shard took no facts for {patience:?}; its answer was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::inbox::{Mailbox, Wake, mailbox};

    type Script = Arc<dyn Fn(&[SessionId]) -> Result<Vec<NameList>, LookupError> + Send + Sync>;

    struct Scripted(Script);

    impl Members for Scripted {
        fn open(&self) -> Box<dyn MemberReader> {
            Box::new(Self(self.0.clone()))
        }
    }

    impl MemberReader for Scripted {
        fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError> {
            self.0(sessions)
        }

        fn ping(&mut self) -> Result<(), LookupError> {
            self.0(&[]).map(drop)
        }
    }

    fn threads(
        count: usize,
        script: impl Fn(&[SessionId]) -> Result<Vec<NameList>, LookupError> + Send + Sync + 'static,
    ) -> MemberThreads {
        MemberThreads::start(Arc::new(Scripted(Arc::new(script))), count).expect("threads start")
    }

    fn next(mailbox: &Mailbox) -> (AskNo, Result<Vec<NameList>, LookupError>) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match mailbox.try_next() {
                Some(Input::Members { ask, answer }) => return (ask, answer),
                Some(other) => panic!("not an answer: {other:?}"),
                None => assert!(Instant::now() < deadline, "no answer came"),
            }
            thread::yield_now();
        }
    }

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "never came true: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn answers_in_the_order_asked_and_waits_for_room_in_the_mailbox() {
        let threads = threads(1, |sessions| Ok(sessions.iter().map(|id| NameList::from_iter([&**id])).collect()));
        let (sender, facts) = mailbox(1, Arc::new(Wake::default()));
        for ask in 0..5 {
            threads.ask(ask, vec![format!("s{ask}").into(), "t".into()], sender.clone()).expect("room");
        }
        for expected in 0..5 {
            let (ask, answer) = next(&facts);
            let lists = answer.expect("an answer");
            assert_eq!((ask, lists[0].get(0), lists[1].get(0)), (expected, format!("s{expected}").as_str(), "t"));
        }
        assert_eq!(threads.dropped_answers(), 0);
    }

    #[test]
    fn a_full_queue_gives_the_ask_back_at_once() {
        let (hold, held) = bounded::<()>(0);
        let threads = threads(1, move |sessions| {
            if !sessions.is_empty() {
                let _ = held.recv();
            }
            Ok(vec![NameList::new(); sessions.len()])
        });
        let (sender, facts) = mailbox(ASKS_MAX + 1, Arc::new(Wake::default()));
        threads.ask(0, vec!["s".into()], sender.clone()).expect("room");
        eventually("the thread took the first", || threads.queued() == 0);
        for ask in 1..=ASKS_MAX as u64 {
            threads.ask(ask, vec!["s".into()], sender.clone()).expect("room");
        }
        assert_eq!(threads.ask(77_777, vec!["s".into()], sender.clone()), Err(77_777));
        assert!(matches!(MemberThreads::queue_full(), LookupError::Unavailable(_)));
        drop(hold);
        for expected in 0..=ASKS_MAX as u64 {
            assert_eq!(next(&facts).0, expected);
        }
    }

    #[test]
    fn health_waits_for_the_first_ping_and_follows_the_store_without_traffic() {
        let away = Arc::new(Mutex::new(true));
        let seen = away.clone();
        let threads = threads(2, move |sessions| match *seen.lock().expect("lock") {
            true => Err(LookupError::Unavailable("store:1 is away".to_owned())),
            false => Ok(vec![NameList::new(); sessions.len()]),
        });
        eventually("away", || threads.health() == Health::Waiting("store:1 is away".to_owned()));
        *away.lock().expect("lock") = false;
        eventually("back", || threads.health() == Health::Ready);
    }

    #[test]
    fn a_store_that_answers_for_another_number_of_sessions_is_rejected_and_stays_ready() {
        let threads = threads(1, |_| Ok(Vec::new()));
        let (sender, facts) = mailbox(4, Arc::new(Wake::default()));
        threads.ask(9, vec!["s".into()], sender).expect("room");
        let (ask, answer) = next(&facts);
        assert_eq!(ask, 9);
        assert!(matches!(answer, Err(LookupError::Rejected(why)) if why.contains("0 sessions and 1 were asked")));
        assert_eq!(threads.health(), Health::Ready);
    }

    #[test]
    fn an_answer_that_finds_no_room_until_its_deadline_is_counted() {
        let (sender, facts) = mailbox(1, Arc::new(Wake::default()));
        sender.try_send(Input::RoutesUnknown).expect("room");
        let state = State::new();
        state.answer(&sender, Input::Members { ask: 1, answer: Ok(Vec::new()) }, Duration::from_millis(5));
        assert_eq!(state.dropped.load(Ordering::Relaxed), 1);
        assert!(matches!(facts.try_next(), Some(Input::RoutesUnknown)));
    }
}
