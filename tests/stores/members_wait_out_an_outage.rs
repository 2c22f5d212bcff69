//! Promise: while the database is away or hangs, lookups say so within the timeouts and name it; when it is back they work
//! again without a restart of ours, and a restart between two lookups is not noticed at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use task_engine::model::names::NameList;
use task_engine::ports::mailbox::{FactSender, Mailbox, Wake, mailbox};
use task_engine::ports::{Health, LookupError};
use task_engine::push::facts::Input;
use task_engine::shard::workers::members::MemberThreads;

use testkit::databases::{Database, Login};
use testkit::on_both;
use testkit::wait::eventually;

const READ_TIMEOUT: Duration = Duration::from_millis(700);

struct Asker {
    threads: MemberThreads,
    sender: FactSender,
    facts: Mailbox,
    asked: u64,
}

impl Asker {
    fn ask(&mut self) -> Result<Vec<NameList>, LookupError> {
        self.asked += 1;
        self.threads.ask(self.asked, vec!["s".into(), "empty".into()], false, self.sender.clone()).expect("room");
        let mut got = None;
        eventually("an answer", || {
            got = self.facts.try_next();
            got.is_some()
        });
        match got {
            Some(Input::Members { ask, answer }) if ask == self.asked => answer,
            other => panic!("not the answer to {}: {other:?}", self.asked),
        }
    }

    fn answers(&mut self) -> bool {
        let lists = self.ask().expect("an answer");
        let mut names: Vec<_> = lists[0].iter().collect();
        names.sort_unstable();
        (names, lists[1].len()) == (vec!["u1", "u2"], 0)
    }

    fn refusal(&mut self) -> String {
        match self.ask() {
            Err(LookupError::NotReached(why) | LookupError::Unavailable(why)) => why,
            other => panic!("not unavailable: {other:?}"),
        }
    }
}

on_both!(lookups_wait_out_an_outage);

fn lookups_wait_out_an_outage(server: &Database) {
    server.add([("s", "u2"), ("s", "u1")]);
    let login = Login {
        connect_timeout: Duration::from_secs(1),
        timeout: READ_TIMEOUT,
        lifetime: Duration::ZERO,
        ..Login::default()
    };
    let members = server.members(&login);
    let mut idle = members.open();
    idle.ping().expect("the database is there");
    let threads = MemberThreads::start(members, 1).expect("threads start");
    let (sender, facts) = mailbox(16, Arc::new(Wake::default()));
    let mut asker = Asker { threads, sender, facts, asked: 0 };
    assert!(asker.answers());
    assert_eq!(asker.threads.health(), Health::Ready);

    server.kill();
    let why = asker.refusal();
    assert!(
        why.contains(&format!("127.0.0.1:{}", server.port())) && why.contains(&format!("{}.port", server.section())),
        "{why}"
    );
    assert!(matches!(asker.threads.health(), Health::Waiting(_)));
    server.start_again();
    eventually("health is back without an ask", || asker.threads.health() == Health::Ready);
    assert!(asker.answers());

    idle.members(&["s".into()]).expect("the connection from before the restart is replaced unseen");

    server.freeze();
    let asked = Instant::now();
    let why = asker.refusal();
    assert!(why.contains("silent"), "{why}");
    assert!(asked.elapsed() < READ_TIMEOUT * 4, "took {:?}", asked.elapsed());
    server.thaw();
    eventually("health is back after the hang", || asker.threads.health() == Health::Ready);
    assert!(asker.answers());
    assert_eq!(asker.threads.dropped_answers(), 0);
}
