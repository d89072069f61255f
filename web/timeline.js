/** The messages of one room that this page holds: ascending by seq, each once, from `base` (exclusive) on. */
const KEEP_WHEN_CLOSED = 200;

export class Timeline {
  messages = [];
  /** True once the newest page has come; before that only live messages are here. */
  loaded = false;
  hasOlder = true;
  base = 0;

  /** A page of history, older than or equal to what is here; `lastSeq` is the room's when the page was read. */
  addPage({ messages, hasMore, lastSeq }) {
    if (messages.length) this.base = messages[0].seq - 1;
    else if (!this.loaded) this.base = lastSeq;
    this.hasOlder = hasMore && messages.length > 0;
    this.loaded = true;
    this.messages = this.messages.filter((message) => message.seq > this.base);
    this.add(messages);
  }

  /** Puts messages in their places; one with a known seq replaces it, one from before `base` is left to history. */
  add(messages) {
    for (const message of messages) {
      if (message.seq <= this.base) continue;
      let at = this.messages.length;
      while (at > 0 && this.messages[at - 1].seq >= message.seq) at -= 1;
      const known = this.messages[at]?.seq === message.seq;
      this.messages.splice(at, known ? 1 : 0, message);
    }
  }

  find(seq) {
    return this.messages.findLast((message) => message.seq === seq);
  }

  get oldestSeq() {
    return this.messages[0]?.seq;
  }

  /** The highest seq below which nothing is missing. */
  get contiguousSeq() {
    let seq = this.base;
    for (const message of this.messages) {
      if (message.seq > seq + 1) break;
      seq = message.seq;
    }
    return seq;
  }

  get hasGap() {
    return this.loaded && this.messages.length > 0 && this.messages.at(-1).seq > this.contiguousSeq;
  }

  /** Lets go of far history when the room is no longer looked at. */
  trim() {
    if (this.messages.length <= KEEP_WHEN_CLOSED || this.hasGap) return;
    this.messages = this.messages.slice(-KEEP_WHEN_CLOSED);
    this.base = this.oldestSeq - 1;
    this.hasOlder = true;
  }
}
