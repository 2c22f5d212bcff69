//! Promise: OpenTelemetry's own variables count where events are traced and nowhere else; headers are shown nowhere; what cannot be
//! used is told with its place.

use task_engine::config::{Checked, Flags, TraceExport, parse, show};

const ON: &str = "tracing:\n  export: otlp\n";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Checked, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    parse("f.yaml", text, environment, &Flags::default()).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn the_standard_variables_count_where_events_are_traced() {
    let file = format!("{ON}  endpoint: http://of-file:1\n  service_name: of-file\n");
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4318/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=HIDDEN,tenant=a%20b"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
        ("OTEL_SERVICE_NAME", "push"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,host.name=h"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ];
    let config = load(&file, &environment).expect("right").config;
    let tracing = &config.tracing;
    assert_eq!((tracing.url().as_str(), tracing.is_over_tls()), ("https://collector.example:4318/v1/traces", true));
    let pairs =
        |pairs: Vec<(String, String)>| pairs.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>();
    assert_eq!(pairs(tracing.header_pairs()), ["api-key: HIDDEN", "tenant: a b"]);
    let resource = ["service.name: push", "deployment.environment.name: test", "host.name: h"];
    assert_eq!(
        (pairs(tracing.resource_pairs()), tracing.tls.ca.to_str()),
        (resource.map(str::to_owned).to_vec(), Some("/etc/ca.pem"))
    );
    assert!(!show(&config).contains("HIDDEN") && !format!("{config:?}").contains("HIDDEN"));
    assert!(load(&show(&config), &[]).is_ok(), "what is shown is read again");
}

#[test]
fn a_variable_of_ours_wins_and_one_of_traces_wins_over_one_of_all_signals() {
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:2/v1/traces");
    let ours = ("RESONANCE_TRACING_ENDPOINT", "http://ours:3");
    let on = ("RESONANCE_TRACING_EXPORT", "otlp");
    for (environment, url) in [
        (vec![on, all], "http://all:1/v1/traces"),
        (vec![on, traces, all], "http://traces:2/v1/traces"),
        (vec![on, traces, all, ours], "http://ours:3/v1/traces"),
        (vec![on, all, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")], "http://all:1/v1/traces"),
        (vec![on], "http://localhost:4318/v1/traces"),
        (vec![traces, all], "http://localhost:4318/v1/traces"),
    ] {
        let checked = load("", &environment).expect("right");
        assert_eq!((checked.config.tracing.url().as_str(), checked.notes), (url, Vec::new()), "{environment:?}");
    }
}

#[test]
fn what_all_processes_of_a_host_are_given_stops_no_engine_that_traces_nothing() {
    let environment =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"), ("OTEL_EXPORTER_OTLP_HEADERS", "none"), ("OTEL_NEW", "x")];
    let checked = load("", &environment).expect("nobody's business here");
    assert_eq!((checked.config.tracing.export, checked.notes), (TraceExport::Off, Vec::new()));
}

#[test]
fn what_cannot_be_used_is_told_with_its_place_and_without_a_secret() {
    let of = |name: &str, value: &str| load(ON, &[(name, value)]).expect_err(value);
    let endpoint = of("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    assert!(endpoint.starts_with("environment OTEL_EXPORTER_OTLP_ENDPOINT: tracing.endpoint: "), "{endpoint}");
    for (value, what) in [("HIDDEN", "part 1 is not name=value"), ("a b=HIDDEN", "part 1 cannot be a header of HTTP")] {
        let said = of("OTEL_EXPORTER_OTLP_HEADERS", value);
        assert!(said.starts_with("environment OTEL_EXPORTER_OTLP_HEADERS: tracing.headers: "), "{said}");
        assert!(said.contains(what) && !said.contains("HIDDEN"), "{said}");
    }
    for (line, what) in [
        ("endpoint: http://me:HIDDEN@host", "f.yaml:3:13: tracing.endpoint: names a user"),
        ("resource: staging", "tracing.resource: part 1 is not name=value"),
        ("slow_after: 2h", "tracing.slow_after: 2h is not from 0s to 1h"),
        ("spans_per_second: 0", "tracing.spans_per_second: 0 is not from 1 to 100000"),
        ("tls: {ca: /ca.pem}", "tracing.tls.ca: needs an endpoint with https://"),
    ] {
        let said = load(&format!("{ON}  {line}\n"), &[]).expect_err(line);
        assert!(said.lines().count() == 1 && said.contains(what) && !said.contains("HIDDEN"), "{line}: {said}");
    }
}
