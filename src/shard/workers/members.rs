//! The member lookup threads: they take member asks from the shards and put the answers into the shards' mailboxes.
//!
//! Promises that asking never blocks, that each ask taken gets one answer (or is counted as dropped), that asks which
//! failed before have threads of their own, so that slow ones never hold up the others, and that an outage of the store
//! and its end are noticed without traffic. Refuses to retry a failed lookup: when to ask again is
//! the core's decision. A panic in a reader ends the process (panic = abort) with the thread's name in the message.

#![expect(
    clippy::disallowed_methods,
    reason = "a thread of blocking calls leaves an ask to those that have a connection"
)]

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::model::ids::SessionId;
use crate::model::limits::{
    MEMBER_LARGE_IN_FLIGHT, MEMBER_QUERIES_IN_FLIGHT, MEMBER_SINGLES_IN_FLIGHT, MEMBER_SUSPECT_THREADS,
    WITHOUT_CONNECTION_PAUSE,
};
use crate::model::names::NameList;
use crate::ports::mailbox::FactSender;
use crate::ports::{Health, LookupError, MemberReader, Members};
use crate::push::facts::{AskNo, Input};
use crate::shard::workers::store_state::{ANSWER_DEADLINE, PING_AWAY, PING_IDLE, Reach, StoreState};

/// Asks that wait for a free thread: what 64 shards may have under way at once.
const ASKS_MAX: usize = (MEMBER_QUERIES_IN_FLIGHT + 1) * 64;
/// The same of those that failed before, or are large.
const SUSPECTS_MAX: usize = (MEMBER_SINGLES_IN_FLIGHT + MEMBER_LARGE_IN_FLIGHT + 1) * 64;

/// How long the reader of an idle thread for such asks is kept.
const SUSPECT_READER_KEPT: Duration = Duration::from_secs(10);

struct Ask {
    ask: AskNo,
    sessions: Vec<SessionId>,
    reply: FactSender,
}

/// The asking side; its clones share the threads, which end when the last clone is gone and their last lookup is done.
#[derive(Clone)]
pub struct MemberThreads {
    asks: Sender<Ask>,
    suspects: Sender<Ask>,
    state: Arc<StoreState>,
}

impl MemberThreads {
    /// Starts `threads` threads (at least one), each with a reader of its own, and those for asks that failed before.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(members: Arc<dyn Members>, threads: usize) -> io::Result<Self> {
        let (asks, queue) = bounded(ASKS_MAX);
        let (suspects, suspect_queue) = bounded(SUSPECTS_MAX);
        let state = Arc::new(StoreState::new("members"));
        for number in 0..threads.max(1) {
            let (members, queue, state) = (members.clone(), queue.clone(), state.clone());
            thread::Builder::new()
                .name(format!("members-{number}"))
                .spawn(move || serve(&mut *members.open(), &queue, &state))?;
        }
        for number in 0..MEMBER_SUSPECT_THREADS {
            let (members, queue, state) = (members.clone(), suspect_queue.clone(), state.clone());
            thread::Builder::new()
                .name(format!("members-alone-{number}"))
                .spawn(move || serve_suspects(&*members, &queue, &state))?;
        }
        Ok(Self { asks, suspects, state })
    }

    /// Hands an ask to the threads; never blocks. The answer comes to `reply` as [`Input::Members`]. An ask that failed
    /// before (`is_suspect`) goes to threads of its own.
    ///
    /// # Errors
    /// Gives the ask's number back when the queue is full: nothing will come to `reply`; the caller tells the core
    /// that nobody was asked ([`Input::NotAsked`]).
    pub fn ask(&self, ask: AskNo, sessions: Vec<SessionId>, is_suspect: bool, reply: FactSender) -> Result<(), AskNo> {
        let queue = if is_suspect { &self.suspects } else { &self.asks };
        queue.try_send(Ask { ask, sessions, reply }).map_err(|refused| refused.into_inner().ask)
    }

    /// What the latest lookup or ping of any thread said of the store; waiting until the first.
    pub fn health(&self) -> Health {
        self.state.health()
    }

    /// Answers given up because a shard took nothing for five seconds. Not zero means a shard stood still.
    pub fn dropped_answers(&self) -> u64 {
        self.state.dropped()
    }

    /// Asks that wait for a free thread now.
    pub fn queued(&self) -> usize {
        self.asks.len() + self.suspects.len()
    }
}

fn serve(reader: &mut dyn MemberReader, queue: &Receiver<Ask>, state: &StoreState) {
    let mut reach = Reach::new(state);
    let ping = |reader: &mut dyn MemberReader, reach: &mut Reach<'_>| {
        let error = reader.ping().err();
        reach.note([error.as_ref()]);
        state.note(error.as_ref())
    };
    let mut away = ping(reader, &mut reach);
    loop {
        reach.before_next(|| reader.ping());
        match queue.recv_timeout(if away { PING_AWAY } else { PING_IDLE }) {
            Ok(ask) => {
                let answer = checked(reader.members(&ask.sessions), ask.sessions.len());
                reach.note([answer.as_ref().err()]);
                away = state.note(answer.as_ref().err());
                state.answer(&ask.reply, Input::Members { ask: ask.ask, answer }, ANSWER_DEADLINE);
            }
            Err(RecvTimeoutError::Timeout) => away = ping(reader, &mut reach),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Asks that failed before. A failure of theirs says nothing of the store, a success does. The reader, and its connection,
/// is there only while there are such asks.
fn serve_suspects(members: &dyn Members, queue: &Receiver<Ask>, state: &StoreState) {
    let mut reader = None::<Box<dyn MemberReader>>;
    loop {
        match queue.recv_timeout(SUSPECT_READER_KEPT) {
            Ok(ask) => {
                let answer = reader.get_or_insert_with(|| members.open()).members(&ask.sessions);
                let answer = checked(answer, ask.sessions.len());
                if answer.is_ok() {
                    state.note(None);
                }
                let is_lost = matches!(answer, Err(LookupError::NotReached(_)));
                state.answer(&ask.reply, Input::Members { ask: ask.ask, answer }, ANSWER_DEADLINE);
                if is_lost {
                    // The next ask is for one of the others, which may have a connection.
                    thread::sleep(WITHOUT_CONNECTION_PAUSE);
                }
            }
            Err(RecvTimeoutError::Timeout) => reader = None,
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;
    use crate::ports::mailbox::{Mailbox, Wake, mailbox};

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
            threads.ask(ask, vec![format!("s{ask}").into(), "t".into()], false, sender.clone()).expect("room");
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
        threads.ask(0, vec!["s".into()], false, sender.clone()).expect("room");
        eventually("the thread took the first", || threads.queued() == 0);
        for ask in 1..=ASKS_MAX as u64 {
            threads.ask(ask, vec!["s".into()], false, sender.clone()).expect("room");
        }
        assert_eq!(threads.ask(77_777, vec!["s".into()], false, sender.clone()), Err(77_777));
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
    fn slow_asks_that_failed_before_hold_up_nobody_and_one_refusal_is_no_outage() {
        let (hold, held) = bounded::<()>(0);
        let is_away = Arc::new(Mutex::new(false));
        let away = is_away.clone();
        let threads = threads(1, move |sessions| match sessions.first().map(|id| &**id) {
            Some("slow") => {
                let _ = held.recv();
                Err(LookupError::Unavailable("too slow".to_owned()))
            }
            Some("bad") => Err(LookupError::Rejected("bad".to_owned())),
            _ if *away.lock().expect("lock") => Err(LookupError::Rejected("no writer".to_owned())),
            _ => Ok(vec![NameList::new(); sessions.len()]),
        });
        let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
        for ask in 0..2 * MEMBER_SUSPECT_THREADS as u64 {
            threads.ask(ask, vec!["slow".into()], true, sender.clone()).expect("room");
        }
        for ask in [100, 101] {
            threads.ask(ask, vec!["bad".into()], false, sender.clone()).expect("room");
            assert!(matches!(next(&facts), (of, Err(LookupError::Rejected(_))) if of == ask));
            threads.ask(ask, vec![], false, sender.clone()).expect("room");
            assert_eq!(next(&facts), (ask, Ok(Vec::new())), "the probe is answered");
            assert_eq!(threads.health(), Health::Ready, "one refusal among answers");
        }
        *is_away.lock().expect("lock") = true;
        for ask in [102, 103] {
            threads.ask(ask, vec!["good".into()], false, sender.clone()).expect("room");
            assert!(next(&facts).1.is_err());
        }
        assert_eq!(threads.health(), Health::Waiting("no writer".to_owned()), "refusals and nothing else");
        drop(hold);
    }

    /// Of four threads three have no connection and fail at once, the fourth takes its time.
    #[test]
    fn threads_without_a_connection_leave_the_asks_to_those_with_one() {
        struct Lane(usize);
        impl MemberReader for Lane {
            fn members(&mut self, sessions: &[SessionId]) -> Result<Vec<NameList>, LookupError> {
                if self.0 > 0 {
                    return Err(LookupError::NotReached("too many connections".to_owned()));
                }
                thread::sleep(Duration::from_millis(2 * sessions.len() as u64));
                Ok(vec![NameList::new(); sessions.len()])
            }
        }
        struct Lanes(Mutex<usize>);
        impl Members for Lanes {
            fn open(&self) -> Box<dyn MemberReader> {
                let mut opened = self.0.lock().expect("lock");
                *opened += 1;
                Box::new(Lane(*opened - 1))
            }
        }
        let threads = MemberThreads::start(Arc::new(Lanes(Mutex::new(0))), 4).expect("threads start");
        eventually("one has a connection", || threads.health() == Health::Ready);
        thread::sleep(2 * WITHOUT_CONNECTION_PAUSE);
        let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
        for ask in 0..40 {
            threads.ask(ask, vec!["s".into()], false, sender.clone()).expect("room");
        }
        let lost = (0..40).filter(|_| next(&facts).1.is_err()).count();
        assert_eq!(lost, 0, "of 40");
    }

    #[test]
    fn a_store_that_answers_for_another_number_of_sessions_is_rejected_and_stays_ready() {
        let threads = threads(1, |_| Ok(Vec::new()));
        let (sender, facts) = mailbox(4, Arc::new(Wake::default()));
        threads.ask(9, vec!["s".into()], false, sender).expect("room");
        let (ask, answer) = next(&facts);
        assert_eq!(ask, 9);
        assert!(matches!(answer, Err(LookupError::Rejected(why)) if why.contains("0 sessions and 1 were asked")));
        assert_eq!(threads.health(), Health::Ready);
    }
}
