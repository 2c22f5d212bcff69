//! A gateway that is a process of its own: for what only a process can suffer (SIGKILL, SIGSTOP).
//!
//! Promises that each push is told to the parent's [`Recorder`] if it was answered: the child writes a line of JSON into a
//! pipe before it answers, and what a killed child wrote is still read. Refuses to know which users move: whoever is sent
//! to it is taken as connected.

use std::io::{self, BufRead as _, BufReader, LineWriter, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{Answer, Gateway, GatewayOptions, Protocols, Recorder, Seen};
use crate::error::{Error, Result};
use crate::servers::{self, READY_EVERY};

/// How long it may take until it listens.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// One push, on its way to the parent.
#[derive(Serialize, Deserialize)]
struct Line {
    stream: u64,
    order: u64,
    at: u64,
    is_refused: bool,
    recipient: String,
    session: String,
    msg_id: i64,
    from: String,
    content: String,
    kind: String,
    seq_id: i64,
    timestamp: i64,
}

/// What the child's gateway tells: each push goes to standard output.
struct Relay(Mutex<LineWriter<io::Stdout>>);

impl Recorder for Relay {
    fn push(&self, seen: &Seen<'_>) {
        let line = Line {
            stream: seen.stream,
            order: seen.order,
            at: seen.at,
            is_refused: seen.answer == Answer::Refused,
            recipient: seen.recipient.to_owned(),
            session: seen.session.to_owned(),
            msg_id: seen.msg_id,
            from: seen.from.to_owned(),
            content: seen.content.to_owned(),
            kind: seen.kind.to_owned(),
            seq_id: seen.seq_id,
            timestamp: seen.timestamp,
        };
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = serde_json::to_writer(&mut *out, &line).map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
        if told.is_err() {
            // The parent is gone. What is answered and not told would count as lost.
            std::process::exit(1);
        }
    }
}

/// The child: serves until it is killed.
///
/// # Errors
/// When the port is taken, or a protocol is none.
pub fn serve(id: &str, port: u16, protocols: &str) -> Result<bool> {
    let relay = Arc::new(Relay(Mutex::new(LineWriter::new(io::stdout()))));
    let protocols = Protocols::of_announcement(protocols)?;
    let _gateway = Gateway::start(GatewayOptions { port: Some(port), protocols, ..GatewayOptions::new(id, relay) })?;
    loop {
        thread::park();
    }
}

/// The parent's end; the child ends with it.
pub struct GatewayProcess {
    id: Arc<str>,
    port: u16,
    protocols: Protocols,
    recorder: Arc<dyn Recorder>,
    running: Option<(Child, JoinHandle<()>)>,
}

impl GatewayProcess {
    /// Starts one that knows these, and returns when it listens.
    ///
    /// # Errors
    /// When it does not within ten seconds.
    pub fn start(id: &str, port: u16, protocols: Protocols, recorder: Arc<dyn Recorder>) -> Result<Self> {
        let mut gateway = Self { id: id.into(), port, protocols, recorder, running: None };
        gateway.restart()?;
        Ok(gateway)
    }

    /// Kills it (SIGKILL); returns when all that it told is recorded.
    pub fn kill9(&mut self) {
        if let Some((mut child, reader)) = self.running.take() {
            // A killed child is always reaped; the only error would be that it already was.
            let _ = child.kill();
            let _ = child.wait();
            // A panic of the recorder was printed; the counts that it leaves out show up as lost.
            let _ = reader.join();
        }
    }

    /// Starts it again on its port, killing it first when it still runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        self.kill9();
        let failed = |cause: io::Error| Error::of("cannot start a gateway", cause);
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["gateway", "--id", &self.id, "--port", &self.port.to_string()]);
        command.args(["--protocols", &self.protocols.announcement()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = servers::spawn_bound(command).map_err(failed)?;
        let told = child.stdout.take().ok_or_else(|| Error::new("a gateway without standard output"))?;
        let (id, recorder) = (self.id.clone(), self.recorder.clone());
        let reader = thread::Builder::new().name("gateway-told".to_owned()).spawn(move || {
            for line in BufReader::new(told).lines().map_while(|line| line.ok()) {
                record(&*recorder, &id, &line);
            }
        });
        self.running = Some((child, reader.map_err(failed)?));
        self.wait_until_it_listens()
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> Result<()> {
        servers::freeze(self.process_id()?)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn cont(&self) -> Result<()> {
        let pid = Pid::from_raw(self.process_id()? as i32).ok_or_else(|| Error::new("0 is no process id"))?;
        kill_process(pid, Signal::CONT).map_err(|cause| Error::of("cannot let a gateway go on", cause))
    }

    fn process_id(&self) -> Result<u32> {
        let running = self.running.as_ref().ok_or_else(|| Error::new(format!("{} does not run", self.id)))?;
        Ok(running.0.id())
    }

    fn wait_until_it_listens(&self) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while let Err(cause) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
            if Instant::now() > until {
                return Err(Error::of(&format!("{} does not listen on port {}", self.id, self.port), cause));
            }
            thread::sleep(READY_EVERY);
        }
        Ok(())
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// A line that a killed child did not finish was not answered either.
fn record(recorder: &dyn Recorder, gateway: &Arc<str>, line: &str) {
    let Ok(line) = serde_json::from_str::<Line>(line) else { return };
    recorder.push(&Seen {
        gateway,
        stream: line.stream,
        order: line.order,
        at: line.at,
        answer: if line.is_refused { Answer::Refused } else { Answer::Delivered },
        recipient: &line.recipient,
        session: &line.session,
        msg_id: line.msg_id,
        from: &line.from,
        content: &line.content,
        kind: &line.kind,
        seq_id: line.seq_id,
        timestamp: line.timestamp,
        message: None,
        checked: None,
    });
}
