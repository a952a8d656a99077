// Connects the page to the server: one event stream, and the containers whenever they change.

import * as address from "./address.js";
import * as changes from "./changes.js";
import * as chart from "./chart.js";
import * as connecting from "./connect.js";
import * as containers from "./containers.js";
import { byId, learnAddress, wordsOf } from "./dom.js";
import * as explain from "./explain.js";
import { showLost, showStatus } from "./overview.js";
import * as queries from "./queries.js";

const RETRY = 2000;  // ms
const FETCH_SHARE = 10;  // a listing of all containers takes at most a tenth of the time

let stream = null;
let status = null;
let words = [];
let shownRevision = null;
let isFetching = false;
let nextFetch = 0;

function connect() {
  stream?.close();
  stream = new EventSource("/events");
  stream.addEventListener("rates", ({ data }) => {  // the first of every connection
    queries.forget();
    changes.forget();
    shownRevision = null;  // another process counts from the start
    chart.setPoints(JSON.parse(data));
  });
  stream.addEventListener("status", ({ data }) => {
    status = JSON.parse(data);
    learnAddress(status);
    connecting.learn(status);
    showStatus(status, words);
    containers.setDocker(status.engines.some(({ last_sync: listed }) => listed));
    queries.setRights(status.sees_all);
    fetchContainers();
  });
  stream.addEventListener("rate", ({ data }) => chart.addPoint(JSON.parse(data)));
  stream.addEventListener("changes", ({ data }) => changes.addChanges(JSON.parse(data)));
  stream.addEventListener("queries", ({ data }) => {
    const news = JSON.parse(data);
    queries.addQueries(news);
    connecting.lookFor(news);
  });
  stream.addEventListener("error", () => {
    showLost();
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, RETRY);
  });
}

async function fetchContainers() {
  const { revision } = status;
  if (revision === shownRevision || isFetching) return;
  const before = performance.now();
  if (before < nextFetch) {
    setTimeout(fetchContainers, nextFetch - before + 1);
    return;
  }
  isFetching = true;
  try {
    const response = await fetch("/containers");
    if (response.ok) {
      containers.setContainers(await response.json());
      shownRevision = revision;
    }
  } catch { /* the event stream notices that the server is gone, and reconnects */ }
  isFetching = false;
  nextFetch = performance.now() + FETCH_SHARE * (performance.now() - before);
  if (status.revision !== shownRevision) setTimeout(fetchContainers, RETRY);
}

function search() {
  words = wordsOf(byId("search").value);
  address.set({ search: byId("search").value });
  containers.setSearch(words);
  changes.setSearch(words);
  queries.setSearch(words);
  if (status) showStatus(status, words);
}

byId("search").addEventListener("input", search);

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  byId("search").focus();
});

document.addEventListener("visibilitychange", () => {  // no stream while the page is hidden
  if (document.hidden) stream.close();
  else connect();
});

chart.drawFrame();
changes.start();
containers.start();
explain.start();
queries.start();
connecting.start();
byId("search").value = address.get("search");
if (byId("search").value) search();
connect();
