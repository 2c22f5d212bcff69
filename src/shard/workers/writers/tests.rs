use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::model::names::NameList;
use crate::ports::mailbox::{Mailbox, Wake, mailbox};
use crate::ports::{Inbox, InboxRows, InboxWriter};

type Answers = Vec<Result<NameList, LookupError>>;
type Script = Arc<dyn Fn(&[InboxRows]) -> Answers + Send + Sync>;

struct Scripted(Script);

impl Inbox for Scripted {
    fn open(&self) -> Box<dyn InboxWriter> {
        Box::new(Self(self.0.clone()))
    }
}

impl InboxWriter for Scripted {
    fn store(&mut self, batch: &[InboxRows]) -> Answers {
        self.0(batch)
    }
}

fn threads(script: impl Fn(&[InboxRows]) -> Answers + Send + Sync + 'static) -> InboxThreads {
    InboxThreads::start(Arc::new(Scripted(Arc::new(script))), 1).expect("a thread starts")
}

fn rows(session: &str, users: usize) -> InboxRows {
    let users = (0..users).map(|user| format!("u{user}")).collect();
    InboxRows { session: session.into(), msg_id: 1, seq_id: 1, users }
}

fn next(mailbox: &Mailbox) -> (AskNo, Result<NameList, LookupError>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match mailbox.try_next() {
            Some(Input::Stored { ask, answer }) => return (ask, answer),
            Some(other) => panic!("not an answer: {other:?}"),
            None => assert!(Instant::now() < deadline, "no answer came"),
        }
        thread::yield_now();
    }
}

/// A store that waits for leave before it takes a batch, and keeps the batches' sizes.
fn gated() -> (InboxThreads, Sender<()>, Arc<Mutex<Vec<usize>>>) {
    let (leave, may) = bounded::<()>(1024);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let threads = threads(move |batch| {
        seen.lock().expect("lock").push(batch.len());
        let _ = may.recv();
        batch.iter().map(|_| Ok(NameList::new())).collect()
    });
    (threads, leave, sizes)
}

#[test]
fn what_waits_is_written_together_up_to_the_rows_of_a_batch() {
    let (threads, leave, sizes) = gated();
    let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
    threads.store(0, rows("s", 1), sender.clone()).expect("room");
    let deadline = Instant::now() + Duration::from_secs(10);
    while sizes.lock().expect("lock").is_empty() {
        assert!(Instant::now() < deadline, "the thread never took the first");
        thread::yield_now();
    }
    // Two of these fill a batch; the rest is the next one's.
    for ask in 1..=5 {
        threads.store(ask, rows("s", crate::model::limits::INBOX_BATCH_ROWS / 2), sender.clone()).expect("room");
    }
    for _ in 0..4 {
        leave.send(()).expect("it listens");
    }
    for expected in 0..=5 {
        assert_eq!(next(&facts), (expected, Ok(NameList::new())));
    }
    assert_eq!(*sizes.lock().expect("lock"), [1, 2, 2, 1]);
    assert_eq!(
        (threads.batches(), threads.rows_stored()),
        (4, 1 + 5 * crate::model::limits::INBOX_BATCH_ROWS as u64 / 2)
    );
}

#[test]
fn a_queue_full_of_rows_gives_the_ask_back_and_takes_again_when_it_is_empty() {
    let (threads, leave, sizes) = gated();
    let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
    threads.store(0, rows("s", 1), sender.clone()).expect("room");
    while sizes.lock().expect("lock").is_empty() {
        thread::yield_now();
    }
    // More than the bound alone, but nothing else waits.
    threads.store(1, rows("s", crate::model::limits::INBOX_ROWS_QUEUED + 1), sender.clone()).expect("room");
    assert_eq!(threads.store(2, rows("s", 1), sender.clone()), Err(2));
    leave.send(()).and_then(|()| leave.send(())).expect("it listens");
    assert_eq!((next(&facts).0, next(&facts).0), (0, 1));
    threads.store(3, rows("s", 1), sender.clone()).expect("room again");
    leave.send(()).expect("it listens");
    assert_eq!(next(&facts).0, 3);
}

#[test]
fn each_ask_has_its_own_answer_and_each_is_counted() {
    let threads = threads(|batch| {
        let one = |rows: &InboxRows| match &*rows.session {
            "conflict" => Ok(NameList::from_iter(["u0"])),
            "bad" => Err(LookupError::Rejected("too long".to_owned())),
            _ => Ok(NameList::new()),
        };
        batch.iter().map(one).collect()
    });
    let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
    for (ask, session) in ["good", "conflict", "bad"].into_iter().enumerate() {
        threads.store(ask as AskNo, rows(session, 3), sender.clone()).expect("room");
    }
    assert_eq!(next(&facts), (0, Ok(NameList::new())));
    assert_eq!(next(&facts), (1, Ok(NameList::from_iter(["u0"]))));
    assert_eq!(next(&facts), (2, Err(LookupError::Rejected("too long".to_owned()))));
    assert_eq!((threads.rows_stored(), threads.conflicts(), threads.rows_rejected()), (5, 1, 3));
    assert_eq!(threads.health(), Health::Ready, "a refusal says nothing of the store");
}

#[test]
fn the_store_is_there_when_any_ask_of_a_batch_was_done() {
    let away = || Err(LookupError::Unavailable("away".to_owned()));
    let refused = || Err(LookupError::Rejected("refused".to_owned()));
    assert_eq!(said(&[Ok(()), refused()]), None);
    assert_eq!(said(&[away(), Ok(())]), None, "one ask met something, a later one was done");
    assert_eq!(said(&[Ok(()), away()]), away().as_ref().err(), "it went away in between");
    assert_eq!(said(&[refused(), away()]), away().as_ref().err());
    assert_eq!(said(&[refused(), refused()]), refused().as_ref().err(), "nothing contradicts it");
    assert_eq!(said::<()>(&[]), None);
}

#[test]
fn a_store_that_answers_for_another_number_of_asks_shifts_no_answer() {
    let threads = threads(|_| vec![Ok(NameList::new()); 7]);
    let (sender, facts) = mailbox(64, Arc::new(Wake::default()));
    threads.store(9, rows("s", 1), sender).expect("room");
    let (ask, answer) = next(&facts);
    assert_eq!(ask, 9);
    assert!(matches!(answer, Err(LookupError::Unavailable(why)) if why.contains("7 elements and 1 were asked")));
    assert!(matches!(threads.health(), Health::Waiting(_)));
}
