//! The table of all numbers of the engine: one row each.
//!
//! Promises that no number is on the page without a row here, and none here that is not on the page of an engine. To add
//! one: write its row, count it (a row of `activity` is a field of [`Activity`], which the core counts in; a row of
//! `shard` is a field that the pump fills; any other is registered by whoever has it), and write METRICS.md anew
//! (`UPDATE_METRICS=1 cargo test --test admin metrics`). Refuses labels without a bound.

use super::declare::{Kind, Metric, Scalar, metrics, unit};
use crate::model::outcome::{Counts, Lane};

metrics! {
    families {
        "Events and recipients" {
            /// Events that the shard took.
            EVENTS_ARRIVED => Counter "events_arrived" ["shard"];
            /// Events by how they ended.
            EVENTS_ENDED => Counter "events_ended" ["end", "shard"];
            /// Recipients of the events that were grouped by gateway.
            RECIPIENTS_ARRIVED => Counter "recipients_arrived" ["shard"];
            /// Recipients by how they ended.
            RECIPIENTS_ENDED => Counter "recipients_ended" ["end", "shard"];
            /// Recipients that could not be reached, by why; counted when they end.
            RECIPIENTS_UNREACHED => Counter "recipients_unreached" ["why", "shard"];
            /// How long each stage of an event's trip takes; outbox and gateway count recipients, the others events.
            STAGE_SECONDS => Histogram "stage_seconds" ["stage"] in Seconds;
            /// Warnings of the push core by reason, also those that the log left out.
            WARNINGS => Counter "warnings" ["reason"];
        }
        "Classes of events" {
            /// Events by class and by how they ended; without repeats and what was refused as it came.
            EVENTS_ENDED_BY_CLASS => Counter "events_ended_by_class" ["class", "end"];
            /// Recipients by class and by how they ended.
            RECIPIENTS_ENDED_BY_CLASS => Counter "recipients_ended_by_class" ["class", "end"];
            /// How long an event takes from its arrival until all its recipients have ended, by class.
            EVENT_SECONDS_BY_CLASS => Histogram "class_event_seconds" ["class"] in Seconds;
            /// Fleeting events that were dropped whole (acknowledged, in no store), by why.
            EVENTS_SHED => Counter "events_shed" ["reason"];
            /// Recipients of fleeting events that were dropped, by why.
            RECIPIENTS_SHED => Counter "recipients_shed" ["reason"];
            /// Events whose header (priority.header) named no class: another rule decided.
            UNKNOWN_PRIORITIES => Counter "unknown_priorities" [];
        }
        "Push latency" {
            /// How long a push takes from the publication of its event until its gateway has answered, by class, for each recipient that the gateway took it for (admin.push_latency).
            PUSH_LATENCY_SECONDS => Histogram "push_latency_seconds" ["class"] in Seconds;
            /// Such recipients of events of which nobody said when they were published; they are in no bucket.
            PUSH_LATENCY_UNKNOWN => Counter "push_latency_unknown" [];
        }
        "Traces" {
            /// Spans that the collector took (tracing.export).
            SPANS_SENT => Counter "spans_sent" [];
            /// Spans that were to be sent and were dropped, by why: too many waited, the collector did not take their batch, or not them.
            SPANS_DROPPED => Counter "spans_dropped" ["reason"];
        }
        "Intake" {
            /// Events that the readers got from the source.
            EVENTS_READ => Counter "events_read" [];
            /// Events that the readers handed to a shard.
            EVENTS_TAKEN => Counter "events_taken" [];
            /// Events that came to this process and never reached a shard, by why.
            EVENTS_DROPPED => Counter "events_dropped" ["reason"];
            /// Connections that the broker cut since they were not read for too long (core NATS); what it held for them is lost.
            READERS_CUT_OFF => Counter "readers_cut_off" [];
            /// Unsettled events that the broker does not deliver again, because their consumer has max_deliver.
            EVENTS_GIVEN_UP_BY_BROKER => Counter "events_given_up_by_broker" [];
            /// Partitions that were opened before all events of the last five minutes had been read back from the stream: a copy of one that was missed is pushed again.
            REPEAT_WINDOWS_PARTIAL => Counter "repeat_windows_partial" [];
            /// 1 while events are taken, 0 while a store that they need is away.
            INTAKE_OPEN => Gauge "intake_open" [];
            /// Times that no events were taken any more, since a store that they need was away; with core NATS the queue group was left.
            INTAKE_SHUT => Counter "intake_shut" [];
            /// How long that was, the current time included; with core NATS and one instance, what was published then is lost.
            INTAKE_SHUT_SECONDS => Counter "intake_shut_seconds" [] in Seconds;
            /// Events that wait in the stream and were delivered to nobody, by the broker's own figures; of the whole stream, so take the largest of all instances, not the sum.
            STREAM_PENDING => Gauge "stream_pending" ["kind"];
            /// Events that the stream delivered to some instance and that are not settled; of the whole stream as well.
            STREAM_UNSETTLED => Gauge "stream_unsettled" ["kind"];
        }
        "Partitioner" {
            /// Events that were moved from the input stream to the stream of their partitions.
            PARTITIONER_MOVED => Counter "partitioner_moved" [];
            /// Copies of events that were left out, as the first one was moved.
            PARTITIONER_COPIES => Counter "partitioner_copies" [];
            /// Publishes that the stream of the partitions refused; one that is tried again counts again.
            PARTITIONER_REFUSED => Counter "partitioner_refused" [];
            /// Events of the input stream that went to the dead letters instead.
            PARTITIONER_LETTERS => Counter "partitioner_letters" [];
            /// Events that wait to be moved, or for the confirmation that they are.
            PARTITIONER_WAITING => Gauge "partitioner_waiting" [];
            /// Events that the input stream dropped before they were read: it is too small, or was purged.
            PARTITIONER_GAP => Counter "partitioner_gap" [];
            /// Messages in the stream of the partitions that somebody else put there while events were moved.
            PARTITIONER_FOREIGN => Counter "partitioner_foreign" [];
        }
        "Gateways" {
            /// Gateways that the registry lists.
            GATEWAYS_LISTED => Gauge "gateways_listed" [];
            /// Registry entries that could not be used, by why; counted each time they were seen.
            REGISTRY_BAD_ENTRIES => Counter "registry_bad_entries" ["reason"];
            /// Recipients that wait for the gateway, unsent or unanswered.
            GATEWAY_BACKLOG_RECIPIENTS => Gauge "gateway_backlog_recipients" ["gateway"];
            /// How old the oldest push is that waits for the gateway, unsent or unanswered; 0 when none does, on the line `other` the oldest of all.
            GATEWAY_OLDEST_PUSH_SECONDS => Gauge "gateway_oldest_push_seconds" ["gateway"] in Seconds;
            /// Recipients that the gateway answered for without an error.
            GATEWAY_RECIPIENTS_DELIVERED => Counter "gateway_recipients_delivered" ["gateway"];
            /// Recipients that ended without an answer of the gateway: timeout, broken stream or full outbox.
            GATEWAY_RECIPIENTS_TIMED_OUT => Counter "gateway_recipients_timed_out" ["gateway"];
            /// 1 for the state that the gateway is in; on the line `other`, how many gateways are in it.
            GATEWAY_STATE => Gauge "gateway_state" ["gateway", "state"];
        }
        "Members" {
            /// Member queries that wait for a thread.
            MEMBER_LOOKUPS_QUEUED => Gauge "member_lookups_queued" [];
            /// Member answers that were given up because a shard stood still.
            MEMBER_ANSWERS_DROPPED => Counter "member_answers_dropped" [];
            /// Member rows that were left out because their username is empty, over 64 characters or not UTF-8.
            MEMBER_ROWS_SKIPPED => Counter "member_rows_skipped" [];
            /// Pages of the lists of large sessions that the server was asked about: only those that changed are read.
            MEMBER_PAGES_CHECKED => Counter "member_pages_checked" [];
            /// Pages of the lists of large sessions that were read.
            MEMBER_PAGES_READ => Counter "member_pages_read" [];
        }
        "Inbox and dead letters" {
            /// Inbox rows that are committed, including those that were there already.
            INBOX_ROWS => Counter "inbox_rows" [];
            /// Inbox rows that were not stored because another message holds their place.
            INBOX_CONFLICTS => Counter "inbox_conflicts" [];
            /// Rows of inbox asks that the store answered with an error; a row that is asked for again counts again.
            INBOX_ROWS_REJECTED => Counter "inbox_rows_rejected" [];
            /// Batches of inbox rows that were written, including those that failed.
            INBOX_BATCHES => Counter "inbox_batches" [];
            /// Inbox answers that were given up because a shard stood still.
            INBOX_ANSWERS_DROPPED => Counter "inbox_answers_dropped" [];
            /// Inbox writes that wait for a thread.
            INBOX_ASKS_QUEUED => Gauge "inbox_asks_queued" [];
            /// Dead letters that are kept, by why the event or recipient failed.
            DEAD_LETTERS => Counter "dead_letters" ["reason"];
            /// Times that the store of the dead letters refused one; a letter that is tried again counts again.
            DEAD_LETTERS_REJECTED => Counter "dead_letters_rejected" [];
            /// Answers about dead letters that were given up because a shard stood still.
            DEAD_LETTER_ANSWERS_DROPPED => Counter "dead_letter_answers_dropped" [];
            /// Dead letters that wait for the thread that writes them.
            DEAD_LETTERS_QUEUED => Gauge "dead_letters_queued" [];
        }
        "Partition ownership" {
            /// Partitions by what this instance does with them.
            PARTITIONS => Gauge "partitions" ["state"];
            /// How many owners a partition of this instance has had, this one included; `input` is the partitioner's input stream.
            PARTITION_OWNER_EPOCH => Gauge "partition_owner_epoch" ["partition"];
            /// Partitions that came to this instance and went away, by how the next owner followed.
            PARTITION_MOVES => Counter "partition_moves" ["kind", "way"];
            /// How long a partition that came had no owner that read it: from when it was this instance's to take until its first pull.
            PARTITION_PAUSE_SECONDS => Histogram "partition_pause_seconds" ["kind"] in Seconds;
            /// How long a partition that went took, from the order to close it until it was given away.
            PARTITION_DRAIN_SECONDS => Histogram "partition_drain_seconds" ["kind"] in Seconds;
            /// Moves that were called off, as pushes of the partition did not end.
            MOVES_CALLED_OFF => Counter "moves_called_off" [];
            /// Generations of this instance's partitions that could not go on and were followed by another one, by why.
            GENERATIONS_BROKEN => Counter "generations_broken" ["why"];
            /// What is left of the permit to push, by who gives it; the longer one counts.
            PERMIT_SECONDS => Gauge "permit_seconds" ["source"] in Seconds;
            /// How long this instance had no permit to push.
            GATE_SHUT_SECONDS => Counter "gate_shut_seconds" [] in Seconds;
            /// Times that another instance had a partition which this one still read; the process ends then.
            FENCED => Counter "fenced" [];
            /// The version of the plan in force.
            PLAN_VERSION => Gauge "plan_version" [];
            /// Requests to etcd about ownership, by what became of them.
            ETCD_REQUESTS => Counter "etcd_requests" ["op", "result"];
            /// Times that NATS was asked whether this instance still has its partitions, by what came of it.
            PROOFS => Counter "proofs" ["result"];
        }
        "Readiness" {
            /// 1 while `/readyz` answers 200, else 0.
            READY => Gauge "ready" [];
            /// 1 while a part that `/readyz` names can do its work, 0 while it cannot.
            DEPENDENCY_UP => Gauge "dependency_up" ["dependency"];
        }
        "The process" {
            /// CPU time of all threads of the process.
            PROCESS_CPU_SECONDS => Counter "process_cpu_seconds" ["mode"] in Seconds;
            /// Resident memory of the process.
            PROCESS_RESIDENT_MEMORY_BYTES => Gauge "process_resident_memory_bytes" [] in Bytes;
            /// When the engine started, in seconds of Unix time.
            PROCESS_START_TIME_SECONDS => Gauge "process_start_time_seconds" [] in Seconds;
            /// Lines of the log that were dropped because its output did not keep up, or took none any more.
            LOG_LINES_DROPPED => Counter "log_lines_dropped" [];
            /// Times that the configuration was read again (SIGHUP), by what came of it.
            CONFIG_RELOADS => Counter "config_reloads" ["outcome"];
            /// Keys that say something else since the last reload and take effect at the next start only.
            CONFIG_RESTART_KEYS => Gauge "config_restart_keys" [];
            /// Times that a full lane between two shards was met.
            LANE_FULL => Counter "lane_full" ["lane", "shard"];
            /// What is running.
            BUILD => Info "build" ["version"];
        }
    }
    activity "What a shard did" {
        /// Member queries sent.
        member_queries => "member_queries";
        /// Sessions that were asked for in member queries.
        member_query_sessions => "member_query_sessions";
        /// Sessions of partitions that were coming here whose members were asked for before their first event.
        sessions_warmed => "sessions_warmed";
        /// The same that were not asked for: too many, no turn in time, or the members store was away. Their first event asks.
        sessions_left_cold => "sessions_left_cold";
        /// Sessions with urgent events whose members were asked for again before their list was old.
        lists_renewed => "lists_renewed";
        /// Urgent events of sessions whose list is not renewed, because too many are.
        lists_not_renewed => "lists_not_renewed";
        /// Lookups of single sessions and users that had failed in a set, or alone.
        lookups_alone => "lookups_alone";
        /// Probes of the member and route stores, sent when a lookup failed and nothing else could tell whether they answer.
        lookup_probes => "lookup_probes";
        /// Events without members that went to the dead letters before members.empty_wait, because too many waited.
        empty_waits_cut => "empty_waits_cut";
        /// Events of sessions whose lookup is refused that went to the dead letters before consumer.max_retry, because too many waited.
        refused_waits_cut => "refused_waits_cut";
        /// Asks that found the queue before the threads of a store full (members, inbox, dead letters), and wait for room.
        asks_not_taken => "asks_not_taken";
        /// MGETs sent.
        mgets => "mgets";
        /// Routes that were asked for in MGETs.
        mget_keys => "mget_keys";
        /// Route changes that the store told.
        route_changes => "route_changes";
        /// Routes whose list of gateways could not be taken as it stands, once for each fault; warnings tells them apart.
        route_lists_mended => "route_lists_mended";
        /// Pushes beyond the first of a recipient who is connected to several gateways.
        copies_sent => "recipient_copies";
        /// Gateways that did not take a push which another gateway of the same recipient took.
        copies_missed => "recipient_copies_missed";
        /// Times that a user without a route was taken to be at its last known gateway, because all routes had been lost.
        routes_kept => "routes_kept";
        /// Gateway streams that were opened or tried.
        stream_opens => "gateway_opens";
        /// Gateway streams that broke or could not be opened.
        stream_breaks => "gateway_breaks";
        /// Answers of a gateway that match no request; each ends its stream.
        answer_mismatches => "answers_mismatched";
        /// Recipients whose gateway answered for them without an error when they had ended as timed out.
        answered_late => "answered_late";
        /// Recipients sent again on a new stream because the old one broke before they were answered.
        resent_recipients => "resent_recipients";
        /// Recipients sent to another gateway because the user had moved.
        rerouted_recipients => "rerouted_recipients";
        /// Bytes of gRPC frames written.
        frame_bytes => "frame_bytes" in Bytes;
        /// Lists of users said whole to gateways that speak `group`.
        groups_said => "groups_said";
        /// Changes of such lists, said instead of the whole list.
        group_changes => "group_changes";
        /// Such lists that the gateway was told to forget: they were not used, or it had no room for others.
        groups_forgotten => "groups_forgotten";
        /// Pushes to lists that the gateway did not know any more; they are sent again with the list.
        groups_unknown => "groups_unknown";
        /// Notices written to gateways in the place of contents (gateway.notice_above), one for each group of users.
        notices_sent => "notices";
        /// Notices that a newer one of their session replaced before they were sent, one for each gateway.
        notices_conflated => "notices_conflated";
        /// Messages that were pushed in full, as their content was not seen in the store before they would have been notices.
        notices_without_content => "notices_without_content";
        /// Asks for inbox rows sent to the inbox, one for each set of rows of an event and try.
        store_asks => "inbox_asks";
        /// Rows in the asks that were sent to the inbox; a row that is asked for again counts again.
        store_rows => "inbox_asked_rows";
        /// Look-ups of the content of a message of a large session (inbox.rows_up_to), one for each event and try.
        content_asks => "content_asks";
        /// Messages of large sessions whose content was not kept: their recipients get rows.
        content_missing => "content_missing";
        /// Messages of large sessions whose look-up failed while others succeeded: their recipients get rows.
        content_given_up => "content_given_up";
        /// Dead letters sent to their store, one for each try.
        letter_asks => "dead_letter_asks";
        /// Dead letters that were refused for good: what they are about is in no store, only in the log.
        letters_lost => "dead_letters_lost";
        /// Events that name the device that sent them (from_device) while consumer.echo_sender is off.
        devices_ignored => "devices_ignored";
        /// Repeats of an event in flight that were given back to the source, because too many wait for that event.
        repeats_given_back => "repeats_given_back";
        /// Repeats of an event (same session, msg_id, seq_id and type) whose message differs; they are not pushed.
        repeats_that_differ => "repeats_that_differ";
        /// Events whose trace_headers cannot be used (no texts, too many, a traceparent that is none); they are pushed as those without.
        trace_headers_refused => "trace_headers_refused";
        /// Spans of events that were not told of, as more than tracing.spans_per_second were.
        spans_over_limit => "spans_over_limit";
        /// Gateways that had nothing to do for long, were not listed, and are known no longer.
        gateways_forgotten => "gateways_forgotten";
        /// Outboxes that were looked at because time passed; those with nothing to do are left alone.
        outboxes_ticked => "outboxes_ticked";
    }
    shard "What a shard holds" {
        /// Events that arrived and have no end yet.
        events_in_flight => Gauge;
        /// How old the oldest of them is, since it arrived; 0 when there is none.
        oldest_event_seconds => Gauge in Seconds;
        /// Recipients of grouped events that have no end yet.
        recipients_in_flight => Gauge;
        /// Payload bytes of the events in flight.
        payload_in_flight_bytes => Gauge in Bytes;
        /// Events that wait because the member list of their session was empty when it was asked for.
        events_without_members => Gauge;
        /// Events that wait although the member lookups of their session fail while others succeed.
        events_refused_members => Gauge;
        /// Sessions whose member list is kept.
        sessions_cached => Gauge;
        /// Users that have a place in the table of the shard.
        users_known => Gauge;
        /// Gateways that have a place in the table of the shard.
        gateways_known => Gauge;
        /// Gateway streams of this shard that are open.
        gateway_streams_open => Gauge;
        /// Recipients that wait in the outboxes of this shard's gateways, unsent or unanswered.
        outbox_recipients => Gauge;
        /// Turns of the shard's loop.
        turns => Counter;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::metrics::Unit;

    #[test]
    fn a_name_is_unique_and_ends_with_its_unit() {
        let mut names = BTreeSet::new();
        for Metric { name, unit, labels, .. } in all() {
            assert!(names.insert(name), "{name} has two rows");
            let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(is_word(name) && labels.iter().all(|label| is_word(label)), "{name} {labels:?}");
            assert!(!["_total", "_info", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)), "{name}");
            for other in [Unit::Seconds, Unit::Bytes] {
                assert_eq!(other.word().is_some_and(|word| name.ends_with(word)), other == *unit, "{name}");
            }
        }
    }

    #[test]
    fn a_help_is_one_line_that_both_formats_show_as_it_is() {
        for metric in all() {
            let help = metric.help();
            assert!(help.ends_with('.') && !help.contains(['\\', '\n', '"', '|']), "{}: {help}", metric.name);
        }
    }

    #[test]
    fn each_plain_number_is_read_from_its_own_field() {
        let mut snapshot = ShardSnapshot::default();
        snapshot.numbers_mut().enumerate().for_each(|(at, number)| *number = at as u64);
        let read: Vec<u64> = SCALARS.iter().map(|scalar| (scalar.read)(&snapshot)).collect();
        let last = snapshot.numbers().count() as u64;
        assert_eq!(read, (last - SCALARS.len() as u64..last).collect::<Vec<_>>());
    }
}
