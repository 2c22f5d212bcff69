//! The looks side by side, a thread each, and the clock over them.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};

use super::{CHECK_WITHIN, WITHIN, machine};
use crate::config::{Config, Database};
use crate::edge::{etcd, gateway, mysql, nats, postgres, redis};
use crate::model::finding::{Check, Finding, Findings, Grade, Said};

/// One look: it says what it finds, in its own order.
type Look = fn(&Config, &mut Findings<'_>);

/// All that depend on nothing but themselves, each with the check that it begins with.
fn looks(config: &Config) -> [(Look, Check); 5] {
    let database: (Look, Check) = match config.database {
        Database::Mysql => (mysql::inspect::look, Check::MysqlName),
        Database::Postgres => (postgres::inspect::look, Check::PostgresName),
    };
    [
        (nats::inspect::look, Check::NatsName),
        database,
        (routes, Check::RedisName),
        (registry, Check::EtcdName),
        (machine::look, Check::MachineIoUring),
    ]
}

fn routes(config: &Config, found: &mut Findings<'_>) {
    redis::inspect::look(&redis::Config::of(config.redis.clone(), config.routes.cache), found);
}

/// Gateways are known by what etcd lists.
fn registry(config: &Config, found: &mut Findings<'_>) {
    let gateways = etcd::inspect::look(config, found);
    gateway::inspect::look(&gateways, &config.gateway.tls, found);
    machine::files(config, gateways.len(), found);
}

/// How far a look is.
struct Under {
    check: Check,
    since: Instant,
}

/// All findings, in the order of the checks.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let (tell, told) = unbounded();
    let began = Instant::now();
    let mut under = BTreeMap::new();
    let mut findings = Vec::new();
    for (at, (look, first)) in looks(config).into_iter().enumerate() {
        under.insert(at, Under { check: first, since: began });
        let (config, tell) = (config.clone(), tell.clone());
        let started = thread::Builder::new().name("doctor".to_owned()).spawn(move || say_all(at, look, &config, &tell));
        if let Err(error) = started {
            under.remove(&at);
            findings.push(never_ended(first, &format!("the machine refuses a thread: {error}")));
        }
    }
    drop(tell);
    while !under.is_empty() {
        let due = under.values().map(|under| under.since + CHECK_WITHIN).min().unwrap_or(began).min(began + WITHIN);
        match told.recv_deadline(due) {
            Ok((at, said)) => take(at, said, &mut under, &mut findings),
            Err(RecvTimeoutError::Timeout) => give_up(began, &mut under, &mut findings),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // One that panicked said nothing more.
    findings.extend(under.into_values().map(|under| never_ended(under.check, "it was not looked at")));
    findings.sort_by_key(|finding| (finding.check, std::cmp::Reverse(finding.grade)));
    findings
}

type Told = (usize, Option<Said>);

fn say_all(at: usize, look: Look, config: &Config, tell: &Sender<Told>) {
    // Whoever was given up is not heard any more.
    let mut say = |said| drop(tell.send((at, Some(said))));
    look(config, &mut Findings::new(&mut say));
    let _ = tell.send((at, None));
}

fn take(at: usize, said: Option<Said>, under: &mut BTreeMap<usize, Under>, findings: &mut Vec<Finding>) {
    let Some(look) = under.get_mut(&at) else { return };
    match said {
        None => drop(under.remove(&at)),
        Some(Said::Begins(check)) => *look = Under { check, since: Instant::now() },
        Some(Said::Found(finding)) => findings.push(finding),
    }
}

fn give_up(began: Instant, under: &mut BTreeMap<usize, Under>, findings: &mut Vec<Finding>) {
    let now = Instant::now();
    let is_over = |under: &Under| now >= under.since + CHECK_WITHIN || now >= began + WITHIN;
    let over: Vec<usize> = under.iter().filter(|(_, under)| is_over(under)).map(|(at, _)| *at).collect();
    for late in over.into_iter().filter_map(|at| under.remove(&at)) {
        let why = format!("no answer within {:.0?}, and it is not waited for any longer", now - late.since);
        findings.push(never_ended(late.check, &why));
    }
}

fn never_ended(check: Check, why: &str) -> Finding {
    let advice = "check the name server, the load of that server, and the network; what comes after this check was not looked at";
    Finding { check, grade: Grade::Fail, what: why.to_owned(), advice: advice.to_owned() }
}
