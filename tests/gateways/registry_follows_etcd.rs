//! Promise: gateways that register, move and leave are told to their shards; a bad value is counted by its reason and
//! disturbs no other; of two instances of one gateway the one written last speaks.

use task_engine::ports::registry::RegistryFault;
use task_engine::ports::{Health, Protocol};

use crate::registry::{Followed, PREFIX, settings, value};
use testkit::mysql_etcd::{Etcd, eventually};

#[test]
fn gateways_come_move_and_leave() {
    let etcd = Etcd::start();
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    etcd.put("/resonance/services/gateway-service-2/x", &value("other-service", 1));
    let mut followed = Followed::start(settings(&[&etcd.endpoint()]));
    assert_eq!(followed.next(), "g1@1001");
    eventually("ready", || followed.sink.health() == Health::Ready);

    etcd.put(&format!("{PREFIX}i2"), &value("g2", 1002));
    assert_eq!(followed.next(), "g2@1002");
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1011));
    assert_eq!(followed.next(), "g1@1011");
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1011));
    etcd.delete(&format!("{PREFIX}i2"));
    assert_eq!(followed.next(), "-g2");

    etcd.put(&format!("{PREFIX}i1b"), &value("g1", 1012));
    assert_eq!(followed.next(), "g1@1012");
    etcd.delete(&format!("{PREFIX}i1b"));
    assert_eq!(followed.next(), "g1@1011");

    etcd.put(
        &format!("{PREFIX}i3"),
        r#"{"id":"x","metadata":{"gateway_id":"g3","push_protocols":"batch","weight":10},"endpoints":["grpc://h:7"]}"#,
    );
    assert_eq!(followed.next(), "g3@7");
    let record = followed.directory.get("g3").expect("g3 is listed");
    assert_eq!(record.protocols.best(), Some(Protocol::Batch));
    assert_eq!(followed.directory.len(), 2);
}

#[test]
fn bad_values_are_counted_and_disturb_nobody() {
    let etcd = Etcd::start();
    for (name, text) in [
        ("a", "not json"),
        ("b", r#"{"endpoints":["grpc://h:1"]}"#),
        ("c", r#"{"id":"c"}"#),
        ("d", r#"{"id":"d","endpoints":["grpc://nowhere"]}"#),
        ("e", r#"{"id":"e","endpoints":["grpc://nowhere","grpc://h:5"]}"#),
    ] {
        etcd.put(&format!("{PREFIX}{name}"), text);
    }
    etcd.put(&format!("{PREFIX}z"), &value("good", 9));
    let mut followed = Followed::start(settings(&[&etcd.endpoint()]));
    let mut seen = [followed.next(), followed.next()];
    seen.sort();
    assert_eq!(seen, ["e@5", "good@9"]);
    let counts = || RegistryFault::ALL.map(|fault| followed.sink.bad_entries(fault));
    assert_eq!(counts(), [1, 1, 1, 2, 0, 0, 0, 0, 0]);

    etcd.put(&format!("{PREFIX}a"), "still not json");
    eventually("the watch counts too", || counts() == [2, 1, 1, 2, 0, 0, 0, 0, 0]);
    etcd.put(&format!("{PREFIX}a"), &value("mended", 10));
    assert_eq!(followed.next(), "mended@10");
}

#[test]
fn more_gateways_than_one_page_are_listed() {
    let etcd = Etcd::start();
    etcd.run(|client| async move {
        for number in 0..2100 {
            client.kv_client().put(format!("{PREFIX}{number}"), value(&format!("g{number}"), 1), None).await?;
        }
        Ok(())
    });
    let followed = Followed::start(settings(&[&etcd.endpoint()]));
    eventually("all are known", || followed.directory.len() == 2100);
}
