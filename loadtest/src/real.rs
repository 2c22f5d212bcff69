//! `loadtest real`: the task-engine program against real servers, as a process of its own, so that its CPU time can be
//! told from that of everything else on the machine.
//!
//! Promises the same verdict by identity as the demo, and what the engine did with a second of CPU.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use prost::Message as _;
use task_engine::proto::event::PushEvent;

use crate::clock;
use crate::demo::report;
use crate::error::{Error, Result};
use crate::gateways::{Gateway, GatewayOptions, Protocols};
use crate::publisher::{NatsPublisher, Subject};
use crate::servers::{self, Etcd, EtcdOptions, Maria, Nats, NatsOptions, Redis, RedisOptions};
use crate::verdict::{Verdict, content, member_name, session_name};
use crate::world::World;

const TOPIC: &str = "resonance.push.event.v1";
const PARTITIONS: u32 = 64;
/// How long a start, a stop, or what is under way at the end may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Events a second that the books are made for, when the rate is as fast as possible.
const FLOOD_EVENTS: u64 = 600_000;

/// Which rpc the gateways know.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Rpc {
    /// `PushMessage`.
    Stream,
    /// `PushBatch`.
    Batch,
    /// `Push`.
    Unary,
}

/// Who reads which events.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Assignment {
    /// One subject.
    Queue,
    /// A subject a partition.
    Partitioned,
}

/// What may be chosen.
#[derive(Debug, clap::Args)]
pub struct RealArgs {
    /// How long events are published.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Shards of the engine.
    #[arg(long, default_value_t = 1)]
    pub cores: u16,
    /// Events a second; 0: as fast as they are delivered.
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// With rate 0: pushes that may be under way.
    #[arg(long, default_value_t = 200_000)]
    pub in_flight: u64,
    /// Which rpc the gateways know.
    #[arg(long, value_enum, default_value_t = Rpc::Stream)]
    pub protocol: Rpc,
    /// Who reads which events.
    #[arg(long, value_enum, default_value_t = Assignment::Queue)]
    pub assignment: Assignment,
    /// Gateways.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub gateways: u32,
    /// Sessions.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: u32,
    /// Recipients of each event.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub fan_out: u32,
    /// Bytes of each message's content.
    #[arg(long, default_value_t = 128)]
    pub content_bytes: usize,
    /// Plain tonic gateways in place of the fast ones.
    #[arg(long)]
    pub plain: bool,
    /// The task-engine program; the one beside this program when left out.
    #[arg(long)]
    pub engine: Option<PathBuf>,
}

/// Runs it; true when the verdict is clean.
///
/// # Errors
/// When a part does not start.
pub fn run(args: &RealArgs) -> Result<bool> {
    let world = World { sizes: vec![args.fan_out + 1; args.sessions as usize], gateways: args.gateways };
    let events = args.seconds * if args.rate == 0 { FLOOD_EVENTS } else { args.rate };
    let messages = u32::try_from(events.div_ceil(u64::from(args.sessions)) + 1);
    let messages = messages.map_err(|_| Error::new("too many messages a session: take more sessions"))?;
    let verdict = Arc::new(Verdict::new(&world.sizes, &vec![messages; world.sizes.len()], args.gateways));
    let (nats, redis) = (Nats::start(&NatsOptions::default())?, Redis::start(&RedisOptions::default())?);
    let (maria, etcd) = (Maria::start()?, Etcd::start(&EtcdOptions::default())?);
    let gateways = start_gateways(args, &verdict)?;
    world.seed_members(&maria)?;
    world.seed_routes(&redis)?;
    world.register(&etcd, &gateways)?;
    let folder = servers::folder("real")?;
    let config = folder.path().join("task.yaml");
    let written = fs::write(&config, config_text(args, &nats, &redis, &maria, &etcd));
    written.map_err(|cause| Error::of("cannot write the engine's configuration", cause))?;
    let engine = Engine::start(args, &config)?;
    let mut load = Load::new(args, NatsPublisher::connect(&nats.addr())?, verdict.clone());

    load.warm_up()?;
    let (cpu, began, warm) = (engine.cpu()?, Instant::now(), verdict.progress().1);
    verdict.take_recent();
    load.publish(events)?;
    load.wait_for_all();
    let (cpu, took) = (engine.cpu()? - cpu, began.elapsed());
    let measured = verdict.take_recent();
    let pushed = verdict.progress().1 - warm;
    let last_words = engine.stop()?;

    let findings = verdict.findings();
    report(load.published, &findings, &verdict, took);
    println!("without the warm-up: p50 {:.3} ms  p99 {:.3} ms", ms(&measured, 0.5), ms(&measured, 0.99));
    println!(
        "engine: {cpu:.2} s of CPU in {:.2} s: {:.0} pushes a CPU-second",
        took.as_secs_f64(),
        pushed as f64 / cpu.max(0.01)
    );
    println!("{last_words}");
    Ok(findings.is_clean())
}

fn ms(histogram: &hdrhistogram::Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

fn start_gateways(args: &RealArgs, verdict: &Arc<Verdict>) -> Result<Vec<Gateway>> {
    let protocols = match args.protocol {
        Rpc::Stream => Protocols::STREAM,
        Rpc::Batch => Protocols::BATCH,
        Rpc::Unary => Protocols::UNARY,
    };
    let options = |number| GatewayOptions::new(format!("gateway-{number}"), verdict.clone()).protocols(protocols);
    let start = |number| Gateway::start(if args.plain { options(number) } else { options(number).fast() });
    (0..args.gateways).map(start).collect()
}

fn config_text(args: &RealArgs, nats: &Nats, redis: &Redis, maria: &Maria, etcd: &Etcd) -> String {
    let assignment = match args.assignment {
        Assignment::Queue => "queue",
        Assignment::Partitioned => "partitioned",
    };
    format!(
        "nats:\n  url: {}\nredis:\n  addr: {}\netcd:\n  endpoints: [\"{}\"]\n\
         mysql:\n  host: 127.0.0.1\n  port: {}\n  username: {}\n  password: {}\n  database: {}\n\
         consumer:\n  topic: {TOPIC}\n  assignment: {assignment}\n  partitions: {PARTITIONS}\n\
         engine:\n  cores: {}\n",
        nats.url(),
        redis.addr(),
        etcd.addr(),
        maria.port(),
        Maria::USER,
        Maria::PASSWORD,
        Maria::DATABASE,
        args.cores
    )
}

/// The running engine process.
struct Engine {
    child: Child,
    log: PathBuf,
}

impl Engine {
    fn start(args: &RealArgs, config: &Path) -> Result<Self> {
        let beside = std::env::current_exe().map(|program| program.with_file_name("task-engine"));
        let program = args.engine.clone().or(beside.ok()).filter(|program| program.is_file());
        let program = program.ok_or_else(|| {
            Error::new("task-engine is not beside this program: run `make loadtest`, or give --engine PATH")
        })?;
        let log = config.with_file_name("engine.log");
        let logs = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = logs.map_err(|cause| Error::of("cannot write the engine's log", cause))?;
        let admin = servers::free_ports(1)?[0];
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(["--admin", &format!("127.0.0.1:{admin}")]);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = servers::spawn_bound(command).map_err(|cause| Error::of("cannot start task-engine", cause))?;
        let mut engine = Self { child, log };
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = servers::ask(admin, b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            if answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")) {
                return Ok(engine);
            }
            let has_ended = !matches!(engine.child.try_wait(), Ok(None));
            if has_ended || Instant::now() > until {
                return Err(Error::of("task-engine does not become ready", engine.last_lines(15)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Seconds of CPU it has used, all threads, user and system.
    fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.map_err(|cause| Error::of("task-engine is gone", cause))?;
        // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
        let fields: Vec<u64> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
        let ticks = fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0);
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Asks it to end and gives its last line.
    fn stop(mut self) -> Result<String> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        told.map_err(|cause| Error::of("cannot stop task-engine", cause))?;
        let until = Instant::now() + DEADLINE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(format!("task-engine ended with {status}: {}", self.last_lines(1))),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                _ => return Err(Error::of("task-engine does not stop", self.last_lines(15))),
            }
        }
    }

    fn last_lines(&self, count: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What publishes.
struct Load<'a> {
    args: &'a RealArgs,
    publisher: NatsPublisher,
    verdict: Arc<Verdict>,
    /// Each session's name, sender and subject.
    sessions: Vec<(String, String, String)>,
    published: u32,
    payload: Vec<u8>,
}

impl<'a> Load<'a> {
    fn new(args: &'a RealArgs, publisher: NatsPublisher, verdict: Arc<Verdict>) -> Self {
        let subject = match args.assignment {
            Assignment::Queue => Subject::One(TOPIC.to_owned()),
            Assignment::Partitioned => Subject::Partitioned { topic: TOPIC.to_owned(), partitions: PARTITIONS },
        };
        let session = |number| {
            let name = session_name(number);
            let subject = subject.of(&name);
            (name, member_name(number, 0), subject)
        };
        let sessions = (0..args.sessions as usize).map(session).collect();
        Self { args, publisher, verdict, sessions, published: 0, payload: Vec::new() }
    }

    /// One event a session, so that connections are open and members and routes known.
    fn warm_up(&mut self) -> Result<()> {
        for _ in 0..self.sessions.len() {
            self.publish_one(clock::now())?;
        }
        self.publisher.sync()?;
        self.wait_for_all();
        let (expected, delivered) = self.verdict.progress();
        if expected == delivered {
            return Ok(());
        }
        Err(Error::new(format!("warm-up: {delivered} of {expected} pushes came within {DEADLINE:?}")))
    }

    /// Publishes for the chosen time, at the chosen rate or as fast as events are delivered.
    fn publish(&mut self, events: u64) -> Result<()> {
        let start = clock::now();
        let end = start + self.args.seconds * 1_000_000_000;
        for event in 0..events {
            let intended = match (event * 1_000_000_000).checked_div(self.args.rate) {
                Some(after) => {
                    self.wait_until(start + after)?;
                    start + after
                }
                None => {
                    self.wait_for_room(end)?;
                    clock::now()
                }
            };
            if intended >= end {
                break;
            }
            self.publish_one(intended)?;
        }
        self.publisher.sync()
    }

    fn wait_until(&mut self, instant: u64) -> Result<()> {
        let wait = instant.saturating_sub(clock::now());
        if wait > 0 {
            self.publisher.flush()?;
            std::thread::sleep(Duration::from_nanos(wait));
        }
        Ok(())
    }

    fn wait_for_room(&mut self, end: u64) -> Result<()> {
        let mut has_flushed = false;
        loop {
            let (expected, delivered) = self.verdict.progress();
            if expected - delivered < self.args.in_flight || clock::now() >= end {
                return Ok(());
            }
            if !has_flushed {
                self.publisher.flush()?;
                has_flushed = true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn publish_one(&mut self, intended: u64) -> Result<()> {
        let session = self.published as usize % self.sessions.len();
        let number = self.verdict.sending(session);
        self.published += 1;
        let (name, sender, subject) = &self.sessions[session];
        let event = PushEvent {
            msg_id: i64::from(self.published),
            seq_id: i64::from(number) + 1,
            session_id: name.clone(),
            from_username: sender.clone(),
            content: content(number, intended, self.args.content_bytes),
            r#type: "text".to_owned(),
            ..PushEvent::default()
        };
        self.payload.clear();
        event.encode(&mut self.payload).map_err(|cause| Error::of("cannot encode an event", cause))?;
        self.publisher.publish(subject, &self.payload)
    }

    fn wait_for_all(&self) {
        let until = Instant::now() + DEADLINE;
        loop {
            let (expected, delivered) = self.verdict.progress();
            if expected == delivered || Instant::now() > until {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
