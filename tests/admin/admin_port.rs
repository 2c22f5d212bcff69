//! Whatever hundreds of clients do at the admin port, a new one has its answer from `/livez` within a second.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::pages;

use crate::port::start;

const CLIENTS: usize = 320;
/// Within this a page is prompt: the clients of the siege may hold it for five seconds, and a busy machine for one.
const SOON: Duration = Duration::from_secs(3);

/// Status and time of an answer; nothing when there is none in ten seconds.
fn ask(address: SocketAddr) -> Option<(u16, Duration)> {
    let began = Instant::now();
    let page = pages::request(address, "GET", "/livez", "", Duration::from_secs(10))?;
    Some((page.status, began.elapsed()))
}

/// Many clients begin with `first` and go on with `then` each 300 ms; meanwhile `/livez` is asked for 8 seconds.
fn besieged(clients: usize, first: &[u8], then: &[u8]) -> Vec<Option<(u16, Duration)>> {
    let address = start(None).0;
    let mut clients: Vec<_> = (0..clients).map(|_| connect(address, first)).collect();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !is_over.load(Ordering::Acquire) {
                for client in &mut clients {
                    // Whoever was thrown out comes back at once.
                    let mut rest = [0; 4096];
                    let is_gone = match client.read(&mut rest) {
                        Ok(read) => read == 0,
                        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                    };
                    if is_gone {
                        *client = connect(address, first);
                    } else if !then.is_empty() {
                        let _ = client.write(&then[at % then.len()..][..1]);
                    }
                }
                at += 1;
                std::thread::park_timeout(Duration::from_millis(300));
            }
        });
        let until = Instant::now() + Duration::from_secs(8);
        let mut asked = Vec::new();
        while Instant::now() < until {
            asked.push(ask(address));
            std::thread::park_timeout(Duration::from_millis(200));
        }
        is_over.store(true, Ordering::Release);
        asked
    })
}

fn connect(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nonblocking(true).expect("an option");
    let _ = stream.write(first);
    stream
}

fn assert_prompt(what: &str, asked: &[Option<(u16, Duration)>]) {
    assert!(asked.len() >= 10, "{what}: {} answers in 8 s", asked.len());
    let late: Vec<_> = asked.iter().filter(|answer| !matches!(answer, Some((200, took)) if *took < SOON)).collect();
    assert!(
        late.is_empty(),
        "{what}: {} of {} asks without an answer in three seconds: {late:?}",
        late.len(),
        asked.len()
    );
}

#[test]
fn slow_heads() {
    let asked = besieged(CLIENTS, b"GET /livez HTTP/1.1\r\nX-Slow: ", b"abcdefgh");
    assert_prompt("a byte of a head each 300 ms", &asked);
}

#[test]
fn clients_that_say_nothing_or_what_is_no_http() {
    for first in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        assert_prompt("silence, and a TLS hello", &besieged(CLIENTS, first, b""));
    }
}

#[test]
fn idle_connections_after_an_answer() {
    assert_prompt("kept alive", &besieged(CLIENTS, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", b""));
}

#[test]
fn slow_second_requests_and_bodies_that_never_end() {
    let second = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /li";
    assert_prompt("a second head", &besieged(CLIENTS, second, b"aaaa"));
    let body = b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    assert_prompt("a body", &besieged(CLIENTS, body, b"xxxx"));
}

#[test]
fn pipelined_requests_whose_answers_are_read_slowly() {
    let many = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
    // Each is some milliseconds of work, so it is the turns they take that count.
    assert_prompt("answers unread", &besieged(30, &many, b""));
}

#[test]
fn a_head_has_five_seconds_however_its_bytes_come_and_16_kib() {
    let address = start(None).0;
    let mut slow = TcpStream::connect(address).expect("it listens");
    slow.write_all(b"GET /livez HTTP/1.1\r\n").expect("sent");
    slow.set_read_timeout(Some(Duration::from_millis(500))).expect("an option");
    let began = Instant::now();
    let ended = loop {
        let _ = slow.write(b"a");
        match slow.read(&mut [0; 1024]) {
            Ok(0) => break began.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break began.elapsed(),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it may go on for ever");
    };
    assert!(ended > Duration::from_secs(4) && ended < Duration::from_secs(8), "{ended:?}");
    let mut long = TcpStream::connect(address).expect("it listens");
    long.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
    let _ = long.write_all(b"GET /livez HTTP/1.1\r\nX: ");
    let _ = long.write_all(&[b'x'; 64 * 1024]);
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(ask(address).is_some_and(|(status, _)| status == 200));
}
