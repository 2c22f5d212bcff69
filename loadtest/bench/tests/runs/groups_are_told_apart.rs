//! Promise: a run of a workload with several groups of sessions tells each one's latency, and together they are the run's.

#[test]
fn the_counts_of_the_groups_sum_up_to_the_pushes_of_the_run() {
    let (run, printed) = crate::run_support::run(&["--workload", "mixed", "--seconds", "2", "--warm-up", "0"]);
    // 400 events per second follow the shares 279, 120 and 1 exactly.
    let counts: Vec<_> = run.groups.iter().map(|group| (group.group.as_str(), group.latency.count)).collect();
    assert_eq!(counts, [("2 members", 2 * 279), ("100 members", 2 * 120 * 99), ("5,000 members", 2 * 4_999)]);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), run.figures.pushes);
    let max = run.groups.iter().map(|group| group.latency.max_ms).fold(0.0, f64::max);
    assert_eq!(max, run.figures.latency.max_ms, "the slowest push is of one of them");
    for words in ["latency by kind of session", "2 members", "100 members", "5,000 members"] {
        assert!(printed.contains(words), "{words} is not in {printed}");
    }
}
