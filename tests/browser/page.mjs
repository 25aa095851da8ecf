// What a browser sees: the client `heartwheel.js` against servers that follow a script, then the
// status page and resume against the real program, which is killed and started again meanwhile.
//
//   node page.mjs SERVER CHROMIUM APP [SCREENSHOTS]
//
// APP is the folder of heartwheel.js. Traffic stays on 127.0.0.1. Exit status 0 if all hold.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium } from "playwright-core";
import { serve } from "./scripted.mjs";

const [program, executablePath, app, screenshots] = process.argv.slice(2);
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});

async function until(what, holds, ms = 5000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(20)) {
    const value = await holds();
    if (value) return value;
  }
  assert.fail(`not within ${ms} ms: ${what}`);
}

// -- The client alone ------------------------------------------------------------------------------

const BLANK = `<!doctype html><link rel="icon" href="data:,"><script src="/heartwheel.js"></script>
<script>
  const seen = [];
  const watch = (wheel, ...topics) => {
    for (const type of ["state", "gap", "error", "pressure"]) {
      wheel.addEventListener(type, ({ detail }) => seen.push({ type, at: performance.now(), ...detail }));
    }
    for (const topic of topics) {
      wheel.subscribe(topic, (data, { id }) => {
        const bytes = data instanceof Uint8Array ? [...data] : undefined;
        seen.push({ type: "event", topic, id, data, bytes });
      });
    }
    return wheel;
  };
</script>`;

// Opens a blank page with the client at a scripted server. `peers` are the WebSockets so far.
async function scripted({ status, route = () => false, script = () => {} }) {
  const peers = [];
  const server = await serve({
    status,
    answer(request, response) {
      const reply = (code, type, body) => response.writeHead(code, { "Content-Type": type }).end(body);
      if (route(request, response)) return;
      if (request.url === "/") reply(200, "text/html", BLANK);
      else if (request.url !== "/heartwheel.js") reply(426, "text/plain", "upgrade\n");
      else reply(200, "text/javascript", readFileSync(`${app}/heartwheel.js`));
    },
    script(peer) {
      peer.at = performance.now();
      peers.push(peer);
      script(peer, peers.length);
    },
  });
  const page = await browser.newPage();
  await page.goto(server.origin);
  const seen = async (type) => (await page.evaluate(() => seen)).filter((one) => one.type === type);
  const end = async () => { await page.close(); server.close(); };
  return { page, peers, seen, end };
}

const hello = (peer, heartbeat_ms = 30_000) =>
  peer.say({ op: "hello", connection: "1", heartbeat_ms, read_idle_ms: 60_000, message_bytes: 1000 });

const inState = async (seen, name) => (await seen("state")).find(({ state }) => state === name);

const clientTests = {
  async "a script and a module both define it, together too"() {
    const { page, end } = await scripted({ script: hello });
    assert.equal(await page.evaluate("typeof Heartwheel"), "function");
    const content = 'import "/heartwheel.js"; new Heartwheel().close(); globalThis.done = true;';
    await page.addScriptTag({ type: "module", content });
    await page.waitForFunction("window.done");
    await end();
  },

  // The third connection is a restarted server whose clock is behind: its ids are lower.
  async "duplicates are dropped, also after a gap"() {
    const event = (id) => ({ op: "event", topic: "t", id, data: id });
    const afters = [];
    const { page, seen, end } = await scripted({
      script(peer, number) {
        hello(peer);
        peer.onmessage = ({ op, topic, after }) => {
          if (op !== "subscribe") return;
          afters.push(after);
          const ids = [
            ["100-7", "100-65543", "100-7", "100-65543", "101-7", "99-7"],
            ["101-7", "102-7", "101-7"],
            ["50-9", "51-9", "50-9", "51-65545"],
          ][number - 1];
          if (number === 2) peer.say({ op: "gap", topic, first: "101-7" }); // told needlessly
          if (number === 3) peer.say({ op: "gap", topic, first: "50-9" });
          ids.forEach((id) => peer.say(event(id)));
          peer.say({ op: "subscribed", topic, last: ids.at(-1) });
          if (number < 3) setTimeout(() => peer.drop(), 50);
        };
      },
    });
    await page.evaluate(() => watch(new Heartwheel(), "t"));
    await until("the last event", async () => (await seen("event")).at(-1)?.id === "51-65545", 8000);
    const ids = (await seen("event")).map(({ id }) => id);
    assert.deepEqual(ids, ["100-7", "100-65543", "101-7", "102-7", "50-9", "51-9", "51-65545"]);
    assert.deepEqual(afters, [undefined, "101-7", "102-7"]);
    assert.equal((await seen("gap")).length, 2);
    await end();
  },

  async "bytes, errors and pressure arrive, and a fault of the page stops nothing"() {
    const { page, seen, end } = await scripted({
      script(peer) {
        hello(peer);
        peer.onmessage = ({ op, topic, ref }) => {
          if (op === "publish") return peer.say({ op: "error", code: "forbidden", message: "no", ref });
          if (topic === "no") return peer.say({ op: "error", code: "limit", message: "full", ref });
          peer.say({ op: "pressure", level: 2 });
          if (topic === "throws") peer.say({ op: "event", topic, id: "1-1", data: 1 });
          else peer.say({ op: "event", topic, id: "2-1", base64: "AP8Q" });
        };
      },
    });
    await page.evaluate(() => {
      globalThis.wheel = watch(new Heartwheel());
      wheel.subscribe("throws", () => { throw new Error("the page's fault"); });
      watch(wheel, "constructor", "no");
    });
    await until("bytes", async () => (await seen("event")).length === 1);
    assert.deepEqual((await seen("event"))[0].bytes, [0, 255, 16]);
    await until("an error", async () => (await seen("error"))[0]?.topic === "no");
    assert.equal((await seen("pressure"))[0].level, 2);
    const codes = await page.evaluate(() => Promise.all(
      [wheel.publish("t", 1), wheel.publish("t", "x".repeat(2000)), wheel.publish("t", undefined)]
        .map((publish) => publish.catch((error) => error.code ?? error.name))));
    assert.deepEqual(codes, ["forbidden", "limit", "TypeError"]);
    await end();
  },

  // What is published on the dead link is unknown; what is published without one waits.
  async "a dead link is found by a ping, and left"() {
    const ops = [];
    const { page, peers, seen, end } = await scripted({
      script(peer, number) {
        hello(peer, 300);
        peer.onmessage = ({ op, ref }) => {
          ops.push(`${number} ${op}`);
          if (number === 1) return;
          if (op === "ping") peer.say({ op: "pong", ref });
          if (op === "publish") peer.say({ op: "published", ref, id: "9-9" });
        };
      },
    });
    await page.evaluate(async () => {
      globalThis.wheel = watch(new Heartwheel());
      globalThis.early = wheel.publish("t", 0).catch((error) => error.code);
      wheel.addEventListener("state", ({ detail: { state } }) => {
        if (state === "waiting") globalThis.late = wheel.publish("t", 1);
      });
    });
    await until("a second connection", () => peers.length === 2, 14_000);
    const after = peers[1].at - peers[0].at;
    assert.ok(after > 10_000 && after < 13_000, `${after} ms`);
    assert.deepEqual(await page.evaluate(() => Promise.all([early, late])), ["unknown", "9-9"]);
    assert.equal(ops.filter((op) => op === "1 ping").length, 1);
    const rtt = await page.evaluate(() => wheel.ping());
    assert.ok(rtt >= 0 && rtt < 1000);
    await sleep(1000);
    assert.equal(peers.length, 2, "a link that answers is kept");
    assert.equal((await seen("state")).filter(({ reason }) => reason === "silence").length, 1);
    await end();
  },

  async "goaway is obeyed, and publishes after it wait for the next link"() {
    const published = [];
    let leftAt;
    const { page, peers, seen, end } = await scripted({
      script(peer, number) {
        hello(peer);
        peer.onmessage = ({ op, ref, data }) => {
          if (op !== "publish") return;
          published.push([number, data]);
          if (number === 1) peer.say({ op: "goaway", retry_ms: 900 });
          peer.say({ op: "published", ref, id: "1-1" });
          if (number === 1) setTimeout(() => { leftAt = performance.now(); peer.close(1001, "retry=900"); }, 200);
        };
      },
    });
    await page.evaluate(async () => {
      const wheel = watch(new Heartwheel());
      await wheel.publish("t", "before");
      await wheel.publish("t", "after");
    });
    assert.deepEqual(published, [[1, "before"], [2, "after"]]);
    const waiting = await inState(seen, "waiting");
    assert.deepEqual([waiting.delay_ms, waiting.code], [900, 1001]);
    assert.ok(peers[1].at - leftAt >= 890);
    await end();
  },

  async "close code 1008 ends it"() {
    const { page, peers, seen, end } = await scripted({
      script(peer) {
        hello(peer);
        peer.close(1008, "kicked");
      },
    });
    await page.evaluate(() => { globalThis.wheel = watch(new Heartwheel()); });
    const closed = await until("closed", () => inState(seen, "closed"));
    assert.deepEqual([closed.code, closed.reason], [1008, "kicked"]);
    assert.equal(await page.evaluate(() => wheel.publish("t", 1).catch((error) => error.code)), "closed");
    await sleep(1500);
    assert.equal(peers.length, 1);
    await end();
  },

  async "status 401 ends it"() {
    let upgrades = 0;
    const { page, seen, end } = await scripted({
      status: () => { upgrades++; return 401; },
      route: ({ url }, response) => url === "/ws" && response.writeHead(401).end(),
    });
    await page.evaluate(() => watch(new Heartwheel()));
    const closed = await until("closed", () => inState(seen, "closed"));
    assert.equal(closed.code, 401);
    await sleep(1500);
    assert.equal(upgrades, 1);
    await end();
  },

  // The stream comes in pieces that end in the middle of lines, of CRLF and of a character.
  async "where upgrades fail it reads an event stream and posts"() {
    const asked = [], posted = [];
    const { page, seen, end } = await scripted({
      status: () => 400,
      route(request, response) {
        if (request.method === "POST") {
          posted.push(`${request.url} ${request.headers["content-type"].split(";")[0]}`);
          response.end('{"id":"7-7"}');
        } else if (request.url.startsWith("/events")) {
          asked.push([request.url, request.headers["last-event-id"]]);
          response.writeHead(200, { "Content-Type": "text/event-stream" });
          const pieces = asked.length === 1
            ? ["retry: 300\n\nid: 1-3\n\n: life\n\nid: 2-3\nevent: t\nda", "ta: one\r", "\ndata: two\n\n",
              'id: 3-3\nevent: t\ndata: {"n":1}\n\n',
              'id: 4-3\nevent: binary\ndata: {"topic":"t","base64":"AP8Q"}\n\n',
              Buffer.from("id: 5-3\nevent: t\ndata: \u20ac\n\n").subarray(0, 24),
              Buffer.from("id: 5-3\nevent: t\ndata: \u20ac\n\n").subarray(24)]
            : ['event: gap\ndata: {"topic":"t","first":"6-4"}\n\nid: 5-4\n\n',
              "id: 6-4\nevent: t\ndata: end\n\n"];
          pieces.forEach((piece, index) => setTimeout(() => response.write(piece), 40 * index));
          if (asked.length === 1) setTimeout(() => response.end(), 400);
        } else return false;
        return true;
      },
    });
    await page.evaluate(() => { globalThis.wheel = watch(new Heartwheel(), "t", "u"); });
    await until("the end", async () => (await seen("event")).at(-1)?.data === "end", 9000);
    assert.deepEqual((await seen("event")).map(({ data, bytes }) => bytes ?? data),
      ["one\ntwo", { n: 1 }, [0, 255, 16], "\u20ac", "end"]);
    assert.deepEqual(asked, [["/events?topic=t&topic=u", undefined], ["/events?topic=t&topic=u", "5-3"]]);
    assert.equal((await seen("gap")).length, 1);
    assert.equal((await seen("state")).findLast(({ delay_ms }) => delay_ms).delay_ms, 300);
    const ids = await page.evaluate(() => Promise.all(
      ["text", { n: 1 }, new Uint8Array([1])].map((data) => wheel.publish("t", data))));
    assert.deepEqual(ids, ["7-7", "7-7", "7-7"]);
    const types = ["application/json", "application/octet-stream", "text/plain"];
    assert.deepEqual(posted.sort(), types.map((type) => `/topics/t ${type}`));
    await end();
  },
};

// -- The program -----------------------------------------------------------------------------------

const freePort = () => new Promise((done) => {
  const socket = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = socket.address();
    socket.close(() => done(port));
  });
});

async function start(port) {
  const child = spawn(program, ["serve", "--listen", `127.0.0.1:${port}`, "--set", "admin_listen=off"],
    { stdio: ["ignore", "ignore", process.env.VERBOSE ? "inherit" : "ignore"] });
  children.add(child);
  child.on("exit", () => children.delete(child));
  const url = `http://127.0.0.1:${port}/heartwheel.js`;
  await until("the server answers", () => fetch(url).then(({ ok }) => ok, () => false));
  return child;
}

const kill = (child) => new Promise((done) => child.on("exit", done).kill("SIGKILL"));

async function openStatus(origin, options) {
  const page = await browser.newPage(options);
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(origin);
  await page.waitForSelector("#dot.open");
  return { page, faults };
}

const arrived = (page) => page.textContent("#arrived");

async function statusPage(origin) {
  const { page, faults } = await openStatus(origin);
  const markup = "<img src=x onerror=alert(1)> & <b>";
  await page.fill("#publish [name=message]", markup);
  await page.click("#publish button");
  await until("the event arrives", async () => (await arrived(page)).includes(markup));
  await until("it is confirmed", async () => (await page.textContent("#sent")).includes(markup));

  await page.fill("#subscribe [name=topic]", "news");
  await page.press("#subscribe [name=topic]", "Enter");
  await page.fill("#publish [name=topic]", "news");
  await page.fill("#publish [name=message]", '{"a": 1}');
  await page.check("#publish [name=json]");
  await page.press("#publish [name=message]", "Enter");
  await until("JSON arrives", async () => (await arrived(page)).includes('{"a":1}'));
  await page.fill("#publish [name=topic]", "$stats");
  await page.press("#publish [name=message]", "Enter");
  const sent = () => page.textContent("#sent");
  await until("the server's own topic is refused", async () => (await sent()).includes("not published"));

  // Pings may be half a minute away, so that plot may have nothing to show.
  const drawn = () => page.evaluate(() => [...document.querySelectorAll("#plots svg")]
    .filter((svg) => svg.lastChild.getAttribute("d")?.includes("L")).length);
  await until("plots are drawn", async () => (await drawn()) >= 3, 8000);
  await until("the round trip is shown", async () => /\d ms/.test(await page.textContent("#own-more")));
  assert.deepEqual(faults, []);
  return page;
}

async function looks(origin) {
  const sizes = { light: [1280, 900], dark: [1280, 900], phone: [390, 844] };
  await Promise.all(Object.entries(sizes).map(async ([name, [width, height]]) => {
    const colorScheme = name === "dark" ? "dark" : "light";
    const { page, faults } = await openStatus(origin, { colorScheme, viewport: { width, height } });
    await page.click("#publish button");
    await sleep(2500);
    const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.ok(!isWide, `${name} scrolls sideways`);
    if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
    assert.deepEqual(faults, []);
    await page.close();
  }));
}

// Posts numbers while the server is killed and started again, and judges what two pages saw, one
// over a WebSocket and one over an event stream: each number once and in order, and those that were
// confirmed but never came lie where a gap was told.
async function restarts(origin, port, server, status) {
  const pages = await Promise.all([false, true].map(async (isBlocked) => {
    const page = await browser.newPage();
    if (isBlocked) await page.addInitScript(() => { delete globalThis.WebSocket; });
    await page.goto(`${origin}/heartwheel.js`);
    await page.addScriptTag({ path: `${app}/heartwheel.js` });
    await page.evaluate(async () => {
      globalThis.seen = [];
      globalThis.wheel = new Heartwheel("/ws");
      wheel.addEventListener("gap", () => seen.push("gap"));
      wheel.subscribe("restart", (data) => seen.push(data.n));
      while (wheel.state !== "open") await new Promise((done) => setTimeout(done, 10));
      await new Promise((done) => setTimeout(done, 200));
    });
    assert.equal(await page.evaluate(() => wheel.transport), isBlocked ? "events" : "websocket");
    return page;
  }));

  const confirmed = [];
  let n = 0;
  const post = async () => {
    const body = JSON.stringify({ n: ++n });
    const headers = { "Content-Type": "application/json" };
    const request = { method: "POST", headers, body };
    const answer = await fetch(`${origin}/topics/restart`, request).catch(() => null);
    if (answer?.ok) confirmed.push(JSON.parse(body).n);
  };
  for (let round = 0; round < 2; round++) {
    const killed = sleep(500).then(() => kill(server)).then(() => sleep(400));
    let isOver = false;
    const started = killed.then(() => start(port)).then((child) => { server = child; isOver = true; });
    for (; !isOver; await sleep(3)) await post();
    await started;
    for (let more = 0; more < 60; more++) await post();
    await sleep(2500); // the longest wait of a second try
  }
  await until("the last number is confirmed", async () => (await post(), confirmed.at(-1) === n));

  for (const page of pages) {
    const seen = await until("the last number arrives", async () => {
      const all = await page.evaluate(() => seen);
      return all.includes(n) && all;
    }, 8000);
    const numbers = seen.filter((one) => one !== "gap");
    assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), "each once and in order");
    const told = new Set();
    seen.forEach((one, at) => {
      if (one !== "gap") return;
      const before = seen.slice(0, at).findLast((one) => one !== "gap") ?? 0;
      const next = seen.slice(at).find((one) => one !== "gap") ?? Infinity;
      confirmed.filter((number) => number > before && number < next).forEach((number) => told.add(number));
    });
    const lost = confirmed.filter((number) => !numbers.includes(number) && !told.has(number));
    assert.deepEqual(lost, [], "nothing is missing in silence");
    assert.ok(seen.includes("gap"), "a restart is told");
    console.log(`     ${confirmed.length} confirmed, ${numbers.length} seen, ${told.size} in gaps`);
    await page.close();
  }
  await status.waitForSelector("#dot.open", { timeout: 8000 });
  assert.match(await arrived(status), /connection lost/);
}

// -- All of it -------------------------------------------------------------------------------------

let failures = 0;
async function test(name, run) {
  try {
    await run();
    console.log(`ok   ${name}`);
  } catch (error) {
    failures++;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}

if (screenshots) mkdirSync(screenshots, { recursive: true });
await Promise.all(Object.entries(clientTests).map(([name, run]) => test(`client: ${name}`, run)));
const port = await freePort(), origin = `http://127.0.0.1:${port}`;
await test("page and program", async () => {
  const server = await start(port);
  let status;
  await test("page: subscribe, publish, see it arrive", async () => { status = await statusPage(origin); });
  await test("page: light, dark, phone", () => looks(origin));
  const name = "program: killed twice, every event once or a gap told";
  await test(name, () => restarts(origin, port, server, status));
});
await browser.close();
process.exit(failures ? 1 : 0);
