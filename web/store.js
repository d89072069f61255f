/**
 * What this page knows: the user, the rooms, the timelines of rooms that were opened, and what is open of them.
 *
 * Views read it and listen for `rooms`, `room` and `timeline` (detail: roomId); only feed.js, receipts.js and app.js
 * write it.
 */
import { Timeline } from './timeline.js';

const TIMELINES_MAX = 50; // Well below the 200 rooms that one message:sync takes.
const STRAYS_MAX = 200; // Quoted and pinned messages that lie outside the timelines.

export class Store extends EventTarget {
  userId = null;
  openRoomId = null;
  /** The thread that is shown, or null. */
  thread = null;
  rooms = new Map();
  timelines = new Map();
  #strays = new Map();

  reset() {
    this.userId = null;
    this.openRoomId = null;
    this.thread = null;
    this.rooms.clear();
    this.timelines.clear();
    this.#strays.clear();
    this.#fire('rooms');
  }

  begin(userId) {
    this.userId = userId;
  }

  /** Newest activity first. */
  get sortedRooms() {
    return [...this.rooms.values()].sort((a, b) => activity(b).localeCompare(activity(a)));
  }

  get openRoom() {
    return this.rooms.get(this.openRoomId);
  }

  /** Of rooms that are not muted. */
  get totalUnread() {
    return [...this.rooms.values()].reduce((sum, room) => sum + (isMuted(room) ? 0 : room.unread), 0);
  }

  putRooms(rooms) {
    for (const room of rooms) {
      const known = this.rooms.get(room.roomId);
      const readSeq = Math.max(room.readSeq, known?.readSeq ?? 0);
      const unread = readSeq >= room.lastSeq ? { unread: 0, mentions: 0 } : {};
      this.rooms.set(room.roomId, { ...known, ...room, readSeq, ...unread });
      this.#fire('room', room.roomId);
    }
    this.#fire('rooms');
  }

  patchRoom(roomId, fields) {
    const room = this.rooms.get(roomId);
    if (!room) return;
    Object.assign(room, fields);
    this.#fire('room', roomId);
    this.#fire('rooms');
  }

  removeRoom(roomId) {
    this.rooms.delete(roomId);
    this.timelines.delete(roomId);
    this.#fire('rooms');
  }

  /** A message, wherever it is kept, or undefined. */
  message(roomId, seq) {
    const inThread = this.thread?.roomId === roomId ? this.thread.find(seq) : undefined;
    return this.timelines.get(roomId)?.find(seq) ?? inThread ?? this.#strays.get(`${roomId}/${seq}`);
  }

  /** Takes in messages of one room: new ones, and newer versions of known ones. */
  addMessages(roomId, messages) {
    const room = this.rooms.get(roomId);
    for (const message of messages) {
      const known = this.message(roomId, message.seq);
      this.#put(roomId, known ? newer(known, message) : { myReactions: [], ...message });
      this.#countReply(roomId, known, message);
      if (room && message.seq > room.lastSeq) this.#advance(room, message);
      else if (room && message.seq === room.lastMessage?.seq) room.lastMessage.text = message.text;
    }
    this.#fire('timeline', roomId);
    this.#fire('rooms');
  }

  /** Changes some fields of a message, where it is known, and of the room's preview of it. */
  change(roomId, seq, fields) {
    const known = this.message(roomId, seq);
    if (known) return this.addMessages(roomId, [{ ...known, ...fields }]);
    const last = this.rooms.get(roomId)?.lastMessage;
    if (last?.seq === seq && 'text' in fields) this.patchRoom(roomId, { lastMessage: { ...last, text: fields.text } });
  }

  addPage(roomId, page) {
    this.timelines.get(roomId)?.addPage(page);
    this.#fire('timeline', roomId);
  }

  addThread(thread) {
    if (this.thread === thread) this.#fire('timeline', thread.roomId);
  }

  /** Keeps a message that is outside the timelines, to be quoted. */
  addStray(message) {
    this.#strays.set(`${message.roomId}/${message.seq}`, message);
    if (this.#strays.size > STRAYS_MAX) this.#strays.delete(this.#strays.keys().next().value);
    this.#fire('timeline', message.roomId);
  }

  /** The room's timeline, made on first use; the least recently opened one makes place. */
  openTimeline(roomId) {
    const timeline = this.timelines.get(roomId) ?? new Timeline();
    this.timelines.delete(roomId);
    this.timelines.set(roomId, timeline);
    if (this.timelines.size > TIMELINES_MAX) this.timelines.delete(this.timelines.keys().next().value);
    return timeline;
  }

  dropTimeline(roomId) {
    this.timelines.delete(roomId);
    this.#fire('timeline', roomId);
  }

  open(roomId) {
    this.timelines.get(this.openRoomId)?.trim();
    this.openRoomId = roomId;
    this.#fire('rooms');
  }

  /** Marks the room read up to its newest message; gives that seq, or null when nothing was unread. */
  markRead(roomId) {
    const room = this.rooms.get(roomId);
    if (!room || room.readSeq >= room.lastSeq) return null;
    this.patchRoom(roomId, { unread: 0, mentions: 0, readSeq: room.lastSeq });
    return room.lastSeq;
  }

  #put(roomId, message) {
    this.timelines.get(roomId)?.add([message]);
    if (this.thread?.roomId === roomId) this.thread.add(message);
    const place = `${roomId}/${message.seq}`;
    if (this.#strays.has(place)) this.#strays.set(place, message);
  }

  /** Live replies come without their root's new summary. */
  #countReply(roomId, known, message) {
    const rootSeq = known ? known.replyTo : message.replyTo;
    const root = rootSeq ? this.message(roomId, rootSeq) : undefined;
    if (!root) return;
    const { count = 0, lastSeq = 0, lastAt = null } = root.thread ?? {};
    const came = !known && !message.deletedAt && message.seq > lastSeq;
    const went = known && !known.deletedAt && message.deletedAt;
    if (came) {
      this.#put(roomId, { ...root, thread: { count: count + 1, lastSeq: message.seq, lastAt: message.createdAt } });
    } else if (went) {
      this.#put(roomId, { ...root, thread: count > 1 ? { count: count - 1, lastSeq, lastAt } : null });
    }
  }

  #advance(room, message) {
    const { seq, senderId, text, createdAt } = message;
    Object.assign(room, { lastSeq: seq, lastMessage: { seq, senderId, text, createdAt }, updatedAt: createdAt });
    if (senderId === this.userId) return;
    room.unread += 1;
    if (mentionsUser(message, this.userId)) room.mentions += 1;
  }

  #fire(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export function isMuted({ mutedUntil }, now = Date.now()) {
  return Boolean(mutedUntil) && new Date(mutedUntil) > now;
}

/** Channels are visible to everybody, other rooms to members only. */
export function isMember(room) {
  return room.kind !== 'channel' || Boolean(room.role);
}

/** Admins and owners; in a direct room there are none. */
export function isAdmin(room) {
  return room.kind !== 'direct' && (room.role === 'admin' || room.role === 'owner');
}

export function mentionsUser({ mentions = [] }, userId) {
  return mentions.includes(userId) || mentions.includes('@room');
}

/** Events may overtake one another: a deletion is final, and of two edits the later one holds. */
function newer(known, message) {
  if (known.deletedAt && !message.deletedAt) return known;
  const older = known.editedAt && (message.editedAt ?? '') < known.editedAt;
  const text = older ? { text: known.text, editedAt: known.editedAt } : {};
  return { myReactions: known.myReactions, reactedAt: known.reactedAt, ...message, ...text };
}

function activity(room) {
  return room.lastMessage?.createdAt ?? room.updatedAt ?? '';
}
