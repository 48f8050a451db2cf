"use strict";
// Keeps <main>'s live parts as the server would draw them now, and follows the log.
const short = (text) => text.replace(/^(sha256:|k-)/, "").slice(0, 12);
const took = (s) => (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (next && next.innerHTML !== part.innerHTML) part.innerHTML = next.innerHTML;
    }
  } catch (_) { /* the server is away; the next round tries again */ }
}
let due = null;
const soon = () => { if (!due) due = setTimeout(() => { due = null; refresh(); }, 120); };

const words = {
  queued: (e) => ["say", "queued " + (e.trigger === "hand" ? "by hand" : "by a change")],
  started: (e) => ["say", "started: " + e.steps.join(", ")],
  resumed: (e) => ["hm", "a new process goes on" + (e.step ? " at " + e.step : "")],
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
const log = document.getElementById("log");
if (log) {
  const source = new EventSource("/v1/runs/" + log.dataset.run + "/log");
  let batch = [];
  // Steps run at the same time: a line says whose it is where that changes.
  let speaks = "";
  const append = (to, at, kind, text) => {
    const line = document.createElement("p");
    if (kind) line.className = kind;
    const time = document.createElement("time");
    time.dateTime = at;
    time.textContent = new Date(at).toTimeString().slice(0, 8);
    line.append(time, text);
    to.append(line);
  };
  const draw = () => {
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
    const piece = document.createDocumentFragment();
    for (const { at, event } of batch) {
      const make = words[event.what];
      if (!make) continue;
      const [kind, text] = make(event);
      if (event.what === "log" && event.step !== speaks) append(piece, at, "say", event.step);
      if (event.step) speaks = event.step;
      append(piece, at, kind, text);
    }
    batch = [];
    log.append(piece);
    if (atEnd && log.dataset.follow) scrollTo(0, document.documentElement.scrollHeight);
  };
  source.onmessage = (message) => {
    const entry = JSON.parse(message.data);
    if (!batch.length) requestAnimationFrame(draw);
    batch.push(entry);
    if (entry.event.what !== "log") soon();
  };
  source.addEventListener("end", () => { source.close(); soon(); });
} else {
  setInterval(() => { if (!document.hidden) refresh(); }, 2000);
}
