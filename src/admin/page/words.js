"use strict";
// What the page says, by key, in each language. A word of the engine without a translation is shown as it is.
const WORDS = {
  en: {
    rates: "Rates of the last two minutes", arrived: "events a second", delivered_rate: "pushes a second",
    missed_rate: "recipients not pushed a second", waits: "What it needs", warnings: "Warnings of the last minute", stages: "Latency of the last 10 seconds",
    ends: "Recipients of the last 10 seconds", gateways: "Gateways, those with most waiting first", partitions: "Partitions of this instance",
    footer: "The engine's own figures, read once a second.", language: "中文",
    ready: "ready", waiting: "not ready", stopping: "stopping", silent: "no answer", unknown: "…",
    silent_for: "The engine has not answered for {0}. What is below is what it said last.",
    up: "up {0}", highest: "highest {0}/s", none: "none", more: "and {0} more with less waiting",
    tile_events: "events/s", tile_pushes: "pushes/s", tile_success: "success rate", tile_oldest: "oldest event",
    tile_flight: "events in flight", tile_backlog: "recipients that wait",
    col_stage: "stage", col_p50: "p50", col_p99: "p99", col_count: "a second", col_end: "end", col_share: "share", col_gateway: "gateway",
    col_state: "state", col_backlog: "waiting", col_oldest: "oldest", col_delivered: "pushes/s", col_timed_out: "no answer/s",
    col_reason: "reason", col_times: "times", col_partitions: "partitions", permit: "permit to push, left",
    stage_intake: "intake: until a shard has it", stage_members: "members: who is in the session", stage_routes: "routes: where they are connected",
    stage_outbox: "outbox: until it is written", stage_gateway: "gateway: until it is answered", stage_event: "event: all of it",
    gateway_unknown: "unknown", gateway_idle: "idle", gateway_opening: "opening", gateway_open: "open", gateway_backoff: "broken, waits", gateway_draining: "draining",
    end_delivered: "delivered", end_skipped_sender: "the sender, left out", end_offline: "offline", end_not_connected: "not connected there",
    end_refused: "refused by the gateway", end_timed_out: "no answer in time", end_broke_stream: "stream broke", end_outbox_full: "outbox full",
    end_yielded: "yielded to others", end_shed: "shed under overload", end_bad_route: "bad route", end_gateway_table_full: "too many gateways",
    end_too_large: "too large", end_stored: "kept in the inbox", end_readable: "readable from the content", end_noticed: "told by a notice", end_conflated: "a newer notice stands for it", end_inbox_conflict: "place in the inbox taken",
    end_inbox_rejected: "refused by the inbox", end_dead_letter_lost: "lost: no store took it", end_given_back: "given back to the broker",
    end_cut_by_stop: "cut by the stop",
  },
  zh: {
    rates: "最近两分钟的速率", arrived: "事件/秒", delivered_rate: "推送成功/秒", missed_rate: "未推送到/秒", waits: "依赖状态",
    warnings: "最近一分钟的告警", stages: "最近 10 秒的延迟", ends: "最近 10 秒接收者的结果", gateways: "网关（积压多的在前）", partitions: "本实例的分区",
    footer: "数据来自引擎自身，每秒刷新。", language: "English",
    ready: "就绪", waiting: "未就绪", stopping: "正在停止", silent: "无响应", unknown: "…",
    silent_for: "引擎已有 {0} 没有响应，以下是最后一次的数据。",
    up: "已运行 {0}", highest: "峰值 {0}/秒", none: "无", more: "另有 {0} 个网关积压更少",
    tile_events: "事件/秒", tile_pushes: "推送/秒", tile_success: "推送成功率", tile_oldest: "最早未完成的事件", tile_flight: "处理中的事件", tile_backlog: "等待网关的接收者",
    col_stage: "阶段", col_p50: "p50", col_p99: "p99", col_count: "每秒", col_end: "结果", col_share: "占比", col_gateway: "网关",
    col_state: "状态", col_backlog: "积压", col_oldest: "最早", col_delivered: "推送/秒", col_timed_out: "超时/秒", col_reason: "原因", col_times: "次数",
    col_partitions: "分区数", permit: "推送许可剩余",
    stage_intake: "接入：到达分片", stage_members: "成员：查询会话成员", stage_routes: "路由：查询所在网关", stage_outbox: "发件队列：到写出", stage_gateway: "网关：到应答", stage_event: "事件：全程",
    gateway_unknown: "未知", gateway_idle: "空闲", gateway_opening: "连接中", gateway_open: "已连接", gateway_backoff: "断开，等待重连", gateway_draining: "排空中",
    end_delivered: "已送达", end_skipped_sender: "发送者本人，跳过", end_offline: "离线", end_not_connected: "不在该网关上", end_refused: "网关拒绝",
    end_timed_out: "网关未及时应答", end_broke_stream: "连接中断", end_outbox_full: "发件队列已满", end_yielded: "让位给更高优先级", end_shed: "过载丢弃",
    end_bad_route: "路由数据有误", end_gateway_table_full: "网关数量超限", end_too_large: "消息过大", end_stored: "已存入收件箱", end_readable: "可从消息内容读取", end_noticed: "已以通知告知", end_conflated: "由更新的通知代替",
    end_inbox_conflict: "收件箱位置被占用", end_inbox_rejected: "收件箱拒绝写入", end_dead_letter_lost: "丢失：无处可存", end_given_back: "退回消息队列",
    end_cut_by_stop: "停机时中断",
  },
};

let language = (localStorage.getItem("language") || navigator.language || "en").startsWith("zh") ? "zh" : "en";

function say(key, ...values) {
  const text = WORDS[language][key] ?? WORDS.en[key] ?? key;
  return values.reduce((out, value, at) => out.replace(`{${at}}`, value), text);
}

/** The word of the engine, in the reader's language where there is one. */
function word(kind, name) {
  return WORDS[language][`${kind}_${name}`] ?? name;
}

function number(value) {
  const digits = value >= 100 || Number.isInteger(value) ? 0 : 1;
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}

function duration(seconds) {
  if (!(seconds >= 0)) return "–";
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
