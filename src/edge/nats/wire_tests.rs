//! Servers that are none, that stop in the middle, that refuse, that say much.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::config::{HostPort, NatsAuth, Secret};

const TIMEOUT: Duration = Duration::from_secs(1);
const INFO: &str = "INFO {\"headers\":true,\"max_payload\":1000}\r\n";

/// Says `first`, and each of the rest when something came; then it is silent until the other side hangs up.
fn server(says: &[&str]) -> (NatsConfig, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = HostPort { host: "127.0.0.1".to_owned(), port: listener.local_addr().expect("an address").port() };
    let says: Vec<String> = says.iter().map(|&line| line.to_owned()).collect();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
        for line in says {
            if stream.write_all(line.as_bytes()).is_err() {
                break;
            }
            match stream.read(&mut piece) {
                Ok(count @ 1..) => heard.extend_from_slice(&piece[..count]),
                _ => return heard,
            }
        }
        while matches!(stream.read(&mut piece), Ok(1..)) {}
        heard
    });
    let auth = NatsAuth::Token(Secret::new("t0ken"));
    let servers = vec![NatsServer::plain(at)];
    (NatsConfig { servers, auth, timeout: TIMEOUT, ..crate::config::Config::default().nats }, thread)
}

/// Connects and asks once.
fn asked(says: &[&str]) -> Result<Answer, WireError> {
    let (config, thread) = server(says);
    let began = Instant::now();
    let answer = Wire::connect(&config, "test").and_then(|mut wire| {
        wire.inbox = "_INBOX.x".to_owned();
        wire.call(Request { subject: "a".to_owned(), headers: Vec::new(), payload: b"?" })
    });
    assert!(began.elapsed() < TIMEOUT * 10, "{:?}", began.elapsed());
    thread.join().expect("the server ends");
    answer
}

#[test]
fn what_is_wrong_with_a_server_is_said_in_time() {
    let away = "check nats.url and that the server runs";
    let cases = [
        (&["HTTP/1.1 400 Bad Request\r\n"][..], format!("the peer is not a NATS server; {away}")),
        (&["PONG\r\n"], format!("the peer is not a NATS server; {away}")),
        (&["INFO {\r\n"], format!("the peer is not a NATS server; {away}")),
        (&["INFO {"], format!("no answer within {TIMEOUT:?}; {away}")),
        (&[""], format!("no answer within {TIMEOUT:?}; {away}")),
        (&["INFO {}\r\n"], "takes no headers".to_owned()),
        (
            &["-ERR 'maximum connections exceeded'\r\n"],
            "says 'maximum connections exceeded'; check nats.token".to_owned(),
        ),
        (
            &[INFO, "-ERR 'bad t0ken'\r\n"],
            "says 'bad ***'; check nats.token (or the one in nats.url), and the user's permissions".to_owned(),
        ),
        (
            &[INFO, "-ERR 'Authorization Violation'\r\n"],
            ": the login was refused; check nats.token (or the one in nats.url)".to_owned(),
        ),
        (&[INFO, "PONG\r\n", "MSG a 1 5\r\nhel"], format!("no answer to a within {TIMEOUT:?}; {away}")),
        (&[INFO, "PONG\r\n", "MSG a 1 x\r\n"], "a message's length is not a number that can be read".to_owned()),
        (&[INFO, "PONG\r\n", "MSG a 1 3\r\nhello\r\n"], "does not end after the 3 bytes".to_owned()),
        (&[INFO, "PONG\r\n", "MSG a 1 99999999\r\n"], "a message of 99999999 bytes is not read".to_owned()),
        (&[INFO, "PONG\r\n", "what\r\n"], "the peer does not speak the NATS protocol".to_owned()),
    ];
    // Side by side, as some wait for the end of the time.
    thread::scope(|scope| {
        for (says, words) in &cases {
            scope.spawn(move || {
                let error = asked(says).expect_err(words).to_string();
                assert!(error.starts_with("NATS at 127.0.0.1:") && error.contains(words), "{says:?}: {error}");
                assert!(!error.contains("t0ken") && !error.contains("hello"), "{error}");
            });
        }
    });
}

#[test]
fn answers_are_read_however_much_is_said_between() {
    let urls: Vec<_> = (0..10_000).map(|at| format!("\"host-{at}.example.com:4222\"")).collect();
    let info = format!("INFO {{\"headers\":true,\"connect_urls\":[{}]}}\r\n", urls.join(","));
    let answer =
        "MSG other 1 2\r\nno\r\nMSG _INBOX.x.7 1 2\r\nno\r\n+OK\r\nINFO {}\r\nPING\r\nMSG _INBOX.x.0 1 3\r\nyes\r\n";
    assert_eq!(asked(&[&info, "+OK\r\nPONG\r\n", answer]), Ok(Answer::Message(b"yes".to_vec())));
    let nobody = "HMSG _INBOX.x.0 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
    assert_eq!(asked(&[INFO, "PONG\r\n", nobody]), Ok(Answer::NobodyListens));
    let headers = "HMSG _INBOX.x.0 1 4 6\r\nnoneok\r\n";
    assert_eq!(asked(&[INFO, "PONG\r\n", headers]), Ok(Answer::Message(b"ok".to_vec())));
}

#[test]
fn a_server_that_says_nothing_is_found_out_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let at = HostPort { host: address.ip().to_string(), port: address.port() };
    let timeout = Duration::from_millis(50);
    let nats = NatsConfig { servers: vec![NatsServer::plain(at)], timeout, ..NatsConfig::default() };
    let why = Wire::connect(&nats, "test").err().expect("silent").to_string();
    assert!(why.contains(&address.to_string()) && why.contains("no answer within 50ms"), "{why}");
    drop(silent);
    let why = Wire::connect(&nats, "test").err().expect("gone").to_string();
    assert!(why.contains(&address.to_string()) && why.contains("refused") && why.contains("nats.url"), "{why}");
}
