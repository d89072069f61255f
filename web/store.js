/**
 * What this page knows: the user, the rooms, the timelines of rooms that were opened, and which room is open.
 *
 * Views read it and listen for `rooms`, `room` and `timeline` (detail: roomId); only feed.js and app.js write it.
 */
import { load, save } from './storage.js';
import { Timeline } from './timeline.js';

const TIMELINES_MAX = 50; // Well below the 200 rooms that one message:sync takes.
const READ_KEY = 'parley.read';

export class Store extends EventTarget {
  userId = null;
  openRoomId = null;
  rooms = new Map();
  timelines = new Map();
  #read = new Map();

  reset() {
    this.userId = null;
    this.openRoomId = null;
    this.rooms.clear();
    this.timelines.clear();
    this.#fire('rooms');
  }

  /** Begins a session: what was read in this tab counts as read even where the server is not told. */
  begin(userId) {
    if (this.userId === userId) return;
    this.userId = userId;
    const saved = load(READ_KEY);
    this.#read = new Map(saved?.userId === userId ? saved.seqs : []);
  }

  /** Newest activity first. */
  get sortedRooms() {
    return [...this.rooms.values()].sort((a, b) => activity(b).localeCompare(activity(a)));
  }

  get openRoom() {
    return this.rooms.get(this.openRoomId);
  }

  get totalUnread() {
    return [...this.rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  }

  putRooms(rooms) {
    for (const room of rooms) {
      const readSeq = Math.max(room.readSeq, this.#read.get(room.roomId) ?? 0);
      const unread = Math.min(room.unread, Math.max(0, room.lastSeq - readSeq));
      this.rooms.set(room.roomId, { ...this.rooms.get(room.roomId), ...room, readSeq, unread });
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

  /** Takes in messages of one room; those already seen change nothing but their own content. */
  addMessages(roomId, messages) {
    this.timelines.get(roomId)?.add(messages);
    const room = this.rooms.get(roomId);
    for (const message of room ? messages : []) {
      if (message.seq > room.lastSeq) this.#advance(room, message);
      else if (message.seq === room.lastMessage?.seq) room.lastMessage.text = message.text;
    }
    this.#fire('timeline', roomId);
    this.#fire('rooms');
  }

  addPage(roomId, page) {
    this.timelines.get(roomId)?.addPage(page);
    this.#fire('timeline', roomId);
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
    this.#read.set(roomId, room.lastSeq);
    save(READ_KEY, { userId: this.userId, seqs: [...this.#read] });
    this.patchRoom(roomId, { unread: 0, readSeq: room.lastSeq });
    return room.lastSeq;
  }

  #advance(room, { seq, senderId, text, createdAt }) {
    Object.assign(room, { lastSeq: seq, lastMessage: { seq, senderId, text, createdAt }, updatedAt: createdAt });
    if (senderId !== this.userId) room.unread += 1;
  }

  #fire(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Channels are visible to everybody, other rooms to members only. */
export function isMember(room) {
  return room.kind !== 'channel' || Boolean(room.role);
}

function activity(room) {
  return room.lastMessage?.createdAt ?? room.updatedAt ?? '';
}
