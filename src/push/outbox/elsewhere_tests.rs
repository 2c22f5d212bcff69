//! Two records of one id: which addresses are opened, and when.

use std::time::Duration;

use super::answers_tests::{bundle, record};
use super::*;
use crate::model::gateway::Endpoint;
use crate::push::facts::{StreamEnd, StreamFact};

const AT: GatewayIx = GatewayIx(0);
const FIRST: u16 = 9000;
const OTHER: u16 = 9001;

struct Gateway {
    outbox: Outbox,
    now: Nanos,
    stream: StreamNo,
}

impl Gateway {
    /// One with something to send.
    fn new(others: &[u16]) -> Self {
        let mut gateway = Self {
            outbox: Outbox::new("gateway".into(), OutboxSettings::patient()),
            now: Nanos(1),
            stream: StreamNo(0),
        };
        gateway.list(others);
        assert!(gateway.outbox.put(bundle(1), gateway.now).is_ok());
        gateway
    }

    fn list(&mut self, others: &[u16]) {
        let others =
            others.iter().map(|port| Endpoint { host: "192.0.2.2".to_owned(), port: *port, secure: false }).collect();
        self.outbox.list(GatewayRecord { others, ..record(Protocol::Stream) }, self.now);
    }

    /// The port that is opened within some time; 0 when none is. What is left is finished on the way.
    fn opens(&mut self, within: Duration) -> u16 {
        let until = self.now.after(within);
        while self.now < until {
            let mut effects = Effects::default();
            self.outbox.tick(self.now, &mut effects);
            self.outbox.flush(AT, self.now, &mut effects);
            for output in effects.outputs {
                match output {
                    Output::Open { stream, endpoints, .. } => {
                        self.stream = stream;
                        return endpoints[0].port;
                    }
                    Output::Finish { .. } => {
                        self.says(StreamFact::Closed(StreamEnd::Finished));
                    }
                    _ => {}
                }
            }
            self.now = self.now.after(Duration::from_millis(20));
        }
        0
    }

    fn says(&mut self, fact: StreamFact) -> Effects {
        let mut effects = Effects::default();
        self.outbox.take(self.stream, fact, self.now, &mut effects);
        effects
    }

    fn refuses(&mut self) -> Effects {
        self.says(StreamFact::Closed(StreamEnd::NotOpened("connection refused".to_owned())))
    }
}

const SOON: Duration = Duration::from_secs(2);

#[test]
fn the_other_record_is_tried_when_nobody_answers_at_the_first_and_the_first_again_later() {
    let mut gateway = Gateway::new(&[OTHER]);
    assert_eq!(gateway.opens(SOON), FIRST);
    let said = gateway.refuses().warning.expect("a warning").1;
    assert!(said.contains("connection refused; several records claim this id"), "{said}");
    let began = gateway.now;
    assert_eq!(gateway.opens(SOON), OTHER);
    assert!(gateway.now.since(began) < Duration::from_millis(200));
    gateway.says(StreamFact::Opened);
    // The pause until the first is tried grows.
    for pause in [10, 20, 40] {
        assert_eq!(gateway.opens(Duration::from_secs(pause - 2)), 0, "{pause}");
        assert_eq!(gateway.opens(Duration::from_secs(4)), FIRST, "{pause}");
        gateway.refuses();
        assert_eq!(gateway.opens(SOON), OTHER);
        gateway.says(StreamFact::Opened);
    }
    assert_eq!(gateway.opens(Duration::from_secs(90)), FIRST);
    gateway.says(StreamFact::Opened);
    assert_eq!(gateway.opens(Duration::from_secs(200)), 0, "the first answers: it is used");
}

#[test]
fn a_stream_that_opened_and_broke_is_opened_at_the_same_record() {
    let mut gateway = Gateway::new(&[OTHER]);
    for port in [FIRST, FIRST, FIRST] {
        assert_eq!(gateway.opens(SOON), port);
        gateway.says(StreamFact::Opened);
        gateway.says(StreamFact::Closed(StreamEnd::Broken("reset".to_owned())));
    }
    assert_eq!(gateway.opens(SOON), FIRST);
    gateway.says(StreamFact::Opened);
    gateway.says(StreamFact::Closed(StreamEnd::NotOpened("UNAVAILABLE".to_owned())));
    assert_eq!(gateway.opens(SOON), FIRST, "whoever says 'not now' is there");
}

#[test]
fn other_records_that_come_and_go_leave_an_open_stream_alone_but_one_of_theirs() {
    let mut gateway = Gateway::new(&[]);
    assert_eq!(gateway.opens(SOON), FIRST);
    gateway.refuses();
    assert_eq!(gateway.opens(SOON), FIRST, "there is no other");
    gateway.says(StreamFact::Opened);
    gateway.list(&[OTHER]);
    assert_eq!(gateway.opens(SOON), 0);
    gateway.says(StreamFact::Closed(StreamEnd::Broken("reset".to_owned())));
    assert_eq!(gateway.opens(SOON), FIRST);
    gateway.refuses();
    assert_eq!(gateway.opens(SOON), OTHER);
    gateway.says(StreamFact::Opened);
    gateway.list(&[]);
    assert_eq!(gateway.opens(SOON), FIRST, "no record names the other address any more");
}
