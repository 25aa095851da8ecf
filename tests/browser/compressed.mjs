// Compressed messages in Chromium and in Firefox, which offer them by themselves: events of all
// sizes, short ones that go as they are, and pings between them; what a topic retains, read by a
// page that was opened again; and what is published faster than it is sent, so that events are
// dropped before they are compressed. `EVENTS=1000000` for as many.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import WebSocket from "ws";
import { inFirefox } from "./firefox.mjs";
import { browser, firefoxPath, freePort, kill, openPage, program, start, test, until } from "./support.mjs";

const EVENTS = Number(process.env.EVENTS ?? 2_000);
const RETAINED = 2000;

// Gives an event. Runs in the page, too.
function event(n) {
  if (n % 10 === 3) return JSON.stringify({ n });
  const readings = { device: `gw-${(n * 31) % 97}`, n, celsius: (n * 7) % 90, unit: "\u00b0C" };
  const count = n % 50 === 7 ? 300 : 6;
  for (let at = 0; at < count; at += 1) readings[`k${at}`] = (n * (at + 3)) % 1000;
  return JSON.stringify(readings);
}

// Runs in the page: reads a topic up to its event LAST.
function read() {
  return new Promise((done) => {
    const socket = new WebSocket("SERVER/topics/TOPIC?after=0-0");
    const heard = { extensions: "", came: 0, first: -1, last: -1, wrong: 0 };
    socket.onopen = () => { heard.extensions = socket.extensions; };
    socket.onclose = ({ code }) => done({ ...heard, code });
    socket.onmessage = ({ data }) => {
      const { n } = JSON.parse(data);
      if (n <= heard.last || data !== event(n)) heard.wrong += 1;
      if (heard.came === 0) heard.first = n;
      heard.came += 1;
      heard.last = n;
      if (n === LAST) socket.close(1000);
    };
  });
}

const script = (origin, topic, count) => `async () => {
  ${event}
  return await (${read})();
}`.replace("SERVER", origin.replace("http", "ws")).replace("TOPIC", topic).replace("LAST", count - 1);

// Publishes events over /ws, some hundreds of which wait for their answers.
async function publish(origin, topic, count) {
  const socket = new WebSocket(`${origin.replace("http", "ws")}/ws`, "heartwheel.v1");
  let published = 0, answered = 0;
  await new Promise((done, fail) => {
    const more = () => {
      for (; published < count && published - answered < 400; published += 1) {
        const text = event(published);
        socket.send(JSON.stringify({ op: "publish", topic, ref: published, data: text }));
      }
    };
    socket.onopen = more;
    socket.onclose = ({ code, reason }) => fail(new Error(`the publisher was closed: ${code} ${reason}`));
    socket.onmessage = ({ data }) => {
      const { op } = JSON.parse(data);
      if (op === "error") fail(new Error(data));
      if (op === "published" && (answered += 1) === count) done();
      else more();
    };
  });
  socket.onclose = null;
  socket.close(1000);
}

async function serving(...settings) {
  const [port, admin] = [await freePort(), await freePort()];
  // Firefox stops reading for a while where a page has much to do.
  const child = await start(port, "compression.mode=on", "heartbeat.interval=1s", "heartbeat.pong=2m",
    "deadlines.write_stall=5m", "deadlines.read_idle=10m", "topics.retain_bytes=64m",
    `topics.retain_events=${RETAINED}`, `admin_listen=127.0.0.1:${admin}`, ...settings);
  const figures = async () => {
    const text = await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text();
    const value = (name) => Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1]);
    const sent = (form) => value(`heartwheel_compressed_bytes_total{direction="sent",form="${form}"}`);
    return { plain: sent("plain"), wire: sent("wire"), pings: value("heartwheel_pings_sent_total"),
      open: value('heartwheel_connections{transport="websocket",phase="open",subprotocol="none"}') };
  };
  return { child, origin: `http://127.0.0.1:${port}`, figures };
}

async function readWhilePublished(run, { origin, figures }, topic, count) {
  const reading = run(`${origin}/heartwheel.js`, script(origin, topic, count));
  const reads = until("the page reads", async () => (await figures()).open === 1, 60_000);
  await Promise.race([reads, reading]);
  await publish(origin, topic, count);
  const heard = await reading;
  assert.deepEqual([heard.code, heard.wrong, heard.last], [1000, 0, count - 1], JSON.stringify(heard));
  assert.match(heard.extensions, /^permessage-deflate/);
  return heard;
}

async function readsEverything(run) {
  const server = await serving("limits.outbox_bytes=512m", "limits.memory_bytes=2g");
  const before = await server.figures();
  const heard = await readWhilePublished(run, server, "all", EVENTS);
  assert.equal(heard.came, EVENTS);
  const { plain, wire, pings } = await server.figures();
  const share = (wire - before.wire) / (plain - before.plain);
  console.log(`     ${EVENTS} events, ${pings} pings: ${wire} bytes of ${plain}, ${share.toFixed(3)}`);
  // By itself an event of less than 512 bytes goes as it is: it was compressed against another one.
  // A page that is further behind than what is retained has no history for a while.
  const most = EVENTS > RETAINED ? 0.7 : 0.5;
  assert.ok(plain > 100 * EVENTS && share < most, "compressed, with history");
  // A page that is opened again gets what is retained.
  const again = await run(`${server.origin}/heartwheel.js`, script(server.origin, "all", EVENTS));
  assert.deepEqual([again.came, again.wrong, again.code], [Math.min(RETAINED, EVENTS), 0, 1000]);
  await kill(server.child);
}

async function readsWhatIsLeft(run, policy) {
  const server = await serving("limits.send_per_second=100", "limits.outbox_bytes=8k", `overflow.policy=${policy}`);
  const count = Math.max(600, EVENTS / 10);
  const { came } = await readWhilePublished(run, server, policy, count);
  console.log(`     ${policy}: ${came} of ${count}`);
  assert.ok(came < count && came > 10, "some are dropped");
  assert.ok((await server.figures()).wire > 0);
  await kill(server.child);
}

async function tests(name, run) {
  await test(`${name} reads compressed events, and again what is retained`, () => readsEverything(run));
  for (const policy of ["drop_oldest", "latest"]) {
    await test(`${name} reads what \`${policy}\` has left`, () => readsWhatIsLeft(run, policy));
  }
}

if (spawnSync(program, ["check", "--set", "compression.mode=on"]).status !== 0) {
  console.log("== COMPRESSION WAS NOT TESTED: THE PROGRAM IS WITHOUT THE FEATURE `deflate`");
} else {
  await tests("Chromium", async (url, script) => {
    const page = await openPage(browser);
    try {
      await page.goto(url);
      return await page.evaluate(`(${script})()`);
    } finally {
      await page.close();
    }
  });
  if (firefoxPath) await tests("Firefox", inFirefox);
}
