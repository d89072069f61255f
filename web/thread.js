/** A message and the replies to it: ascending by seq, each once, without deleted ones. */
export class Thread {
  root = null;
  replies = [];
  loaded = false;

  constructor(roomId, seq) {
    this.roomId = roomId;
    this.seq = seq;
  }

  find(seq) {
    return seq === this.seq ? (this.root ?? undefined) : this.replies.find((reply) => reply.seq === seq);
  }

  /** Puts a message in its place, if it belongs here; a deleted reply goes. */
  add(message) {
    if (message.seq === this.seq) this.root = message;
    const known = this.replies.some((reply) => reply.seq === message.seq);
    if (!known && message.replyTo !== this.seq) return;
    this.replies = this.replies.filter((reply) => reply.seq !== message.seq);
    if (message.deletedAt) return;
    this.replies.push(message);
    this.replies.sort((a, b) => a.seq - b.seq);
  }

  /** The seq after which replies may be missing. */
  get lastSeq() {
    return this.replies.at(-1)?.seq ?? 0;
  }
}
