// What the pages show of a cluster and of who is on topics, in Chromium and in Firefox, against two
// real nodes on a real Redis. Of a program without these features: that they show nothing of it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { inFirefox } from "./firefox.mjs";
import { browser, firefoxPath, freePort, kill, launch, openPage, program, screenshots, start, test, until } from "./support.mjs";

const has = (setting) => spawnSync(program, ["check", "--set", setting]).status === 0;

// Runs in the operator's page: what it shows of two nodes, then of what the server might say.
async function readsNodes() {
  const element = (id) => document.getElementById(id);
  const until = async (what, holds) => {
    for (const end = Date.now() + 20_000; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {
      if (holds()) return;
    }
    throw new Error(`${what}: ${element("nodes").innerText}`);
  };
  const rows = () => [...document.querySelectorAll("#nodes tbody tr")].map((row) =>
    [row.className, ...[...row.children].slice(0, 6).map((cell) => cell.textContent)]);
  const words = () => element("nodes-said").textContent;
  await until("both are shown", () => words() === "2 nodes, all heard of");
  const real = rows(), isShown = !element("nodes").hidden;
  const markup = "<img src=x onerror=alert(1)>", now = Math.floor(Date.now() / 1000);
  const one = (node, more) => ({ node, instance: "0123", started_at: now - 90, connections: 7, lag_ms: 5,
    draining: false, seen_ms: 2000, version: "1.2.3", gaps: 0, ...more });
  const shows = async (nodes, expected) => {
    globalThis.fetch = async () => new Response(JSON.stringify(nodes));
    await until(expected, () => words() === expected);
    return rows().filter(([, name]) => name !== "a" && name !== "b");
  };
  const there = [one("a"), one("b")];
  const told = [await shows([...there, one(markup, { gaps: 3, lag_ms: 1500 }), one("c", { draining: true })], "4 nodes, all heard of")];
  told.push(await shows([...there, one(markup, { seen_ms: 17_400 }), one("c", { draining: true })], `4 nodes, not heard of: ${markup}`));
  told.push(await shows(there, `4 nodes, not heard of: ${markup}, c`));
  const old = there.map((node) => ({ ...node, seen_ms: 20_000 }));
  await shows(old, "This node hears of nobody, nor of itself: it does not reach Redis. What stands here is old.");
  globalThis.fetch = async () => { throw new TypeError("no network"); };
  const away = "This page does not reach the server (no network). What stands here is old.";
  await until("it is told", () => words() === away);
  const images = document.images.length;
  return { real, isShown, told, images };
}

async function nodes(run, admin) {
  const { real, isShown, told, images } = await run(`http://127.0.0.1:${admin}/`, readsNodes.toString());
  assert.ok(isShown && images === 0);
  assert.deepEqual(real.map(([className, name]) => [className, name]), [["", "a"], ["", "b"]]);
  for (const [, , state, connections, lag, gaps, version] of real) {
    assert.match(version, /^\d+\.\d+\.\d+$/);
    assert.ok(Number(connections) >= 0 && /^\d+ ms$/.test(lag) && gaps === "0" && state === "there", real.join());
  }
  const markup = "<img src=x onerror=alert(1)>";
  const [all, silent, gone] = told;
  assert.deepEqual(all, [["", markup, "there", "7", "1500 ms", "3", "1.2.3"], ["draining", "c", "drains", "7", "5 ms", "0", "1.2.3"]]);
  assert.deepEqual(silent[0].slice(0, 2), ["stale", markup]);
  assert.match(silent[0][2], /^not heard of for 1[78] s$/);
  assert.match(gone[0][2], /^gone: not heard of for \d+ s$/);
  assert.equal(gone[1][2], "has ended, after its drain");
}

async function inChromium(url, script) {
  const page = await openPage(browser, { viewport: { width: 390, height: 844 } });
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(url);
  const result = await page.evaluate(`(${script})()`);
  assert.ok(!(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)), "it scrolls sideways");
  if (screenshots) await page.screenshot({ path: `${screenshots}/nodes-phone.png`, fullPage: true });
  assert.deepEqual(faults, []);
  await page.close();
  return result;
}

// The status page of a node has a line about the cluster, and no node's name.
async function figures(port) {
  const page = await openPage(browser);
  await page.goto(`http://127.0.0.1:${port}/`);
  await until("the cluster is told of", async () => /cluster\s*2 nodes, lag .*, gaps 0/.test(await page.innerText("#more")));
  await page.close();
}

// Two pages on one topic see each other, and one sees the other leave.
async function people() {
  const port = await freePort(), server = await start(port, "topics.presence=hello");
  const faults = [];
  const open = async () => {
    const page = await openPage(browser);
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    await page.goto(`http://127.0.0.1:${port}/`);
    return page;
  };
  const shows = (page, words) => until(words, async () => (await page.innerText("#people")) === words);
  const first = await open();
  await shows(first, "hello 1 there: 1 without a name");
  const second = await open();
  for (const page of [first, second]) await shows(page, "hello 2 there: 2 without a name");
  await second.fill("#subscribe [name=topic]", "another");
  await second.press("#subscribe [name=topic]", "Enter");
  await until("it tells of itself", async () => (await second.innerText("#more")).includes("members of topics"));
  await second.click("text=hello ×");
  await shows(first, "hello 1 there: 1 without a name");
  assert.equal(await second.innerText("#people"), "", "nothing of a topic that does not tell, nor of one that is left");
  const names = 'crowd({ count: 4, members: ["ann", "ann", "bob", null].map((identity) => ({ identity })) })';
  assert.equal(await first.evaluate(names), "4 there: ann, bob, 1 without a name");
  assert.equal(await first.evaluate("crowd({ count: 2000 })"), "2000 there");
  assert.deepEqual(faults, []);
  await kill(server);
  const again = await start(port, "topics.presence=hello");
  await until("it is there again", async () => (await first.getAttribute("#dot", "class")) === "open");
  await until("who is there is asked anew", async () => (await first.innerText("#people")).startsWith("hello "));
  const said = await first.textContent("#arrived");
  assert.ok(!said.includes("$presence"), said);
  // While there was no server, the page could not connect.
  assert.deepEqual(faults.filter((fault) => !/WebSocket|ERR_CONNECTION_REFUSED/.test(fault)), []);
  await kill(again);
  await first.close();
  await second.close();
}

async function nothing() {
  const [port, admin] = [await freePort(), await freePort()];
  const server = await start(port, `admin_listen=127.0.0.1:${admin}`);
  const page = await openPage(browser);
  await page.goto(`http://127.0.0.1:${admin}/`);
  await page.waitForTimeout(500);
  assert.equal(await page.isVisible("#nodes"), false);
  await page.close();
  await kill(server);
}

await test("nodes: a server without a cluster shows none", nothing);
if (!has("topics.presence=hello")) {
  console.log("== WHO IS ON A TOPIC WAS NOT TESTED: THE PROGRAM IS WITHOUT THE FEATURE `presence`");
} else await test("nodes: the status page says who is on its topics", people);
if (!has("cluster.redis=redis://127.0.0.1")) {
  console.log("== NODES WERE NOT TESTED: THE PROGRAM IS WITHOUT THE FEATURE `cluster`");
} else if (spawnSync("redis-server", ["--version"]).status !== 0) {
  console.log("== NODES WERE NOT TESTED: REDIS-SERVER IS ABSENT");
} else {
  const redis = await freePort();
  launch("redis-server", ["--port", `${redis}`, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
  const ports = [await freePort(), await freePort()], admins = [await freePort(), await freePort()];
  const servers = await Promise.all(["a", "b"].map((name, place) => start(ports[place], `admin_listen=127.0.0.1:${admins[place]}`,
    `cluster.redis=redis://127.0.0.1:${redis}`, `cluster.node=${name}`)));
  await test("nodes: the operator's page shows them in Chromium", () => nodes(inChromium, admins[0]));
  if (firefoxPath) await test("nodes: the operator's page shows them in Firefox", () => nodes(inFirefox, admins[0]));
  await test("nodes: the status page has a line about the cluster", () => figures(ports[0]));
  for (const server of servers) await kill(server);
}
