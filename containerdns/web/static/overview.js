// Engines and upstreams, and what to do about those that do not respond.

import { ago, badge, byId, clock, count, element, matches } from "./dom.js";

export function showStatus(status, words) {
  showReady(status);
  showKept(status.kept);
  showDocuments(status.documentation);
  showNotices(status);
  const engines = status.engines.filter((engine) => matches(engine.url.toLowerCase(), words));
  byId("engines").replaceChildren(...engines.map(engineRow), ...fleetRows(status.fleet), ...nothing(status.engines, engines,
    "No Docker Engine is configured; use --docker."));
  const upstreams = status.upstreams.map((upstream, index) => ({ ...upstream, rank: rank(status, index) }))
    .filter(({ name, for: domain }) => matches(`${name} ${domain ?? ""}`.toLowerCase(), words));
  byId("upstreams").replaceChildren(...upstreams.map(upstreamRow), ...nothing(status.upstreams, upstreams,
    "No upstreams: only names of containers are answered."));
  byId("about").textContent = `containerdns ${status.version} · serial ${status.serial}` +
    ` · ${count(status.counts.names)} ${status.counts.names === 1 ? "name" : "names"} · ${count(status.counts.remembered)} remembered` +
    ` · domains ${[...status.domains, ...status.search_domains].join(" ")}`;
}

function fleetRows(fleet) {
  if (!fleet) return [];
  const others = fleet.hosts.filter(({ state }) => state === "alive").length;
  const troubled = fleet.hosts.filter(({ state }) => state === "lost" || state === "late")
    .map(({ name, state }) => `${name} is ${state}`);
  const text = [`${count(others)} other ${others === 1 ? "host" : "hosts"}`, ...troubled].join(", ");
  return [element("li", {}, element("span.rank", {}, ""), element("span.mono", {}, "fleet"),
    fleet.connected ? badge("good", "connected") : badge("bad", "not connected"),
    element("span.under", {}, text + (fleet.error ? ` · ${fleet.error}` : "")))];
}

export function showLost() {
  tellReady("bad", "connection lost; this page may be out of date");
}

function showReady(status) {
  const failing = Object.keys(status.failing ?? {});
  const ills = [
    status.engines.some((engine) => !engine.connected) && "Docker is away",
    status.fleet && !status.fleet.connected && "the fleet's etcd is away",
    areAllSilent(status) && "no upstream answers",
    failing.length && `restarting: ${failing.join(", ")}`,
  ].filter(Boolean);
  if (!status.ready && !failing.length) tellReady("bad", "not ready");
  else if (ills.length) tellReady("warn", `degraded: ${ills.join("; ")}`);
  else tellReady("good", "ready");
}

function areAllSilent(status) {
  const upstreams = status.upstreams.filter((upstream) => !upstream.for);
  return upstreams.length > 0 && upstreams.every((upstream) => !upstream.healthy);
}

function showKept(kept) {
  byId("kept").hidden = !kept;
  if (!kept) return;
  byId("kept").replaceChildren(element("strong.figure", {}, count(kept.day)),
    ` ${kept.day === 1 ? "question" : "questions"} kept from public servers within a day`,
    element("span.note", { title: `since ${new Date(kept.since).toLocaleString("en-GB")}` },
      `${count(kept.total)} since the start`));
}

function showDocuments(url) {
  byId("documents").hidden = !/^https?:/.test(url ?? "");
  if (!byId("documents").hidden) byId("documents").href = url;
}

function tellReady(tone, text) {
  if (byId("ready").textContent !== text) byId("ready").replaceChildren(badge(tone, text));
}

let noticed = "";

function showNotices(status) {
  const lost = status.engines.filter((engine) => !engine.connected);
  const notices = lost.map(engineNotice);
  if (!status.ready && !lost.length) notices.push(element("div.notice", {}, element("strong", {}, "Not ready"), status.reason));
  if (areAllSilent(status)) {
    const upstreams = status.upstreams.filter((upstream) => !upstream.for);
    notices.push(element("div.notice", {}, element("strong", {}, "No upstream answers"),
      "Container names work; public names fail. Can this machine reach ",
      element("code", {}, upstreams.map(({ name }) => name).join(", ")), "? Use other servers with ",
      element("code", {}, "--upstream"), "."));
  }
  const text = notices.map((notice) => notice.textContent).join("\n");
  if (text !== noticed) byId("notices").replaceChildren(...notices);  // or screen readers would repeat it
  noticed = text;
}

function engineNotice(engine) {
  const told = element("div.notice", {},
    element("strong", {}, engine.last_sync ? "Connection to Docker lost" : "Not connected to Docker"),
    element("code", {}, engine.url), engine.error ? `: ${engine.error}. ` : ". ");
  if (engine.last_sync) {
    told.append("The last known names are still answered. Reconnecting automatically.");
    return told;
  }
  told.append("Until it is connected, container names get SERVFAIL and public names work. Is Docker running? In a container, mount the socket: ",
    element("code", {}, "-v /var/run/docker.sock:/var/run/docker.sock:ro"),
    "; for an ordinary user, join the group ", element("code", {}, "docker"), "; elsewhere, ",
    element("code", {}, "--docker tcp://HOST:2376"), ". Retrying automatically.");
  return told;
}

function engineRow(engine) {
  const lag = engine.lag_ms === null || engine.lag_ms === undefined ? "" : ` · events ${engine.lag_ms.toFixed(1)} ms behind`;
  const listed = engine.last_sync ? `listed ${ago(engine.last_sync)}` : "never listed";
  const out = engine.left_out ? " · its addresses are left out of answers that have others" : "";
  return element("li", {}, element("span.rank", {}, ""), element("span.mono", {}, engine.url),
    engine.connected ? badge("good", "connected") : badge("bad", "not connected"),
    element("span.under", {}, listed + lag + out + (engine.error ? ` · ${engine.error}` : "")));
}

/** The position of an upstream among those for the same names. */
function rank(status, index) {
  const domain = status.upstreams[index].for;
  return status.upstreams.slice(0, index + 1).filter((upstream) => upstream.for === domain).length;
}

function upstreamRow(upstream) {
  const time = upstream.rtt_ms === null || upstream.rtt_ms === undefined ? "not used yet" : `${upstream.rtt_ms.toFixed(1)} ms`;
  const failure = upstream.last_failure;
  const under = [upstream.for && `for ${upstream.for}`,
    !upstream.healthy && upstream.aside_until && `marked down until ${clock(upstream.aside_until)}`,
    failure && `last failure: ${failure}`].filter(Boolean);
  return element("li", {}, element("span.rank", {}, String(upstream.rank)), element("span.mono", {}, upstream.name),
    upstream.healthy ? badge("good", time) : badge("bad", "down"),
    under.length ? element("span.under", {}, under.join(" · ")) : null);
}

function nothing(all, shown, text) {
  if (shown.length) return [];
  return [element("li.nothing", {}, all.length ? "No matches for the search." : text)];
}
