// Pages of a foreign origin, in Chromium and in Firefox: an admitted one publishes JSON with a token
// and subscribes in every way there is; one that is not admitted learns so, and stops.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { inFirefox } from "./firefox.mjs";
import { serve } from "./scripted.mjs";
import { app, browser, firefoxPath, freePort, kill, openPage, scratch, start, test } from "./support.mjs";

// Runs in the page. `SERVER` is put in as it is sent there.
async function useEverything() {
  const token = "secret", heard = {};
  const headers = { Authorization: `Bearer ${token}` };
  const within = (promise, what) => Promise.race([promise,
    new Promise((_, fail) => setTimeout(() => fail(new Error(`nothing came: ${what}`)), 10_000))]);

  const json = JSON.stringify({ celsius: 21.5 });
  const publish = async (topic) => {
    const request = { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: json };
    return (await (await fetch(`SERVER/topics/${topic}`, request)).json()).id;
  };
  heard.published = /^\d+-\d+$/.test(await publish("plain"));
  const plain = await fetch("SERVER/topics/plain", { headers });
  heard.plain = [plain.headers.get("Event-Id") !== null, await plain.json()];
  const gap = await fetch("SERVER/topics/plain?after=5-5", { headers });
  heard.gap = gap.headers.get("Event-Gap") !== null;

  // A first read is the position: the stream is open when something is published.
  const accept = { ...headers, Accept: "text/event-stream", "Last-Event-ID": "0-0" };
  const stream = await fetch("SERVER/topics/fetched", { headers: accept });
  const reader = stream.body.getReader(), decoder = new TextDecoder();
  let text = decoder.decode((await reader.read()).value);
  await publish("fetched");
  while (!text.includes(json)) {
    const { value } = await within(reader.read(), "fetch");
    text += decoder.decode(value, { stream: true });
  }
  reader.cancel();
  heard.fetch = text.includes(`data: ${json}`);

  const source = new EventSource(`SERVER/events?topic=streamed&access_token=${token}`);
  await within(new Promise((done) => { source.onopen = done; }), "EventSource opens");
  const streamed = new Promise((done) => source.addEventListener("streamed", ({ data }) => done(data)));
  await publish("streamed");
  heard.eventSource = await within(streamed, "EventSource");
  source.close();

  const script = document.createElement("script");
  const isLoaded = new Promise((done, fail) => Object.assign(script, { onload: done, onerror: fail }));
  document.head.append(Object.assign(script, { src: "SERVER/heartwheel.js" }));
  await within(isLoaded, "the client");
  const wheel = new Heartwheel("SERVER/ws", { token });
  const arrived = new Promise((done) => wheel.subscribe("socket", (data, { topic }) => done([topic, data])));
  await within(new Promise((done) => wheel.addEventListener("state", ({ detail }) =>
    detail.state === "open" && done())), "WebSocket opens");
  heard.transport = wheel.transport;
  await wheel.publish("socket", { celsius: 21.5 });
  heard.webSocket = await within(arrived, "WebSocket");
  const bytes = new Promise((done) => wheel.subscribe("bytes", (data) => done([...data])));
  await wheel.publish("bytes", new Uint8Array([0, 255]));
  heard.bytes = await within(bytes, "bytes");
  wheel.close();
  return heard;
}

const HEARD = {
  published: true,
  plain: [true, { celsius: 21.5 }],
  gap: true,
  fetch: true,
  eventSource: '{"celsius":21.5}',
  transport: "websocket",
  webSocket: ["socket", { celsius: 21.5 }],
  bytes: [0, 255],
};

async function learnsThatItIsRefused() {
  const script = document.createElement("script");
  const isLoaded = new Promise((done, fail) => Object.assign(script, { onload: done, onerror: fail }));
  document.head.append(Object.assign(script, { src: "/heartwheel.js" }));
  await isLoaded;
  const ends = (options) => new Promise((done) => {
    const wheel = new Heartwheel("SERVER/ws", options);
    wheel.addEventListener("state", ({ detail: { state, code } }) => state === "closed" && done(code));
    setTimeout(() => done(`still ${wheel.state}`), 10_000);
  });
  return Promise.all([ends({}), ends({ token: "secret" })]);
}

const tokens = `${scratch()}/tokens`;
writeFileSync(tokens, "secret publish=* subscribe=*\n");
const port = await freePort(), server = `http://127.0.0.1:${port}`;
// Pages of two origins, of which the first one is admitted. Both have the client at hand.
const pages = await Promise.all([0, 0].map(() => serve({
  answer({ url }, response) {
    const isClient = url === "/heartwheel.js";
    response.writeHead(200, { "Content-Type": isClient ? "text/javascript" : "text/html" });
    response.end(isClient ? readFileSync(`${app}/heartwheel.js`) : "<!doctype html><title>page</title>");
  },
  script() {},
})));
const [admitted, refused] = pages.map(({ origin }) => origin.replace("127.0.0.1", "localhost"));
const program = await start(port, `admission.tokens=${tokens}`, `admission.origins=${admitted}`);

const inChromium = async (url, script) => {
  const page = await openPage(browser);
  await page.goto(url);
  const result = await page.evaluate(`(${script})()`);
  await page.close();
  return result;
};
async function all(name, run) {
  const script = (body) => body.toString().replaceAll("SERVER", server);
  await test(`foreign: an admitted page does everything in ${name}`, async () =>
    assert.deepEqual(await run(admitted, script(useEverything)), HEARD));
  await test(`foreign: a page that is not admitted gives up in ${name}`, async () =>
    assert.deepEqual(await run(refused, script(learnsThatItIsRefused)), [403, 403]));
}

await all("Chromium", inChromium);
if (firefoxPath) {
  await all("Firefox", inFirefox);
} else console.log("\n== NO FIREFOX: FOREIGN ORIGINS WERE TESTED IN CHROMIUM ALONE\n");
pages.forEach((page) => page.close());
await kill(program);
