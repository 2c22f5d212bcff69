//! `loadtest demo`: the whole path in one process, on embedded stores, with real gRPC gateways over sockets.
//!
//! Promises a verdict by identity on every push, and exit code 1 when one was lost, repeated or out of order. Refuses
//! to be a benchmark: gateways, publisher and engine share the machine and the process.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use prost::Message as _;
use task_engine::Engine;
use task_engine::config::Config;
use task_engine::edge::embedded::{
    EmbeddedDeadLetters, EmbeddedInbox, EmbeddedMembers, EmbeddedRegistry, EmbeddedRoutes, EmbeddedSource, Publisher,
};
use task_engine::ports::{Endpoint, GatewayRecord, Protocols};
use task_engine::proto::event::PushEvent;

use crate::clock;
use crate::error::{Error, Result};
use crate::gateways::{Gateway, GatewayOptions};
use crate::rng::Rng;
use crate::verdict::{Findings, Verdict, content, gateway_of, member_name, session_name};

const GATEWAYS: u32 = 8;
const SINGLE_CHATS: usize = 200;
const GROUPS: usize = 20;
const GROUP_MEMBERS: u32 = 100;
const LARGE_GROUP_MEMBERS: u32 = 5_000;
const CONTENT_BYTES: usize = 128;
/// How long what is under way at the end may take.
const TAIL: Duration = Duration::from_secs(20);

/// What may be chosen.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// How long events are published.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Shards of the engine.
    #[arg(long, default_value_t = 1)]
    pub cores: u16,
    /// Events a second: of 100, one goes to the large group once in a while, 30 to groups, the rest to single chats.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub rate: u32,
}

/// Runs it; true when the verdict is clean.
///
/// # Errors
/// When a part does not start.
pub fn run(args: &DemoArgs) -> Result<bool> {
    let sizes = session_sizes();
    let events = args.rate * args.seconds;
    let plan = plan(events, sizes.len());
    let mut messages = vec![0; sizes.len()];
    plan.iter().for_each(|session| messages[*session] += 1);
    let verdict = Arc::new(Verdict::new(&sizes, &messages, GATEWAYS));
    let gateways = (0..GATEWAYS)
        .map(|number| Gateway::start(GatewayOptions::new(format!("gateway-{number}"), verdict.clone())))
        .collect::<Result<Vec<_>>>()?;
    let (engine, publisher) = start_engine(args, &sizes, &gateways)?;
    println!(
        "engine: {} shard(s), {GATEWAYS} gRPC gateways; {SINGLE_CHATS} single chats, {GROUPS} groups of {GROUP_MEMBERS}, one of {LARGE_GROUP_MEMBERS}; {} events a second for {} s",
        args.cores, args.rate, args.seconds
    );
    let began = Instant::now();
    publish(args, &plan, &publisher, &verdict)?;
    let end = Instant::now() + TAIL;
    while verdict.progress().0 != verdict.progress().1 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = began.elapsed();
    let stopped = engine.stop();
    let findings = verdict.findings();
    report(events, &findings, &verdict, took);
    println!("{stopped}");
    drop(gateways);
    Ok(findings.is_clean() && stopped.is_clean())
}

fn session_sizes() -> Vec<u32> {
    let mut sizes = vec![2; SINGLE_CHATS];
    sizes.extend(std::iter::repeat_n(GROUP_MEMBERS, GROUPS));
    sizes.push(LARGE_GROUP_MEMBERS);
    sizes
}

/// Which session each event is for: the same in every run.
fn plan(events: u32, sessions: usize) -> Vec<usize> {
    let mut rng = Rng::new(7);
    let session = |event: u32| match event % 400 {
        399 => sessions - 1,
        slot if slot % 10 < 3 => SINGLE_CHATS + rng.below(GROUPS as u64) as usize,
        _ => rng.below(SINGLE_CHATS as u64) as usize,
    };
    (0..events).map(session).collect()
}

fn start_engine(args: &DemoArgs, sizes: &[u32], gateways: &[Gateway]) -> Result<(Engine, Publisher)> {
    let (members, routes, registry) = (EmbeddedMembers::new(), EmbeddedRoutes::new(), EmbeddedRegistry::new());
    for (session, size) in sizes.iter().enumerate() {
        members.set(&session_name(session), (0..*size).map(|member| member_name(session, member)));
        for member in 0..*size {
            let gateway = gateway_of(session, member, GATEWAYS);
            routes.set(&member_name(session, member), &format!("gateway-{gateway}"));
        }
    }
    for gateway in gateways {
        registry.set(GatewayRecord {
            gateway_id: gateway.id().into(),
            endpoints: vec![Endpoint { host: "127.0.0.1".to_owned(), port: gateway.port() }],
            protocols: Protocols::parse(&gateway.protocols().announcement()),
        });
    }
    let mut config = Config::default();
    config.engine.cores = args.cores;
    config.admin.listen = ([127, 0, 0, 1], 0).into();
    let (source, publisher) = EmbeddedSource::new();
    let engine = Engine::builder(config).members(members).routes(routes).registry(registry).source(source);
    let engine = engine.inbox(EmbeddedInbox::new()).dead_letters(EmbeddedDeadLetters::new()).start();
    engine.map(|engine| (engine, publisher)).map_err(|error| Error::new(format!("the engine did not start: {error}")))
}

fn publish(args: &DemoArgs, plan: &[usize], publisher: &Publisher, verdict: &Verdict) -> Result<()> {
    let bar = ProgressBar::new(plan.len() as u64);
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} events  {msg}").map_err(|e| Error::new(e.to_string()))?;
    bar.set_style(style);
    let has_terminal = std::io::stderr().is_terminal();
    let period = 1_000_000_000 / u64::from(args.rate);
    let start = clock::now();
    let (mut shown_at, mut shown_pushes) = (Instant::now(), 0);
    for (event, session) in plan.iter().enumerate() {
        let intended = start + event as u64 * period;
        let wait = intended.saturating_sub(clock::now());
        if wait > 0 {
            std::thread::sleep(Duration::from_nanos(wait));
        }
        let number = verdict.sending(*session);
        let payload = PushEvent {
            msg_id: event as i64 + 1,
            seq_id: i64::from(number) + 1,
            session_id: session_name(*session),
            from_username: member_name(*session, 0),
            content: content(number, intended, CONTENT_BYTES),
            r#type: "text".to_owned(),
            ..PushEvent::default()
        };
        publisher.publish(payload.encode_to_vec()).map_err(|_| Error::new("the engine's source stopped".to_owned()))?;
        let every = Duration::from_millis(if has_terminal { 250 } else { 2_000 });
        if shown_at.elapsed() >= every {
            let (expected, delivered) = verdict.progress();
            let rate = (delivered - shown_pushes) as f64 / shown_at.elapsed().as_secs_f64();
            let recent = verdict.take_recent();
            let millis = |quantile| recent.value_at_quantile(quantile) as f64 / 1e6;
            let line = format!(
                "{rate:.0} pushes/s  in flight {}  p50 {:.2} ms  p99 {:.2} ms",
                expected - delivered,
                millis(0.5),
                millis(0.99)
            );
            if has_terminal {
                bar.set_position(event as u64 + 1);
                bar.set_message(line);
            } else {
                println!("{:>6}/{} events  {line}", event + 1, plan.len());
            }
            (shown_at, shown_pushes) = (Instant::now(), delivered);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

pub(crate) fn report(events: u32, findings: &Findings, verdict: &Verdict, took: Duration) {
    let latency = verdict.latency();
    println!();
    println!("  events          {events:>12}");
    println!("  pushes expected {:>12}", findings.expected);
    println!("  delivered       {:>12}", findings.delivered);
    println!("  lost            {:>12}", findings.lost);
    println!("  repeated        {:>12}", findings.repeated);
    println!("  out of order    {:>12}", findings.out_of_order);
    println!("  misdelivered    {:>12}", findings.misdelivered);
    println!("  pushes a second {:>12.0}", findings.delivered as f64 / took.as_secs_f64());
    println!();
    println!("  latency from the intended send instant to the gateway, in ms");
    let most = latency.max().max(1);
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        let value = latency.value_at_quantile(quantile);
        let bar = "#".repeat((value as f64 / most as f64 * 40.0).ceil() as usize);
        println!("  {name:>6} {:>10.3}  {bar}", value as f64 / 1e6);
    }
    println!();
    for case in &findings.cases {
        println!("  {case}");
    }
    println!("verdict: {}", if findings.is_clean() { "clean" } else { "NOT CLEAN" });
}
