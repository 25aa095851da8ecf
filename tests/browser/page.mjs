// The status page, the operator's page, and resume, against the real program, which is killed and
// started again meanwhile.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { app, browser, freePort, kill, openPage, scratch, screenshots, start, test, until } from "./support.mjs";

async function openStatus(origin, options) {
  const page = await openPage(browser, options);
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

// Its own topic feeds the plots, whether somebody wants to read it or no longer does.
async function readsStats(origin) {
  const { page, faults } = await openStatus(origin);
  const goesOn = async (what) => {
    const uptime = () => page.evaluate("history.at(-1)?.uptime_ms");
    const before = await uptime();
    await until(what, async () => (await uptime()) > before);
  };
  await page.fill("#subscribe [name=topic]", "$stats");
  await page.press("#subscribe [name=topic]", "Enter");
  await until("figures are listed", async () => (await arrived(page)).includes('"uptime_ms":'));
  await goesOn("the figures go on beside the list");
  await page.click("text=$stats ×");
  await goesOn("they go on without it");
  const listed = await arrived(page);
  await sleep(1500);
  assert.equal(await arrived(page), listed, "the list does not");
  assert.deepEqual(faults, []);
  await page.close();
}

// What is not known is not a figure, and panes that have nothing to show say what they are for.
async function emptyPanes() {
  const port = await freePort(), server = await start(port);
  const { page, faults } = await openStatus(`http://127.0.0.1:${port}`);
  for (const [id, words] of [["sent", "What you publish is listed"], ["arrived", "Events of the topics above"]]) {
    const shown = await page.evaluate((id) => getComputedStyle($(id), "::before").content, id);
    assert.ok(shown.includes(words), shown);
  }
  if (screenshots) await page.screenshot({ path: `${screenshots}/empty.png`, fullPage: true });
  // A server that has done nothing yet.
  await page.evaluate(() => {
    wheel.close();
    history.length = 0;
    take({ at_ms: 1, uptime_ms: 0, version: "0", connections: {}, ping_rtt_ms: null, turn_us: null, closed: {} }, "1-1");
  });
  const card = (title) => page.locator(".card", { hasText: title });
  await until("it is drawn", async () => (await page.textContent("#about")) === "0, up 0 s");
  assert.match(await card("Ping round trip").innerText(), /no ping was answered yet/);
  assert.match(await card("Ping round trip").innerText(), /mean\s+–\s+longest\s+–/);
  assert.match(await card("Deadlines fired").innerText(), /no deadline has acted yet/);
  assert.match(await card("Closed, by reason").innerText(), /no connection has ended yet/);
  const units = "[us(null), us(250), us(15_000), us(1.5e6), ms(null), ms(0), ms(0.4), ms(3), ms(3.26), ms(15.2)]";
  assert.deepEqual(await page.evaluate(units),
    ["–", "250 µs", "15 ms", "1500 ms", "–", "< 1 ms", "< 1 ms", "3 ms", "3.3 ms", "15 ms"]);
  // A gap that no restart explains.
  await page.evaluate(() => wheel.dispatchEvent(new CustomEvent("gap", { detail: { topic: "hello", first: null } })));
  assert.match(await arrived(page), /hello: events are missing here; this page was away, or too slow/);
  assert.deepEqual(faults, []);
  await page.close();
  await kill(server);
}

async function asksForToken() {
  const tokens = `${scratch()}/tokens`;
  writeFileSync(tokens, "all publish=* subscribe=*\nlittle subscribe=hello\n");
  const port = await freePort(), server = await start(port, `admission.tokens=${tokens}`);
  const page = await openPage(browser);
  await page.goto(`http://127.0.0.1:${port}`);
  const asked = (words) => until(words, async () => (await page.innerText("#token")).includes(words));
  const give = async (token) => {
    await page.fill("#token [name=token]", token);
    await page.click("#token button");
  };
  await asked("This server asks for a token");
  assert.match(await page.innerText("#plots"), /no figures without a token/);
  if (screenshots) await page.screenshot({ path: `${screenshots}/token.png`, fullPage: true });
  await give("wrong");
  await asked("does not take this token");
  await give("little");
  await page.waitForSelector("#dot.open");
  assert.ok(!(await page.isVisible("#token")));
  await until("it says why there are no figures", async () =>
    (await page.innerText("#plots")).includes("this token may not subscribe"));
  await page.goto(`http://127.0.0.1:${port}/?again#access_token=all`);
  await page.waitForSelector("#dot.open");
  await page.click("#publish button");
  await until("the event arrives", async () => (await arrived(page)).includes("Hello from this page"));
  assert.ok(!page.url().includes("?access_token"));
  assert.match(await page.textContent("#curl-publish"), /Bearer \$TOKEN/);
  await page.close();
  await kill(server);
}

async function operatorsPage() {
  const [port, admin] = [await freePort(), await freePort()];
  const server = await start(port, `admin_listen=127.0.0.1:${admin}`);
  for (const [name, look] of Object.entries(LOOKS)) {
    const page = await openPage(browser, look);
    const faults = [];
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    await page.goto(`http://127.0.0.1:${admin}/`);
    const text = await page.innerText("body");
    for (const words of [`the operator's listener, 127.0.0.1:${admin}`, `http://127.0.0.1:${admin}/drain`]) {
      assert.ok(text.includes(words), text);
    }
    await isNotWide(page, name);
    if (screenshots) await page.screenshot({ path: `${screenshots}/operator-${name}.png`, fullPage: true });
    const style = () => {
      const { color, backgroundColor, fontFamily, maxWidth } = getComputedStyle(document.body);
      const card = getComputedStyle(document.querySelector("section.card"));
      return [color, backgroundColor, fontFamily, maxWidth, card.backgroundColor, card.border, card.borderRadius];
    };
    const own = await page.evaluate(style);
    await page.goto(`http://127.0.0.1:${port}/`);
    assert.deepEqual(own, await page.evaluate(style), "both pages look the same");
    assert.deepEqual(faults, []);
    await page.close();
  }
  await kill(server);
}

const LOOKS = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 844 } },
  "dark-phone": { colorScheme: "dark", viewport: { width: 390, height: 844 } },
};

async function isNotWide(page, name) {
  const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.ok(!isWide, `${name} scrolls sideways`);
}

async function looks(origin) {
  for (const [name, look] of Object.entries(LOOKS)) {
    const { page, faults } = await openStatus(origin, look);
    await page.click("#publish button");
    await sleep(2500);
    await isNotWide(page, name);
    if (screenshots) await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
    assert.deepEqual(faults, []);
    await page.close();
  }
}

// Posts numbers while the server is killed and started again, and judges what two pages saw, one
// over a WebSocket and one over an event stream: each number once and in order, and those that were
// confirmed but never came lie where a gap was told.
async function restarts(origin, port, server, status) {
  const pages = await Promise.all([false, true].map(async (isBlocked) => {
    const page = await openPage(browser);
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
  await until("the gap is explained", async () => /hello: the server restarted/.test(await arrived(status)));
}

// Whatever the program was built with, and over a POST or over its WebSocket.
async function bytesComeBack(origin) {
  const { page, faults } = await openStatus(origin);
  for (const cbor of [false, true]) {
    const [ids, heard, spoken] = await page.evaluate(async (cbor) => {
      const { WebSocket } = globalThis, sockets = [];
      globalThis.WebSocket = class extends WebSocket {
        constructor(...given) { super(...given); sockets.push(this); }
      };
      const wheel = new Heartwheel("/ws", { cbor }), heard = [], topic = `bytes-${cbor}`;
      globalThis.WebSocket = WebSocket;
      const all = [new Uint8Array([0, 255]), new Uint8Array(70_000).fill(7), "\u{1f600}", { n: [1.5] }];
      const came = new Promise((done) => wheel.subscribe(topic, (data, { id }) => {
        heard.push([id, data instanceof Uint8Array ? [data.length, data[0], data.at(-1)] : data]);
        if (heard.length === all.length) done();
      }));
      const ids = [];
      for (const data of all) ids.push(await wheel.publish(topic, data));
      await came;
      wheel.close();
      return [ids, heard, sockets[0].protocol];
    }, cbor);
    const expected = [[2, 0, 255], [70_000, 7, 7], "\u{1f600}", { n: [1.5] }];
    assert.deepEqual(heard, ids.map((id, index) => [id, expected[index]]));
    console.log(`     ${spoken}`);
  }
  assert.deepEqual(faults, []);
  await page.close();
}

const port = await freePort(), origin = `http://127.0.0.1:${port}`;
const server = await start(port);
let status;
await test("page: subscribe, publish, see it arrive", async () => { status = await statusPage(origin); });
await test("page: bytes come back as they were published", () => bytesComeBack(origin));
await test("page: light, dark, phone", () => looks(origin));
await test("page: subscribing to $stats does not stop the figures", () => readsStats(origin));
await test("page: what is not known yet is said", emptyPanes);
await test("page: without a token it asks for one", asksForToken);
await test("page: the operator's looks like the other and names its address", operatorsPage);
await test("program: killed twice, every event once or a gap told", () => restarts(origin, port, server, status));
