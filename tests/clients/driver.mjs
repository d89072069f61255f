// Drives the stock JavaScript client by lines of JSON on standard input, and tells what happens on standard output.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

let socket;
const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");

const actions = {
  connect({ url, auth, transports, reconnection }) {
    socket = io(url, { auth: auth ?? undefined, transports, reconnection, reconnectionDelay: 100, forceNew: true });
    socket.on("connect", () => tell({ what: "connected", recovered: Boolean(socket.recovered), id: socket.id }));
    socket.on("disconnect", (reason) => tell({ what: "disconnected", reason }));
    socket.on("connect_error", (error) => tell({ what: "refused", message: error.message, data: error.data ?? null }));
    socket.onAny((event, ...args) => tell({ what: "event", event, args }));
  },
  call({ number, event, args }) {
    socket.emit(event, ...args, (...answer) => tell({ what: "ack", number, args: answer }));
  },
  emit({ event, args }) {
    socket.emit(event, ...args);
  },
  // The transport is lost; the socket keeps what it needs to come back, to the same server or another.
  drop() {
    socket.io.engine.close();
  },
  back({ url, auth }) {
    socket.io.uri = url;
    socket.auth = auth ?? undefined;
    socket.connect();
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  actions[command.do](command);
});
lines.on("close", () => {
  socket?.disconnect();
  setTimeout(() => process.exit(0), 50);
});
