// The last queries, live.  All that came are kept here; the newest ten that match are shown, or
// the newest hundred.

import * as address from "./address.js";
import { OUTCOMES } from "./chart.js";
import { byId, clock, count, element, matches, wordsOf } from "./dom.js";
import { explainQuery } from "./explain.js";

const KEPT = 1000;
const FEW = 10;
const MANY = 100;

let queries = [];  // newest last
let waiting = [];  // received during a pause
let isPaused = false;
let most = FEW;
let seesAll = true;
let words = [];

export function start() {
  for (const [outcome, text] of Object.entries(OUTCOMES)) {
    byId("by-outcome").append(element("option", { value: outcome }, text));
  }
  for (const id of ["by-client", "by-name", "by-outcome"]) {
    byId(id).value = address.get(id);
    byId(id).addEventListener("input", () => {
      address.set({ [id]: byId(id).value });
      show();
    });
  }
  byId("all-queries").addEventListener("click", () => {
    most = most === FEW ? MANY : FEW;
    show();
  });
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

/** After reconnecting, the server sends its whole history again. */
export function forget() {
  queries = [];
  waiting = [];
  show();
}

export function addQueries(news) {
  for (const query of news) {
    query.result = query.outcome ?? outcomeOf(query);
    query.text = `${query.client} ${query.client_name ?? ""} ${query.name} ${query.type} ${query.rcode} ${OUTCOMES[query.result]} ${query.upstream ?? ""} ${query.proto}`.toLowerCase();
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
  list.prepend(...news.filter(isWanted()).slice(-most).reverse().map(row));
  while (list.children.length > most) list.lastChild.remove();
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
  return (query) => `${query.client} ${query.client_name ?? ""}`.includes(client) && matches(query.name.toLowerCase(), name) &&
    (!outcome || query.result === outcome) && matches(query.text, words);
}

function show() {
  const wanted = isWanted();
  const found = [];
  for (let at = queries.length - 1; at >= 0 && found.length < most; at -= 1) {
    if (wanted(queries[at])) found.push(queries[at]);
  }
  byId("query-list").replaceChildren(...(found.length ? found.map(row) : [nothing()]));
  showCount();
}

function showCount() {
  byId("all-queries").hidden = queries.length <= FEW;
  byId("all-queries").textContent = most === FEW ? `Show the last ${MANY}` : "Show ten";
  byId("queries-count").textContent = `${count(queries.length)} kept${seesAll ? "" : ", yours only (--allow-history)"}`;
}

function nothing() {
  if (queries.length) return element("li.nothing", {}, "No matches.");
  return element("li.nothing", {}, seesAll ? "No queries yet. Every query to this server appears here."
    : "No queries from you yet. Only clients in --allow-history see those of others.");
}

function row(query) {
  const name = element("button.link.mono", { type: "button", title: "Explain" }, `${query.name} ${query.type}`);
  name.addEventListener("click", () => explainQuery(query));
  const from = OUTCOMES[query.result] + (query.upstream ? ` ${query.upstream}` : "");
  return element("li.query", {},
    element("span.time.quiet", {}, clock(query.time)), clientOf(query),
    element("span.question", {}, name), element(`span.rcode${query.rcode === "NOERROR" ? "" : ".warn"}`, {}, query.rcode),
    element("span.from", {}, element(`span.swatch.of-${query.result}`, { "aria-hidden": "true" }), from),
    element("span.ms.quiet", {}, query.ms.toFixed(query.ms < 10 ? 2 : 0)));
}

function clientOf({ client, client_name: name }) {
  if (!name) return element("span.client.mono", {}, client);
  return element("span.client", { title: client }, name, element("span.note.mono", {}, client));
}
