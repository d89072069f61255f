/**
 * Tells the server how far this device has got and how far its user has read, and keeps the unread figures it answers.
 *
 * Reports are watermarks: of several in one room only the latest is sent, and what had no ack goes again with the next
 * session:ready (protocol, section 4).
 */
const REPORT_MS = 400;

export class Receipts {
  #connection;
  #store;
  #pending = { 'message:read': new Map(), 'message:delivered': new Map() };
  #timer = 0;

  constructor(connection, store) {
    this.#connection = connection;
    this.#store = store;
    connection.listen({
      'session:ready': ({ rooms }) => this.#begin(rooms),
      'message:received': ({ roomId, seq, senderId }) => senderId !== store.userId && this.#delivered(roomId, seq),
      'message:read': ({ roomId, userId, seq }) => userId === store.userId && this.#readElsewhere(roomId, seq),
      'unread:updated': (figures) => this.#told(figures),
    });
    document.addEventListener('visibilitychange', () => document.visibilityState === 'hidden' && this.#flush());
  }

  reset() {
    clearTimeout(this.#timer);
    for (const seqs of Object.values(this.#pending)) seqs.clear();
  }

  /** Marks the room read up to its newest message, here and, shortly after, on the server. */
  markRead(roomId) {
    const seq = this.#store.markRead(roomId);
    if (seq !== null) this.#report('message:read', roomId, seq);
  }

  #begin(rooms) {
    for (const { roomId, unread, lastSeq } of rooms) if (unread > 0) this.#delivered(roomId, lastSeq);
    this.#flush();
  }

  #delivered(roomId, seq) {
    this.#report('message:delivered', roomId, seq);
  }

  #report(event, roomId, seq) {
    const seqs = this.#pending[event];
    seqs.set(roomId, Math.max(seq, seqs.get(roomId) ?? 0));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#flush(), REPORT_MS);
  }

  #flush() {
    clearTimeout(this.#timer);
    if (!this.#connection.ready) return;
    for (const [event, seqs] of Object.entries(this.#pending)) {
      for (const [roomId, seq] of seqs) this.#send(event, roomId, seq);
    }
  }

  async #send(event, roomId, seq) {
    const seqs = this.#pending[event];
    try {
      const { unread, mentions } = await this.#connection.request(event, { roomId, seq });
      if (unread !== undefined) this.#told({ roomId, unread, mentions });
    } catch (error) {
      if (error.retryable) return;
    }
    if (seqs.get(roomId) === seq) seqs.delete(roomId);
  }

  #readElsewhere(roomId, seq) {
    const room = this.#store.rooms.get(roomId);
    if (room && seq > room.readSeq) this.#store.patchRoom(roomId, { readSeq: seq });
  }

  /** The server's figures hold, unless what has been read here is still on its way there. */
  #told({ roomId, unread, mentions }) {
    const room = this.#store.rooms.get(roomId);
    if (room && (unread === 0 || room.readSeq < room.lastSeq)) this.#store.patchRoom(roomId, { unread, mentions });
  }
}
