//! The `task-engine` binary as it runs in a test: its page of numbers, its output, its end.
//!
//! Promises that it does not outlive its value, and that every wait has a deadline and says what never came true.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use harness::gateways::{Answer, Record};
use harness::pages;

use crate::engine::SECRETS;
use crate::wait::{PATIENCE, eventually};

/// The running binary; killed with its value.
pub struct Process {
    pub(crate) child: Child,
    pub(crate) admin: SocketAddr,
    pub(crate) config: PathBuf,
    pub(crate) output: PathBuf,
}

impl Process {
    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_ready() {
            assert!(Instant::now() < deadline, "never ready: {:?}\n{}", self.page("/readyz?verbose"), self.output());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Whether `/readyz` answers 200 now.
    pub fn is_ready(&self) -> bool {
        self.page("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its admin port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Status and body of an admin page; nothing when there is no answer.
    pub fn page(&self, path: &str) -> Option<(u16, String)> {
        let page = pages::request(self.admin, "GET", path, "", PATIENCE)?;
        Some((page.status, page.body))
    }

    /// The metric page, after checking the conservation law on it.
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.page("/metrics").unwrap_or_else(|| panic!("no metrics\n{}", self.output()));
        assert_eq!(status, 200);
        let metrics = Metrics(text);
        metrics.assert_conserved();
        metrics
    }

    /// Waits until the metrics satisfy `holds` and gives them.
    pub fn wait_metrics(&self, what: &str, mut holds: impl FnMut(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "never came true: {what}\n{}\n{}", metrics.numbers(), self.output());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits until so many events have arrived and all of them ended.
    pub fn wait_ended(&self, events: u64) -> Metrics {
        self.wait_metrics(&format!("{events} events have ended"), |metrics| {
            metrics.of("events_arrived_total", "") == events && metrics.of("events_in_flight", "") == 0
        })
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Sends SIGTERM.
    pub fn signal(&self) {
        self.send(libc::SIGTERM);
    }

    /// Sends any signal.
    pub fn send(&self, signal: i32) {
        crate::signals::send(&self.child, signal);
    }

    /// SIGTERM; gives its exit status and all it wrote.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.signal();
        self.wait()
    }

    /// Waits for its end; gives its exit status and all it wrote.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let mut status = None;
        eventually("the engine ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        (status.expect("just seen"), self.output())
    }

    /// SIGTERM; asserts exit code 0, a report without anything cut off, and that no password was written.
    pub fn stop_clean(self) -> String {
        let (status, output) = self.terminate();
        assert_eq!(status.code(), Some(0), "{output}");
        assert!(output.contains("cut off: 0 events, 0 pushes"), "{output}");
        SECRETS.iter().for_each(|secret| assert!(!output.contains(secret), "a password in the output:\n{output}"));
        output
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One page of numbers.
pub struct Metrics(pub String);

impl Metrics {
    /// The sum over all lines of this name (without `task_engine_`) whose labels contain `label`.
    pub fn of(&self, name: &str, label: &str) -> u64 {
        self.lines(name).into_iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// The recipients that ended so.
    pub fn recipients(&self, end: &str) -> u64 {
        self.of("recipients_ended_total", &format!("end=\"{end}\""))
    }

    /// The recipients that could not be reached, by why; with the inbox on they end as `stored`.
    pub fn unreached(&self, why: &str) -> u64 {
        self.of("recipients_unreached_total", &format!("why=\"{why}\""))
    }

    /// The events that ended so.
    pub fn events(&self, end: &str) -> u64 {
        self.of("events_ended_total", &format!("end=\"{end}\""))
    }

    fn lines(&self, name: &str) -> Vec<(&str, u64)> {
        let name = format!("task_engine_{name}");
        pages::series(&self.0, &name).map(|(labels, value)| (labels, value as u64)).collect()
    }

    fn assert_conserved(&self) {
        for what in ["events", "recipients"] {
            let of = |name: &str| self.of(&format!("{what}_{name}"), "");
            assert!(!self.lines(&format!("{what}_arrived_total")).is_empty(), "{}", self.0);
            assert_eq!(of("arrived_total"), of("ended_total") + of("in_flight"), "{what}:\n{}", self.numbers());
        }
    }

    /// The lines that are not zero, for messages.
    pub fn numbers(&self) -> String {
        let told = |line: &&str| !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket");
        self.0.lines().filter(told).collect::<Vec<_>>().join("\n")
    }
}

/// The message ids that one user got of one session, in order, whatever the gateway; refused pushes left out.
pub fn got(records: &[Record], session: &str, user: &str) -> Vec<i64> {
    let mine = records.iter().filter(|record| record.session == session && record.recipient == user);
    mine.filter(|record| record.answer != Answer::Refused).map(|record| record.msg_id).collect()
}
