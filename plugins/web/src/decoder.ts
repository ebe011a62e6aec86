/**
 * Mien's records: bytes from the gateway to typed arrays (docs/gateway.md, version 1). No DOM, no three.js.
 *
 * Positions, weights and normals are views of the message where its alignment allows it: nothing is copied or parsed.
 */

export type Fault = "newer" | "foreign" | "damaged" | "incomplete";

/** The bytes are no record that this reader can read; the message says what to do. */
export class RecordError extends Error {
  constructor(
    readonly fault: Fault,
    message: string,
  ) {
    super(message);
    this.name = "RecordError";
  }
}

export interface Hello {
  kind: "hello";
  /** What the numbers after it mean: `target`, `axes`, `unit`, `winding`, `mesh`, `normals`, `quantised`, `split`, `token`. */
  about: Record<string, unknown>;
}

export interface Topology {
  kind: "topology";
  /** Number by which frames name it. */
  key: number;
  /** Number of vertices N. */
  vertices: number;
  /** T x 3 indices of vertices. */
  triangles: Uint32Array;
  /** C x 2 texture coordinates, v up. */
  uv: Float32Array | null;
  /** T x 3 indices into `uv`. */
  corners: Uint32Array | null;
  /** N: the vertex of Mien's topology that each one repeats, after a request with `split`. */
  source: Uint32Array | null;
  name: string;
  /** Names of the weights. */
  units: string[];
}

export interface Frame {
  kind: "frame" | "weights";
  /** Count of the gateway; gaps are meshes that this client did not get. */
  sequence: number;
  key: number;
  /** Exposure time, s on the rig's clock (Unix time on its clocks `host` and `ptp`). */
  captureTime: number;
  /** N x 3 in the space that the hello named; empty in a record of weights. */
  positions: Float32Array;
  /** 4 x 4, row by row, column vectors: world from head. */
  pose: Float32Array | null;
  /** In 0 to 1, in the order of `Topology.units`. */
  weights: Float32Array | null;
  /** N x 3, pointing out. */
  normals: Float32Array | null;
}

export interface Health {
  kind: "health";
  state: string;
  about: Record<string, unknown>;
}

export interface End {
  kind: "end";
  reason: string;
}

export type Message = Hello | Topology | Frame | Health | End;

const HEADER = 32;
const MAX_PAYLOAD = 1 << 26;
const MAGIC = [0x48, 0x43, 0x4d, 0x31]; // HCM1
const HELLO = 0, TOPOLOGY = 1, FRAME = 2, WEIGHTS = 3, HEALTH = 4, REQUEST = 8, END = 9;
const UV = 1, NAMES = 2, SOURCE = 4;
const POSE = 1, WEIGHT = 2, NORMALS = 4, QUANTISED = 8;

/** Returns a request; keys as in docs/gateway.md. */
export function encodeRequest(asked: Record<string, unknown>): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(asked));
  const record = new Uint8Array(HEADER + text.length);
  const view = new DataView(record.buffer);
  record.set(MAGIC);
  record[4] = REQUEST;
  view.setUint16(6, HEADER, true);
  view.setUint32(28, text.length, true);
  record.set(text, HEADER);
  return record;
}

function checkMagic(data: Uint8Array): void {
  for (let k = 0; k < Math.min(4, data.length); k++) {
    if (data[k] === MAGIC[k]) continue;
    const found = JSON.stringify(String.fromCharCode(...data.subarray(0, 4)));
    if (k === 3) throw new RecordError("newer", `the server speaks ${found}, this page "HCM1": use the package of your Mien's version`);
    throw new RecordError("foreign", `what answers there is not Mien (${found}); the port is serve.websocket_port, 5751 by default`);
  }
}

/** Returns the size of the record at the start of the bytes, whose header must be whole. */
function recordSize(data: Uint8Array): number {
  const view = new DataView(data.buffer, data.byteOffset, HEADER);
  const header = view.getUint16(6, true), payload = view.getUint32(28, true);
  if (header < HEADER || header % 8 !== 0 || payload > MAX_PAYLOAD) {
    throw new RecordError("damaged", `a record of ${header} + ${payload} bytes cannot be`);
  }
  return header + payload;
}

/** Cuts a stream of bytes into records; on WebSocket each message is one already. */
export class Splitter {
  private buffer = new Uint8Array(0);

  /** Takes bytes as they came, returns the records that are whole now. */
  feed(data: Uint8Array): Uint8Array[] {
    const joined = new Uint8Array(this.buffer.length + data.length);
    joined.set(this.buffer);
    joined.set(data, this.buffer.length);
    const whole: Uint8Array[] = [];
    let at = 0;
    while (at < joined.length) {
      const rest = joined.subarray(at);
      checkMagic(rest);
      if (rest.length < HEADER) break;
      const size = recordSize(rest);
      if (rest.length < size) break;
      whole.push(joined.slice(at, at + size)); // a copy that begins at an aligned place
      at += size;
    }
    this.buffer = joined.slice(at);
    return whole;
  }

  /** Says that the stream has ended. */
  close(): void {
    if (this.buffer.length) throw new RecordError("incomplete", `the stream ended inside a record, after ${this.buffer.length} bytes of it`);
  }
}

/** Takes blocks off a payload; every length is checked before it is used. */
class Payload {
  constructor(
    private readonly data: Uint8Array,
    private at: number,
  ) {}

  take(count: number): Uint8Array {
    const left = this.data.length - this.at;
    if (count > left) throw new RecordError("damaged", `a record is cut short: ${count} bytes needed, ${left} left`);
    this.at += count;
    return this.data.subarray(this.at - count, this.at);
  }

  skip(size: number): void {
    this.take((4 - (size % 4)) % 4);
  }

  count(): number {
    const bytes = this.take(4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  }

  /** Bytes that begin at a multiple of 4, so that an array can be a view of them. */
  private aligned(count: number): Uint8Array {
    const bytes = this.take(count);
    return bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  }

  floats(count: number): Float32Array {
    const bytes = this.aligned(4 * count);
    return new Float32Array(bytes.buffer, bytes.byteOffset, count);
  }

  indices(count: number): Uint32Array {
    const bytes = this.aligned(4 * count);
    return new Uint32Array(bytes.buffer, bytes.byteOffset, count);
  }

  text(count: number): string {
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(this.take(count));
    } catch (error) {
      if (error instanceof RecordError) throw error;
      throw new RecordError("damaged", "text that is not UTF-8");
    }
  }

  json(count: number): Record<string, unknown> {
    let value: unknown;
    try {
      value = JSON.parse(this.text(count));
    } catch (error) {
      if (error instanceof RecordError) throw error;
      throw new RecordError("damaged", "text that is not JSON");
    }
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new RecordError("damaged", "JSON that is no object");
    return value as Record<string, unknown>;
  }

  end(flags: number, known: number): void {
    if (this.at !== this.data.length && !(flags & ~known)) {
      throw new RecordError("damaged", `a record has ${this.data.length - this.at} bytes too many`);
    }
  }
}

function within(indices: Uint32Array, count: number): Uint32Array {
  for (let k = 0; k < indices.length; k++) {
    if (indices[k]! >= count) throw new RecordError("damaged", `a triangle names number ${indices[k]} of ${count}`);
  }
  return indices;
}

function readTopology(payload: Payload, flags: number, key: number, vertices: number): Topology {
  const count = payload.count();
  const triangles = within(payload.indices(3 * count), vertices);
  let uv: Float32Array | null = null, corners: Uint32Array | null = null, source: Uint32Array | null = null;
  if (flags & UV) {
    const points = payload.count();
    uv = payload.floats(2 * points);
    corners = within(payload.indices(3 * count), points);
  }
  let names: Record<string, unknown> = {};
  if (flags & NAMES) {
    const size = payload.count();
    names = payload.json(size);
    payload.skip(size);
  }
  if (flags & SOURCE) source = payload.indices(vertices);
  payload.end(flags, UV | NAMES | SOURCE);
  const units = names["units"] ?? [], name = names["name"] ?? "";
  if (!Array.isArray(units) || !units.every((unit) => typeof unit === "string") || typeof name !== "string") {
    throw new RecordError("damaged", "the names of a topology are no names");
  }
  return { kind: "topology", key, vertices, triangles, uv, corners, source, name, units };
}

/** Computed in double, rounded once: every reader has the same bits. */
function dequantise(payload: Payload, vertices: number): Float32Array {
  const box = payload.floats(6), size = 6 * vertices;
  const bytes = payload.take(size), view = new DataView(bytes.buffer, bytes.byteOffset, size);
  const positions = new Float32Array(3 * vertices);
  for (let k = 0; k < positions.length; k++) {
    positions[k] = box[k % 3]! + view.getUint16(2 * k, true) * box[3 + (k % 3)]!;
  }
  payload.skip(size);
  return positions;
}

function readNormals(payload: Payload, flags: number, vertices: number): Float32Array {
  if (!(flags & QUANTISED)) return payload.floats(3 * vertices);
  const bytes = payload.take(3 * vertices), small = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  payload.skip(bytes.length);
  return Float32Array.from(small, (value) => value / 127);
}

function readFrame(payload: Payload, record: DataView, flags: number, key: number, mesh: boolean): Frame {
  const vertices = mesh ? record.getUint32(24, true) : 0;
  const positions = mesh && flags & QUANTISED ? dequantise(payload, vertices) : payload.floats(3 * vertices);
  const pose = flags & POSE ? payload.floats(16) : null;
  const weights = flags & WEIGHT ? payload.floats(payload.count()) : null;
  const normals = flags & NORMALS ? readNormals(payload, flags, vertices) : null;
  payload.end(flags, POSE | WEIGHT | NORMALS | QUANTISED);
  for (let k = 0; k < positions.length; k++) {
    if (!Number.isFinite(positions[k])) throw new RecordError("damaged", "a frame holds positions that are no numbers");
  }
  return {
    kind: mesh ? "frame" : "weights", sequence: record.getUint32(8, true), key, captureTime: record.getFloat64(16, true),
    positions, pose, weights, normals,
  };
}

/** Reads the records of one connection in turn; knows which topology the frames belong to. */
export class Reader {
  private key = -1;
  private vertices = 0;

  /** Returns what one whole record holds, null for a kind of a later version. */
  read(record: Uint8Array): Message | null {
    checkMagic(record);
    if (record.length < HEADER) throw new RecordError("incomplete", `a record of ${record.length} bytes is cut short`);
    const size = recordSize(record);
    if (record.length !== size) throw new RecordError("damaged", `a record of ${record.length} bytes should have ${size}`);
    const view = new DataView(record.buffer, record.byteOffset, HEADER);
    const kind = record[4]!, flags = record[5]!, key = view.getUint32(12, true), begin = view.getUint16(6, true);
    const payload = new Payload(record, begin);
    if (kind === HELLO) {
      this.key = -1;
      return { kind: "hello", about: payload.json(size - begin) };
    }
    if (kind === HEALTH) {
      const about = payload.json(size - begin);
      return { kind: "health", state: String(about["state"]), about };
    }
    if (kind === END) return { kind: "end", reason: payload.text(size - begin) };
    if (kind === TOPOLOGY) {
      const topology = readTopology(payload, flags, key, view.getUint32(24, true));
      [this.key, this.vertices] = [key, topology.vertices];
      return topology;
    }
    if (kind !== FRAME && kind !== WEIGHTS) return null;
    const frame = readFrame(payload, view, flags, key, kind === FRAME);
    if (key !== this.key || (kind === FRAME && frame.positions.length !== 3 * this.vertices)) {
      throw new RecordError("damaged", "a frame came before its topology");
    }
    return frame;
  }
}
