//! Promises: when registrations are lost while their gateways live (all keys deleted, one lease expired, an etcd that came
//! back empty), pushes go on at once to the last known addresses; `/readyz` says that nobody is registered and stays 200, the
//! log says it once; and a gateway that is really gone costs what an unknown one costs.

use std::time::{Duration, Instant};

use etcd_client::{Client, DeleteOptions, PutOptions};
use harness::gateways::{Gateway, Protocols};

use testkit::engine::{PATIENCE, Process, World, got};

const ROOT: &str = "/resonance/services/";

fn etcd<T>(world: &World, work: impl AsyncFnOnce(Client) -> Result<T, etcd_client::Error>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect([world.etcd.addr()], world.etcd.connect_options()).await.expect("etcd answers");
        work(client).await.expect("etcd does it")
    })
}

fn delete_all(world: &World) {
    etcd(world, async |mut client| client.delete(ROOT, Some(DeleteOptions::new().with_prefix())).await.map(drop));
}

fn value(gateway: &Gateway) -> String {
    let (id, addr) = (gateway.id(), gateway.addr());
    format!(r#"{{"id":"instance-{id}","metadata":{{"gateway_id":"{id}"}},"endpoints":["grpc://{addr}"]}}"#)
}

fn of_etcd(engine: &Process) -> (u16, String) {
    let (status, page) = engine.page("/readyz?verbose").expect("an answer");
    (status, page.lines().find(|line| line.contains("] etcd")).unwrap_or_default().to_owned())
}

fn wait_etcd(engine: &Process, line: &str) {
    testkit::engine::eventually(line, || of_etcd(engine) == (200, line.to_owned()));
}

/// Two gateways, a user at each, in one session.
fn world() -> (World, [Gateway; 2]) {
    let world = World::start();
    let gateways = ["gw-1", "gw-2"].map(|id| world.gateway(id, Protocols::STREAM));
    world.route("anna", "gw-1");
    world.route("bert", "gw-2");
    world.members("group:1", &["anna", "bert"]);
    (world, gateways)
}

fn wait_closed(gateways: &[Gateway]) {
    for gateway in gateways {
        gateway.wait("its streams are closed", PATIENCE, |gateway| gateway.open() == 0).expect("quiet and not listed");
    }
}

const NOBODY: &str = "[~] etcd: no gateway is registered";

#[test]
fn pushes_go_on_when_all_registrations_are_lost_and_when_they_are_back() {
    let (world, gateways) = world();
    let engine = world.engine(2, "");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", 1..=100);
    engine.wait_ended(100);
    wait_etcd(&engine, "[+] etcd ok");

    delete_all(&world);
    publisher.publish("group:1", "system", 101..=200);
    wait_etcd(&engine, NOBODY);
    let began = Instant::now();
    publisher.publish("group:1", "system", 201..=300);
    let metrics = engine.wait_ended(300);
    assert!(began.elapsed() < Duration::from_secs(5), "not after the delivery timeout: {:?}", began.elapsed());
    assert_eq!(metrics.recipients("delivered"), 600, "{}", metrics.numbers());

    // Quiet streams are closed; the next push opens one again.
    wait_closed(&gateways);
    let began = Instant::now();
    publisher.publish("group:1", "system", 301..=400);
    let metrics = engine.wait_ended(400);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(metrics.recipients("delivered"), 800, "{}", metrics.numbers());

    gateways.iter().for_each(|gateway| world.register(gateway.id(), &value(gateway)));
    wait_etcd(&engine, "[+] etcd ok");
    publisher.publish("group:1", "system", 401..=500);
    let metrics = engine.wait_ended(500);
    assert_eq!(metrics.recipients("delivered"), 1000, "{}", metrics.numbers());
    let all = (1..=500).collect::<Vec<i64>>();
    let records = world.log.records();
    assert_eq!((got(&records, "group:1", "anna"), got(&records, "group:1", "bert")), (all.clone(), all));
    let output = engine.stop_clean();
    let said = |what: &str| output.lines().filter(|line| line.contains(what)).count();
    assert_eq!((said("no gateway is registered"), said("gateways are registered again")), (1, 1), "{output}");
}

#[test]
fn a_lease_that_expires_costs_nobody_anything_while_its_gateway_lives() {
    let (world, gateways) = world();
    let key = format!("{ROOT}gateway-service/gw-1");
    let text = value(&gateways[0]);
    etcd(&world, async |mut client| {
        let lease = client.lease_grant(2, None).await?.id();
        client.put(key, text, Some(PutOptions::new().with_lease(lease))).await.map(drop)
    });
    let engine = world.engine(1, "");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", [1]);
    engine.wait_ended(1);
    engine.wait_metrics("the lease has expired", |metrics| metrics.of("gateways_listed", "") == 1);
    wait_etcd(&engine, "[+] etcd ok");
    // Its stream was quiet, so it is closed; the address is good all the same.
    wait_closed(&gateways[..1]);
    let began = Instant::now();
    publisher.publish("group:1", "system", 2..=50);
    let metrics = engine.wait_ended(50);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(metrics.recipients("delivered"), 100, "{}", metrics.numbers());
    engine.stop_clean();
}

#[test]
fn a_gateway_that_is_really_gone_costs_what_an_unknown_one_costs() {
    let (world, [gone, _stays]) = world();
    let engine = world.engine(1, "gateway:\n  delivery_timeout: 1s\n");
    let publisher = world.publisher();
    publisher.publish("group:1", "system", [1]);
    engine.wait_ended(1);
    delete_all(&world);
    wait_etcd(&engine, NOBODY);
    gone.kill();
    publisher.publish("group:1", "system", [2]);
    let metrics = engine.wait_ended(2);
    assert_eq!((metrics.unreached("timed_out"), metrics.recipients("stored")), (1, 1), "{}", metrics.numbers());
    assert_eq!(metrics.recipients("delivered"), 3, "{}", metrics.numbers());
    engine.stop_clean();
}

#[test]
fn an_address_is_not_used_past_its_time_and_nobody_at_the_start_is_said_as_well() {
    let (world, gateways) = world();
    delete_all(&world);
    let engine = world.engine(1, "registry:\n  forget_after: 500ms\ngateway:\n  delivery_timeout: 1s\n");
    wait_etcd(&engine, NOBODY);
    assert!(engine.output().contains("no gateway is registered"), "{}", engine.output());
    gateways.iter().for_each(|gateway| world.register(gateway.id(), &value(gateway)));
    let publisher = world.publisher();
    publisher.publish("group:1", "system", [1]);
    assert_eq!(engine.wait_ended(1).recipients("delivered"), 2);
    delete_all(&world);
    wait_closed(&gateways);
    publisher.publish("group:1", "system", [2]);
    let metrics = engine.wait_ended(2);
    assert_eq!(metrics.unreached("timed_out"), 2, "{}", metrics.numbers());
    assert!(world.log.wait_for(2, PATIENCE).is_ok());
    engine.stop_clean();
}

#[test]
fn what_of_a_registration_is_not_used_is_counted_and_said_without_a_password() {
    let (world, _gateways) = world();
    let password = testkit::engine::SECRETS[0];
    let bad = [
        format!("grpc://user:{password}@h:1"),
        format!("user:{password}@h"),
        format!("grpcs://u:{password}@h:1"),
        format!("grpc://u:{password}@h:1?isSecure=true"),
        format!("u:{password}://x@h:1?isSecure=true"),
        format!("u:{password}@h:{password}"),
    ];
    let bad = bad.map(|endpoint| format!("{endpoint:?}")).join(",");
    world.register("bad", &format!(r#"{{"id":"bad","endpoints":[{bad}]}}"#));
    let many = (1..=40).map(|port| format!(r#""http://h:{port}""#)).collect::<Vec<_>>().join(",");
    world.register("many", &format!(r#"{{"id":"many","endpoints":[{many}]}}"#));
    let engine = world.engine(1, "");
    let count = |reason: &'static str| {
        move |metrics: &testkit::engine::Metrics| {
            metrics.of("registry_bad_entries_total", &format!("reason=\"{reason}\""))
        }
    };
    let metrics = engine.wait_metrics("both are counted", |metrics| {
        count("registry_too_many_endpoints")(metrics) == 1 && count("registry_bad_endpoint")(metrics) == 6
    });
    assert_eq!(metrics.of("gateways_listed", ""), 3, "{}", metrics.numbers());
    let output = engine.stop_clean();
    assert!(output.contains("registry_bad_endpoint") && output.contains("24 are left out"), "{output}");
}

#[test]
fn the_older_of_two_records_of_one_id_is_used_while_the_newer_one_is_dead() {
    let (world, [gateway, _other]) = world();
    let engine = world.engine(1, "");
    let publisher = world.publisher();
    let dead = testkit::mysql_etcd::free_port();
    world.register(
        "z-newer",
        &format!(r#"{{"id":"z","metadata":{{"gateway_id":"gw-1"}},"endpoints":["grpc://127.0.0.1:{dead}"]}}"#),
    );
    wait_etcd(&engine, "[~] etcd: several records with different addresses claim gateway id gw-1");
    let began = Instant::now();
    publisher.publish("group:1", "system", 1..=50);
    let metrics = engine.wait_ended(50);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((metrics.recipients("delivered"), gateway.pushes()), (100, 50), "{}", metrics.numbers());
    assert_eq!(metrics.of("registry_bad_entries_total", "reason=\"registry_same_id\""), 1);
    etcd(&world, async |mut client| client.delete(format!("{ROOT}gateway-service/z-newer"), None).await.map(drop));
    wait_etcd(&engine, "[+] etcd ok");
    publisher.publish("group:1", "system", 51..=60);
    engine.wait_ended(60);
    let output = engine.stop_clean();
    assert!(output.contains("gateway id gw-1 is claimed by"), "{output}");
}
