// Clients made of the library `ws`, which agree on compression: clients.py says what they do.
"use strict";
const fs = require("fs");
const { WebSocket } = require("../../target/others/node_modules/ws");

const BITS = [9, 10, 11, 12, 13, 14, 15];
const WAYS = [
  {},
  { serverNoContextTakeover: true },
  { clientNoContextTakeover: true },
  { serverNoContextTakeover: true, clientNoContextTakeover: true },
  ...BITS.map((bits) => ({ serverMaxWindowBits: bits })),
  ...BITS.map((bits) => ({ clientMaxWindowBits: bits })),
  { serverMaxWindowBits: 9, clientMaxWindowBits: 9, serverNoContextTakeover: true },
];
const LENGTHS = [0, 1, 100, 600, 5000, 60000, 200000];
const RETAINED = 100;
const PUBLISHED = Number(process.env.MESSAGES ?? 400);
if (process.env.MESSAGES) WAYS.splice(1);
const host = process.argv[2];

const tell = (what, more) => fs.writeSync(1, JSON.stringify({ is: what, ...more }) + "\n");

function event(number, way) {
  if (number % 10 === 3) return `{"n": ${number}, "way": ${way}}`;
  const readings = [];
  for (let at = 0; at < (number % 30) + 8; at += 1) readings.push(`"k${at}": ${(number * at) % 1000}`);
  return `{"n": ${number}, "way": ${way}, ${readings.join(", ")}}`;
}

function text(length) {
  let text = "";
  for (let at = 0; text.length < length; at += 1) text += `reading ${(at * 7919) % 1000}: ü; `;
  return text.slice(0, length);
}

class Way {
  constructor(number) {
    this.number = number;
    this.options = WAYS[number];
  }

  check(holds, what) {
    if (!holds) tell("fault", { way: this.options, what: what.slice(0, 500) });
  }

  // Opens a socket of which the messages can be had one after the other.
  async open(path) {
    const perMessageDeflate = { ...this.options, threshold: 0 };
    const socket = new WebSocket(`ws://${host}${path}`, { perMessageDeflate });
    const messages = [];
    let wake = () => {};
    socket.on("message", (data, isBinary) => {
      messages.push(isBinary ? data : String(data));
      wake();
    });
    socket.on("error", (error) => this.check(false, `${path}: ${error.code} ${error.message}`));
    // Taking them from the front one by one takes time by their number.
    let taken = 0;
    socket.next = async () => {
      while (messages.length === taken) await new Promise((resolve) => (wake = resolve));
      const message = messages[taken];
      taken += 1;
      if (taken > 1000) taken -= messages.splice(0, taken).length;
      return message;
    };
    await new Promise((resolve) => socket.on("open", resolve));
    return socket;
  }

  async run() {
    const echo = await this.open("/echo");
    tell("agreed", { count: echo.extensions.startsWith("permessage-deflate") ? 1 : 0 });
    for (const length of LENGTHS) {
      for (const said of [text(length), Buffer.from(text(length))]) {
        echo.send(said);
        const came = await echo.next();
        const fits = typeof said === "string" ? came === said : said.equals(came);
        this.check(fits, `no echo of ${length}`);
      }
    }
    const topic = `/topics/node-${this.number}`;
    const [publisher, reader] = [await this.open(topic), await this.open(topic)];
    for (let n = 0; n < RETAINED; n += 1) publisher.send(event(n, this.number));
    await this.read(reader, 0, RETAINED);
    const late = await this.open(`${topic}?after=0-0`);
    const few = await this.read(late, 0, RETAINED);
    this.check(few === 0, `again it read ${few} too few`);
    const end = RETAINED + PUBLISHED;
    // Nobody takes what comes to the publisher.
    publisher.removeAllListeners("message");
    const read = Promise.all([late, reader].map((socket) => this.read(socket, RETAINED, end)));
    for (let n = RETAINED; n < end; n += 1) {
      publisher.send(event(n, this.number));
      // What was said goes out, and what comes is taken.
      if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      while (publisher.bufferedAmount > 1 << 20) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    tell("read", { missed: (await read)[1] });
    for (const socket of [echo, publisher, reader, late]) socket.close(1000);
  }

  // Reads up to the last one. Returns how many were missing.
  async read(socket, begin, end) {
    let [came, last] = [0, begin - 1];
    while (last < end - 1) {
      const said = await socket.next();
      const number = JSON.parse(said).n;
      this.check(last < number && said === event(number, this.number), `came ${said}`);
      [came, last] = [came + 1, number];
    }
    return end - begin - came;
  }
}

Promise.all(WAYS.map((_, number) => new Way(number).run())).then(() =>
  tell("done", { ways: WAYS.length }),
);
