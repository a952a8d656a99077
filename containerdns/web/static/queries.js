// The last queries, live.  All that came are kept here, the newest hundred that match are shown.

import { OUTCOMES } from "./chart.js";
import { byId, clock, count, element, matches, wordsOf } from "./dom.js";
import { explainQuery } from "./explain.js";

const KEPT = 1000;
const SHOWN = 100;

let queries = [];  // newest last
let waiting = [];  // what came during a pause
let isPaused = false;
let seesAll = true;
let words = [];

export function start() {
  for (const [outcome, text] of Object.entries(OUTCOMES)) {
    byId("by-outcome").append(element("option", { value: outcome }, text));
  }
  for (const id of ["by-client", "by-name", "by-outcome"]) byId(id).addEventListener("input", show);
  byId("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    byId("pause").textContent = isPaused ? "Continue" : "Pause";
    if (!isPaused) addQueries(waiting.splice(0));
  });
  show();
}

export function setSearch(newWords) {
  words = newWords;
  show();
}

export function setRights(isAll) {
  if (isAll === seesAll) return;
  seesAll = isAll;
  show();
}

/** After a new connection the server tells its whole history again. */
export function forget() {
  queries = [];
  waiting = [];
  show();
}

export function addQueries(news) {
  for (const query of news) {
    query.result = query.outcome ?? outcomeOf(query);
    query.text = `${query.client} ${query.name} ${query.type} ${query.rcode} ${OUTCOMES[query.result]} ${query.upstream ?? ""} ${query.proto}`.toLowerCase();
  }
  if (isPaused) {
    waiting = waiting.concat(news).slice(-KEPT);
    return;
  }
  queries = queries.concat(news).slice(-KEPT);
  const list = byId("query-list");
  if (list.querySelector(".nothing")) {
    show();
    return;
  }
  list.prepend(...news.filter(isWanted()).slice(-SHOWN).reverse().map(row));
  while (list.children.length > SHOWN) list.lastChild.remove();
  showCount();
}

function outcomeOf({ rcode, source }) {
  if (rcode === "REFUSED") return "refused";
  return source === "policy" ? "kept" : source;
}

function isWanted() {
  const client = byId("by-client").value.trim().toLowerCase();
  const name = wordsOf(byId("by-name").value);
  const outcome = byId("by-outcome").value;
  return (query) => query.client.includes(client) && matches(query.name.toLowerCase(), name) &&
    (!outcome || query.result === outcome) && matches(query.text, words);
}

function show() {
  const wanted = isWanted();
  const found = [];
  for (let at = queries.length - 1; at >= 0 && found.length < SHOWN; at -= 1) {
    if (wanted(queries[at])) found.push(queries[at]);
  }
  byId("query-list").replaceChildren(...(found.length ? found.map(row) : [nothing()]));
  showCount();
}

function showCount() {
  byId("queries-count").textContent = `${count(queries.length)} kept${seesAll ? "" : ", yours only (--allow-history)"}`;
}

function nothing() {
  if (queries.length) return element("li.nothing", {}, "None matches.");
  return element("li.nothing", {}, seesAll ? "No query yet. Every question to this server appears here."
    : "No query of yours yet. Those of others are for --allow-history.");
}

function row(query) {
  const name = element("button.link.mono", { type: "button", title: "Explain" }, `${query.name} ${query.type}`);
  name.addEventListener("click", () => explainQuery(query));
  const from = OUTCOMES[query.result] + (query.upstream ? ` ${query.upstream}` : "");
  return element("li.query", {},
    element("span.time.quiet", {}, clock(query.time)), element("span.client.mono", {}, query.client),
    element("span.question", {}, name), element(`span.rcode${query.rcode === "NOERROR" ? "" : ".warn"}`, {}, query.rcode),
    element("span.from", {}, element(`span.swatch.of-${query.result}`, { "aria-hidden": "true" }), from),
    element("span.ms.quiet", {}, query.ms.toFixed(query.ms < 10 ? 2 : 0)));
}
