//! A connection over TLS whose server stops taking bytes, or takes few.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::mpsc;

use rustls::version::TLS13;

use super::*;
use crate::edge::transport::tests::{on_a_shard, peer, secured};

const PATIENCE: Duration = Duration::from_millis(400);

#[test]
fn over_tls_a_server_that_takes_few_bytes_is_waited_for_and_one_that_takes_none_is_not() {
    let (told, tell) = mpsc::channel::<()>();
    let (address, settings, _authority, thread) = peer(&TLS13, move |mut peer| {
        peer.write_all(b"INFO {}\r\n").and_then(|()| peer.flush()).expect("it reads");
        // Much slower than it is written to, but never nothing for long.
        for _ in 0..12 {
            thread_pause(PATIENCE / 4);
            assert!(peer.sock.read(&mut [0; 100_000]).expect("bytes") > 0);
        }
        told.send(()).expect("it listens");
        thread_pause(PATIENCE * 4);
    });
    on_a_shard(async move {
        let patience =
            Patience { ping_every: Duration::from_secs(60), silence: Duration::from_secs(60), write: PATIENCE };
        let transport = secured(address, &settings).await;
        let mut connection = Connection::over(transport, "here".to_owned(), patience);
        connection.until(|connection| connection.info.is_some()).await.expect("INFO");
        connection.is_open = true;
        connection.out = vec![b'x'; 32 << 20];
        let why = poll_fn(|cx| match connection.poll_turn(cx, &mut |_: &Bytes, _: Heard<'_>| {}) {
            Poll::Ready(Ok(())) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Err(why)) => Poll::Ready(why),
            Poll::Pending => Poll::Pending,
        })
        .await;
        assert!(tell.try_recv().is_ok(), "it was waited for while it took some: {why}");
        assert_eq!(why, format!("takes no bytes for {PATIENCE:?}"));
    });
    thread.join().expect("a peer that ends well");
}

fn thread_pause(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}
