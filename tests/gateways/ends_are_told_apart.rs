//! Each way a stream can end is told as what it is, once, and the next address or protocol can be tried.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::gateway_support::pb::PushRequest;
use crate::gateway_support::*;
use bytes::Bytes;
use task_engine::model::ids::StreamNo;
use task_engine::model::limits::STREAM_UNSENT_BYTES_MAX;
use task_engine::ports::{Endpoint, Protocol};
use task_engine::push::facts::{StreamEnd, StreamFact};

fn broken(end: Option<StreamEnd>) -> String {
    match end {
        Some(StreamEnd::Broken(words)) => words,
        other => panic!("not broken: {other:?}"),
    }
}

fn unheard(end: Option<StreamEnd>) -> String {
    match end {
        Some(StreamEnd::Unheard(words)) => words,
        other => panic!("not unheard: {other:?}"),
    }
}

fn one_call() -> Bytes {
    frame(&PushRequest { to_usernames: vec!["bob".into()], message: Some(message(1, 10)) })
}

#[test]
fn unimplemented_is_told_for_each_protocol() {
    let gateway = Gateway::start(Manner::Unimplemented);
    for protocol in [Protocol::Batch, Protocol::Stream] {
        on_a_shard(async |mut shard| {
            shard.open(1, vec![gateway.endpoint()], protocol);
            shard.opened(1).await;
            shard.gateways.send(G, StreamNo(1), single(1, 10));
            assert_eq!(shard.rest(1).await.end, Some(StreamEnd::Unimplemented), "{protocol:?}");
        });
    }
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Unary);
        shard.opened(1).await;
        shard.gateways.call(G, StreamNo(1), 5, one_call());
        let (_, fact) = shard.next().await;
        let StreamFact::CallAnswered { call: 5, answer: Err(error) } = fact else { panic!("{fact:?}") };
        assert_eq!((error.code, error.message.as_str()), (12, "no such rpc here"));
        assert_eq!(shard.gateways.open_count(), 1, "the connection is still good");
    });
}

#[test]
fn a_refusal_comes_with_its_code_and_its_decoded_message() {
    let gateway = Gateway::start(Manner::Refuses);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        let words = "gRPC status 8: voll: 100% \u{4f60}".to_owned();
        assert_eq!(shard.rest(1).await.end, Some(StreamEnd::NotOpened(words)), "not now: nothing was looked at");
    });
}

#[test]
fn an_ok_that_we_did_not_ask_for_is_no_clean_end() {
    let gateway = Gateway::start(Manner::EndsEarly);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![gateway.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        shard.gateways.send(G, StreamNo(1), single(1, 10));
        let rest = shard.rest(1).await;
        assert_eq!(msg_ids(&rest.answers), [1]);
        assert!(broken(rest.end).contains("on its own"));
    });
}

#[test]
fn a_refused_connection_names_address_and_cause() {
    let dead = dead_address();
    on_a_shard(async |mut shard| {
        shard.open(1, vec![endpoint(dead), endpoint(dead)], Protocol::Stream);
        let Some(StreamEnd::NotOpened(words)) = shard.rest(1).await.end else { panic!("opened") };
        assert!(words.starts_with(&format!("{dead} ({dead}): ")), "{words}");
        assert!(words.contains("refused") && words.matches(';').count() == 1, "{words}");
        shard.open(2, Vec::new(), Protocol::Stream);
        let Some(StreamEnd::NotOpened(words)) = shard.rest(2).await.end else { panic!("opened") };
        assert_eq!(words, "no endpoint");
        let bad = Endpoint { host: "no\u{4f60}host".to_owned(), port: 1, secure: false };
        shard.open(3, vec![bad], Protocol::Stream);
        assert!(matches!(shard.rest(3).await.end, Some(StreamEnd::NotOpened(_))));
    });
}

#[test]
fn the_second_address_is_taken_when_the_first_is_dead() {
    let gateway = Gateway::start(Manner::Answers);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![endpoint(dead_address()), gateway.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        shard.gateways.send(G, StreamNo(1), single(1, 10));
        assert_eq!(msg_ids(&shard.answers(1, 1).await.answers), [1]);
    });
}

#[test]
fn a_server_that_dies_breaks_the_stream_and_is_never_a_clean_end() {
    for protocol in [Protocol::Stream, Protocol::Unary] {
        for finish in [false, true] {
            let gateway = Gateway::start(Manner::Deaf);
            on_a_shard(async |mut shard| {
                shard.open(1, vec![gateway.endpoint()], protocol);
                shard.opened(1).await;
                shard.gateways.send(G, StreamNo(1), single(1, 10));
                (0..3).for_each(|call| shard.gateways.call(G, StreamNo(1), call, one_call()));
                if finish {
                    shard.gateways.finish(G, StreamNo(1));
                }
                // What was sent is on its way before the server dies.
                while let Some((_, fact)) = shard.next_within(Duration::from_millis(50)).await {
                    assert!(matches!(fact, StreamFact::Taken(_)), "{fact:?}");
                }
                drop(gateway);
                let rest = shard.rest(1).await;
                assert!(rest.calls.is_empty(), "a lost connection is told once: {rest:?}");
                assert!(!unheard(rest.end).is_empty(), "the response had not begun");
                assert_eq!(shard.gateways.open_count(), 0);
            });
        }
    }
}

#[test]
fn a_port_that_speaks_something_else_is_not_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut preface = [0; 24];
        socket.read_exact(&mut preface).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        preface
    });
    on_a_shard(async |mut shard| {
        shard.open(1, vec![endpoint(address)], Protocol::Batch);
        let Some(StreamEnd::NotOpened(words)) = shard.rest(1).await.end else { panic!("opened") };
        assert!(words.contains("no HTTP/2"), "{words}");
    });
    assert_eq!(&server.join().unwrap(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn a_port_that_says_nothing_is_given_up_at_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    on_a_shard(async |mut shard| {
        let began = Instant::now();
        shard.open(1, vec![endpoint(listener.local_addr().unwrap())], Protocol::Batch);
        let Some(StreamEnd::NotOpened(words)) = shard.rest(1).await.end else { panic!("opened") };
        assert!(words.contains("took over 3s"), "{words}");
        assert!(began.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_deaf_server_stops_taken_and_nothing_else() {
    let deaf = Gateway::start(Manner::Deaf);
    on_a_shard(async |mut shard| {
        shard.open(1, vec![deaf.endpoint()], Protocol::Stream);
        shard.opened(1).await;
        let chunk = Bytes::from(vec![0; 128 * 1024]);
        (0..64).for_each(|_| shard.gateways.send(G, StreamNo(1), chunk.clone()));
        let mut taken = 0;
        while let Some((_, fact)) = shard.next_within(Duration::from_millis(300)).await {
            let StreamFact::Taken(len) = fact else { panic!("{fact:?}") };
            taken += len;
        }
        assert!(taken >= chunk.len() && taken <= 4 * STREAM_UNSENT_BYTES_MAX, "{taken} of 8 MiB");

        let good = Gateway::start(Manner::Answers);
        shard.open(2, vec![good.endpoint()], Protocol::Stream);
        shard.opened(2).await;
        shard.gateways.send(G, StreamNo(2), single(1, 10));
        assert_eq!(msg_ids(&shard.answers(2, 1).await.answers), [1]);

        shard.gateways.cut(G, StreamNo(1));
        let after = shard.next_within(Duration::from_millis(100)).await;
        assert!(after.is_none(), "no fact after a cut: {after:?}");
        assert_eq!(shard.gateways.open_count(), 1);
    });
    assert_eq!(deaf.seen.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn a_cut_closes_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let mut bytes = Vec::new();
        (socket.read_to_end(&mut bytes).map_err(|error| error.kind()), bytes.len())
    });
    on_a_shard(async |mut shard| {
        shard.open(1, vec![endpoint(address)], Protocol::Stream);
        shard.opened(1).await;
        shard.gateways.send(G, StreamNo(1), single(1, 10));
        assert!(matches!(shard.next().await, (_, StreamFact::Taken(_))));
        shard.gateways.cut(G, StreamNo(1));
        assert!(shard.next_within(Duration::from_millis(100)).await.is_none());
        let (end, read) = glommio_joined(server).await;
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
        assert!(read > 24, "the preface and the request came: {read}");
    });
}

async fn glommio_joined<T>(thread: std::thread::JoinHandle<T>) -> T {
    while !thread.is_finished() {
        glommio::timer::Timer::new(Duration::from_millis(5)).await;
    }
    thread.join().unwrap()
}
