// The client `heartwheel.js` alone, against servers that follow a script.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "./scripted.mjs";
import { app, browser, openPage, test, until } from "./support.mjs";

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
async function scripted({ scripts = ["heartwheel.js", "cbor.js"], status, choose, route = () => false, script = () => {} }) {
  const peers = [];
  const server = await serve({
    status,
    choose,
    answer(request, response) {
      const reply = (code, type, body) => response.writeHead(code, { "Content-Type": type }).end(body);
      if (route(request, response)) return;
      if (request.url === "/") reply(200, "text/html", BLANK);
      else if (request.url !== "/heartwheel.js") reply(426, "text/plain", "upgrade\n");
      else reply(200, "text/javascript", scripts.map((name) => readFileSync(`${app}/${name}`)).join(""));
    },
    script(peer, request) {
      peer.at = performance.now();
      peers.push(peer);
      script(peer, peers.length, request);
    },
  });
  const page = await openPage(browser);
  await page.goto(server.origin);
  const seen = async (type) => (await page.evaluate(() => seen)).filter((one) => one.type === type);
  const end = async () => { await page.close(); server.close(); };
  return { page, peers, seen, end, origin: server.origin };
}

// A server counts its connections, in the upper 40 bits of their ids.
let greeted = 0n;
const hello = (peer, heartbeat_ms = 30_000, connection = `${++greeted << 24n}`) =>
  peer.say({ op: "hello", connection, heartbeat_ms, read_idle_ms: 60_000, message_bytes: 1000 });

const inState = async (seen, name) => (await seen("state")).find(({ state }) => state === name);

const tests = {
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

  async "in CBOR bytes travel as they are, both ways"() {
    const offers = [], said = [], large = Buffer.alloc(70_000, 7);
    const { page, seen, end } = await scripted({
      script(peer, number, { headers }) {
        offers.push(headers["sec-websocket-protocol"]);
        // Members that no client knows yet, of all kinds.
        peer.say({ later: [1.5, -300, { a: [true, null] }], op: "hello", connection: `${1n << 24n}`,
          heartbeat_ms: 0, read_idle_ms: 60_000, message_bytes: 60_000 });
        peer.onmessage = (message) => {
          said.push(message);
          const { op, topic, ref } = message;
          if (op === "ping") peer.say({ op: "pong", ref });
          if (op === "publish") peer.say({ op: "published", ref, id: `${said.length}-1` });
          if (topic === "no") peer.say({ op: "error", code: "limit", message: "full", ref });
          if (op !== "subscribe" || topic !== "t") return;
          peer.say({ op: "gap", topic, first: null });
          for (const [id, event] of [["1-1", { data: Buffer.from([0, 255]) }], ["2-1", { data: "\ufeff\u00fc\u{1f600}" }],
            ["3-1", { json: '{"n": [1.50]}' }], ["4-1", { data: large }], ["4-1", { data: "twice" }]]) {
            peer.say({ op: "event", topic, id, ...event });
          }
          peer.say({ op: "subscribed", topic, last: "4-1" });
        };
      },
    });
    const ids = await page.evaluate(async () => {
      globalThis.wheel = watch(new Heartwheel("/ws", { cbor: true, token: "abc" }), "t", "no");
      const bytes = new Uint8Array([9, 1, 2, 9]);
      const published = [bytes.subarray(1, 3), bytes.buffer, new DataView(bytes.buffer, 3), "\u00fc\ud83c", { n: 1 },
        null, "", new Uint8Array(0)].map((data) => wheel.publish("t", data));
      bytes.fill(0); // a copy was taken
      published.push(wheel.publish("t", new Uint8Array(300), { trace: "00-1-2-3" }));
      return Promise.all(published);
    });
    assert.equal(offers[0], "heartwheel.v1.cbor, heartwheel.v1, heartwheel.bearer.abc");
    const published = said.filter(({ op }) => op === "publish");
    assert.deepEqual(published.map(({ data, json }) => data instanceof Buffer ? [...data].slice(0, 4) : data ?? { json }),
      [[1, 2], [9, 1, 2, 9], [9], "\u00fc\ufffd", { json: '{"n":1}' }, { json: "null" }, "", [], [0, 0, 0, 0]]);
    assert.deepEqual(published.map(({ ref }) => ref), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.deepEqual([published[8].data.length, published[8].trace, published[7].trace], [300, "00-1-2-3", undefined]);
    assert.equal(new Set(ids).size, 9);
    const events = await until("all events", async () => {
      const events = await seen("event");
      return events.length >= 4 && events;
    });
    assert.deepEqual(events.map(({ data, bytes }) => bytes ?? data).slice(0, 3), [[0, 255], "\ufeff\u00fc\u{1f600}", { n: [1.5] }]);
    assert.deepEqual([events[3].bytes.length, events.length], [70_000, 4]);
    assert.equal((await seen("gap"))[0].first, null);
    await until("an error", async () => (await seen("error"))[0]?.topic === "no");
    const long = (size) => page.evaluate((size) => wheel.publish("t", new Uint8Array(size))
      .catch((error) => error.code), size);
    assert.deepEqual([await long(59_990), typeof await long(59_900)], ["limit", "string"]);
    assert.ok(await page.evaluate(() => wheel.ping()) >= 0);
    await end();
  },

  async "a client without CBOR offers none"() {
    const offers = [];
    const { page, seen, end } = await scripted({
      scripts: ["heartwheel.js"],
      script(peer, number, { headers }) {
        offers.push(headers["sec-websocket-protocol"]);
        hello(peer);
      },
    });
    await page.evaluate(() => watch(new Heartwheel("/ws", { cbor: true })) && undefined);
    await until("it is open", () => inState(seen, "open"));
    assert.deepEqual(offers, ["heartwheel.v1"]);
    await end();
  },

  // What was said in CBOR cannot be told from what a POST would publish.
  async "a server that chooses JSON gets JSON, and bytes by POST"() {
    const said = [], posted = [];
    const { page, seen, end } = await scripted({
      choose: (offered) => offered[said.length ? 1 : 0],
      script(peer, number) {
        hello(peer);
        peer.onmessage = ({ op, ref, data }) => {
          if (op !== "publish") return;
          said.push([number, data instanceof Buffer ? [...data] : data]);
          if (number === 1) setTimeout(() => peer.drop(), 50);
          else peer.say({ op: "published", ref, id: "1-1" });
        };
      },
      route(request, response) {
        if (request.method !== "POST") return false;
        request.on("data", (body) => posted.push([...body]));
        response.end('{"id":"2-2"}');
        return true;
      },
    });
    const outcomes = await page.evaluate(async () => {
      globalThis.wheel = watch(new Heartwheel("/ws", { cbor: true }));
      const outcome = (data) => wheel.publish("t", data).catch((error) => error.code);
      const early = [outcome(new Uint8Array([1])), outcome("text")];
      return [...await Promise.all(early), await outcome(new Uint8Array([2])), await outcome(new Blob(["b"]))];
    });
    assert.deepEqual(outcomes, ["unknown", "1-1", "2-2", "2-2"]);
    assert.deepEqual(said, [[1, [1]], [1, "text"], [2, "text"]]);
    assert.deepEqual(posted, [[2], [98]]);
    assert.equal((await seen("error")).length, 0);
    await end();
  },

  // What is published on the dead link has no answer within 10 s, so it is unknown; what is published
  // without one waits.
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

  async "who is there is asked, answered, and not asked again after a break"() {
    const asked = [];
    const { page, peers, seen, end } = await scripted({
      script(peer, number) {
        hello(peer);
        peer.onmessage = ({ op, topic, ref, info }) => {
          if (op === "subscribe") asked.push([topic, info]);
          if (op !== "presence" || number > 1) return;
          if (topic === "room") peer.say({ op, topic, count: 1, members: [{ identity: null, connection: "7" }], ref });
          else if (topic === "hall") peer.say({ op: "error", code: "bad_request", message: "no", ref });
          else peer.close();
        };
      },
    });
    await page.evaluate(() => {
      globalThis.wheel = watch(new Heartwheel());
      wheel.subscribe("room", { info: "me" }, () => {});
      wheel.subscribe("other", () => {});
      globalThis.ask = (topic) => wheel.presence(topic).catch((error) => error.code);
      globalThis.early = ask("room");
    });
    assert.equal(await page.evaluate(() => early), "unavailable", "there was no link yet");
    await until("it is open", () => inState(seen, "open"));
    const { count, members } = await page.evaluate(() => ask("room"));
    assert.deepEqual({ count, members }, { count: 1, members: [{ identity: null, connection: "7" }] });
    assert.equal(await page.evaluate(() => ask("hall")), "bad_request");
    assert.equal(await page.evaluate(() => ask("gone")), "unknown");
    assert.equal(await page.evaluate(() => wheel.presence("a b").catch(({ name }) => name)), "TypeError");
    assert.deepEqual(asked.slice(0, 2), [["room", "me"], ["other", undefined]]);
    await until("a second connection", () => peers.length === 2);
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

  // CONTRACT 8, "What follows an end": what another try would not change is for good.
  async "an end for cause ends it, any other is tried again"() {
    const final = [1002, 1003, 1007, 1008, 1009, 1010, 3000, 4409, 4500, 4999];
    const passing = [1000, 1001, 1011, 1012, 1013, 3008, 4000, 4499];
    const { page, peers, seen, end } = await scripted({
      script(peer, number, { url }) {
        hello(peer);
        peer.close(Number(url.split("=")[1]), "the reason");
      },
    });
    await page.evaluate((codes) => {
      for (const code of codes) {
        const wheel = new Heartwheel(`/ws?code=${code}`);
        wheel.addEventListener("state", ({ detail }) => {
          if (detail.code) seen.push({ type: detail.state, told: code, ...detail });
          if (detail.state === "waiting") wheel.close();
        });
        if (code === 1008) globalThis.kicked = wheel;
      }
    }, [...final, ...passing]);
    const ends = async (state) => (await seen(state)).filter(({ reason }) => reason === "the reason");
    await until("all are told", async () =>
      (await ends("closed")).length + (await ends("waiting")).length === final.length + passing.length);
    const told = async (state) => (await ends(state)).map(({ told }) => told).sort((a, b) => a - b);
    assert.deepEqual([await told("closed"), await told("waiting")], [final, passing]);
    const publish = () => kicked.publish("t", 1).catch((error) => error.code);
    assert.equal(await page.evaluate(publish), "closed");
    await sleep(1500);
    assert.equal(peers.length, final.length + passing.length);
    await end();
  },

  async "a status for cause ends it, any other is tried again"() {
    const statuses = { 400: "closed", 401: "closed", 403: "closed", 404: "closed", 405: "closed",
      429: "waiting", 500: "waiting", 503: "waiting" };
    const asked = {};
    const status = ({ url }) => Number(url.split("=")[1]);
    const { page, seen, end } = await scripted({
      status(request) {
        asked[status(request)] = (asked[status(request)] ?? 0) + 1;
        return status(request);
      },
      route: (request, response) => request.url.startsWith("/ws?") && response.writeHead(status(request)).end(),
    });
    await page.evaluate((statuses) => statuses.forEach((status) => {
      new Heartwheel(`/ws?status=${status}`).addEventListener("state", ({ detail }) =>
        detail.state !== "connecting" && seen.push({ type: "end", status, ...detail }));
    }), Object.keys(statuses));
    const first = async () => {
      const ends = await seen("end");
      return Object.fromEntries(ends.reverse().map(({ status, state }) => [status, state]));
    };
    await until("each has ended", async () => Object.keys(await first()).length === 8);
    assert.deepEqual(await first(), statuses);
    for (const { status, code } of (await seen("end")).filter(({ state }) => state === "closed")) {
      assert.equal(code, Number(status));
    }
    await until("others are tried again", () => asked[429] > 1 && asked[500] > 1 && asked[503] > 1);
    assert.deepEqual([400, 401, 403, 404, 405].map((status) => asked[status]), [1, 1, 1, 1, 1]);
    await end();
  },

  // FAULTS 178. What the server does for an origin that it does not admit: 403 which the page may
  // read, also to the preflight that a token needs, and that the browser does not show.
  async "a page of a foreign origin that is not admitted gives up"() {
    const methods = [];
    const foreign = await serve({
      status: () => 403,
      answer(request, response) {
        methods.push(`${request.method} ${request.url}`);
        const { origin } = request.headers;
        response.writeHead(403, { "Access-Control-Allow-Origin": origin, Vary: "Origin" }).end("no\n");
      },
    });
    const { page, seen, end } = await scripted({});
    for (const [url, blocked] of [["/ws", false], ["/ws?token", false], ["/ws?stream", true]]) {
      await page.evaluate(([url, blocked]) => {
        const { WebSocket } = globalThis;
        if (blocked) delete globalThis.WebSocket;
        const wheel = watch(new Heartwheel(url, { token: url.includes("?") ? "secret" : undefined }), "t");
        wheel.addEventListener("state", ({ detail }) => seen.push({ type: url, ...detail }));
        globalThis.WebSocket = WebSocket;
      }, [foreign.origin + url, blocked]);
      const closed = await until(`${url} gives up`, async () =>
        (await seen(foreign.origin + url)).find(({ state }) => state === "closed"));
      assert.equal(closed.code, 403);
    }
    assert.ok(methods.includes("OPTIONS /ws?token"), "there was a preflight");
    foreign.close();
    await end();
  },

  // FAULTS 178.
  async "a publish settles, whatever becomes of it"() {
    const published = [];
    let isOpen = true;
    const { page, peers, seen, end } = await scripted({
      status: () => isOpen ? 101 : 503,
      script(peer, number) {
        hello(peer);
        peer.onmessage = ({ op, ref, data }) => {
          if (op === "ping") peer.say({ op: "pong", ref });
          if (op === "publish") published.push(data);
          if (op === "publish" && data === "cut off") peer.drop();
        };
      },
      route({ method, url }, response) {
        if (url === "/ws") response.writeHead(503).end();
        return url === "/ws" || method === "POST"; // which nobody answers
      },
    });
    const settles = (data) => page.evaluate(async (data) => {
      const begun = performance.now();
      const payload = data === "bytes" ? new Uint8Array(1) : data;
      const code = await wheel.publish("t", payload).catch((error) => error.code);
      return { code, ms: performance.now() - begun };
    }, data);
    await page.evaluate(() => { globalThis.wheel = watch(new Heartwheel()); });
    await until("it is open", () => inState(seen, "open"));
    for (const { code, ms } of await Promise.all([settles("unanswered"), settles("bytes")])) {
      assert.equal(code, "unknown");
      assert.ok(ms > 9900 && ms < 18_000, `${ms} ms`);
    }
    const cut = await settles("cut off"); // again and again
    assert.equal(cut.code, "unknown");
    assert.ok(cut.ms > 49_900 && cut.ms < 59_000, `${cut.ms} ms`);
    await until("it is open again", () => page.evaluate(() => wheel.state === "open"), 31_000);
    isOpen = false;
    peers.at(-1).drop();
    await until("it waits", () => page.evaluate(() => wheel.state === "waiting"));
    const unsent = await settles("unsent");
    assert.equal(unsent.code, "unavailable");
    assert.ok(unsent.ms > 9900 && unsent.ms < 18_000, `${unsent.ms} ms`);
    isOpen = true;
    await until("it is open again", () => page.evaluate(() => wheel.state === "open"), 31_000);
    await sleep(200);
    const [first, ...others] = published;
    assert.equal(first, "unanswered");
    assert.ok(others.length > 2 && others.every((data) => data === "cut off"), `${published}`);
    await end();
  },

  // FAULTS 195: the links break before some answers, and the server remembers 64, as ours does.
  async "what has no answer when the link breaks is sent again, and published once"() {
    const published = [], hellos = [], refs = new Map();
    let most = 0;
    const { page, peers, end } = await scripted({
      script(peer, number) {
        hello(peer);
        let unanswered = 0;
        peer.onmessage = ({ op, client, version, ref, data }) => {
          if (op === "hello") return hellos.push({ client, version });
          if (op !== "publish") return;
          most = Math.max(most, ++unanswered);
          if (!refs.has(ref)) {
            published.push(data);
            refs.set(ref, `${published.length}-1`);
            if (refs.size > 64) refs.delete(refs.keys().next().value);
          }
          // The first two links answer nothing, and end when all have been said that may be.
          if (number <= 2) return unanswered === 64 && setTimeout(() => peer.drop(), 50);
          setTimeout(() => { unanswered--; peer.say({ op: "published", ref, id: refs.get(ref) }); }, 5);
        };
      },
    });
    const ids = await page.evaluate(() => {
      globalThis.wheel = watch(new Heartwheel());
      return Promise.all(Array.from({ length: 200 }, (_, n) => wheel.publish("t", n)));
    });
    assert.deepEqual(ids, Array.from({ length: 200 }, (_, n) => `${n + 1}-1`));
    assert.deepEqual(published, Array.from({ length: 200 }, (_, n) => n));
    assert.equal(most, 64, "no more wait for an answer than a server knows");
    assert.equal(peers.length, 3);
    assert.equal(new Set(hellos.map(({ client }) => client)).size, 1, "one for its life");
    assert.match(hellos[0].client, /^[\w-]{24}$/);
    assert.match(hellos[0].version, /^js-[\d.]+$/);
    await page.evaluate(() => { watch(new Heartwheel()); });
    await until("another", () => hellos.length === 4);
    assert.notEqual(hellos[3].client, hellos[0].client, "it counts from 1, too");
    await end();
  },

  async "another server is not told what the one before was told"() {
    const told = [];
    // The count goes on, over the end of its 40 bits; then it is another one, and then one more:
    // a count that has not risen is of a server that was started anew, too.
    const counts = [2n ** 40n - 2n, 1n, 5n * 2n ** 30n, 5n * 2n ** 30n];
    const { page, seen, end } = await scripted({
      script(peer, number) {
        hello(peer, 30_000, String((counts[number - 1] << 24n) + 7n));
        peer.onmessage = ({ op, ref, data }) => {
          if (op !== "publish") return;
          told.push([number, data]);
          if (data === "third") peer.say({ op: "published", ref, id: "3-3" });
          else if (data !== "first") setTimeout(() => peer.drop(), 50);
        };
      },
    });
    const outcomes = await page.evaluate(async () => {
      const wheel = watch(new Heartwheel());
      const outcome = (data) => wheel.publish("t", data).catch((error) => error.code);
      const early = [outcome("first"), outcome("second")];
      return [...await Promise.all(early), await outcome("third"), await outcome("fourth")];
    });
    assert.deepEqual(outcomes, ["unknown", "unknown", "3-3", "unknown"]);
    assert.deepEqual(told, [
      [1, "first"], [1, "second"], [2, "first"], [2, "second"], [3, "third"], [3, "fourth"],
    ]);
    await until("the fourth", async () =>
      (await seen("state")).filter(({ state }) => state === "open").length === 4);
    await end();
  },

  async "what the application has taken over has no id, and a server that cannot now says so"() {
    const { page, end } = await scripted({
      script(peer) {
        hello(peer);
        peer.onmessage = ({ op, ref }) => {
          if (op === "publish") peer.say({ op: "published", ref, id: null });
        };
      },
      route({ method }, response) {
        if (method === "POST") response.writeHead(503).end("no memory\n");
        return method === "POST";
      },
    });
    const outcomes = await page.evaluate(async () => {
      const wheel = watch(new Heartwheel());
      const bytes = await wheel.publish("t", new Uint8Array(1)).catch((error) => error);
      return [await wheel.publish("t", "taken"), bytes.code, bytes.message];
    });
    assert.deepEqual(outcomes, [null, "unavailable", "no memory"]);
    await end();
  },

  async "a token that is not good is asked for anew, once"() {
    const good = new Set(["first"]), used = [];
    const token = ({ headers }) => /bearer\.(\w+)/.exec(headers["sec-websocket-protocol"])?.[1];
    let close;
    const { page, seen, end } = await scripted({
      status(request) {
        used.push(token(request));
        return good.has(token(request)) ? 101 : 401;
      },
      route({ url, headers }, response) {
        if (url !== "/ws") return false;
        response.writeHead(good.has(headers.authorization?.split(" ")[1]) ? 426 : 401).end();
        return true;
      },
      script(peer) { hello(peer); close = () => peer.close(3000, "expired"); },
    });
    await page.evaluate(() => {
      globalThis.asked = [];
      globalThis.next = "first";
      globalThis.wheel = watch(new Heartwheel("/ws", { token: async () => { asked.push(next); return next; } }));
    });
    const opened = (count) => until(`open ${count} times`, async () =>
      (await seen("state")).filter(({ state }) => state === "open").length === count);
    await opened(1);
    // A close for the token's sake: another is asked for, and taken.
    good.add("second");
    await page.evaluate(() => { next = "second"; });
    close();
    await opened(2);
    assert.deepEqual(await page.evaluate(() => asked), ["first", "second"]);
    // After a while of life a status does the same. This time the new one is not good, either.
    await sleep(10_100);
    good.clear();
    await page.evaluate(() => { next = "third"; });
    close();
    const closed = await until("it gives up", async () => inState(seen, "closed"));
    assert.equal(closed.code, 401);
    assert.deepEqual(await page.evaluate(() => asked), ["first", "second", "third"]);
    assert.deepEqual(used, ["first", "second", "third"]);
    await end();
  },

  async "a token that soon expires gives way to the next, on the same connection"() {
    const handed = [], tokens = [];
    let warn;
    const { page, seen, end } = await scripted({
      script(peer, number, request) {
        tokens.push(/bearer\.(\w+)/.exec(request.headers["sec-websocket-protocol"])?.[1]);
        hello(peer);
        warn = () => peer.say({ op: "token", expires_in_ms: 30_000 });
        peer.onmessage = ({ op, token, ref }) => {
          if (op !== "token") return;
          handed.push(token);
          // The answer is no other warning, and a refusal ends nothing.
          if (token === "third") peer.say({ op: "error", code: "forbidden", message: "no", ref });
          else peer.say({ op: "token", ref, expires_in_ms: 60_000 });
        };
      },
    });
    await page.evaluate(() => {
      globalThis.next = "first";
      globalThis.wheel = watch(new Heartwheel("/ws", { token: async () => next }));
    });
    await until("it is open", async () => inState(seen, "open"));
    for (const [number, next] of [[1, "second"], [2, "third"]]) {
      await page.evaluate((token) => { globalThis.next = token; }, next);
      warn();
      await until("a token is handed in", () => handed.length === number);
    }
    await sleep(200);
    assert.deepEqual(handed, ["second", "third"]);
    assert.deepEqual(tokens, ["first"], "one connection for all");
    assert.deepEqual(await seen("error"), []);
    await end();
  },

  async "a token that does not come is asked for again later"() {
    const { page, seen, end } = await scripted({ script: hello });
    await page.evaluate(() => {
      let count = 0;
      watch(new Heartwheel("/ws", { token: () => {
        if (++count === 1) throw new Error("not yet");
        return count === 2 ? Promise.reject(new Error("nor now")) : undefined;
      } }));
    });
    await until("it is open", () => inState(seen, "open"));
    const reasons = (await seen("state")).filter(({ state }) => state === "waiting").map(({ reason }) => reason);
    assert.deepEqual(reasons, ["no token: not yet", "no token: nor now"]);
    await end();
  },

  // FAULTS 178: by a script, by a module, and from a blob, whose URL is no base for others.
  async "it works in a Web Worker"() {
    const use = `new Heartwheel().subscribe("t", (data, { topic, id }) => postMessage([data, topic, id]));`;
    const scripts = { "/classic.js": `importScripts("/heartwheel.js"); ${use}`,
      "/module.js": `import "/heartwheel.js"; ${use}` };
    const { page, end, origin } = await scripted({
      route: ({ url }, response) =>
        scripts[url] && response.writeHead(200, { "Content-Type": "text/javascript" }).end(scripts[url]),
      script(peer) {
        hello(peer);
        peer.onmessage = ({ topic }) => peer.say({ op: "event", topic, id: "1-1", data: "hello" });
      },
    });
    const blob = scripts["/classic.js"].replace("/heartwheel.js", `${origin}/heartwheel.js`);
    const heard = await page.evaluate((blob) => Promise.all(
      [["/classic.js"], ["/module.js", { type: "module" }], [URL.createObjectURL(new Blob([blob]))]]
        .map(([url, options]) => new Promise((done, fail) => {
          const worker = new Worker(url, options);
          worker.onmessage = ({ data }) => done(data);
          worker.onerror = ({ message }) => fail(new Error(`${url}: ${message}`));
        }))), blob);
    assert.deepEqual(heard, [["hello", "t", "1-1"], ["hello", "t", "1-1"], ["hello", "t", "1-1"]]);
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

// A few at a time: most of them wait most of the time, and each has a browser's process of its own.
const left = Object.entries(tests);
await Promise.all([0, 0, 0].map(async () => {
  for (let next; (next = left.shift());) await test(`client: ${next[0]}`, next[1]);
}));
