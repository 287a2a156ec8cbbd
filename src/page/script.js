// The page in the browser: sends files one after another, shows what is said of them, remembers the session in memory.
// Nothing is written to the browser's storage, and nothing is asked of any address but this page's own.
import { filmOf, isExact, Pixels, Viewer } from "/page/viewer.js";

const SHARP = 4; // films of which all pixels are kept; of others they are asked for again
let films = []; // as they are listed: {file, answer, report, button, card, film}; gone with the tab
let shown; // the one in the viewer
let sharp = []; // those with all their pixels, the last shown at the end
let sharpening = new AbortController();
let queue = [];
let working = false;
let stopped = new AbortController();
const at = (id) => document.getElementById(id);
const make = (name, properties, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const say = (text) => (at("cxr-status").textContent = text);
const bytes = Number(at("cxr-drop").dataset.bytes);
const viewer = new Viewer(at("cxr-film"), tell);

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
  const { signal } = stopped;
  const began = performance.now();
  let [done, kept] = [0, 0]; // a later batch stands above an earlier one, each in its own order
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
    add(kept, file, answer);
    if (kept === 0) select(films[0]);
    else tell();
    kept += 1;
  }
  working = false;
  at("cxr-drop").classList.remove("busy");
  say(signal.aborted ? "" : `${done} ${done === 1 ? "file" : "files"} examined.`);
}

// The answer to a file; waits where others are before it.
async function post(address, file, signal, headers, waiting) {
  for (;;) {
    headers = { "Content-Type": "application/octet-stream", ...headers };
    const response = await fetch(address, { method: "POST", body: file, signal, headers });
    if (response.status !== 503) return response;
    waiting?.();
    await pause(Number(response.headers.get("retry-after")) || 2);
    signal.throwIfAborted();
  }
}

async function examine(file, signal, progress) {
  const watch = setInterval(async () => {
    try {
      const state = await (await fetch("/api/state")).json();
      progress(state.in_line > 1 ? ` ${state.in_line} files of all visitors are in line.` : "");
    } catch {
      say("The program does not answer.");
    }
  }, 2000);
  const named = { "X-File-Name": encodeURIComponent(file.name.toWellFormed?.() ?? file.name) };
  const waits = () => say("Many files are being examined; this one waits for its turn …");
  let why = "the upload was broken off: the file may be larger than this page takes, or the program has ended.";
  if (file.size > bytes) why = `larger than ${bytes / 1e6} MB, the limit of this page.`;
  try {
    const response = await post("/api/examine?card=true", file, signal, named, waits);
    const answer = await response.json();
    if (response.ok) return answer;
    why = answer.error;
  } catch {
    if (signal.aborted) return null;
  } finally {
    clearInterval(watch);
  }
  const name = make("bdi", { textContent: file.name.replace(/[\p{C}]/gu, "\ufffd") });
  at("cxr-errors").append(make("li", {}, name, ": ", why));
  return null;
}

// Asks for all pixels of the film that is shown; until they are there, and where they are not to be had, the first
// picture is: at most 1,024 pixels along a side, in 256 greys.
async function sharpen(entry) {
  sharpening.abort();
  sharpening = new AbortController();
  const { signal } = sharpening;
  const { film } = entry;
  if (film.pixels === film.preview) {
    await pause(0.15); // whoever goes through a list asks for none of those in between
    if (signal.aborted) return;
    try {
      film.detail = "Loading all pixels …";
      tell();
      const response = await post("/api/film", entry.file, signal);
      if (!response.ok) throw new Error();
      const levels = JSON.parse(response.headers.get("x-grey-levels"));
      // As they are: no colour management, since two channels may be the bytes of one number.
      const how = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
      const picture = await createImageBitmap(await response.blob(), how);
      if (signal.aborted || !films.includes(entry)) return;
      film.pixels = new Pixels(picture, levels);
      if (levels) film.window = film.later ?? null; // what was chosen for 256 greys means nothing for these values
      film.detail = `All ${film.width} x ${film.height} pixels${levels ? ", with the values of the file" : ""}.`;
      picture.close();
    } catch {
      if (signal.aborted) return;
      film.detail = "Only a smaller picture of the film could be loaded.";
    }
    if (shown === entry) viewer.show(film);
  }
  sharp = [...sharp.filter((each) => each !== entry), entry];
  while (sharp.length > SHARP) {
    const old = sharp.shift().film;
    old.pixels = old.preview;
    old.later = old.window; // until its pixels are there again
    old.window = null;
  }
}

// ---------------------------------------------------------------------------------------------------------- showing

function add(place, file, { card: html, report, ...answer }) {
  const holder = document.createElement("template");
  holder.innerHTML = html; // escaped by the program that made it; the page's policy lets no script in
  const [row, card] = holder.content.children;
  at("cxr-list").insertBefore(row, at("cxr-list").children[place] ?? null);
  at("cxr-cases").append(card);
  const button = row.firstElementChild;
  films.splice(place, 0, { file, answer, button, card, report: new Blob([report], { type: "text/html" }) });
}

async function select(entry) {
  if (shown) {
    shown.card.hidden = true;
    shown.button.ariaCurrent = null;
  }
  shown = entry;
  sharpening.abort();
  at("cxr-bench").classList.toggle("busy", Boolean(entry));
  at("cxr-visit").hidden = at("cxr-look").hidden = !entry;
  arrange();
  if (!entry) {
    viewer.film = null;
    return;
  }
  entry.button.ariaCurrent = "true";
  at("cxr-detail").textContent = ""; // of the film before
  entry.card.hidden = false;
  at("cxr-cases").scrollTop = 0;
  at("cxr-film").ariaLabel = `The image ${entry.answer.file}`;
  entry.film ??= await filmOf(entry.answer.film);
  if (shown !== entry) return;
  at("cxr-look").classList.toggle("empty", !entry.film);
  viewer.show(entry.film);
  controls(entry.film);
  if (entry.film) sharpen(entry);
}

function step(by) {
  const next = films[films.indexOf(shown) + by];
  if (next) select(next);
}

// What has no meaning for this film is not there.
function controls(film) {
  const maps = film?.maps ?? [];
  at("cxr-map").hidden = !maps.length;
  at("cxr-slide").hidden = !maps.length || viewer.map === "off";
  at("cxr-whose").hidden = maps.length < 2 || viewer.map === "off";
  at("cxr-lungs").hidden = !film?.lungs;
  const models = maps.map(({ model, name }) => new Option(name, model, false, model === viewer.whose));
  at("cxr-whose").querySelector("select").replaceChildren(...models);
}

// Numbers of the viewer, after every drawing.
function tell() {
  const { film } = viewer;
  const place = `Film ${films.indexOf(shown) + 1} of ${films.length}. `;
  at("cxr-detail").textContent = place + (film ? (film.detail ?? "") : "There is no picture to show.");
  if (!film) return;
  at("cxr-zoom").textContent = `${Math.round(100 * viewer.view.zoom)} %`;
  for (const name of ["centre", "width"]) {
    const field = at(`cxr-${name}`);
    if (document.activeElement !== field) field.value = String(Number(viewer.window[name].toPrecision(5)));
  }
  const pressed = { invert: film.inverted, windowing: viewer.windowing };
  for (const [name, down] of Object.entries(pressed))
    document.querySelector(`[data-do="${name}"]`).ariaPressed = String(down);
  at("cxr-film").classList.toggle("windowing", viewer.windowing);
}

// ---------------------------------------------------------------------------------------------------------- keeping

function save(content, name) {
  const link = make("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function quoted(cell) {
  const text = String(cell);
  const plain = typeof cell === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text; // no formula for a spreadsheet
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

// --------------------------------------------------------------------------------- what a reader does, by hand or key

const actions = {
  save: () => save(shown.report, `report-${shown.answer.sha256.slice(0, 12)}.html`),
  // A report brings its style along, which the page's policy would not let in; the empty page at /page/report has it.
  print: async () => {
    const { report } = shown;
    const tab = window.open("/page/report", "_blank");
    if (!tab) return say("The browser did not open a tab; allow this page to, or download the report.");
    const unstyled = (await report.text()).replace(/<style>[^]*?<\/style>/, "");
    const parsed = new DOMParser().parseFromString(unstyled, "text/html");
    while (tab.location.pathname !== "/page/report" || tab.document.readyState !== "complete") await pause(0.05);
    tab.document.title = parsed.title;
    tab.document.body.replaceChildren(...parsed.body.childNodes);
  },
  forget: () => {
    const place = films.indexOf(shown);
    films.splice(place, 1);
    sharp = sharp.filter((each) => each !== shown);
    shown.card.remove();
    shown.button.parentElement.remove();
    select(films[Math.min(place, films.length - 1)]);
    (shown?.button ?? at("cxr-files")).focus();
  },
  table: () => {
    const columns = ["file", "sha256", "model_name", "synthetic", "verdict", "kind", "reason", "score", "probability",
      "calibrated", "label", "threshold", "model", "gate"];
    const rows = films.flatMap((entry) => entry.answer.predictions);
    const lines = [columns, ...rows.map((said) => columns.map((name) => said[name] ?? ""))];
    const text = lines.map((cells) => `${cells.map(quoted).join(",")}\r\n`).join("");
    save(new Blob([text], { type: "text/csv" }), "session.csv");
  },
  clear: () => {
    stopped.abort();
    stopped = new AbortController();
    [queue, films, sharp] = [[], [], []];
    for (const id of ["cxr-cases", "cxr-list", "cxr-errors"]) at(id).replaceChildren();
    select();
    say("Forgotten.");
    at("cxr-files").focus();
  },
  keys: () => at("cxr-keys").showModal(),
  previous: () => step(-1),
  next: () => step(1),
};

const viewing = {
  in: () => viewer.zoom(1.25),
  out: () => viewer.zoom(0.8),
  fit: () => viewer.fit(),
  actual: () => viewer.zoom(1 / viewer.view.zoom),
  invert: () => (viewer.film.inverted = !viewer.film.inverted),
  asfile: () => viewer.setWindow(),
  windowing: () => (viewer.windowing = !viewer.windowing),
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

function act(name) {
  if (name in actions) actions[name]();
  else if (viewer.film) {
    viewing[name]();
    viewer.redraw();
  }
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  const entry = films.find((each) => each.button === button);
  if (entry) select(entry);
  if (button?.dataset.do) act(button.dataset.do);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("cxr-keys").open) return;
  const { key, target } = event;
  const arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[key];
  if (arrows && target.id === "cxr-film" && viewer.film) viewer.pan(...arrows);
  else if (arrows?.[1] && at("cxr-list").contains(target)) {
    step(Math.sign(-arrows[1]));
    shown.button.focus();
  } else if (key in keys && at("cxr-single").checked && !target.matches("[type=number], select")) act(keys[key]);
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

at("cxr-files").addEventListener("change", ({ target }) => {
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
  const last = small.matches && films.length > 0;
  if ((bench.lastElementChild === side) === last) return;
  if (last) bench.append(side);
  else bench.prepend(side);
  if (side.contains(focused)) focused.focus({ preventScroll: true });
}
small.addEventListener("change", arrange);

if (!isExact()) {
  const textContent = "This browser changes pixels that a page reads (a protection against tracking), and would show " +
    "films with noise. Allow this page to read the canvas, or use another browser.";
  document.querySelector(".top").append(make("p", { className: "notice", textContent }));
}
