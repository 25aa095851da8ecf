
// The messages of `/ws` in CBOR (RFC 8949). This stands behind heartwheel.js where the server was built
// with the feature `cbor`.
{
  const head = (major, n) =>
    n < 24 ? [major << 5 | n]
      : n < 2 ** 8 ? [major << 5 | 24, n]
        : n < 2 ** 16 ? [major << 5 | 25, n >> 8, n & 255]
          : [major << 5 | 26, n >>> 24, n >> 16 & 255, n >> 8 & 255, n & 255];
  const item = (value) => {
    if (typeof value === "number") return [head(0, value)];
    const isText = typeof value === "string";
    const bytes = isText ? new TextEncoder().encode(value) : value;
    return [head(isText ? 3 : 2, bytes.length), bytes];
  };
  const encode = (message) => {
    const members = Object.entries(message).filter(([, value]) => value !== undefined);
    const pieces = [head(5, members.length), ...members.flat().flatMap(item)];
    const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
    return whole;
  };
  // Reads any item of definite length; numbers with a point as undefined. What ends too early
  // throws, as what is no JSON does.
  const decode = (buffer) => {
    const view = new DataView(buffer);
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let at = 0;
    const argument = (info) => {
      if (info < 24) return info;
      if (info > 27) throw new RangeError("CBOR of no definite length");
      const from = at, size = 2 ** (info - 24);
      at += size;
      return size === 8 ? Number(view.getBigUint64(from)) : view[`getUint${8 * size}`](from);
    };
    const item = () => {
      const first = view.getUint8(at++), major = first >> 5, n = argument(first & 31);
      if (major === 0) return n;
      if (major === 1) return -1 - n;
      if (major === 6) return item();
      if (major === 7) return [false, true, null][n - 20];
      if (major === 4) return Array.from({ length: n }, item);
      if (major === 5) return Object.fromEntries(Array.from({ length: n }, () => [item(), item()]));
      const bytes = new Uint8Array(buffer, at, n).slice(); // throws where it would pass the end
      at += n;
      return major === 2 ? bytes : decoder.decode(bytes);
    };
    const { json, ...message } = item();
    return json === undefined ? message : { ...message, data: JSON.parse(json) };
  };

  Heartwheel.cbor ??= { encode, decode };
}
