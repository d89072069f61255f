/**
 * Who is typing where, and telling that this user is (protocol, section 5). Fires `change` (detail: roomId).
 *
 * The server swallows renewals within 2 s and ends what was not renewed for 6 s.
 */
const RENEW_MS = 3000;
const IDLE_MS = 5000;

export class Typing extends EventTarget {
  #connection;
  #typists = new Map();
  #own = { roomId: null, told: 0, timer: 0 };

  constructor(connection, store) {
    super();
    this.#connection = connection;
    const ended = ({ roomId, userId }) => this.#ended(roomId, userId);
    connection.listen({
      'session:ready': () => this.#clear(),
      'typing:start': ({ roomId, userId, expiresInMs }) => {
        if (userId !== store.userId) this.#started(roomId, userId, expiresInMs);
      },
      'typing:stop': ended,
      'message:received': ({ roomId, senderId }) => this.#ended(roomId, senderId),
    });
  }

  /** User ids, the earliest first. */
  typists(roomId) {
    return [...(this.#typists.get(roomId)?.keys() ?? [])];
  }

  /** Something was typed into a room's composer; `empty` when nothing is left there. */
  typed(roomId, empty) {
    const own = this.#own;
    if (own.roomId && (empty || own.roomId !== roomId)) this.#stop();
    if (empty) return;
    if (Date.now() - own.told >= RENEW_MS) {
      Object.assign(own, { roomId, told: Date.now() });
      this.#tell('typing:start', roomId);
    }
    clearTimeout(own.timer);
    own.timer = setTimeout(() => this.#stop(), IDLE_MS);
  }

  /** A message was sent: the server knows by itself that the typing has ended. */
  sent() {
    clearTimeout(this.#own.timer);
    Object.assign(this.#own, { roomId: null, told: 0 });
  }

  #stop() {
    const { roomId } = this.#own;
    this.sent();
    if (roomId) this.#tell('typing:stop', roomId);
  }

  /** Whether it arrives is of no consequence. */
  #tell(event, roomId) {
    this.#connection.request(event, { roomId }).catch(() => {});
  }

  #started(roomId, userId, expiresInMs) {
    const room = this.#typists.get(roomId) ?? new Map();
    this.#typists.set(roomId, room);
    clearTimeout(room.get(userId));
    room.set(userId, setTimeout(() => this.#ended(roomId, userId), expiresInMs + 1000));
    this.#changed(roomId);
  }

  #ended(roomId, userId) {
    const room = this.#typists.get(roomId);
    if (!room?.has(userId)) return;
    clearTimeout(room.get(userId));
    room.delete(userId);
    if (!room.size) this.#typists.delete(roomId);
    this.#changed(roomId);
  }

  #clear() {
    for (const [roomId, room] of [...this.#typists]) for (const userId of [...room.keys()]) this.#ended(roomId, userId);
  }

  #changed(roomId) {
    this.dispatchEvent(new CustomEvent('change', { detail: roomId }));
  }
}
