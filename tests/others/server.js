// A server of topics made of the library `ws`: server.py says what it does.
"use strict";
const fs = require("fs");
const { WebSocketServer } = require("../../target/others/node_modules/ws");

const MESSAGE_BYTES = 8 << 20;
const [port, script] = process.argv.slice(2);
const steps = JSON.parse(fs.readFileSync(script, "utf8"));
const done = new Set();
const published = new Map();
let connections = 0;
let hasBroken = false;

const tell = (what, more) => fs.writeSync(1, JSON.stringify({ is: what, ...more }) + "\n");
const fault = (error) => tell("fault", { what: `${error.code} ${error.message}` });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  maxPayload: MESSAGE_BYTES,
  perMessageDeflate: true,
  handleProtocols: (offered) => (offered.has("heartwheel.v1") ? "heartwheel.v1" : false),
});
server.on("wsClientError", fault);
server.on("listening", () => tell("listening", { port: server.address().port }));
server.on("connection", (socket) => {
  connections += 1;
  tell("open", { subprotocol: socket.protocol, extensions: socket.extensions ? 1 : 0 });
  const say = (message) => socket.send(JSON.stringify(message));
  say({
    op: "hello",
    connection: String(BigInt(connections) << 24n),
    heartbeat_ms: 30000,
    read_idle_ms: 60000,
    message_bytes: MESSAGE_BYTES,
  });
  let client;
  socket.on("error", fault);
  socket.on("close", (code) => tell("closed", { code: code === 1006 ? null : code }));
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.op === "hello") client = message.client;
    else if (message.op === "publish") take(socket, client, message, say);
    else lead(socket, message, say);
  });
});

async function lead(socket, { topic, after }, say) {
  tell("subscribe", { topic, after: after ?? null });
  const ids = steps[topic].map((step) => step.id);
  const at = after === undefined ? -1 : ids.indexOf(after);
  socket.ping("are you there?");
  const [data] = await new Promise((resolve) => socket.once("pong", (...got) => resolve(got)));
  if (String(data) !== "are you there?") fault({ code: "pong", message: String(data) });
  tell("pong");
  say({ op: "subscribed", topic, last: at < 0 ? "0-0" : after });
  for (let number = at + 1; number < ids.length; number += 1) {
    if (socket.readyState !== socket.OPEN) return;
    const key = `${topic} ${number}`;
    const isFirst = !done.has(key);
    done.add(key);
    await act(socket, steps[topic][number], isFirst);
  }
}

async function act(socket, step, isFirst) {
  if (step.pieces) await inPieces(socket, Buffer.from(step.say));
  else if (step.say) await new Promise((resolve) => socket.send(step.say, resolve));
  else if (step.pause) await sleep(step.pause * 1000);
  else if (!isFirst) return;
  else if (step.close) socket.close(step.close, step.reason);
  else if (step.reset) socket.terminate();
  else if (step.kill) process.kill(process.pid, "SIGKILL");
}

async function inPieces(socket, message) {
  for (let number = 0; number < message.length; number += 1) {
    const fin = number + 1 === message.length;
    const piece = message.subarray(number, number + 1);
    await new Promise((resolve) => socket.send(piece, { binary: false, fin }, resolve));
    if (number % 8 === 0) socket.ping();
  }
}

function take(socket, client, message, say) {
  if (socket.readyState !== socket.OPEN) return;
  const key = `${client} ${message.ref}`;
  const again = published.has(key);
  if (!again) published.set(key, `${1000 + published.size}-1`);
  const id = published.get(key);
  tell("publish", { data: message.data, id, again });
  if (published.size === 10 && !hasBroken) {
    hasBroken = true;
    socket.terminate();
  } else say({ op: "published", ref: message.ref, id });
}
