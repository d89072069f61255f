// Drives the official Redis emitter by lines of JSON on standard input; answers each once Redis has taken it.
import { createInterface } from "node:readline";
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";

const client = createClient({ url: process.argv[2] });
client.on("error", () => {}); // It comes back by itself.
await client.connect();

for await (const line of createInterface({ input: process.stdin })) {
  const { namespace, rooms, except, method, args, date } = JSON.parse(line);
  const emitter = new Emitter(client, {}, namespace);
  if (date) args.push({ date: new Date(date), missing: undefined });
  const target = method === "serverSideEmit" ? emitter : emitter.to(rooms).except(except);
  target[method](...args);
  await client.ping();
  process.stdout.write("done\n");
}
await client.close();
