//! Promise: the thread `owner` and a real etcd do what the core decides: two instances share the partitions and hand them over, one
//! that dies is followed, one whose shards hang loses them and ends, and an etcd that is away moves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use task_engine::ownership::facts::MoveKind;
use testkit::mysql_etcd::Etcd;
use testkit::wait::eventually_within;

use crate::edge::path;
use crate::owners::{Instance, PARTITIONS, World};
use task_engine::ownership::keys::Key;

const TTL: Duration = Duration::from_secs(4);
const ALL: usize = PARTITIONS as usize;

/// The revisions at which the keys below a part of the root were written last.
fn revisions(etcd: &Etcd, part: &str) -> Vec<i64> {
    let prefix = path(&Key::Layout).replace("layout", part);
    etcd.run(|mut client| async move {
        let all = client.get(prefix, Some(etcd_client::GetOptions::new().with_prefix())).await?;
        Ok(all.kvs().iter().map(etcd_client::KeyValue::mod_revision).collect())
    })
}

#[test]
fn two_share_and_one_that_stops_gives_all_back() {
    let (etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let began = Instant::now();
    let one = Instance::start(&world, &etcd.endpoint(), "one", TTL, state.path());
    one.owns(ALL);
    println!("64 owned after {:?}", began.elapsed());
    let claims: BTreeSet<i64> = revisions(&etcd, "owners/").into_iter().collect();
    assert!((2..=3).contains(&claims.len()), "64 partitions are claimed in {} transactions", claims.len());
    assert!(one.has_permit());

    let began = Instant::now();
    let two = Instance::start(&world, &etcd.endpoint(), "two", TTL, state.path());
    two.owns(ALL / 2);
    one.owns(ALL / 2);
    println!("32 handed over after {:?}", began.elapsed());
    let moved = one.status().expect("it runs").counts.moves[1];
    assert_eq!(moved[MoveKind::Clean as usize], 32, "{moved:?}");
    assert_eq!(world.generations().iter().max(), Some(&0), "the same consumers go on");

    let began = Instant::now();
    two.stop();
    println!("32 given back after {:?}", began.elapsed());
    assert_eq!(revisions(&etcd, "members/").len(), 1, "its lease is revoked");
    one.owns(ALL);
    assert_eq!(one.last.lock().unwrap().len(), 0);
    one.stop();
    assert!(revisions(&etcd, "owners/").is_empty() && revisions(&etcd, "members/").is_empty());
    world.nothing_is_wrong();
}

#[test]
fn one_that_dies_is_followed_by_the_next_generation() {
    let (etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let one = Instance::start(&world, &etcd.endpoint(), "one", TTL, state.path());
    let two = Instance::start(&world, &etcd.endpoint(), "two", TTL, state.path());
    one.owns(ALL / 2);
    two.owns(ALL / 2);
    let began = Instant::now();
    two.dies();
    one.owns(ALL);
    let took = began.elapsed();
    println!("32 of a dead one owned after {took:?}");
    assert!(took > TTL - Duration::from_secs(1), "not before its lease was over: {took:?}");
    let moved = one.status().expect("it runs").counts.moves[0];
    assert_eq!(moved[MoveKind::Unclean as usize], 32, "{moved:?}");
    assert_eq!(world.generations().iter().filter(|generation| **generation == 1).count(), 32);
    world.nothing_is_wrong();
}

#[test]
fn one_that_is_started_again_on_its_host_does_not_wait_for_its_own_lease() {
    let (etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let long = Duration::from_secs(60);
    let one = Instance::start(&world, &etcd.endpoint(), "one", long, state.path());
    one.owns(ALL);
    one.dies();
    let began = Instant::now();
    let again = Instance::start(&world, &etcd.endpoint(), "one", long, state.path());
    again.owns(ALL);
    println!("owned again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    world.nothing_is_wrong();
}

#[test]
fn a_namesake_of_another_state_directory_is_waited_for() {
    let (etcd, world) = (Etcd::start(), Arc::<World>::default());
    let (state, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let one = Instance::start(&world, &etcd.endpoint(), "one", TTL, state.path());
    one.owns(ALL);
    let namesake = Instance::start(&world, &etcd.endpoint(), "one", TTL, other.path());
    eventually_within(Duration::from_secs(20), "it is heard", || namesake.status().is_some());
    let until = Instant::now() + 2 * TTL;
    while Instant::now() < until {
        assert_eq!((one.owned(), namesake.owned()), (ALL, 0));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    one.stop();
    namesake.owns(ALL);
    world.nothing_is_wrong();
}

#[test]
fn one_whose_shards_hang_loses_its_partitions_and_ends() {
    let (etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let one = Instance::start(&world, &etcd.endpoint(), "one", TTL, state.path());
    let two = Instance::start(&world, &etcd.endpoint(), "two", TTL, state.path());
    one.owns(ALL / 2);
    two.owns(ALL / 2);
    two.hangs();
    eventually_within(Duration::from_secs(30), "it is told to end", || two.last.lock().unwrap().len() == 2);
    let said = two.last.lock().unwrap().clone();
    assert_eq!(said[0], "reset", "before anything else");
    assert!(said[1].starts_with("exit 3: fenced by one"), "{said:?}");
    assert_eq!(two.permit.load(Ordering::SeqCst), 0);
    two.dies();
    one.owns(ALL);
}

#[test]
fn an_etcd_that_is_away_moves_nothing_while_nats_confirms() {
    let (mut etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let one = Instance::start(&world, &etcd.endpoint(), "one", TTL, state.path());
    one.owns(ALL);
    etcd.kill();
    let until = Instant::now() + 2 * TTL;
    while Instant::now() < until {
        assert!(one.has_permit(), "NATS confirms it");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let status = one.status().expect("it runs");
    assert!(status.line().1.starts_with("degraded: etcd away for"), "{:?}", status.line());
    assert!(status.proofs[0] > 10, "{:?}", status.proofs);
    etcd.start_again();
    eventually_within(Duration::from_secs(20), "etcd keeps the lease again", || {
        one.status().is_some_and(|status| !status.line().1.starts_with("degraded"))
    });
    assert!(one.has_permit());
    assert_eq!((one.owned(), one.last.lock().unwrap().len()), (ALL, 0));
    assert_eq!(world.generations().iter().max(), Some(&0));
    world.nothing_is_wrong();
}

/// etcd died a moment before.
#[test]
fn one_that_stops_while_etcd_is_away_keeps_its_partitions_for_a_lease_and_closes_them() {
    let (mut etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    let one = Instance::start(&world, &etcd.endpoint(), "one", TTL, state.path());
    one.owns(ALL);
    etcd.kill();
    let began = Instant::now();
    one.begins_to_stop();
    while began.elapsed() < TTL - Duration::from_millis(500) {
        assert!(one.has_permit() && world.open() == ALL, "nobody else can take them");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(!one.ends(), "etcd could not be told");
    let took = began.elapsed();
    println!("ended after {took:?}");
    assert!(took < TTL + Duration::from_millis(1_500), "{took:?}");
    assert_eq!(world.open(), 0, "each was closed, so that nothing was half done");
    etcd.start_again();
    let two = Instance::start(&world, &etcd.endpoint(), "two", TTL, state.path());
    two.owns(ALL);
    world.nothing_is_wrong();
}

#[test]
fn one_that_stops_while_etcd_is_away_hands_over_when_it_is_back_in_time() {
    let (mut etcd, state, world) = (Etcd::start(), tempfile::tempdir().expect("a folder"), Arc::<World>::default());
    // Long enough for etcd to start.
    let (ttl, began) = (Duration::from_secs(8), Instant::now());
    let one = Instance::start(&world, &etcd.endpoint(), "one", ttl, state.path());
    let two = Instance::start(&world, &etcd.endpoint(), "two", ttl, state.path());
    one.owns(ALL / 2);
    two.owns(ALL / 2);
    etcd.kill();
    one.begins_to_stop();
    etcd.start_again();
    assert!(one.ends(), "it gave everything back");
    two.owns(ALL);
    println!("all owned by the other {:?} after the start", began.elapsed());
    let moved = two.status().expect("it runs").counts.moves[0];
    assert_eq!(moved[MoveKind::Clean as usize], 64, "its own and the other's: {moved:?}");
    assert_eq!(world.generations().iter().max(), Some(&0), "the same consumers go on");
    world.nothing_is_wrong();
}
