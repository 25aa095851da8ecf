// Every piece of JavaScript and HTML that the README, the docs and the examples print is run as it
// stands there, at the address that is printed, and must show what is expected of it here.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { app, chromium, freePort, kill, openPage, start, test, until } from "./support.mjs";

const ID = String.raw`\d{13}-\d+`;

// By file and place in it: what comes on the console, or from a worker; `act` does what a person
// would. Meanwhile "hello" is published to the topic chat again and again.
const EXPECTED = {
  "README.md 1": { shows: [RegExp(`^${ID} hello$`)] },
  "src/app/heartwheel.js 1": { shows: [], ends: `typeof id === "string" && wheel.state === "open"` },
  "src/guide/configuration.md 1": { shows: [] },
  "src/guide/protocol.md 1": { shows: [RegExp(`^${ID} hello$`)] },
  "src/guide/protocol.md 2": { shows: [RegExp(`^${ID} hello$`)] },
  "src/guide/protocol.md 3": { shows: [RegExp(`^${ID}$`)] },
  "src/guide/protocol.md 4": {
    shows: [/^connecting$|^open$/, RegExp(`^chat ${ID} hello$`), RegExp(`^published ${ID}$`)],
  },
  "src/guide/protocol.md 5": { shows: [RegExp(`^${ID} hello$`)] },
  "src/guide/protocol.md 6": { shows: [/^subscribed undefined$/, /^event hello$/] },
  "src/guide/protocol.md 7": { shows: [] },
  "examples/chat.rs 1": {
    shows: [],
    async act(page) {
      await page.fill("#say input", "from a person");
      await page.press("#say input", "Enter");
    },
    ends: `said.innerText.includes("from a person")`,
  },
};

// -- Finding them -----------------------------------------------------------------------------------

const root = resolve(app, "../..");
const files = ["README.md", "CHANGELOG.md"];
for (const folder of ["src", "examples", "benches", "tests"]) {
  for (const entry of readdirSync(`${root}/${folder}`, { recursive: true, withFileTypes: true })) {
    const path = `${entry.parentPath ?? entry.path}/${entry.name}`.replace(`${root}/`, "");
    if (entry.isFile() && /\.(md|rs|h|c|js)$/.test(path) && !/node_modules|target\//.test(path)) files.push(path);
  }
}

function snippets(file) {
  const text = readFileSync(`${root}/${file}`, "utf8");
  // The usage in the head of the client is the paragraph that makes one.
  if (file.endsWith("heartwheel.js")) {
    const head = text.slice(0, text.indexOf('"use strict"')).replace(/^\/\/ ?/gm, "");
    return head.split("\n\n").filter((part) => /^ .*new Heartwheel\(/.test(part)).map((code) => ({ code, language: "js" }));
  }
  const plain = text.replace(/^[ \t]*\/\/[/!] ?/gm, "");
  const fenced = [...plain.matchAll(/^```(js|javascript|html)\n(.*?)^```$/gms)];
  const found = fenced.map(([, language, code]) => ({ code, language }));
  const inline = [...plain.matchAll(/`(new Heartwheel\([^`]*)`/g)].map(([, code]) => ({ code, language: "js" }));
  const pages = file.startsWith("examples/") ? [...text.matchAll(/r#"([^#]*<script.*?)"#/gs)] : [];
  return [...found, ...inline, ...pages.map(([, code]) => ({ code, language: "html" }))];
}

const found = files.flatMap((file) => {
  const all = snippets(file);
  return all.map((snippet, n) => ({ name: `${file} ${n + 1}`, ...snippet }));
});

// -- Running them -----------------------------------------------------------------------------------

// What is printed says port 8765. The browser takes every port of this address for that of the program.
const ORIGIN = "http://127.0.0.1:8765";
const port = await freePort(), server = await start(port);
const browser = await chromium(`MAP 127.0.0.1 127.0.0.1:${port}, MAP * ~NOTFOUND`,
  // A page that a test puts in comes from no network, so that even this machine is foreign to it.
  "--disable-features=LocalNetworkAccessChecks");
let isOver = false;
const publishing = (async () => {
  for (; !isOver; await sleep(200)) await fetch(`http://127.0.0.1:${port}/topics/chat`, { method: "POST", body: "hello" });
})();

async function run({ code, language, name }) {
  const expected = EXPECTED[name];
  assert.ok(expected, "nobody has said what it shows: see EXPECTED");
  const page = await openPage(browser);
  const shown = [], faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => (message.type() === "error" ? faults : shown).push(message.text()));
  const isWorker = code.includes("importScripts(");
  const [path, served] = language === "html" ? ["/printed", code] : ["/printed", "<!doctype html><title>blank</title>"];
  await page.route(`${ORIGIN}${path}`, (route) => route.fulfill({ contentType: "text/html", body: served }));
  await page.route(`${ORIGIN}/printed.js`, (route) => route.fulfill({ contentType: "text/javascript", body: code }));
  // A console is opened on the status page; what needs the client stands on a page that has it.
  const isConsole = language !== "html" && !isWorker && !code.includes("new Heartwheel(");
  await page.goto(isConsole ? `${ORIGIN}/` : `${ORIGIN}${path}`);
  if (isWorker) {
    await page.evaluate(() => {
      const worker = new Worker("/printed.js");
      worker.onmessage = ({ data }) => console.log([data].flat().join(" "));
      worker.onerror = ({ message }) => console.error(message);
    });
  } else if (language !== "html") {
    if (!isConsole) await page.addScriptTag({ url: "/heartwheel.js" });
    await page.evaluate(() => Object.assign(globalThis, { url: "/ws", token: "secret" }));
    // As a console does: `await` and names that nobody declared are allowed.
    const session = await page.context().newCDPSession(page);
    const { exceptionDetails } = await session.send("Runtime.evaluate", { expression: code, replMode: true, awaitPromise: true });
    if (exceptionDetails) faults.push(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }
  await expected.act?.(page);
  const holds = async () => faults.length || (expected.shows.every((line) => shown.some((one) => line.test(one))) &&
    (!expected.ends || await page.evaluate(expected.ends)));
  await until(`it shows ${expected.shows} ${expected.ends ?? ""}, seen: ${shown.join(" | ")}`, holds);
  assert.deepEqual(faults, []);
  await page.close();
}

for (const snippet of found) await test(`printed: ${snippet.name}`, () => run(snippet));
await test("printed: nothing else uses what a browser has", () => {
  assert.deepEqual(found.map(({ name }) => name).sort(), Object.keys(EXPECTED).sort());
  const uses = (text) => text.match(/new (WebSocket|EventSource|Heartwheel)\(|importScripts\(/g)?.length ?? 0;
  for (const file of files.filter((file) => !file.startsWith("tests/") && !file.endsWith(".js"))) {
    const own = found.filter(({ name }) => name.startsWith(`${file} `));
    const printed = own.reduce((sum, { code }) => sum + uses(code), 0);
    assert.equal(uses(readFileSync(`${root}/${file}`, "utf8")), printed, file);
  }
});
isOver = true;
await publishing;
await browser.close();
await kill(server);
