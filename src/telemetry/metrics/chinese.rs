//! The Chinese column of the table of numbers, for METRICS.zh-CN.md.
//!
//! Promises a row for each number and each heading of [`table`](super::table), and none for what is no number; so whoever adds
//! a number adds its row here, in the same commit.

use super::declare::Metric;

/// What the number means, in one sentence.
pub(super) fn help(metric: &Metric) -> &'static str {
    HELPS.iter().find(|(name, _)| *name == metric.name).map_or("", |(_, help)| help)
}

/// The heading that it stands under.
pub(super) fn group(english: &str) -> &'static str {
    GROUPS.iter().find(|(name, _)| *name == english).map_or("", |(_, group)| group)
}

/// What stands in the table of labels in words; what is a name there stands for itself.
pub(super) fn words(english: &str) -> &str {
    WORDS.iter().find(|(words, _)| *words == english).map_or(english, |(_, words)| words)
}

const GROUPS: &[(&str, &str)] = &[
    ("Events and recipients", "事件与接收者"),
    ("Classes of events", "事件分级"),
    ("Push latency", "推送时延"),
    ("Traces", "链路追踪"),
    ("Intake", "消费入口"),
    ("Partitioner", "分区搬运（partitioner）"),
    ("Gateways", "网关"),
    ("Members", "会话成员"),
    ("Inbox and dead letters", "收件箱与死信"),
    ("Partition ownership", "分区归属"),
    ("Readiness", "就绪状态"),
    ("The process", "进程"),
    ("What a shard did", "分片累计"),
    ("What a shard holds", "分片当前"),
];

const WORDS: &[(&str, &str)] = &[
    ("the numbers of one shard", "单个分片的指标"),
    ("its number, from 0", "分片编号，从 0 开始"),
    ("the numbers of one gateway", "单个网关的指标"),
    ("its id, for 256 gateways at once; `other` for the rest together", "网关 id，同时最多 256 个；其余合并为 `other`"),
    ("what else was dropped, refused or warned of", "其余丢弃、拒绝、告警类指标"),
    ("one of the program's words, the same as in the log", "程序内固定的原因词，与日志一致"),
    ("readiness", "就绪状态"),
    ("the parts that `/readyz?verbose` names", "`/readyz?verbose` 里列出的各依赖"),
    ("the numbers of one partition", "单个分区的指标"),
    ("its number, from 0; the partitions that are here", "分区号，从 0 开始；只有归本实例的分区"),
    ("what became of a request", "请求的结果"),
    ("one of the program's words", "程序内固定的词"),
    ("the version of the package", "软件包版本"),
];

#[rustfmt::skip]
const HELPS: &[(&str, &str)] = &[
    ("push_latency_seconds", "从事件发布到网关应答的耗时，按级别分；网关收下的每个接收者计一次（admin.push_latency）。"),
    ("push_latency_unknown", "不知道发布时间的事件，其接收者数；不进任何桶。"),
    ("spans_sent", "采集端已收下的 span 数（tracing.export）。"),
    ("spans_dropped", "本该上报却丢弃的 span 数，按原因分：排队太多、采集端没收下这一批，或拒收其中一部分。"),
    ("trace_headers_refused", "trace_headers 用不了的事件数（不是文本、太多、traceparent 不合法）；照常推送，只是不带追踪。"),
    ("spans_over_limit", "超出 tracing.spans_per_second 而没有上报的 span 数。"),
    ("events_arrived", "分片收下的事件数。"),
    ("events_ended", "已了结的事件数，按结局分。"),
    ("recipients_arrived", "已按网关分好组的事件，其接收者总数。"),
    ("recipients_ended", "已了结的接收者数，按结局分。"),
    ("recipients_unreached", "未送达的接收者数，按原因分；了结时计数。"),
    ("stage_seconds", "事件在各阶段的耗时；outbox 和 gateway 按接收者计，其余按事件计。"),
    ("warnings", "推送核心的告警数，按原因分；被日志限流掉的也算。"),
    ("events_ended_by_class", "已了结的事件数，按级别和结局分；不含重复事件和入口就被拒的。"),
    ("recipients_ended_by_class", "已了结的接收者数，按级别和结局分。"),
    ("class_event_seconds", "事件从到达到所有接收者了结的耗时，按级别分。"),
    ("events_shed", "整个被丢弃的 fleeting 事件数（已 ack，未落库），按原因分。"),
    ("recipients_shed", "被丢弃的 fleeting 事件的接收者数，按原因分。"),
    ("unknown_priorities", "消息头（priority.header）里的级别不认识的事件数，由下一条规则定级。"),
    ("events_read", "读取端从事件源读到的事件数。"),
    ("events_taken", "读取端交给分片的事件数。"),
    ("stream_pending", "stream 里还没投递给任何实例的事件数，取自 broker 自己的统计；是整个 stream 的数，多个实例取最大值，不要相加。"),
    ("stream_unsettled", "已投递给某个实例、还没 ack 的事件数；同样是整个 stream 的数。"),
    ("events_dropped", "进了本进程、但没到任何分片的事件数，按原因分。"),
    ("readers_cut_off", "因为太久没读而被 broker 踢掉的连接数（core NATS）；broker 替它们缓存的消息全丢。"),
    ("events_given_up_by_broker", "消费者配了 max_deliver，broker 不再重投的未了结事件数。"),
    ("repeat_windows_partial", "打开分区时，最近五分钟的事件没能从 stream 里全部回读的次数；漏读的事件若再来一份会重复推送。"),
    ("intake_open", "1：正在消费；0：依赖的存储不可用，停止消费。"),
    ("intake_shut", "因依赖的存储不可用而停止消费的次数；core NATS 下会退出消费者组。"),
    ("intake_shut_seconds", "停止消费的累计时长，含当前这次；core NATS 单实例时，这段时间发布的消息全丢。"),
    ("partitioner_moved", "从输入 stream 搬到分区 stream 的事件数。"),
    ("partitioner_copies", "首份已搬走、因而略过的重复事件数。"),
    ("partitioner_refused", "分区 stream 拒收的发布次数；重试的每次都算。"),
    ("partitioner_letters", "输入 stream 里直接进了死信的事件数。"),
    ("partitioner_waiting", "等着搬、或等搬运确认的事件数。"),
    ("partitioner_gap", "输入 stream 在被读到之前就丢掉的事件数：stream 太小，或被 purge。"),
    ("partitioner_foreign", "搬运期间别人直接写进分区 stream 的消息数。"),
    ("gateways_listed", "注册中心里的网关数。"),
    ("registry_bad_entries", "用不了的注册条目数，按原因分；每见到一次计一次。"),
    ("gateway_backlog_recipients", "该网关积压的接收者数，未发出或未应答都算。"),
    ("gateway_oldest_push_seconds", "该网关最老一条积压推送的年龄，未发出或未应答都算；无积压为 0，`other` 行取其余网关里最老的。"),
    ("gateway_recipients_delivered", "网关应答成功的接收者数。"),
    ("gateway_recipients_timed_out", "没等到网关应答就了结的接收者数：超时、断流、outbox 满。"),
    ("gateway_state", "网关所处状态的那一行为 1；`other` 行是处于该状态的网关数。"),
    ("member_lookups_queued", "排队等线程的成员查询数。"),
    ("member_answers_dropped", "分片卡住而作废的成员查询结果数。"),
    ("member_rows_skipped", "略过的成员行数：用户名为空、超过 64 个字符，或不是 UTF-8。"),
    ("member_pages_checked", "大群成员列表向服务端核对过的页数；只重读有变化的页。"),
    ("member_pages_read", "大群成员列表实际读取的页数。"),
    ("inbox_rows", "已提交的收件箱行数，含原本就有的。"),
    ("inbox_conflicts", "位置被另一条消息占了、没能落下的收件箱行数。"),
    ("inbox_rows_rejected", "存储报错的收件箱行数；重试的每次都算。"),
    ("inbox_batches", "收件箱写入批次数，含失败的。"),
    ("inbox_answers_dropped", "分片卡住而作废的收件箱写入结果数。"),
    ("inbox_asks_queued", "排队等线程的收件箱写入数。"),
    ("dead_letters", "已保存的死信数，按事件或接收者失败的原因分。"),
    ("dead_letters_rejected", "死信存储拒收的次数；重试的每次都算。"),
    ("dead_letter_answers_dropped", "分片卡住而作废的死信写入结果数。"),
    ("dead_letters_queued", "排队等写线程的死信数。"),
    ("partitions", "分区数，按本实例正在对它做什么分。"),
    ("partition_owner_epoch", "本实例持有的分区历经过多少任属主，含当前；`input` 是 partitioner 的输入 stream。"),
    ("partition_moves", "迁入和迁出本实例的分区数，按交接方式分。"),
    ("partition_pause_seconds", "迁入的分区无人消费的时长：从轮到本实例接手，到第一次拉取。"),
    ("partition_drain_seconds", "迁出的分区从下令关闭到交出去的时长。"),
    ("moves_called_off", "推送迟迟了结不了、因而取消的迁移数。"),
    ("generations_broken", "本实例分区的消费者代次走不下去、换了下一代的次数，按原因分。"),
    ("permit_seconds", "推送许可剩余时长，按来源分；取较长者。"),
    ("gate_shut_seconds", "本实例没有推送许可的累计时长。"),
    ("fenced", "别的实例已接管、而本实例还在读的分区次数；进程随即退出。"),
    ("plan_version", "当前生效的分配方案版本。"),
    ("etcd_requests", "分区归属相关的 etcd 请求数，按结果分。"),
    ("proofs", "向 NATS 确认分区是否仍归本实例的次数，按结果分。"),
    ("ready", "`/readyz` 返回 200 时为 1，否则为 0。"),
    ("dependency_up", "`/readyz` 里的依赖可用为 1，不可用为 0。"),
    ("process_cpu_seconds", "进程所有线程的 CPU 时间。"),
    ("process_resident_memory_bytes", "进程常驻内存。"),
    ("process_start_time_seconds", "引擎启动时刻，Unix 秒。"),
    ("log_lines_dropped", "因输出跟不上或写不进去而丢掉的日志行数。"),
    ("config_reloads", "重新读取配置（SIGHUP）的次数，按结果分。"),
    ("config_restart_keys", "上次重载后与运行值不同、要重启才生效的键数。"),
    ("lane_full", "碰到分片间通道已满的次数。"),
    ("build", "正在跑的版本。"),
    ("member_queries", "发出的成员查询数。"),
    ("member_query_sessions", "成员查询里包含的会话数。"),
    ("sessions_warmed", "分区迁入前预热的会话数：首个事件到之前已查过成员。"),
    ("lists_renewed", "紧急会话的成员名单在过期前提前重查的次数：紧急事件不必等成员库。"),
    ("lists_not_renewed", "紧急事件数：所在会话的名单没有提前重查，因为这类会话已到上限。"),
    ("sessions_left_cold", "没能预热的会话数：太多、没轮到，或成员库不可用；首个事件到时再查。"),
    ("lookups_alone", "批量失败或单独失败过、因而单查的会话和用户数。"),
    ("lookup_probes", "对成员库和路由库的探测次数：查询失败、又没有别的请求能说明存储是否正常时才发。"),
    ("empty_waits_cut", "等成员的事件太多，没等满 members.empty_wait 就进死信的事件数。"),
    ("refused_waits_cut", "成员查询被拒的会话太多，没重试满 consumer.max_retry 就进死信的事件数。"),
    ("asks_not_taken", "存储线程（成员、收件箱、死信）的队列已满、请求原地等待的次数。"),
    ("mgets", "发出的 MGET 数。"),
    ("mget_keys", "MGET 里的路由 key 数。"),
    ("route_changes", "Redis 通知的路由变更数。"),
    ("route_lists_mended", "网关列表有毛病、修正后才能用的路由数，每处毛病计一次；warnings 里区分原因。"),
    ("recipient_copies", "多端用户连着多个网关时，首份之外的推送数。"),
    ("recipient_copies_missed", "多端用户的推送，有网关成功、但这个网关没成的次数。"),
    ("routes_kept", "路由整体丢失后，按最后已知网关处理的次数。"),
    ("gateway_opens", "打开（含尝试）的网关流数。"),
    ("gateway_breaks", "断掉或没能打开的网关流数。"),
    ("answers_mismatched", "网关应答对不上任何请求的次数；每次都会断流。"),
    ("answered_late", "已按超时了结、之后网关才应答成功的接收者数。"),
    ("resent_recipients", "旧流未应答就断、在新流上重发的接收者数。"),
    ("rerouted_recipients", "用户换了网关、改投的接收者数。"),
    ("frame_bytes", "写出的 gRPC 帧字节数。"),
    ("groups_said", "向 `group` 协议的网关完整下发用户列表的次数。"),
    ("group_changes", "只下发用户列表变更的次数。"),
    ("groups_forgotten", "通知网关丢弃用户列表的次数：不用了，或要给别的列表腾地方。"),
    ("groups_unknown", "网关已不认识列表的推送数；带上列表重发。"),
    ("notices", "代替正文写给网关的通知数（gateway.notice_above），每个用户列表计一次。"),
    ("notices_conflated", "发出前被同一会话更新的通知代替的通知数，每个网关计一次。"),
    ("notices_without_content", "本应发通知、但没先查到正文，因而全文推送的消息数。"),
    ("inbox_asks", "发给收件箱的写入请求数，每个事件每次尝试计一次。"),
    ("inbox_asked_rows", "写入请求里的收件箱行数；重试的每次都算。"),
    ("content_asks", "查大群消息正文（inbox.rows_up_to）的次数，每个事件每次尝试计一次。"),
    ("content_missing", "正文没存的大群消息数：接收者照常落行。"),
    ("content_given_up", "正文查询单独失败的大群消息数：接收者照常落行。"),
    ("dead_letter_asks", "发给死信存储的死信数，每次尝试计一次。"),
    ("dead_letters_lost", "死信存储最终拒收的死信数：内容哪里都没存，只在日志里。"),
    ("devices_ignored", "带了 from_device、但 consumer.echo_sender 为 off 的事件数。"),
    ("repeats_given_back", "等同一在途事件的重复事件太多、退还给事件源的数量。"),
    ("repeats_that_differ", "同会话、同 msg_id、seq_id、type，但内容不同的重复事件数；不推送。"),
    ("gateways_forgotten", "长期空闲又不在注册中心、已被遗忘的网关数。"),
    ("outboxes_ticked", "因时间到了而检查的 outbox 数；无事可做的不检查。"),
    ("events_in_flight", "已到达、未了结的事件数。"),
    ("oldest_event_seconds", "其中最老的一个从到达起的年龄；没有则为 0。"),
    ("recipients_in_flight", "已分组事件中未了结的接收者数。"),
    ("payload_in_flight_bytes", "在途事件的负载字节数。"),
    ("events_without_members", "成员列表为空、还在等成员的事件数。"),
    ("events_refused_members", "成员查询单独失败、还在等的事件数。"),
    ("sessions_cached", "缓存着成员列表的会话数。"),
    ("users_known", "分片用户表里的用户数。"),
    ("gateways_known", "分片网关表里的网关数。"),
    ("gateway_streams_open", "本分片打开着的网关流数。"),
    ("outbox_recipients", "本分片各网关 outbox 里积压的接收者数，未发出或未应答都算。"),
    ("turns", "分片主循环的轮数。"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::table;
    use super::*;

    #[test]
    fn each_number_and_each_heading_has_its_row_and_no_row_is_left_over() {
        let missing: Vec<_> = table::all().filter(|metric| help(metric).is_empty()).map(|metric| metric.name).collect();
        assert!(
            missing.is_empty(),
            "src/telemetry/metrics/chinese.rs has no row for {missing:?}: write one, in Chinese"
        );
        let names: BTreeSet<_> = table::all().map(|metric| metric.name).collect();
        let left_over: Vec<_> = HELPS.iter().map(|(name, _)| *name).filter(|name| !names.contains(name)).collect();
        assert!(left_over.is_empty(), "rows of no number: {left_over:?}");
        let groups: BTreeSet<_> = table::all().map(|metric| metric.group).collect();
        assert_eq!(groups, GROUPS.iter().map(|(name, _)| *name).collect(), "headings");
    }
}
