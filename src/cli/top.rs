//! `task-engine top`: what one or several engines do now, on one screen of 80 x 24, from their own metric pages.
//!
//! Promises that an engine which does not answer delays no other, that counts of an engine which was started again are not taken for a rate,
//! and that a line is never longer than the screen is wide.

mod page;
mod sample;
mod screen;

use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use self::sample::{Overview, Sample};
use crate::cli::{admin_port, config_of, exit};
use crate::config::{self, ServerTlsConfig};

pub(super) const ABOUT: &str = "Show what one or several engines do: rates, latency by stage, gateways by backlog and state, the oldest event.

Reads the metric pages of the admin ports, again and again; with --once two of them, a second apart. Latency is that of what ended \
since the look before.";

/// More than the page of an engine with 16 shards and hundreds of gateways has.
const PAGE_BYTES_MAX: u64 = 16 << 20;
/// Between the two looks of `--once`.
const ONCE: Duration = Duration::from_secs(1);
/// For how long a figure is shown after its engine went silent.
const SILENT: Duration = Duration::from_secs(3);

/// The flags of `top`.
#[derive(Clone, Debug, Args)]
pub struct TopArgs {
    /// Admin ports: host:port, http://host:port or https://host:port [default: admin.listen].
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,
    /// YAML file whose admin section says the default, and the files for https; the environment is read as well.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Show it once, and end.
    #[arg(long)]
    pub once: bool,
    /// Print JSON, an object a look, instead of a screen.
    #[arg(long)]
    pub json: bool,
    /// How long from one look to the next: 1s, 500ms.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = every)]
    pub every: Duration,
}

fn every(text: &str) -> Result<Duration, String> {
    let time = config::span(text)?;
    if time < Duration::from_millis(100) { Err("is below 100ms".to_owned()) } else { Ok(time) }
}

/// An engine that is looked at.
#[derive(Clone, Debug)]
struct Target {
    name: String,
    address: SocketAddr,
    is_tls: bool,
}

/// Looks until it is ended, or once; gives the exit code: 0, 1 when no engine answered `--once`, 2 for wrong arguments.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(args: &TopArgs, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<u8> {
    let file = args.config.as_deref();
    let Some(config) = config_of(file, std::env::vars_os(), err)? else { return Ok(exit::CONFIG) };
    let admin = config.admin;
    let targets = match targets(&args.urls, admin_port::reachable(admin.listen), &admin.tls) {
        Ok(targets) => targets,
        Err(why) => {
            writeln!(err, "{why}")?;
            return Ok(exit::CONFIG);
        }
    };
    let every = if args.once { ONCE } else { args.every };
    let mut looks = Looks::start(&targets, every, &admin.tls)?;
    let result = looks.show(args, every, out);
    match result {
        // Whoever reads us has had enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(exit::OK),
        other => other,
    }
}

fn targets(urls: &[String], own: SocketAddr, tls: &ServerTlsConfig) -> Result<Vec<Target>, String> {
    if urls.is_empty() {
        return Ok(vec![Target { name: own.to_string(), address: own, is_tls: tls.is_written() }]);
    }
    let of = |url: &String| {
        let (is_tls, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some((scheme, _)) => return Err(format!("{url}: {scheme} is not http or https")),
            None => (tls.is_written(), url.as_str()),
        };
        let name = rest.split('/').next().unwrap_or(rest);
        let mut addresses =
            name.to_socket_addrs().map_err(|error| format!("{url} is not host:port that is found ({error})"))?;
        let address = addresses.next().ok_or_else(|| format!("{url}: the name has no address"))?;
        Ok(Target { name: name.to_owned(), address, is_tls })
    };
    urls.iter().map(of).collect()
}

/// The looks at all engines, a thread each.
struct Looks {
    overview: Overview,
    told: Receiver<(usize, Result<Sample, String>)>,
    /// Ends the threads when it is dropped.
    _stop: Sender<()>,
}

impl Looks {
    fn start(targets: &[Target], every: Duration, tls: &ServerTlsConfig) -> std::io::Result<Self> {
        let (tell, told) = unbounded();
        let (_stop, stopped) = bounded::<()>(0);
        for (at, target) in targets.iter().cloned().enumerate() {
            let (tell, stopped) = (tell.clone(), stopped.clone());
            let tls = if target.is_tls { tls.clone() } else { config::Config::default().admin.tls };
            let look = move || look_again_and_again(at, target.address, every, &tls, &tell, &stopped);
            std::thread::Builder::new().name("top".to_owned()).spawn(look)?;
        }
        let names = targets.iter().map(|target| target.name.clone()).collect();
        Ok(Self { overview: Overview::new(names), told, _stop })
    }

    fn show(&mut self, args: &TopArgs, every: Duration, out: &mut dyn Write) -> std::io::Result<u8> {
        if args.once {
            // Each engine is heard twice, or has failed.
            self.hear_until(Instant::now() + admin_port::WITHIN + ONCE, Overview::is_whole);
            self.write(args, out)?;
            return Ok(if self.overview.is_any_up() { exit::OK } else { exit::FAILED });
        }
        self.hear_until(Instant::now() + every, Overview::is_heard);
        loop {
            self.write(args, out)?;
            self.hear_until(Instant::now() + every, |_| false);
        }
    }

    fn hear_until(&mut self, until: Instant, is_enough: fn(&Overview) -> bool) {
        while !is_enough(&self.overview) {
            match self.told.recv_deadline(until) {
                Ok((at, sample)) => self.overview.take(at, sample),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, args: &TopArgs, out: &mut dyn Write) -> std::io::Result<()> {
        self.overview.forget_silent(SILENT.max(args.every * 2));
        if args.json {
            writeln!(out, "{}", self.overview.json())?;
        } else if args.once || !std::io::stdout().is_terminal() {
            write!(out, "{}", screen::text(&self.overview, screen::SIZE))?;
        } else {
            let text = screen::text(&self.overview, screen::size());
            // Over what was there, without a moment in which nothing is.
            write!(out, "\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\r\n").trim_end_matches("\r\n"))?;
        }
        out.flush()
    }
}

fn look_again_and_again(
    at: usize,
    address: SocketAddr,
    every: Duration,
    tls: &ServerTlsConfig,
    tell: &Sender<(usize, Result<Sample, String>)>,
    stopped: &Receiver<()>,
) {
    loop {
        let began = Instant::now();
        let sample = match admin_port::ask(address, "/metrics", tls, PAGE_BYTES_MAX) {
            Ok((200, page)) => Ok(Sample::of(&page, began)),
            Ok((status, _)) => Err(format!("answers {status}")),
            Err(why) => Err(why),
        };
        if tell.send((at, sample)).is_err() {
            return;
        }
        let wait = every.saturating_sub(began.elapsed());
        if stopped.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
