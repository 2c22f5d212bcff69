//! The admin port over real sockets: ready, waiting, stopping, a shard that stands still, a port that is taken.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::pages;
use task_engine::admin::{self, AdminState};
use task_engine::model::ids::ShardId;
use task_engine::ports::Health;
use task_engine::ports::ends::EndsDesk;
use task_engine::ports::tap::TapDesk;
use task_engine::telemetry::metrics::{Meter, Stage, StageHistograms};
use task_engine::telemetry::watchdog::Heartbeats;

const DEADLINE: Duration = Duration::from_secs(20);

/// An admin port on a thread of its own.
struct Admin {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    fn start(state: AdminState) -> Self {
        let listener = admin::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = admin::serve(listener, state) => panic!("ended: {ended:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// A request by hand: status, head and body.
    fn request(&self, method: &str, path: &str) -> (u16, String, String) {
        self.request_with(method, path, "")
    }

    /// The same, with more lines of its head.
    fn request_with(&self, method: &str, path: &str, more: &str) -> (u16, String, String) {
        let page = pages::request(self.address, method, path, more, DEADLINE).expect("an answer");
        (page.status, page.head.to_ascii_lowercase(), page.body)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.request("GET", path);
        (status, body)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the admin thread panicked");
    }
}

fn state(heartbeats: Arc<Heartbeats>) -> AdminState {
    AdminState {
        meter: Meter::new(1).0,
        heartbeats,
        health: Vec::new(),
        stopping: Arc::new(AtomicBool::new(false)),
        ends: EndsDesk::new(None),
        tap: TapDesk::default(),
    }
}

#[test]
fn readyz_names_what_is_waited_for_and_turns_503_when_stopping() {
    let mysql =
        Arc::new(Mutex::new(Health::Waiting("waiting for 127.0.0.1:3306: connection refused;\ncheck it".into())));
    let shared = Arc::clone(&mysql);
    let mut state = state(Heartbeats::new(1));
    state.health.push(("nats", Arc::new(|| Health::Ready)));
    state.health.push(("mysql", Arc::new(move || shared.lock().unwrap().clone())));
    let stopping = Arc::clone(&state.stopping);
    let admin = Admin::start(state);

    assert_eq!(admin.get("/readyz"), (503, "not ready: mysql\n".to_owned()));
    let verbose = "[+] nats ok\n[-] mysql: waiting for 127.0.0.1:3306: connection refused; check it\n[+] shards ok\n";
    assert_eq!(admin.get("/readyz?verbose"), (503, format!("{verbose}not ready: mysql\n")));
    *mysql.lock().unwrap() = Health::Ready;
    assert_eq!(admin.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(admin.get("/readyz?verbose=1"), (200, "[+] nats ok\n[+] mysql ok\n[+] shards ok\nready\n".to_owned()));
    stopping.store(true, Ordering::Relaxed);
    assert_eq!(admin.get("/readyz"), (503, "stopping\n".to_owned()));
    assert_eq!(admin.get("/livez"), (200, "ok\n".to_owned()));
}

#[test]
fn a_degraded_part_is_shown_and_keeps_nobody_away() {
    let mut state = state(Heartbeats::new(1));
    state.health.push(("dead_letters", Arc::new(|| Health::Degraded("no stream;\nmake it".into()))));
    let admin = Admin::start(state);
    assert_eq!(admin.get("/readyz"), (200, "ready\n".to_owned()));
    let verbose = "[~] dead_letters: no stream; make it\n[+] shards ok\nready\n";
    assert_eq!(admin.get("/readyz?verbose"), (200, verbose.to_owned()));
}

#[test]
fn a_shard_that_stands_still_fails_livez_and_recovers() {
    let heartbeats = Heartbeats::with_stale_after(2, Duration::from_millis(300), Instant::now());
    let admin = Admin::start(state(Arc::clone(&heartbeats)));
    let started = Instant::now();
    let body = loop {
        heartbeats.beat(ShardId(0));
        match admin.get("/livez") {
            (503, body) => break body,
            other => assert_eq!(other, (200, "ok\n".to_owned())),
        }
        assert!(started.elapsed() < DEADLINE, "shard 1 never failed");
    };
    assert!(body.contains("shard-1 has not moved for "), "{body}");
    assert_eq!(admin.get("/readyz").0, 503);
    loop {
        heartbeats.beat(ShardId(0));
        heartbeats.beat(ShardId(1));
        if admin.get("/livez") == (200, "ok\n".to_owned()) {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "shard 1 never recovered");
    }
}

#[test]
fn metrics_histograms_and_index_are_served() {
    let (meter, mut publishers) = Meter::new(1);
    let mut stages = StageHistograms::default();
    stages.record_n(Stage::Intake, Duration::from_micros(50), 6);
    assert!(publishers[0].hand_over(&mut stages, |_| {}));
    let admin = Admin::start(AdminState { meter, ..state(Heartbeats::new(1)) });

    for (accept, content_type, is_open_metrics) in [
        ("", "text/plain; version=0.0.4", false),
        ("Accept: */*\r\n", "text/plain; version=0.0.4", false),
        ("Accept: text/plain\r\n", "text/plain; version=0.0.4", false),
        (
            "Accept: application/openmetrics-text;q=0.7, */*;q=0.1\r\n",
            "application/openmetrics-text; version=1.0.0",
            true,
        ),
    ] {
        let (status, head, body) = admin.request_with("GET", "/metrics", accept);
        assert_eq!(status, 200);
        assert!(head.contains(&format!("content-type: {content_type}; charset=utf-8\r\n")), "{accept}: {head}");
        assert!(head.contains("vary: accept\r\n"), "{head}");
        assert_eq!(body.ends_with("# EOF\n"), is_open_metrics, "{accept}");
        assert!(body.contains("task_engine_events_arrived_total{shard=\"0\"} 0\n"), "{body}");
    }
    let (status, body) = admin.get("/debug/histograms");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &json["unit"], &json["stages"]["intake"]["count"]), (200, &"nanoseconds".into(), &6.into()));
    assert!(json["stages"]["event"]["v2"].as_str().is_some_and(|text| text.len() > 20));
    assert!(admin.get("/").1.contains("/readyz"));
    assert_eq!(admin.get("/nothing").0, 404);
    assert_eq!(admin.request("POST", "/metrics").0, 405);
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let first = admin::bind("127.0.0.1:0").unwrap();
    let address = first.local_addr().unwrap().to_string();
    let error = admin::bind(&address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let words = error.to_string();
    assert!(words.contains(&address) && words.contains("stop it") && words.contains("--admin"), "{words}");
    let words = admin::bind("203.0.113.7:9100").unwrap_err().to_string();
    assert!(words.contains("203.0.113.7:9100") && words.contains("no such address"), "{words}");
}
