// heartwheel's browser client: topics over one connection that comes back by itself.
//
//   <script src="/heartwheel.js"></script>     or, in a module,     import "/heartwheel.js";
//
// Both define the global `Heartwheel`; `export` would be a syntax error in a classic script. So does
// `importScripts("/heartwheel.js")` in a Web Worker.
//
//   const wheel = new Heartwheel();                         // connects to /ws, or ("/ws", { token })
//   wheel.subscribe("news", (data, { topic, id }) => { });  // also subscribe(topic, { after }, ..)
//   const id = await wheel.publish("news", { any: "JSON" });
//
// After a broken connection each topic goes on behind its last event: none comes twice, none is
// missing unless a `gap` says so. Bytes come as Uint8Array. Events, by their `detail`:
//
//   state     { state }: connecting, open, waiting (with delay_ms, code, reason) or closed (with
//             code, reason): for good, by close() or what no further try would change: STOP below,
//             and RENEW where there is no other token
//   gap       { topic, first }: events were lost, `first` is the id of the next one or null
//   error     { code, message, topic }: a request had no effect; the connection stays
//   pressure  { level }: how full the server's queue for this page is, 0 to 3
//
// `token` is text, or a function that returns it, or a promise of it. It is asked before the first
// try, and again when the server says that the token soon expires, which ends no connection, or
// that it is not good; twice in a row is for good.
//
// An event that was published with a trace context (W3C `traceparent`, `publish(topic, data, { trace
// })`) has it as the `trace` beside its `id`; on event streams none has.
//
// `publish` takes JSON, text or bytes (sent by POST, so not in order with the others, unless CBOR is
// spoken) and settles within 10 s. Without a connection it waits, and then rejects with the `code`
// "unavailable": it was not sent. One that was under way when the connection broke is sent again on
// the next one, so that it is published once; without an answer it rejects with "unknown" 50 s after it was first
// sent, and at once where another server is there, or the same one started anew. So do bytes, and
// what has no answer while the connection lasts, after 10 s: whether to risk it twice is for the
// page to decide. Beyond 256 unanswered ones it rejects with "limit"; the
// server's refusals bear its own code.
//
// With `cbor: true` beside `token` it offers the subprotocol `heartwheel.v1.cbor`, if the server that
// served this file has CBOR. Where that is spoken bytes travel as they are, and publications of bytes
// go the way of all others. A `Blob` is sent by POST all the same.
//
// `subscribe(topic, { info }, ..)` says up to 256 bytes of text of itself to those who ask for
// `await wheel.presence(topic)`: { count, members: [{ identity, connection, info }] }, where the
// server's `topics.presence` names the topic. Who comes and goes is told as events of
// "$presence.TOPIC": { joined, left, count }.
//
// Where WebSockets are blocked it reads an event stream and publishes by POST. There one `after`
// holds for all topics, and text that parses as JSON is taken for JSON.
"use strict";
{
  const ANSWER_MS = 10_000; // for a connection to open, and for the answer to a request
  const HEARTBEAT_MS = 30_000; // if the server names none
  const STREAM_SILENCE_MS = 45_000; // three of the comments that a server sends by default
  const STEADY_MS = 10_000; // a connection that lived so long ends the back-off
  const BLOCKED_AFTER = 3; // upgrades in a row that failed while HTTP worked
  // HTTP statuses and close codes after which another try would end the same way, and those after
  // which it takes another token. All others pass. src/core/client/verdict.rs has the same.
  const STOP = [400, 403, 404, 405, 426, 1002, 1003, 1007, 1008, 1009, 1010, 4409, [4500, 4999]];
  const RENEW = [401, 3000];
  const WAITING_MAX = 256;
  // A server knows the newest 64 publications of a client for 60 s, less what is on its way.
  const SAID_MAX = 64;
  const AGAIN_MS = 50_000;
  const VERSION = "js-0.1.0";
  const CBOR = "heartwheel.v1.cbor";
  const TIMER_MAX_MS = 2 ** 31 - 1;
  const RESERVED = ["gap", "open", "error", "message", "binary"]; // no topics on an event stream

  const isIn = (list, code) =>
    list.some((one) => one === code || (one[0] <= code && code <= one[1]));
  const failure = (code, message = code) => Object.assign(new Error(message), { code });
  const draw = () => btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(18))))
    .replaceAll("+", "-").replaceAll("/", "_");
  const fromBase64 = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const fromText = (text) => { try { return JSON.parse(text); } catch { return text; } };

  // An id is MS-SEQ, and SEQ modulo 65536 is a number of the server's process.
  const order = (a, b) => {
    const [[m, s], [n, t]] = [a, b].map((id) => id.split("-").map(Number));
    return m - n || s - t;
  };
  const process = (id) => id.split("-")[1] % 65536;

  // Moves a topic on to `id`; false if it was there already. After a gap the server may be another
  // whose clock is behind: its ids are not compared with those before.
  const advance = (entry, id) => {
    const { last, gap } = entry;
    if (last && order(id, last) <= 0 && !(gap && process(id) !== process(last))) return false;
    return Object.assign(entry, { last: id, gap: false });
  };

  // Reads an event stream (WHATWG HTML, 9.2.6) in pieces. A CR at the end may be half a CRLF.
  const streamParser = (take) => {
    let rest = "", fields = { data: [] };
    return (text) => {
      const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        const [, name, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
        if (name === "data") fields.data.push(value);
        else if (name) fields[name] = value;
        else if (!line) [, fields] = [take(fields), { data: [] }];
      }
    };
  };

  globalThis.Heartwheel ??= class Heartwheel extends EventTarget {
    #url;
    #token;
    #offered; // subprotocols
    #renew; // gives a token, if the page has said how
    #isRenewed = false;
    #client = draw(); // for this object alone: others count their `ref`s from 1, too
    #state;
    #link; // the present connection; an earlier one is not listened to any more
    #streams = typeof WebSocket === "undefined";
    #position; // the last id of a stream: it holds for all topics
    #topics = new Map(); // topic -> { callback, last, gap }
    #waiting = new Map(); // ref -> publish or ping without an answer
    #said = 0; // of them, those on this link
    #count = 0n; // how many connections the server had had
    #ref = 0;
    #tries = 0;
    #blocked = 0;
    #retryMs; // the delay that the server asked for
    #timer; // of the link's silence, or of the next try
    #page = new AbortController();

    constructor(url = "/ws", { token, cbor = false } = {}) {
      super();
      this.#offered = [...(cbor && Heartwheel.cbor ? [CBOR] : []), "heartwheel.v1"];
      if (typeof token === "function") this.#renew = token;
      else this.#token = token;
      // A worker has no document, and if it was made from a blob no URL that others refer to.
      const { document, location, origin } = globalThis;
      const here = location?.protocol === "blob:" ? origin : location?.href;
      this.#url = new URL(url, document?.baseURI ?? here);
      this.#url.protocol = this.#url.protocol.replace("ws", "http");
      addEventListener("online", () => this.#wake(), { signal: this.#page.signal });
      this.#connect();
    }

    get state() { return this.#state; }
    get transport() { return this.#streams ? "events" : "websocket"; }

    // A second call for a topic replaces the first.
    subscribe(topic, options, callback = options) {
      this.#checkTopic(topic);
      if (typeof callback !== "function") throw new TypeError("the callback is missing");
      if (this.#state === "closed") throw failure("closed");
      this.unsubscribe(topic);
      this.#topics.set(topic, { callback, last: options.after ?? this.#position, info: options.info });
      if (this.#state === "open") this.#link.subscribe(topic);
    }

    unsubscribe(topic) {
      if (this.#topics.delete(topic) && this.#state === "open") this.#link.unsubscribe(topic);
    }

    // Resolves with the id of the event.
    async publish(topic, data, { trace } = {}) {
      this.#checkTopic(topic);
      const isBlob = data instanceof Blob;
      const isBytes = ArrayBuffer.isView(data) || data instanceof ArrayBuffer;
      const json = isBytes || isBlob ? null : JSON.stringify(data);
      if (json === undefined) throw new TypeError("neither JSON nor bytes");
      // A copy, as JSON is one: it may be sent again.
      const { buffer = data, byteOffset, byteLength } = isBytes ? data : {};
      const bytes = isBytes ? new Uint8Array(buffer, byteOffset, byteLength).slice() : data;
      return this.#ask({ topic, json, bytes, isBlob, trace });
    }

    // Resolves with the round trip in milliseconds, over an open WebSocket only.
    async ping() {
      if (this.#state !== "open" || this.#streams) throw failure("unavailable");
      return this.#ask({});
    }

    // Resolves with the members of a topic, over an open WebSocket only.
    async presence(about) {
      this.#checkTopic(about);
      if (this.#state !== "open" || this.#streams) throw failure("unavailable");
      return this.#ask({ about });
    }

    close() { this.#finish(1000, "closed by the page"); }

    #headers(headers = {}) {
      return this.#token ? { ...headers, Authorization: `Bearer ${this.#token}` } : headers;
    }

    #checkTopic(topic) {
      if (!/^[\w.:$-]{1,128}$/.test(topic)) throw new TypeError(`bad topic: ${topic}`);
    }

    #emit(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

    #enter(state, detail) {
      this.#state = state;
      this.#emit("state", { state, ...detail });
    }

    // -- A link's life: connecting, open, lost ----------------------------------------------------

    #connect() {
      const link = { heardAt: performance.now(), silenceMs: ANSWER_MS, close() {} };
      this.#link?.close();
      this.#link = link;
      this.#retryMs = undefined;
      this.#guard(ANSWER_MS);
      if (this.#renew && this.#token === undefined) this.#askToken(link);
      else this.#open(link);
      this.#enter("connecting");
    }

    #open(link) {
      if (this.#streams) this.#openStream(link);
      else this.#openSocket(link);
    }

    async #askToken(link) {
      link.isAsking = true;
      let token;
      await null; // whatever the page does in it, the state is told first
      try { token = await this.#renew(); } catch (error) {
        if (this.#link === link) this.#lost(1006, `no token: ${error?.message}`);
        return;
      }
      if (this.#link !== link) return;
      Object.assign(link, { isAsking: false, heardAt: performance.now() });
      this.#token = token;
      this.#open(link);
    }

    #opened(link, silenceMs) {
      Object.assign(link, { openedAt: performance.now(), silenceMs });
      this.#guard(silenceMs);
      this.#blocked = 0;
      this.#enter("open");
      if (this.#link === link) for (const ref of this.#waiting.keys()) this.#send(ref);
    }

    #heard(link) { Object.assign(link, { isProbed: false, heardAt: performance.now() }); }

    // The timer is not moved at each message; when it fires it asks how long it has been silent.
    #guard(ms) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => {
        const link = this.#link, left = link.silenceMs - (performance.now() - link.heardAt);
        if (left > 0) this.#guard(left);
        else if (link.isAsking) this.#lost(1006, "no token in time");
        else if (!link.openedAt && !this.#streams) this.#refused(link, "no answer");
        else if (link.isProbed || this.#streams) this.#lost(1006, "silence");
        else this.#probe(link);
      }, ms);
    }

    // A script does not see the server's pings, so it sends its own. What was heard before counts
    // no more: the link may have died while the machine slept.
    #probe(link) {
      Object.assign(link, { isProbed: true, heardAt: -Infinity });
      link.send({ op: "ping" });
      this.#guard(ANSWER_MS);
    }

    // The network is back: no reason to wait longer, and one to doubt an open link.
    #wake() {
      if (this.#state === "waiting" && this.#retryMs === undefined) this.#connect();
      else if (this.#state === "open" && !this.#streams) this.#probe(this.#link);
    }

    #lost(code, reason) {
      const link = this.#link;
      this.#link = null;
      link.close();
      const wasSteady = performance.now() - link.openedAt >= STEADY_MS;
      if (wasSteady) [this.#tries, this.#isRenewed] = [0, false];
      if (this.#isFinal(code)) return this.#finish(code, reason);
      this.#keep();
      const backoffMs = Math.random() * Math.min(1000 * 1.5 ** this.#tries++, 30_000);
      const told = /^retry=(\d+)$/.exec(reason);
      if (told) this.#retryMs = Number(told[1]);
      const delayMs = Math.min(Math.round(this.#retryMs ?? backoffMs), TIMER_MAX_MS);
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#connect(), delayMs);
      this.#enter("waiting", { delay_ms: delayMs, code, reason });
    }

    // Says whether another try would end the same way; if it takes another token, has it asked for.
    #isFinal(code) {
      if (!isIn(RENEW, code)) return isIn(STOP, code);
      if (!this.#renew || this.#isRenewed) return true;
      [this.#token, this.#isRenewed] = [undefined, true];
      return false;
    }

    // A failed upgrade hides why it failed; a fetch of the same URL tells.
    async #refused(link, reason) {
      if (link.isRefused) return;
      link.isRefused = true;
      clearTimeout(this.#timer);
      const signal = AbortSignal.timeout(ANSWER_MS);
      const ask = (headers) => fetch(this.#url, { headers, cache: "no-store", signal }).catch(() => null);
      let response = await ask(this.#headers());
      // Where the page's origin is not admitted the preflight for a token fails without a status. A
      // request without one needs none, and says 403.
      if (!response && this.#token) {
        response = await ask();
        if (response?.status !== 403) response = null;
      }
      if (this.#link !== link) return;
      // "Upgrade Required": the server would, so something between here and there does not.
      if (response?.status !== 426) {
        if (this.#isBarred(response)) return;
      } else if (!this.#streams && ++this.#blocked >= BLOCKED_AFTER) {
        this.#streams = true;
        return this.#connect();
      }
      this.#lost(1006, response && !this.#streams ? `HTTP status ${response.status}` : reason);
    }

    #isBarred(response) {
      const seconds = Number(response?.headers.get("Retry-After"));
      if (seconds > 0) this.#retryMs = seconds * 1000 * (1 + Math.random());
      const isBarred = this.#isFinal(response?.status);
      if (isBarred) this.#finish(response.status, "not admitted");
      return isBarred;
    }

    #finish(code, reason) {
      if (this.#state === "closed") return;
      clearTimeout(this.#timer);
      this.#page.abort();
      this.#link?.close();
      this.#link = null;
      this.#topics.clear();
      this.#said = 0;
      for (const [ref, { saidAt }] of this.#waiting) {
        this.#settle(ref, failure(saidAt === undefined ? "closed" : "unknown", reason));
      }
      this.#enter("closed", { code, reason });
    }

    // -- WebSocket --------------------------------------------------------------------------------

    #openSocket(link) {
      const protocols = [...this.#offered];
      if (this.#token) protocols.push(`heartwheel.bearer.${this.#token}`);
      const socket = new WebSocket(this.#url.href.replace("http", "ws"), protocols);
      link.ignored = new Map(); // topic -> unsubscribes not yet answered: what comes is of the past
      link.close = () => socket.close();
      link.write = (message) => socket.send(message);
      link.send = (message) => link.write(link.encode(message));
      link.encode = (message, { json, bytes, trace } = {}) => {
        if (!link.isCbor) {
          const text = JSON.stringify({ ...message, trace });
          return json ? `${text.slice(0, -1)},"data":${json}}` : text;
        }
        const isText = json?.[0] === '"', isJson = json && !isText;
        const data = isText ? JSON.parse(json) : isJson ? undefined : bytes;
        return Heartwheel.cbor.encode({ ...message, trace, data, json: isJson ? json : undefined });
      };
      link.subscribe = (topic) => {
        const { last: after, info } = this.#topics.get(topic);
        link.send({ op: "subscribe", topic, after, info, ref: topic });
      };
      link.unsubscribe = (topic) => {
        link.ignored.set(topic, (link.ignored.get(topic) ?? 0) + 1);
        link.send({ op: "unsubscribe", topic });
      };
      socket.binaryType = "arraybuffer";
      socket.onopen = () => {
        link.isCbor = socket.protocol === CBOR;
      };
      socket.onmessage = ({ data }) => {
        if (this.#link !== link) return;
        this.#heard(link);
        this.#take(link, link.isCbor ? Heartwheel.cbor.decode(data) : JSON.parse(data));
      };
      socket.onclose = ({ code, reason }) => {
        if (this.#link !== link) return;
        if (link.openedAt || code !== 1006) this.#lost(code, reason);
        else this.#refused(link, reason);
      };
    }

    #take(link, message) {
      const { op, topic, ref, code } = message;
      if (op === "hello") {
        link.messageMax = message.message_bytes;
        this.#meet(message.connection);
        link.send({ op, client: this.#client, version: VERSION });
        for (const topic of this.#topics.keys()) link.subscribe(topic);
        this.#opened(link, message.heartbeat_ms || HEARTBEAT_MS);
      } else if (op === "published") this.#settle(ref, null, message.id);
      else if (op === "pong") this.#settle(ref);
      else if (op === "presence") this.#settle(ref, null, message);
      else if (op === "error") {
        if (typeof ref === "number") this.#settle(ref, failure(code, message.message));
        else this.#emit("error", { code, message: message.message, topic: ref });
      } else if (op === "token") {
        if (ref === undefined) this.#extend(link); // else it answers what this has sent
      } else if (op === "pressure") this.#emit(op, { level: message.level });
      else if (op === "goaway") {
        link.isLeaving = true; // what is published from now on waits for the next link
        this.#retryMs = message.retry_ms;
      } else if (op === "unsubscribed") link.ignored.set(topic, link.ignored.get(topic) - 1);
      else if (!link.ignored.get(topic)) this.#takeTopic(message);
    }

    // Hands in another token before this one expires. If there is none the server ends the
    // connection, and the next one asks again.
    async #extend(link) {
      if (!this.#renew) return;
      let token;
      try { token = await this.#renew(); } catch { return; }
      if (this.#link !== link) return;
      this.#token = token;
      link.send({ op: "token", token, ref: 0 }); // no request has this ref
    }

    // Events, gaps and positions of a topic, from either transport.
    #takeTopic({ op, topic, id, data, base64, trace, first, last }) {
      const entry = this.#topics.get(topic);
      if (!entry) return;
      if (op === "subscribed") advance(entry, last);
      else if (op === "gap") {
        entry.gap = true;
        this.#emit(op, { topic, first });
      } else if (op === "event" && advance(entry, id)) {
        try {
          entry.callback(base64 === undefined ? data : fromBase64(base64), { topic, id, trace });
        } catch (error) { reportError(error); } // the page's fault, and no reason to stop
      }
    }

    // -- Publishing -------------------------------------------------------------------------------

    #ask(request) {
      if (this.#state === "closed") throw failure("closed");
      if (this.#waiting.size >= WAITING_MAX) throw failure("limit", "too many wait for an answer");
      return new Promise((resolve, reject) => {
        const ref = ++this.#ref;
        Object.assign(request, { resolve, reject });
        this.#waiting.set(ref, request);
        this.#limit(ref, ANSWER_MS);
        if (this.#state === "open") this.#send(ref);
      });
    }

    #limit(ref, ms) {
      const request = this.#waiting.get(ref);
      clearTimeout(request.timer);
      request.timer = setTimeout(() => {
        const code = request.saidAt === undefined ? "unavailable" : "unknown";
        this.#settle(ref, failure(code, "no answer in time"));
      }, ms);
    }

    #settle(ref, error, value) {
      const request = this.#waiting.get(ref);
      if (!request) return;
      this.#waiting.delete(ref);
      clearTimeout(request.timer);
      if (error) request.reject(error);
      // The id is null where the application has taken the publication over.
      else request.resolve(value === undefined ? performance.now() - request.saidAt : value);
      if (!request.isSaid || this.#said-- < SAID_MAX || this.#state !== "open") return;
      for (const ref of this.#waiting.keys()) this.#send(ref); // one more may be
    }

    // A server counts its connections from a random number on, in the upper 40 bits of their ids.
    // One that was started anew, or another one, does not know what was told before: its count has
    // not risen, or by too much.
    #meet(id) {
      const count = /^\d+$/.test(id) ? BigInt(id) >> 24n : 0n;
      const isAnother = BigInt.asUintN(40, count - this.#count - 1n) >= (1n << 24n) - 1n;
      this.#count = count;
      for (const [ref, { saidAt, isPosted }] of this.#waiting) {
        if (!isAnother || saidAt === undefined || isPosted) continue;
        this.#settle(ref, failure("unknown", "another server is there"));
      }
    }

    // The link broke: what it was told is told the next one again, but for pings.
    #keep() {
      this.#said = 0;
      for (const [ref, request] of this.#waiting) {
        if (!request.isSaid) continue;
        request.isSaid = false;
        if (request.topic) this.#limit(ref, AGAIN_MS - (performance.now() - request.saidAt));
        else this.#settle(ref, failure("unknown", "the connection broke before the answer"));
      }
    }

    #send(ref) {
      const request = this.#waiting.get(ref), link = this.#link;
      const { topic, about, json, isBlob, saidAt } = request;
      if (link.isLeaving || request.isSaid || request.isPosted) return;
      const isPosted = this.#streams || (json === null && (isBlob || !link.isCbor));
      if (isPosted && saidAt !== undefined) {
        return this.#settle(ref, failure("unknown", "a POST cannot be told from the first"));
      }
      if (isPosted) return this.#post(ref, request);
      if (this.#said >= SAID_MAX) return;
      const bare = topic ? { op: "publish", topic, ref }
        : about ? { op: "presence", topic: about, ref } : { op: "ping", ref };
      const message = link.encode(bare, request);
      // Too long a message would cost the whole connection.
      if (new Blob([message]).size > link.messageMax) return this.#settle(ref, failure("limit"));
      Object.assign(request, { isSaid: true, saidAt: saidAt ?? performance.now() });
      this.#said++;
      link.write(message);
    }

    async #post(ref, request) {
      // Its answer comes whatever becomes of the link.
      Object.assign(request, { isPosted: true, saidAt: performance.now() });
      const { topic, json, bytes, trace } = request;
      const [type, body] = json === null ? ["application/octet-stream", bytes]
        : json[0] === '"' ? ["text/plain", JSON.parse(json)] : ["application/json", json];
      const signal = AbortSignal.timeout(ANSWER_MS);
      const headers = this.#headers({ "Content-Type": type, ...(trace && { traceparent: trace }) });
      try {
        const url = this.#at(`topics/${topic}`);
        const response = await fetch(url, { method: "POST", headers, body, signal });
        const { status } = response, text = await response.text();
        const codes = { 400: "bad_request", 401: "forbidden", 403: "forbidden", 503: "unavailable" };
        if (response.ok) this.#settle(ref, null, JSON.parse(text).id);
        else this.#settle(ref, failure(codes[status] ?? "limit", text.trim()));
      } catch (error) { this.#settle(ref, failure("unknown", error.message)); }
    }

    // -- Event stream -----------------------------------------------------------------------------

    #at(path) {
      const url = new URL(path, this.#url);
      url.search = this.#url.search;
      return url;
    }

    async #openStream(link) {
      const abort = new AbortController();
      link.close = () => abort.abort();
      link.subscribe = link.unsubscribe = () => this.#connect(); // a stream's topics are in its URL
      let reason = "the stream ended";
      try {
        await null; // what is subscribed in the same breath comes along
        if (await this.#readStream(link, abort.signal)) return;
      } catch (error) { reason = error.message; }
      if (this.#link !== link) return;
      if (this.#token && !link.openedAt) this.#refused(link, reason);
      else this.#lost(1006, reason);
    }

    // Reads by fetch, not by EventSource: comments count as life, and a status can be seen.
    async #readStream(link, signal) {
      const topics = [...this.#topics.keys()].filter((topic) => {
        if (!RESERVED.includes(topic)) return true;
        this.#emit("error", { code: "bad_request", message: "not a stream's topic", topic });
      });
      if (!topics.length) { // nothing to read: an open link for POSTs
        this.#opened(link, TIMER_MAX_MS);
        return true;
      }
      const [after] = topics.map((t) => this.#topics.get(t).last).filter(Boolean).sort(order);
      const accept = { Accept: "text/event-stream", ...(after && { "Last-Event-ID": after }) };
      const headers = this.#headers(accept);
      const url = this.#at("events");
      for (const topic of topics) url.searchParams.append("topic", topic);
      const response = await fetch(url, { headers, cache: "no-store", signal });
      if (this.#link !== link || this.#isBarred(response)) return;
      const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (!response.ok || !isStream) throw new Error(`HTTP status ${response.status}`);
      this.#heard(link);
      this.#opened(link, STREAM_SILENCE_MS);
      const parse = streamParser((fields) => this.#link === link && this.#takeStream(fields));
      const decoder = new TextDecoder(), reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.#link !== link) return;
        this.#heard(link);
        parse(decoder.decode(value, { stream: true }));
      }
    }

    #takeStream({ id, event, data, retry }) {
      const text = data.join("\n");
      if (/^\d+$/.test(retry)) this.#retryMs = Number(retry);
      if (event === "gap") this.#takeTopic({ op: "gap", ...JSON.parse(text) });
      else if (event === "binary") this.#takeTopic({ op: "event", id, ...JSON.parse(text) });
      else if (event) this.#takeTopic({ op: "event", id, topic: event, data: fromText(text) });
      // Events come in the order of ids, so the id of one is a position in each topic.
      if (id) this.#position = id;
      if (id) for (const entry of this.#topics.values()) advance(entry, id);
    }
  };
}
