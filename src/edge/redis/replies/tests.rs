//! Replies as they come on the wire, and what they become.

use super::*;
use crate::model::ids::ShardId;
use crate::ports::mailbox::LocalFacts;
use crate::push::facts::Input;

fn facts(expected: Vec<Expected>, bytes: &[u8], piece: usize) -> (Result<(), Lost>, Vec<Input>, Vec<AskNo>) {
    let facts = LocalFacts::default();
    let port = RouteQueue::new(ShardId(0), facts.clone());
    let config = Config::default();
    let (mut replies, mut reader) = (Replies::new(), Reader::new());
    expected.into_iter().for_each(|what| replies.expect(Instant::now(), what));
    let mut result = Ok(());
    for piece in bytes.chunks(piece) {
        reader.room()[..piece.len()].copy_from_slice(piece);
        reader.filled(piece.len());
        result = result.and_then(|()| replies.drain(&mut reader, &config, &port));
    }
    let mut seen = Vec::new();
    facts.take_all(&mut seen);
    (result, seen, replies.unanswered().collect())
}

fn routes(ask: AskNo, users: u64) -> Expected {
    Expected::Routes { ask, users, first: None }
}

#[test]
fn answers_and_changes_keep_the_order_of_the_wire() {
    let key = |name: &str| format!("${}\r\nresonance:router:user:{name}\r\n", name.len() + 22);
    let push = |keys: &str| format!(">2\r\n$10\r\ninvalidate\r\n{keys}");
    let wire = [
        push(&format!("*1\r\n{}", key("early"))),
        "*1\r\n_\r\n".to_owned(),
        push(&format!("*2\r\n{}{}", key("ann"), key("bob"))),
        "*3\r\n$24\r\n{\"gateway_id\":\"gateway\"}\r\n_\r\n$3\r\nbad\r\n".to_owned(),
        push("_\r\n"),
        ">3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n+x\r\n%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n_\r\n".to_owned(),
        push("*1\r\n$5\r\nother\r\n"),
        "-LOADING busy\r\n".to_owned(),
        push(&format!("*1\r\n{}", key(""))),
    ]
    .concat();
    for piece in [1, 3, wire.len()] {
        let expected = vec![routes(4, 1), routes(1, 3), Expected::Plain, routes(2, 1), routes(3, 1)];
        let (result, seen, unanswered) = facts(expected, wire.as_bytes(), piece);
        assert_eq!(result, Ok(()));
        let listed: RouteList = [Route::Gateway("gateway"), Route::Offline, Route::Bad].into_iter().collect();
        let [
            Input::Routes { ask: 4, answer: Ok(_) },
            Input::RouteChanged(ann),
            Input::RouteChanged(bob),
            Input::Routes { ask: 1, answer: Ok(got) },
            Input::RoutesUnknown,
            Input::Routes { ask: 2, answer: Err(LookupError::Rejected(why)) },
            Input::RouteChanged(empty),
        ] = &seen[..]
        else {
            panic!("{seen:?}")
        };
        assert_eq!((&**ann, &**bob, got, &**empty), ("ann", "bob", &listed, ""));
        assert!(why.contains("LOADING") && why.contains("127.0.0.1:6379"), "{why}");
        assert_eq!(unanswered, [3]);
    }
}

#[test]
fn a_reply_that_does_not_fit_is_a_lost_connection() {
    for wire in ["*2\r\n_\r\n", "+OK\r\n", "*1\r\n*1\r\n", "nonsense\r\n", ">2\r\n$10\r\ninvalidate\r\n+x\r\n"] {
        for expected in [routes(9, 1), Expected::Probe { ask: 9, keys: 1 }] {
            let (result, seen, unanswered) = facts(vec![expected], wire.as_bytes(), 4);
            assert!(result.is_err() && seen.is_empty(), "{wire:?}: {seen:?}");
            assert_eq!(unanswered, [9], "{wire:?}");
        }
    }
    // An error before it changes nothing.
    let (result, seen, unanswered) = facts(vec![routes(9, 2)], b"*2\r\n-upstream failure\r\n*1\r\n", 4);
    assert!(result.is_err() && seen.is_empty() && unanswered == [9]);
    let (result, ..) = facts(vec![], b"-ERR max number of clients reached\r\n", 5);
    assert!(result.expect_err("refused").why.contains("max number of clients"), "the server's words are kept");
}

#[test]
fn an_error_in_the_place_of_a_value_concerns_that_key_only() {
    let long = format!("!20000\r\n{}\r\n", "x".repeat(20_000));
    for error in ["-upstream failure\r\n", "!16\r\nupstream failure\r\n", "-NOAUTH Authentication\r\n", &long] {
        let route = "$24\r\n{\"gateway_id\":\"gateway\"}\r\n";
        let wire = format!("*5\r\n{route}{error}$-1\r\n{error}$3\r\nbad\r\n*1\r\n{error}*1\r\n{route}");
        for piece in [1, 7, wire.len()] {
            let expected = vec![routes(1, 5), routes(2, 1), routes(3, 1), routes(4, 1)];
            let (result, seen, unanswered) = facts(expected, wire.as_bytes(), piece);
            assert_eq!((result, unanswered), (Ok(()), vec![4]), "{error}");
            let [
                Input::Routes { ask: 1, answer: Ok(some) },
                Input::Routes { ask: 2, answer: Err(LookupError::Rejected(none)) },
                Input::Routes { ask: 3, answer: Ok(one) },
            ] = &seen[..]
            else {
                panic!("{seen:?}")
            };
            let expected = [Route::Gateway("gateway"), Route::Unread, Route::Offline, Route::Unread, Route::Bad];
            assert!(some.iter().eq(expected), "{some:?}");
            assert!(one.iter().eq([Route::Gateway("gateway")]) && one.refusal().is_none());
            assert_eq!(some.refusal(), Some(&**none));
            assert!(none.starts_with("redis 127.0.0.1:6379: ") && none.contains("check that Redis"), "{none}");
        }
    }
}

#[test]
fn a_probe_whose_value_is_an_error_failed() {
    let port = RouteQueue::new(ShardId(0), LocalFacts::default());
    let (config, mut replies, mut reader) = (Config::default(), Replies::new(), Reader::new());
    let mut said = |what: Expected, wire: &[u8], sent: Instant| {
        replies.expect(sent, what);
        reader.room()[..wire.len()].copy_from_slice(wire);
        reader.filled(wire.len());
        assert_eq!(replies.drain(&mut reader, &config, &port), Ok(()));
        (replies.take_own_probe().map(|probe| probe.is_ok()), port.health() == Health::Ready)
    };
    let (refused, answered, start) = (b"*1\r\n-no upstream host\r\n", b"*1\r\n_\r\n", Instant::now());
    port.report(Health::Ready);
    assert_eq!(said(Expected::OwnProbe { keys: 1 }, answered, start), (Some(true), true));
    // One that has just answered is there, whatever it refuses; one that only refuses is not.
    assert_eq!(said(routes(1, 1), refused, start), (None, true));
    assert_eq!(said(routes(2, 1), refused, start), (None, true));
    assert_eq!(said(routes(3, 1), refused, start + LATELY), (None, false));
    assert_eq!(said(routes(4, 2), b"*2\r\n_\r\n-no upstream host\r\n", start + LATELY), (None, true));
    assert_eq!(said(Expected::OwnProbe { keys: 1 }, refused, start + 2 * LATELY), (Some(false), true));
    assert_eq!(said(Expected::OwnProbe { keys: 1 }, answered, start + 3 * LATELY), (Some(true), true));
    // Some of the servers behind a proxy are away.
    let two = Expected::OwnProbe { keys: 2 };
    assert_eq!(said(two, b"*2\r\n-no upstream host\r\n_\r\n", start + 3 * LATELY), (Some(true), true));
    let plain = said(Expected::Plain, b"-ERR no\r\n", start);
    assert_eq!(plain, (None, true), "a command of the handshake is no probe");
    // The number of keys changes only when the whole is refused.
    assert_eq!(said(Expected::OwnProbe { keys: 8 }, b"-CROSSSLOT no\r\n", start), (Some(false), true));
    assert_eq!(replies.way(), Way::Prefix);
    let mut said = |wire: &[u8]| {
        replies.expect(start, Expected::Probe { ask: 1, keys: 1 });
        reader.room()[..wire.len()].copy_from_slice(wire);
        reader.filled(wire.len());
        assert_eq!(replies.drain(&mut reader, &config, &port), Ok(()));
        replies.way()
    };
    assert_eq!([said(answered), said(refused), said(b"-ERR no\r\n")], [Way::Prefix, Way::Prefix, Way::Keys]);
}

#[test]
fn a_refusal_is_an_error_whatever_it_says_and_two_in_a_row_are_an_outage() {
    for error in [
        "MOVED 3999 127.0.0.1:6381",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "ERR unknown command 'MGET'",
        "BUSY Redis is busy running a script",
        "CLUSTERDOWN The cluster is down",
        "NOPERM no permissions",
        "NOAUTH Authentication required.",
        "upstream failure",
    ] {
        let (result, seen, _) = facts(vec![routes(1, 1)], format!("-{error}\r\n").as_bytes(), 7);
        assert_eq!(result.is_err(), error.starts_with("NOAUTH"));
        let [Input::Routes { ask: 1, answer: Err(answer) }] = &seen[..] else { panic!("{seen:?}") };
        assert!(matches!(answer, LookupError::Rejected(_)), "{error}");
        assert!(answer.to_string().contains(error), "{answer}");
        assert_eq!(answer.to_string().contains("Cluster:"), error.starts_with('M') || error.starts_with("CR"));
    }
    let probe = |ask| Expected::Probe { ask, keys: 1 };
    let wire = b"-upstream failure\r\n*1\r\n_\r\n*1\r\n-upstream failure\r\n*1\r\n$1\r\nx\r\n";
    let (result, seen, unanswered) = facts(vec![probe(1), probe(2), probe(3), probe(4)], wire, 5);
    assert_eq!((result, unanswered), (Ok(()), vec![]));
    let answers = seen.iter().map(|fact| match fact {
        Input::Routes { ask, answer } => (*ask, answer.as_ref().map(RouteList::len).ok()),
        other => panic!("{other:?}"),
    });
    assert_eq!(answers.collect::<Vec<_>>(), [(1, None), (2, Some(0)), (3, None), (4, Some(0))]);
}

#[test]
fn fuzzed_replies() {
    crate::fuzz::run("resp", 10_000, |bytes| {
        let bytes = &bytes[..bytes.len().min(16 * 1024)];
        let asked = || vec![routes(1, 3), Expected::Plain, routes(2, 1), routes(3, 2)];
        let (result, seen, unanswered) = facts(asked(), bytes, usize::MAX);
        let mut ends: Vec<AskNo> = unanswered.clone();
        for fact in &seen {
            if let Input::Routes { ask, answer } = fact {
                ends.push(*ask);
                let users = [3, 1, 2][*ask as usize - 1];
                assert!(answer.as_ref().map_or(true, |list| list.len() == users), "a route for each user: {answer:?}");
            }
        }
        ends.sort_unstable();
        assert_eq!(ends, [1, 2, 3], "each ask is answered or still waits, once");
        let (cut, seen_cut, unanswered_cut) = facts(asked(), bytes, 7);
        assert_eq!((cut.is_ok(), unanswered_cut), (result.is_ok(), unanswered), "however it is cut");
        assert_eq!(format!("{seen_cut:?}"), format!("{seen:?}"));
    });
}
