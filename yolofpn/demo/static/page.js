// What every part of the page needs: elements, messages, and showing what was found.

export const $ = (id) => document.getElementById(id);

export function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

/** Show one of canvas, image and video, or none. */
export function view(id) {
  for (const other of ["empty", "canvas", "image", "video"]) $(other).hidden = other !== (id || "empty");
  if (id !== "video") $("video").pause();
}

/** Offer downloads: id -> {href, download}; those that are not named are hidden. */
export function offer(links) {
  $("downloads").hidden = Object.keys(links).length === 0;
  for (const id of ["download-image", "download-video", "download-lines"]) {
    $(id).hidden = !(id in links);
    if (id in links) Object.assign($(id), links[id]);
  }
}

const BOX_COLUMNS = ["Class", "Score", "x1", "y1", "x2", "y2"];

/** The table and the JSON of one image or frame. */
export function showFound(found) {
  const rows = found.detections.map(({ name, score, box }) => [name, score.toFixed(2), ...box.map((side) => side.toFixed(0))]);
  fill(BOX_COLUMNS, rows, found);
  $("found-count").textContent = `(${rows.length})`;
}

/** What was found in a video so far. */
export function showCounts(status) {
  fill(["Class", "Most in a frame"], Object.entries(status.counts), status);
}

function fill(columns, rows, values) {
  $("columns").replaceChildren(...columns.map((text) => cell("th", text)));
  $("rows").replaceChildren(
    ...rows.map((texts) => {
      const row = document.createElement("tr");
      row.append(...texts.map((text) => cell("td", text)));
      return row;
    }),
  );
  $("found-count").textContent = "";
  $("json").textContent = values ? JSON.stringify(values, null, 1) : "";
}

function cell(kind, text) {
  return Object.assign(document.createElement(kind), { textContent: text }); // never HTML: names come from files
}

export function clear() {
  say("");
  view("");
  offer({});
  $("speed").textContent = "";
  fill(BOX_COLUMNS, [], null);
}

/** Fetch JSON; the server's own words where something is wrong. */
export async function getJson(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error("the server does not answer: is it still running?");
  }
  const answer = await response.json().catch(() => ({ error: `the server answers with ${response.status}` }));
  if (answer.error) throw new Error(answer.error);
  return answer;
}
