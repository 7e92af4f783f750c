// Live figures: what the server measures, what the browser measures, and two small curves.

const KEEP_FRAMES = 10_000; // ms of shown frames in the first curve
const KEEP_LATENCY = 120; // seconds in the second curve
const PACKET_MS = 10; // a sample waits for its packet to fill
const OPUS_MS = 6.5; // and for the encoder's own look-ahead
const TONES = ["var(--p1)", "var(--p2)", "var(--p3)", "var(--p4)", "var(--p5)"];

const element = (id) => document.getElementById(id);
const ms = (value, digits = 0) => (Number.isFinite(value) ? `${value.toFixed(digits)} ms` : "–");

/** Counts the frames a video element really shows, through requestVideoFrameCallback. */
export class FrameMeter {
  constructor(video) {
    this.video = video;
    this.shown = []; // times of the frames shown in the last ten seconds
    this.running = false;
    this.waiting = 0;
  }

  start() {
    this.stop();
    this.shown = [];
    this.running = Boolean(this.video.requestVideoFrameCallback);
    if (this.running) this.waiting = this.video.requestVideoFrameCallback(this.#tick);
  }

  stop() {
    if (this.running) this.video.cancelVideoFrameCallback(this.waiting);
    this.running = false;
  }

  #tick = (now, frame) => {
    const time = frame.expectedDisplayTime ?? now;
    this.shown.push(time);
    while (this.shown[0] < time - KEEP_FRAMES) this.shown.shift();
    this.waiting = this.video.requestVideoFrameCallback(this.#tick);
  };

  /** Frames per second over the last two seconds. */
  fps() {
    const recent = this.shown.filter((t) => t > performance.now() - 2000);
    return recent.length > 1 ? (1000 * (recent.length - 1)) / (recent.at(-1) - recent[0]) : 0;
  }

  intervals() {
    return this.shown.slice(1).map((t, i) => t - this.shown[i]);
  }
}

/** What the browser's own statistics say about the two incoming tracks and the way between. */
export async function browserStats(pc, before) {
  const out = { at: performance.now() };
  for (const entry of (await pc.getStats()).values()) {
    if (entry.type === "candidate-pair" && entry.nominated) out.rtt = 1000 * entry.currentRoundTripTime;
    if (entry.type !== "inbound-rtp") continue;
    const kind = entry.kind;
    const last = before?.[kind];
    const emitted = entry.jitterBufferEmittedCount - (last?.emitted ?? 0);
    const held = entry.jitterBufferDelay - (last?.held ?? 0);
    const decoded = entry.framesDecoded - (last?.decoded ?? 0);
    out[kind] = {
      emitted: entry.jitterBufferEmittedCount,
      held: entry.jitterBufferDelay,
      decoded: entry.framesDecoded,
      decodeTime: entry.totalDecodeTime,
      jitterMs: emitted > 0 ? (1000 * held) / emitted : last?.jitterMs,
      decodeMs: decoded > 0 ? (1000 * (entry.totalDecodeTime - (last?.decodeTime ?? 0))) / decoded : last?.decodeMs,
      playout: entry.estimatedPlayoutTimestamp,
      dropped: entry.framesDropped,
      fps: entry.framesPerSecond,
      size: entry.frameWidth ? `${entry.frameWidth} × ${entry.frameHeight}` : null,
    };
  }
  return out;
}

/** How much the picture trails the sound at this moment (ms), by the sender's clock; NaN while unknown. */
export function pictureLate(browser) {
  const audio = browser.audio?.playout;
  const video = browser.video?.playout;
  return audio > 0 && video > 0 ? audio - video : NaN;
}

/** A fine line without axes; `low` and `high` fix the scale so that noise is not magnified. */
function sparkline(canvas, points, low, high, target) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const style = getComputedStyle(canvas);
  const ctx = canvas.getContext("2d");
  const pad = 2 * ratio;
  const y = (v) => pad + (height - 2 * pad) * (1 - (Math.min(high, Math.max(low, v)) - low) / (high - low));
  ctx.clearRect(0, 0, width, height);
  ctx.lineWidth = ratio;
  ctx.strokeStyle = style.getPropertyValue("--line");
  ctx.beginPath();
  ctx.moveTo(0, y(target));
  ctx.lineTo(width, y(target));
  ctx.stroke();
  ctx.strokeStyle = style.getPropertyValue("--accent");
  ctx.lineWidth = 1.5 * ratio;
  ctx.lineJoin = "round";
  ctx.beginPath();
  points.forEach(([x, v], i) => (i ? ctx.lineTo(x * width, y(v)) : ctx.moveTo(x * width, y(v))));
  ctx.stroke();
}

/** Writes all figures into the page. */
export class StatsPanel {
  constructor(meter) {
    this.meter = meter;
    this.latency = [];
    this.budgetKey = "";
    this.speaking = false;
  }

  /** A new call begins; `speaking`: with the microphone. */
  clear(speaking) {
    this.speaking = speaking;
    this.latency = [];
    for (const id of ["head-latency", "head-fps", "head-offset", "live-fps", "live-late", "live-dropped", "live-rtt", "live-jitter"]) {
      element(id).textContent = "–";
    }
    element("live-uptime").textContent = "";
  }

  /** `server` is the answer of /api/stats (or null), `browser` that of browserStats. */
  show(server, browser) {
    const fps = this.meter.running ? this.meter.fps() : browser.video?.fps ?? 0;
    element("live-fps").textContent = fps ? `${fps.toFixed(1)} fps` : "–";
    element("head-fps").textContent = fps ? `${fps.toFixed(1)} fps` : "–";
    element("live-rtt").textContent = ms(browser.rtt, 1);
    element("live-jitter").textContent = ms(browser.video?.jitterMs, 1);
    element("live-dropped").textContent = browser.video?.dropped ?? "–";
    element("live-size").textContent = browser.video?.size ?? "–";
    this.#offset(browser);
    if (server) this.#server(server, browser);
    this.#curves(server?.budget_ms);
  }

  #offset(browser) {
    element("head-offset").textContent = ms(pictureLate(browser));
  }

  #server(server, browser) {
    this.#budget(server);
    const late = server.frames?.late ?? 0;
    const total = server.frames?.total ?? 0;
    element("live-late").textContent = total ? `${late} of ${total} (${((100 * late) / total).toFixed(2)} %)` : "–";
    element("live-uptime").textContent = total ? `${Math.round(total / 25)} s` : "";
    this.#stages(server.stages ?? []);
    // Out of the microphone, through the server's fixed budget, and onto the screen. What no browser
    // tells (sound card, screen) is not in it, so it is shown as an estimate.
    const spoken = this.speaking ? PACKET_MS + OPUS_MS : 0;
    const way = (browser.rtt ?? 0) + (browser.video?.jitterMs ?? 0) + (browser.video?.decodeMs ?? 0);
    const total_ms = server.budget_ms + spoken + way;
    this.latency.push([performance.now(), total_ms]);
    while (this.latency.length > KEEP_LATENCY) this.latency.shift();
    element("head-latency").textContent = `≈ ${ms(total_ms)}`;
    element("spark-latency-now").textContent = ms(total_ms);
  }

  #budget(server) {
    const parts = server.parts ?? [];
    const key = JSON.stringify([server.budget_ms, parts]);
    if (key === this.budgetKey) return;
    this.budgetKey = key;
    element("budget-total").textContent = ms(server.budget_ms);
    element("budget-bar").replaceChildren(...parts.map((part, i) => {
      const bar = document.createElement("i");
      bar.style.flex = `${Math.max(part.ms, 0.001)} 1 0`;
      bar.style.background = TONES[i % TONES.length];
      return bar;
    }));
    element("budget-bar").setAttribute("aria-label",
      `Parts of the latency budget: ${parts.map((p) => `${p.name} ${ms(p.ms)}`).join(", ")}`);
    element("budget-key").replaceChildren(...parts.map((part, i) => {
      const item = document.createElement("li");
      item.style.setProperty("--tone", TONES[i % TONES.length]);
      const value = document.createElement("b");
      value.textContent = ms(part.ms, 1);
      item.append(part.name, value);
      return item;
    }));
  }

  #stages(stages) {
    if (!stages.length) return;
    element("stages").replaceChildren(...stages.map((stage) => {
      const row = document.createElement("tr");
      if (stage.name === "total") row.className = "total";
      for (const text of [stage.name, ...[stage.p50, stage.p95, stage.p99].map((v) => v?.toFixed(2) ?? "–")]) {
        row.append(Object.assign(document.createElement("td"), { textContent: text }));
      }
      return row;
    }));
  }

  #curves(budget) {
    const now = performance.now();
    const shown = this.meter.shown;
    const intervals = this.meter.intervals();
    sparkline(element("spark-interval"),
      intervals.map((v, i) => [1 - (now - shown[i + 1]) / KEEP_FRAMES, v]), 0, 100, 40);
    element("spark-interval-now").textContent = intervals.length ? ms(intervals.at(-1)) : "";
    const high = 1.8 * (budget ?? 160);
    sparkline(element("spark-latency"),
      this.latency.map(([t, v]) => [1 - (now - t) / (1000 * KEEP_LATENCY), v]), 0, high, budget ?? 160);
  }
}
