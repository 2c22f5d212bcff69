//! Promise: the page of numbers and the log say what `/readyz` says: ready, not ready and for what, ready again.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::pages;
use task_engine::admin::{self, AdminState};
use task_engine::ports::Health;
use task_engine::ports::ends::EndsDesk;
use task_engine::ports::tap::TapDesk;
use task_engine::telemetry::metrics::{Format, Meter};
use task_engine::telemetry::watchdog::Heartbeats;
use testkit::log::Log;

/// Waits until a line has `what` in it.
async fn wait_for(log: &Log, what: &str) {
    let looked = async {
        while !log.text().contains(what) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_said = tokio::time::timeout(Duration::from_secs(20), looked).await;
    assert!(is_said.is_ok(), "{what:?} is not said:\n{}", log.text());
}

/// The values of `ready` and of `dependency_up` for MySQL and NATS.
fn numbers(meter: &Meter) -> (f64, f64, f64) {
    let page = meter.render(Format::Text);
    let of = |name: &str, with: &str| {
        let mut series = pages::series(&page, name).filter(|(labels, _)| labels.contains(with));
        series.next().unwrap_or_else(|| panic!("{name} {with} in\n{page}")).1
    };
    let up = |name| of("task_engine_dependency_up", &format!("dependency=\"{name}\""));
    (of("task_engine_ready", ""), up("mysql"), up("nats"))
}

async fn ready_then_not_then_again(log: Log) {
    let mysql = Arc::new(Mutex::new(Health::Ready));
    let says = mysql.clone();
    let meter = Meter::new(1).0;
    let state = AdminState {
        meter: meter.clone(),
        heartbeats: Heartbeats::new(1),
        health: vec![
            ("nats", Arc::new(|| Health::Degraded("slow".into()))),
            ("mysql", Arc::new(move || says.lock().expect("health").clone())),
        ],
        stopping: Arc::new(AtomicBool::new(false)),
        ends: EndsDesk::new(None),
        tap: TapDesk::default(),
    };
    let stopping = state.stopping.clone();
    let watch = tokio::spawn(admin::watch(state));
    wait_for(&log, "ready: every part can do its work").await;
    assert_eq!(numbers(&meter), (1.0, 1.0, 1.0), "what is degraded works");
    *mysql.lock().expect("health") = Health::Waiting("db:3306: refused;\nstart it".into());
    wait_for(&log, "not ready, for 0.0 s: mysql: db:3306: refused; start it").await;
    assert_eq!(numbers(&meter), (0.0, 0.0, 1.0));
    *mysql.lock().expect("health") = Health::Ready;
    wait_for(&log, "ready again, after ").await;
    assert_eq!(numbers(&meter), (1.0, 1.0, 1.0));
    stopping.store(true, std::sync::atomic::Ordering::Relaxed);
    *mysql.lock().expect("health") = Health::Waiting("gone".into());
    assert_eq!(numbers(&meter).0, 0.0, "it stops");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    watch.abort();
    let lines = log.text().lines().count();
    assert_eq!(lines, 3, "a stop is no fault, and nothing is said twice:\n{}", log.text());
}

#[test]
fn readiness_is_logged_when_it_changes_and_stands_on_the_page() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(ready_then_not_then_again(log.clone()));
    });
}
