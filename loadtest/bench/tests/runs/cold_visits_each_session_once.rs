//! Promise: a cold workload visits each session once and ends then; what the engine looked up for it is in the document.

#[test]
fn each_session_is_looked_up_once_for_its_one_event() {
    let (run, printed) = crate::run_support::run(&["--workload", "cold", "--sessions", "3000", "--users", "30000"]);
    assert_eq!((run.figures.events, run.figures.pushes, run.verdict.expected), (3_000, 27_000, 27_000));
    assert_eq!(run.counters["member_query_sessions"], 3_000, "{:?}", run.counters);
    // Senders have routes too, and nobody is in two sessions.
    assert!((27_000..=30_000).contains(&run.counters["mget_keys"]), "{:?}", run.counters);
    assert!(printed.contains("lookups"), "{printed}");
}
