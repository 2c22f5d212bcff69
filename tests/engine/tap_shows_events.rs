//! Promise: `task-engine tap` shows the events of a session, or to a user, as they end in a running engine; contents only where the
//! configuration lets it; one looks on at a time; and it ends in time, or when nobody asks any more.

use std::process::Output;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use harness::gateways::Protocols;
use testkit::engine::{Process, SECRETS, World, eventually};

fn tap(world: &World, engine: &Process, more: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let admin = engine.admin().to_string();
    let Output { status, stdout, stderr } = world.command(more, &[&["tap", "--admin", &admin], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&stdout), text(&stderr));
    SECRETS.iter().for_each(|secret| assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}"));
    (status.code(), out, err)
}

static NEXT: AtomicI64 = AtomicI64::new(1);

/// Publishes one message after the other while somebody looks on.
fn while_publishing<T>(world: &World, look: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    std::thread::scope(|scope| {
        let looking = scope.spawn(look);
        let publisher = world.publisher();
        while !looking.is_finished() {
            // One that comes again is none.
            let msg_id = NEXT.fetch_add(1, Ordering::Relaxed);
            publisher.publish("group:1", "system", [msg_id]);
            publisher.publish("group:2", "system", [msg_id]);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        looking.join().expect("no panic")
    })
}

#[test]
fn events_are_shown_as_they_end_and_contents_where_that_is_allowed() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    gateway.fail(["refused"], "quota exceeded");
    for user in ["ann", "refused"] {
        world.route(user, "gw-1");
    }
    world.members("group:1", &["ann", "refused", "off"]);
    world.members("group:2", &["ann"]);
    let engine = world.engine(2, "");
    let (code, out, err) =
        while_publishing(&world, || tap(&world, &engine, "", &["--session", "group:1", "--for", "3s"]));
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.lines().count() > 20 && out.lines().all(|line| line.contains(" group:1 msg ")), "{out}{err}");
    let line = out.lines().last().expect("one");
    for words in [
        "from system normal settled in",
        "gw-1: 2 users, 1 missed",
        "1 not reached: offline",
        "1 not reached at gw-1: refused",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(!out.contains("says"), "{out}");
    assert!(err.contains(" events shown, 0 too many to be shown"), "{err}");
    // Both sessions are his.
    let (_, out, _) =
        while_publishing(&world, || tap(&world, &engine, "", &["--user", "ann", "--for", "2s", "--json"]));
    let of = |session: &str| out.matches(&format!("\"session\":\"{session}\"")).count();
    assert!(of("group:1") > 5 && of("group:2") > 5 && out.contains("\"content\":null"), "{out}");
    let (code, out, err) = tap(&world, &engine, "", &["--user", "ann", "--content"]);
    assert!(code == Some(1) && out.is_empty() && err.contains("403") && err.contains("admin.tap_content"), "{err}");
    engine.stop_clean();
    let engine = world.engine(1, "admin: {tap_content: true}\n");
    let (code, out, _) =
        while_publishing(&world, || tap(&world, &engine, "", &["--session", "group:2", "--content", "--for", "2s"]));
    assert!(code == Some(0) && out.contains("; says \""), "{out}");
    engine.stop_clean();
}

fn start(engine: &Process) -> (u16, String) {
    engine.page("/debug/tap/start?session=s&seconds=600").expect("an answer")
}

#[test]
fn one_looks_on_at_a_time_and_one_that_is_gone_holds_nothing() {
    let world = World::start();
    let engine = world.engine(1, "");
    let (status, page) = start(&engine);
    assert_eq!(status, 200, "{page}");
    let (code, _, err) = tap(&world, &engine, "", &["--session", "s"]);
    assert!(code == Some(1) && err.contains("409") && err.contains("somebody else looks on"), "{err}");
    // Nobody reads the first one.
    let began = Instant::now();
    eventually("its place is free", || start(&engine).0 == 200);
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
    for (path, status) in [
        ("/debug/tap/start?seconds=1", 400),
        ("/debug/tap/start?session=s", 400),
        ("/debug/tap/read?tap=ffff", 404),
        ("/debug/tap/read?tap=x", 404),
    ] {
        assert_eq!(engine.page(path).map(|page| page.0), Some(status), "{path}");
    }
    let (code, _, err) = tap(&world, &engine, "", &[]);
    assert!(code == Some(2) && err.contains("--session"), "{err}");
    engine.stop_clean();
}

#[test]
fn more_than_a_hundred_per_second_are_counted() {
    let world = World::start();
    world.gateway("gw-1", Protocols::BATCH);
    world.members("group:1", &["off"]);
    let engine = world.engine(2, "");
    let (code, out, err) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| tap(&world, &engine, "", &["--session", "group:1", "--for", "3s"]));
        let publisher = world.publisher();
        let mut msg_ids = 1..;
        while !looking.is_finished() {
            publisher.publish("group:1", "system", msg_ids.by_ref().take(50));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        looking.join().expect("no panic")
    });
    let shown = out.lines().count();
    assert!(code == Some(0) && (100..=500).contains(&shown), "{shown} shown: {err}");
    assert!(err.contains("more events were too many to be shown"), "{err}");
    engine.stop_clean();
}
