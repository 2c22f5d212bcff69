//! How a scenario's gateways are pushed to: by which rpc, and how many of them a user has.

use harness::error::Result;
use harness::gateways::{Gateway, Protocols};
use harness::workload::Workload;

use super::scenario::Act;
use crate::trial::{self, Rpc};

/// What may be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct Way {
    /// Which rpc the gateways know. With `group` the sessions are so large that lists of users are worth it.
    #[arg(long, value_enum, default_value_t = Rpc::Stream, conflicts_with = "instances")]
    pub protocol: Rpc,
    /// Gateways that a user is connected to in the mean.
    #[arg(long, default_value_t = 1.0, value_name = "MEAN", conflicts_with = "instances")]
    pub devices: f64,
    /// Each gateway forgets a list of its stream before one in so many frames (with `--protocol group`; a gateway that is killed as a
    /// process does not).
    #[arg(long, default_value_t = 0, value_name = "FRAMES", conflicts_with = "instances")]
    pub forget_groups: u64,
}

impl Way {
    /// The load of a scenario.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn workload(&self, act: Act) -> Result<Workload> {
        let text = if self.protocol == Rpc::Group { include_str!("lists.toml") } else { include_str!("workload.toml") };
        let mut workload = Workload::parse("faults", text)?;
        workload.devices = self.devices;
        if act == Act::Churn {
            workload.moves_per_second = 50;
        }
        workload.check()?;
        Ok(workload)
    }

    /// What gateways are started with.
    pub fn protocols(&self) -> Protocols {
        self.protocol.protocols()
    }

    /// Tells gateways to forget, where they do.
    pub fn forget(&self, gateways: &[Gateway]) {
        gateways.iter().for_each(|gateway| gateway.forget_groups(self.forget_groups));
    }

    /// Why a row proves nothing of lists: none was said, or none forgotten.
    pub fn unproven(&self, [said, unknown]: [u64; 2]) -> Option<String> {
        let is_proven = self.protocol != Rpc::Group || (said > 0 && (self.forget_groups == 0 || unknown > 0));
        (!is_proven)
            .then(|| format!("{said} lists of users were said, and {unknown} not known: this proves nothing of them"))
    }

    /// The name of a scenario that is played so.
    pub fn name(&self, scenario: &str) -> String {
        let mut words = Vec::new();
        if self.protocol != Rpc::Stream {
            words.push(trial::word(&self.protocol));
        }
        if self.devices > 1.0 {
            words.push(format!("{} gateways a user", self.devices));
        }
        if self.forget_groups > 0 {
            words.push(format!("one in {} frames forgets", self.forget_groups));
        }
        if words.is_empty() { scenario.to_owned() } else { format!("{scenario} ({})", words.join(", ")) }
    }
}
