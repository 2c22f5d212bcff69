use super::*;
use crate::config::Language;
use crate::model::ids::Partition;
use crate::ownership::Ownership;
use crate::ownership::records::Layout;
use crate::ownership::settings::{Lock, Settings, Timings};
use crate::telemetry::metrics::{Format, reference};

fn status() -> Status {
    let settings = Settings {
        instance: "a".into(),
        boot: "1".to_owned(),
        lock: Lock::default(),
        weight: 2,
        admin: String::new(),
        version: String::new(),
        layout: Layout { partitions: 64, ..Layout::default() },
        shards: 2,
        timings: Timings::of_ttl(Duration::from_secs(5)),
    };
    Ownership::new(settings, boottime()).status()
}

#[test]
fn readyz_is_told_what_the_status_says_and_that_a_thread_stands_still() {
    let mut status = status();
    assert_eq!(health(&status, Duration::ZERO), Health::Waiting("no lease yet".to_owned()));
    (status.is_member, status.plan) = (true, Some((17, "a".to_owned())));
    status.permit = [Duration::from_secs(2), Duration::ZERO];
    let line = "0 of 64 partitions, plan 17 by a, permit 2.0 s";
    assert_eq!(health(&status, Duration::ZERO), Health::Says(line.to_owned()), "owning none is ready");
    status.etcd_silent = Some(Duration::from_secs(8));
    let Health::Degraded(why) = health(&status, Duration::ZERO) else { panic!("etcd is away") };
    assert!(why.starts_with("etcd away for 8 s"), "{why}");
    let Health::Waiting(why) = health(&status, Duration::from_secs(4)) else { panic!("the thread stands still") };
    assert!(why.contains("not moved for 4.0 s"), "{why}");
    assert!(matches!(Board::default().health(), Health::Waiting(_)), "before it has begun");
}

#[test]
fn the_page_shows_what_was_published_and_nothing_before() {
    let (meter, _publishers) = Meter::new(1);
    let board = Arc::new(Board::default());
    register(&meter, &board);
    let samples = || -> Vec<String> {
        let page = meter.render(Format::Text);
        page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert!(!samples().iter().any(|line| line.contains("partition") || line.contains("gate_shut")));
    let mut told = status();
    told.by_state[5] = 21;
    told.counts.moves[1][MoveKind::Cut as usize] = 4;
    told.permit[1] = Duration::from_millis(750);
    board.publish(told, boottime());
    board.shut_for(Duration::from_millis(1_500));
    let moved = |took| Move { partition: Partition(1), is_in: true, kind: MoveKind::Clean, took };
    [10, 300, 500_000].into_iter().for_each(|millis| board.moved(&moved(Duration::from_millis(millis))));
    let shown = samples();
    for line in [
        "task_engine_partitions{state=\"owned\"} 21",
        "task_engine_partition_moves_total{kind=\"cut\",way=\"out\"} 4",
        "task_engine_permit_seconds{source=\"nats\"} 0.75",
        "task_engine_gate_shut_seconds_total 1.5",
        "task_engine_partition_pause_seconds_count{kind=\"clean\"} 3",
        "task_engine_partition_pause_seconds_bucket{le=\"0.01\",kind=\"clean\"} 1",
        "task_engine_partition_pause_seconds_bucket{le=\"0.5\",kind=\"clean\"} 2",
        "task_engine_partition_pause_seconds_bucket{le=\"120.0\",kind=\"clean\"} 2",
        "task_engine_partition_pause_seconds_bucket{le=\"+Inf\",kind=\"clean\"} 3",
        "task_engine_partition_drain_seconds_count{kind=\"cut\"} 0",
    ] {
        assert!(shown.iter().any(|one| one == line), "{line} in {shown:#?}");
    }
}

#[test]
fn metrics_md_knows_the_states_and_reasons() {
    let text = reference(Language::English);
    let quoted = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    assert!(text.contains(&quoted(&Status::PHASES)) && text.contains(&quoted(&BREAKS)), "{text}");
    let kinds = MoveKind::ALL.map(MoveKind::label);
    assert!(text.contains(&quoted(&kinds)));
    let status = status();
    for (op, ..) in status.etcd {
        assert!(["txn", "keepalive", "grant"].contains(&op), "{op} is not explained");
    }
}
