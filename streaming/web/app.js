// The page's wiring: one call at a time, its states, and what the user is told.

import { Call, CallError } from "./call.js";
import { PerformancePanel } from "./express.js";
import { MotionPanel, PortraitPanel, VoicePanel } from "./panel.js";
import { FrameMeter, StatsPanel, browserStats, pictureLate } from "./stats.js";

const STATS_MS = 1000;
const CONTROLS_MS = 60; // sliders move faster than the server needs to hear
const FIRST_FRAME_MS = 15_000;

const element = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const video = element("face");
const meter = new FrameMeter(video);
const panel = new StatsPanel(meter);

let call = null;
let timer = 0;
let patience = 0;
let lastBrowser = null;

const STATES = {
  idle: ["Ready", "Start"],
  busy: ["Connecting…", "Stop"],
  live: ["Live", "Stop"],
  error: ["Not connected", "Start"],
};

function setState(state, text) {
  const [status, button] = STATES[state];
  element("status").dataset.state = state;
  element("status").textContent = text ?? status;
  element("screen").dataset.state = state;
  const live = state === "busy" || state === "live";
  element("start").querySelector("span").textContent = button;
  element("start").querySelector("path").setAttribute("d", live ? "M7 7h10v10H7z" : "M8 5.5v13l10.5-6.5z");
  for (const input of document.querySelectorAll('input[name="portrait"], input[name="voice"], #upload')) {
    input.closest("fieldset").disabled = live;
  }
}

function notify(title, text, action, run) {
  element("notice-title").textContent = title;
  element("notice-text").textContent = text;
  element("notice-action").textContent = action;
  element("notice-action").onclick = () => { hideNotice(); run(); };
  element("notice").hidden = false;
  element("notice-action").focus({ preventScroll: true });
}

function hideNotice() { element("notice").hidden = true; }

/** Sound is off with a microphone, so that nobody hears himself late or starts an echo. */
function setSound(on) {
  video.muted = !on;
  element("sound").setAttribute("aria-pressed", String(on));
  element("sound").querySelector("span").textContent = on ? "Sound on" : "Sound off";
}

function showStill(portrait) {
  const still = element("still");
  still.hidden = !portrait;
  if (!portrait) return;
  still.src = portrait.image ?? portrait.thumbnail;
  still.alt = portrait.title || portrait.name;
  element("screen").style.setProperty("--still", `url("${new URL(portrait.thumbnail, document.baseURI)}")`);
}

const portraits = new PortraitPanel(showStill);
const voices = new VoicePanel((source) => setSound(source !== "mic"));
const motion = new MotionPanel(() => scheduleControls());
const performer = new PerformancePanel(() => scheduleControls(), () => call?.session);

let controlsTimer = 0;
function scheduleControls() {
  if (!call?.session || controlsTimer) return;
  controlsTimer = setTimeout(() => {
    controlsTimer = 0;
    sendControls();
  }, CONTROLS_MS);
}

async function sendControls() {
  if (!call?.session) return;
  try {
    await fetch("api/controls", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ session: call.session, controls: { ...motion.values(), ...performer.values() } }),
    });
  } catch {
    // A lost server shows itself on the connection, which has its own message.
  }
}

async function start() {
  const portrait = portraits.chosen;
  if (!portrait) {
    notify("No portrait chosen", "Choose a portrait, or drop a photo onto the page.", "Choose a photo", () => element("upload").click());
    return;
  }
  hideNotice();
  panel.clear(voices.source === "mic");
  setState("busy");
  setSound(voices.source !== "mic");
  const seed = Number(query.get("seed") ?? Math.floor(Math.random() * 2 ** 31));
  const options = { portrait: portrait.name, source: voices.source, seed, codec: query.get("codec") };
  const mine = call = new Call(options, { media: (stream) => attach(mine, stream), lost: () => lost(mine) });
  try {
    await mine.open();
    if (call !== mine) return;
    if (!motion.isNeutral() || !performer.isNeutral()) await sendControls();
    patience = setTimeout(() => call === mine && lost(mine), FIRST_FRAME_MS);
    timer = setInterval(() => refresh(mine), STATS_MS);
  } catch (error) {
    if (call !== mine) return;
    stop();
    fail(error);
  }
}

function attach(mine, stream) {
  if (call !== mine || video.srcObject === stream) return;
  video.srcObject = stream;
  meter.start();
  firstFrame(() => {
    if (call !== mine) return;
    clearTimeout(patience);
    setState("live");
  });
  video.play().catch((error) => {
    if (error.name !== "NotAllowedError") return; // stopped meanwhile
    setSound(false); // a browser that forbids sound still shows the face
    video.play();
  });
}

function firstFrame(seen) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(seen);
  else video.addEventListener("loadeddata", seen, { once: true });
}

function fail(error) {
  setState("error", error.title ?? "Not connected");
  if (!(error instanceof CallError)) {
    notify("Something went wrong", String(error.message ?? error), "Try again", start);
  } else if (error.kind === "mic") {
    notify(error.title, error.message, "Try again", start);
  } else if (error.kind === "full") {
    notify(error.title, error.message, "Try again", start);
  } else {
    notify(error.title, error.message, "Reconnect", start);
  }
}

function lost(mine) {
  if (call !== mine) return;
  stop();
  fail(new CallError("lost", "The connection was lost", "The server or the network went away. Your settings are kept."));
}

function stop() {
  clearInterval(timer);
  clearTimeout(patience);
  meter.stop();
  const ending = call;
  call = null;
  lastBrowser = null;
  ending?.close();
  performer.ended();
  video.srcObject = null;
  setState("idle");
}

async function refresh(mine) {
  if (call !== mine || !mine.session) return;
  const browser = await browserStats(mine.pc, lastBrowser);
  let server = null;
  try {
    const response = await fetch(`api/stats?session=${encodeURIComponent(mine.session)}`);
    if (response.ok) server = await response.json();
  } catch {
    // As in sendControls: the connection itself tells.
  }
  if (call !== mine) return;
  lastBrowser = browser;
  if (video.muted) mine.lipSync.release();
  else mine.lipSync.update(pictureLate(browser), browser.video?.jitterMs ?? 0);
  panel.show(server, browser);
}

element("start").addEventListener("click", () => (call ? stop() : start()));
element("sound").addEventListener("click", () => setSound(video.muted));
element("notice-close").addEventListener("click", () => { hideNotice(); element("start").focus(); });
video.addEventListener("resize", () => {
  if (video.videoWidth) element("screen").style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
});
addEventListener("pagehide", () => call?.close());

async function loadEngine() {
  const response = await fetch("api/engine");
  if (response.ok) performer.setEngine(await response.json());
}

async function load() {
  try {
    await Promise.all([portraits.load(), voices.load(), loadEngine()]);
    setSound(voices.source !== "mic");
    setState("idle");
  } catch (error) {
    setState("error");
    notify("The server cannot be reached", String(error.message ?? error), "Try again", load);
  }
}

load();
