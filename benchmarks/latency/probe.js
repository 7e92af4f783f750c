// Runs in the page before its own script: stands in for the microphone, watches the face and listens.
// Everything is timed by performance.now(); the numbers are judged elsewhere.
(() => {
  const COLUMNS = 24, ROWS = 2, SYNC = 0b10110010, GREY = 128;
  const RealPeer = window.RTCPeerConnection;
  const context = new AudioContext({ sampleRate: 48000, latencyHint: "interactive" });
  const probe = window.visavisProbe = {
    frames: [], clock: [], playout: [], heard: [], spokenAt: null, clickedAt: null, connectedAt: null, firstFrameAt: null,
    timeOrigin: performance.timeOrigin, peer: null,
  };

  const tick = () => probe.clock.push([performance.now(), context.currentTime]);
  setInterval(tick, 15);

  // --- the microphone ---------------------------------------------------------------------------
  // Read before any call, so that opening this microphone takes no longer than opening a real one.
  const recording = fetch("/visavis-benchmark/microphone.wav")
    .then((answer) => answer.arrayBuffer())
    .then((bytes) => context.decodeAudioData(bytes));
  probe.ready = recording.then(() => true);

  async function speak() {
    const source = new AudioBufferSourceNode(context, { buffer: await recording });
    const out = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    source.connect(out);
    await context.resume();
    probe.spokenAt = Math.ceil((context.currentTime + 0.2) * 48000) / 48000;
    source.start(probe.spokenAt);
    return out.stream;
  }
  navigator.mediaDevices.getUserMedia = speak;

  // --- the ear: what arrives, sample by sample ---------------------------------------------------
  const tap = URL.createObjectURL(new Blob([`
    registerProcessor("tap", class extends AudioWorkletProcessor {
      constructor() { super(); this.block = new Float32Array(4800); this.count = 0; }
      process([[input]]) {
        if (!input) return true;
        if (!this.count) this.start = currentFrame;
        this.block.set(input.subarray(0, Math.min(input.length, 4800 - this.count)), this.count);
        this.count += input.length;
        if (this.count >= 4736) {
          this.port.postMessage([this.start, this.block.slice(0, Math.min(this.count, 4800))]);
          this.count = 0;
        }
        return true;
      }
    });`], { type: "text/javascript" }));
  const tapReady = context.audioWorklet.addModule(tap);

  let ear = null;
  async function listen(track) {
    await tapReady;
    deafen(); // the former call's ear hears silence now, in the same moments
    const node = ear = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data: [frame, block] }) => {
      const pcm = new Int16Array(block.length);
      block.forEach((v, i) => { pcm[i] = Math.max(-32768, Math.min(32767, Math.round(32767 * v))); });
      probe.heard.push([frame, pcm]);
    };
    new MediaStreamAudioSourceNode(context, { mediaStream: new MediaStream([track]) }).connect(node);
  }

  function deafen() {
    if (ear) ear.port.onmessage = null;
    ear = null;
  }

  async function watchPlayout(pc) {
    while (pc.connectionState !== "closed") {
      const row = {};
      for (const s of (await pc.getStats()).values()) {
        // What the sound card (or its stand-in) adds after the sound has been handed to it.
        if (s.type === "media-playout") row.device = [s.totalPlayoutDelay, s.totalSamplesCount];
        if (s.type === "inbound-rtp") {
          row[s.kind] = s.estimatedPlayoutTimestamp;
        }
      }
      probe.playout.push([performance.now(), row]);
      await new Promise((r) => setTimeout(r, 1000));
    }
  }

  window.RTCPeerConnection = class extends RealPeer {
    constructor(...args) {
      super(...args);
      probe.peer = this;
      this.addEventListener("track", ({ track }) => track.kind === "audio" && listen(track));
      this.addEventListener("connectionstatechange", () => {
        if (this.connectionState === "connected") { probe.connectedAt ??= performance.now(); watchPlayout(this); }
      });
    }
  };

  // --- the eye: the code at the bottom of each shown frame ------------------------------------------
  const canvas = new OffscreenCanvas(16, 16);
  const pen = canvas.getContext("2d", { willReadFrequently: true });

  function crc8(bits) {
    let crc = 0;
    for (const bit of bits) {
      const top = (crc >> 7) ^ bit;
      crc = ((crc << 1) & 255) ^ (top ? 7 : 0);
    }
    return crc;
  }
  const number = (bits) => bits.reduce((n, bit) => 2 * n + bit, 0);

  function readStamp(video) {
    const width = video.videoWidth, height = video.videoHeight;
    const strip = Math.max(16, Math.floor(Math.floor(height / 16) / 2) * 2), row = strip / ROWS;
    if (canvas.width !== width || canvas.height !== strip) Object.assign(canvas, { width, height: strip });
    pen.drawImage(video, 0, height - strip, width, strip, 0, 0, width, strip);
    const pixels = pen.getImageData(0, 0, width, strip).data;
    const bits = [];
    for (let r = 0; r < ROWS; r++) {
      for (let c = 0; c < COLUMNS; c++) {
        const left = Math.floor((c * width) / COLUMNS), right = Math.floor(((c + 1) * width) / COLUMNS), inset = (right - left) >> 2;
        let sum = 0, count = 0;
        for (let y = Math.floor(r * row + row / 4); y < r * row + (3 * row) / 4; y++) {
          for (let x = left + inset; x < right - inset; x++, count++) sum += pixels[4 * (y * width + x) + 1];
        }
        bits.push(sum / count > GREY ? 1 : 0);
      }
    }
    if (number(bits.slice(0, 8)) !== SYNC || number(bits.slice(40)) !== crc8(bits.slice(8, 40))) return [-1, -1];
    return [number(bits.slice(8, 28)), bits[28] ? number(bits.slice(29, 39)) : -1];
  }

  function watch(video) {
    const see = (now, frame) => {
      tick();
      probe.firstFrameAt ??= frame.expectedDisplayTime;
      probe.frames.push([now, frame.presentationTime, frame.expectedDisplayTime, frame.receiveTime ?? -1,
        1000 * (frame.processingDuration ?? -0.001), ...readStamp(video)]);
      video.requestVideoFrameCallback(see);
    };
    video.requestVideoFrameCallback(see);
  }

  addEventListener("DOMContentLoaded", () => {
    watch(document.querySelector("video"));
    document.getElementById("start").addEventListener("click", () => { probe.clickedAt ??= performance.now(); }, true);
  });

  // --- what is taken away ------------------------------------------------------------------------------
  /** Forget all but the clocks: a new session begins. */
  probe.clear = () => {
    deafen();
    Object.assign(probe, {
      frames: [], playout: [], heard: [], spokenAt: null, clickedAt: null, connectedAt: null, firstFrameAt: null });
  };

  probe.result = () => {
    const start = probe.heard[0]?.[0] ?? 0;
    const end = probe.heard.length ? probe.heard.at(-1)[0] + probe.heard.at(-1)[1].length : 0;
    const pcm = new Int16Array(end - start);
    for (const [frame, block] of probe.heard) pcm.set(block, frame - start);
    let text = "";
    const bytes = new Uint8Array(pcm.buffer);
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    const { frames, clock, playout, spokenAt, clickedAt, connectedAt, firstFrameAt, timeOrigin } = probe;
    return { frames, clock, playout, spokenAt, clickedAt, connectedAt, firstFrameAt, timeOrigin,
      outputLatency: context.outputLatency, heardFrame: start, heard: btoa(text) };
  };
})();
