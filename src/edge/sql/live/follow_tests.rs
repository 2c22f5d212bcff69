//! A connection goes by what the configuration says now, and the one that is open serves until another is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Link, Live, Session};
use crate::config::{Current, Held, HostPort};
use crate::edge::sql::fault::{Fault, Place};

const WRONG: &str = "wrong";

/// To a server that lets everybody in but who says one word; the connection is the word that was said.
struct ByWord(Held<&'static str>, Place);

impl ByWord {
    fn new(word: Held<&'static str>) -> Self {
        let place = Place {
            product: "a database",
            section: "nowhere",
            at: HostPort { host: "127.0.0.1".into(), port: 1 },
            username: String::new(),
            database: String::new(),
            sessions_in: "nothing",
            connect_timeout: Duration::from_secs(20),
            timeout: Duration::from_secs(20),
            lifetime: Duration::ZERO,
        };
        Self(word, place)
    }
}

impl Link for ByWord {
    type Conn = &'static str;

    fn place(&self) -> &Place {
        &self.1
    }

    fn reloaded(&self) -> Option<Self> {
        self.0.is_old().then(|| Self::new(self.0.renewed()))
    }

    fn thread(&self) -> &'static str {
        "by-word"
    }

    fn writes(&self) -> bool {
        false
    }

    fn connect(&self, _: SocketAddr, _: Duration) -> Result<&'static str, Fault> {
        if *self.0 == WRONG { Err(Fault::NotOpened("a wrong word".into())) } else { Ok(*self.0) }
    }

    fn who(&self, _: &mut &'static str) -> Result<Option<Session>, Fault> {
        Ok(None)
    }

    fn end(&self, _: &mut &'static str, _: u64) -> Result<bool, Fault> {
        Ok(true)
    }
}

#[test]
fn a_new_word_is_said_beside_the_connection_that_serves_and_a_wrong_one_costs_none() {
    let word = Current::new("first");
    let mut live = Live::new(ByWord::new(word.hold()), "");
    let ask = |live: &mut Live<ByWord>| live.attempt(|conn, _| Ok(*conn)).expect("a connection");
    assert_eq!(ask(&mut live), "first");
    word.exchange(&WRONG);
    let until = Instant::now() + Duration::from_secs(20);
    let mut has_tried = false;
    while !has_tried {
        assert_eq!(ask(&mut live), "first", "it serves");
        // The try is over, and the next one is due later.
        has_tried = live.opening.is_none() && live.due.is_some_and(|due| due > Instant::now());
        assert!(Instant::now() < until, "never tried");
    }
    word.exchange(&"second");
    while ask(&mut live) == "first" {
        assert!(Instant::now() < until, "never replaced");
    }
    assert_eq!((ask(&mut live), live.number), ("second", 2));
    // Where there is no connection, the first that is opened goes by it.
    live.conn = None;
    word.exchange(&"third");
    assert_eq!(ask(&mut live), "third");
}
