// Firefox by WebDriver BiDi, which it speaks itself: as much as it takes to run a script in a page.
import { openSync, readFileSync, writeFileSync } from "node:fs";
import WebSocket from "ws";
import { BrowserStopped, firefoxPath, launch, scratch, until } from "./support.mjs";

// How long an answer may take: that of a script, too.
const PATIENCE = Number(process.env.SECONDS_MAX ?? 120) * 1000;

// Opens a page in a headless Firefox of its own, since a session of several pages may stop to answer,
// and awaits what the script gives.
export async function inFirefox(url, script) {
  // Where the machine is busy Firefox may drop its first session: then another one is started.
  const { ask, close } = await begin().catch(begin);
  try {
    const { context } = await ask("browsingContext.create", { type: "tab" });
    await ask("browsingContext.navigate", { context, url, wait: "complete" });
    const expression = `(async () => JSON.stringify(await (${script})()))()`;
    const answer = await ask("script.evaluate", { expression, target: { context }, awaitPromise: true });
    if (answer.type === "exception") throw new Error(answer.exceptionDetails.text);
    return JSON.parse(answer.result.value);
  } finally {
    close();
  }
}

async function begin() {
  const folder = scratch(), log = `${folder}/log`;
  writeFileSync(`${folder}/user.js`, 'user_pref("remote.log.level", "Debug");\n');
  const child = launch(firefoxPath, ["--headless", "--no-remote", "--profile", folder,
    "--remote-debugging-port", "0", "about:blank"], openSync(log, "w"));
  const listening = () => /ws:\/\/\S+/.exec(readFileSync(log, "utf8"))?.[0];
  // Not the one of node, which ends connections when it collects garbage.
  const socket = new WebSocket(`${await until("Firefox listens", listening, 60_000)}/session`);
  await new Promise((done, fail) => Object.assign(socket, { onopen: done, onerror: fail }));
  const asked = new Map();
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    asked.get(answer.id)?.(answer);
  };
  socket.onclose = ({ code }) => {
    const said = readFileSync(log, "utf8").slice(-400);
    const message = `it has closed (${code}, exit ${child.exitCode ?? child.signalCode}): ${said}`;
    asked.forEach((answered) => answered({ type: "stopped", message }));
  };
  const ask = async (method, params, patience = PATIENCE) => {
    const id = asked.size + 1;
    const late = { type: "stopped", message: `no answer within ${patience} ms` };
    const answered = new Promise((done) => {
      asked.set(id, done);
      setTimeout(done, patience, late).unref();
    });
    socket.send(JSON.stringify({ id, method, params }));
    const { type, result, message } = await answered;
    if (type === "stopped") throw new BrowserStopped(`Firefox, ${method}: ${message}`);
    if (type === "error") throw new Error(`${method}: ${message}`);
    return result;
  };
  await ask("session.new", { capabilities: {} }, 30_000).catch((error) => {
    child.kill("SIGKILL");
    throw error;
  });
  return { ask, close: () => child.kill("SIGKILL") };
}
