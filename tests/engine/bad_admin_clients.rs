//! Whatever clients do at the admin port of a running engine costs bounded memory, and neither a push nor another client's answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::pages;
use testkit::engine::{PATIENCE, World};

use crate::siege::{Siege, good_gateway, judge, resident};

const GROWN_MAX: u64 = 64 << 20;
const SLOWEST_MAX: Duration = Duration::from_secs(3);
const LEAST: Duration = Duration::from_secs(4);

/// What a client says first, and then byte by byte, and whether it reads answers.
struct Manner {
    name: &'static str,
    clients: usize,
    first: Vec<u8>,
    then: &'static [u8],
    reads: bool,
}

fn manners() -> Vec<Manner> {
    let of = |name, clients, first: &[u8], then, reads| Manner { name, clients, first: first.to_vec(), then, reads };
    let page = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n";
    vec![
        of("320 slow heads", 320, b"GET /livez HTTP/1.1\r\nX-Slow: ", b"a", true),
        of("1,000 that say nothing", 1_000, b"", b"", true),
        of("1,000 kept alive", 1_000, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"", true),
        of("100 request lines without end", 100, &[&b"GET /"[..], &[b'x'; 64 * 1024]].concat(), b"x", true),
        of(
            "100 heads with thousands of lines",
            100,
            &[&b"GET / HTTP/1.1\r\n"[..], &b"a:b\r\n".repeat(20_000)].concat(),
            b"",
            true,
        ),
        of("100 bodies without end", 100, post, b"x", true),
        of("30 with 200 requests each, which read nothing", 30, &page.repeat(200), b"", false),
        of("320 that read nothing", 320, page, b"", false),
        of("100 that speak TLS", 100, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", true),
        of("100 that speak HTTP/2", 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0", true),
    ]
}

fn connect(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nonblocking(true).expect("an option");
    let _ = stream.write(first);
    stream
}

/// Who is thrown out comes back at once.
fn besiege(address: SocketAddr, manner: &Manner, is_over: &AtomicBool) {
    let mut clients: Vec<_> = (0..manner.clients).map(|_| connect(address, &manner.first)).collect();
    while !is_over.load(Ordering::Acquire) {
        for client in &mut clients {
            let is_gone = match manner.reads.then(|| client.read(&mut [0; 16 * 1024])) {
                Some(Ok(count)) => count == 0,
                Some(Err(error)) => error.kind() != std::io::ErrorKind::WouldBlock,
                None => false,
            };
            let is_gone = is_gone || (!manner.then.is_empty() && has_gone(client.write(manner.then)));
            if is_gone {
                *client = connect(address, &manner.first);
            }
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn has_gone(written: std::io::Result<usize>) -> bool {
    written.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

#[test]
fn bad_clients_cost_bounded_memory_and_nobody_elses_answer() {
    let world = World::start();
    let good = good_gateway(&world);
    let engine = world.engine(1, "");
    let mut siege = Siege::of(&world, &engine, &good);
    println!("| clients of the admin port | memory | slowest push | time |\n|---|---|---|---|");
    for manner in manners() {
        let (before, is_over) = (resident(&engine), AtomicBool::new(false));
        let mut slowest_answer = Duration::ZERO;
        let cost = std::thread::scope(|scope| {
            scope.spawn(|| besiege(engine.admin(), &manner, &is_over));
            let cost = siege.watch(before, LEAST, || {
                let began = Instant::now();
                let answer = pages::request(engine.admin(), "GET", "/livez", "", PATIENCE);
                assert!(answer.is_some_and(|page| page.status == 200), "{}: no answer", manner.name);
                slowest_answer = began.elapsed().max(slowest_answer);
                true
            });
            is_over.store(true, Ordering::Release);
            cost
        });
        judge(manner.name, cost, GROWN_MAX, SLOWEST_MAX);
        assert!(slowest_answer < SLOWEST_MAX, "{}: /livez took {slowest_answer:?}", manner.name);
    }
    for (method, path, status) in
        [("HEAD", "/metrics", 200), ("POST", "/metrics", 405), ("DELETE", "/", 405), ("GET", "/../etc/passwd", 404)]
    {
        let page = pages::request(engine.admin(), method, path, "", PATIENCE).expect("an answer");
        assert!(page.status == status && (method == "GET" || page.body.is_empty()), "{method} {path}: {}", page.status);
    }
    engine.stop_clean();
}
