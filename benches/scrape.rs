//! One scrape of `/metrics`, per page: all shards have handed over a report with every histogram full, and every gateway has a line.
//! The shards are not waited for and not held up by it: they publish without a lock (`interleavings` proves that of the seqlock).
//!
//! Not in it: the socket, and TLS.

mod support;

use std::time::Duration;

use task_engine::model::ids::GatewayId;
use task_engine::model::priority::{ClassCounts, Priority};
use task_engine::model::push_latency::PushLatency;
use task_engine::telemetry::metrics::{
    BUCKETS, Format, GATEWAYS_NAMED, GatewayRow, GatewayState, Meter, ShardPublisher, Stage, StageHistograms,
};

const SHARDS: [u16; 3] = [1, 8, 16];

fn main() {
    support::run("scrape (per page)", |cases| {
        for shards in SHARDS {
            for (format, name) in [(Format::Text, "text"), (Format::OpenMetrics, "openmetrics")] {
                let (meter, mut publishers) = Meter::new(shards);
                let gateways_each = GATEWAYS_NAMED / usize::from(shards);
                cases.case(format!("{shards}-shards/{name}"), 1, |clock| {
                    for (number, publisher) in publishers.iter_mut().enumerate() {
                        report(publisher, number * gateways_each, gateways_each);
                    }
                    let page = clock.time(|| meter.render(format));
                    let last = shards as usize * gateways_each - 1;
                    assert!(page.contains(&format!("\"gw-{last}\"")), "a gateway has no line");
                });
            }
        }
    });
}

/// What a shard hands over once a second.
fn report(publisher: &mut ShardPublisher, first: usize, count: usize) {
    let mut stages = StageHistograms::default();
    for stage in Stage::ALL {
        BUCKETS.iter().for_each(|bound| stages.record(*stage, Duration::from_secs_f64(*bound)));
    }
    let mut latency = PushLatency::default();
    let mut classes = ClassCounts::default();
    for class in [Priority::Urgent, Priority::Normal, Priority::Bulk, Priority::Fleeting] {
        for bound in BUCKETS {
            latency.record(class, Some(Duration::from_secs_f64(bound).as_nanos() as u64), 1);
            classes.latency[class as usize].record_nanos(Duration::from_secs_f64(bound).as_nanos() as u64, 1);
        }
    }
    let is_taken = publisher.hand_over(&mut stages, |report| {
        report.gateways.extend((first..first + count).map(|number| GatewayRow {
            gateway: GatewayId::from(format!("gw-{number}").as_str()),
            state: GatewayState::Open,
            backlog_recipients: number as u64,
            oldest_push_seconds: 1,
            delivered: 1_000_000 + number as u64,
            timed_out: number as u64,
        }));
        report.warnings.push(("a reason", 1));
        (report.classes, report.latency) = (Some(Box::new(classes)), Some(Box::new(latency)));
    });
    assert!(is_taken, "the page takes each report");
}
