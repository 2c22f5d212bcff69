//! Routes, per recipient: one MGET's reply from RESP bytes to the list of routes that the core takes, JSON values and
//! all, with so many keys; `offline` is a reply of nothing but nulls.
//!
//! Not in it: the socket (its copy into the buffer is), Redis, and what the core does with the list.

mod support;

use std::fmt::Write;

use support::facts::{gateway_name, user_name};
use task_engine::edge::redis::bench_surface::ReplyParser;
use task_engine::model::ids::ShardId;
use task_engine::model::names::Route;
use task_engine::ports::RouteQueue;
use task_engine::ports::mailbox::LocalFacts;
use task_engine::push::facts::Input;

fn main() {
    support::run("routes", |cases| {
        for keys in [1, 10, 100, 512] {
            reply(cases, &format!("mget-{keys}"), keys, false);
        }
        reply(cases, "mget-512/offline", 512, true);
    });
}

fn reply(cases: &mut support::Cases, name: &str, keys: usize, is_offline: bool) {
    let local = LocalFacts::default();
    let mut parser = ReplyParser::new(RouteQueue::new(ShardId(0), local.clone()));
    let bytes = reply_bytes(keys, is_offline);
    let mut facts = Vec::new();
    cases.case(name, keys as u64, |clock| {
        parser.expect(7, keys as u64);
        assert!(clock.time(|| parser.read(bytes.as_bytes())), "a reply");
        local.take_all(&mut facts);
        let [Input::Routes { ask: 7, answer: Ok(routes) }] = &facts[..] else { panic!("one answer: {facts:?}") };
        assert_eq!(routes.len(), keys);
        let is_right = |route| if is_offline { route == Route::Offline } else { matches!(route, Route::Gateway(_)) };
        assert!(is_right(routes.iter().last().expect("a route")));
        facts.clear();
    });
}

/// What Redis says: each value as the gateways write it.
fn reply_bytes(keys: usize, is_offline: bool) -> String {
    let mut reply = format!("*{keys}\r\n");
    for user in 0..keys {
        let value = format!(
            r#"{{"username":"{}","gateway_id":"{}","remote_ip":"203.0.113.7:51234","timestamp":1700000000}}"#,
            user_name(user),
            gateway_name(user % 64)
        );
        let written =
            if is_offline { write!(reply, "_\r\n") } else { write!(reply, "${}\r\n{value}\r\n", value.len()) };
        written.expect("a string takes all");
    }
    reply
}
