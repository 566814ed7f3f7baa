#!/usr/bin/env node
// A worker in Node, serving many requests at once. Start it with:  rgunicorn --exec docs/examples/pipe_worker.mjs
import { createHash } from "node:crypto";
import { Socket } from "node:net";

const REQUEST = 1, RESPONSE = 2, BODY = 3, ABORT = 4, REFUSED = 6, READY = 0x10, DRAIN = 0x12;
const END = 1;

// Returns status, fields, and the body: a string or Buffer, or an (async) iterator whose parts are sent one by one.
async function app(variables, body) {
  const text = { "Content-Type": "text/plain" };
  switch (variables.PATH_INFO) {
    case "/": return ["200 OK", text, "Hello from Node\n"];
    case "/echo": {
      const sum = createHash("sha256").update(body).digest("hex");
      return ["200 OK", { "X-Length": body.length, "X-SHA256": sum }, body];
    }
    case "/big": return ["200 OK", text, Buffer.alloc(Number(new URLSearchParams(variables.QUERY_STRING).get("n")), "x")];
    case "/sse": return ["200 OK", { "Content-Type": "text/event-stream" }, events()];
    case "/broken": return ["200 OK", text, broken()];
    case "/vars": {
      const lines = Object.keys(variables).sort().map((name) => `${name}=${variables[name]}\n`);
      return ["200 OK", text, Buffer.from(lines.join(""), "latin1")];
    }
    default: return ["404 Not Found", text, "Not here\n"];
  }
}

async function* events() {
  for (let n = 0; n < 5; n++) yield `data: ${n}\n\n`;
}

async function* broken() {
  yield "half of it";
  throw new Error("broken on purpose");
}

function send(kind, flags, id, ...parts) {
  const payload = Buffer.concat(parts.map((part) => Buffer.from(part, "latin1")));
  const header = Buffer.alloc(8);
  header.writeUInt8(kind, 0);
  header.writeUInt8(flags, 1);
  header.writeUInt16BE(id, 2);
  header.writeUInt32BE(payload.length, 4);
  channel.cork(); // Header and payload leave in one write.
  channel.write(header);
  const flowing = channel.write(payload);
  channel.uncork();
  return flowing ? undefined : new Promise((resolve) => channel.once("drain", resolve));
}

const counted = (bytes) => [Buffer.from([bytes.length >>> 24, bytes.length >>> 16, bytes.length >>> 8, bytes.length]), bytes];

async function answer(id, { variables, parts }) {
  let begun = false;
  running++;
  try {
    const [status, fields, body] = await app(variables, Buffer.concat(parts));
    const head = counted(Buffer.from([status, ...Object.entries(fields).flat()].join("\0"), "latin1"));
    const whole = typeof body === "string" || Buffer.isBuffer(body);
    begun = true;
    await send(RESPONSE, whole ? END : 0, id, ...head, ...(whole ? [body] : []));
    if (!whole) {
      for await (const part of body) await send(BODY, 0, id, part);
      await send(BODY, END, id);
    }
  } catch (error) {
    console.error(`${variables.PATH_INFO}: ${error.message}`);
    const head = counted(Buffer.from("500 Internal Server Error\0Content-Type\0text/plain"));
    if (begun) send(ABORT, 0, id);
    else send(RESPONSE, END, id, ...head, "The app failed\n");
  }
  running--;
  leaveIfDone();
}

const unfinished = new Map(); // Requests whose body is still coming.
let running = 0, draining = false, input = [], size = 0, wanted = 8;

function leaveIfDone() {
  if (draining && running === 0 && unfinished.size === 0) channel.end(() => process.exit(0));
}

function handle(kind, flags, id, payload) {
  if (kind === REQUEST) {
    const end = 4 + payload.readUInt32BE(0);
    const pieces = payload.toString("latin1", 4, end).split("\0");
    const variables = {};
    for (let at = 0; at + 1 < pieces.length; at += 2) variables[pieces[at]] = pieces[at + 1];
    unfinished.set(id, { variables, parts: [payload.subarray(end)] });
  } else if (kind === BODY) {
    unfinished.get(id)?.parts.push(payload);
  } else if (kind === ABORT && unfinished.delete(id)) {
    send(REFUSED, 0, id);
  } else if (kind === DRAIN) {
    draining = true;
    leaveIfDone();
  }
  if ((kind === REQUEST || kind === BODY) && flags & END) {
    const request = unfinished.get(id);
    unfinished.delete(id);
    answer(id, request);
  }
}

if (!process.env.RGUNICORN_FD) {
  console.error(`start me with: rgunicorn --exec ${process.argv[1]}`);
  process.exit(1);
}
const channel = new Socket({ fd: Number(process.env.RGUNICORN_FD), readable: true, writable: true });
channel.on("error", () => process.exit(0));
channel.on("end", () => process.exit(0)); // The channel has ended: so has rgunicorn.
channel.on("data", (data) => {
  input.push(data);
  size += data.length;
  if (size < wanted) return;
  let all = Buffer.concat(input);
  while (all.length >= 8 && all.length >= (wanted = 8 + all.readUInt32BE(4))) {
    handle(all.readUInt8(0), all.readUInt8(1), all.readUInt16BE(2), all.subarray(8, wanted));
    all = all.subarray(wanted);
  }
  if (all.length < 8) wanted = 8;
  [input, size] = [[all], all.length];
});
const slots = Number(process.env.RGUNICORN_SLOTS) || 1;
send(READY, 0, 0, Buffer.from([slots >> 8, slots & 255]));
