/** The connection to the gateway: comes back by itself, keeps the newest head and nothing older. No three.js. */

import { encodeRequest, Reader, RecordError, type Frame, type Message, type Topology } from "./decoder.js";

const RETRY_MS = 500;
/** Pause after a server that does not speak our language: it will not learn at once. */
const REFUSED_MS = 3000;
/** Health comes each second: so long without a record, and the connection is dead. */
const SILENCE_MS = 5000;

export interface Options {
  /** Address of the gateway, `ws://localhost:5751`. */
  url?: string;
  /** What to ask for besides `target: "web"`: `normals`, `split`, `quantised`, `mesh`, `token`. */
  request?: Record<string, unknown>;
}

/** Dispatches `topology`, `frame`, `status`; `newest` and `topology` may be polled instead. */
export class MienClient extends EventTarget {
  /** The topology of the frames, once one has come. */
  topology: Topology | null = null;
  /** The newest frame, or record of weights. */
  newest: Frame | null = null;
  /** One line for people. */
  status = "not connected";
  /** Frames received since the beginning. */
  received = 0;
  /** What the gateway said last of itself. */
  health: Record<string, unknown> = {};

  private readonly url: string;
  private readonly request: Record<string, unknown>;
  private socket: WebSocket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private closed = false;

  constructor(options: Options = {}) {
    super();
    this.url = options.url ?? "ws://localhost:5751";
    this.request = { target: "web", ...options.request };
    this.connect();
  }

  /** Hangs up for good. */
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
    this.say("not connected");
  }

  private connect(): void {
    this.say(`connecting to ${this.url}`);
    const socket = new WebSocket(this.url), reader = new Reader();
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    let pause = RETRY_MS, told = "", answered = false;
    const give_up = (reason: string, ms: number) => {
      [told, pause] = [reason, ms];
      socket.close();
    };
    socket.onopen = () => socket.send(encodeRequest(this.request));
    socket.onmessage = (event: MessageEvent) => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => give_up("the server has fallen silent; connecting again", RETRY_MS), SILENCE_MS);
      try {
        if (!(event.data instanceof ArrayBuffer)) throw new RecordError("foreign", "what answers there is not Mien: it sends text");
        const message = reader.read(new Uint8Array(event.data));
        if (message?.kind === "hello") answered = message.about["target"] === this.request["target"] && !message.about["token"];
        if (message?.kind === "end") give_up(`the server says: ${message.reason}; connecting again`, RETRY_MS);
        else if (message && (answered || message.kind === "hello")) this.receive(message); // else in a form that was not asked for
      } catch (error) {
        if (!(error instanceof RecordError)) throw error;
        give_up(error.message, REFUSED_MS);
      }
    };
    socket.onclose = () => {
      clearTimeout(this.timer);
      this.topology = this.newest = null;
      if (this.closed) return;
      this.say(told || `nobody answers at ${this.url}; is \`mien serve\` running?`);
      this.timer = setTimeout(() => this.connect(), pause);
    };
  }

  private receive(message: Message): void {
    if (message.kind === "hello") this.say("connected; waiting for a head");
    else if (message.kind === "health") this.health = message.about;
    else if (message.kind === "topology") {
      [this.topology, this.newest] = [message, null];
      this.say(`live: ${message.name || "head"}, ${message.vertices} vertices`);
      this.dispatchEvent(new Event("topology"));
    } else if (message.kind === "frame" || message.kind === "weights") {
      this.newest = message;
      this.received += 1;
      this.dispatchEvent(new Event("frame"));
    }
  }

  private say(status: string): void {
    if (status === this.status) return;
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }
}
