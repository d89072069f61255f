// Drives socket.io-client by lines of JSON on standard input, and tells what happens on standard output.
// Bytes inside JSON are { $bytes: base64 }.
import { createInterface } from "node:readline";
import { Manager } from "socket.io-client";

let manager;
const sockets = {};

const pack = (value) => {
  if (Buffer.isBuffer(value) || value instanceof ArrayBuffer) return { $bytes: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(pack);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, pack(item)]));
};
const unpack = (value) => {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) return Buffer.from(value.$bytes, "base64");
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, unpack(item)]));
};
const tell = (what, namespace, args) => process.stdout.write(JSON.stringify([what, namespace, pack(args)]) + "\n");

const actions = {
  open(url, transports) {
    manager = new Manager(url, { transports, reconnection: false });
  },
  join(namespace, auth) {
    const socket = (sockets[namespace] = manager.socket(namespace, { auth }));
    socket.on("connect", () => tell("connected", namespace, [socket.id]));
    socket.on("connect_error", (error) => tell("refused", namespace, [error.message, error.data ?? null]));
    socket.on("disconnect", (reason) => tell("disconnected", namespace, [reason]));
    socket.onAny((event, ...args) => {
      const answer = typeof args.at(-1) === "function" ? args.pop() : undefined;
      tell("event", namespace, [event, ...args]);
      answer?.(...args.reverse());
    });
  },
  emit(namespace, event, args) {
    sockets[namespace].emit(event, ...args);
  },
  call(namespace, event, args, number) {
    sockets[namespace].emit(event, ...args, (...answer) => tell("ack", namespace, [number, ...answer]));
  },
  leave(namespace) {
    sockets[namespace].disconnect();
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const [action, ...args] = unpack(JSON.parse(line));
  actions[action](...args);
});
lines.on("close", () => process.exit(0));
