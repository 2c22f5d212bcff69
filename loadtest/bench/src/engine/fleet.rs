//! Engines beside each other: processes of one build, each with its own name, folder, configuration and admin port.
//!
//! Promises that what an instance used and counted is kept when it ends, and that one that ends without being told to is an
//! error with its last lines. Refuses to know why instances come and go: that is the caller's.

mod steps;
mod tally;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::error::{Error, Result};
use harness::pages::{self, Page};
use harness::servers::{EngineConfig, free_ports};
use rustix::process::Signal;

pub use self::steps::{Change, Step, Steps, parse as parse_steps};
pub use self::tally::{Tally, moved_in};
use super::{DEADLINE, Places, Process, Ready, Stages, Stopped};
use crate::cost::Cpu;
use crate::result::{InstanceFigures, StepFigures};

/// How often all pages are read while partitions move: each page costs its engine half a millisecond, and that must not show in what the
/// move is judged by.
const SHARED_EVERY: Duration = Duration::from_millis(100);

/// How an instance becomes one of a fleet.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The command line of each.
    pub command: String,
    /// Shards of each.
    pub cores: u16,
    /// How long one may take to become ready, and all partitions to have an owner.
    pub patience: Duration,
    /// Partitions that have owners; none where each reads all.
    pub partitions: Option<u32>,
}

/// One place of a fleet: an instance that runs, or ran, or may run.
pub struct Seat {
    name: String,
    config: PathBuf,
    keys: EngineConfig,
    admin_port: u16,
    process: Option<Process>,
    /// Of its processes that have ended.
    past: Tally,
}

/// See the module.
pub struct Fleet {
    options: FleetOptions,
    seats: Vec<Seat>,
    steps: Steps,
    /// How those ended that did not end as they should.
    unclean: Vec<String>,
}

impl Fleet {
    /// Writes the configuration of each into a folder of its own below `folder`; nothing runs yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(options: FleetOptions, folder: &Path, configs: Vec<EngineConfig>) -> Result<Self> {
        let ports = free_ports(configs.len())?;
        let seat = |(at, (mut config, admin_port)): (usize, (EngineConfig, u16))| {
            let name = format!("engine-{}", at + 1);
            let folder = folder.join(&name);
            std::fs::create_dir_all(&folder).map_err(|cause| Error::of("cannot make an engine's folder", cause))?;
            config.set("engine", "instance", &name).set("admin", "listen", format_args!("127.0.0.1:{admin_port}"));
            let letters = folder.join("dead-letters.jsonl");
            config.set("dead_letters", "path", format_args!("\"{}\"", letters.display()));
            let path = folder.join("task.yaml");
            config.write(&path)?;
            Ok(Seat { name, config: path, keys: config, admin_port, process: None, past: Tally::default() })
        };
        let seats = configs.into_iter().zip(ports).enumerate().map(seat).collect::<Result<_>>()?;
        Ok(Self { options, seats, steps: Steps::default(), unclean: Vec::new() })
    }

    /// How many places it has.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The name of an instance.
    pub fn name(&self, at: usize) -> &str {
        &self.seats[at].name
    }

    /// The configuration of an instance.
    pub fn config(&self, at: usize) -> &Path {
        &self.seats[at].config
    }

    /// Sets keys of one that does not run: section, key and value each.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn configure(&mut self, at: usize, keys: &[(&'static str, &'static str, &str)]) -> Result<()> {
        let Seat { config, keys: all, .. } = &mut self.seats[at];
        keys.iter().for_each(|(section, key, value)| _ = all.set(section, key, value));
        all.write(config)
    }

    /// The process of an instance.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self, at: usize) -> Result<&mut Process> {
        let Seat { name, process, .. } = &mut self.seats[at];
        process.as_mut().ok_or_else(|| Error::new(format!("{name} does not run")))
    }

    /// Which run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|at| self.seats[*at].process.is_some()).collect()
    }

    /// Starts one and does not wait.
    ///
    /// # Errors
    /// When it runs already, or cannot be started.
    pub fn spawn(&mut self, at: usize) -> Result<()> {
        if self.seats[at].process.is_some() {
            return Err(Error::new(format!("{} runs already", self.seats[at].name)));
        }
        let process = Process::spawn(&self.options.command, &self.places(at))?;
        self.seats[at].process = Some(process);
        Ok(())
    }

    /// Starts these, one beside the other, and waits until each is ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn start(&mut self, which: &[usize]) -> Result<()> {
        which.iter().try_for_each(|at| self.spawn(*at))?;
        for at in which {
            let mut process = self.seats[*at].process.take();
            let is_ready = process.as_mut().map_or(Ok(()), |process| process.wait_until_ready(&self.places(*at)));
            self.seats[*at].process = process;
            is_ready?;
        }
        Ok(())
    }

    fn places(&self, at: usize) -> Places<'_> {
        let seat = &self.seats[at];
        Places {
            config: &seat.config,
            admin_port: seat.admin_port,
            cores: self.options.cores,
            ready: Ready::Readyz,
            ready_timeout: self.options.patience,
            nats_pages: 0,
            topic: "",
            state: seat.config.parent(),
        }
    }

    /// How many partitions an instance owns; none when it does not answer.
    pub fn owned(&self, at: usize) -> Option<u32> {
        let seat = &self.seats[at];
        seat.process.as_ref()?;
        tally::owned(&pages::get(seat.admin_port, "/metrics").and_then(Page::ok)?)
    }

    /// The partitions that an instance owns.
    pub fn owns(&self, at: usize) -> Vec<u32> {
        let page = pages::get(self.seats[at].admin_port, "/metrics").and_then(Page::ok).unwrap_or_default();
        tally::owns(&page)
    }

    /// Whether these own all partitions together, each its share, one more or less.
    pub fn is_shared_by(&self, which: &[usize]) -> bool {
        let Some(partitions) = self.options.partitions else { return true };
        let least = partitions / which.len().max(1) as u32;
        let owned: Option<Vec<u32>> = which.iter().map(|at| self.owned(*at)).collect();
        owned.is_some_and(|owned| owned.iter().sum::<u32>() == partitions && owned.iter().all(|own| *own >= least))
    }

    /// Waits until these own all partitions together; gives how long that took.
    ///
    /// # Errors
    /// When they do not in time: what each owns and says.
    pub fn wait_shared(&mut self, which: &[usize]) -> Result<Duration> {
        let began = Instant::now();
        while !self.is_shared_by(which) {
            self.check()?;
            if began.elapsed() > self.options.patience {
                let says = |at: &usize| {
                    let page = pages::get(self.seats[*at].admin_port, "/readyz?verbose").map(|page| page.body);
                    let page = page.unwrap_or_else(|| "it does not answer".to_owned());
                    format!("{} owns {:?}: {page}", self.name(*at), self.owned(*at))
                };
                let says: Vec<_> = which.iter().map(says).collect();
                let waited = self.options.patience.as_secs();
                let words = format!("not all partitions have an owner after {waited} s");
                return Err(Error::of(&words, says.join("\n")));
            }
            std::thread::sleep(SHARED_EVERY);
        }
        Ok(began.elapsed())
    }

    /// SIGTERM, and waits until it has ended; one that does not end as it should is told at the end of all.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub fn stop(&mut self, at: usize) -> Result<Stopped> {
        let stopped = self.stop_any(at)?;
        self.say_unclean(at, &stopped);
        Ok(stopped)
    }

    /// The same of one that may end as it likes.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub fn stop_any(&mut self, at: usize) -> Result<Stopped> {
        self.note(at);
        let process = self.seats[at].process.take();
        process.ok_or_else(|| Error::new(format!("{} does not run", self.seats[at].name)))?.stop()
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.note(at);
        // Its value kills it.
        self.seats[at].process = None;
    }

    /// Waits until one has ended by itself.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub fn wait(&mut self, at: usize, patience: Duration) -> Result<Stopped> {
        let ended = self.process(at)?.wait(patience)?;
        let name = self.seats[at].name.clone();
        let stopped = ended.ok_or_else(|| Error::new(format!("{name} did not end in {} s", patience.as_secs())))?;
        self.seats[at].process = None;
        Ok(stopped)
    }

    /// Ends all, one beside the other.
    ///
    /// # Errors
    /// When one does not end.
    pub fn end(&mut self) -> Result<Stopped> {
        let running = self.running();
        for at in &running {
            self.note(*at);
            self.process(*at)?.send(Signal::TERM)?;
        }
        for at in running {
            let stopped = self.wait(at, DEADLINE)?;
            self.say_unclean(at, &stopped);
        }
        let is_clean = self.unclean.is_empty();
        let last_words = if is_clean { "all ended as they should".to_owned() } else { self.unclean.join("\n") };
        Ok(Stopped { last_words, is_clean, code: None })
    }

    fn say_unclean(&mut self, at: usize, stopped: &Stopped) {
        if !stopped.is_clean {
            self.unclean.push(format!("{} {}", self.seats[at].name, stopped.last_words));
        }
    }

    /// Keeps what a process used and counted: it is about to end.
    fn note(&mut self, at: usize) {
        let now = self.seats[at].now();
        self.seats[at].past.add(&now);
    }

    /// Fails when one has ended that nobody told to.
    ///
    /// # Errors
    /// See above.
    pub fn check(&mut self) -> Result<()> {
        let ending = self.steps.ending();
        let mut seats = self.seats.iter_mut().enumerate().filter(|(at, _)| !ending.contains(at));
        seats.try_for_each(|(_, seat)| seat.process.as_mut().map_or(Ok(()), Process::check))
    }

    /// CPU time that all of them used so far, ended ones included.
    pub fn cpu(&self) -> Cpu {
        let add = |sum: Cpu, seat: &Seat| {
            let own = seat.process.as_ref().and_then(|process| process.cpu().ok()).unwrap_or_default();
            sum.plus(own).plus(seat.past.cpu)
        };
        self.seats.iter().fold(Cpu::default(), add)
    }

    /// The most memory that each held so far, summed.
    pub fn peak_rss_mib(&self) -> f64 {
        let peak = |seat: &Seat| {
            let own = seat.process.as_ref().and_then(|process| process.peak_rss_mib().ok());
            own.unwrap_or_default().max(seat.past.peak_rss_mib)
        };
        self.seats.iter().map(peak).sum()
    }

    /// The stage histograms of those that run, added up.
    pub fn stages(&self) -> Stages {
        let running = self.running().into_iter().map(|at| Stages::read(self.seats[at].admin_port));
        running.reduce(Stages::plus).unwrap_or_default()
    }

    /// The sum of a counter over those that run.
    pub fn counter(&self, name: &str) -> u64 {
        self.seats.iter().filter_map(|seat| seat.process.as_ref()?.counter(name)).sum()
    }

    /// How long clean moves to those that run paused a partition: each bound in seconds with how many were not above it.
    pub fn clean_pauses(&self) -> Vec<(f64, u64)> {
        let pages = self.running().into_iter().filter_map(|at| pages::get(self.seats[at].admin_port, "/metrics")?.ok());
        pages.fold(Vec::new(), |sum, page| tally::add_buckets(sum, &page))
    }

    /// What each used and counted so far.
    pub fn tallies(&self) -> Vec<Tally> {
        self.seats.iter().map(Seat::tally).collect()
    }

    /// What each used and counted since then, and owns now.
    pub fn figures(&self, since: &[Tally]) -> Vec<InstanceFigures> {
        let figures = |(at, before): (usize, &Tally)| {
            self.seats[at].tally().since(before).figures(&self.seats[at].name, self.owned(at).unwrap_or(0))
        };
        since.iter().enumerate().map(figures).collect()
    }

    /// From now on instances come and go as planned.
    pub fn begin(&mut self, steps: &[Step]) {
        self.steps = Steps::begin(steps);
    }

    /// Does what is due; `longest` is the longest that a push took since the last call.
    ///
    /// # Errors
    /// When an instance cannot be started or told to end.
    pub fn go_on(&mut self, longest: Duration) -> Result<()> {
        let mut steps = std::mem::take(&mut self.steps);
        let done = steps.go_on(self, longest);
        self.steps = steps;
        done
    }

    /// What came of the steps.
    pub fn step_figures(&self) -> Vec<StepFigures> {
        self.steps.figures()
    }
}

impl Seat {
    fn now(&self) -> Tally {
        self.process.as_ref().map_or_else(Tally::default, |process| Tally::read(process, self.admin_port))
    }

    fn tally(&self) -> Tally {
        let mut tally = self.now();
        tally.add(&self.past);
        tally
    }
}
