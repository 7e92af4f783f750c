// The set-up side of the page: portraits, voices, motion controls.

import { serverText } from "./call.js";

const element = (id) => document.getElementById(id);

const SLIDERS = [
  { name: "strengthLips", label: "Lips", low: 0, high: 2, neutral: 1 },
  { name: "strengthBrows", label: "Brows", low: 0, high: 2, neutral: 1 },
  { name: "strengthEyes", label: "Eyes", low: 0, high: 2, neutral: 1 },
  { name: "strengthHead", label: "Head", low: 0, high: 2, neutral: 1 },
  { name: "headLock", label: "Head lock", low: 0, high: 1, neutral: 0 },
  { name: "smile", label: "Smile", low: -1, high: 1, neutral: 0 },
];
const GAZE = [
  { name: "gazeYaw", label: "Side", low: -0.7, high: 0.7, neutral: 0, degrees: true },
  { name: "gazePitch", label: "Up", low: -0.5, high: 0.5, neutral: 0, degrees: true },
];

function showValue(spec, value) {
  if (spec.degrees) return `${Math.round((value * 180) / Math.PI)}°`;
  return spec.low < 0 || spec.high === 1 ? `${Math.round(100 * value)} %` : `${value.toFixed(2)} ×`;
}

/** Motion sliders and the gaze pad; calls `changed({name: value})` with all values at each move. */
export class MotionPanel {
  constructor(changed) {
    this.changed = changed;
    this.inputs = new Map();
    for (const spec of SLIDERS) element("sliders").append(this.#slider(spec));
    for (const spec of GAZE) element("gaze-sliders").append(this.#slider(spec));
    element("reset").addEventListener("click", () => this.reset());
    this.#pad();
  }

  #slider(spec) {
    const label = Object.assign(document.createElement("label"), { className: "slider", htmlFor: spec.name });
    const input = Object.assign(document.createElement("input"), {
      type: "range", id: spec.name, name: spec.name, min: spec.low, max: spec.high, step: 0.01, value: spec.neutral,
    });
    const output = document.createElement("output");
    const update = () => {
      output.textContent = showValue(spec, input.valueAsNumber);
      input.setAttribute("aria-valuetext", output.textContent);
      this.#movePad();
      this.changed(this.values());
    };
    input.addEventListener("input", update);
    this.inputs.set(spec.name, { spec, input, output });
    output.textContent = showValue(spec, spec.neutral);
    label.append(Object.assign(document.createElement("span"), { textContent: spec.label }), input, output);
    return label;
  }

  values() {
    return Object.fromEntries([...this.inputs].map(([name, { input }]) => [name, input.valueAsNumber]));
  }

  isNeutral() {
    return [...this.inputs.values()].every(({ spec, input }) => input.valueAsNumber === spec.neutral);
  }

  set(values) {
    for (const [name, value] of Object.entries(values)) {
      const { spec, input, output } = this.inputs.get(name);
      input.value = value;
      output.textContent = showValue(spec, input.valueAsNumber);
    }
    this.#movePad();
    this.changed(this.values());
  }

  reset() {
    this.set(Object.fromEntries([...this.inputs].map(([name, { spec }]) => [name, spec.neutral])));
  }

  #movePad() {
    if (!this.dot) return;
    const { gazeYaw, gazePitch } = this.values();
    this.dot.style.left = `${50 + (50 * gazeYaw) / 0.7}%`;
    this.dot.style.top = `${50 - (50 * gazePitch) / 0.5}%`;
  }

  #pad() {
    const pad = element("pad");
    this.dot = pad.firstElementChild;
    const move = (event) => {
      const box = pad.getBoundingClientRect();
      let x = (2 * (event.clientX - box.left)) / box.width - 1;
      let y = 1 - (2 * (event.clientY - box.top)) / box.height;
      const radius = Math.max(1, Math.hypot(x, y));
      x /= radius;
      y /= radius;
      this.set({ gazeYaw: 0.7 * x, gazePitch: 0.5 * y });
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      move(event);
    });
    pad.addEventListener("pointermove", (event) => event.buttons && move(event));
    pad.addEventListener("dblclick", () => this.set({ gazeYaw: 0, gazePitch: 0 }));
  }
}

function choice(group, value, className) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), {
    type: "radio", name: group, value, className: "visually-hidden",
  });
  const face = Object.assign(document.createElement("span"), { className });
  label.append(input, face);
  return { label, input, face };
}

/** Bundled and uploaded portraits as a radio group; `changed(portrait)` gets {name, title, thumbnail}. */
export class PortraitPanel {
  constructor(changed) {
    this.changed = changed;
    this.portraits = new Map();
    const upload = element("upload");
    upload.addEventListener("change", () => {
      if (upload.files.length) this.upload(upload.files[0]);
      upload.value = ""; // so that the same file can be chosen again
    });
    this.#dropZone();
  }

  get chosen() {
    const input = document.querySelector('input[name="portrait"]:checked');
    return input ? this.portraits.get(input.value) : null;
  }

  async load() {
    const response = await fetch("api/portraits");
    if (!response.ok) throw new Error(await serverText(response));
    const before = this.chosen?.name;
    const list = await response.json();
    this.portraits = new Map(list.map((portrait) => [portrait.name, portrait]));
    element("portraits").replaceChildren(...list.map((portrait) => this.#entry(portrait)));
    const pick = this.portraits.has(before) ? before : list[0]?.name;
    if (pick) this.choose(pick);
  }

  #entry(portrait) {
    const { label, input, face } = choice("portrait", portrait.name, "thumb");
    face.style.backgroundImage = `url(${JSON.stringify(portrait.thumbnail)})`;
    const title = portrait.title || portrait.name;
    label.append(Object.assign(document.createElement("span"), { className: "name", textContent: title, title }));
    input.addEventListener("change", () => this.changed(portrait));
    return label;
  }

  choose(name) {
    document.querySelector(`input[name="portrait"][value="${CSS.escape(name)}"]`).checked = true;
    this.changed(this.portraits.get(name));
  }

  async upload(file) {
    const label = document.querySelector(".upload");
    const text = label.querySelector("span");
    const before = text.textContent;
    this.#error("");
    label.classList.add("busy");
    text.textContent = `Reading ${file.name}…`;
    try {
      const form = new FormData();
      form.append("file", file);
      const response = await fetch("api/portraits", { method: "POST", body: form });
      if (!response.ok) throw new Error(await serverText(response));
      const answer = await response.json();
      if (answer.error) throw new Error(answer.error);
      await this.load();
      this.choose(answer.name);
    } catch (error) {
      this.#error(error instanceof TypeError ? "The server cannot be reached; check that visavis is still running." : error.message);
    } finally {
      label.classList.remove("busy");
      text.textContent = before;
    }
  }

  #error(text) {
    const box = element("upload-error");
    box.textContent = text;
    box.hidden = !text;
  }

  #dropZone() {
    const cover = element("drop");
    let depth = 0; // dragenter and dragleave come for every child
    const show = (on) => { cover.hidden = !on; };
    const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    addEventListener("dragenter", (event) => { if (isFile(event)) { depth += 1; show(true); } });
    addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) show(false); });
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      show(false);
      if (event.dataTransfer.files.length) this.upload(event.dataTransfer.files[0]);
    });
  }
}

/** Microphone or one of the server's sample voices; `source` is what /offer wants. */
export class VoicePanel {
  constructor(changed) {
    this.changed = changed;
  }

  get source() {
    return document.querySelector('input[name="voice"]:checked')?.value ?? "mic";
  }

  async load() {
    const response = await fetch("api/voices");
    if (!response.ok) throw new Error(await serverText(response));
    const voices = await response.json();
    const entries = [["mic", "Microphone"], ...voices.map((v) => [`sample:${v.name}`, v.title || v.name])];
    element("voices").replaceChildren(...entries.map(([value, title]) => {
      const { label, input, face } = choice("voice", value, "chip");
      face.textContent = title;
      input.addEventListener("change", () => this.changed(value));
      return label;
    }));
    this.#secureOrigin(voices.length > 0);
    document.querySelector('input[name="voice"]:not(:disabled)').checked = true;
  }

  #secureOrigin(hasSamples) {
    if (window.isSecureContext) return;
    if (hasSamples) document.querySelector('input[name="voice"][value="mic"]').disabled = true;
    const hint = element("mic-hint");
    hint.textContent = "The microphone works only on https pages and on http://127.0.0.1 or http://localhost.";
    hint.hidden = false;
  }
}
