//! Whatever stands in Redis in the place of a route, or comes from where Redis should be, costs bounded memory and bounded time; whose
//! routes are well gets messages meanwhile, or at once after it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use testkit::engine::{Process, World};
use testkit::redis_only::key;

use crate::siege::{Cost, Siege, good_gateway, judge, resident};

/// What one bad value may cost.
const GROWN_MAX: u64 = 32 << 20;
/// 512 MiB go over the wire in this time, and what is asked over the same connection waits for them.
const SLOWEST_MAX: Duration = Duration::from_secs(5);
const LEAST: Duration = Duration::from_secs(1);

/// A user's key, and the Lua that writes it.
fn values() -> Vec<(&'static str, String)> {
    let set = |value: &str| format!("return redis.call('SET', KEYS[1], {value})");
    vec![
        ("a value of 512 MiB", "return redis.call('SETRANGE', KEYS[1], 536870911, 'x')".to_owned()),
        (
            "a list of a million",
            "for i = 1, 1000 do redis.call('RPUSH', KEYS[1], unpack(ARGV)) end for i = 1, 999 do redis.call('RPUSH', \
             KEYS[1], unpack(ARGV)) end"
                .to_owned(),
        ),
        ("a hash", "return redis.call('HSET', KEYS[1], 'gateway_id', 'gw-good')".to_owned()),
        ("JSON 5,000 deep", set("'{\"a\":' .. string.rep('[', 5000) .. string.rep(']', 5000) .. '}'")),
        (
            "a list of ids of 15 KiB",
            set("'{\"gateway_id\":\"g\",\"gateways\":[' .. string.rep('\"x\",', 3800) .. '\"y\"]}'"),
        ),
        ("bytes that are no UTF-8", set("string.rep('\\255', 1000)")),
        ("an id with line ends", set("'{\"gateway_id\":\"a\\\\nFORGED\\\\u001b[2J\"}'")),
        ("nothing", set("''")),
    ]
}

fn metrics_of(engine: &Process) -> u64 {
    engine.metrics().of("events_in_flight", "")
}

#[test]
fn a_bad_value_costs_its_own_user_only() {
    let world = World::start();
    let good = good_gateway(&world);
    let engine = world.engine(1, "gateway:\n  delivery_timeout: 2s\n");
    let mut siege = Siege::of(&world, &engine, &good);
    println!("| value in Redis | memory | slowest push elsewhere | until its events had ended |\n|---|---|---|---|");
    let client = redis::Client::open(world.redis.url()).expect("an address");
    let mut client = client.get_connection().expect("Redis answers");
    for (at, (what, script)) in values().into_iter().enumerate() {
        let (user, session) = (format!("user-{at}"), format!("group:value-{at}"));
        world.members(&session, &[&user]);
        let mut call = redis::cmd("EVAL");
        call.arg(&script).arg(1).arg(key(&user)).arg(vec!["x"; 500]);
        call.exec(&mut client).expect("it is written");
        let before = resident(&engine);
        world.publisher().publish(&session, "system", 1..=20);
        let cost = siege.watch(before, LEAST, || metrics_of(&engine) <= 1);
        judge(what, cost, GROWN_MAX, SLOWEST_MAX);
        // So that the server has its memory back.
        redis::cmd("DEL").arg(key(&user)).exec(&mut client).expect("it is deleted");
    }
    let metrics = engine.metrics();
    assert!(metrics.unreached("bad_route") >= 80, "{}", metrics.numbers());
    let output = engine.output();
    assert!(!output.lines().any(|line| line.starts_with("FORGED")) && !output.contains("\u{1b}[2J"), "{output}");
    engine.stop_clean();
}

/// A relay before Redis that can put anything between what it relays.
struct Injector {
    address: SocketAddr,
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

impl Injector {
    fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let clients = Arc::<Mutex<Vec<TcpStream>>>::default();
        let all = clients.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a clone");
                all.lock().expect("no panic").push(clone(&client));
                relay(clone(&client), clone(&upstream));
                relay(upstream, client);
            }
        });
        Self { address, clients }
    }

    /// Writes `begin`, and then `then` again and again, to all that are connected, until they are gone or the time is over.
    fn inject(&self, begin: &[u8], then: &[u8], until: Instant, is_done: &AtomicBool) {
        let clients: Vec<_> = self.clients.lock().expect("no panic").drain(..).collect();
        for mut client in clients {
            let _ = client.set_write_timeout(Some(Duration::from_millis(100)));
            let many = then.repeat(64 * 1024 / then.len().max(1));
            let mut lives = client.write_all(begin).is_ok();
            while lives && !many.is_empty() && Instant::now() < until {
                lives = match client.write_all(&many) {
                    Ok(()) => true,
                    Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                };
            }
            if lives {
                let _ = client.shutdown(Shutdown::Both);
            }
        }
        is_done.store(true, Ordering::Release);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// What comes from where Redis should be: once, and then for ever.
fn injected() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let deep = |kind: &str| kind.repeat(10_000).into_bytes();
    let invalidate = |user: &str| {
        let key = key(user);
        format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n${}\r\n{key}\r\n", key.len()).into_bytes()
    };
    let many: Vec<u8> = (0..2_000).flat_map(|user| invalidate(&format!("stranger-{user}"))).collect();
    vec![
        ("arrays 10,000 deep", deep("*1\r\n"), Vec::new()),
        ("a push 10,000 deep", [b">2\r\n+x\r\n".to_vec(), deep("*1\r\n")].concat(), Vec::new()),
        ("pushes for ever", Vec::new(), b">2\r\n+message\r\n+x\r\n".to_vec()),
        ("changes of strangers for ever", Vec::new(), many),
        ("attributes for ever", Vec::new(), b"|1\r\n+a\r\n+b\r\n".to_vec()),
        ("a line without end", b"+".to_vec(), vec![b'x'; 4096]),
        ("a push of 2^62 elements", b">4611686018427387904\r\n".to_vec(), b":1\r\n".to_vec()),
        ("a push with a value of 2^62 bytes", b">2\r\n$4611686018427387904\r\n".to_vec(), vec![b'x'; 4096]),
        ("replies to nothing", Vec::new(), b"*1\r\n$-1\r\n".to_vec()),
    ]
}

#[test]
fn a_server_that_says_what_it_should_not_costs_a_connection() {
    let world = World::start();
    let good = good_gateway(&world);
    let injector = Injector::before(world.redis.addr());
    let mut config = world.config();
    // What is injected is plain, whatever the other servers speak.
    config.set("redis", "addr", injector.address).set("redis", "tls", "{mode: auto}");
    config.set("gateway", "delivery_timeout", "10s");
    let engine = world.engine_of(1, &config.text());
    engine.wait_ready();
    let mut siege = Siege::of(&world, &engine, &good);
    println!("| from Redis | memory | slowest push elsewhere | until it was over |\n|---|---|---|---|");
    for (what, begin, then) in injected() {
        let before = resident(&engine);
        let is_done = AtomicBool::new(false);
        let cost: Cost = thread::scope(|scope| {
            scope.spawn(|| injector.inject(&begin, &then, Instant::now() + Duration::from_secs(3), &is_done));
            siege.watch(before, LEAST, || is_done.load(Ordering::Acquire))
        });
        judge(what, cost, GROWN_MAX, SLOWEST_MAX);
    }
    engine.wait_ready();
    engine.stop_clean();
}
