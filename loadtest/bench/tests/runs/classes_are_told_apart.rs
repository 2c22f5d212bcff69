//! Promise: a run of a workload whose messages say their class tells each class's latency, in the document, in print and on the page,
//! and what is shed is what the engine counts.

use crate::run_support::run;

#[test]
fn the_counts_of_the_classes_sum_up_to_the_pushes_of_the_run() {
    let (run, printed) = run(&["--workload", "priority", "--rate", "100", "--seconds", "2", "--warm-up", "0"]);
    let classes: Vec<_> = run.classes.iter().map(|class| (class.class.as_str(), class.latency.count)).collect();
    let [("urgent", urgent), ("normal", normal), ("bulk", bulk), ("fleeting", fleeting)] = classes[..] else {
        panic!("{classes:?}");
    };
    // 100 events per second follow the shares 1, 90 and 9 exactly.
    assert_eq!((urgent, bulk, normal + fleeting + run.verdict.shed), (2, 2 * 90 * 100, 2 * 9 * 10));
    assert!(normal > 0 && fleeting > 0, "{classes:?}");
    assert_eq!(classes.iter().map(|(_, count)| count).sum::<u64>(), run.figures.pushes);
    let parts = run.classes.iter().map(|class| class.percent_under_load);
    assert!((parts.sum::<f64>() - 100.0).abs() < 1e-6, "{:?}", run.classes);
    assert_eq!(run.counters["recipients_shed"], run.verdict.shed);
    for words in ["latency by class of messages", "urgent", "fleeting", "under load"] {
        assert!(printed.contains(words), "{words} is not in {printed}");
    }
}
