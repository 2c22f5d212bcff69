use super::*;
use crate::ownership::keys::{KeyState, LeaseId};
use crate::ownership::records::{Drained, How, Nonce, Presence};

fn state(key: Key, value: String) -> KeyState {
    KeyState { key, value: Some(value.into_bytes().into()), mod_revision: 5, create_revision: 5 }
}

fn member(lease: i64, state: Presence) -> Member {
    let (admin, version) = ("10.0.0.1:9100".to_owned(), "1.2.0".to_owned());
    Member { lease, weight: 4, state, nats: true, admin, version, ..Member::default() }
}

fn look() -> Look {
    let name = |name: &str| Instance::from(name);
    let layout = Layout { partitions: 3, topic: "t".to_owned(), has_input: true, ..Layout::default() };
    let plan = Plan {
        version: 17,
        by: Nonce("push/1/f00d/4".to_owned()),
        names: vec![name("push/1"), name("push-2")],
        owners: vec![0, 0, 1, -1],
    };
    let owner = |instance: &str| Owner { instance: name(instance), epoch: 9, how: How::Clean, ..Owner::default() };
    let epoch = |epoch, generation, state| Epoch { epoch, generation, start: 7, state, ..Epoch::default() };
    let keys = vec![
        state(Key::Layout, records::write(&layout)),
        state(Key::Plan, records::write(&plan)),
        state(Key::Member(name("push/1")), records::write(&member(1, Presence::Live))),
        state(Key::Member(name("push-2")), records::write(&member(2, Presence::Leaving))),
        state(Key::Drained(name("push-2")), records::write(&Drained::default())),
        state(Key::Owner(Partition(0)), records::write(&owner("push/1"))),
        state(Key::Epoch(Partition(0)), records::write(&epoch(9, 2, State::Open))),
        state(Key::Owner(Partition(1)), records::write(&owner("push-2"))),
        state(Key::Epoch(Partition(1)), records::write(&epoch(9, 0, State::Open))),
        state(Key::Epoch(Partition(2)), records::write(&epoch(3, 1, State::Open))),
        state(Key::Epoch(Partition(3)), "{\"v\":9,\u{1b}".to_owned()),
    ];
    Look { revision: 42, keys, leases: [(LeaseId(1), Duration::from_secs(4))].into() }
}

#[test]
fn a_person_sees_owners_plan_and_instances() {
    let mut overview = Overview::of(&look());
    assert_eq!(
        overview.table(),
        "2 of 4 partitions have an owner; plan 17 by push/1

instance  owns  planned  weight  lease  state    nats  version  admin
push-2    1     1        4       -      drained  yes   1.2.0    10.0.0.1:9100
push/1    1     2        4       4 s    live     yes   1.2.0    10.0.0.1:9100

partition  state   owner   planned  epoch  generation
0          owned   push/1  push/1   9      2
1          moving  push-2  push/1   9      0
2          fenced  -       push-2   3      1
input      free    -       -        0      0
"
    );
    let consumers = overview.consumers();
    assert_eq!(consumers[0], (Partition(0), Generation(2)));
    overview.stand(vec![Some(Standing { lag: 12, unacked: 3 }), None, None, None]);
    let table = overview.table();
    assert!(table.contains("epoch  generation  lag  unacked\n"), "{table}");
    assert!(table.contains("9      2           12   3\n") && table.contains("9      0           -    -\n"), "{table}");
}

#[test]
fn what_cannot_be_read_is_said_without_control_characters() {
    let overview = Overview::of(&look());
    let [line] = overview.unreadable() else { panic!("{:?}", overview.unreadable()) };
    assert!(line.starts_with("epochs/3: it cannot be read:") && !line.contains('\u{1b}'), "{line}");
    assert_eq!(plain("a\u{1b}[2Jb\n"), "a [2Jb ");
}

#[test]
fn a_script_sees_the_same() {
    let json = Overview::of(&look()).json("/root/");
    assert_eq!((json["root"].as_str(), json["revision"].as_i64()), (Some("/root/"), Some(42)));
    assert_eq!(json["plan"]["version"], 17);
    let partitions = json["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 4);
    let states: Vec<_> = partitions.iter().map(|one| one["state"].as_str().expect("a word")).collect();
    assert_eq!(states, ["owned", "moving", "fenced", "free"]);
    assert_eq!((&partitions[0]["owner"], &partitions[2]["owner"]), (&"push/1".into(), &serde_json::Value::Null));
    assert_eq!((&partitions[0]["lag"], &partitions[3]["is_input"]), (&serde_json::Value::Null, &true.into()));
    let members = json["members"].as_array().expect("a list");
    let drained: Vec<_> = members.iter().map(|one| one["drained"].as_bool()).collect();
    assert_eq!(drained, [Some(true), Some(false)]);
    assert_eq!(members[1]["lease_seconds"], 4);
    assert_eq!(members[0]["state"], "leaving");
}

#[test]
fn who_is_left_to_take_partitions_is_known() {
    let overview = Overview::of(&look());
    let name = |name: &str| Instance::from(name);
    assert!(overview.is_member(&name("push-2")) && !overview.is_member(&name("push-3")));
    assert_eq!((overview.owned_by(&name("push/1")), overview.owned_by(&name("push-3"))), (1, 0));
    assert!(overview.has_taker_besides(&name("push-2")));
    assert!(!overview.has_taker_besides(&name("push/1")), "push-2 is drained and leaves");
}
