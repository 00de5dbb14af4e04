// An image or video of the user: checked by size here, by content on the server.

import { $, clear, getJson, offer, say, showCounts, showFound, view } from "./page.js";
import { settings } from "./settings.js";

let last = null; // the file that is shown, to look at it again with other settings
let turn = 0; // the newest upload; answers to older ones are not shown
let sending = null; // the request that is under way
let outdated = false; // settings have changed since it began
let lines = ""; // address of the JSON Lines on offer
const KEEP_EVERY = 60_000; // milliseconds; the server keeps a video as long as it is asked for

export function setUpUpload(limits) {
  $("file").addEventListener("change", () => {
    if ($("file").files.length) send($("file").files[0], limits);
    $("file").value = "";
  });
  const drop = $("drop");
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) send(event.dataTransfer.files[0], limits);
  });
}

/** Look at the same image again, when the user has stopped moving the settings. */
export function lookAgain(limits) {
  if (sending) outdated = true;
  else if (last) send(last, limits);
}

export function leaveUpload() {
  turn += 1;
  last = null;
  sending?.abort();
  sending = null;
  $("progress").hidden = true;
}

async function send(file, limits) {
  const mine = ++turn;
  sending?.abort();
  if (file !== last) clear();
  last = null;
  outdated = false;
  if (file.size > limits.video_bytes) {
    say(`${file.name}: the file is larger than ${Math.round(limits.video_bytes / 2 ** 20)} MiB; send a smaller one`);
    return;
  }
  try {
    const answer = await post(file, (part) => mine === turn && progress(part, `sending ${file.name}`));
    if (mine !== turn) return;
    if (answer.video) await follow(answer.video, mine);
    else showImage(answer, file);
  } catch (error) {
    if (mine === turn) say(error.message);
  }
  if (mine !== turn) return;
  $("progress").hidden = true;
  if (outdated) lookAgain(limits);
}

function post(file, whenSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much was sent
    request.open("POST", `/api/upload?${new URLSearchParams({ ...settings(), name: file.name })}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => whenSent(event.loaded / event.total);
    request.onload = () => {
      sending = null;
      const answer = request.response ?? { error: `the server answers with ${request.status}` };
      if (answer.error) reject(new Error(answer.error));
      else resolve(answer);
    };
    request.onerror = () => {
      sending = null;
      reject(new Error("the file could not be sent: is the server still running?"));
    };
    sending = request;
    request.send(file);
  });
}

function progress(part, text) {
  $("progress").hidden = false;
  $("progress-bar").value = part;
  $("progress-text").textContent = text;
}

function showImage({ found, image }, file) {
  last = file;
  say("");
  $("image").src = image;
  view("image");
  showFound(found);
  const { width, height, milliseconds } = found;
  $("speed").textContent = `${width}x${height} pixels · network ${milliseconds} ms`;
  const stem = file.name.replace(/\.[^.]*$/, "");
  URL.revokeObjectURL(lines);
  lines = URL.createObjectURL(new Blob([JSON.stringify(found) + "\n"], { type: "application/json" }));
  offer({
    "download-image": { href: image, download: `${stem}-annotated.jpg` },
    "download-lines": { href: lines, download: `${stem}.jsonl` },
  });
}

/** Ask for a video's progress until it is done. */
async function follow(status, mine) {
  while (mine === turn && ["waiting", "running"].includes(status.state)) {
    const total = status.frames ? ` of ${status.frames}` : "";
    progress(
      status.frames ? status.done / status.frames : 0,
      status.state === "waiting" ? "waiting for its turn" : `${status.done}${total} frames, ${status.fps} per second`,
    );
    showCounts(status);
    await new Promise((resolve) => setTimeout(resolve, 400));
    status = await getJson(`/api/videos/${status.key}`);
  }
  if (mine !== turn) return;
  say(status.message);
  showCounts(status);
  $("speed").textContent = `${status.done} frames · ${status.fps} per second`;
  if (!status.video) return;
  const folder = `/api/videos/${status.key}`;
  $("video").src = `${folder}/annotated.mp4?show`;
  view("video");
  offer({
    "download-video": { href: `${folder}/annotated.mp4`, download: "" },
    "download-lines": { href: `${folder}/detections.jsonl`, download: "" },
  });
  keep(status.key, mine);
}

/** Ask for a video as long as it is shown, so that it can be downloaded. */
async function keep(key, mine) {
  while (mine === turn) {
    await new Promise((resolve) => setTimeout(resolve, KEEP_EVERY));
    if (mine === turn) await getJson(`/api/videos/${key}`).catch(() => {});
  }
}
