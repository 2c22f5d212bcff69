//! Whatever is written into the registry costs bounded memory and time, is told by a counter and a line that cannot be forged, and
//! disturbs no gateway that is well.

use std::time::Duration;

use etcd_client::{Client, Txn, TxnOp};
use testkit::engine::{Process, World};

use crate::siege::{Siege, good_gateway, judge, resident};

const PREFIX: &str = "/resonance/services/gateway-service/";
/// 65,536 gateways, known to etcd's follower and to a shard.
const GROWN_MAX: u64 = 384 << 20;
const SLOWEST_MAX: Duration = Duration::from_secs(3);
const LEAST: Duration = Duration::from_secs(2);
/// Operations of one transaction, of which etcd allows 128.
const AT_ONCE: usize = 100;

/// Writes all these entries.
fn write(world: &World, all: impl Iterator<Item = (String, Vec<u8>)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client =
            Client::connect([world.etcd.plain_addr()], world.etcd.connect_options()).await.expect("etcd answers");
        let all: Vec<_> = all.collect();
        let large = all.first().is_some_and(|(_, value)| value.len() > 4_096);
        for some in all.chunks(if large { 1 } else { AT_ONCE }) {
            let puts = some.iter().map(|(key, value)| TxnOp::put(format!("{PREFIX}{key}"), value.clone(), None));
            client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.expect("etcd writes");
        }
    });
}

fn entry(id: &str, endpoint: &str) -> Vec<u8> {
    format!(r#"{{"id":"{id}","endpoints":["{endpoint}"]}}"#).into_bytes()
}

fn bad(engine: &Process, reason: &str) -> u64 {
    engine.metrics().of("registry_bad_entries_total", reason)
}

fn told(engine: &Process, reason: &'static str, at_least: u64) -> impl FnMut() -> bool {
    move || bad(engine, reason) >= at_least
}

#[test]
fn a_bad_entry_costs_bounded_memory_and_no_other_gateway() {
    let world = World::start();
    let good = good_gateway(&world);
    let engine = world.engine(1, "");
    let mut siege = Siege::of(&world, &engine, &good);
    println!("| entries in etcd | memory | slowest push elsewhere | until they were seen |\n|---|---|---|---|");
    let mut attack = |what: &str, all: &mut dyn Iterator<Item = (String, Vec<u8>)>, reason, count| {
        let before = resident(&engine);
        write(&world, all);
        let cost = siege.watch(before, LEAST, told(&engine, reason, count));
        judge(what, cost, GROWN_MAX, SLOWEST_MAX);
    };
    // Together more than one answer may have.
    let large = |at: usize| (format!("large-{at}"), vec![b' '; 1 << 20]);
    attack("80 of 1 MiB", &mut (0..80).map(large), "registry_too_large", 80);
    let nowhere = |at: usize| (format!("nowhere-{at}"), entry(&format!("n{at}"), "grpc://not an address\\u0007:x"));
    attack("1,000 whose address is none", &mut (0..1_000).map(nowhere), "registry_bad_endpoint", 1_000);
    let forged =
        |at: usize| (format!("bad\nFORGED {at}\u{1b}[2J"), format!("no\nFORGED json {at}\u{1b}[2J").into_bytes());
    attack("100 with control characters", &mut (0..100).map(forged), "registry_not_json", 100);
    let same = |at: usize| (format!("same-{at}"), entry("same", &format!("grpc://10.0.{}.{}:1", at / 250, at % 250)));
    attack("10,000 with one id", &mut (0..10_000).map(same), "registry_same_id", 9_999);
    let deep = |at: usize| (format!("deep-{at}"), ["[".repeat(2_000), "]".repeat(2_000)].concat().into_bytes());
    attack("100 that are 2,000 deep", &mut (0..100).map(deep), "registry_not_json", 200);
    let many = |at: usize| (format!("many-{at:06}"), entry(&format!("many-{at}"), "grpc://10.9.9.9:1"));
    attack("100,000 gateways", &mut (0..100_000).map(many), "registry_too_many", 1);
    let output = engine.output();
    assert!(!output.lines().any(|line| line.starts_with("FORGED")) && !output.contains("\u{1b}[2J"), "{output}");
    // A new engine lists them all at once.
    engine.stop_clean();
    let again = world.engine(1, "");
    let mut siege = Siege::of(&world, &again, &good);
    let cost = siege.watch(resident(&again), LEAST, || true);
    judge("all of them, at a start", cost, GROWN_MAX, SLOWEST_MAX);
    again.stop_clean();
}
