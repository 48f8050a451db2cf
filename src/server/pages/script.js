"use strict";
// Keeps <main>'s live parts as the server would draw them now, and follows the log of a run. Everything works without it.
const log = document.getElementById("log");
async function drawn(address) {
  const answer = await fetch(address, { cache: "no-store" });
  return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
}
async function refresh() {
  try {
    // No lines are needed: those that come are appended.
    const fresh = await drawn(log ? location.pathname + "?step=0" : location.href);
    if (!fresh) return;
    // The page was drawn before the run had steps.
    if (log && fresh.querySelectorAll("#log .part").length !== log.querySelectorAll(".part").length) {
      return location.reload();
    }
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      // A part that has the focus stays: a field in it may be half filled in.
      if (!next || next.innerHTML === part.innerHTML || part.contains(document.activeElement)) continue;
      const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
      part.innerHTML = next.innerHTML;
      part.className = next.className;
      if (part.dataset.end !== undefined && atEnd) scrollTo(0, document.documentElement.scrollHeight);
    }
    if (log) unfoldWhatRuns();
  } catch (_) { /* the server is away; the next round tries again */ }
}
let due = null;
const soon = () => { if (!due) due = setTimeout(() => { due = null; refresh(); }, 120); };

const MOST = 5000; // Lines of a step that are drawn at a time.
const PAGE = 1000;
const partOf = (node) => node.closest("details.part");
const linesOf = (part) => part.querySelector(".lines");
const pageOf = (part, query) => location.pathname + "?step=" + part.dataset.index + query;
const numberOf = (line) => (line ? Number(line.id.split("-")[1]) : 0);

// Brings lines of another page of the run into this one: before those that are here, after them, or in their place.
function take(part, fresh, where) {
  const other = fresh && fresh.getElementById(part.id);
  if (!other) return 0;
  const lines = linesOf(part);
  if (where === "instead") {
    lines.replaceChildren();
    delete lines.dataset.found;
  }
  const piece = document.createDocumentFragment();
  let count = 0;
  for (const line of [...linesOf(other).children]) {
    if (document.getElementById(line.id)) continue;
    piece.append(document.importNode(line, true));
    count += 1;
  }
  const height = document.documentElement.scrollHeight;
  if (where === "before") lines.prepend(piece);
  else lines.append(piece);
  for (const side of ["earlier", "later"]) {
    if ((side === "earlier" && where === "after") || (side === "later" && where === "before")) continue;
    part.querySelector("." + side).replaceChildren(
      ...[...other.querySelector("." + side).childNodes].map((node) => document.importNode(node, true)));
  }
  if (where === "before") scrollBy(0, document.documentElement.scrollHeight - height);
  while (where === "after" && lines.childElementCount > MOST) {
    lines.firstChild.remove();
    const earlier = document.createElement("a");
    earlier.className = "page";
    earlier.rel = "prev";
    earlier.href = pageOf(part, "&from=" + Math.max(1, numberOf(lines.firstElementChild) - PAGE));
    earlier.textContent = "Earlier lines";
    part.querySelector(".earlier").replaceChildren(earlier);
  }
  return count;
}
async function showLines(part) {
  if (linesOf(part).childElementCount || part.dataset.reads) return;
  part.dataset.reads = "1";
  try {
    take(part, await drawn(pageOf(part, "")), "instead");
  } catch (_) { /* the link does the same */ }
  delete part.dataset.reads;
}
const isBusy = (part) => document.getElementById("state-" + part.dataset.index).classList.contains("busy");
function unfoldWhatRuns() {
  if (!log.dataset.follow) return;
  for (const part of log.querySelectorAll("details.part")) {
    if (part.dataset.touched) continue;
    if (isBusy(part) && !part.open) {
      part.open = true;
      part.dataset.auto = "1";
    } else if (part.dataset.auto && part.open && !isBusy(part)) {
      part.open = false;
    }
  }
}
async function followLines() {
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
  let came = 0;
  for (const part of log.querySelectorAll("details.part[open]")) {
    const lines = linesOf(part);
    if (lines.dataset.found || part.dataset.reads || part.querySelector(".later a") || !(isBusy(part) || part.dataset.runs)) continue;
    part.dataset.runs = isBusy(part) ? "1" : "";
    came += take(part, await drawn(pageOf(part, "&from=" + (numberOf(lines.lastElementChild) + 1))), "after");
    // What comes faster than it is read is a page that is asked for.
    if (came < PAGE) part.querySelector(".later").replaceChildren();
  }
  if (came && atEnd) scrollTo(0, document.documentElement.scrollHeight);
}
// Marks the line that the address names, on another page if it is not here.
function showNamed() {
  const step = /^#step-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
  if (step) {
    step.open = true;
    step.scrollIntoView();
  }
  const named = /^#s(\d+)-(\d+)$/.exec(location.hash);
  let line = named ? document.getElementById(named[0].slice(1)) : log.querySelector(".mark");
  if (named && !line && !location.search.includes("line=")) {
    return location.replace(location.pathname + "?step=" + named[1] + "&line=" + named[2] + named[0]);
  }
  if (!line) return;
  for (const old of log.querySelectorAll(".mark")) old.classList.remove("mark");
  line.classList.add("mark");
  partOf(line).open = true;
  line.scrollIntoView({ block: "center" });
}
if (log) {
  log.addEventListener("toggle", (event) => {
    if (event.target.matches("details.part") && event.target.open) showLines(event.target);
  }, true);
  log.addEventListener("click", async (event) => {
    const part = partOf(event.target);
    if (part) part.dataset.touched = "1";
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (link.className === "n") {
      event.preventDefault();
      history.replaceState(null, "", link.href);
      for (const old of log.querySelectorAll(".mark")) old.classList.remove("mark");
      link.parentElement.classList.add("mark");
    } else if (link.className === "page") {
      event.preventDefault();
      try {
        take(part, await drawn(link.href), link.rel === "prev" ? "before" : "after");
      } catch (_) {
        location.assign(link.href);
      }
    }
  });
  showNamed();
  addEventListener("hashchange", showNamed);
  if (log.dataset.follow) {
    unfoldWhatRuns();
    let reads = false;
    const timer = setInterval(async () => {
      if (reads || document.hidden) return;
      reads = true;
      try { await followLines(); } catch (_) { /* the next round tries again */ }
      reads = false;
    }, 1000);
    const source = new EventSource("/v1/runs/" + log.dataset.run + "/log?lines=false");
    source.onmessage = soon;
    source.addEventListener("end", async () => {
      source.close();
      clearInterval(timer);
      const touched = log.querySelector("[data-touched]") || location.search || location.hash;
      // Whoever reads something stays there; otherwise the page shows what has failed.
      if (!touched) return location.reload();
      try { await followLines(); } catch (_) { /* it is there when the page is loaded again */ }
      await refresh();
      delete log.dataset.follow;
    });
  }
} else if (document.querySelector("[data-live]")) {
  setInterval(() => { if (!document.hidden) refresh(); }, 2000);
}
