//! A hop over the mesh, per bundle (it costs the same whatever its recipients). `hop`: a turn's bundles sent and received by one
//! thread, so only the instructions and the memory of the lane. `there-and-back`: sent to a second thread and sent back
//! by it, so the cores pass the lane's memory between them; two hops.
//!
//! Not in it: waking a shard that sleeps. `there-and-back` means little on a machine whose two cores are busy.

mod support;

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use support::facts::{bundle, group};
use task_engine::model::ids::{Nanos, ShardId};
use task_engine::push::facts::Input;
use task_engine::shard::mesh::{MeshEnd, MeshMessage, mesh};

fn main() {
    support::run("mesh (per bundle)", |cases| {
        for bundles in [1, 64, 1024] {
            let mut ends = mesh(&[Arc::default(), Arc::default()]);
            let mut received = Vec::with_capacity(bundles);
            cases.case(format!("hop/turn-of-{bundles}"), bundles as u64, |clock| {
                let messages = messages(bundles);
                clock.time(|| {
                    send(&mut ends[0], ShardId(1), messages);
                    ends[1].receive(usize::MAX, |fact| received.push(fact))
                });
                assert_eq!(received.len(), bundles);
                received.clear();
            });
        }
        for bundles in [1, 64, 1024] {
            there_and_back(cases, bundles);
        }
    });
}

fn there_and_back(cases: &mut support::Cases, bundles: usize) {
    let [mut near, mut far]: [MeshEnd; 2] =
        mesh(&[Arc::default(), Arc::default()]).try_into().unwrap_or_else(|_| panic!("two ends"));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let mut back = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                if far.receive(usize::MAX, |fact| back.push(fact)) == 0 {
                    wait();
                }
                send(&mut far, ShardId(0), back.drain(..).map(message_of));
            }
        });
        let mut received = Vec::with_capacity(bundles);
        cases.case(format!("there-and-back/turn-of-{bundles}"), bundles as u64, |clock| {
            let messages = messages(bundles);
            clock.time(|| {
                send(&mut near, ShardId(1), messages);
                while received.len() < bundles {
                    if near.receive(usize::MAX, |fact| received.push(fact)) == 0 {
                        wait();
                    }
                }
            });
            received.clear();
        });
    });
}

/// Lets the second thread go, also when the first one panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A moment; the other thread may need this core.
fn wait() {
    spin_loop();
    std::thread::yield_now();
}

fn send(end: &mut MeshEnd, to: ShardId, messages: impl IntoIterator<Item = MeshMessage>) {
    messages.into_iter().for_each(|message| end.send(to, message));
    end.flush();
}

fn messages(bundles: usize) -> Vec<MeshMessage> {
    let (group, message) = (group(10), Bytes::from_static(&[7; 200]));
    (0..bundles as i64).map(|msg_id| MeshMessage::Bundle(bundle(&group, msg_id, &message, Nanos(1)))).collect()
}

fn message_of(fact: Input) -> MeshMessage {
    match fact {
        Input::Bundle(bundle) => MeshMessage::Bundle(bundle),
        other => panic!("only bundles were sent: {other:?}"),
    }
}
