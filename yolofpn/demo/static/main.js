// Puts the parts of the page together.

import { settingsChanged, stopLive, watchCamera, watchWebcam } from "./live.js";
import { $, clear, getJson, say } from "./page.js";
import { setUpSettings } from "./settings.js";
import { leaveUpload, lookAgain, setUpUpload } from "./upload.js";

const TABS = ["webcam", "upload", "cameras"];
let waiting = 0;

function choose(tab) {
  stopWebcam();
  leaveUpload();
  clear();
  for (const other of TABS) {
    $(`tab-${other}`).setAttribute("aria-selected", other === tab);
    $(`panel-${other}`).hidden = other !== tab;
  }
}

function setUpTabs() {
  for (const tab of TABS) {
    $(`tab-${tab}`).addEventListener("click", () => choose(tab));
    $(`tab-${tab}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const shown = TABS.filter((other) => !$(`tab-${other}`).hidden);
      const next = shown[(shown.indexOf(tab) + step + shown.length) % shown.length];
      $(`tab-${next}`).focus();
      choose(next);
    });
  }
}

function running(kind, isRunning) {
  $(`${kind}-start`).hidden = isRunning;
  $(`${kind}-stop`).hidden = !isRunning;
}

async function startWebcam(deviceId) {
  clear();
  running("webcam", true);
  try {
    const device = await watchWebcam(deviceId, () => running("webcam", false));
    if (!device) return;
    running("webcam", true);
    await listWebcams(device);
  } catch (error) {
    say(error.message);
    running("webcam", false);
  }
}

/** Also one that the browser still asks the user for. */
function stopWebcam() {
  stopLive();
  running("webcam", false);
}

async function listWebcams(current) {
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  $("webcam-choice").hidden = devices.length < 2;
  $("webcam-device").replaceChildren(
    ...devices.map(({ deviceId, label }, index) => new Option(label || `camera ${index + 1}`, deviceId)),
  );
  $("webcam-device").value = current;
}

function setUpCameras(names) {
  $("tab-cameras").hidden = names.length === 0;
  $("camera").replaceChildren(...names.map((name, index) => new Option(name, index)));
  const watch = () => {
    clear();
    watchCamera($("camera").value, () => running("camera", false));
    running("camera", true);
  };
  $("camera-start").addEventListener("click", watch);
  $("camera").addEventListener("change", () => $("camera-start").hidden && watch());
  $("camera-stop").addEventListener("click", stopLive);
}

function setUpCopy() {
  $("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText($("json").textContent);
      $("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren($("json")); // without https there is no clipboard
      $("copy").textContent = "Press Ctrl-C";
    }
    setTimeout(() => ($("copy").textContent = "Copy"), 1500);
  });
}

async function start() {
  if (matchMedia("(max-width: 56rem)").matches) $("settings").open = false;
  clear();
  setUpTabs();
  setUpCopy();
  $("webcam-start").addEventListener("click", () => startWebcam(""));
  $("webcam-stop").addEventListener("click", stopWebcam);
  $("webcam-device").addEventListener("change", () => startWebcam($("webcam-device").value));
  let info;
  try {
    info = await getJson("/api/info");
  } catch (error) {
    say(error.message);
    return;
  }
  $("track-choice").hidden = !info.track;
  setUpCameras(info.cameras);
  setUpUpload(info.limits);
  await setUpSettings(info.weights, info.limits.image_size, () => {
    settingsChanged();
    clearTimeout(waiting);
    waiting = setTimeout(() => lookAgain(info.limits), 300);
  });
  $("webcam-start").disabled = false; // a click before would be lost
  document.body.dataset.ready = "true";
}

start();
