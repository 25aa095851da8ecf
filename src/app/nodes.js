"use strict";
// The nodes of the cluster, as this one knows them: asked for every two seconds while somebody
// looks. Everything shown is put into the page as text, never as markup.
const section = document.getElementById("nodes"), said = document.getElementById("nodes-said");
const body = section.querySelector("tbody");
const STALE_MS = 15_000; // each node says every 10 s how it does
const GONE_MS = 600_000; // for so long a node that has gone stays in the table
const known = new Map(); // by name

const span = (ms) => {
  const s = Math.floor(ms / 1000), [d, h, m] = [s / 86400, s / 3600 % 24, s / 60 % 60].map(Math.floor);
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min` : `${s} s`;
};
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

function take(nodes) {
  const now = Date.now();
  for (const one of known.values()) one.isListed = false;
  for (const [name, { heardAt }] of known) if (now - heardAt > GONE_MS) known.delete(name);
  for (const node of nodes) known.set(node.node, { ...node, isListed: true, heardAt: now - node.seen_ms });
}

// What there is to say of a node beside its figures: how it is drawn, and in words.
function stateOf(one) {
  const silent = `not heard of for ${span(Date.now() - one.heardAt)}`;
  if (!one.isListed) return ["stale", one.draining ? "has ended, after its drain" : `gone: ${silent}`];
  if (Date.now() - one.heardAt > STALE_MS) return ["stale", silent];
  return one.draining ? ["draining", "drains"] : ["", "there"];
}

function show(trouble) {
  const rows = [...known.values()].sort((a, b) => a.node < b.node ? -1 : 1);
  const silent = rows.filter((one) => stateOf(one)[0] === "stale");
  body.replaceChildren(...rows.map((one) => {
    const [className, words] = stateOf(one);
    const started = make("time", { textContent: `${span(Date.now() - one.started_at * 1000)} ago` });
    started.dateTime = new Date(one.started_at * 1000).toISOString();
    return make("tr", { className }, make("th", { scope: "row", textContent: one.node, title: `process ${one.instance}` }),
      make("td", { className: "state", textContent: words }),
      ...[one.connections, `${one.lag_ms} ms`, one.gaps, one.version || "–"].map((textContent) => make("td", { textContent })),
      make("td", {}, started));
  }));
  const count = `${rows.length} ${rows.length === 1 ? "node" : "nodes"}`;
  const words = trouble ?? (!rows.length ? "No node is known: this one has not reached Redis since it began."
    : silent.length === rows.length ? "This node hears of nobody, nor of itself: it does not reach Redis. What stands here is old."
    : silent.length ? `${count}, not heard of: ${silent.map((one) => one.node).join(", ")}` : `${count}, all heard of`);
  if (said.textContent !== words) said.textContent = words; // it is read out
}

async function ask() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/nodes", { cache: "no-store" });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    take(await answer.json());
    show();
  } catch (error) {
    show(`This page does not reach the server (${error.message}). What stands here is old.`);
  }
}

// Only a server that shares its topics has other nodes.
fetch("/config").then((answer) => answer.text()).then((text) => {
  const cluster = text.split(/^\[/m).find((part) => part.startsWith("cluster]")) ?? "";
  if (!/^redis = "(?!off")/m.test(cluster)) return;
  section.hidden = false;
  ask();
  setInterval(ask, 2000);
});
