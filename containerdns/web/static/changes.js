// What became of containers lately, the newest first, with the gap that each redeploy left.

import { byId, clock, count, element, matches } from "./dom.js";

const KEPT = 1000;
const FEW = 5;
const SIGNS = { came: ["+", "good", "came"], went: ["\u2212", "bad", "went"] };

let changes = [];  // newest last
let words = [];
let showsAll = false;

export function start() {
  byId("all-changes").addEventListener("click", () => { showsAll = !showsAll; show(); });
  show();
}

/** After a new connection the server tells its whole history again. */
export function forget() {
  changes = [];
  show();
}

export function addChanges(news) {
  for (const change of news) change.search = `${change.text} ${change.change} ${change.names.join(" ")}`.toLowerCase();
  changes = changes.concat(news).slice(-KEPT);
  show();
}

export function setSearch(newWords) {
  words = newWords;
  show();
}

function show() {
  const found = changes.filter(({ search }) => matches(search, words)).reverse();
  const shown = showsAll ? found : found.slice(0, FEW);
  byId("change-list").replaceChildren(...(shown.length ? shown.map(row)
    : [element("li.nothing", {}, changes.length ? "None matches." : "No change since the server started.")]));
  byId("changes-count").textContent = changes.length ? count(found.length) : "";
  byId("all-changes").hidden = found.length <= FEW;
  byId("all-changes").textContent = showsAll ? "Show fewer" : `Show all ${count(found.length)}`;
}

function row(change) {
  const [sign, tone, word] = SIGNS[change.change] ?? ["~", "warn", change.change];
  return element("li.change", {},
    element("span.time.quiet", { title: new Date(change.time).toLocaleString("en-GB") }, clock(change.time)),
    element(`span.mono.${tone}`, { "aria-hidden": "true" }, sign),
    element("span", {}, element("span.unseen", {}, `${word}: `), element("strong", {}, change.container), " ",
      element("span.mono.quiet", {}, whatOf(change))),
    element("span.gap", {}, change.seconds_without ? `${change.seconds_without.toFixed(1)} s without` : ""));
}

function whatOf({ change, before, after, names, healthy }) {
  const [was, is] = [before, after].map((addresses) => addresses.join(", ") || "no address");
  if (change === "came") return `${is} (${count(names.length)} ${names.length === 1 ? "name" : "names"})`;
  if (change === "went") return was;
  if (change === "health") return healthy ? "is healthy" : "is unhealthy";
  return change === "renamed" ? `${is}, renamed` : `${was} \u2192 ${is}`;
}
