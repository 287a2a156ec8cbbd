// The page in the browser: sends files one after another, shows what is said of them, remembers the session in memory.
// Nothing is written to the browser's storage, and nothing is asked of any address but this page's own.
import { filmOf, isExact, Pixels, Viewer } from "/page/viewer.js";

const SHARP = 4; // films of which all pixels are kept; of others they are asked for again
const visit = new Map(); // by key: {file, answer, report, card, film}; gone with the tab
let order = []; // keys as they are listed
let shown = null; // the key of the film in the viewer
let sharp = []; // keys of films with all their pixels, the last shown at the end
let sharpening = new AbortController();
let number = 0;
let queue = [];
let working = false;
let stopped = new AbortController();
const at = (id) => document.getElementById(id);
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const bytes = Number(at("cxr-drop").dataset.bytes);
const viewer = new Viewer(at("cxr-film"), tell);

function say(text) {
  at("cxr-status").textContent = text;
}

function complain(name, text) {
  const item = document.createElement("li");
  const file = document.createElement("bdi");
  file.textContent = name.replace(/[\p{C}]/gu, "\ufffd");
  item.append(file, ": ", text);
  at("cxr-errors").append(item);
}

// ---------------------------------------------------------------------------------------------------------- sending

function take(files) {
  if (!files.length) return;
  if (!working) at("cxr-errors").replaceChildren();
  queue.push(...files);
  if (!working) work();
}

async function work() {
  working = true;
  at("cxr-worth").open = false; // it has been seen, and the film needs the room
  const signal = stopped.signal;
  const began = performance.now();
  const batch = []; // a later batch stands above an earlier one, each in its own order
  let done = 0;
  at("cxr-drop").classList.add("busy");
  const progress = (more = "") => {
    const left = Math.ceil(((performance.now() - began) / 1000 / done) * (queue.length + 1));
    const time = done ? ` About ${left < 100 ? `${left} s` : `${Math.ceil(left / 60)} min`} left.` : "";
    say(`Examining ${done + 1} of ${done + 1 + queue.length} …${time}${more}`);
  };
  while (queue.length && !signal.aborted) {
    const file = queue.shift();
    progress();
    const answer = await examine(file, signal, progress);
    done += 1;
    if (!answer || signal.aborted) continue;
    const key = add(file, answer);
    order.splice(batch.length, 0, key);
    batch.push(key);
    list();
    if (batch.length === 1) select(key);
    else tell();
  }
  working = false;
  at("cxr-drop").classList.remove("busy");
  say(signal.aborted ? "" : `${done} ${done === 1 ? "file" : "files"} examined.`);
}

// The answer to a file; waits where others are before it.
async function post(address, file, signal, headers, waiting) {
  for (;;) {
    const response = await fetch(address, {
      method: "POST",
      body: file,
      signal,
      headers: { "Content-Type": "application/octet-stream", ...headers },
    });
    if (response.status !== 503) return response;
    waiting?.();
    await pause(Number(response.headers.get("retry-after")) || 2);
    signal.throwIfAborted();
  }
}

async function examine(file, signal, progress) {
  const watch = setInterval(() => others(progress), 2000);
  const named = { "X-File-Name": encodeURIComponent(file.name.toWellFormed?.() ?? file.name) };
  const waits = () => say("Many files are being examined; this one waits for its turn …");
  try {
    const response = await post("/api/examine?card=true", file, signal, named, waits);
    const answer = await response.json();
    if (response.ok) return answer;
    complain(file.name, answer.error);
  } catch {
    if (signal.aborted) return null;
    const broken = "the upload was broken off: the file may be larger than this page takes, or the program has ended.";
    complain(file.name, file.size > bytes ? `larger than ${bytes / 1e6} MB, the limit of this page.` : broken);
  } finally {
    clearInterval(watch);
  }
  return null;
}

async function others(progress) {
  try {
    const state = await (await fetch("/api/state")).json();
    progress(state.in_line > 1 ? ` ${state.in_line} files of all visitors are in line.` : "");
  } catch {
    say("The program does not answer.");
  }
}

// Asks for all pixels of the film that is shown; until they are there, and where they are not to be had, the first
// picture is: at most 1,024 pixels along a side, in 256 greys.
async function sharpen(key) {
  sharpening.abort();
  sharpening = new AbortController();
  const { signal } = sharpening;
  const { file, film } = visit.get(key);
  if (film.pixels === film.preview) {
    await pause(0.15); // whoever goes through a list asks for none of those in between
    if (signal.aborted) return;
    try {
      film.detail = "Loading all pixels …";
      tell();
      const response = await post("/api/film", file, signal);
      if (!response.ok) throw new Error();
      const levels = JSON.parse(response.headers.get("x-grey-levels"));
      // As they are: no colour management, since two channels may be the bytes of one number.
      const how = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
      const picture = await createImageBitmap(await response.blob(), how);
      if (signal.aborted || !visit.has(key)) return;
      film.pixels = new Pixels(picture, levels);
      if (levels) film.window = film.later ?? null; // what was chosen for 256 greys means nothing for these values
      film.detail = `All ${film.width} x ${film.height} pixels${levels ? ", with the values of the file" : ""}.`;
      picture.close();
    } catch {
      if (!signal.aborted) film.detail = "Only a smaller picture of the film could be loaded.";
    }
    if (shown === key) viewer.show(film);
  }
  sharp = [...sharp.filter((each) => each !== key && visit.has(each)), key];
  while (sharp.length > SHARP) {
    const old = visit.get(sharp.shift()).film;
    old.pixels = old.preview;
    old.later = old.window; // until its pixels are there again
    old.window = null;
  }
}

// ---------------------------------------------------------------------------------------------------------- showing

function add(file, answer) {
  const key = String(++number);
  const holder = document.createElement("template");
  holder.innerHTML = answer.card; // escaped by the program that made it; the page's policy lets no script in
  const card = holder.content.firstElementChild;
  card.id = `case-${key}`;
  card.dataset.key = key;
  card.hidden = true;
  at("cxr-cases").append(card);
  const report = new Blob([answer.report], { type: "text/html" });
  delete answer.card;
  delete answer.report;
  visit.set(key, { file, answer, report, card, film: undefined });
  return key;
}

async function select(key) {
  const before = visit.get(shown);
  if (before) before.card.hidden = true;
  shown = key;
  sharpening.abort();
  at("cxr-bench").classList.toggle("busy", visit.size > 0);
  list();
  const entry = visit.get(key);
  at("cxr-look").hidden = !entry;
  if (!entry) {
    viewer.film = null;
    return;
  }
  at("cxr-detail").textContent = ""; // of the film before
  entry.card.hidden = false;
  at("cxr-cases").scrollTop = 0;
  at("cxr-film").setAttribute("aria-label", `The image ${entry.answer.file}`);
  entry.film ??= await filmOf(entry.card);
  if (shown !== key) return;
  at("cxr-look").classList.toggle("empty", !entry.film);
  viewer.show(entry.film);
  controls(entry.film);
  if (entry.film) sharpen(key);
}

function step(by) {
  const next = order[order.indexOf(shown) + by];
  if (next) select(next);
}

// What has no meaning for this film is not there.
function controls(film) {
  at("cxr-map").hidden = !film?.heats.length;
  at("cxr-slide").hidden = !film?.heats.length || viewer.map === "off";
  at("cxr-lungs").hidden = !film?.lungs;
  const whose = at("cxr-whose").querySelector("select");
  at("cxr-whose").hidden = !film || film.heats.length < 2 || viewer.map === "off";
  const models = (film?.heats ?? []).map(({ model, name }) => new Option(name, model, false, model === viewer.whose));
  whose.replaceChildren(...models);
}

// Numbers of the viewer, after every drawing.
function tell() {
  const { film } = viewer;
  const place = `Film ${order.indexOf(shown) + 1} of ${order.length}. `;
  at("cxr-detail").textContent = film ? place + (film.detail ?? "") : `${place}There is no picture to show.`;
  if (!film) return;
  const canvas = at("cxr-film");
  const { zoom } = viewer.view;
  const { centre, width } = viewer.window;
  const digits = (value) => String(Number(value.toPrecision(5)));
  at("cxr-zoom").textContent = `${Math.round(100 * zoom)} %`;
  if (document.activeElement !== at("cxr-centre")) at("cxr-centre").value = digits(centre);
  if (document.activeElement !== at("cxr-width")) at("cxr-width").value = digits(width);
  press("invert", film.inverted);
  press("windowing", viewer.windowing);
  canvas.classList.toggle("windowing", viewer.windowing);
  canvas.dataset.pixels = film.pixels === film.preview ? "preview" : `${film.pixels.sizes[0].width}`;
}

function press(name, down) {
  document.querySelector(`[data-do="${name}"]`).setAttribute("aria-pressed", String(down));
}

function list() {
  const one = Object.assign;
  const rows = order.map((key) => {
    const { answer } = visit.get(key);
    const row = document.createElement("li");
    const button = one(document.createElement("button"), { type: "button" });
    button.dataset.to = key;
    if (key === shown) button.setAttribute("aria-current", "true");
    button.append(one(document.createElement("bdi"), { textContent: answer.file }));
    const several = answer.predictions.length > 1;
    for (const said of answer.predictions) {
      const whose = several ? ` (${said.model_name})` : "";
      const tone = said.label ? said.label.toLowerCase() : "refused";
      button.append(line(tone, `${[call(said), value(said)].filter(Boolean).join(" ")}${whose}`));
    }
    if (answer.predictions.some(({ verdict }) => verdict === "warn")) button.append(line("doubt", "Scored with doubt"));
    if (disagree(answer)) button.append(line("split", "Models disagree"));
    row.append(button);
    return row;
  });
  const focused = at("cxr-list").contains(document.activeElement) && document.activeElement.dataset.to;
  at("cxr-list").replaceChildren(...rows);
  at("cxr-visit").hidden = rows.length === 0;
  if (focused) at("cxr-list").querySelector(`[data-to="${focused}"]`)?.focus();
  arrange();
}

// A sign and words.
function line(tone, text) {
  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, given] of Object.entries(attributes)) element.setAttribute(key, given);
    return element;
  };
  const sign = svg("svg", { class: `sign ${tone}`, "aria-hidden": "true" });
  sign.append(svg("use", { href: `#sign-${tone}` }));
  const words = document.createElement("span");
  words.className = "line";
  words.title = text; // a long name is cut off
  words.append(sign, text);
  return words;
}

const call = (said) => said.label || (said.kind === "unreadable" ? "Cannot be read" : "Refused");
// Never a 0 or a 1 that is none, as on the card.
const rounded = (number) =>
  number > 0 && number < 0.0005 ? "below 0.001" : number >= 0.9995 && number < 1 ? "above 0.999" : number.toFixed(3);
const value = (said) => (said.probability === null ? "" : rounded(said.probability));
const disagree = ({ predictions }) => new Set(predictions.map(({ label }) => label).filter(Boolean)).size > 1;

function forget(key) {
  const place = order.indexOf(key);
  visit.get(key).card.remove();
  visit.delete(key);
  order = order.filter((each) => each !== key);
  sharp = sharp.filter((each) => each !== key);
  if (key === shown) select(order[Math.min(place, order.length - 1)] ?? null);
  else list();
}

function clear() {
  stopped.abort();
  stopped = new AbortController();
  queue = [];
  for (const key of [...order].reverse()) forget(key);
  at("cxr-errors").replaceChildren();
  say("Forgotten.");
  at("cxr-files").focus();
}

// ---------------------------------------------------------------------------------------------------------- keeping

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function saveTable() {
  const columns = ["file", "sha256", "model_name", "synthetic", "verdict", "kind", "reason", "score", "probability",
    "calibrated", "label", "threshold", "model", "gate"];
  const rows = order.flatMap((key) => visit.get(key).answer.predictions);
  const lines = [columns, ...rows.map((said) => columns.map((name) => said[name] ?? ""))];
  const text = lines.map((cells) => cells.map(quoted).join(",")).join("\r\n");
  save(new Blob([`${text}\r\n`], { type: "text/csv" }), "session.csv");
}

function quoted(cell) {
  const text = String(cell);
  const plain = typeof cell === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text; // no formula for a spreadsheet
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

// A report brings its style along, which the page's policy would not let in; the empty page at /page/report has it.
async function print(report) {
  const tab = window.open("/page/report", "_blank");
  if (!tab) return say("The browser did not open a tab; allow this page to, or download the report.");
  const unstyled = (await report.text()).replace(/<style>[^]*?<\/style>/, "");
  const parsed = new DOMParser().parseFromString(unstyled, "text/html");
  while (tab.location.pathname !== "/page/report" || tab.document.readyState !== "complete") await pause(0.05);
  tab.document.title = parsed.title;
  tab.document.body.replaceChildren(...parsed.body.childNodes);
}

// --------------------------------------------------------------------------------- what a reader does, by hand or key

const actions = {
  save: (key) => save(visit.get(key).report, `report-${visit.get(key).answer.sha256.slice(0, 12)}.html`),
  print: (key) => print(visit.get(key).report),
  forget: (key) => {
    forget(key);
    (at("cxr-list").querySelector("[aria-current]") ?? at("cxr-files")).focus();
  },
  table: saveTable,
  clear,
  keys: () => at("cxr-keys").showModal(),
  previous: () => step(-1),
  next: () => step(1),
};

const viewing = {
  in: () => viewer.zoom(1.25),
  out: () => viewer.zoom(0.8),
  fit: () => viewer.fit(),
  actual: () => viewer.zoom(1 / viewer.view.zoom),
  invert: () => {
    viewer.film.inverted = !viewer.film.inverted;
    viewer.redraw();
  },
  asfile: () => viewer.setWindow(),
  windowing: () => {
    viewer.windowing = !viewer.windowing;
    viewer.redraw();
  },
  brighter: () => viewer.adjust(-0.05, 0),
  darker: () => viewer.adjust(0.05, 0),
  harder: () => viewer.adjust(0, -0.1),
  softer: () => viewer.adjust(0, 0.1),
  map: () => {
    const next = { over: "beside", beside: "off", off: "over" }[viewer.map];
    at("cxr-map").querySelector(`[value="${next}"]`).click();
  },
  lungs: () => at("cxr-lungs").querySelector("input").click(),
};

const keys = {
  j: "next", k: "previous", "+": "in", "=": "in", "-": "out", 0: "fit", 1: "actual", i: "invert", m: "map", l: "lungs",
  w: "windowing", r: "asfile", ",": "brighter", ".": "darker", "[": "harder", "]": "softer", "?": "keys",
};

function act(name, key, button) {
  if (name in actions) actions[name](key, button);
  else if (viewer.film && name in viewing) viewing[name]();
}

document.addEventListener("click", (event) => {
  const entry = event.target.closest("button[data-to]");
  if (entry) select(entry.dataset.to);
  const button = event.target.closest("button[data-do]");
  if (button) act(button.dataset.do, button.closest(".case")?.dataset.key, button);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("cxr-keys").open) return;
  const { target } = event;
  const arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
  if (arrows && target.id === "cxr-film" && viewer.film) viewer.pan(...arrows);
  else if (arrows?.[1] && at("cxr-list").contains(target)) {
    step(Math.sign(-arrows[1]));
    at("cxr-list").querySelector("[aria-current]").focus();
  } else if (event.key in keys && at("cxr-single").checked && !target.matches("[type=number], select")) act(keys[event.key]);
  else return;
  event.preventDefault();
});

document.addEventListener("input", ({ target }) => {
  if (target.id === "cxr-heat") {
    viewer.strength = target.value / 100;
    target.nextElementSibling.textContent = `${target.value} %`;
  } else if (target.name === "map") viewer.map = target.value;
  else if (target.closest("#cxr-lungs")) viewer.lungs = target.checked;
  else if (target.closest("#cxr-whose")) viewer.whose = target.value;
  else if (target.id === "cxr-centre" || target.id === "cxr-width") {
    viewer.setWindow(at("cxr-centre").valueAsNumber, at("cxr-width").valueAsNumber);
  } else return;
  if (viewer.film) {
    controls(viewer.film);
    viewer.redraw();
  }
});

document.addEventListener("change", ({ target }) => {
  if (target.id !== "cxr-files") return;
  take([...target.files]);
  target.value = ""; // the same file may be chosen again
});

for (const kind of ["dragover", "drop", "dragleave"]) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // a file that misses the field would replace the page
    at("cxr-drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
}

// On a small screen the film stands above the list: where it is seen is where Tab finds it.
const small = matchMedia("(max-width: 64rem)");
function arrange() {
  const [bench, side, focused] = [at("cxr-bench"), at("cxr-side"), document.activeElement];
  const last = small.matches && visit.size > 0;
  if ((bench.lastElementChild === side) === last) return;
  if (last) bench.append(side);
  else bench.prepend(side);
  if (side.contains(focused)) focused.focus({ preventScroll: true });
}
small.addEventListener("change", arrange);

if (!isExact()) {
  const sentence = "This browser changes pixels that a page reads (a protection against tracking), and would show films " +
    "with noise. Allow this page to read the canvas, or use another browser.";
  const notice = { className: "notice", textContent: sentence };
  document.querySelector(".top").append(Object.assign(document.createElement("p"), notice));
}
