//! Several engines beside each other in one trial.
//!
//! Refuses, before anything starts, what cannot work: which option is missing, in words.

use std::path::Path;
use std::time::Duration;

use harness::error::{Error, Result};
use harness::servers::EngineConfig;
use harness::workload::{SessionGroup, Workload};

use super::servers::{PARTITIONS, Servers, TOPIC, URGENT_TOPIC};
use super::{Assignment, Rpc, Setup, StoreKind, rules};
use crate::engine::fleet::{Fleet, FleetOptions, Step, parse_steps};
use crate::engine::{Engine, Places, Process, Ready, own};

/// Who reads which partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ownership {
    /// Each instance reads all.
    #[default]
    None,
    /// Each partition has one owner, by etcd.
    Etcd,
}

/// Several engines beside each other.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Several instances")]
pub struct Several {
    /// Engine processes beside each other, each with the cores of --cores; pushes, CPU and memory are summed, the verdict is
    /// over all (with --servers).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub instances: u16,
    /// Who reads which partition: etcd needs --jetstream and --assignment partitioned.
    #[arg(long, value_enum, default_value_t)]
    pub ownership: Ownership,
    /// Instances that come and go while it is measured: a list of time, word and number, such as "5s leave 2, 8s join 2, 10s
    /// kill 1". All run at the start. leave is SIGTERM; kill is SIGKILL: what the instance had not settled may be repeated, and
    /// the verdict counts that.
    #[arg(long, value_name = "LIST")]
    pub during: Option<String>,
}

impl Several {
    /// Whether there is more than one engine that has the partitions to itself.
    pub fn is_fleet(&self) -> bool {
        self.instances > 1 || self.ownership == Ownership::Etcd || self.during.is_some()
    }
}

impl Setup {
    /// Whether these options go together; `engine` as for [`Trial::start`](super::Trial::start).
    ///
    /// # Errors
    /// Which do not.
    pub(super) fn check(&self, engine: Option<&str>) -> Result<()> {
        let with_servers = self.servers || engine.is_some();
        let is_partitioned = self.assignment == Assignment::Partitioned;
        let has_owners = self.several.ownership == Ownership::Etcd;
        let several = self.several.instances > 1;
        let rules = [
            (is_partitioned && !with_servers, "--assignment partitioned needs real servers: add --servers"),
            (self.jetstream && !with_servers, "--jetstream needs real servers: add --servers"),
            (self.rows_up_to.is_some() && !with_servers, "--rows-up-to needs real servers: add --servers"),
            (
                self.notice_above.is_some() && self.protocol != Rpc::Group,
                "--notice-above needs gateways that know lists: add --protocol group",
            ),
            (self.several.is_fleet() && !with_servers, "several instances need real servers: add --servers"),
            (self.store != StoreKind::Mysql && !with_servers, "--store needs real servers: add --servers"),
            (
                self.store == StoreKind::Resonance && self.tls,
                "Resonance's YAML says sslmode: disable: use --tls with --store postgres",
            ),
            (
                has_owners && !(self.jetstream && is_partitioned),
                "--ownership etcd needs --jetstream and --assignment partitioned",
            ),
            (
                several && is_partitioned && !has_owners,
                "several instances that each read all partitions lose the order: add --ownership etcd (with --jetstream), or \
                 leave --assignment partitioned out",
            ),
            (
                self.several.is_fleet() && self.ready != Ready::Readyz,
                "several instances are told apart by their pages: leave --ready subscribed out",
            ),
        ];
        let broken = rules.into_iter().find_map(|(is_broken, words)| is_broken.then(|| Error::new(words)));
        broken.map_or(Ok(()), Err)
    }

    /// Who comes and goes while this workload is measured.
    ///
    /// # Errors
    /// What of the list cannot be.
    pub fn steps(&self, workload: &Workload) -> Result<Vec<Step>> {
        let Some(list) = &self.several.during else { return Ok(Vec::new()) };
        let steps = parse_steps(list, self.several.instances.into())?;
        let measured = Duration::from_secs(workload.seconds.into());
        match steps.iter().find(|step| step.at >= measured) {
            Some(late) => Err(Error::new(format!(
                "--during: {} s is after the end of the {} s that are measured; raise --seconds",
                late.at.as_secs_f64(),
                workload.seconds
            ))),
            None => Ok(steps),
        }
    }

    /// On which topic sessions are published all of whose messages are urgent, where these have one of their own.
    pub(super) fn urgent_topic(&self, workload: &Workload) -> Option<&'static str> {
        let has_such = self.jetstream && workload.sessions.iter().any(SessionGroup::is_all_urgent);
        (has_such && self.several.ownership == Ownership::None).then_some(URGENT_TOPIC)
    }

    /// Starts what is driven, on these servers.
    pub(super) fn start_engine(
        &self,
        command: &str,
        servers: &Servers,
        (folder, port): (&Path, u16),
        workload: &Workload,
    ) -> Result<Engine> {
        let mut keys = servers.config(self, port, folder);
        rules::put(workload, &mut keys);
        if let Some(topic) = self.urgent_topic(workload) {
            keys.set("consumer", "urgent_topic", topic);
        }
        let patience = Duration::from_secs(self.ready_timeout.into());
        if self.several.is_fleet() {
            return self.start_fleet(command, keys, folder, patience);
        }
        let config = folder.join("task.yaml");
        keys.write(&config)?;
        if self.jetstream {
            own::set_up(&config)?;
        }
        let places = Places {
            config: &config,
            admin_port: port,
            cores: self.cores,
            ready: self.ready,
            ready_timeout: patience,
            nats_pages: servers.nats_pages,
            topic: TOPIC,
            state: None,
        };
        Process::start(command, &places).map(Engine::Process)
    }

    fn start_fleet(
        &self,
        command: &str,
        mut config: EngineConfig,
        folder: &Path,
        patience: Duration,
    ) -> Result<Engine> {
        let has_owners = self.several.ownership == Ownership::Etcd;
        let options = FleetOptions {
            command: command.to_owned(),
            cores: self.cores,
            patience,
            partitions: has_owners.then_some(PARTITIONS),
        };
        if has_owners {
            config.set("consumer", "ownership", "etcd");
        }
        let mut fleet = Fleet::new(options, folder, vec![config; self.several.instances.into()])?;
        if self.jetstream {
            own::set_up(fleet.config(0))?;
        }
        let all: Vec<usize> = (0..fleet.len()).collect();
        fleet.start(&all)?;
        fleet.wait_shared(&all)?;
        Ok(Engine::Fleet(Box::new(fleet)))
    }
}
