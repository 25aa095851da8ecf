// A server that does what a test tells it to: HTTP by a handler, WebSockets by a script. It knows
// just enough of RFC 6455 to talk to a browser: whole frames, up to 64 KiB from the browser, and
// closing. It speaks CBOR where that is the subprotocol.
import http from "node:http";
import { createHash } from "node:crypto";
import { decode, encode } from "./cbor.mjs";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

// `answer(request, response)` serves HTTP; `status(request)` refuses an upgrade, or lets it pass
// with 101; `choose(offered)` picks a subprotocol; `script(socket, request)` is called for each
// WebSocket.
export async function serve({ answer, status = () => 101, choose = ([first]) => first, script, port = 0 }) {
  const server = http.createServer(answer);
  const upgraded = new Set();
  server.on("upgrade", (request, stream) => {
    upgraded.add(stream);
    stream.on("error", () => {}).on("close", () => upgraded.delete(stream));
    const refusal = status(request);
    if (refusal !== 101) {
      return stream.end(`HTTP/1.1 ${refusal} Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    }
    const key = request.headers["sec-websocket-key"];
    const offered = request.headers["sec-websocket-protocol"]?.split(",").map((name) => name.trim());
    const chosen = offered && choose(offered);
    stream.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${createHash("sha1").update(key + GUID).digest("base64")}\r\n` +
        (chosen ? `Sec-WebSocket-Protocol: ${chosen}\r\n` : "") + "\r\n",
    );
    script(new Socket(stream, chosen === "heartwheel.v1.cbor"), request);
  });
  await new Promise((done) => server.listen(port, "127.0.0.1", done));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close() {
      for (const stream of upgraded) stream.destroy();
      server.closeAllConnections();
      server.close();
    },
  };
}

class Socket {
  onmessage = () => {};
  onclose = () => {};
  #stream;
  #isCbor;
  #pending = Buffer.alloc(0);

  constructor(stream, isCbor) {
    this.#stream = stream;
    this.#isCbor = isCbor;
    stream.on("data", (bytes) => this.#read(bytes)).on("close", () => this.onclose());
  }

  // Sends an object as JSON text, or as CBOR.
  say(message) {
    if (this.#isCbor) this.#frame(2, encode(message));
    else this.#frame(1, Buffer.from(JSON.stringify(message)));
  }

  close(code, reason = "") {
    this.#frame(8, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));
    this.#stream.end();
  }

  // Ends without a word.
  drop() {
    this.#stream.destroy();
  }

  #frame(opcode, payload) {
    const length = payload.length < 126 ? [payload.length]
      : payload.length < 65536 ? [126, payload.length >> 8, payload.length & 255]
        : [127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((shift) => (payload.length >> shift) & 255)];
    this.#stream.write(Buffer.concat([Buffer.from([0x80 | opcode, ...length]), payload]));
  }

  #read(bytes) {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    for (;;) {
      const frame = this.#pending;
      if (frame.length < 2) return;
      let length = frame[1] & 127, at = 2;
      if (length === 126) {
        if (frame.length < 4) return;
        [length, at] = [frame.readUInt16BE(2), 4];
      }
      if (frame.length < at + 4 + length) return;
      const mask = frame.subarray(at, at + 4);
      const masked = frame.subarray(at + 4, at + 4 + length);
      const payload = Buffer.from(masked.map((byte, index) => byte ^ mask[index & 3]));
      this.#pending = frame.subarray(at + 4 + length);
      if ((frame[0] & 15) === (this.#isCbor ? 2 : 1)) {
        this.onmessage(this.#isCbor ? decode(payload) : JSON.parse(payload.toString()));
      }
      if ((frame[0] & 15) === 8) this.#stream.end(Buffer.concat([Buffer.from([0x88, length]), payload]));
    }
  }
}
