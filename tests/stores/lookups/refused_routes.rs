//! Promise: MGETs that are all answered with an error are an outage, whatever it says; one user whose route is refused ends
//! alone, the others of its sessions are pushed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use harness::gateways::Protocols;

use testkit::engine::{World, eventually, got};

const SESSIONS: i64 = 10;

/// A proxy before Redis that has each MGET answered with an error (in its place among the replies), or not at all, or with
/// an error in the place of some values.
pub struct Proxy {
    pub address: String,
    answer: Arc<Mutex<Option<Told>>>,
    accepted: Arc<AtomicUsize>,
}

/// What happens to MGETs.
#[derive(Clone, Copy)]
enum Told {
    /// No answer at all.
    Silence,
    Refuse(&'static str),
    /// Who keeps the keys that match the (Lua) pattern is away.
    Lack {
        pattern: &'static str,
        words: &'static str,
    },
}

/// Answers an MGET as Redis does, but for the keys whose server is away.
const LACKING: &str = "local values = redis.call('MGET', unpack(KEYS)) \
     for at, key in ipairs(KEYS) do if string.find(key, ARGV[1]) then values[at] = {err = ARGV[2]} end end \
     return values";

impl Proxy {
    pub fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let answer = Arc::new(Mutex::new(None));
        let told = answer.clone();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                count.fetch_add(1, Ordering::AcqRel);
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&server)) else { continue };
                let (from, mut to) = (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                thread::spawn(move || std::io::copy(&mut &from, &mut to));
                let told = told.clone();
                thread::spawn(move || forward(client, server, &told));
            }
        });
        Self { address, answer, accepted }
    }

    fn says(&self, answer: Option<&'static str>) {
        let told = |words: &'static str| if words.is_empty() { Told::Silence } else { Told::Refuse(words) };
        *self.answer.lock().expect("lock") = answer.map(told);
    }

    /// Puts these words in the place of each value whose key matches, or no longer.
    pub fn lacks(&self, pattern: &'static str, words: Option<&'static str>) {
        *self.answer.lock().expect("lock") = words.map(|words| Told::Lack { pattern, words });
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }
}

fn forward(mut client: TcpStream, mut server: TcpStream, told: &Mutex<Option<Told>>) {
    let (mut got, mut room) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(bytes @ 1..) = client.read(&mut room) {
        got.extend_from_slice(&room[..bytes]);
        while let Some(len) = command_len(&got) {
            let command = got.drain(..len).collect::<Vec<_>>();
            let is_mget = command.windows(6).take(16).any(|bytes| bytes == b"MGET\r\n");
            let command = match (*told.lock().expect("lock"), is_mget) {
                (Some(Told::Silence), true) => continue,
                (Some(Told::Lack { pattern, words }), true) => lacking(&command, pattern, words),
                (Some(Told::Refuse(error)), true) => {
                    let script = format!("return redis.error_reply('{error}')");
                    format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len()).into_bytes()
                }
                _ => command,
            };
            if server.write_all(&command).is_err() {
                return;
            }
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
}

/// The command that answers this MGET but for some keys.
fn lacking(mget: &[u8], pattern: &str, words: &str) -> Vec<u8> {
    let begin = mget.windows(6).position(|bytes| bytes == b"MGET\r\n").expect("an MGET") + 6;
    let keys = std::str::from_utf8(&mget[begin..]).expect("keys of this test");
    let number = (keys.matches("\r\n").count() / 2).to_string();
    let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let parts = number.parse::<usize>().expect("a number") + 5;
    let head = [text("EVAL"), text(LACKING), text(&number)].concat();
    format!("*{parts}\r\n{head}{keys}{}{}", text(pattern), text(words)).into_bytes()
}

/// How long the first command is, when all of it is there.
fn command_len(bytes: &[u8]) -> Option<usize> {
    let line = |from: usize| {
        let len = bytes.get(from..)?.windows(2).position(|end| end == b"\r\n")?;
        let number = std::str::from_utf8(&bytes[from + 1..from + len]).ok()?.parse::<usize>().ok()?;
        Some((number, from + len + 2))
    };
    let (parts, mut at) = line(0)?;
    for _ in 0..parts {
        let (len, after) = line(at)?;
        at = after + len + 2;
    }
    (at <= bytes.len()).then_some(at)
}

#[test]
fn redis_that_refuses_all_mgets_makes_no_letters_whatever_it_says() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    for number in 0..SESSIONS {
        world.route(&format!("anna{number}"), "gw-1");
        world.members(&format!("g{number}"), &[format!("anna{number}")]);
    }
    let proxy = Proxy::start(world.redis.addr());
    let more = "routes:\n  cache: \"off\"\nconsumer:\n  max_retry: 1\n  retry_interval: 100ms\n";
    let variables = [("RESONANCE_REDIS_ADDR", &*proxy.address), ("RESONANCE_REDIS_READ_TIMEOUT", "1s")];
    let engine = world.engine_with(2, more, &variables);
    engine.wait_ready();
    let publisher = world.publisher();
    let words = [
        ("upstream failure", 8_000),
        ("LOADING Redis is loading the dataset in memory", 1_500),
        ("CLUSTERDOWN The cluster is down", 1_500),
        ("MOVED 1234 127.0.0.1:1", 1_500),
        ("NOPERM this user has no permissions", 1_500),
        // No answer at all.
        ("", 2_500),
    ];
    for (round, (error, millis)) in words.into_iter().enumerate() {
        proxy.says(Some(error));
        for number in 0..SESSIONS {
            publisher.publish(&format!("g{number}"), "system", [round as i64]);
        }
        engine.wait_metrics("/readyz says that Redis is away", |_| !engine.is_ready());
        engine.wait_metrics("all wait", |metrics| metrics.of("events_in_flight", "") == SESSIONS as u64);
        let over = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < over {
            let metrics = engine.metrics();
            assert_eq!(metrics.events("settled"), (SESSIONS * round as i64) as u64, "{error}: {}", engine.output());
            assert_eq!(metrics.of("events_in_flight", ""), SESSIONS as u64, "{error}: {}", engine.output());
            assert!(!engine.is_ready(), "{error}: {}", engine.output());
            thread::park_timeout(Duration::from_millis(100));
        }
        proxy.says(None);
        let over = Instant::now();
        let metrics = engine.wait_ended((SESSIONS * (round as i64 + 1)) as u64);
        println!("{error:?} for {millis} ms: all ended {:?} after it", over.elapsed());
        assert_eq!(metrics.recipients("delivered"), (SESSIONS * (round as i64 + 1)) as u64, "{}", metrics.numbers());
        engine.wait_ready();
    }
    engine.stop_clean();
}

#[test]
fn a_user_whose_key_is_refused_ends_alone() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    ["anna", "bert", "zed"].iter().for_each(|user| world.route(user, "gw-1"));
    world.members("g", &["anna", "bert", "zed"]);
    world.members("others", &["anna", "bert"]);
    let acl = |rules: &[&str]| {
        let client = redis::Client::open(world.redis.url()).expect("an address");
        let mut connection = client.get_connection().expect("Redis answers");
        redis::cmd("ACL").arg("SETUSER").arg("default").arg(rules).exec(&mut connection).expect("ACL");
    };
    acl(&["resetkeys", "~resonance:router:user:", "~resonance:router:user:[^z]*"]);
    let engine = world.engine(1, "consumer:\n  max_retry: 1\n  retry_interval: 100ms\n");
    let publisher = world.publisher();
    publisher.publish("g", "system", [1]);
    publisher.publish("others", "system", [1]);
    let metrics = engine.wait_ended(2);
    let records = world.log.records();
    for user in ["anna", "bert"] {
        assert_eq!(got(&records, "g", user), [1], "{user}: {}", engine.output());
        assert_eq!(got(&records, "others", user), [1], "{user}: {}", engine.output());
    }
    assert_eq!((metrics.recipients("stored"), metrics.unreached("bad_route")), (1, 1), "{}", metrics.numbers());
    assert!(engine.is_ready(), "one user is no outage");
    assert!(engine.output().contains("user zed fails, others do not"), "{}", engine.output());

    acl(&["allkeys"]);
    let mut next = 1;
    eventually("zed is asked for again", || {
        next += 1;
        publisher.publish("g", "system", [next]);
        engine.wait_ended(next as u64 + 1);
        !got(&world.log.records(), "g", "zed").is_empty()
    });
    engine.stop_clean();
}

#[test]
fn an_engine_that_may_read_some_users_only_serves_those() {
    let world = World::start();
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    ["anna", "zed"].iter().for_each(|user| world.route(user, "gw-1"));
    world.members("a", &["anna"]);
    world.members("z", &["zed"]);
    let client = redis::Client::open(world.redis.url()).expect("an address");
    let mut connection = client.get_connection().expect("Redis answers");
    let rules = ["resetkeys", "~resonance:router:user:a*"];
    redis::cmd("ACL").arg("SETUSER").arg("default").arg(&rules).exec(&mut connection).expect("ACL");
    let engine = world.engine(1, "consumer:\n  max_retry: 1\n  retry_interval: 100ms\n  ack_wait: 2s\n");
    let publisher = world.publisher();
    publisher.publish("a", "system", [1]);
    engine.wait_ended(1);
    publisher.publish("z", "system", [1]);
    let metrics = engine.wait_ended(2);
    assert_eq!((metrics.recipients("delivered"), metrics.unreached("bad_route")), (1, 1), "{}", metrics.numbers());
    // Nobody asks for longer than a store may be away.
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(5) {
        assert!(engine.is_ready(), "{}", engine.page("/readyz?verbose").expect("a page").1);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    publisher.publish("a", "system", [2]);
    let metrics = engine.wait_ended(3);
    assert_eq!(metrics.recipients("delivered"), 2, "{}", metrics.numbers());
    engine.stop_clean();
}
