// What all browser tests need: the program, a browser, waiting, and counting what failed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { chromium as playwright } from "playwright-core";

export const [program, app, chromiumPath, firefoxPath, screenshots] = process.argv.slice(2);

const children = new Set();
const folders = new Set();
process.on("exit", () => {
  children.forEach((child) => child.kill("SIGKILL"));
  folders.forEach((folder) => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
});

// Starts a process that does not outlive this one.
export function launch(program, args, stderr = "ignore") {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", stderr] });
  children.add(child);
  child.on("exit", () => children.delete(child));
  return child;
}

// A folder that is removed at the end.
export function scratch() {
  const folder = mkdtempSync(`${tmpdir()}/heartwheel-browser-`);
  folders.add(folder);
  return folder;
}

// Names are resolved to nothing but this machine: traffic stays on it.
export const chromium = (rules = "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", ...more) => playwright.launch({
  executablePath: chromiumPath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-proxy-server", `--host-resolver-rules=${rules}`, ...more],
});

// The machine may be busy: patience costs nothing where all is well.
export async function until(what, holds, ms = 20_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(20)) {
    const value = await holds();
    if (value) return value;
  }
  assert.fail(`not within ${ms} ms: ${what}`);
}

export async function openPage(browser, options) {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(60_000);
  return page;
}

export const freePort = () => new Promise((done) => {
  const socket = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = socket.address();
    socket.close(() => done(port));
  });
});

// Starts the program with settings like "workers=0", and waits until it answers.
export async function start(port, ...settings) {
  const all = ["admin_listen=off", ...settings].flatMap((setting) => ["--set", setting]);
  const child = launch(program, ["serve", "--listen", `127.0.0.1:${port}`, ...all],
    process.env.VERBOSE ? "inherit" : "ignore");
  const url = `http://127.0.0.1:${port}/heartwheel.js`;
  await until("the server answers", () => fetch(url).then(({ ok }) => ok, () => false));
  return child;
}

export const kill = (child) => new Promise((done) => child.on("exit", done).kill("SIGKILL"));

if (screenshots) mkdirSync(screenshots, { recursive: true });
export const browser = await chromium();

// A browser that ended, or answers no more, has said nothing about the program.
export class BrowserStopped extends Error {}

// What fails is told, and the rest goes on; the exit status says so at the end. Where the browser
// stopped the test begins again. `ONLY=` runs those alone that have it in their name.
export async function test(name, run, tries = 3) {
  if (!name.includes(process.env.ONLY ?? "")) return;
  try {
    await run();
    console.log(`ok   ${name}`);
  } catch (error) {
    if (error instanceof BrowserStopped) {
      console.log(`     ${error.message}`);
      if (tries > 1) return test(name, run, tries - 1);
      console.log(`\n== NOT TESTED, THE BROWSER STOPPED THREE TIMES: ${name}\n`);
      return;
    }
    process.exitCode = 1;
    console.log(`FAIL ${name}\n${error.stack}`);
  }
}
