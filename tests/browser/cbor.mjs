// CBOR (RFC 8949) of definite lengths, written apart from that of the client: for Node's buffers, by
// recursion.

const head = (major, n) => {
  if (n < 24) return Buffer.from([(major << 5) + n]);
  const size = n < 256 ? 1 : n < 65536 ? 2 : 4, out = Buffer.alloc(1 + size);
  out[0] = (major << 5) + { 1: 24, 2: 25, 4: 26 }[size];
  out.writeUIntBE(n, 1, size);
  return out;
};

export function encode(value) {
  if (value === null) return Buffer.from([0xf6]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xf5 : 0xf4]);
  if (Number.isInteger(value)) return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === "number") {
    const out = Buffer.from([0xfb, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.writeDoubleBE(value, 1);
    return out;
  }
  if (typeof value === "string") return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.length), value]);
  if (Array.isArray(value)) return Buffer.concat([head(4, value.length), ...value.map(encode)]);
  const pairs = Object.entries(value).filter(([, member]) => member !== undefined);
  return Buffer.concat([head(5, pairs.length), ...pairs.flat().map(encode)]);
}

// Reads one map of text, bytes and whole numbers, which is all that clients say.
export function decode(bytes) {
  let at = 0;
  const item = () => {
    const major = bytes[at] >> 5, info = bytes[at++] & 31, size = info < 24 ? 0 : 2 ** (info - 24);
    if (info > 26 || ![0, 2, 3, 5].includes(major)) throw new Error(`no item of a client: ${bytes[at - 1]}`);
    const n = size ? bytes.readUIntBE(at, size) : info;
    if (size && n < [0, 24, 256, 0, 65536][size]) throw new Error("a head could be shorter");
    at += size;
    if (major === 0) return n;
    if (major === 5) return Object.fromEntries(Array.from({ length: n }, () => [item(), item()]));
    const part = bytes.subarray(at, at += n);
    if (part.length < n) throw new Error("it ends too early");
    return major === 3 ? part.toString() : part;
  };
  const map = item();
  if (at !== bytes.length) throw new Error("something follows the map");
  return map;
}
