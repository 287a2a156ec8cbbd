// The page in the browser: sends files one after another, shows what is said of them, remembers the visit in memory.
// Nothing is written to the browser's storage, and nothing is asked of any address but this page's own.
"use strict";
(() => {
  const visit = new Map(); // by number: {name, answer, report}; gone with the tab
  let number = 0;
  let queue = [];
  let working = false;
  let stopped = new AbortController();
  const at = (id) => document.getElementById(id);
  const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

  function say(text) {
    const line = at("cxr-status");
    if (line) line.textContent = text;
  }

  function complain(name, text) {
    const item = document.createElement("li");
    const file = document.createElement("bdi");
    file.textContent = name.replace(/[\p{C}]/gu, "\ufffd");
    item.append(file, ": ", text);
    at("cxr-errors").append(item);
  }

  // ------------------------------------------------------------------------------------------------------- sending

  function take(files) {
    if (!files.length) return;
    if (!working) at("cxr-errors").replaceChildren();
    queue.push(...files);
    if (!working) work();
  }

  async function work() {
    working = true;
    const signal = stopped.signal;
    let done = 0;
    let before = at("cxr-cases").firstChild; // a later batch stands above an earlier one, each in its own order
    at("cxr-drop").classList.add("busy");
    while (queue.length && !signal.aborted) {
      const file = queue.shift();
      say(`Examining ${done + 1} of ${done + 1 + queue.length} …`);
      const answer = await send(file, signal, done, queue);
      done += 1;
      if (!answer || signal.aborted) continue;
      const shown = show(answer, before);
      if (done === 1) shown.scrollIntoView({ block: "nearest" });
    }
    working = false;
    at("cxr-drop").classList.remove("busy");
    say(signal.aborted ? "" : `${done} ${done === 1 ? "file" : "files"} examined.`);
  }

  async function send(file, signal, done, rest) {
    const watch = setInterval(() => line(done, rest), 2000);
    try {
      for (;;) {
        const response = await fetch("/api/examine?card=true", {
          method: "POST",
          body: file,
          signal,
          headers: { "Content-Type": "application/octet-stream", "X-File-Name": encodeURIComponent(named(file)) },
        });
        if (response.status === 503) {
          say("Many files are being examined; this one waits for its turn …");
          await pause(Number(response.headers.get("retry-after")) || 2);
          continue;
        }
        const answer = await response.json();
        if (response.ok) return answer;
        complain(file.name, answer.error);
        return null;
      }
    } catch (error) {
      if (!signal.aborted) {
        const large = "the upload was broken off: the file may be larger than this page takes, or the program has ended.";
        complain(file.name, file.size > limit() ? `larger than ${limit() / 1e6} MB, the limit of this page.` : large);
      }
      return null;
    } finally {
      clearInterval(watch);
    }
  }

  function named(file) {
    return file.name.toWellFormed ? file.name.toWellFormed() : file.name;
  }

  function limit() {
    return 1e6 * Number(at("cxr-drop").textContent.match(/up to ([\d.]+) MB/)?.[1] ?? 1000);
  }

  async function line(done, rest) {
    try {
      const state = await (await fetch("/api/state")).json();
      const others = state.in_line > 1 ? ` ${state.in_line} files of all visitors are in line.` : "";
      say(`Examining ${done + 1} of ${done + 1 + rest.length} …${others}`);
    } catch {
      say("The program does not answer.");
    }
  }

  // ------------------------------------------------------------------------------------------------------- showing

  function show(answer, before) {
    const key = String(++number);
    const holder = document.createElement("template");
    holder.innerHTML = answer.card; // escaped by the program that made it; the page's policy lets no script in
    const card = holder.content.firstElementChild;
    card.id = `case-${key}`;
    card.dataset.key = key;
    at("cxr-cases").insertBefore(card, before);
    const report = new Blob([answer.report], { type: "text/html" });
    delete answer.card;
    delete answer.report;
    visit.set(key, { answer, report });
    list();
    return card;
  }

  function list() {
    const rows = [...visit].map(([key, { answer }]) => {
      const row = document.createElement("tr");
      const first = document.createElement("th");
      const link = document.createElement("a");
      first.scope = "row";
      link.href = `#case-${key}`;
      link.dataset.to = key;
      link.append(Object.assign(document.createElement("bdi"), { textContent: answer.file }));
      first.append(link);
      row.append(first);
      for (const said of answer.predictions) {
        const cells = answer.predictions.length === 1 ? [call(said), value(said)] : [`${call(said)} ${value(said)}`];
        row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      }
      return row;
    });
    at("cxr-list").replaceChildren(...rows);
    at("cxr-visit").hidden = rows.length === 0;
  }

  const call = (said) => said.label || (said.kind === "unreadable" ? "Cannot be read" : "Refused");
  // Never a 0 or a 1 that is none, as on the card.
  const rounded = (number) =>
    number > 0 && number < 0.0005 ? "below 0.001" : number >= 0.9995 && number < 1 ? "above 0.999" : number.toFixed(3);
  const value = (said) => (said.probability === null ? "" : rounded(said.probability));

  function forget(key) {
    at(`case-${key}`)?.remove();
    visit.delete(key);
    list();
  }

  function clear() {
    stopped.abort();
    stopped = new AbortController();
    queue = [];
    for (const key of [...visit.keys()]) forget(key);
    at("cxr-errors").replaceChildren();
    say("Forgotten.");
    at("cxr-files").focus();
  }

  // -------------------------------------------------------------------------------------------------------- keeping

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
    const rows = [...visit.values()].flatMap(({ answer }) => answer.predictions);
    const lines = [columns, ...rows.map((said) => columns.map((name) => said[name] ?? ""))];
    const text = lines.map((cells) => cells.map(quoted).join(",")).join("\r\n");
    save(new Blob([`${text}\r\n`], { type: "text/csv" }), "visit.csv");
  }

  function quoted(cell) {
    const text = String(cell);
    const plain = typeof cell === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text; // no formula for a spreadsheet
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  }

  function print(report) {
    const address = URL.createObjectURL(report);
    window.open(address, "_blank");
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  // -------------------------------------------------------------------------------- what a reader does, by hand or key

  const actions = {
    save: (key) => save(visit.get(key).report, `report-${visit.get(key).answer.sha256.slice(0, 12)}.html`),
    print: (key) => print(visit.get(key).report),
    forget: (key) => {
      forget(key);
      at("cxr-files").focus();
    },
    enlarge: (key, button) => {
      const large = at(`case-${key}`).classList.toggle("large");
      button.setAttribute("aria-pressed", String(large));
    },
    table: saveTable,
    clear,
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-to]");
    if (link) {
      event.preventDefault();
      at(`case-${link.dataset.to}`).focus();
      at(`case-${link.dataset.to}`).scrollIntoView({ block: "start" });
    }
    const button = event.target.closest("button[data-do]");
    if (button) actions[button.dataset.do](button.closest(".case")?.dataset.key, button);
  });

  document.addEventListener("input", (event) => {
    const card = event.target.closest(".case");
    const what = event.target.dataset.do;
    if (!card) return;
    if (what === "heat") {
      card.querySelector(".film").style.setProperty("--heat", event.target.value / 100);
      event.target.nextElementSibling.textContent = `${event.target.value} %`;
    } else if (what === "lungs") {
      card.querySelector(".lungs").toggleAttribute("hidden", !event.target.checked);
    } else if (what === "whose") {
      for (const layer of card.querySelectorAll(".heat")) layer.hidden = layer.dataset.model !== event.target.value;
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.id !== "cxr-files") return;
    take([...event.target.files]);
    event.target.value = ""; // the same file may be chosen again
  });

  for (const kind of ["dragover", "drop", "dragleave"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // a file that misses the field would replace the page
      at("cxr-drop")?.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take([...event.dataTransfer.files]);
    });
  }
})();
