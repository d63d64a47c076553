"use strict";
// The search page. Whatever comes from the server is written as text, never as HTML.

const $ = (name) => document.getElementById(name);
const form = $("query");
let token = sessionStorage.getItem("token");
let image = null;
let query = null;
let limits = { most_bytes: Infinity };
let turn = 0;
let pictures = [];

class Refused extends Error {}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Refused("The server does not answer. Is it still running?");
  }
  if (answer.ok) return answer;
  let line = `The server answered with status ${answer.status}.`;
  try { line = (await answer.json()).error; } catch { /* no JSON: keep the line above */ }
  if (answer.status === 401 || line.startsWith("expected the server's token")) {
    await login(token ? line : "");
    return ask(path, options);
  }
  throw new Refused(line.charAt(0).toUpperCase() + line.slice(1) + (/[.?]$/.test(line) ? "" : "."));
}

function login(reason) {
  $("refused").textContent = reason;
  $("token").value = "";
  if (!$("login").open) $("login").showModal();
  return new Promise((done) => {
    $("key").addEventListener("submit", (event) => {
      event.preventDefault();
      token = $("token").value.trim();
      sessionStorage.setItem("token", token);
      $("login").close();
      done();
    }, { once: true });
  });
}

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

function clear() {
  query = null;
  for (const url of pictures) URL.revokeObjectURL(url);
  pictures = [];
  for (const name of ["matches", "below"]) $(name).replaceChildren();
  for (const name of ["line", "nomatch", "warning", "labels"]) $(name).hidden = true;
}

async function describe() {
  limits = await (await ask("/v1/gallery")).json();
  const count = (number, one) => `${number.toLocaleString("en")} ${one}`;
  const parts = [count(limits.visible, "visible"), count(limits.thermal, "thermal")];
  $("gallery").textContent = `${parts.join(" and ")} images` +
    (limits.cameras.length ? `, ${count(limits.cameras.length, limits.cameras.length > 1 ? "cameras" : "camera")}` : "");
  for (const camera of limits.cameras) form.camera.add(new Option(camera, camera));
  if (limits.threshold !== null) form.threshold.placeholder = String(limits.threshold);
}

function take(file) {
  clear();
  if (!file) return;
  if (file.size > limits.most_bytes) {
    image = null;
    $("preview").hidden = true;
    $("hint").hidden = false;
    say(`Expected an image of at most ${limits.most_bytes / 1e6} MB, got ${(file.size / 1e6).toFixed(1)} MB: reduce it, or cut out the person.`, true);
    return;
  }
  image = file;
  const url = URL.createObjectURL(file);
  const preview = $("preview");
  preview.onload = () => URL.revokeObjectURL(url);
  preview.onerror = () => { preview.hidden = true; $("hint").hidden = false; };
  preview.src = url;
  preview.hidden = false;
  $("hint").hidden = true;
  search();
}

async function search() {
  const modality = form.modality.value;
  if (!image) return say("Choose an image first.");
  if (!modality) return say("Say how the image was taken: thermal or visible.");
  const mine = ++turn;
  const body = new FormData();
  body.set("image", image, "query");
  body.set("modality", modality);
  body.set("top", form.top.value || "12");
  for (const name of ["among", "camera", "threshold"]) {
    if (form[name].value) body.set(name, form[name].value);
  }
  for (const name of ["since", "until"]) {
    if (form[name].value) body.set(name, new Date(form[name].value).toISOString());
  }
  say("Searching …");
  try {
    const answer = await (await ask("/v1/search", { method: "POST", body })).json();
    if (mine === turn) show(answer);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (mine === turn) { clear(); say(error.message, true); }
  }
}

function show(answer) {
  clear();
  query = answer.query;
  const found = answer.matches.length;
  const among = `${answer.candidates.toLocaleString("en")} ${answer.candidates === 1 ? "image" : "images"}`;
  say(answer.candidates ? `${found || "No"} ${found === 1 ? "match" : "matches"} among ${among}.`
    : "No image fits the filter.");
  $("warning").hidden = !answer.looks_like_the_other_modality;
  $("nomatch").hidden = found > 0 || !answer.candidates;
  $("line").hidden = answer.threshold === null || !(found + answer.below.length);
  if (answer.threshold !== null) $("line").firstElementChild.textContent = `Threshold ${answer.threshold.toFixed(3)}`;
  answer.matches.forEach((match, place) => $("matches").append(card(match, place + 1)));
  answer.below.forEach((match, place) => $("below").append(card(match, found + place + 1)));
  $("labels").hidden = !(found + answer.below.length);
  if ($("results").getBoundingClientRect().top > innerHeight) $("results").scrollIntoView();
}

function when(time) {
  return time && new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

function card(match, rank) {
  const item = $("card").content.cloneNode(true).firstElementChild;
  item.querySelector(".score b").textContent = match.score.toFixed(3);
  item.querySelector(".bar i").style.width = `${100 * Math.max(0, Math.min(1, match.score))}%`;
  const list = item.querySelector("dl");
  for (const [name, value] of [["Person", match.identity], ["Camera", match.camera], ["Time", when(match.time)]]) {
    if (value === null) continue;
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    list.append(term, text);
  }
  const button = item.querySelector(".picture");
  button.setAttribute("aria-label", `Match ${rank}: ${match.image ? "open the image" : "image not shared"}`);
  button.disabled = !match.image;
  if (match.image) load(match, rank, button);
  for (const mark of item.querySelectorAll(".marks button")) {
    const right = mark.dataset.right === "true";
    mark.setAttribute("aria-pressed", String(match.right === right));
    mark.setAttribute("aria-label", `Match ${rank} is ${mark.dataset.right === "true" ? "right" : "wrong"}`);
    mark.addEventListener("click", () => judge(item, match, mark, right));
  }
  return item;
}

async function load(match, rank, button) {
  const [picture, note] = button.children;
  try {
    const url = URL.createObjectURL(await (await ask(match.image)).blob());
    pictures.push(url);
    picture.src = url;
    picture.hidden = false;
    note.hidden = true;
    button.addEventListener("click", () => {
      $("large").src = url;
      $("large").alt = `Match ${rank}`;
      $("caption").textContent = [`Match ${rank}, score ${match.score.toFixed(3)}`, match.identity,
        match.camera, when(match.time), match.path].filter(Boolean).join(" · ");
      $("viewer").showModal();
    });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    note.textContent = "image cannot be shown";
    button.disabled = true;
  }
}

async function judge(item, match, button, right) {
  const wanted = button.getAttribute("aria-pressed") === "true" ? null : right;
  try {
    await ask("/v1/gallery/marks", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ query, match: match.id, right: wanted }),
    });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return say(error.message, true);
  }
  for (const mark of item.querySelectorAll(".marks button")) {
    mark.setAttribute("aria-pressed", String(wanted !== null && (mark.dataset.right === "true") === wanted));
  }
  say(wanted === null ? "The mark is taken back." : `Marked as ${wanted ? "right" : "wrong"}.`);
}

async function save(side) {
  try {
    const url = URL.createObjectURL(await (await ask(`/v1/gallery/labels/${side}`)).blob());
    const link = document.createElement("a");
    link.href = url;
    link.download = `${side}.npz`;
    link.click();
    URL.revokeObjectURL(url);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message, true);
  }
}

$("file").addEventListener("change", () => take($("file").files[0]));
for (const [name, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
  window.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
form.addEventListener("change", (event) => {
  if (event.target.id !== "file" && image && form.modality.value) search();
});
for (const button of document.querySelectorAll("#labels button")) {
  button.addEventListener("click", () => save(button.dataset.side));
}
$("close").addEventListener("click", () => $("viewer").close());
$("login").addEventListener("cancel", (event) => event.preventDefault());
describe().catch((error) => {
  if (!(error instanceof Refused)) throw error;
  say(error.message, true);
});
