/** Prints what the decoder reads in a stream, in the form of tests/plugins/golden.py: node web_dump.mjs FILE STEP... */

import { readFileSync } from "node:fs";

import { Reader, RecordError, Splitter, type Message } from "../../plugins/web/src/decoder.js";

function hex(values: Float32Array | Uint32Array | null): string {
  if (!values) return "-";
  const plain = values instanceof Float32Array ? values.map((value) => value + 0) : values; // -0 + 0 is 0
  return Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength).toString("hex");
}

const key8 = (key: number) => key.toString(16).padStart(8, "0");

function line(message: Message): string {
  switch (message.kind) {
    case "hello": {
      const about = message.about as Record<string, never>;
      const switches = ["mesh", "normals", "quantised", "split", "token"].map((name) => `${name}=${about[name] ? 1 : 0}`);
      return `hello ${about["target"]} ${(about["axes"] as string[]).join(",")} ${about["unit"]} ${about["winding"]} ${switches.join(" ")}`;
    }
    case "topology": {
      const { triangles, uv, corners, source } = message;
      const blocks = Object.entries({ triangles, uv, corners, source }).map(([name, values]) => `${name}=${hex(values)}`);
      return `topology ${key8(message.key)} ${message.vertices} ${blocks.join(" ")} units=${message.units.join(",")} name=${message.name}`;
    }
    case "health":
      return `health ${message.state}`;
    case "end":
      return `end ${message.reason}`;
    default: {
      const time = Buffer.alloc(8);
      time.writeDoubleLE(message.captureTime);
      const parts = [`pose=${hex(message.pose)}`, `weights=${hex(message.weights)}`];
      if (message.kind === "frame") {
        parts.unshift(`positions=${hex(message.positions)}`);
        parts.push(`normals=${hex(message.normals)}`);
      }
      return `${message.kind} ${message.sequence} ${key8(message.key)} ${time.toString("hex")} ${parts.join(" ")}`;
    }
  }
}

function* dump(stream: Uint8Array, step: number): Generator<string> {
  const splitter = new Splitter(), reader = new Reader();
  try {
    for (let at = 0; at < stream.length; at += step) {
      for (const record of splitter.feed(stream.subarray(at, at + step))) {
        const message = reader.read(record);
        if (message) yield line(message);
      }
    }
    splitter.close();
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
    yield `error ${error.fault}`;
  }
}

const [step, ...files] = process.argv.slice(2);
console.log(JSON.stringify(files.map((file) => [...dump(readFileSync(file!), Number(step))])));
