//! Promise: `contrib/redis/route_add.lua` and `route_remove.lua` keep each device of a user at the gateway it was connected to last,
//! whatever the order of goodbyes; what is over goes; and the engine reads what they write.

use redis::Connection;
use serde_json::Value;
use task_engine::model::outcome::RouteFault;
use task_engine::push::facts::Input;
use testkit::redis_only::{Server, connect, key, on_a_shard, run, text};
use testkit::wait::eventually;

const ADD: &str = include_str!("../../contrib/redis/route_add.lua");
const REMOVE: &str = include_str!("../../contrib/redis/route_remove.lua");
const MINUTE: u64 = 60_000;

fn eval(client: &mut Connection, script: &str, user: &str, args: &[&str]) -> redis::RedisResult<i64> {
    redis::cmd("EVAL").arg(script).arg(1).arg(key(user)).arg(args).query(client)
}

fn add(client: &mut Connection, user: &str, device: &str, gateway: &str, ttl_ms: u64) -> i64 {
    eval(client, ADD, user, &[user, device, gateway, "10.0.0.1", &ttl_ms.to_string()]).expect("added")
}

fn remove(client: &mut Connection, user: &str, device: &str, gateway: &str) -> i64 {
    eval(client, REMOVE, user, &[device, gateway]).expect("an answer")
}

/// The newest gateway, and all of them, the newest first.
fn stored(client: &mut Connection, user: &str) -> Option<(String, Vec<String>)> {
    let text: Option<String> = redis::cmd("GET").arg(key(user)).query(client).expect("an answer");
    let route: Value = serde_json::from_str(&text?).expect("JSON");
    let words = |value: &Value| value.as_str().expect("a text").to_owned();
    Some((words(&route["gateway_id"]), route["gateways"].as_array().expect("a list").iter().map(words).collect()))
}

fn at(gateways: &[&str]) -> Option<(String, Vec<String>)> {
    Some((gateways[0].to_owned(), gateways.iter().map(|gateway| (*gateway).to_owned()).collect()))
}

#[test]
fn routes_of_several_devices() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    each_device_is_where_it_was_connected_last(&mut client);
    a_late_goodbye_changes_nothing(&mut client);
    what_is_over_goes(&mut client);
    an_older_writers_route_is_a_device_without_a_name(&mut client);
    what_is_no_route_is_replaced(&mut client);
    devices_have_a_bound(&mut client);
    on_a_shard(server.config(), async |shard| {
        shard.ask(1, ["ann", "bob"]);
        assert_eq!(text(&shard.answer(1).await.expect("an answer")), ["gw-2", "gw-9"], "the engine reads them");
    });
    the_engine_reads_all_gateways(&server);
}

fn the_engine_reads_all_gateways(server: &Server) {
    let mut client = server.client("");
    add(&mut client, "kate", "phone", "gw-1", MINUTE);
    add(&mut client, "kate", "web", "gw-2", MINUTE);
    add(&mut client, "kate", "tablet", "gw-1", MINUTE);
    on_a_shard(server.config(), async |shard| {
        shard.ask(1, ["kate", "ida", "hans"]);
        let routes = shard.answer(1).await.expect("an answer");
        let read = text(&routes);
        assert_eq!((&*read[0], &*read[2], routes.faults().count()), ("gw-1+gw-2", "gw-2", 0));
        assert!(read[1].starts_with("gw-39+gw-38+") && read[1].ends_with("+gw-24"), "{}", read[1]);

        remove(&mut client, "kate", "web", "gw-2");
        add(&mut client, "kate", "desk", "gw-3", MINUTE);
        let (routes, others) = shard.ask_until_answered("kate").await;
        assert_eq!(text(&routes), ["gw-3+gw-1"]);
        let is_kate = |fact: &Input| matches!(fact, Input::RouteChanged(user) if &**user == "kate");
        assert!(!others.is_empty() && others.iter().all(is_kate), "it is told that they changed: {others:?}");

        run(&mut client, &["SET", &key("lena"), r#"{"gateway_id":"gw-1","gateways":{}}"#]);
        run(&mut client, &["SET", &key("mila"), r#"{"gateway_id":"gw-1","gateways":["gw-2","gw-2"]}"#]);
        for (user, expected, fault) in
            [("lena", "gw-1", RouteFault::Empty), ("mila", "gw-1+gw-2", RouteFault::Repeated)]
        {
            let (routes, _) = shard.ask_until_answered(user).await;
            assert_eq!((text(&routes), routes.faults().collect()), (vec![expected.to_owned()], vec![(0, fault)]));
        }
    });
}

fn each_device_is_where_it_was_connected_last(client: &mut Connection) {
    assert_eq!(add(client, "ann", "phone", "gw-1", MINUTE), 1);
    assert_eq!(add(client, "ann", "web", "gw-2", MINUTE), 2);
    assert_eq!(stored(client, "ann"), at(&["gw-2", "gw-1"]));
    assert_eq!(add(client, "ann", "tablet", "gw-1", MINUTE), 2, "a second one on the same gateway");
    assert_eq!(stored(client, "ann"), at(&["gw-1", "gw-2"]));
    assert_eq!(add(client, "ann", "web", "gw-2", MINUTE), 2);
    assert_eq!(stored(client, "ann"), at(&["gw-1", "gw-2"]), "a heartbeat changes no order");
    assert_eq!(remove(client, "ann", "tablet", "gw-1"), 1);
    assert_eq!(stored(client, "ann"), at(&["gw-2", "gw-1"]));
    assert_eq!(add(client, "ann", "phone", "gw-3", MINUTE), 2, "it moved");
    assert_eq!(remove(client, "ann", "phone", "gw-3"), 1);
    assert_eq!(stored(client, "ann"), at(&["gw-2"]));
    let left: i64 = redis::cmd("PTTL").arg(key("ann")).query(client).expect("an answer");
    assert!((1..=MINUTE as i64).contains(&left), "{left}");
}

fn a_late_goodbye_changes_nothing(client: &mut Connection) {
    add(client, "bob", "phone", "gw-1", MINUTE);
    add(client, "bob", "phone", "gw-9", MINUTE);
    assert_eq!(remove(client, "bob", "phone", "gw-1"), 0, "it is elsewhere by now");
    assert_eq!(remove(client, "bob", "web", "gw-9"), 0, "another device");
    assert_eq!(stored(client, "bob"), at(&["gw-9"]));
    assert_eq!(remove(client, "nobody", "phone", "gw-1"), 0);
    add(client, "cleo", "phone", "gw-1", MINUTE);
    assert_eq!(remove(client, "cleo", "phone", "gw-1"), 1);
    assert_eq!(stored(client, "cleo"), None, "with the last one the route");
}

fn what_is_over_goes(client: &mut Connection) {
    add(client, "dora", "web", "gw-1", 100);
    add(client, "dora", "phone", "gw-2", MINUTE);
    eventually("the first device is pruned", || add(client, "dora", "phone", "gw-2", MINUTE) == 1);
    assert_eq!(stored(client, "dora"), at(&["gw-2"]));
    add(client, "dora", "web", "gw-3", 50);
    eventually("a goodbye prunes as well", || {
        remove(client, "dora", "nobody's", "gw-2");
        stored(client, "dora") == at(&["gw-2"])
    });
    add(client, "emil", "web", "gw-1", 50);
    eventually("the route itself is over", || stored(client, "emil").is_none());
}

fn an_older_writers_route_is_a_device_without_a_name(client: &mut Connection) {
    connect(client, "frida", "gw-1");
    assert_eq!(add(client, "frida", "web", "gw-2", MINUTE), 2);
    assert_eq!(stored(client, "frida"), at(&["gw-2", "gw-1"]));
    assert_eq!(add(client, "frida", "phone", "gw-1", MINUTE), 2, "it has a name now");
    assert_eq!(remove(client, "frida", "phone", "gw-1"), 1);
    assert_eq!(stored(client, "frida"), at(&["gw-2"]));
    connect(client, "gwen", "gw-1");
    assert_eq!((remove(client, "gwen", "web", "gw-2"), remove(client, "gwen", "web", "gw-1")), (0, 1));
    assert_eq!(stored(client, "gwen"), None);
}

fn what_is_no_route_is_replaced(client: &mut Connection) {
    for value in ["", "gw-1", "[]", "7", r#"{"devices":[7,{"device":"x"}]}"#, r#"{"gateway_id":{}}"#] {
        run(client, &["SET", &key("hans"), value]);
        assert_eq!(add(client, "hans", "web", "gw-2", MINUTE), 1, "{value}");
        assert_eq!(stored(client, "hans"), at(&["gw-2"]), "{value}");
    }
    run(client, &["DEL", &key("hans")]);
    run(client, &["RPUSH", &key("hans"), "gw-1"]);
    assert_eq!(remove(client, "hans", "web", "gw-1"), 0);
    assert_eq!(add(client, "hans", "web", "gw-2", MINUTE), 1);
    let refused = eval(client, ADD, "hans", &["hans", "web", "", "", "0"]);
    assert!(refused.is_err_and(|error| error.to_string().contains("ttl_ms")));
}

fn devices_have_a_bound(client: &mut Connection) {
    for device in 0..40 {
        add(client, "ida", &format!("device-{device}"), &format!("gw-{device}"), MINUTE);
    }
    let (newest, gateways) = stored(client, "ida").expect("a route");
    assert_eq!((newest.as_str(), gateways.len(), gateways[15].as_str()), ("gw-39", 16, "gw-24"));
}
