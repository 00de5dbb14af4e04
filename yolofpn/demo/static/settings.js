// The settings card. What a user has not touched stays as the weights say.

import { $, getJson, say } from "./page.js";

const SIZES = [160, 224, 320, 416, 512, 608, 736, 832, 1024, 1280];
const touched = new Set();
let defaults = { names: [], size: [0, 0], step: 32, score: null, nms: 0.45 };
let changed = () => {};

/** The settings as the server takes them. */
export function settings() {
  const chosen = [...$("classes-list").querySelectorAll("input:checked")].map((box) => box.value);
  return {
    weights: $("weights").value,
    size: $("size").value,
    score: touched.has("score") ? $("score").value : "",
    nms: touched.has("nms") ? $("nms").value : "",
    classes: chosen.join("\n"),
    track: $("track").checked ? "1" : "",
  };
}

export async function setUpSettings(weights, largest, whenChanged) {
  changed = whenChanged;
  $("weights").replaceChildren(...weights.map(({ key, title }) => new Option(title, key)));
  $("weights").addEventListener("change", () => loadWeights(largest));
  for (const id of ["score", "nms"]) {
    $(id).addEventListener("input", () => {
      touched.add(id);
      showValues();
      changed();
    });
  }
  $("size").addEventListener("change", () => changed());
  $("track").addEventListener("change", () => changed());
  $("classes-list").addEventListener("change", () => {
    countClasses();
    changed();
  });
  $("classes-search").addEventListener("input", searchClasses);
  $("reset").addEventListener("click", () => {
    showDefaults(largest);
    changed();
  });
  await loadWeights(largest);
}

async function loadWeights(largest) {
  const key = $("weights").value;
  let answer;
  try {
    answer = await getJson(`/api/weights/${encodeURIComponent(key)}`);
  } catch (error) {
    say(error.message);
    return;
  }
  if (key !== $("weights").value) return; // others were chosen meanwhile
  defaults = answer;
  say("");
  showDefaults(largest);
  changed();
}

function showDefaults(largest) {
  touched.clear();
  const [height, width] = defaults.size;
  const own = height === width ? `${height}` : `${height}x${width}`;
  const sizes = SIZES.filter((side) => side <= largest && side % defaults.step === 0);
  $("size").replaceChildren(new Option(`${own} (as the weights say)`, ""), ...sizes.map((side) => new Option(side, side)));
  $("score").value = defaults.score ?? 0.25;
  $("nms").value = defaults.nms;
  $("classes-search").value = "";
  $("classes-list").replaceChildren(
    ...defaults.names.map((name) => {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
      label.append(box, name);
      return label;
    }),
  );
  showValues();
  countClasses();
}

function showValues() {
  const perClass = defaults.score === null && !touched.has("score");
  $("score-value").textContent = perClass ? "one per class" : Number($("score").value).toFixed(2);
  $("nms-value").textContent = Number($("nms").value).toFixed(2);
}

function countClasses() {
  const count = $("classes-list").querySelectorAll("input:checked").length;
  $("classes-count").textContent = count ? `${count} of ${defaults.names.length}` : "all";
}

function searchClasses() {
  const wanted = $("classes-search").value.trim().toLowerCase();
  for (const label of $("classes-list").children) {
    label.hidden = !label.textContent.toLowerCase().includes(wanted);
  }
}
