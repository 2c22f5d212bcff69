//! A server that does not speak NATS as it should is named, with what is wrong; it neither ends the reader nor makes it grow.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use task_engine::config::{Config, ConsumerConfig, NatsConfig};
use testkit::nats::server_at;

use crate::intake_support::{Seen, event, started, until};

const INFO: &str = "INFO {\"server_id\":\"fake\",\"version\":\"2.9.10\",\"max_payload\":1048576,\"headers\":true}\r\n";

/// A server that does `script` with each connection; its address.
fn fake(script: impl Fn(Talk) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let script = std::sync::Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            thread::spawn(move || script(Talk { stream, heard: String::new() }));
        }
    });
    address
}

/// The server's end of one connection.
struct Talk {
    stream: TcpStream,
    heard: String,
}

impl Talk {
    /// Says something; whoever has gone does not hear it.
    fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Reads until `text` was heard, from where the last one ended. False when the client has gone.
    fn hear(&mut self, text: &str) -> bool {
        loop {
            if let Some(at) = self.heard.find(text) {
                self.heard.drain(..at + text.len());
                return true;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return false,
                Ok(count) => self.heard.push_str(&String::from_utf8_lossy(&bytes[..count])),
            }
        }
    }

    /// Waits until the client has gone.
    fn until_gone(&mut self) {
        self.hear("never");
    }

    /// The login, the subscription and its confirmation.
    fn greet(&mut self, info: &str) -> &mut Self {
        self.say(info);
        self.hear("PING\r\n");
        self.say("PONG\r\n");
        self.hear("PING\r\n");
        self.say("PONG\r\n")
    }

    /// Answers PINGs until the client goes.
    fn stay(&mut self) {
        while self.hear("PING\r\n") {
            self.say("PONG\r\n");
        }
    }
}

fn settings(address: &str) -> Config {
    let nats = NatsConfig {
        servers: server_at(address),
        timeout: Duration::from_secs(2),
        reconnect_delay: Duration::from_millis(20),
        ping_interval: Duration::from_millis(200),
        ..NatsConfig::default()
    };
    let consumer = ConsumerConfig { topic: "events".to_owned(), ..ConsumerConfig::default() };
    Config { nats, consumer, ..Config::default() }
}

/// What is said of a server that does this.
fn said_of(script: impl Fn(Talk) + Send + Sync + 'static, words: &[&str]) {
    let address = fake(script);
    let taking = started(&settings(&address), 1);
    let said = taking.until_waiting(words);
    assert!(said.contains(&address), "{said}");
    taking.source.stop();
}

#[test]
fn what_is_no_nats_is_said() {
    said_of(|mut talk| talk.say("HTTP/1.1 400 Bad Request\r\n\r\n").until_gone(), &["not a NATS server", "nats.url"]);
    said_of(|mut talk| talk.say("SSH-2.0-OpenSSH_9\r\n").until_gone(), &["not a NATS server"]);
    said_of(|mut talk| talk.say("INFO {not json\r\n").until_gone(), &["INFO"]);
    said_of(drop, &["closed"]);
}

#[test]
fn what_stops_in_the_middle_or_lies_of_its_length_is_said() {
    said_of(|mut talk| talk.greet(INFO).say("MSG events 1 99999999999\r\n").until_gone(), &["does not speak NATS"]);
    said_of(|mut talk| talk.greet(INFO).say("MSG events 1 3\r\nabcdef\r\n").until_gone(), &["does not speak NATS"]);
    said_of(|mut talk| talk.greet(INFO).say("MSG events 1 -3\r\nabc\r\n").until_gone(), &["does not speak NATS"]);
    said_of(|mut talk| talk.greet(INFO).say("MSG events 1 100\r\nabc").until_gone(), &["no sign of life"]);
    said_of(|mut talk| talk.say("INFO {\"server_id\":").until_gone(), &["does not answer"]);
}

#[test]
fn errors_in_any_state_are_said() {
    let tls = "INFO {\"server_id\":\"fake\",\"tls_required\":true}\r\n";
    said_of(move |mut talk| talk.say(tls).until_gone(), &["TLS"]);
    said_of(|mut talk| talk.say(INFO).say("-ERR 'Authorization Violation'\r\n").until_gone(), &["login was refused"]);
    said_of(|mut talk| talk.greet(INFO).say("-ERR 'Stale Connection'\r\n").until_gone(), &["tale"]);
    said_of(
        |mut talk| talk.greet(INFO).say("-ERR 'maximum connections exceeded'\r\n").until_gone(),
        &["maximum connections exceeded"],
    );
}

#[test]
fn an_info_of_ten_thousand_addresses_in_small_pieces_and_messages_for_nobody_do_no_harm() {
    let urls: Vec<_> = (0..10_000).map(|number| format!("\"127.0.0.1:{}\"", 1 + number)).collect();
    let info = format!("INFO {{\"server_id\":\"fake\",\"connect_urls\":[{}]}}\r\n", urls.join(","));
    assert!(info.len() > 128 * 1024);
    let address = fake(move |mut talk| {
        let (first, last) = info.split_at(info.len() - 10);
        first.as_bytes().chunks(1000).for_each(|piece| {
            talk.say(piece);
        });
        talk.greet(last);
        let message = |sid: u32, payload: &[u8]| {
            [format!("MSG events {sid} {}\r\n", payload.len()).as_bytes(), payload, b"\r\n"].concat()
        };
        talk.say(message(77, b"for nobody")).say(message(1, &event("s", 5)));
        talk.stay();
    });
    let taking = started(&settings(&address), 1);
    taking.until_ready();
    let mut seen = Seen::default();
    until("the event is taken", || {
        seen.take(&taking);
        seen.events == 1
    });
    taking.source.stop();
    assert_eq!(taking.intake.counts().read(), 1);
}

/// A message on subscription 1.
fn message(session: &str, number: u64) -> Vec<u8> {
    let payload = event(session, number);
    [format!("MSG events 1 {}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat()
}

#[test]
fn a_server_that_is_about_to_end_is_left_for_the_one_it_names_and_its_last_events_come_first() {
    let other = fake(move |mut talk| {
        talk.say(INFO);
        talk.hear("PING\r\n");
        talk.say("PONG\r\n");
        // Before the subscription is confirmed, and so before the old server is left.
        talk.hear("PING\r\n");
        talk.say(message("s", 6)).say("PONG\r\n").stay();
    });
    let address = fake(move |mut talk| {
        talk.greet(INFO);
        talk.say(message("s", 4));
        talk.say(format!("INFO {{\"server_id\":\"fake\",\"ldm\":true,\"connect_urls\":[\"{other}\"]}}\r\n"));
        if talk.hear("UNSUB 1\r\n") {
            talk.say(message("s", 5));
        }
        talk.stay();
    });
    let taking = started(&settings(&address), 1);
    let mut seen = Seen::default();
    until("all are taken", || {
        seen.take(&taking);
        seen.events == 3
    });
    assert_eq!(seen.sessions["s"].1, [4, 5, 6]);
    taking.until_ready();
    taking.source.stop();
}
