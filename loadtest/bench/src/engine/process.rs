//! An engine as a process of its own, started by a command line with places to fill in: `{config}` is the YAML file of the
//! Go service's keys, `{admin}` the address for its pages, `{cores}` its shards.
//!
//! Promises that it ends with its value, also when the harness is killed.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use harness::pages::{self, Page};
use harness::servers::{self, READY_EVERY};
use rustix::process::{Pid, Signal, kill_process};

use super::{DEADLINE, Stopped, counters};
use crate::cost::{self, Cpu};

/// How the harness knows that an engine is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ready {
    /// `GET /readyz` on its admin address answers 200.
    #[default]
    Readyz,
    /// NATS has a subscription on the topic: for engines without such a page.
    Subscribed,
}

/// Where an engine is told to be, and how to know that it is there.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// Its configuration file.
    pub config: &'a Path,
    /// The port of its pages.
    pub admin_port: u16,
    /// Its shards.
    pub cores: u16,
    /// How it becomes ready.
    pub ready: Ready,
    /// How long that may take.
    pub ready_timeout: Duration,
    /// The port of NATS's own pages.
    pub nats_pages: u16,
    /// The subject that events come on.
    pub topic: &'a str,
    /// Where it keeps what outlives it, when not where its configuration is.
    pub state: Option<&'a Path>,
}

/// A running engine process.
pub struct Process {
    child: Child,
    log: PathBuf,
    command: String,
    admin_port: u16,
    ready: Ready,
}

impl Process {
    /// The sum of a counter of its page /metrics over all labels; nothing when it has no such page.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let page = pages::get(self.admin_port, "/metrics").and_then(Page::ok)?;
        Some(counters::sum(&page, name).unwrap_or(0))
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When the program is not there, dies, or does not become ready in time; with its last log lines.
    pub fn start(command: &str, places: &Places<'_>) -> Result<Self> {
        let mut process = Self::spawn(command, places)?;
        process.wait_until_ready(places)?;
        Ok(process)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn spawn(command: &str, places: &Places<'_>) -> Result<Self> {
        let words: Vec<_> = words_of(command)?.iter().map(|word| filled_in(word, places)).collect();
        let log = places.config.with_file_name("engine.log");
        let logs = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = logs.map_err(|cause| Error::of("cannot write the engine's log", cause))?;
        let mut start = Command::new(&words[0]);
        start.args(&words[1..]).stdin(Stdio::null()).stdout(out).stderr(err);
        start.envs(places.state.map(|state| ("STATE_DIRECTORY", state)));
        let child = servers::spawn_bound(start);
        let child = child.map_err(|cause| Error::of(&format!("cannot start the engine `{}`", words[0]), cause))?;
        Ok(Self {
            child,
            log,
            command: crate::machine::quoted(words.into_iter()),
            admin_port: places.admin_port,
            ready: places.ready,
        })
    }

    /// Waits until one that was [spawned](Self::spawn) is ready.
    ///
    /// # Errors
    /// When it dies, or does not become ready in time; with its last log lines.
    pub fn wait_until_ready(&mut self, places: &Places<'_>) -> Result<()> {
        let until = Instant::now() + places.ready_timeout;
        loop {
            let is_ready = match places.ready {
                Ready::Readyz => pages::get(places.admin_port, "/readyz").and_then(Page::ok).is_some(),
                Ready::Subscribed => is_subscribed(places),
            };
            if is_ready {
                return Ok(());
            }
            self.check()?;
            if Instant::now() > until {
                return Err(Error::new(format!(
                    "the engine `{}` did not become ready within {} s; waited for {}; its last lines:\n{}",
                    self.command,
                    places.ready_timeout.as_secs(),
                    awaited(places),
                    self.last_lines(15)
                )));
            }
            std::thread::sleep(READY_EVERY);
        }
    }

    /// Fails when it has ended.
    ///
    /// # Errors
    /// See above.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::new(format!(
                "the engine `{}` ended by itself with {status}; its last lines:\n{}",
                self.command,
                self.last_lines(15)
            ))),
            Err(cause) => Err(Error::of("cannot look after the engine", cause)),
        }
    }

    /// CPU time it used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu(&self) -> Result<Cpu> {
        cost::process_cpu(self.child.id())
    }

    /// The most memory it held so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_rss_mib(&self) -> Result<f64> {
        cost::peak_rss_mib(self.child.id())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its pages are.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// SIGTERM, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self) -> Result<Stopped> {
        self.send(Signal::TERM)?;
        self.wait(DEADLINE)?.ok_or_else(|| {
            let words = format!("the engine did not stop within {} s of SIGTERM", DEADLINE.as_secs());
            Error::of(&words, self.last_lines(15))
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn send(&self, signal: Signal) -> Result<()> {
        let told = kill_process(Pid::from_child(&self.child), signal);
        told.map_err(|cause| Error::of("cannot send the engine a signal", cause))
    }

    /// Waits until it has ended; none when it does not in time.
    ///
    /// # Errors
    /// When it cannot be looked after.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<Stopped>> {
        let until = Instant::now() + patience;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= until {
                return Ok(ended);
            }
            std::thread::sleep(READY_EVERY);
        }
    }

    /// How it ended, when it has.
    ///
    /// # Errors
    /// When it cannot be looked after.
    pub fn ended(&mut self) -> Result<Option<Stopped>> {
        let status = self.child.try_wait().map_err(|cause| Error::of("cannot look after the engine", cause))?;
        Ok(status.map(|status| {
            let last_words = format!("ended with {status}: {}", self.last_lines(1));
            // An engine of another house need not know the signal: then the kernel ends it, as it was asked to.
            let is_told = self.ready == Ready::Subscribed && status.signal() == Some(libc::SIGTERM);
            Stopped { last_words, is_clean: status.success() || is_told, code: status.code() }
        }))
    }

    /// The last lines that it wrote.
    pub fn last_lines(&self, count: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() { "it wrote no log".into() } else { lines[lines.len().saturating_sub(count)..].join("\n") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command line's words. No shell is asked: who needs one writes `sh -c`.
///
/// # Errors
/// When it is no command line, or does not say where the configuration goes.
pub fn words_of(command: &str) -> Result<Vec<String>> {
    let words =
        shlex::split(command).ok_or_else(|| Error::new(format!("--engine `{command}`: a quote is not closed")))?;
    if words.is_empty() {
        return Err(Error::new("--engine is empty: give a command line such as `task-engine --config {config}`"));
    }
    if !command.contains("{config}") {
        return Err(Error::new(format!(
            "--engine `{command}` does not say where the configuration goes: put {{config}} into it"
        )));
    }
    Ok(words)
}

fn filled_in(word: &str, places: &Places<'_>) -> String {
    word.replace("{config}", &places.config.display().to_string())
        .replace("{admin}", &format!("127.0.0.1:{}", places.admin_port))
        .replace("{cores}", &places.cores.to_string())
}

fn awaited(places: &Places<'_>) -> String {
    match places.ready {
        Ready::Readyz => {
            let verbose = pages::get(places.admin_port, "/readyz?verbose");
            let said = verbose.map_or("nobody listens there".to_owned(), |page| format!("it says: {}", page.body));
            format!(
                "GET http://127.0.0.1:{}/readyz to answer 200 ({said}); an engine without that page needs --ready subscribed",
                places.admin_port
            )
        }
        Ready::Subscribed => format!("a NATS subscription on {}", places.topic),
    }
}

fn is_subscribed(places: &Places<'_>) -> bool {
    let path = format!("/subsz?subs=1&test={}", places.topic);
    let page = pages::get(places.nats_pages, &path).and_then(Page::ok);
    let page = page.and_then(|body| serde_json::from_str(&body).ok());
    page.is_some_and(|page: serde_json::Value| page["total"].as_u64().is_some_and(|total| total > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places<'static> {
        Places {
            config: Path::new("/tmp/of it/task.yaml"),
            admin_port: 9,
            cores: 2,
            ready: Ready::Readyz,
            ready_timeout: Duration::ZERO,
            nats_pages: 0,
            topic: "t",
            state: None,
        }
    }

    #[test]
    fn places_are_filled_in_and_quotes_hold() {
        let words = words_of("'/my engine' -c {config} --admin={admin} --n {cores}").expect("a command");
        let words: Vec<_> = words.iter().map(|word| filled_in(word, &places())).collect();
        assert_eq!(words, ["/my engine", "-c", "/tmp/of it/task.yaml", "--admin=127.0.0.1:9", "--n", "2"]);
    }

    #[test]
    fn a_command_that_cannot_work_is_refused_in_words() {
        for (command, words) in [("", "empty"), ("engine", "put {config} into it"), ("'engine {config}", "not closed")]
        {
            let error = words_of(command).expect_err(command).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
