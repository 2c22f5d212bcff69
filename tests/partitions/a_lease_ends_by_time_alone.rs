//! Promise: a lease that is not kept alive ends, and the watch tells; an answer to a keepalive is told only of that keepalive, also over a
//! stream that broke; and what has no answer is never answered.

use std::time::{Duration, Instant};

use task_engine::ownership::facts::{AskNo, Commit, Fact};
use task_engine::ownership::keys::LeaseId;
use testkit::mysql_etcd::Etcd;

use crate::edge::{Edge, LEASE_TTL, owner, put_under, settings, txn};
use crate::way::Way;

const TTL: Duration = Duration::from_secs(2);

/// What is left of the lease. Asked again as the core does when it hears nothing: a keepalive that meets no connection, or one that
/// ends, is forgotten. By then the stream of the one before is over, so that two answers cannot come.
fn kept(edge: &mut Edge, ask: u64, lease: LeaseId) -> Duration {
    for _ in 0..6 {
        edge.ask(|etcd| etcd.keep_alive(AskNo(ask), lease));
        match edge.next_within(2 * LEASE_TTL) {
            Some(Fact::KeptAlive { ask: of, ttl, .. }) if of == AskNo(ask) => return ttl,
            Some(other) => panic!("not its answer: {other:?}"),
            None => eprintln!("keepalive {ask} has no answer, and is asked for again"),
        }
    }
    panic!("no keepalive was answered");
}

#[test]
fn it_lasts_as_long_as_it_is_kept_and_its_keys_go_with_it() {
    let etcd = Etcd::start();
    let mut edge = Edge::start(&etcd.endpoint());
    let lease = edge.grant(1, TTL).expect("a lease");
    let under = txn(Vec::new(), vec![put_under(owner(1), "mine", lease)]);
    let Commit::Applied { revision } = edge.commit(2, under) else { panic!("applied") };
    let began = Instant::now();
    for ask in 3..6 {
        assert!(kept(&mut edge, ask, lease) > Duration::ZERO);
        assert_eq!(edge.next_within(Duration::from_millis(900)), None, "nothing is told that was not asked for");
    }
    assert!(began.elapsed() > TTL);
    edge.ask(|etcd| etcd.list());
    let Fact::Listed { keys, revision: listed } = edge.next() else { panic!("a listing") };
    assert_eq!((keys.len(), listed), (1, revision));
    let Fact::Watched { changes, .. } = edge.next() else { panic!("the end of the key") };
    let [(at, state)] = &changes[..] else { panic!("{changes:?}") };
    assert!(*at > revision && state.key == owner(1) && state.value.is_none());
    assert_eq!(kept(&mut edge, 6, lease), Duration::ZERO, "there is no such lease");
    assert_eq!(kept(&mut edge, 7, lease), Duration::ZERO, "nor on a new stream");
}

#[test]
fn a_revoked_one_is_over_at_once() {
    let etcd = Etcd::start();
    let mut edge = Edge::start(&etcd.endpoint());
    let lease = edge.grant(1, Duration::from_secs(60)).expect("a lease");
    assert!(kept(&mut edge, 2, lease) > Duration::from_secs(50));
    edge.ask(|etcd| etcd.revoke(lease));
    let mut ask = 3;
    testkit::wait::eventually("it is over", || {
        ask += 1;
        kept(&mut edge, ask, lease).is_zero()
    });
    assert!(kept_another(&mut edge) > Duration::ZERO, "another lease is kept over a stream of its own");
}

fn kept_another(edge: &mut Edge) -> Duration {
    let lease = edge.grant(100, TTL).expect("a lease");
    kept(edge, 101, lease)
}

#[test]
fn answers_of_a_broken_stream_are_nobodys() {
    let etcd = Etcd::start();
    let way = Way::to(etcd.port);
    let mut edge = Edge::start(&way.endpoint());
    let lease = edge.grant(1, Duration::from_secs(60)).expect("a lease");
    assert!(kept(&mut edge, 2, lease) > Duration::ZERO);
    way.swallow(true);
    edge.ask(|etcd| {
        etcd.keep_alive(AskNo(3), lease);
        etcd.keep_alive(AskNo(4), lease);
    });
    assert_eq!(edge.next_within(Duration::from_millis(300)), None);
    way.swallow(false);
    way.cut();
    // Asked for again and again, as the core does: what goes out while there is no connection is forgotten too.
    for ask in 5..200 {
        edge.ask(|etcd| etcd.keep_alive(AskNo(ask), lease));
        match edge.next_within(Duration::from_millis(200)) {
            Some(Fact::KeptAlive { ask: of, ttl, revision }) => {
                assert!(of >= AskNo(5), "{of:?} was sent over the stream that broke");
                assert!(!ttl.is_zero() && revision > 0);
                return;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    panic!("no keepalive was answered any more");
}

#[test]
fn a_stream_that_hangs_is_left_after_half_of_the_lease() {
    let etcd = Etcd::start();
    let way = Way::to(etcd.port);
    let mut edge = Edge::with(settings(&[&way.endpoint()]), Duration::from_secs(4));
    let lease = edge.grant(1, Duration::from_secs(60)).expect("a lease");
    assert!(kept(&mut edge, 2, lease) > Duration::ZERO);
    way.swallow(true);
    edge.ask(|etcd| etcd.keep_alive(AskNo(3), lease));
    // Not before: what it swallowed of the old connection would never come.
    assert_eq!(edge.next_within(Duration::from_millis(2_500)), None);
    way.swallow(false);
    for ask in 4..100 {
        edge.ask(|etcd| etcd.keep_alive(AskNo(ask), lease));
        if let Some(fact) = edge.next_within(Duration::from_millis(200)) {
            let Fact::KeptAlive { ask: of, .. } = fact else { panic!("{fact:?}") };
            assert!(of >= AskNo(4));
            return;
        }
    }
    panic!("the stream was not left");
}

#[test]
fn a_grant_that_has_no_answer_is_none_in_time() {
    let etcd = Etcd::start();
    let mut edge = Edge::start(&etcd.endpoint());
    assert!(edge.grant(1, TTL).is_some());
    etcd.signal(libc::SIGSTOP);
    let began = Instant::now();
    let granted = edge.grant(2, TTL);
    etcd.signal(libc::SIGCONT);
    assert_eq!(granted, None);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
