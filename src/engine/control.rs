//! The control thread: one current-thread Tokio runtime for what is not on the push path: the registry's watch, the
//! admin pages, the fold of the shards' histograms once per second, and the spans of events that go to a collector.

use std::io;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::admin::{self, AdminState, TlsSource};
use crate::edge::otlp::Exporter;
use crate::ports::Registry;
use crate::ports::registry::RegistrySink;

/// How long the last spans may take at a stop.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// The thread.
pub(super) struct Control {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    pub(super) fn start(
        (listener, tls): (TcpListener, Option<TlsSource>),
        state: AdminState,
        registry: Box<dyn Registry>,
        sink: RegistrySink,
        exporter: Option<Exporter>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let watched = state.clone();
                let watch = tokio::spawn(registry.run(sink.clone()));
                let flush = tokio::spawn(sink.keep_flushing());
                let pages = tokio::spawn(async move {
                    if let Err(error) = admin::serve_over(listener, state, tls).await {
                        tracing::error!("the admin pages ended: {error}");
                    }
                });
                let second = tokio::spawn(admin::watch(watched));
                let (last, told) = oneshot::channel();
                let spans = exporter.map(|exporter| tokio::spawn(exporter.run(told)));
                // Ends also when the engine is dropped without a stop.
                let _ = stopped.await;
                if let Some(spans) = spans {
                    let _ = last.send(());
                    let _ = tokio::time::timeout(LAST_SPANS, spans).await;
                }
                for task in [watch, flush, pages, second] {
                    task.abort();
                }
            });
            runtime.shutdown_timeout(Duration::from_millis(100));
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}
