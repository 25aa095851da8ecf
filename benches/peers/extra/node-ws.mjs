#!/usr/bin/env node
// The npm package ws, with the masking in C that its documentation recommends (bufferutil).

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";

const { values } = parseArgs({ options: { listen: { type: "string" } } });
const [host, port] = values.listen?.split(":") ?? [];
if (!port) {
  console.error("--listen ADDRESS:PORT is missing");
  process.exit(2);
}
const http = createServer();
const server = new WebSocketServer({ server: http, clientTracking: false });

server.on("connection", socket => {
  socket.on("message", (message, isBinary) => socket.send(message, { binary: isBinary }));
  socket.on("error", () => {});
});

http.listen({ host, port: Number(port), backlog: 4096 }, () => {
  console.log(`listening ${host}:${http.address().port}`);
});
