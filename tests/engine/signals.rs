//! HUP opens the log file again (and reads the configuration again, see `reloads`), QUIT stops like TERM, USR1 and USR2 do nothing; at each time.

use std::io::BufRead;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use harness::gateways::{Behaviour, Protocols};

use testkit::engine::{PATIENCE, World, eventually};

/// Killed with its value.
pub struct Alone(Child);

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The engine with nothing there: every server's port is closed.
pub fn start_alone(folder: &Path, log: &str, stdout: Stdio) -> Alone {
    let config = folder.join("task.yaml");
    let away = "nats:\n  url: nats://127.0.0.1:1\nredis:\n  addr: 127.0.0.1:1\nmysql:\n  port: 1\netcd:\n  endpoints: 127.0.0.1:1\n";
    std::fs::write(&config, format!("{away}admin:\n  listen: 127.0.0.1:0\n{log}")).expect("a configuration");
    let child = Command::new(env!("CARGO_BIN_EXE_task-engine"))
        .args(["--config".as_ref(), config.as_os_str(), "--cores".as_ref(), "1".as_ref()])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .expect("the engine starts");
    Alone(child)
}

pub fn send(engine: &Alone, signal: i32) {
    testkit::signals::send(&engine.0, signal);
}

pub fn code(engine: &mut Alone) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = engine.0.try_wait().expect("a child") {
            return status.code();
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!("it never ended");
}

pub fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn after_a_rotation_hup_opens_the_log_file_again_and_the_engine_runs_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, rotated) = (folder.path().join("engine.log"), folder.path().join("engine.log.1"));
    let mut engine = start_alone(folder.path(), &format!("log:\n  output: {}\n", log.display()), Stdio::null());
    eventually("it runs", || text(&log).contains("runs; admin pages"));
    std::fs::rename(&log, &rotated).expect("rotated");
    send(&engine, libc::SIGHUP);
    eventually("the new file is there", || text(&log).contains("signal 1: log file"));
    let old = text(&rotated);
    // The directory is gone in which the file is to be opened: the old file stays.
    std::fs::remove_file(&log).expect("removed");
    std::fs::create_dir(&log).expect("a folder in its place");
    send(&engine, libc::SIGHUP);
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        send(&engine, signal);
    }
    std::fs::remove_dir(&log).expect("removed");
    send(&engine, libc::SIGHUP);
    eventually("opened once more", || text(&log).contains("signal 1: log file"));
    assert_eq!(text(&rotated), old, "nothing more goes to the rotated one");
    send(&engine, libc::SIGTERM);
    assert_eq!(code(&mut engine), Some(0), "{}", text(&log));
    assert!(text(&log).contains("signal 15: stopping"), "{}", text(&log));
    assert!(text(&log).contains("cut off: 0 events"), "{}", text(&log));
}

/// Which is before it reads its configuration.
fn wait_until_it_listens(engine: &Alone) {
    let status = format!("/proc/{}/status", engine.0.id());
    eventually("it catches SIGUSR2", || {
        let caught = text(Path::new(&status));
        let mask = caught.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim).unwrap_or("0");
        u64::from_str_radix(mask, 16).unwrap_or(0) >> (libc::SIGUSR2 - 1) & 1 == 1
    });
}

#[test]
fn a_stop_is_heard_while_the_log_cannot_be_opened() {
    for signal in [libc::SIGTERM, libc::SIGQUIT, libc::SIGINT] {
        let folder = tempfile::tempdir().expect("a folder");
        // Opening it waits for a reader, who never comes.
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).expect("a pipe");
        let mut engine = start_alone(folder.path(), &format!("log:\n  output: {}\n", pipe.display()), Stdio::null());
        wait_until_it_listens(&engine);
        for harmless in [libc::SIGHUP, libc::SIGUSR1] {
            send(&engine, harmless);
        }
        send(&engine, signal);
        assert_eq!(code(&mut engine), Some(0), "signal {signal}");
    }
}

#[test]
fn no_signal_kills_while_it_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("engine.log");
    let mut engine = start_alone(folder.path(), &format!("log:\n  output: {}\n", log.display()), Stdio::null());
    wait_until_it_listens(&engine);
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP] {
        send(&engine, signal);
    }
    eventually("it runs all the same", || text(&log).contains("runs; admin pages"));
    send(&engine, libc::SIGQUIT);
    assert_eq!(code(&mut engine), Some(0), "{}", text(&log));
    assert!(text(&log).contains("signal 3: stopping"), "{}", text(&log));
}

#[test]
fn quit_drains_like_term_and_hup_and_usr_during_the_drain_do_no_harm() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("ann", "gw-1");
    world.members("s", &["ann"]);
    gateway.behave(Behaviour::Deaf);
    let engine = world.engine(1, "engine:\n  drain_timeout: 60s\ngateway:\n  delivery_timeout: 3s\n");
    world.publisher().publish("s", "system", 1..=1);
    gateway.wait("the push", PATIENCE, |gateway| gateway.pushes() == 1).expect("it comes");
    engine.send(libc::SIGQUIT);
    eventually("readyz is 503", || engine.page("/readyz").is_some_and(|(status, _)| status == 503));
    for signal in [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        engine.send(signal);
    }
    let (status, output) = engine.wait();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("signal 3: stopping") && output.contains("cut off: 0 events"), "{output}");
    assert!(!output.contains("second signal"), "{output}");
    assert!(output.contains("configuration reloaded: nothing changed"), "{output}");
    let rows: Option<String> = {
        use mysql::prelude::Queryable;
        let mut rows = world.maria.connect().expect("MariaDB answers");
        rows.query_first("SELECT owner_username FROM t_inbox").expect("a query")
    };
    assert_eq!(rows.as_deref(), Some("ann"), "what was in flight had its end");
}

#[test]
fn a_second_quit_or_int_stops_at_once() {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("ann", "gw-1");
    world.members("s", &["ann"]);
    gateway.behave(Behaviour::Deaf);
    for signal in [libc::SIGQUIT, libc::SIGINT] {
        let engine = world.engine(1, "engine:\n  drain_timeout: 10m\ngateway:\n  delivery_timeout: 5m\n");
        let before = gateway.pushes();
        world.publisher().publish("s", "system", 1..=1);
        gateway.wait("the push", PATIENCE, |gateway| gateway.pushes() > before).expect("it comes");
        engine.send(libc::SIGTERM);
        eventually("readyz is 503", || engine.page("/readyz").is_some_and(|(status, _)| status == 503));
        engine.send(signal);
        let (status, output) = engine.wait();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains("second signal: stopped at once"), "{output}");
    }
}

#[test]
fn a_closed_stdout_costs_lines_and_not_the_drain() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = start_alone(folder.path(), "", Stdio::piped());
    let mut lines = std::io::BufReader::new(engine.0.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("runs; admin pages") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("a line") > 0, "it ended");
    }
    drop(lines);
    send(&engine, libc::SIGUSR1);
    send(&engine, libc::SIGHUP);
    send(&engine, libc::SIGTERM);
    assert_eq!(code(&mut engine), Some(0));
}
