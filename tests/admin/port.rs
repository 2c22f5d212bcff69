//! An admin port on a thread that ends with the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use task_engine::admin::{self, AdminState, TlsSource};
use task_engine::ports::ends::EndsDesk;
use task_engine::ports::tap::TapDesk;
use task_engine::telemetry::metrics::Meter;
use task_engine::telemetry::watchdog::Heartbeats;

/// Where it is, and what tells it that the engine stops.
pub fn start(tls: Option<TlsSource>) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = admin::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stopping = Arc::new(AtomicBool::new(false));
    let state = AdminState {
        meter: Meter::new(1).0,
        heartbeats: Heartbeats::new(0),
        health: Vec::new(),
        stopping: stopping.clone(),
        ends: EndsDesk::new(None),
        tap: TapDesk::default(),
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(admin::serve_over(listener, state, tls))
    });
    (address, stopping)
}
