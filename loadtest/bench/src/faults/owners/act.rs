//! What is done to the parts, and undone.
//!
//! Promises that a fault is over when [`act`] returns, and that what did not come as it must is told in words. Refuses to touch
//! anything outside this process's children.

mod comings;
mod foreign;
mod hangs;
mod stores;

use std::time::{Duration, Instant};

use harness::error::Result;

use super::scenario::Act;
use super::stage::Stage;

/// Who is hurt, where one is.
const HURT: usize = 1;
/// How often something is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What did not come as it must.
pub(super) type Wrongs = Vec<String>;

/// Does it, waits, undoes it; gives what did not come as it must.
///
/// # Errors
/// When a part does not come back.
pub(super) fn act(stage: &mut Stage, act: Act) -> Result<Wrongs> {
    match act {
        Act::Nothing => {
            std::thread::sleep(Duration::from_secs(5));
            Ok(Vec::new())
        }
        Act::Stop => comings::stop(stage),
        Act::Rolling => comings::rolling(stage),
        Act::Scale => comings::scale(stage),
        Act::Drain => comings::drain(stage),
        Act::Kill => comings::kill(stage, HURT),
        Act::KillPlanner => comings::kill(stage, 0),
        Act::KillTaker => comings::kill_taker(stage),
        Act::KillAndStart => comings::kill_and_start(stage),
        Act::Pause(seconds) => comings::pause(stage, Duration::from_secs(seconds.into())),
        Act::PauseUntilTaken => comings::pause_until_taken(stage),
        Act::HangShard => hangs::shard(stage),
        Act::PauseBesideGateway => hangs::owner_beside_gateway(stage),
        Act::EtcdKill => stores::etcd_kill(stage),
        Act::EtcdHang => stores::etcd_hang(stage),
        Act::EtcdEmptied => stores::etcd_emptied(stage),
        Act::EtcdRestored => stores::etcd_restored(stage),
        Act::Revoke => stores::revoke(stage),
        Act::StopWithoutEtcd => stores::stop_without_etcd(stage),
        Act::NatsKill => stores::nats_kill(stage),
        Act::Cut(links, ends) => stores::cut(stage, links, ends),
        Act::Namesake => foreign::namesake(stage),
        Act::Layout => foreign::layout(stage),
        Act::UnknownPlan => foreign::unknown_plan(stage),
        Act::UnknownRecord => foreign::unknown_record(stage),
        Act::ConsumersDeleted => foreign::consumers_deleted(stage),
        Act::ConsumersMade => foreign::consumers_made(stage),
        Act::NoneBeside => foreign::none_beside(stage),
    }
}

impl Stage {
    /// All but one of those that run.
    fn others(&self, than: usize) -> Vec<usize> {
        self.fleet.running().into_iter().filter(|at| *at != than).collect()
    }

    /// All instances that should run.
    fn all(&self) -> Vec<usize> {
        (0..self.fleet.len() - 1).collect()
    }

    /// The place for one more.
    fn spare(&self) -> usize {
        self.fleet.len() - 1
    }

    /// Waits until an instance has said this in its log; else that is wrong.
    fn must_say(&mut self, at: usize, words: &str, within: Duration) -> Result<Wrongs> {
        let until = Instant::now() + within;
        loop {
            let said = self.fleet.process(at)?.last_lines(500);
            if said.contains(words) {
                return Ok(Vec::new());
            }
            if Instant::now() > until {
                let last = said.lines().last().unwrap_or_default();
                return Ok(vec![format!("{} did not say `{words}`, but: {last}", self.fleet.name(at))]);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until one has ended by itself with this code and these words; what comes of it may be repeated meanwhile.
    fn must_end(&mut self, at: usize, code: i32, words: &str) -> Result<Wrongs> {
        let stopped = self.fleet.wait(at, Duration::from_secs(20))?;
        let is_right = stopped.code == Some(code) && stopped.last_words.contains(words);
        let wrong =
            format!("{} should end with code {code} and say `{words}`: {}", self.fleet.name(at), stopped.last_words);
        Ok(if is_right { Vec::new() } else { vec![wrong] })
    }
}
