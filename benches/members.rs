//! Members. `hit`, per event: finding the session, its list, and the sender's place in it, over so many sessions that
//! are known. `learn`, per recipient: taking a list of the store for the first time, each name new to the shard.
//!
//! Not in it: MySQL, its threads, and the hand-over of asks and answers between them and the shard.

mod support;

use std::hint::black_box;
use std::time::Duration;

use support::facts::{event, session_name, user_name};
use task_engine::model::ids::{Nanos, ShardId};
use task_engine::model::names::NameList;
use task_engine::model::priority::Said;
use task_engine::ports::DeliveryTag;
use task_engine::push::facts::{Input, Output};
use task_engine::push::inbox::InboxStore;
use task_engine::push::sessions::{MemberList, Sessions};
use task_engine::push::users::Users;
use task_engine::push::{Push, Settings};

/// Lookups of one iteration.
const LOOKUPS: u64 = 256;
/// Members of a session in `hit`.
const MEMBERS: usize = 8;

fn main() {
    support::run("members", |cases| {
        for sessions in cases.pick(&[100, 10_000, 200_000][..], &[100]) {
            let (mut all, mut users) = known(*sessions);
            let ids: Vec<_> = (0..*sessions).map(session_name).collect();
            let mut next = 0;
            cases.case(format!("hit (per event)/sessions-{sessions}"), LOOKUPS, |clock| {
                let asked: Vec<_> = (0..LOOKUPS as usize)
                    .map(|number| (next + number * 7919) % sessions)
                    .map(|session| (&ids[session], user_name(session * MEMBERS)))
                    .collect();
                next += 1;
                let found =
                    clock.time(|| asked.iter().filter(|(id, sender)| hit(&mut all, &mut users, id, sender)).count());
                assert_eq!(found, asked.len());
            });
        }
        for fan_out in cases.pick(&[1, 10, 100, 1_000, 10_000][..], &[1, 1_000]) {
            let names: NameList = (0..*fan_out).map(user_name).collect();
            cases.case(format!("learn/fan-out-{fan_out}"), *fan_out as u64, |clock| {
                let (mut push, ask) = asking();
                let answer = Ok(vec![names.clone()]);
                let mut outputs = Vec::new();
                // A turn learns so many names at the most.
                clock.time(|| {
                    push.take(Input::Members { ask, answer });
                    while push.has_more() {
                        push.flush(&mut outputs);
                    }
                });
                assert_eq!(push.kept(), (1, *fan_out));
            });
        }
    });
}

/// Sessions whose members are known.
fn known(sessions: usize) -> (Sessions, Users) {
    let (mut all, mut users) = (Sessions::default(), Users::default());
    for session in 0..sessions {
        let name = session_name(session);
        let at = all.of(name.as_bytes(), all.hash(name.as_bytes()), &mut users);
        let members = (session * MEMBERS..(session + 1) * MEMBERS).map(|user| users.name(&user_name(user))).collect();
        all.set_members(at, MemberList { users: members, fingerprint: 0, asked_at: Nanos(1) }, &mut users);
    }
    (all, users)
}

/// What a cached list costs an event: the steps of the core, which keeps them to itself.
fn hit(all: &mut Sessions, users: &mut Users, id: &str, sender: &str) -> bool {
    let id = black_box(id.as_bytes());
    let at = all.of(id, all.hash(id), users);
    let Some(list) = &all[at].members else { return false };
    let is_fresh = Nanos(2).since(list.asked_at) <= Duration::from_secs(30);
    is_fresh && users.find(sender).is_some_and(|user| list.users.binary_search(&user).is_ok())
}

/// A shard that has just asked for the members of its first session.
fn asking() -> (Push, u64) {
    let mut push = Push::new(Settings {
        shard: ShardId(0),
        shards: 1,
        events_window: usize::MAX,
        group_users_max: task_engine::model::limits::GROUP_USERS_MAX,
        members_ttl: Duration::from_secs(30),
        empty_wait: Duration::from_secs(5),
        caches_routes: true,
        delivery_timeout: Duration::from_secs(5),
        registry_forget_after: Duration::from_secs(300),
        gateway_table: task_engine::push::TableBounds::default(),
        max_retry: 3,
        retry_interval: Duration::from_secs(1),
        inbox: InboxStore::Offline,
    });
    push.set_now(Nanos(1));
    push.take(Input::Event { payload: event(0, "user-00000000", 1), tag: DeliveryTag::default(), said: Said::Nothing });
    let mut outputs = Vec::new();
    push.flush(&mut outputs);
    match outputs[..] {
        [Output::AskMembers { ask, .. }] => (push, ask),
        ref other => panic!("the members are asked for: {other:?}"),
    }
}
