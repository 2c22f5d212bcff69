//! What a pump says of its shard less often than each turn, and of single events.

use std::sync::atomic::Ordering;

use super::Pump;
use crate::model::trace::EndedTrace;
use crate::ports::Health;

impl Pump {
    /// Once a second: what is too much for each turn.
    pub(super) fn report(&mut self) {
        self.push.set_unix_zero(self.shared.unix_zero_nanos());
        self.work.snapshot.gateway_streams_open = self.gateways.open_count() as u64;
        self.work.snapshot.oldest_event_seconds = self.push.oldest_event_age().as_secs();
        let mut rows: Vec<_> = self.push.gateway_rows().collect();
        self.work.snapshot.outbox_recipients = rows.iter().map(|row| row.backlog_recipients).sum();
        let warnings = self.push.warnings().to_vec();
        let latency = self.push.push_latency().map(|latency| Box::new(latency.clone()));
        let classes = self.push.has_classes().then(|| Box::new(*self.push.by_class()));
        self.publisher.hand_over(self.push.stages_mut(), |report| {
            report.gateways.append(&mut rows);
            report.warnings.extend(warnings);
            (report.classes, report.latency) = (classes, latency);
        });
    }

    /// A store that comes and goes within a second is not away.
    pub(super) fn report_health(&self) {
        let health = self.routes.health();
        let mut known = self.shared.routes_health[usize::from(self.shard.0)].lock().unwrap_or_else(|e| e.into_inner());
        if health == Health::Ready || *known == Health::Ready {
            self.shared.routes_ready_at[usize::from(self.shard.0)].store(self.shared.millis(), Ordering::Release);
        }
        if *known != health {
            *known = health;
        }
    }

    pub(super) fn tell(&self, trace: Box<EndedTrace>) {
        if let Some(traces) = &self.traces {
            traces.offer(trace);
        }
    }
}
