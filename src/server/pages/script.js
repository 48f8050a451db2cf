"use strict";
// Keeps <main>'s live parts as the server would draw them now, and follows the log. Everything but the log works
// without it.
const short = (text) => text.replace(/^(sha256:|k-)/, "").slice(0, 12);
const took = (s) => (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      // A part that has the focus stays: a field in it may be half filled in.
      if (!next || next.innerHTML === part.innerHTML || part.contains(document.activeElement)) continue;
      const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
      part.innerHTML = next.innerHTML;
      part.className = next.className;
      if (part.dataset.end !== undefined && atEnd) scrollTo(0, document.documentElement.scrollHeight);
    }
  } catch (_) { /* the server is away; the next round tries again */ }
}
let due = null;
const soon = () => { if (!due) due = setTimeout(() => { due = null; refresh(); }, 120); };

const words = {
  queued: (e) => ["say", "queued " + (e.by ? "by " + e.by : e.trigger === "hand" ? "by hand" : "by a change")],
  started: (e) => ["say", "started: " + e.steps.join(", ")],
  resumed: (e) => ["hm", "resumed" + (e.step ? " at " + e.step : "")],
  "step-started": (e) => ["say", e.step],
  "nothing-to-build": (e) => ["ok", "nothing to build: same tree as " + e.same_as.commit.slice(0, 7) + " (run " + e.same_as.run + "), " + short(e.digest)],
  building: (e) => ["say", "building " + short(e.key) + " from " + e.files + (e.files === 1 ? " file" : " files")],
  pushing: (e) => ["say", "pushing " + e.reference],
  pushed: (e) => ["ok", "pushed " + e.digest],
  log: (e) => ["", e.text],
  retrying: (e) => ["hm", e.step + ": " + e.reason + "; try " + e.attempt + (e.seconds ? " in " + took(e.seconds) : "")],
  "step-finished": (e) => [e.outcome === "succeeded" ? "ok" : e.outcome === "failed" ? "no" : "hm",
    e.step + " " + e.outcome + " after " + took(e.seconds) + (e.reason ? ": " + e.reason : "")],
  finished: (e) => [e.state === "succeeded" ? "ok" : e.state === "failed" ? "no" : "hm",
    e.state + " after " + took(e.seconds) + (e.reason && e.state !== "failed" ? ": " + e.reason : "")],
  rollout: (e) => {
    const r = e.rollout;
    if (r.what === "started") return ["say", r.service + " revision " + r.revision + ", " + short(r.digest)];
    if (r.what === "progress") return ["say", "revision " + r.revision + ": " + r.healthy + "/" + r.desired + " healthy"];
    const good = r.state === "running";
    return [good ? "ok" : "no", "revision " + r.revision + " is " + r.state.replace("-", " ") + (r.reason ? ": " + r.reason : "")];
  },
};

// Colours become classes, other control sequences nothing, and of a progress bar its last state remains.
function write(line, text) {
  if (text.includes("\r")) text = text.replace(/\r+$/, "").split("\r").pop();
  if (!text.includes("\x1b")) return line.append(text);
  let classes = [];
  for (const [at, piece] of text.replace(/\x1b\[[0-9;?]*[A-Za-ln-z]/g, "").split(/\x1b\[([0-9;]*)m/).entries()) {
    if (at % 2) {
      for (const code of piece.split(";").map(Number)) {
        if (code === 0) classes = [];
        else if (code === 1) classes.push("b");
        else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
          classes = classes.filter((one) => one === "b").concat("c" + (code % 10));
        } else if (code === 39) classes = classes.filter((one) => one === "b");
      }
    } else if (piece) {
      const span = document.createElement("span");
      span.className = classes.join(" ");
      span.textContent = piece;
      line.append(classes.length ? span : piece);
    }
  }
}

const MOST = 5000; // Lines of a step that are drawn; the raw log has all.
const FAULT = /\b(error|errors|failed|failure|fail|panicked|panic|exception|traceback|fatal)\b/i;
const log = document.getElementById("log");
if (log) {
  const parts = new Map();
  for (const element of log.querySelectorAll("[data-step]")) {
    parts.set(element.dataset.step, {
      element, index: element.dataset.index, lines: element.querySelector(".lines"),
      waiting: [], count: 0, dropped: 0, fault: 0, last: 0, touched: false, failed: false,
    });
  }
  const isOpen = (part) => part.element.tagName !== "DETAILS" || part.element.open;
  const put = (part) => {
    if (!isOpen(part) || !part.waiting.length) return;
    const piece = document.createDocumentFragment();
    if (part.waiting.length > MOST) {
      part.dropped += part.waiting.length - MOST + part.lines.childElementCount;
      part.waiting.splice(0, part.waiting.length - MOST);
      part.lines.textContent = "";
    }
    for (const { number, at, kind, text } of part.waiting) {
      const line = document.createElement("p");
      if (kind) line.className = kind;
      if (number) {
        line.id = "s" + part.index + "-" + number;
        const link = document.createElement("a");
        link.href = "#" + line.id;
        link.className = "n";
        link.textContent = number;
        line.append(link);
      }
      const time = document.createElement("time");
      time.dateTime = at;
      time.textContent = new Date(at).toTimeString().slice(0, 8);
      line.append(time);
      write(line, text);
      piece.append(line);
    }
    part.waiting = [];
    part.lines.append(piece);
    while (part.lines.childElementCount > MOST) {
      part.lines.firstChild.remove();
      part.dropped += 1;
    }
    const more = part.element.querySelector(".more");
    if (more && part.dropped) {
      more.hidden = false;
      more.textContent = " has " + part.dropped + " earlier lines";
    }
  };
  const wanted = () => /^#s(\d+)-(\d+)$/.exec(location.hash);
  let shown = false;
  // Opens the line that the address names, or the first that failed.
  const show = (ended) => {
    const hash = wanted();
    const at = hash && [...parts.values()].find((part) => part.index === hash[1]);
    const failed = [...parts.values()].find((part) => part.failed);
    const part = at || (location.hash ? null : failed);
    if (!part || shown || (!ended && !at)) return;
    part.element.open = true;
    put(part);
    const number = at ? hash[2] : part.fault || part.last;
    const line = document.getElementById("s" + part.index + "-" + number) || (ended && part.element);
    if (!line) return;
    shown = true;
    if (line !== part.element) line.classList.add("mark");
    line.scrollIntoView({ block: "center" });
  };
  const draw = () => {
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
    for (const part of parts.values()) put(part);
    if (wanted()) show(false);
    else if (atEnd && log.dataset.follow) scrollTo(0, document.documentElement.scrollHeight);
  };
  let due = false;
  const later = () => { if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); }); } };
  log.addEventListener("toggle", (event) => {
    const part = [...parts.values()].find((one) => one.element === event.target);
    if (part) put(part);
  }, true);
  log.addEventListener("click", (event) => {
    const part = [...parts.values()].find((one) => one.element.contains(event.target));
    if (part) part.touched = true;
    if (event.target.className === "n") {
      for (const old of log.querySelectorAll(".mark")) old.classList.remove("mark");
      event.target.parentElement.classList.add("mark");
      shown = true;
    }
  });
  // A link of the graph leads to a step's log, which is folded.
  const unfold = () => {
    const step = /^#step-\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (!step) return;
    step.open = true;
    step.scrollIntoView();
  };
  unfold();
  addEventListener("hashchange", () => { shown = false; unfold(); show(false); });
  const source = new EventSource("/v1/runs/" + log.dataset.run + "/log");
  source.onmessage = (message) => {
    const { at, event } = JSON.parse(message.data);
    const make = words[event.what];
    if (!make) return;
    // The page was drawn before the run had steps.
    if (event.what === "started" && parts.size === 1 && event.steps.length) return location.reload();
    const part = parts.get(event.step || "") || parts.get("");
    const [kind, text] = make(event);
    let number = 0;
    if (event.what === "log" && part.index !== undefined) {
      number = part.last = ++part.count;
      if (!part.fault && FAULT.test(text)) part.fault = number;
    }
    part.waiting.push({ number, at, kind, text });
    if (log.dataset.follow && !part.touched && part.index !== undefined) {
      if (event.what === "step-started") part.element.open = true;
      if (event.what === "step-finished" && event.outcome !== "failed") part.element.open = false;
    }
    if (event.what === "step-finished" && event.outcome === "failed") part.failed = true;
    later();
    if (event.what !== "log" && log.dataset.follow) soon();
  };
  source.addEventListener("end", () => {
    source.close();
    show(true);
    later();
    if (log.dataset.follow) soon();
    delete log.dataset.follow;
  });
} else if (document.querySelector("[data-live]")) {
  setInterval(() => { if (!document.hidden) refresh(); }, 2000);
}
