// How a name is resolved: each query that a client sends, its outcome and the reason.

import * as address from "./address.js";
import { byId, copyButton, digLine, element } from "./dom.js";

const FROM = { zone: "from the zone", cache: "from the cache", upstream: "from", policy: "by policy" };

const FIELDS = ["name", "type", "client", "search"];

export function start() {
  byId("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    explain();
  });
  for (const field of FIELDS) byId(`explain-${field}`).value = address.get(`explain-${field}`);
  if (byId("explain-name").value) explain();  // a link to an explanation
}

/** Fill in the form and explain, for a query in the list. */
export function explainQuery({ name, type, client }) {
  byId("explain-name").value = name;
  byId("explain-type").value = type;
  byId("explain-client").value = client;
  byId("explain-search").value = "";
  byId("explain").scrollIntoView();
  byId("explain-name").focus({ preventScroll: true });
  explain();
}

async function explain() {
  const asked = new URLSearchParams();
  for (const field of FIELDS) {
    const value = byId(`explain-${field}`).value.trim();
    address.set({ [`explain-${field}`]: value });
    if (value) asked.set(field, field === "name" ? askable(value) : value);
  }
  try {
    const response = await fetch(`/explain?${asked}`, { headers: { Accept: "application/json" } });
    const document = await response.json();
    if (response.ok) show(document, asked.get("name"));
    else complain(document.detail);
  } catch {
    complain("The server does not answer.");
  }
}

function complain(text) {
  byId("explanation").replaceChildren(element("p.bad", {}, text));
}

/** The host, in ASCII, of a text that `/explain` does not take: a long URL, or other letters. */
function askable(text) {
  if (/^[\x20-\x7e]{1,253}$/.test(text)) return text;
  try {
    return new URL(text.replace(/^(.*?:\/\/)?/, "http://")).hostname;
  } catch {
    return text;  // for the server to refuse
  }
}

function show({ queries, remarks = [] }, name) {
  const isSame = name === byId("explain-name").value.trim();
  byId("explanation").replaceChildren(
    ...[...(isSame ? [] : [`Looked up: ${name}`]), ...remarks].map((remark) => element("p.remark", {}, remark)),
    element("ol.steps", {}, ...queries.map(step)));
}

/** One query; not sent if the client already had its answer. */
function step(query) {
  const isUnasked = query.sent === false;
  const isFound = query.rcode === "NOERROR" && query.records.length > 0;
  const from = query.decision === "upstream" ? `from ${query.upstream ?? "an upstream"}` : FROM[query.decision] ?? query.decision;
  const outcome = query.rcode === null ? "the upstream's answer" : query.rcode === "NOERROR" && !isFound ? "no such records" : query.rcode;
  const made = element(`li${isFound ? ".found" : ""}${isUnasked ? ".unasked" : ""}`, {},
    element("div.asked", {}, element("strong.mono", {}, `${query.name} ${query.type}`),
      element(`span${isFound ? ".good" : ""}`, {}, outcome),
      element("span.quiet", {}, from),
      copyButton("Copy dig", () => digLine(query.name, query.type), `${query.name} ${query.type}`)),
    element("p", {}, query.reason), element("p.quiet", {}, `Rule: ${query.rule}`));
  if (isUnasked) made.append(element("p.quiet", {}, "Not sent, as an earlier answer ended the search."));
  if (query.records.length) {
    made.append(element("ul.records", {}, ...query.records.map((record) => element("li", {},
      element("span.mono", {}, `${query.ttl} ${record.type} ${record.data}`),
      element("span.note", {}, [record.container, record.network].filter(Boolean).join(" on "))))));
  }
  return made;
}
