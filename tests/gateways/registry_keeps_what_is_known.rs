//! Promise: while etcd is dead or hangs, the gateways known stay known and /readyz is told where and what to check;
//! what changed meanwhile is seen when it is back; one dead endpoint of several is passed over.

use std::time::{Duration, Instant};

use task_engine::config::EtcdConfig;
use task_engine::ports::Health;

use crate::registry::{Followed, PREFIX, settings, value};
use crate::silent::Silent;
use testkit::mysql_etcd::{Etcd, eventually, free_port};
use testkit::wait::eventually_within;

#[test]
fn a_dead_etcd_costs_no_gateway() {
    let mut etcd = Etcd::start();
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    etcd.put(&format!("{PREFIX}i2"), &value("g2", 1002));
    let dead = format!("127.0.0.1:{}", free_port());
    let mut followed = Followed::start(settings(&[&dead, &etcd.endpoint()]));
    let mut seen = [followed.next(), followed.next()];
    seen.sort();
    assert_eq!(seen, ["g1@1001", "g2@1002"]);
    eventually("ready", || followed.waiting().is_none());

    etcd.kill();
    eventually("told", || followed.waiting().is_some());
    let why = followed.waiting().expect("still away");
    assert!(why.contains(&etcd.endpoint()) && why.contains(&dead) && why.contains("2 known gateways"), "{why}");
    assert_eq!(followed.directory.len(), 2);

    etcd.start_again();
    etcd.delete(&format!("{PREFIX}i1"));
    etcd.put(&format!("{PREFIX}i2"), &value("g2", 1022));
    let mut seen = [followed.next(), followed.next()];
    seen.sort();
    assert_eq!(seen, ["-g1", "g2@1022"], "and nothing about what stayed the same");
    eventually("ready again", || followed.waiting().is_none());
    etcd.put(&format!("{PREFIX}i3"), &value("g3", 1003));
    assert_eq!(followed.next(), "g3@1003");
}

#[test]
fn a_hung_etcd_is_noticed() {
    let etcd = Etcd::start();
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    // As they are by default: the pings of the connection would say so after 40 s.
    let keep_alive = (Duration::from_secs(30), Duration::from_secs(10));
    let (keep_alive_time, keep_alive_timeout) = keep_alive;
    let settings = EtcdConfig {
        dial_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        keep_alive_time,
        keep_alive_timeout,
        ..settings(&[&etcd.endpoint()])
    };
    let mut followed = Followed::start(settings);
    assert_eq!(followed.next(), "g1@1001");
    eventually("ready", || followed.waiting().is_none());
    etcd.signal(libc::SIGSTOP);
    eventually_within(Duration::from_secs(8), "told", || followed.waiting().is_some());
    let why = followed.waiting().expect("still away");
    assert!(why.contains(&etcd.endpoint()) && why.contains("has not answered for 3s"), "{why}");
    assert!(why.contains("1 known gateway is kept"), "{why}");
    assert_eq!(followed.directory.len(), 1);
    etcd.signal(libc::SIGCONT);
    eventually_within(Duration::from_secs(8), "ready again", || followed.waiting().is_none());
    etcd.put(&format!("{PREFIX}i2"), &value("g2", 1002));
    assert_eq!(followed.next(), "g2@1002");
}

#[test]
fn an_etcd_that_hangs_for_long_is_left_for_one_that_answers() {
    let (hung, good) = (Etcd::start(), Etcd::start());
    hung.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    good.put(&format!("{PREFIX}i1"), &value("g1", 2001));
    let mut settings = settings(&[&hung.endpoint(), &good.endpoint()]);
    (settings.dial_timeout, settings.timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    settings.keep_alive_time = Duration::from_secs(30);
    let mut followed = Followed::start(settings);
    // Which one is first is drawn.
    let first = followed.next();
    let (of_it, other) = if first == "g1@1001" { (&hung, "g1@2001") } else { (&good, "g1@1001") };
    eventually("ready", || followed.waiting().is_none());
    of_it.signal(libc::SIGSTOP);
    let began = Instant::now();
    assert_eq!(followed.next(), other);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    of_it.signal(libc::SIGCONT);
}

#[test]
fn a_wrong_password_is_named_and_mended_without_a_restart() {
    let etcd = Etcd::start();
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    etcd.want_login("sesame");
    let mut settings = settings(&[&etcd.endpoint()]);
    settings.username = "engine".into();
    settings.password = task_engine::config::Secret::new("hunter2");
    let mut followed = Followed::start(settings);
    eventually("told", || followed.waiting().is_some_and(|why| why.contains("etcd.password")));
    let why = followed.waiting().expect("still refused");
    assert!(!why.contains("hunter2") && why.contains("authentication failed"), "{why}");
    etcd.run_as("root", "sesame", |mut client| async move {
        client.user_add("engine", "hunter2", None).await?;
        client.user_grant_role("engine", "root").await.map(drop)
    });
    assert_eq!(followed.next(), "g1@1001");
    eventually("ready", || followed.waiting().is_none());
}

#[test]
fn an_etcd_that_comes_back_empty_is_degraded_and_the_gateways_are_known_to_have_left() {
    let mut etcd = Etcd::start();
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    let mut followed = Followed::start(settings(&[&etcd.endpoint()]));
    assert_eq!(followed.next(), "g1@1001");
    eventually("ready", || followed.waiting().is_none());
    etcd.kill();
    eventually("told", || matches!(followed.sink.health(), Health::Waiting(_)));
    etcd.wipe();
    etcd.start_again();
    assert_eq!(followed.next(), "-g1");
    let empty = Health::Degraded("no gateway is registered".to_owned());
    eventually("it is read, and empty", || followed.sink.health() == empty);
    // Its revisions began anew: what comes now is seen all the same.
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1011));
    assert_eq!(followed.next(), "g1@1011");
    eventually("ready again", || followed.waiting().is_none());
}

#[test]
fn nobody_at_the_start_is_degraded_too() {
    let etcd = Etcd::start();
    let followed = Followed::start(settings(&[&etcd.endpoint()]));
    let empty = Health::Degraded("no gateway is registered".to_owned());
    eventually("it is read, and empty", || followed.sink.health() == empty);
}

#[test]
fn ten_endpoints_that_answer_nothing_cost_a_moment_each() {
    let etcd = Etcd::start();
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    let dead = (0..10).map(|_| Silent::new()).collect::<Vec<_>>();
    let mut endpoints = dead.iter().map(|dead| dead.address.to_string()).collect::<Vec<_>>();
    endpoints.push(etcd.endpoint());
    let began = Instant::now();
    let mut followed = Followed::start(settings(&endpoints.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(followed.next(), "g1@1001");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("ready", || followed.waiting().is_none());
}
