// The performance side of the page: emotion, takes, head actions, a style clip, drivers.

import { serverText } from "./call.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

const EMOTIONS = ["neutral", "happy", "sad", "angry", "surprised", "fearful", "disgusted", "contempt"];
const ACTIONS = [["nod", "Nod"], ["tilt", "Tilt"], ["frontal", "Face front"]];
const FACTORS = [["pose", "Head"], ["eyes", "Eyes"], ["expression", "Expression"], ["lips", "Lips"]];
const WEBCAM_MS = 80;
const WEBCAM_WIDTH = 320;

const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** Emotion, seed and actions are controls like the motion sliders; `changed()` is called at each. */
export class PerformancePanel {
  constructor(changed, session) {
    this.changed = changed;
    this.session = session;
    this.seed = 0;
    this.actions = new Set();
    this.socket = null;
    element("emotions").append(...EMOTIONS.map((name, k) => this.#emotion(name, k === 0)));
    this.strength = element("emotion-strength");
    this.strength.addEventListener("input", () => this.#emotionChanged());
    element("take").addEventListener("click", () => {
      this.seed = 1 + Math.floor(Math.random() * 65534);
      this.changed();
    });
    element("actions").append(...ACTIONS.map(([name, title]) => this.#action(name, title)));
    this.style = element("style-strength");
    this.style.addEventListener("input", () => {
      element("style-value").textContent = `${Math.round(100 * this.style.valueAsNumber)} %`;
      this.changed();
    });
    element("factors").append(...FACTORS.map(([name, title]) => this.#factor(name, title)));
    element("style-file").addEventListener("change", (event) => this.#upload(event.target, "api/style"));
    element("driver-file").addEventListener("change", (event) => this.#upload(event.target, "api/driver"));
    element("driver-webcam").addEventListener("click", () => (this.socket ? this.#stopWebcam() : this.#webcam()));
    element("driver-off").addEventListener("click", () => this.release());
  }

  /** The recipe decides what there is: actions need a motion space, a style clip a family that has styles. */
  setEngine(engine) {
    element("recipe").textContent = engine.recipe;
    element("actions-part").hidden = !engine.actions;
    element("style-part").hidden = !engine.style;
  }

  values() {
    const emotion = document.querySelector('input[name="emotion"]:checked')?.value ?? "neutral";
    const values = { seed: this.seed, style: this.style.valueAsNumber };
    for (const name of EMOTIONS.slice(1)) values[`emotion.${name}`] = name === emotion ? this.strength.valueAsNumber : 0;
    for (const [name] of ACTIONS) values[`action.${name}`] = this.actions.has(name) ? 1 : 0;
    return values;
  }

  isNeutral() {
    return Object.entries(this.values()).every(([, value]) => value === 0);
  }

  #emotion(name, checked) {
    const label = make("label");
    const input = make("input", { type: "radio", name: "emotion", value: name, checked, className: "visually-hidden" });
    input.addEventListener("change", () => this.#emotionChanged());
    label.append(input, make("span", { className: "chip", textContent: capital(name) }));
    return label;
  }

  #emotionChanged() {
    element("emotion-value").textContent = `${Math.round(100 * this.strength.valueAsNumber)} %`;
    this.changed();
  }

  #action(name, title) {
    const button = make("button", { type: "button", textContent: title });
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const on = !this.actions.has(name);
      this.actions[on ? "add" : "delete"](name);
      button.setAttribute("aria-pressed", String(on));
      this.changed();
    });
    return button;
  }

  #factor(name, title) {
    const label = make("label");
    const input = make("input", { type: "checkbox", name: "factor", value: name, checked: name === "pose", className: "visually-hidden" });
    label.append(input, make("span", { className: "chip", textContent: title }));
    return label;
  }

  get #factors() {
    return [...document.querySelectorAll('input[name="factor"]:checked')].map((input) => input.value);
  }

  #say(text, bad = false) {
    const box = element("drive-state");
    box.textContent = text;
    box.classList.toggle("error", bad);
    box.hidden = !text;
  }

  async #upload(input, path) {
    const file = input.files[0];
    input.value = ""; // so that the same file can be chosen again
    const session = this.session();
    if (!file) return;
    if (!session) return this.#say("Press Start first; a clip belongs to a running face.", true);
    this.#say(`Reading the face in ${file.name}…`);
    try {
      const form = new FormData();
      form.append("session", session);
      form.append("factors", this.#factors.join(","));
      form.append("file", file);
      const response = await fetch(path, { method: "POST", body: form });
      if (!response.ok) throw new Error(await serverText(response));
      const answer = await response.json();
      this.#say(answer.message);
      if (path === "api/style" && this.style.valueAsNumber === 0) {
        this.style.value = 1;
        this.style.dispatchEvent(new Event("input"));
      }
    } catch (error) {
      this.#say(error instanceof TypeError ? "The server cannot be reached." : error.message, true);
    }
  }

  async #webcam() {
    const session = this.session();
    if (!session) return this.#say("Press Start first; the webcam drives a running face.", true);
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    } catch {
      return this.#say("No webcam: allow it in the browser, or choose a clip.", true);
    }
    const video = make("video", { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    const query = new URLSearchParams({ session, factors: this.#factors.join(",") });
    const token = new URLSearchParams(location.search).get("token");
    if (token) query.set("token", token);
    const url = new URL(`ws/driver?${query}`, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.onmessage = (event) => this.#say(event.data);
    this.socket.onclose = (event) => {
      this.socket = null;
      stream.getTracks().forEach((track) => track.stop());
      element("driver-webcam").textContent = "Use the webcam";
      this.#say(event.reason, Boolean(event.reason));
    };
    this.socket.onopen = () => {
      element("driver-webcam").textContent = "Stop the webcam";
      this.#pump(video, this.socket);
    };
  }

  #pump(video, socket) {
    const canvas = make("canvas");
    const send = () => {
      if (this.socket !== socket || socket.readyState !== WebSocket.OPEN) return;
      canvas.width = WEBCAM_WIDTH;
      canvas.height = Math.round((WEBCAM_WIDTH * video.videoHeight) / Math.max(1, video.videoWidth));
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      // A slow network must not queue pictures: the newest one is the only one of use.
      if (socket.bufferedAmount < 200_000) {
        canvas.toBlob((blob) => { if (blob && socket.readyState === WebSocket.OPEN) socket.send(blob); }, "image/jpeg", 0.8);
      }
      setTimeout(send, WEBCAM_MS);
    };
    send();
  }

  #stopWebcam() { this.socket?.close(); }

  async release() {
    this.#stopWebcam();
    const session = this.session();
    if (session) await fetch(`api/driver?session=${encodeURIComponent(session)}`, { method: "DELETE" }).catch(() => {});
    this.#say("");
  }

  ended() {
    this.#stopWebcam();
    this.#say("");
  }
}
