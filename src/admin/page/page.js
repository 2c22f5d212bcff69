const EVERY_MS = 1000, HIDDEN_MS = 5000, DEADLINE_MS = 3000, SILENT_MS = 3500;
// Samples that are kept: two minutes. Rates are of the last ten seconds, where the page is that old.
const KEPT = 121, WINDOW_S = 10, WARNINGS_S = 60, GATEWAYS_SHOWN = 20;
const STAGES = ["intake", "members", "routes", "outbox", "gateway", "event"];
// Who is not connected is not missed.
const NOT_MISSED = new Set(["offline", "not_connected"]);

/** Samples by name: each a map of labels, and its value. */
function parse(text) {
  const all = new Map();
  for (const line of text.split("\n")) {
    const found = /^task_engine_([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));
    }
    if (!all.has(found[1])) all.set(found[1], []);
    all.get(found[1]).push({ labels, value: Number(found[3]) });
  }
  return all;
}

function sum(page, name, holds = () => true) {
  return (page.get(name) ?? []).reduce((all, { labels, value }) => (holds(labels) ? all + value : all), 0);
}

function most(page, name) {
  return (page.get(name) ?? []).reduce((all, { value }) => Math.max(all, value), 0);
}

/** The sums of a family by one of its labels. */
function by(page, name, label, holds = () => true) {
  const sums = new Map();
  for (const { labels, value } of page.get(name) ?? []) {
    if (holds(labels)) sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
  }
  return sums;
}

function missed(page) {
  return sum(page, "recipients_unreached_total", ({ why }) => !NOT_MISSED.has(why)) +
    sum(page, "recipients_ended_total", ({ end }) => end === "shed");
}

const delivered = (page) => sum(page, "recipients_ended_total", ({ end }) => end === "delivered");

/** What the buckets of a stage got between two pages, by their bounds; the last one's is all. */
function buckets(now, before, stage) {
  const [last, first] = [now, before].map((page) => by(page, "stage_seconds_bucket", "le", (labels) => labels.stage === stage));
  const got = [...last].map(([le, count]) => [le === "+Inf" ? Infinity : Number(le), count - (first.get(le) ?? 0)]);
  return got.sort((one, other) => one[0] - other[0]);
}

/** A quantile of what buckets got, straight between the bounds of its bucket. */
function quantile(got, of) {
  const wanted = (got.at(-1)?.[1] ?? 0) * of;
  if (wanted <= 0) return NaN;
  let [low, under] = [0, 0];
  for (const [bound, count] of got) {
    if (count >= wanted) return bound === Infinity ? low : low + ((bound - low) * (wanted - under)) / (count - under);
    [low, under] = [bound, count];
  }
  return low;
}

const samples = [];
let parts = [], state = "unknown", heardAt = null;

/** The sample of so many seconds ago, or the oldest. */
function ago(seconds) {
  const now = samples.at(-1);
  return samples.find((sample) => now.at - sample.at <= seconds * 1000 + 200) ?? now;
}

function rateOf(now, before, count) {
  const seconds = (now.at - before.at) / 1000;
  return seconds > 0 ? Math.max(0, count(now.page) - count(before.page)) / seconds : 0;
}

function cell(text, kind = "") {
  const td = document.createElement("td");
  [td.textContent, td.className] = [text, kind];
  return td;
}

function row(cells) {
  const tr = document.createElement("tr");
  tr.append(...cells);
  return tr;
}

function table(id, heads, rows) {
  const head = heads.map(([key, kind]) => {
    const th = document.createElement("th");
    [th.textContent, th.className] = [say(key), kind ?? ""];
    return th;
  });
  const empty = cell(say("none"), "quiet");
  empty.colSpan = heads.length;
  document.getElementById(id).replaceChildren(row(head), ...(rows.length ? rows : [row([empty])]));
}

function tile(key, text, kind = "") {
  const div = document.createElement("div");
  const [b, span] = [document.createElement("b"), document.createElement("span")];
  div.className = `tile ${kind}`;
  div.id = key;
  [b.textContent, span.textContent, span.className] = [text, say(key), "quiet"];
  div.append(b, span);
  return div;
}

const grade = (value, warn, bad) => (value >= bad ? "bad" : value >= warn ? "warn" : "");

function drawTiles(now, before) {
  const [pushed, lost] = [rateOf(now, before, delivered), rateOf(now, before, missed)];
  const success = pushed + lost > 0 ? pushed / (pushed + lost) : NaN;
  const oldest = most(now.page, "oldest_event_seconds");
  document.getElementById("tiles").replaceChildren(
    tile("tile_events", number(rateOf(now, before, (page) => sum(page, "events_arrived_total")))),
    tile("tile_pushes", number(pushed)),
    tile("tile_success", Number.isNaN(success) ? "–" : `${(Math.floor(success * 1e4) / 100).toString()} %`, Number.isNaN(success) ? "" : grade(1 - success, 0.001, 0.01)),
    tile("tile_oldest", duration(oldest), grade(oldest, 5, 30)),
    tile("tile_flight", number(sum(now.page, "events_in_flight"))),
    tile("tile_backlog", number(sum(now.page, "gateway_backlog_recipients"))),
  );
}

function drawChart(id, lines) {
  const counts = lines.map(([, count]) => samples.slice(1).map((now, at) => rateOf(now, samples[at], count)));
  const highest = Math.max(1e-9, ...counts.flat());
  const svg = document.getElementById(`chart-${id}`);
  svg.replaceChildren(...counts.map((rates, at) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    const points = rates.map((rate, place) => `${((place + KEPT - 1 - rates.length) * 240) / (KEPT - 2)},${58 - (rate / highest) * 54}`);
    line.setAttribute("class", lines[at][0]);
    line.setAttribute("points", points.join(" "));
    return line;
  }));
  document.getElementById(`scale-${id}`).textContent = say("highest", number(highest < 1e-6 ? 0 : highest));
}

function drawStages(now, before) {
  const seconds = (now.at - before.at) / 1000;
  table("stages", [["col_stage"], ["col_p50", "number"], ["col_p99", "number"], ["col_count", "number"]], STAGES.map((stage) => {
    const got = buckets(now.page, before.page, stage);
    const [half, high] = [0.5, 0.99].map((of) => cell(duration(quantile(got, of)), "number"));
    const all = got.at(-1)?.[1] ?? 0;
    return row([cell(word("stage", stage)), half, high, cell(number(seconds > 0 ? all / seconds : 0), "number")]);
  }));
}

function drawEnds(now, before) {
  const [last, first] = [by(now.page, "recipients_ended_total", "end"), by(before.page, "recipients_ended_total", "end")];
  const ends = [...last].map(([end, count]) => [end, count - (first.get(end) ?? 0)]).filter(([, count]) => count > 0);
  const all = ends.reduce((total, [, count]) => total + count, 0);
  ends.sort((one, other) => other[1] - one[1]);
  table("ends", [["col_end"], ["col_times", "number"], ["col_share", "number"]], ends.map(([end, count]) =>
    row([cell(word("end", end)), cell(number(count), "number"), cell(`${((count / all) * 100).toFixed(1)} %`, "number")])));
}

function drawGateways(now, before) {
  const of = (name) => by(now.page, name, "gateway");
  const was = (name) => by(before.page, name, "gateway");
  const seconds = Math.max(0.001, (now.at - before.at) / 1000);
  const [backlog, oldest] = [of("gateway_backlog_recipients"), of("gateway_oldest_push_seconds")];
  const rates = (name) => {
    const [last, first] = [of(name), was(name)];
    return (id) => Math.max(0, (last.get(id) ?? 0) - (first.get(id) ?? 0)) / seconds;
  };
  const [pushed, silent] = [rates("gateway_recipients_delivered_total"), rates("gateway_recipients_timed_out_total")];
  const states = new Map((now.page.get("gateway_state") ?? []).filter(({ value }) => value > 0).map(({ labels }) => [labels.gateway, labels.state]));
  const ids = [...backlog.keys()].filter((id) => id !== "other" || backlog.get(id) > 0);
  ids.sort((one, other) => backlog.get(other) - backlog.get(one) || pushed(other) - pushed(one) || (one < other ? -1 : 1));
  table("gateways", [["col_gateway"], ["col_state"], ["col_backlog", "number"], ["col_oldest", "number"], ["col_delivered", "number"], ["col_timed_out", "number"]],
    ids.slice(0, GATEWAYS_SHOWN).map((id) => {
      const [at, age] = [states.get(id) ?? "unknown", oldest.get(id) ?? 0];
      return row([cell(id), cell(word("gateway", at), at === "backoff" || at === "unknown" ? "bad" : ""), cell(number(backlog.get(id)), "number"),
        cell(duration(age), `number ${grade(age, 1, 5)}`), cell(number(pushed(id)), "number"), cell(number(silent(id)), `number ${silent(id) > 0 ? "bad" : ""}`)]);
    }));
  document.getElementById("more-gateways").textContent = ids.length > GATEWAYS_SHOWN ? say("more", ids.length - GATEWAYS_SHOWN) : "";
}

function drawOwnership(now) {
  const states = by(now.page, "partitions", "state");
  document.getElementById("ownership").hidden = states.size === 0;
  const rows = [...states].filter(([, count]) => count > 0).map(([name, count]) => row([cell(name), cell(number(count), "number")]));
  const permit = most(now.page, "permit_seconds");
  if (states.size > 0) rows.push(row([cell(say("permit")), cell(duration(Math.max(0, permit)), `number ${permit > 0 ? "" : "bad"}`)]));
  table("partitions", [["col_state"], ["col_partitions", "number"]], rows);
}

function drawWarnings(now) {
  const before = ago(WARNINGS_S);
  const [last, first] = [by(now.page, "warnings_total", "reason"), by(before.page, "warnings_total", "reason")];
  const all = [...last].map(([reason, count]) => [reason, count - (first.get(reason) ?? 0)]).filter(([, count]) => count > 0);
  all.sort((one, other) => other[1] - one[1]);
  table("warnings", [["col_reason"], ["col_times", "number"]], all.map(([reason, count]) => row([cell(reason), cell(number(count), "number warn")])));
}

function drawParts() {
  const kinds = { "+": "", "-": "waiting", "~": "degraded" };
  document.getElementById("parts").replaceChildren(...parts.map(([mark, name, text]) => {
    const [li, b] = [document.createElement("li"), document.createElement("b")];
    [li.className, b.textContent] = [kinds[mark], name];
    li.append(b, text === "ok" ? "" : text);
    return li;
  }));
}

function drawState() {
  const silentFor = heardAt === null ? 0 : performance.now() - heardAt;
  const shown = silentFor > SILENT_MS ? "silent" : state;
  const pill = document.getElementById("state");
  if (pill.textContent !== say(shown)) pill.textContent = say(shown);
  pill.dataset.state = shown;
  document.title = `${say(shown)} – task-engine`;
  const banner = document.getElementById("silent");
  banner.hidden = shown !== "silent";
  banner.textContent = say("silent_for", duration(silentFor / 1000));
}

function draw() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.querySelectorAll("[data-t]").forEach((element) => { element.textContent = say(element.dataset.t); });
  const button = document.getElementById("language");
  [button.textContent, button.lang] = [say("language"), language === "zh" ? "en" : "zh"];
  drawState();
  const now = samples.at(-1);
  if (!now) return;
  const before = ago(WINDOW_S);
  document.getElementById("version").textContent = now.page.get("build_info")?.[0].labels.version ?? "";
  document.getElementById("up").textContent = say("up", duration(Date.now() / 1000 - most(now.page, "process_start_time_seconds")));
  drawTiles(now, before);
  drawChart("events", [["arrived", (page) => sum(page, "events_arrived_total")]]);
  drawChart("pushes", [["delivered", delivered], ["missed", missed]]);
  drawStages(now, before);
  drawEnds(now, before);
  drawGateways(now, before);
  drawOwnership(now);
  drawWarnings(now);
  drawParts();
}

async function read() {
  const options = { cache: "no-store", signal: AbortSignal.timeout(DEADLINE_MS) };
  const [metrics, ready] = await Promise.all([fetch("/metrics", options), fetch("/readyz?verbose", options)]);
  const [page, lines] = [parse(await metrics.text()), (await ready.text()).trim().split("\n")];
  const start = most(page, "process_start_time_seconds");
  // Another process counts from zero.
  if (samples.length && start !== most(samples.at(-1).page, "process_start_time_seconds")) samples.length = 0;
  samples.push({ at: performance.now(), page });
  if (samples.length > KEPT) samples.shift();
  parts = lines.map((line) => /^\[(.)\] (\S+?):? (.*)$/.exec(line)?.slice(1)).filter(Boolean);
  state = lines.at(-1) === "stopping" ? "stopping" : ready.ok ? "ready" : "waiting";
  heardAt = performance.now();
}

async function loop() {
  for (;;) {
    heardAt ??= performance.now();
    await read().catch(() => {});
    draw();
    await new Promise((then) => setTimeout(then, document.hidden ? HIDDEN_MS : EVERY_MS));
  }
}

document.getElementById("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
  draw();
});
draw();
loop();
