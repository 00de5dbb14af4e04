// Live frames: one request, one answer, so that what is seen is never older than one turn of the detector.

import { $, offer, say, showFound, view } from "./page.js";
import { settings } from "./settings.js";

const LONGEST_SIDE = 1280; // pixels of a webcam's frame that is sent
const TABLE_EVERY = 250; // milliseconds; a table that changes faster cannot be read
let current = null;
let turn = 0; // the newest start; a webcam that opens after another one was chosen is let go

/** Send changed settings to a running stream. */
export function settingsChanged() {
  current?.sendSettings();
}

export function stopLive() {
  turn += 1;
  current?.stop();
  current = null;
}

/** Watch a camera of the server. */
export function watchCamera(number, whenOver) {
  stopLive();
  current = new Live(`/api/live?camera=${number}`, async () => new Blob(), () => {}, whenOver);
}

/** Watch the webcam of this device; its id, or nothing if the user has gone on to something else meanwhile. */
export async function watchWebcam(deviceId, whenOver) {
  stopLive();
  const mine = turn;
  let video;
  try {
    video = await openWebcam(deviceId);
  } catch (error) {
    if (mine !== turn) return undefined;
    throw error;
  }
  const [track] = video.srcObject.getVideoTracks();
  if (mine !== turn) {
    track.stop();
    return undefined;
  }
  track.addEventListener("ended", () => {
    stopLive();
    say("the webcam was disconnected");
  });
  const canvas = document.createElement("canvas"); // one for all frames: phones are slow to let canvases go
  current = new Live("/api/live", () => grab(video, canvas), () => track.stop(), whenOver);
  return track.getSettings().deviceId;
}

/** A video element that plays what the webcam sees. */
async function openWebcam(deviceId) {
  const stream = await askForWebcam(deviceId);
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
  try {
    await video.play();
  } catch (error) {
    stream.getTracks().forEach((track) => track.stop());
    throw error;
  }
  return video;
}

async function askForWebcam(deviceId) {
  if (!navigator.mediaDevices) {
    throw new Error("browsers give the webcam only to pages of this computer, or from https: see --tls-cert");
  }
  const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 1280 } } });
  } catch (error) {
    const reasons = {
      NotAllowedError: "the browser was not allowed to use the webcam: allow it beside the address of this page",
      NotFoundError: "this device has no webcam",
      NotReadableError: "the webcam cannot be opened: close other programs that use it",
    };
    throw new Error(reasons[error.name] ?? `the webcam cannot be opened (${error.name})`);
  }
}

/** The video's frame as JPEG. */
function grab(video, canvas) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

class Live {
  constructor(path, nextImage, end, whenOver) {
    this.nextImage = nextImage;
    this.end = end;
    this.whenOver = whenOver;
    this.times = [];
    this.tableAt = 0;
    this.over = false;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}${path}`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.sendSettings();
      this.ask();
    };
    this.socket.onmessage = (event) => this.answered(event.data);
    this.socket.onclose = (event) => {
      if (!this.over) say(event.reason || "the server ended the connection: is it still running? If so, reload the page");
      this.stop();
    };
  }

  sendSettings() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(settings()));
  }

  async ask() {
    const image = await this.nextImage();
    if (this.over || this.socket.readyState !== WebSocket.OPEN) return;
    this.askedAt = performance.now();
    this.socket.send(image ?? new Blob());
  }

  async answered(data) {
    const length = new DataView(data).getUint32(0);
    const found = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    if (found.error) {
      say(found.error);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    } else {
      await this.show(found, new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
    }
    // A hidden page waits for its next turn here, and takes none from others.
    if (!this.over) requestAnimationFrame(() => this.ask());
  }

  async show(found, jpeg) {
    const bitmap = await createImageBitmap(jpeg);
    if (this.over) return;
    const canvas = $("canvas");
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    view("canvas");
    this.showSpeed(found);
  }

  showSpeed(found) {
    const now = performance.now();
    this.times = [...this.times.filter((time) => now - time < 2000), now];
    if (now - this.tableAt < TABLE_EVERY) return;
    this.tableAt = now;
    say("");
    offer({});
    showFound(found);
    const span = now - this.times[0];
    const rate = span > 0 ? ((this.times.length - 1) * 1000) / span : 0;
    const notes = [
      `${rate.toFixed(1)} frames/s`,
      `network ${found.milliseconds} ms`,
      `there and back ${Math.round(now - this.askedAt)} ms`,
    ];
    if (found.dropped) notes.push(`${found.dropped} skipped`);
    if (found.stale) notes.push("no new image: the last one is shown");
    $("speed").textContent = notes.join(" · ");
  }

  stop() {
    if (this.over) return;
    this.over = true;
    this.socket.close();
    this.end();
    this.whenOver();
  }
}
