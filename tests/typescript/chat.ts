// What a front-end writes with the stock client and parley.d.ts. tests/test_docs.py has tsc check it: what is marked as an
// error has to be refused, all the rest has to pass.
import { io, type Socket } from "socket.io-client";
import type { Ack, ClientToServerEvents, Message, Room, SendReply, ServerToClientEvents } from "../../docs/parley";

const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://127.0.0.1:3000", {
  auth: { token: "a token" },
});

socket.on("session:ready", ({ protocol, rooms, syncToken }) => {
  const titles: (string | null)[] = rooms.map((room) => room.title);
  console.log(protocol satisfies number, titles, syncToken.length);
});
socket.on("message:received", (message: Message) => {
  if (message.thread !== null) console.log(message.thread.count, message.reactions["👍"] ?? 0);
});
socket.on("notification:read", ({ ids, all, unreadNotifications }) => console.log(ids?.length, all, unreadNotifications));
socket.on("user:online", ({ userId, status }) => console.log(userId, status === "busy"));

export async function talk(): Promise<Room | undefined> {
  const made = await socket.emitWithAck("room:create", { kind: "direct", memberIds: ["bob"] });
  if (!made.success) {
    if (made.error.code === "RATE_LIMITED") console.log(made.error.retryAfterMs ?? 0);
    console.log(made.error.details?.map((invalid) => `${invalid.field}: ${invalid.message}`));
    return undefined;
  }
  const roomId = made.room.roomId;
  const ack: Ack<SendReply> = await socket
    .timeout(7000)
    .emitWithAck("message:send", { roomId, text: "hello", clientId: "c-1", metadata: { mood: "good" } });
  if (ack.success && !ack.duplicate) console.log(ack.message.myReactions, ack.seq + 1);
  socket.emit("message:read", { roomId, seq: 1 }, (reply) => console.log(reply.success ? reply.unread : reply.error.code));
  socket.timeout(7000).emit("typing:start", { roomId }, (error, reply) => console.log(error?.message, reply.success));
  const synced = await socket.emitWithAck("message:sync", { rooms: { [roomId]: 0 } });
  if (synced.success) {
    for (const room of Object.values(synced.rooms)) console.log("gone" in room ? room.gone : room.messages.length);
  }
  await socket.emitWithAck("session:list", {});
  return made.room;
}

export async function mistakes(roomId: string): Promise<void> {
  // @ts-expect-error: there is no such event
  await socket.emitWithAck("message:sent", { roomId, text: "hello" });
  // @ts-expect-error: a room id is missing
  await socket.emitWithAck("message:send", { text: "hello" });
  // @ts-expect-error: a text is no number
  await socket.emitWithAck("message:send", { roomId, text: 1 });
  // @ts-expect-error: there is no such field
  await socket.emitWithAck("message:send", { roomId, text: "hello", room: roomId });
  // @ts-expect-error: there is no such role
  await socket.emitWithAck("room:role", { roomId, userId: "bob", role: "king" });
  // @ts-expect-error: an optional field is left out, not null
  await socket.emitWithAck("message:history", { roomId, before: null });
  // @ts-expect-error: the payload is not optional
  socket.emit("typing:start");
  // @ts-expect-error: this one lists nothing
  await socket.emitWithAck("session:list", { roomId });
  // @ts-expect-error: the server sends no such event
  socket.on("message:send", () => undefined);
  const ack = await socket.emitWithAck("room:get", { roomId });
  // @ts-expect-error: without success there is no room
  console.log(ack.room);
  // @ts-expect-error: a title can be null
  if (ack.success) console.log(ack.room.title.length);
}
