//! What is done to the parts, and undone.
//!
//! Promises that a fault is over when [`act`] returns. Refuses to touch anything outside this process's children:
//! packets are dropped in a namespace of our own (see [`namespace`](super::namespace)).

use std::time::Duration;

use harness::error::{Error, Result};
use harness::servers::{self, Server};
use rustix::process::Signal;

use super::namespace::filter;
use super::scenario::{Act, Part};
use super::stage::Stage;

/// Between two cuts of a gateway's streams.
const CUT_EVERY: Duration = Duration::from_millis(300);

/// Does it, waits, undoes it.
///
/// # Errors
/// When a part does not come back.
pub(super) fn act(stage: &mut Stage, act: Act, lasts: Duration) -> Result<()> {
    match act {
        Act::Nothing | Act::Twice | Act::Poison | Act::Churn => std::thread::sleep(lasts),
        Act::Kill(part) => kill(stage, part, lasts)?,
        Act::Hang(part) => hang(stage, part, lasts)?,
        Act::KillBehind(part) => {
            servers::freeze(stage.engine()?.id())?;
            kill(stage, part, lasts)?;
            stage.engine()?.send(Signal::CONT)?;
        }
        Act::ReadOnly(_) => {
            stage.store.refuse_writes(true)?;
            std::thread::sleep(lasts);
            stage.store.refuse_writes(false)?;
        }
        Act::Restart => {
            let engine = stage.engine.take().ok_or_else(|| Error::new("the engine is not there"))?;
            let stopped = engine.stop()?;
            if !stopped.is_clean {
                return Err(Error::of("the engine did not end as it should", stopped.last_words));
            }
            stage.start_engine()?;
        }
        Act::FullDisk => {
            let disk = stage.disk.as_ref().ok_or_else(|| Error::new("there is no small disk"))?;
            disk.fill()?;
            std::thread::sleep(lasts);
            disk.make_room()?;
            // JetStream switches itself off on a full disk and stays off until the server is started again.
            stage.nats.restart()?;
        }
        Act::Partition => {
            let port = stage.gateways[0].port();
            filter(&format!(
                "table inet faults {{\n chain drop_it {{\n type filter hook input priority 0;\n tcp dport {port} drop\n tcp sport {port} drop\n }}\n}}\n"
            ))?;
            std::thread::sleep(lasts);
            filter("delete table inet faults\n")?;
        }
        Act::CutStreams => {
            for _ in 0..10 {
                std::thread::sleep(CUT_EVERY);
                stage.gateways[0].cut_streams();
            }
        }
    }
    Ok(())
}

fn kill(stage: &mut Stage, part: Part, away: Duration) -> Result<()> {
    match part {
        Part::Engine => {
            // Its value kills it; the next one starts at once, as a supervisor would start it.
            drop(stage.engine.take());
            stage.note_unsettled()?;
            return stage.start_engine();
        }
        Part::Gateway => {
            let gateway = stage.gateway_process()?;
            gateway.kill9();
            std::thread::sleep(away);
            return gateway.restart();
        }
        Part::Mysql | Part::Postgres => {
            stage.store.kill();
            std::thread::sleep(away);
            return stage.store.start_again();
        }
        Part::Nats | Part::Redis | Part::Etcd => {}
    }
    server(stage, part)?.kill9();
    std::thread::sleep(away);
    server(stage, part)?.restart()?;
    Ok(())
}

fn hang(stage: &mut Stage, part: Part, lasts: Duration) -> Result<()> {
    match part {
        Part::Engine => {
            servers::freeze(stage.engine()?.id())?;
            std::thread::sleep(lasts);
            stage.engine()?.send(Signal::CONT)?;
        }
        Part::Gateway => {
            let gateway = stage.gateway_process()?;
            gateway.stop()?;
            std::thread::sleep(lasts);
            gateway.cont()?;
        }
        Part::Mysql | Part::Postgres => {
            stage.store.freeze()?;
            std::thread::sleep(lasts);
            stage.store.thaw()?;
        }
        Part::Nats | Part::Redis | Part::Etcd => {
            server(stage, part)?.stop()?;
            std::thread::sleep(lasts);
            server(stage, part)?.cont()?;
        }
    }
    Ok(())
}

fn server(stage: &Stage, part: Part) -> Result<&Server> {
    match part {
        Part::Nats => Ok(&stage.nats),
        Part::Redis => Ok(&stage.redis),
        Part::Etcd => Ok(&stage.etcd),
        Part::Mysql | Part::Postgres | Part::Gateway | Part::Engine => Err(Error::new("no server of its own")),
    }
}
