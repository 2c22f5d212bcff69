//! What was answered stays true until the shard is told otherwise; a Redis that cannot tell is not trusted.

use task_engine::push::facts::Input;
use testkit::redis_only::{Server, Shard, connect, key, on_a_shard, run, text};

async fn changed(shard: &Shard) -> String {
    match shard.fact().await {
        Input::RouteChanged(user) => user.into(),
        other => panic!("expected a change, got {other:?}"),
    }
}

#[test]
fn each_way_to_change_a_route_is_told() {
    let server = Server::start(&["--hz", "100"]);
    let mut client = server.client("");
    connect(&mut client, "ann", "gw-1");
    on_a_shard(server.config(), async |shard| {
        shard.ask(1, ["ann", "bob"]);
        assert_eq!(text(&shard.answer(1).await.expect("an answer")), ["gw-1", "-"]);
        assert_eq!(shard.said_tracking(), [true]);

        connect(&mut client, "ann", "gw-2");
        assert_eq!(changed(&shard).await, "ann");
        connect(&mut client, "bob", "gw-2");
        assert_eq!(changed(&shard).await, "bob");
        shard.ask(2, ["ann", "bob"]);
        assert_eq!(text(&shard.answer(2).await.expect("an answer")), ["gw-2", "gw-2"]);

        run(&mut client, &["DEL", &key("bob")]);
        assert_eq!(changed(&shard).await, "bob");
        run(&mut client, &["PEXPIRE", &key("ann"), "50"]);
        assert_eq!(changed(&shard).await, "ann", "the TTL was set");
        assert_eq!(changed(&shard).await, "ann", "it ran out");
        shard.ask(3, ["ann"]);
        assert_eq!(text(&shard.answer(3).await.expect("an answer")), ["-"]);

        // Keys that are no routes are not told: the next fact is about the route.
        run(&mut client, &["SET", "resonance:session:1", "x"]);
        connect(&mut client, "汉", "gw-1");
        assert_eq!(changed(&shard).await, "汉");
        run(&mut client, &["FLUSHALL"]);
        assert!(matches!(shard.fact().await, Input::RoutesUnknown));
    });
}

#[test]
fn a_change_after_an_answer_is_told_after_it() {
    let server = Server::start(&[]);
    let mut client = server.client("");
    on_a_shard(server.config(), async |shard| {
        shard.ask(0, ["ann"]);
        shard.answer(0).await.expect("an answer");
        // The last thing told of ann is never an older gateway than Redis holds: replayed as the core would.
        let mut known = None;
        for turn in 1..=200_u64 {
            shard.ask(turn, ["ann"]);
            glommio::executor().yield_now().await;
            connect(&mut client, "ann", &format!("gw-{turn}"));
            let (mut answered, mut told) = (false, false);
            while !(answered && told) {
                match shard.fact().await {
                    Input::Routes { ask, answer } => {
                        assert_eq!(ask, turn);
                        known = Some(text(&answer.expect("an answer"))[0].to_owned());
                        answered = true;
                    }
                    Input::RouteChanged(_) => (known, told) = (None, true),
                    other => panic!("{other:?}"),
                }
            }
            assert!(known.is_none() || known == Some(format!("gw-{turn}")), "turn {turn}: {known:?} is stale");
        }
    });
}

#[test]
fn a_server_that_cannot_tell_is_not_called_tracking() {
    // As an older Redis: it does not know HELLO.
    let server = Server::start(&["--rename-command", "HELLO", ""]);
    let mut client = server.client("");
    connect(&mut client, "ann", "gw-1");
    on_a_shard(server.config(), async |shard| {
        for ask in 1..=2 {
            connect(&mut client, "ann", &format!("gw-{ask}"));
            shard.ask(ask, ["ann", "nobody"]);
            assert_eq!(text(&shard.answer(ask).await.expect("an answer")), [format!("gw-{ask}").as_str(), "-"]);
            assert!(!shard.port.is_tracking());
        }
        assert!(shard.said_tracking().is_empty(), "it was never said to track");
    });
}
