//! Events are told of as spans to a collector, with the publisher's span as their parent, whose headers reach the gateways; a collector
//! that breaks, hangs or is gone costs spans and nothing else; and the page shows how long pushes took since they were published.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::gateways::{Gateway, Protocols, Record};
use harness::pages;
use harness::servers::{OverTls, TlsDoor};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use task_engine::model::proto::event::PushEvent;
use testkit::engine::{Metrics, PATIENCE, Process, World, event, eventually};

use crate::collector::{Answer, Collector, attribute};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Of an event to two gateways: event, members, routes, and outbox and gateway twice.
const SPANS: u64 = 7;
const KEY: &str = "geheim-otlp";

fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn traced(msg_id: i64, traceparent: &str) -> PushEvent {
    let mut event = event("group:1", "system", msg_id);
    event.timestamp = now_millis();
    event.trace_headers.insert("traceparent".into(), traceparent.into());
    event.trace_headers.insert("tracestate".into(), "shop=1".into());
    event
}

fn sampled(msg_id: i64) -> PushEvent {
    traced(msg_id, &format!("00-{TRACE}-{PARENT}-01"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Scene {
    world: World,
    collector: Collector,
    engine: Process,
    _gateways: [Gateway; 2],
}

impl Scene {
    fn start() -> Self {
        let (world, collector) = (World::start(), Collector::start());
        let gateways = [("gw-1", Protocols::STREAM), ("gw-2", Protocols::BATCH)].map(|(id, of)| world.gateway(id, of));
        world.members("group:1", &["anna", "bert"]);
        world.members("group:2", &["anna", "gone"]);
        for (user, gateway) in [("anna", "gw-1"), ("bert", "gw-2"), ("gone", "gw-nowhere")] {
            world.route(user, gateway);
        }
        let more = "gateway:\n  delivery_timeout: 1s\nadmin:\n  push_latency: true\ntracing:\n  export: otlp\n  slow_after: 0s\n";
        let (endpoint, headers) = (format!("http://{}", collector.addr), format!("x-api-key={KEY},x-tenant=a%2Cb"));
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str()),
            ("OTEL_SERVICE_NAME", "push"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ("OTEL_TRACES_SAMPLER", "always_on"),
        ];
        let engine = world.engine_with(2, more, &variables);
        engine.wait_ready();
        Self { world, collector, engine, _gateways: gateways }
    }

    fn publish(&self, events: impl IntoIterator<Item = PushEvent>) {
        let publisher = self.world.publisher();
        events.into_iter().for_each(|event| publisher.send(&event.encode_to_vec()));
        publisher.flush();
    }

    fn records(&self, msg_id: i64) -> Vec<Record> {
        self.world.log.records().into_iter().filter(|record| record.msg_id == msg_id).collect()
    }

    /// Waits until so many spans were dropped for this reason.
    fn wait_dropped(&self, reason: &str, spans: u64) {
        let label = format!("reason=\"{reason}\"");
        self.engine.wait_metrics(&format!("{spans} spans are dropped: {reason}"), |metrics| {
            metrics.of("spans_dropped_total", &label) == spans
        });
    }
}

#[test]
fn spans_reach_a_collector_and_one_that_is_sick_costs_nothing_else() {
    let mut scene = Scene::start();
    the_publishers_trace_goes_on(&scene);
    what_nobody_records_is_not_told(&scene);
    the_page_shows_how_long_pushes_took(&scene);
    whoever_cannot_be_reached_is_told_of(&scene);
    a_sick_collector_costs_spans_only(&mut scene);
    let output = scene.engine.stop_clean();
    assert!(output.contains("took no spans") && !output.contains(KEY), "{output}");
}

fn the_publishers_trace_goes_on(scene: &Scene) {
    scene.publish([sampled(1)]);
    eventually("its spans are there", || scene.collector.spans().len() as u64 == SPANS);
    for record in scene.records(1) {
        let headers = record.message.expect("kept").trace_headers;
        assert_eq!(headers.get("traceparent").map(String::as_str), Some(&*format!("00-{TRACE}-{PARENT}-01")));
        assert_eq!(headers.get("tracestate").map(String::as_str), Some("shop=1"), "{}", record.gateway);
    }
    let spans = scene.collector.spans();
    let event = spans.iter().find(|span| span.name == "event").expect("the event's span");
    assert_eq!((hex(&event.trace_id), hex(&event.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!(attribute(&event.attributes, "resonance.msg_id").as_deref(), Some("1"));
    let at = Duration::from_nanos(event.start_time_unix_nano);
    assert!(at.as_millis().abs_diff(now_millis() as u128) < PATIENCE.as_millis(), "it is the wall clock's time");
    let mut names = BTreeMap::<&str, usize>::new();
    for span in &spans {
        *names.entry(&span.name).or_default() += 1;
        let times = [event.start_time_unix_nano, span.start_time_unix_nano, span.end_time_unix_nano];
        assert!(times.is_sorted() && span.end_time_unix_nano <= event.end_time_unix_nano, "{span:?}");
        assert_eq!(span.trace_id, event.trace_id);
        assert!(span.status.is_none(), "{span:?}");
        if span.name != "event" {
            assert_eq!(span.parent_span_id, event.span_id, "{}", span.name);
        }
    }
    assert_eq!(Vec::from_iter(names), [("event", 1), ("gateway", 2), ("members", 1), ("outbox", 2), ("routes", 1)]);
    let of = |span: &Span| attribute(&span.attributes, "task_engine.gateway");
    let mut gateways: Vec<_> = spans.iter().filter(|span| span.name == "gateway").filter_map(of).collect();
    gateways.sort();
    assert_eq!(gateways, ["gw-1", "gw-2"]);
    scene.collector.look(|taken| {
        let header = |name: &str| taken.headers.get(name).map(|value| value.to_str().expect("a text").to_owned());
        assert_eq!(header("x-api-key").as_deref(), Some(KEY));
        assert_eq!(header("x-tenant").as_deref(), Some("a,b"));
        assert_eq!(header("content-type").as_deref(), Some("application/x-protobuf"));
        let resource = taken.requests[0].resource_spans[0].resource.as_ref().expect("a resource");
        assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("push"));
        assert_eq!(attribute(&resource.attributes, "deployment.environment.name").as_deref(), Some("test"));
    });
}

fn what_nobody_records_is_not_told(scene: &Scene) {
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    scene.publish([
        traced(2, &unsampled),
        event("group:1", "system", 3),
        traced(4, "00-ff"),
        traced(5, &TRACE.repeat(200)),
    ]);
    let metrics = scene.engine.wait_ended(5);
    for msg_id in 2..=5 {
        let records = scene.records(msg_id);
        assert_eq!(records.len(), 2, "{msg_id}");
        let are_plain = records.iter().all(|record| record.message.as_ref().expect("kept").trace_headers.is_empty());
        assert!(are_plain, "{msg_id}");
    }
    assert_eq!(metrics.of("trace_headers_refused_total", ""), 2, "{}", metrics.numbers());
    assert_eq!((metrics.of("spans_sent_total", ""), metrics.of("spans_over_limit_total", "")), (SPANS, 0));
}

fn the_page_shows_how_long_pushes_took(scene: &Scene) {
    // One event has its timestamp in seconds.
    let metrics = scene.engine.wait_metrics("ten pushes are timed", |metrics| {
        metrics.of("push_latency_seconds_count", "class=\"normal\"") == 8
            && metrics.of("push_latency_unknown_total", "") == 2
    });
    assert_eq!(metrics.of("push_latency_seconds_bucket", "le=\"120.0\",class=\"normal\""), 8, "{}", metrics.numbers());
    assert!(!metrics.0.contains("trace_id="), "text 0.0.4 has no exemplars");
    let accept = "Accept: application/openmetrics-text\r\n";
    let page = pages::request(scene.engine.admin(), "GET", "/metrics", accept, PATIENCE).expect("a page").body;
    let with_one: Vec<_> = page.lines().filter(|line| line.contains(" # {")).collect();
    let [line] = &with_one[..] else { panic!("one exemplar: {with_one:?}") };
    assert!(line.starts_with("task_engine_push_latency_seconds_bucket{"), "{line}");
    assert!(line.contains(&format!(" # {{trace_id=\"{TRACE}\",span_id=\"")), "{line}");
}

fn whoever_cannot_be_reached_is_told_of(scene: &Scene) {
    scene.publish([event("group:2", "system", 6)]);
    eventually("it is told", || scene.collector.spans().len() as u64 > SPANS);
    let spans = scene.collector.spans().split_off(SPANS as usize);
    let event = &spans[0];
    assert!(event.parent_span_id.is_empty() && hex(&event.trace_id) != TRACE, "a trace of its own");
    assert!(event.status.is_some());
    let outbox = spans.iter().find(|span| span.name == "outbox").expect("it waited for its gateway");
    assert_eq!(attribute(&outbox.attributes, "task_engine.gateway").as_deref(), Some("gw-nowhere"));
    assert_eq!(outbox.status.as_ref().map(|status| status.message.as_str()), Some("timed_out"));
    let waited = outbox.end_time_unix_nano - outbox.start_time_unix_nano;
    assert!(Duration::from_nanos(waited) >= Duration::from_millis(900), "{waited}");
}

fn a_sick_collector_costs_spans_only(scene: &mut Scene) {
    let delivered = |scene: &Scene, events: u64| {
        let metrics = scene.engine.wait_ended(events);
        assert_eq!(metrics.recipients("delivered"), events * 2 - 1, "{}", metrics.numbers());
    };
    scene.collector.answers(Answer::TakesAllButOne);
    scene.publish([sampled(7)]);
    scene.wait_dropped("refused", 1);
    scene.collector.answers(Answer::Status(500));
    scene.publish([sampled(8)]);
    delivered(scene, 8);
    scene.wait_dropped("collector", SPANS);
    scene.collector.answers(Answer::Nothing);
    let asked = scene.collector.look(|taken| taken.asked);
    scene.publish([sampled(9)]);
    eventually("it holds a request", || scene.collector.look(|taken| taken.asked) > asked);
    delivered(scene, 9);
    scene.publish([sampled(10)]);
    delivered(scene, 10);
    // It takes again, but for the request that it holds; and then nobody has its port.
    scene.collector.answers(Answer::Takes);
    scene.wait_dropped("collector", SPANS * 2);
    scene.engine.wait_metrics("what waited is sent", |metrics| metrics.of("spans_sent_total", "") >= SPANS * 3);
    scene.collector = Collector::start();
    scene.publish([sampled(11)]);
    delivered(scene, 11);
    scene.wait_dropped("collector", SPANS * 3);
    assert_eq!(scene.collector.spans().len(), 0);
}

#[test]
fn a_collector_is_told_over_tls_and_only_when_it_proves_who_it_is() {
    let (tls, stranger) = (OverTls::new().expect("a CA"), OverTls::new().expect("another CA"));
    let (world, collector) = (World::start(), Collector::start());
    let door = TlsDoor::before(collector.addr.port(), &tls.authority, &tls.theirs).expect("a door");
    let _gateway = world.gateway("gw-1", Protocols::STREAM);
    world.members("group:1", &["anna"]);
    world.route("anna", "gw-1");
    let engine_that_trusts = |trusted: &OverTls| {
        let files = trusted.variables("RESONANCE_TRACING_TLS");
        let endpoint = format!("https://{}", door.address());
        let mut variables: Vec<_> = files.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect();
        variables.push(("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint));
        let engine = world.engine_with(1, "tracing:\n  export: otlp\n", &variables);
        engine.wait_ready();
        world.publisher().send(&sampled(1).encode_to_vec());
        engine
    };
    let engine = engine_that_trusts(&tls);
    let metrics = engine.wait_metrics("its spans are sent", |metrics| metrics.of("spans_sent_total", "") > 0);
    assert_eq!(collector.spans().len() as u64, metrics.of("spans_sent_total", ""));
    engine.stop_clean();

    let engine = engine_that_trusts(&stranger);
    let is_dropped = |metrics: &Metrics| metrics.of("spans_dropped_total", "reason=\"collector\"") > 0;
    let metrics = engine.wait_metrics("its spans are dropped", is_dropped);
    assert_eq!((metrics.of("spans_sent_total", ""), metrics.recipients("delivered")), (0, 1), "{}", metrics.numbers());
    let output = engine.stop_clean();
    assert!(output.contains("took no spans") && output.contains("tracing.tls.ca"), "{output}");
}
