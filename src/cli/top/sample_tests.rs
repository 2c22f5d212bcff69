use super::super::screen::{self, SIZE};
use super::*;

/// A page of an engine that has had so many events, of which a quarter of the recipients was not reached at gw-1.
fn page(events: u64, started: u64, with: &str) -> String {
    format!(
        "task_engine_process_start_time_seconds {started}\ntask_engine_ready 1\n\
         task_engine_events_arrived_total{{shard=\"0\"}} {events}\n\
         task_engine_recipients_ended_total{{end=\"delivered\",shard=\"0\"}} {}\n\
         task_engine_recipients_unreached_total{{why=\"offline\",shard=\"0\"}} {}\n\
         task_engine_recipients_unreached_total{{why=\"timed_out\",shard=\"0\"}} {}\n\
         task_engine_events_in_flight{{shard=\"0\"}} 3\ntask_engine_oldest_event_seconds{{shard=\"0\"}} 4.5\n\
         task_engine_stage_seconds_bucket{{stage=\"gateway\",le=\"0.001\"}} {}\n\
         task_engine_stage_seconds_bucket{{stage=\"gateway\",le=\"0.1\"}} {events}\n\
         task_engine_stage_seconds_bucket{{stage=\"gateway\",le=\"+Inf\"}} {events}\n\
         task_engine_gateway_backlog_recipients{{gateway=\"gw-1\"}} 12\n\
         task_engine_gateway_oldest_push_seconds{{gateway=\"gw-1\"}} 4.5\n\
         task_engine_gateway_recipients_delivered_total{{gateway=\"gw-1\"}} {events}\n\
         task_engine_gateway_state{{gateway=\"gw-1\",state=\"open\"}} 1\n\
         task_engine_gateway_state{{gateway=\"gw-1\",state=\"backoff\"}} 0\n{with}",
        events * 2,
        events / 2,
        events / 4,
        events / 2
    )
}

fn engines(count: usize) -> Overview {
    let began = Instant::now();
    let mut overview = Overview::new((0..count).map(|at| format!("10.0.0.{at}:9100")).collect());
    for at in 0..count {
        overview.take(at, Ok(Sample::of(&page(100, 7, ""), began - Duration::from_secs(2))));
        overview.take(at, Ok(Sample::of(&page(300, 7, ""), began)));
    }
    overview
}

#[test]
fn two_looks_make_rates_and_one_that_was_started_again_makes_none() {
    let mut overview = engines(1);
    let rates = |overview: &Overview| overview.rows()[0].rates.map(|rates| rates.map(|rate| rate.round()));
    assert_eq!(rates(&overview), Some([100.0, 200.0, 25.0, 50.0]));
    let gateway = &overview.stages()[4];
    assert_eq!((gateway.stage, gateway.half, gateway.rate.round()), ("gateway", Some(0.001), 100.0));
    assert!(gateway.high.is_some_and(|high| high > 0.09 && high < 0.1), "{gateway:?}");
    overview.take(0, Ok(Sample::of(&page(5, 8, ""), Instant::now())));
    assert_eq!(rates(&overview), None);
    overview.take(0, Err("refused".to_owned()));
    assert_eq!(overview.rows()[0].state, "silent");
}

#[test]
fn what_an_engine_waits_for_is_its_state_and_a_gateway_is_one_over_all() {
    let mut overview = engines(3);
    let waits = page(300, 7, "task_engine_dependency_up{dependency=\"mysql\"} 0\n").replace("ready 1", "ready 0");
    overview.take(1, Ok(Sample::of(&waits, Instant::now())));
    assert_eq!(overview.rows()[1].state, "waits: mysql");
    let gateways = overview.gateways();
    assert_eq!((gateways.len(), gateways[0].1.backlog, gateways[0].1.states.len()), (1, 36.0, 3));
    let json = overview.json();
    assert_eq!(
        (json["instances"].as_array().map(Vec::len), &json["gateways"][0]["gateway"]),
        (Some(3), &"gw-1".into())
    );
}

#[test]
fn a_screen_is_never_wider_or_longer_than_the_terminal() {
    let mut overview = engines(30);
    overview.take(
        2,
        Err("Connection refused (os error 111), and much more that is longer than any line of any terminal is"
            .to_owned()),
    );
    overview.take(
        3,
        Ok(Sample::of(
            &(0..99).map(|at| page(1, 7, "").replace("gw-1", &format!("gateway-\u{1b}-{at}"))).collect::<String>(),
            Instant::now(),
        )),
    );
    for size in [SIZE, (40, 10), (200, 60), (1, 1), (80, 4)] {
        let text = screen::text(&overview, size);
        assert!(text.lines().count() <= size.1, "{} lines\n{text}", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= size.0), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    let text = screen::text(&overview, SIZE);
    for word in ["of 30 ready", "event/s", "more", "p99", "backlog", "gateway"] {
        assert!(text.contains(word), "{word}\n{text}");
    }
}
