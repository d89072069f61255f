/**
 * The members of rooms that were opened, with how far each has got: what ticks and mention completion are made from.
 *
 * Only a room's first page is held; of larger rooms the server tells no receipts (protocol, section 4). Fires `change`
 * (detail: roomId).
 */
const PAGE = 100;
const ROOMS_MAX = 50;

export class Members extends EventTarget {
  #connection;
  #people;
  #rooms = new Map();

  constructor(connection, people) {
    super();
    this.#connection = connection;
    this.#people = people;
    connection.listen({
      'session:ready': () => this.#reload(),
      'message:read': (receipt) => this.#advance(receipt, ['readSeq', 'deliveredSeq']),
      'message:delivered': (receipt) => this.#advance(receipt, ['deliveredSeq']),
      'member:joined': ({ roomId }) => this.#rooms.has(roomId) && this.load(roomId).catch(() => {}),
      'member:role': ({ roomId }) => this.#rooms.has(roomId) && this.load(roomId).catch(() => {}),
      'member:left': ({ roomId, userId }) => this.#left(roomId, userId),
      'room:removed': ({ roomId }) => this.#rooms.delete(roomId),
    });
  }

  reset() {
    this.#rooms.clear();
  }

  /** The members known so far, longest standing first. */
  of(roomId) {
    return [...(this.#rooms.get(roomId)?.members.values() ?? [])];
  }

  /** Reads the first page, and gives { members, complete }; rejects with RequestError. */
  async load(roomId) {
    const ack = await this.#connection.request('room:members', { roomId, limit: PAGE });
    const members = new Map(ack.members.map((member) => [member.userId, member]));
    this.#rooms.delete(roomId);
    this.#rooms.set(roomId, { members, complete: ack.nextCursor === null });
    if (this.#rooms.size > ROOMS_MAX) this.#rooms.delete(this.#rooms.keys().next().value);
    for (const { userId, name } of ack.members) this.#people.learn(userId, name);
    this.#people.watch([...members.keys()]);
    this.#changed(roomId);
    return { members: ack.members, complete: ack.nextCursor === null };
  }

  /** How many others have a message, have read it, and there are; null where that is not known. */
  reach({ roomId, seq, senderId }) {
    const known = this.#rooms.get(roomId);
    if (!known?.complete) return null;
    const others = [...known.members.values()].filter(({ userId }) => userId !== senderId);
    const read = others.filter(({ readSeq }) => readSeq >= seq).length;
    const delivered = others.filter((one) => Math.max(one.deliveredSeq, one.readSeq) >= seq).length;
    return { read, delivered, all: others.length };
  }

  #advance({ roomId, userId, seq }, marks) {
    const member = this.#rooms.get(roomId)?.members.get(userId);
    if (!member) return;
    for (const mark of marks) member[mark] = Math.max(member[mark], seq);
    this.#changed(roomId);
  }

  #left(roomId, userId) {
    if (this.#rooms.get(roomId)?.members.delete(userId)) this.#changed(roomId);
  }

  /** What was told while the connection was away is read again, for the room last opened; others when opened. */
  #reload() {
    const last = [...this.#rooms.keys()].at(-1);
    for (const roomId of this.#rooms.keys()) if (roomId !== last) this.#rooms.delete(roomId);
    if (last) this.load(last).catch(() => {});
  }

  #changed(roomId) {
    this.dispatchEvent(new CustomEvent('change', { detail: roomId }));
  }
}
