//! TLS to real servers: those that demand it, those that verify us, and each thing that may be wrong, told with what to check;
//! once it is mended the reader goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use harness::servers::{Authority, CertificateFiles, Nats, NatsOptions, NatsVersion, free_ports};
use prost::Message;
use task_engine::config::{Assignment, Config, ConsumerConfig, NatsConfig, TlsConfig};
use task_engine::edge::nats::wire::{Request, Wire};
use task_engine::engine::adapters::check_nats;
use task_engine::model::proto::event::PushEvent;
use testkit::nats::server_at;
use testkit::taking::Taking;

use crate::intake_support::{Seen, event, started, started_with_lanes, until};

const VERSIONS: [NatsVersion; 2] = [NatsVersion::Installed, NatsVersion::Current];
const HERE: &[&str] = &["127.0.0.1", "nats.example"];

fn start(version: NatsVersion, config: String) -> Nats {
    Nats::start(&NatsOptions { version, config, ..NatsOptions::default() }).expect("a server")
}

/// A server that demands TLS, with this certificate.
fn demanding(version: NatsVersion, authority: &Authority, files: &CertificateFiles, more: &str) -> Nats {
    start(version, authority.nats_block(files, more))
}

fn settings(address: &str, tls: TlsConfig) -> Config {
    let nats = NatsConfig {
        servers: server_at(address),
        timeout: Duration::from_secs(5),
        reconnect_delay: Duration::from_millis(50),
        ping_interval: Duration::from_secs(2),
        tls,
        ..NatsConfig::default()
    };
    let consumer =
        ConsumerConfig { topic: "events".to_owned(), assignment: Assignment::Queue, ..ConsumerConfig::default() };
    Config { nats, consumer, ..Config::default() }
}

fn tls() -> TlsConfig {
    NatsConfig::default().tls
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig { ca: authority.ca(), ..tls() }
}

/// Publishes over a connection of the same kind: the blocking one.
fn publish(settings: &Config, numbers: std::ops::Range<u64>) {
    numbers.for_each(|number| assert!(is_heard(settings, number), "nobody listens"));
}

/// Whether somebody listens to an event that is published.
fn is_heard(settings: &Config, number: u64) -> bool {
    let mut wire = Wire::connect(&settings.nats, "test").unwrap_or_else(|why| panic!("{why}"));
    let payload = event("s", number);
    let request = Request { subject: "events".to_owned(), headers: Vec::new(), payload: &payload };
    wire.publish(request).unwrap_or_else(|why| panic!("{why}"))
}

fn takes(taking: &Taking, settings: &Config, numbers: std::ops::Range<u64>) {
    taking.until_ready();
    publish(settings, numbers.clone());
    let (mut seen, count) = (Seen::default(), numbers.end - numbers.start);
    until("all are taken", || {
        seen.take(taking);
        seen.events == count
    });
}

/// Both ways of connecting say it, with the address.
fn said(settings: &Config, words: &[&str]) -> Taking {
    let taking = started(settings, 1);
    let address = settings.nats.servers[0].at.to_string();
    let said = taking.until_waiting(words);
    assert!(said.contains(&address), "{said}");
    let said = Wire::connect(&settings.nats, "test").err().expect("refused").to_string();
    assert!(said.contains(&address) && words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    taking
}

#[test]
fn a_server_that_demands_tls_gets_it_and_again_after_it_was_away() {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(HERE).expect("a certificate");
    for version in VERSIONS {
        let server = demanding(version, &authority, &files, "");
        let settings = settings(&server.addr(), trusting(&authority));
        let taking = started(&settings, 1);
        takes(&taking, &settings, 0..50);
        // Before it is back: that may be as soon as the reader is.
        server.kill9();
        until("it is noticed", || taking.intake.health() != task_engine::ports::Health::Ready);
        server.restart().expect("it comes back");
        takes(&taking, &settings, 50..100);
        taking.stop();
    }
}

#[test]
fn what_waits_for_room_is_read_when_there_is_some_and_large_events_come_whole() {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(HERE).expect("a certificate");
    let server = demanding(NatsVersion::Current, &authority, &files, "");
    let settings = settings(&server.addr(), trusting(&authority));
    let taking = started_with_lanes(&settings, 1, 100);
    taking.until_ready();
    let mut wire = Wire::connect(&settings.nats, "test").unwrap_or_else(|why| panic!("{why}"));
    let content = "x".repeat(700_000);
    for number in 0..3_000 {
        let mut payload = event("s", number);
        // Each hundredth is of many records.
        if number % 100 == 0 {
            payload = PushEvent { content: content.clone(), ..PushEvent::decode(&payload[..]).expect("an event") }
                .encode_to_vec();
        }
        let message = Request { subject: "events".to_owned(), headers: Vec::new(), payload: &payload };
        assert!(wire.publish(message).unwrap_or_else(|why| panic!("{why}")), "nobody listens");
    }
    until("the lane is full", || taking.lanes[0].len() == 100);
    let mut seen = Seen::default();
    until("all are taken", || {
        seen.take(&taking);
        seen.events == 3_000
    });
    taking.stop();
}

#[test]
fn a_server_that_only_offers_tls_gives_it_to_who_asks_for_it() {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(HERE).expect("a certificate");
    let config = authority.nats_block(&files, "") + "allow_non_tls: true\n";
    let server = start(NatsVersion::Current, config);
    let tls_settings = settings(&server.addr(), trusting(&authority));
    let taking = started(&tls_settings, 1);
    takes(&taking, &tls_settings, 0..50);
    taking.stop();
    // Whoever asks for none stays plain.
    let plain = settings(&server.addr(), tls());
    let taking = started(&plain, 1);
    takes(&taking, &plain, 0..5);
    taking.stop();
}

#[test]
fn a_server_that_verifies_us_takes_our_certificate() {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(HERE).expect("a certificate");
    let ours = authority.certificate(&["engine"]).expect("a certificate");
    for version in VERSIONS {
        let server = demanding(version, &authority, &files, "verify: true");
        let of = |files: &CertificateFiles| {
            let (cert, key) = (files.cert.clone(), files.key.clone());
            settings(&server.addr(), TlsConfig { cert, key, ..trusting(&authority) })
        };
        let settings_of_ours = of(&ours);
        let taking = started(&settings_of_ours, 1);
        takes(&taking, &settings_of_ours, 0..10);
        taking.stop();
        let none = settings(&server.addr(), trusting(&authority));
        said(&none, &["wants a certificate of ours", "nats.tls.cert", "nats.tls.key"]).stop();
    }
}

#[test]
fn a_certificate_of_ours_that_the_server_does_not_trust_is_said() {
    let [authority, other] = [(); 2].map(|()| Authority::new().expect("a CA"));
    let files = authority.certificate(HERE).expect("a certificate");
    let foreign = other.certificate(&["engine"]).expect("a certificate");
    let expired = authority.expired(&["engine"]).expect("a certificate");
    for version in VERSIONS {
        let server = demanding(version, &authority, &files, "verify: true");
        let ours = |CertificateFiles { cert, key }: CertificateFiles| {
            settings(&server.addr(), TlsConfig { cert, key, ..trusting(&authority) })
        };
        said(&ours(foreign.clone()), &["does not take our certificate", "check nats.tls.cert"]).stop();
        // That of one is known before anybody is asked.
        let wrong = check_nats(&ours(expired.clone())).expect_err("its time is over");
        assert!(
            wrong.contains("nats.tls.cert") && wrong.contains("our certificate has expired (2021-01-01T00:00:00Z)"),
            "{wrong}"
        );
    }
}

#[test]
fn what_is_wrong_with_the_servers_certificate_is_said_and_mended() {
    let [authority, other] = [(); 2].map(|()| Authority::new().expect("a CA"));
    for version in VERSIONS {
        let files = authority.expired(HERE).expect("a certificate");
        let server = demanding(version, &authority, &files, "");
        let trusting_it = settings(&server.addr(), trusting(&authority));
        let words = ["certificate has expired (2021-01-01T00:00:00Z)", "renew it", "clock"];
        let taking = said(&trusting_it, &words);
        let good = authority.certificate(HERE).expect("a certificate");
        fs::copy(&good.cert, &files.cert).and_then(|_| fs::copy(&good.key, &files.key)).expect("renewed");
        server.restart().expect("it comes back");
        takes(&taking, &trusting_it, 0..5);
        taking.stop();
        let unknown = settings(&server.addr(), trusting(&other));
        said(&unknown, &["signed by no CA that is trusted here", "nats.tls.ca"]).stop();
        let misnamed = TlsConfig { server_name: "other.example".to_owned(), ..trusting(&authority) };
        let words = ["is not for other.example", "127.0.0.1", "nats.example", "nats.tls.server_name"];
        said(&settings(&server.addr(), misnamed), &words).stop();
        let named = TlsConfig { server_name: "nats.example".to_owned(), ..trusting(&authority) };
        let named = settings(&server.addr(), named);
        let taking = started(&named, 1);
        takes(&taking, &named, 0..5);
        taking.stop();
    }
}

#[test]
fn a_server_that_another_names_by_an_address_is_checked_against_that_ones_host() {
    let authority = Authority::new().expect("a CA");
    // A certificate for the whole cluster, and for no address.
    let files = authority.certificate(&["localhost"]).expect("a certificate");
    for version in VERSIONS {
        let routes = free_ports(2).expect("ports");
        let [one, other] = [0, 1].map(|at| {
            let (own, other) = (routes[at], routes[1 - at]);
            let cluster =
                format!("cluster {{ name: c, listen: \"127.0.0.1:{own}\", routes: [\"nats://127.0.0.1:{other}\"] }}\n");
            start(version, authority.nats_block(&files, "") + &cluster)
        });
        let settings_of = |port: u16| settings(&format!("localhost:{port}"), trusting(&authority));
        let (at_one, at_other) = (settings_of(one.port()), settings_of(other.port()));
        let taking = started(&at_one, 1);
        takes(&taking, &at_one, 0..5);
        // Once the two know each other, the reader does as well.
        until("they know each other", || is_heard(&at_other, 5));
        one.kill9();
        until("it moved", || is_heard(&at_other, 6));
        taking.stop();
    }
}

#[test]
fn a_plain_server_is_refused_where_tls_is_asked_for() {
    for version in VERSIONS {
        let server = start(version, String::new());
        let mut asking = settings(&server.addr(), tls());
        asking.nats.servers[0].tls = true;
        said(&asking, &["offers no TLS", "nats.url (tls://) or nats.tls"]).stop();
    }
}

#[test]
fn a_server_that_wants_tls_first_gets_it_first() {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(HERE).expect("a certificate");
    let server = demanding(NatsVersion::Current, &authority, &files, "handshake_first: true");
    let mut first = settings(&server.addr(), trusting(&authority));
    first.nats.handshake_first = true;
    let taking = started(&first, 1);
    takes(&taking, &first, 0..20);
    taking.stop();
    // The other way round, each is said.
    let plain = demanding(NatsVersion::Current, &authority, &files, "");
    first.nats.servers = server_at(&plain.addr());
    said(&first, &["not TLS"]).stop();
    first.nats.handshake_first = false;
    first.nats.timeout = Duration::from_millis(500);
    first.nats.servers = server_at(&server.addr());
    let taking = started(&first, 1);
    taking.until_waiting(&["does not answer", "nats.tls.handshake_first"]);
    taking.stop();
}

#[test]
fn a_file_that_cannot_be_used_is_refused_at_the_start() {
    let authority = Authority::new().expect("a CA");
    let [one, two] = [(); 2].map(|()| authority.certificate(HERE).expect("a certificate"));
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing").expect("written");
    let gone = folder.path().join("gone.pem");
    let (cert, key, ca) = (one.cert.clone(), one.key.clone(), authority.ca());
    for (tls, words) in [
        (TlsConfig { ca: gone.clone(), ..tls() }, ["nats.tls.ca: ", "gone.pem: cannot be read (no such file"]),
        (TlsConfig { ca: empty.clone(), ..tls() }, ["nats.tls.ca: ", "empty.pem: there is no certificate in it"]),
        (
            TlsConfig { ca: ca.clone(), cert: empty.clone(), key: key.clone(), ..tls() },
            ["nats.tls.cert: ", "there is no certificate in it"],
        ),
        (
            TlsConfig { ca: ca.clone(), cert: cert.clone(), key: empty, ..tls() },
            ["nats.tls.key: ", "there is no private key in it"],
        ),
        (
            TlsConfig { ca: ca.clone(), cert: cert.clone(), key: two.key.clone(), ..tls() },
            ["nats.tls.key: ", "it is not the key of the certificate in nats.tls.cert"],
        ),
    ] {
        let config = settings("127.0.0.1:1", tls);
        let why = check_nats(&config).expect_err("a file is wrong");
        assert!(words.iter().all(|word| why.contains(word)) && !why.contains("BEGIN PRIVATE KEY-----\n"), "{why}");
    }
    check_nats(&settings("127.0.0.1:1", TlsConfig { ca, cert, key, ..tls() })).expect("all is well");
}

/// A server that says `greeting` to each client, and then does `then`.
fn fake(greeting: &'static str, then: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let then = std::sync::Arc::new(then);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let then = then.clone();
            thread::spawn(move || {
                let _ = stream.write_all(greeting.as_bytes());
                then(stream);
            });
        }
    });
    address
}

const DEMANDS: &str = "INFO {\"server_id\":\"fake\",\"headers\":true,\"max_payload\":1000,\"tls_required\":true}\r\n";

#[test]
fn a_peer_that_is_no_good_at_tls_is_said_in_time() {
    let authority = Authority::new().expect("a CA");
    let of = |address: String| {
        let mut settings = settings(&address, trusting(&authority));
        settings.nats.timeout = Duration::from_millis(800);
        settings
    };
    let stay = |mut stream: TcpStream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {};
    // A byte now and then does not draw out the time.
    let drip = |mut stream: TcpStream| {
        for byte in [22, 3, 3, 0, 80, 2, 0, 0, 76, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
            thread::park_timeout(Duration::from_millis(150));
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    };
    let hang_up = |mut stream: TcpStream| drop(stream.read(&mut [0; 4096]));
    let talk = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"+OK\r\nPING\r\nthis is no TLS at all, and never was\r\n");
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    };
    said(&of(fake(DEMANDS, stay)), &["does not finish the TLS handshake within 800ms"]).stop();
    said(&of(fake(DEMANDS, drip)), &["does not finish the TLS handshake within 800ms"]).stop();
    said(&of(fake(DEMANDS, hang_up)), &["no TLS with it", "cut off"]).stop();
    said(&of(fake(DEMANDS, talk)), &["no TLS with it", "not TLS"]).stop();
    let two = "INFO {\"headers\":true,\"max_payload\":1000,\"tls_required\":true}\r\nPONG\r\n";
    said(&of(fake(two, stay)), &["more than its first word came before TLS"]).stop();
}
