// One call: microphone, WebRTC, and its end. Knows nothing of the page's elements.

/** An error whose text is meant for the user; `kind` says what the page may offer. */
export class CallError extends Error {
  constructor(kind, title, text) {
    super(text);
    this.kind = kind;
    this.title = title;
  }
}

/** The error text of a failed request: the server's own words where it sent some. */
export async function serverText(response) {
  const body = await response.text();
  try {
    const data = JSON.parse(body);
    return data.error ?? data.message ?? body;
  } catch {
    return body.slice(0, 400) || `The server answered ${response.status}.`;
  }
}

/** Open the microphone, or say in plain words why it cannot be opened. */
export async function openMicrophone() {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new CallError("mic", "The microphone needs a secure page",
      `Browsers give the microphone only to https pages and to http://127.0.0.1 or http://localhost; this page came from ${location.origin}. ` +
      "Open it in one of those ways, or pick a sample voice.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw microphoneError(error);
  }
}

function microphoneError(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new CallError("mic", "The microphone was refused",
        "Allow the microphone for this page (the icon at the left of the address bar), then start again, or pick a sample voice.");
    case "NotFoundError":
    case "OverconstrainedError":
      return new CallError("mic", "No microphone was found",
        "Connect a microphone and start again, or pick a sample voice.");
    case "NotReadableError":
    case "AbortError":
      return new CallError("mic", "The microphone is busy",
        "Another program holds the microphone. Close it and start again, or pick a sample voice.");
    default:
      return new CallError("mic", "The microphone could not be opened", `${error.name}: ${error.message}`);
  }
}

/** Resolves when all local candidates are known; a slow interface is not waited for longer than a second. */
function gathered(pc) {
  return new Promise((resolve) => {
    const done = () => { clearTimeout(timer); resolve(); };
    const timer = setTimeout(done, 1000);
    if (pc.iceGatheringState === "complete") done();
    pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && done());
  });
}

/** Ask for 10 ms audio packets: half the browser's default wait before a sample can leave. */
function shortPackets(sdp) {
  const [head, ...sections] = sdp.split(/(?=^m=)/m);
  return head + sections.map((section) =>
    section.startsWith("m=audio") && !section.includes("a=ptime:") ? `${section}a=ptime:10\r\n` : section).join("");
}

/** Keeps picture and sound together where the browser alone lets them drift up to 30 ms apart. */
class LipSync {
  static #START_MS = 40; // about what a browser's audio buffers and the sound card hold
  static #DEAD_MS = 6;
  static #MOST_MS = 120;

  constructor(receiver) {
    this.receiver = receiver;
    this.target = 0;
    this.known = false;
  }

  /** `late`: how much the picture trails the sound (ms; NaN while unknown), `held`: what its jitter buffer holds. */
  update(late, held) {
    if (!("jitterBufferTarget" in this.receiver)) return;
    if (!Number.isFinite(late)) {
      if (!this.target) this.#aim(LipSync.#START_MS);
      return;
    }
    const first = !this.known;
    this.known = true;
    if (Math.abs(late) < LipSync.#DEAD_MS) return;
    // The whole error at first, then half of it each second. A target below what the buffer holds
    // anyway does nothing: to delay more, start from there.
    const from = late < 0 ? Math.max(this.target, first ? held : 0) : this.target;
    this.#aim(from - (first ? late : late / 2));
  }

  /** Nobody hears the sound: the picture need not wait for it. */
  release() {
    if (this.target) this.#aim(0);
    this.known = false;
  }

  #aim(target) {
    this.target = Math.round(Math.min(LipSync.#MOST_MS, Math.max(0, target)));
    this.receiver.jitterBufferTarget = this.target;
  }
}

/** How long a lost connection may heal by itself before the page says so. */
const HEAL_MS = 3000;

export class Call {
  /** `options`: portrait, source ("mic" or "sample:<name>"), seed, codec; `on`: {media, lost}. */
  constructor(options, on) {
    this.options = options;
    this.on = on;
    this.session = null;
    this.stream = new MediaStream();
    this.microphone = null;
    this.pc = null;
    this.lipSync = null;
    this.healing = 0;
    this.closed = false;
  }

  async open() {
    if (this.options.source === "mic") this.microphone = await openMicrophone();
    const pc = this.pc = new RTCPeerConnection();
    const audio = this.microphone
      ? pc.addTransceiver(this.microphone.getAudioTracks()[0], { direction: "sendrecv", streams: [this.microphone] })
      : pc.addTransceiver("audio", { direction: "recvonly" });
    const video = pc.addTransceiver("video", { direction: "recvonly" });
    for (const { receiver } of [audio, video]) this.#noExtraDelay(receiver);
    this.lipSync = new LipSync(video.receiver);
    // Audio and video in one stream: the browser keeps them together.
    pc.addEventListener("track", ({ track }) => {
      this.stream.addTrack(track);
      this.on.media(this.stream);
    });
    pc.addEventListener("connectionstatechange", () => this.#connectionChanged());
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    const answer = await this.#post();
    if (this.closed) return;
    await pc.setRemoteDescription({ type: answer.type, sdp: shortPackets(answer.sdp) });
    this.session = answer.session;
  }

  async #post() {
    const { portrait, source, seed, codec } = this.options;
    let response;
    try {
      response = await fetch("offer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ sdp: this.pc.localDescription.sdp, type: "offer", portrait, source, seed, codec }),
      });
    } catch {
      throw new CallError("lost", "The server cannot be reached", "Check that visavis is still running, then reconnect.");
    }
    if (response.ok) return response.json();
    const text = await serverText(response);
    if (response.status === 503) throw new CallError("full", "The server is full", text);
    throw new CallError("refused", "The server refused the call", text);
  }

  #noExtraDelay(receiver) {
    if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
  }

  #connectionChanged() {
    clearTimeout(this.healing);
    if (this.closed) return;
    const state = this.pc.connectionState;
    if (state === "failed" || state === "closed") this.#lose();
    if (state === "disconnected") this.healing = setTimeout(() => this.#lose(), HEAL_MS);
  }

  #lose() {
    if (this.closed) return;
    this.close();
    this.on.lost();
  }

  /** Stop everything; safe to call twice. */
  close() {
    this.closed = true;
    clearTimeout(this.healing);
    this.microphone?.getTracks().forEach((track) => track.stop());
    this.pc?.close();
  }
}
