//! What both servers send is read to its last byte: messages, headers, statuses of JetStream, complaints, lame duck mode.
//!
//! With UPDATE_CORPUS=1 what they sent becomes the corpus of `fuzzed_nats`.

use std::io::{ErrorKind as IoError, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::servers::{Nats, NatsOptions, NatsVersion};
use rustix::process::{Pid, Signal, kill_process};
use task_engine::edge::nats::protocol::{
    Connect, Decoder, ErrorKind, Frame, Headers, Login, Message, PING, PONG, ServerError, ServerInfo, Step, connect,
    publish, publish_with_headers, subscribe, unsubscribe,
};

const PATIENCE: Duration = Duration::from_secs(20);
const VERSIONS: [NatsVersion; 2] = [NatsVersion::Installed, NatsVersion::Current];

/// A connection, and all that came over it.
struct Talk {
    stream: TcpStream,
    decoder: Decoder,
    came: Vec<u8>,
    read: usize,
    info: ServerInfo,
}

impl Talk {
    /// Connects and reads the first INFO.
    fn open(server: &Nats) -> Self {
        let stream = TcpStream::connect(server.addr()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let decoder = Decoder::default();
        let mut talk = Self { stream, decoder, came: Vec::new(), read: 0, info: ServerInfo::default() };
        talk.until("its INFO", |frame| matches!(frame, Frame::Info(_)));
        assert!(talk.info.headers && talk.info.max_payload > 0 && talk.info.port > 0, "{:?}", talk.info);
        talk
    }

    /// Logged in, or not.
    fn with(server: &Nats, login: Login<'_>) -> Self {
        let mut talk = Self::open(server);
        talk.say(|out| connect(out, &Connect { login, echo: true, ..Connect::new("test") }));
        talk
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).expect("it reads");
    }

    /// Reads frames up to one that is awaited; PINGs are answered.
    fn until(&mut self, what: &str, mut is_it: impl FnMut(&Frame<'_>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let step = self.decoder.next(&self.came[self.read..]);
            match step.unwrap_or_else(|error| panic!("{error}")) {
                Step::Frame(frame, used) => {
                    if let Frame::Info(json) = frame {
                        self.info = ServerInfo::parse(json).expect("JSON");
                    }
                    let (is_found, is_ping) = (is_it(&frame), frame == Frame::Ping);
                    self.read += used;
                    if is_ping {
                        self.stream.write_all(PONG).expect("it reads");
                    }
                    if is_found {
                        return;
                    }
                }
                Step::More { .. } => assert!(self.more(deadline), "{what} did not come"),
            }
        }
    }

    /// Reads once; false at the end of the connection or of the time.
    fn more(&mut self, deadline: Instant) -> bool {
        let mut piece = [0; 4096];
        while Instant::now() < deadline {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(count) => {
                    self.came.extend_from_slice(&piece[..count]);
                    return true;
                }
                Err(error) if matches!(error.kind(), IoError::WouldBlock | IoError::TimedOut) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn settled(&mut self) {
        self.say(|out| out.extend_from_slice(PING));
        self.until("PONG", |frame| *frame == Frame::Pong);
    }

    fn until_error(&mut self, kind: &ErrorKind) {
        self.until(&format!("{kind:?}"), |frame| {
            let Frame::Error(words) = frame else { return false };
            let error = ServerError::parse(words);
            assert_eq!(error.kind, *kind, "{error}");
            true
        });
    }

    fn until_status(&mut self, code: u16, words: &str) {
        self.until(&format!("{code} {words}"), |frame| {
            let Frame::Message(Message { headers: Some(block), .. }) = frame else { return false };
            Headers::of(block).status.is_some_and(|status| status.code == code && status.description.contains(words))
        });
    }

    /// The server closes the connection, and nothing is left over.
    fn until_closed(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.more(deadline) {}
        assert!(Instant::now() < deadline, "it closes");
    }

    /// All that came is frames; with UPDATE_CORPUS it is kept.
    fn end(self, name: &str) {
        let (mut decoder, mut unread) = (Decoder::default(), &self.came[..]);
        while let Ok(Step::Frame(_, used)) = decoder.next(unread) {
            unread = &unread[used..];
        }
        assert!(unread.is_empty(), "{name}: {}", unread.escape_ascii());
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/nats");
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(format!("{}-{name}", self.info.version)), &self.came).expect("written");
        }
    }
}

fn start(version: NatsVersion, config: &str) -> Nats {
    let options = NatsOptions { version, config: config.to_owned(), ..NatsOptions::default() };
    Nats::start(&options).expect("a server")
}

#[test]
fn messages_with_and_without_headers() {
    for version in VERSIONS {
        let server = start(version, "");
        let mut talk = Talk::open(&server);
        talk.say(|out| connect(out, &Connect { verbose: true, echo: true, ..Connect::new("test") }));
        talk.until("+OK", |frame| *frame == Frame::Ok);
        talk.say(|out| {
            subscribe(out, b"a.*", None, 1).expect("a subject");
            subscribe(out, b"inbox.>", None, u64::MAX >> 1).expect("a subject");
            subscribe(out, b"queue", Some(b"q"), 3).expect("a subject");
            publish(out, b"a.b", None, b"hello").expect("a subject");
            publish(out, b"a.c", Some(b"inbox.1"), b"").expect("a subject");
            publish_with_headers(out, b"a.d", None, &[("Nats-Msg-Id", "7"), ("Empty", "")], b"with headers")
                .expect("one");
            publish_with_headers(out, b"inbox.2", Some(b"inbox.3"), &[("Only", "headers")], b"").expect("a subject");
            publish(out, b"a.e", None, &[0xff; 300]).expect("a subject");
            publish(out, b"nobody", Some(b"inbox.4"), b"?").expect("a subject");
            unsubscribe(out, 1, Some(9));
        });
        let mut messages = 0;
        talk.until("503", |frame| {
            let Frame::Message(message) = frame else { return false };
            messages += 1;
            message.subject == b"inbox.4"
        });
        assert_eq!(messages, 6);
        talk.say(|out| subscribe(out, b"a..b", None, 4).expect("it is written"));
        talk.until_error(&ErrorKind::InvalidSubject);
        talk.settled();
        talk.end("core");
    }
}

#[test]
fn statuses_of_jetstream() {
    for version in VERSIONS {
        let options = NatsOptions { version, jetstream: true, ..NatsOptions::default() };
        let server = Nats::start(&options).expect("a server");
        let mut talk = Talk::with(&server, Login::default());
        assert!(talk.info.jetstream);
        let ask = |talk: &mut Talk, api: &str, body: &str| {
            talk.say(|out| {
                publish(out, format!("$JS.API.{api}").as_bytes(), Some(b"inbox.x"), body.as_bytes()).expect("one")
            });
        };
        talk.say(|out| subscribe(out, b"inbox.x", None, 1).expect("a subject"));
        let answered = |talk: &mut Talk, kind: &'static str| {
            let is_it = |payload: &[u8]| payload.windows(kind.len()).any(|part| part == kind.as_bytes());
            talk.until(kind, |frame| matches!(frame, Frame::Message(message) if is_it(message.payload)));
        };
        ask(&mut talk, "STREAM.CREATE.S", r#"{"name":"S","subjects":["e.*"],"storage":"memory"}"#);
        answered(&mut talk, "stream_create_response");
        let consumer = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","max_waiting":2}}"#;
        ask(&mut talk, "CONSUMER.DURABLE.CREATE.S.C", consumer);
        answered(&mut talk, "consumer_create_response");
        talk.say(|out| {
            publish(out, b"e.1", Some(b"inbox.x"), b"one").expect("a subject");
            publish_with_headers(out, b"e.2", Some(b"inbox.x"), &[("Nats-Msg-Id", "2")], b"two").expect("a subject");
        });
        answered(&mut talk, "\"seq\":2}");
        let next = "CONSUMER.MSG.NEXT.S.C";
        // A consumer hears of what is stored a little later; a pull that does not wait may find nothing.
        ask(&mut talk, next, r#"{"batch":2,"expires":9000000000}"#);
        let mut acks = Vec::new();
        talk.until("both events", |frame| {
            if let Frame::Message(Message { reply: Some(reply), .. }) = frame {
                publish(&mut acks, reply, None, b"+ACK").expect("a subject");
            }
            acks.windows(4).filter(|end| end == b"+ACK").count() == 2
        });
        talk.say(|out| out.extend_from_slice(&acks));
        ask(&mut talk, next, r#"{"batch":1,"no_wait":true}"#);
        talk.until_status(404, "No Messages");
        ask(&mut talk, next, r#"{"batch":1,"expires":400000000,"idle_heartbeat":100000000}"#);
        talk.until_status(100, "Idle Heartbeat");
        talk.until_status(408, "Request Timeout");
        (0..3).for_each(|_| ask(&mut talk, next, r#"{"batch":1,"expires":5000000000}"#));
        talk.until_status(409, "Exceeded MaxWaiting");
        ask(&mut talk, "CONSUMER.DELETE.S.C", "");
        talk.until_status(409, "Consumer Deleted");
        talk.settled();
        talk.end("jetstream");
    }
}

#[test]
fn what_a_user_may_not_do() {
    let who = r#"{user: u, password: pw, permissions: {subscribe: ["ok.>"], publish: ["ok.>"]}}"#;
    for version in VERSIONS {
        let server = start(version, &format!("authorization {{ users: [{who}] }}\n"));
        let login = Login { user: Some("u"), pass: Some("pw"), ..Login::default() };
        let mut talk = Talk::with(&server, login);
        assert!(talk.info.auth_required);
        talk.say(|out| publish(out, b"no.\"way\"", None, b"x").expect("a subject"));
        talk.until_error(&ErrorKind::MayNotPublish { subject: "no.\"way\"".to_owned() });
        talk.say(|out| subscribe(out, b"no.>", Some(b"q"), 1).expect("a subject"));
        talk.until_error(&ErrorKind::MayNotSubscribe { subject: "no.>".to_owned(), queue: Some("q".to_owned()) });
        talk.say(|out| subscribe(out, b"no.>", None, 2).expect("a subject"));
        talk.until_error(&ErrorKind::MayNotSubscribe { subject: "no.>".to_owned(), queue: None });
        talk.settled();
        talk.end("permissions");
        let mut talk = Talk::with(&server, Login { pass: Some("wrong"), ..login });
        talk.until_error(&ErrorKind::AuthorizationViolation);
        talk.until_closed();
        talk.end("bad-login");
    }
}

#[test]
fn what_closes_a_connection() {
    let config = "max_connections: 2\nmax_payload: 1000\nmax_subscriptions: 1\nping_interval: \"300ms\"\nping_max: 1\n";
    for version in VERSIONS {
        let server = start(version, config);
        for (name, line, kind) in [
            ("max-payload", &b"PUB a 1001\r\n"[..], ErrorKind::MaxPayload),
            ("unknown", b"GET / HTTP/1.1\r\n", ErrorKind::UnknownProtocol),
            ("old-protocol", b"CONNECT {\"protocol\":7}\r\n", ErrorKind::UnknownProtocol),
        ] {
            let mut talk = Talk::with(&server, Login::default());
            talk.say(|out| out.extend_from_slice(line));
            talk.until_error(&kind);
            talk.until_closed();
            talk.end(name);
        }
        let mut talk = Talk::with(&server, Login::default());
        talk.say(|out| (1..3).for_each(|sid| subscribe(out, b"a", None, sid).expect("a subject")));
        talk.until_error(&ErrorKind::MaxSubscriptions);
        talk.settled();
        let other = Talk::with(&server, Login::default());
        let mut third = Talk::open(&server);
        third.until_error(&ErrorKind::MaxConnections);
        third.until_closed();
        third.end("max-connections");
        drop(other);
        // It answers no PING from here on.
        let deadline = Instant::now() + PATIENCE;
        while talk.more(deadline) {}
        talk.until_error(&ErrorKind::StaleConnection);
        talk.end("max-subscriptions-and-stale");
    }
}

#[test]
fn a_server_that_is_about_to_stop_says_so() {
    for version in VERSIONS {
        let server = start(version, "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"10s\"\n");
        let mut talk = Talk::with(&server, Login::default());
        talk.settled();
        assert!(!talk.info.lame_duck_mode);
        let pid = server.pid().and_then(|pid| Pid::from_raw(pid as i32)).expect("it runs");
        kill_process(pid, Signal::USR2).expect("it is told");
        let is_lame = |json: &[u8]| ServerInfo::parse(json).is_ok_and(|info| info.lame_duck_mode);
        talk.until("its last INFO", |frame| matches!(frame, Frame::Info(json) if is_lame(json)));
        talk.end("lame-duck");
    }
}
