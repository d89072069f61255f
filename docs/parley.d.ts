// Parley's events, protocol 1, for the stock client:
//
//   import { io, type Socket } from "socket.io-client";
//   import type { ClientToServerEvents, ServerToClientEvents } from "./parley";
//
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io(url, { auth: { token } });
//   const ack = await socket.emitWithAck("message:send", { roomId, text, clientId });
//   if (ack.success) show(ack.message); else complain(ack.error);
//
// A callback may be left out on the wire, but not here: `emitWithAck` finds its type by it.

/** Make a room. A direct room has exactly one `memberIds` entry, the other person, and nothing of its own. */
export interface CreateRoom {
  kind: RoomKind;
  /** ≤200 items */
  memberIds?: string[];
  /** 1–200 characters */
  title?: string;
  /** at most 4 KiB of JSON; keys without a dot, U+0000 or a leading $ */
  metadata?: Record<string, unknown>;
  /** 1–64 characters, ^[^\x00]*$ */
  externalId?: string;
  /** 1–64 characters, ^[^\x00]*$ */
  clientId?: string;
}

/** Give one's own message another text. */
export interface EditMessage {
  roomId: string;
  /** ≥1 */
  seq: number;
  /** 1–10,000 characters, ^[^\x00]*$ */
  text: string;
}

/** Disconnect one of the caller's own connections. */
export interface EndSession {
  sessionId: string;
}

/** Who of these users is here. */
export interface GetPresence {
  /** 1–200 items */
  userIds: string[];
}

/** How these users want to be shown. */
export interface GetUsers {
  /** 1–200 items */
  userIds: string[];
}

/** An event that needs nothing but the room. */
export interface InRoom {
  roomId: string;
}

/** Make others members. */
export interface InviteMembers {
  roomId: string;
  /** 1–200 items */
  userIds: string[];
}

/** Whom the caller has blocked. */
export interface ListBlocks {
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  cursor?: string;
}

/** Channels that anyone may join, by title. */
export interface ListChannels {
  /** 1–200 characters */
  query?: string;
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  cursor?: string;
  /** 1–100, default 50 */
  limit?: number;
}

/** A room's members, longest standing first. */
export interface ListMembers {
  roomId: string;
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  cursor?: string;
  /** 1–100, default 50 */
  limit?: number;
}

/** The caller's notifications, newest first. */
export interface ListNotifications {
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  cursor?: string;
  /** 1–100, default 50 */
  limit?: number;
  /** default false */
  unreadOnly?: boolean;
}

/** Who has a message, and who has read it, longest standing members first. */
export interface ListReceipts {
  roomId: string;
  /** ≥1 */
  seq: number;
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  cursor?: string;
  /** 1–100, default 50 */
  limit?: number;
}

/** The caller's rooms, newest activity first. */
export interface ListRooms {
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  cursor?: string;
  /** 1–500, default 50 */
  limit?: number;
}

/** Where the caller is connected at the moment. */
export type ListSessions = Record<string, never>;

/** Silence a room for the caller until a time, or no longer (null). */
export interface MuteRoom {
  roomId: string;
  until: string | null;
}

/** An event about one person in a room: kick, ban, unban. */
export interface NameMember {
  roomId: string;
  userId: string;
}

/** An event about one message in a room. */
export interface NameMessage {
  roomId: string;
  /** ≥1 */
  seq: number;
}

/** An event about one person: block, unblock. */
export interface NameUser {
  userId: string;
}

/** Show a message on top of its room, or no longer. */
export interface PinMessage {
  roomId: string;
  /** ≥1 */
  seq: number;
  pinned: boolean;
}

/** What a device says of its user; invisible: here, and not for others to know. */
export type PresenceStatus = "online" | "away" | "busy" | "invisible";

/** Say how far the caller's devices have got, or the caller has read. */
export interface ReachSeq {
  roomId: string;
  /** ≥1 */
  seq: number;
}

/** Set one's emoji on a message, or take it back. */
export interface React {
  roomId: string;
  /** ≥1 */
  seq: number;
  /** one emoji, fully qualified */
  emoji: string;
  /** default false */
  remove?: boolean;
}

/** A page of messages beside one seq (`before` and `after` exclusive), or the newest. */
export interface ReadHistory {
  roomId: string;
  /** ≥1 */
  before?: number;
  /** ≥0 */
  after?: number;
  /** ≥1 */
  around?: number;
  /** 1–100, default 50 */
  limit?: number;
}

/** Mark notifications as read: these, or all. */
export interface ReadNotifications {
  /** 1–500 items */
  ids?: string[];
  all?: boolean;
}

/** A message and the replies to it, oldest first. */
export interface ReadThread {
  roomId: string;
  /** ≥1 */
  seq: number;
  /** ≥0 */
  after?: number;
  /** 1–100, default 50 */
  limit?: number;
}

/** Go on with a newer token of the same user. */
export interface RefreshToken {
  /** ≥1 characters */
  token: string;
}

/** Bring a message before the admins. */
export interface ReportMessage {
  roomId: string;
  /** ≥1 */
  seq: number;
  /** 1–1,000 characters */
  reason: string;
}

/** What a member may do, weakest first. */
export type Role = "member" | "admin" | "owner";

/** direct: exactly two people; group: by invitation; channel: anyone joins. */
export type RoomKind = "direct" | "group" | "channel";

/** Say something. The same `clientId` in the same room is the same message, however often it is sent. */
export interface SendMessage {
  roomId: string;
  /** 1–10,000 characters, ^[^\x00]*$ */
  text?: string;
  /** 1–64 characters, ^[^\x00]*$ */
  clientId?: string;
  /** ≥1 */
  replyTo?: number;
  /** ≤10 items */
  attachments?: string[];
  /** ≤50 items */
  mentions?: string[];
  /** at most 4 KiB of JSON; keys without a dot, U+0000 or a leading $ */
  metadata?: Record<string, unknown>;
}

/** What this device says of its user, until it is gone. */
export interface SetPresence {
  status: PresenceStatus;
}

/** Give a member another role. */
export interface SetRole {
  roomId: string;
  userId: string;
  role: Role;
}

/** What a client missed in each room since the seq it last saw. */
export interface SyncMessages {
  /** ≤200 entries */
  rooms: Record<string, number>;
  /** 1–512 characters, ^[A-Za-z0-9_=-]+$ */
  syncToken?: string;
  /** 1–500, default 100 */
  limit?: number;
}

/** Change what is given and leave the rest. */
export interface UpdateRoom {
  roomId: string;
  /** 1–200 characters */
  title?: string;
  /** at most 4 KiB of JSON; keys without a dot, U+0000 or a leading $ */
  metadata?: Record<string, unknown>;
  /** 0–86,400 */
  slowModeSeconds?: number;
}

/** Be told, or no longer, of these users' coming and going. */
export interface WatchPresence {
  /** 1–500 items */
  userIds: string[];
}

/** Whom the caller has blocked. */
export interface BlocksPage {
  success: true;
  userIds: string[];
  nextCursor: string | null;
}

/** A channel as the directory shows it. */
export interface Channel {
  roomId: string;
  title: string | null;
  memberCount: number;
  joined: boolean;
}

/** The channel directory. */
export interface ChannelsPage {
  success: true;
  rooms: Channel[];
  nextCursor: string | null;
}

/** How far the caller's devices have got. */
export interface DeliveredReply {
  success: true;
  deliveredSeq: number;
}

/** A member's devices have all messages up to this one. */
export interface DeliveredUpTo {
  roomId: string;
  userId: string;
  seq: number;
  at: string;
}

/** The failure of an event that carried no callback. */
export interface EventFailed {
  event: string;
  error: Failure;
}

/** Why an event failed; `retryable` says whether the same call can succeed later, as it is. */
export interface Failure {
  code: ErrorCode;
  message: string;
  retryable: boolean;
  retryAfterMs?: number;
  details?: InvalidField[];
}

/** Messages in ascending order; `hasMore` says whether more lie in the direction asked for. */
export interface HistoryPage {
  success: true;
  messages: OwnedMessage[];
  hasMore: boolean;
  lastSeq: number;
}

/** A field that was refused: its dotted path ("" is the payload itself), and what it should have been. */
export interface InvalidField {
  field: string;
  message: string;
}

/** Who became a member by this call. */
export interface InviteReply {
  success: true;
  added: string[];
}

/** A notification in a list. */
export interface KeptNotification extends Notification {
  read: boolean;
}

/** A room's newest message as lists show it; `text` is null when it was deleted or has none. */
export interface LastMessage {
  seq: number;
  senderId: string;
  text: string | null;
  createdAt: string;
}

/** One member of a room, with the profile their last token carried. */
export interface Member {
  userId: string;
  name: string | null;
  avatar: string | null;
  role: Role;
  joinedAt: string;
  readSeq: number;
  deliveredSeq: number;
}

/** Someone became a member. */
export interface MemberJoined {
  roomId: string;
  userId: string;
  role: Role;
}

/** Someone is no longer a member; `by` is themselves, or who removed them. */
export interface MemberLeft {
  roomId: string;
  userId: string;
  by: string;
}

/** A member has another role. */
export interface MemberRoleChanged {
  roomId: string;
  userId: string;
  role: Role;
  by: string;
}

/** A room's members. */
export interface MembersPage {
  success: true;
  members: Member[];
  nextCursor: string | null;
}

/** One message. A deleted one keeps its seq; its text is null and the rest is empty. */
export interface Message {
  messageId: string;
  roomId: string;
  seq: number;
  senderId: string;
  type: "text";
  text: string | null;
  clientId: string | null;
  replyTo: number | null;
  attachments: Record<string, unknown>[];
  mentions: string[];
  metadata: Record<string, unknown>;
  reactions: Record<string, number>;
  thread: ThreadSummary | null;
  createdAt: string;
  editedAt: string | null;
  deletedAt: string | null;
}

/** A message is no more, for good, but for its place. */
export interface MessageDeleted {
  roomId: string;
  messageId: string;
  seq: number;
  by: string;
  deletedAt: string;
}

/** A message is shown on top of its room, or no longer. */
export interface MessagePinned {
  roomId: string;
  seq: number;
  pinned: boolean;
  by: string;
}

/** Someone's reaction has come or gone; the counts are those after it, and of several the latest `at` holds. */
export interface MessageReaction {
  roomId: string;
  seq: number;
  messageId: string;
  userId: string;
  emoji: string;
  removed: boolean;
  reactions: Record<string, number>;
  at: string;
}

/** One message. */
export interface MessageReply {
  success: true;
  message: OwnedMessage;
}

/** Until when the room is silent. */
export interface MuteReply {
  success: true;
  mutedUntil: string | null;
}

/** Something a user is told of, and finds again later; `data` says what it is about. */
export interface Notification {
  id: string;
  type: "mention" | "push" | "reminder";
  title: string;
  body: string;
  data: Record<string, unknown>;
  createdAt: string;
}

/** The caller's notifications, newest first. */
export interface NotificationsPage {
  success: true;
  notifications: KeptNotification[];
  nextCursor: string | null;
}

/** Another device of the user has marked notifications as read: `ids` or `all`, the other is left out. */
export interface NotificationsRead {
  ids?: string[];
  all?: true;
  unreadNotifications: number;
}

/** How many notifications the caller has still not read. */
export interface NotificationsReadReply {
  success: true;
  unreadNotifications: number;
}

/** One of the caller's connections; `current` is the one that asks. */
export interface OpenSession {
  sessionId: string;
  deviceId: string | null;
  connectedAt: string;
  current: boolean;
}

/** A message as acks carry it: with the caller's own reactions. */
export interface OwnedMessage extends Message {
  myReactions: string[];
}

/** How a user wants to be shown; nulls where nothing is known. */
export interface Person {
  name: string | null;
  avatar: string | null;
}

/** A room's pinned messages, in the order they were pinned. */
export interface PinReply {
  success: true;
  pins: number[];
}

/** Who of those asked for is here, by id. */
export interface PresenceReply {
  success: true;
  users: Record<string, UserPresence>;
}

/** One member's receipt, and when they last reported one. */
export interface Reached {
  userId: string;
  at: string;
}

/** A message's reactions, and which of them are the caller's. */
export interface ReactionReply {
  success: true;
  reactions: Record<string, number>;
  myReactions: string[];
}

/** How far the caller has read, and what is left to read. */
export interface ReadReply {
  success: true;
  readSeq: number;
  unread: number;
  mentions: number;
}

/** A member has read all messages up to this one. */
export interface ReadUpTo {
  roomId: string;
  userId: string;
  seq: number;
  at: string;
}

/** Members who have a message; those of them who have read it are in both lists. */
export interface ReceiptsPage {
  success: true;
  readBy: Reached[];
  deliveredTo: Reached[];
  nextCursor: string | null;
}

/** Until when the session goes on. */
export interface RefreshReply {
  success: true;
  expiresAt: string;
}

/** The fields of a successful ack; this one has none. */
export interface Reply {
  success: true;
}

/** A room in full, seen by one of its members; `role` is theirs. */
export interface Room extends RoomSummary {
  createdBy: string;
  createdAt: string;
  memberCount: number;
  role: Role;
  metadata: Record<string, unknown>;
  slowModeSeconds: number;
  pins: number[];
  firstSeq: number;
  externalId: string | null;
}

/** The user's devices have one room more. */
export interface RoomAdded {
  room: Room;
}

/** The room is no more. */
export interface RoomDeleted {
  roomId: string;
  by: string;
}

/** The caller is no longer a member of this room. */
export interface RoomGone {
  gone: true;
}

/** The user's devices have one room less. */
export interface RoomRemoved {
  roomId: string;
  reason: "left" | "kicked" | "banned" | "deleted";
}

/** One room in full. */
export interface RoomReply {
  success: true;
  room: Room;
}

/** A room in a list, seen by one of its members. */
export interface RoomSummary {
  roomId: string;
  kind: RoomKind;
  title: string | null;
  peerId: string | null;
  lastSeq: number;
  readSeq: number;
  unread: number;
  mentions: number;
  mutedUntil: string | null;
  lastMessage: LastMessage | null;
  updatedAt: string;
}

/** What a client missed in one room. */
export interface RoomSync {
  messages: OwnedMessage[];
  changed: OwnedMessage[];
  lastSeq: number;
  hasMore: boolean;
  reset: boolean;
}

/** What all members see of a room has changed. */
export interface RoomUpdated {
  roomId: string;
  title: string | null;
  metadata: Record<string, unknown>;
  slowModeSeconds: number;
  pins: number[];
  memberCount: number;
  updatedAt: string;
}

/** The caller's rooms; `totalUnread` counts all of them, not only this page. */
export interface RoomsPage {
  success: true;
  rooms: RoomSummary[];
  nextCursor: string | null;
  totalUnread: number;
}

/** The place that a message took, for good. */
export interface SendReply {
  success: true;
  messageId: string;
  seq: number;
  createdAt: string;
  duplicate: boolean;
  message: OwnedMessage;
}

/** The server is about to end this connection, and whether to come back. */
export interface SessionClosed {
  code: string;
  reconnect: boolean;
}

/** The session's token is about to expire: `auth:refresh` with a newer one keeps the session. */
export interface SessionExpiring {
  expiresAt: string;
}

/** The first event of every connection: who it is, and the caller's rooms as they stand. */
export interface SessionReady {
  protocol: number;
  features: string[];
  limits: Record<string, number>;
  userId: string;
  sessionId: string;
  deviceId: string | null;
  serverTime: string;
  expiresAt: string;
  rooms: RoomSummary[];
  nextCursor: string | null;
  totalUnread: number;
  unreadNotifications: number;
  syncToken: string;
}

/** The caller's connections, the latest first. */
export interface SessionsReply {
  success: true;
  sessions: OpenSession[];
}

/** What a client missed, room by room. */
export interface SyncReply {
  success: true;
  rooms: Record<string, RoomSync | RoomGone>;
  syncToken: string;
}

/** A message and replies to it in ascending order; `hasMore` says whether later ones follow. */
export interface ThreadPage {
  success: true;
  root: OwnedMessage;
  messages: OwnedMessage[];
  hasMore: boolean;
}

/** What a message's replies amount to. */
export interface ThreadSummary {
  count: number;
  lastSeq: number;
  lastAt: string;
}

/** Someone is typing; without word of them for so long they no longer are. */
export interface TypingStarted {
  roomId: string;
  userId: string;
  expiresInMs: number;
}

/** Someone is no longer typing. */
export interface TypingStopped {
  roomId: string;
  userId: string;
}

/** What is unread has changed, other than by a message: for the user's devices. */
export interface UnreadUpdated {
  roomId: string;
  unread: number;
  mentions: number;
  totalUnread: number;
}

/** A watched user has gone, or hides; `lastSeen` is null when it is not known, or not for others to know. */
export interface UserOffline {
  userId: string;
  lastSeen: string | null;
}

/** A watched user has come. */
export interface UserOnline {
  userId: string;
  status: "online" | "away" | "busy";
}

/** A user as others see them: `lastSeen` is null for who is here, hides, or is not for the caller to know. */
export interface UserPresence {
  status: "online" | "away" | "busy" | "offline";
  lastSeen: string | null;
  devices: number;
}

/** A watched user is here as before, in another status. */
export interface UserStatusChanged {
  userId: string;
  status: "online" | "away" | "busy";
}

/** A user is shown in another way. */
export interface UserUpdated {
  userId: string;
  name: string | null;
  avatar: string | null;
}

/** Those asked for, by id, each one as known; who is left out did not fit into the reply. */
export interface UsersReply {
  success: true;
  users: Record<string, Person>;
}

/** Why something failed; a newer server may know further codes. */
export type ErrorCode = "VALIDATION_ERROR" | "UNAUTHENTICATED" | "AUTH_REQUIRED" | "TOKEN_INVALID" | "TOKEN_EXPIRED" | "TOKEN_REVOKED" | "USER_BLOCKED" | "FORBIDDEN" | "NOT_FOUND" | "UNKNOWN_EVENT" | "CONFLICT" | "PAYLOAD_TOO_LARGE" | "RATE_LIMITED" | "INTERNAL" | "BAD_GATEWAY" | "UNAVAILABLE" | "TIMEOUT" | (string & {});

/** The ack of an event that failed. */
export interface FailedAck {
  success: false;
  error: Failure;
}

/** What a callback is given: the fields asked for, or why there are none. */
export type Ack<Reply> = Reply | FailedAck;

type Acked<Payload, Reply> = (payload: Payload, ack: (reply: Ack<Reply>) => void) => void;

/** What a client sends: `socket.emit`, `socket.emitWithAck`. */
export interface ClientToServerEvents {
  /** Make a room with the caller as owner, or find the direct room that the two have. */
  "room:create": Acked<CreateRoom, RoomReply>;
  /** One room of the caller's. */
  "room:get": Acked<InRoom, RoomReply>;
  /** Change a room's settings. */
  "room:update": Acked<UpdateRoom, RoomReply>;
  /** Delete a room with its messages and memberships, for everyone and for good. */
  "room:delete": Acked<InRoom, Reply>;
  /** The caller's rooms, newest activity first. */
  "room:list": Acked<ListRooms, RoomsPage>;
  /** Channels by title, those whose title contains `query` if given. */
  "channel:list": Acked<ListChannels, ChannelsPage>;
  /** A room's members, longest standing first. */
  "room:members": Acked<ListMembers, MembersPage>;
  /** Become a member of a channel; for members of any room, look at it. */
  "room:join": Acked<InRoom, RoomReply>;
  /** End one's own membership; the last owner's room passes to the next in line. */
  "room:leave": Acked<InRoom, Reply>;
  /** Make others members. */
  "room:invite": Acked<InviteMembers, InviteReply>;
  /** End someone's membership. */
  "room:kick": Acked<NameMember, Reply>;
  /** Shut someone out, member or not, until unbanned. */
  "room:ban": Acked<NameMember, Reply>;
  /** Lift a ban. */
  "room:unban": Acked<NameMember, Reply>;
  /** Give a member a role. */
  "room:role": Acked<SetRole, Reply>;
  /** Silence a room for oneself. */
  "room:mute": Acked<MuteRoom, MuteReply>;
  /** Refuse someone's direct messages from now on; again is no error. */
  "user:block": Acked<NameUser, Reply>;
  /** Hear from someone again; someone who is not blocked is no error. */
  "user:unblock": Acked<NameUser, Reply>;
  /** Whom the caller has blocked, by user id. */
  "user:blocks": Acked<ListBlocks, BlocksPage>;
  /** Store a message, deliver it, and say which place it took. */
  "message:send": Acked<SendMessage, SendReply>;
  /** A page of a room's messages, ascending. */
  "message:history": Acked<ReadHistory, HistoryPage>;
  /** What a client missed in each of its rooms; rooms that do not fit into the reply say `hasMore`. */
  "message:sync": Acked<SyncMessages, SyncReply>;
  /** A message, deleted or not, and the replies to it beyond `after`, ascending, without deleted ones. */
  "message:thread": Acked<ReadThread, ThreadPage>;
  /** Give one's own message another text; the same text is no edit. */
  "message:edit": Acked<EditMessage, MessageReply>;
  /** Take away all of a message but its place; again is no error. */
  "message:delete": Acked<NameMessage, Reply>;
  /** Set one's emoji on a message, or take it back; a user counts once an emoji. */
  "message:react": Acked<React, ReactionReply>;
  /** Show a message on top of its room, or no longer. */
  "message:pin": Acked<PinMessage, PinReply>;
  /** The caller's devices have all messages up to this one. */
  "message:delivered": Acked<ReachSeq, DeliveredReply>;
  /** The caller has read all messages up to this one. */
  "message:read": Acked<ReachSeq, ReadReply>;
  /** Who has a message, and who has read it, but for its sender. */
  "message:receipts": Acked<ListReceipts, ReceiptsPage>;
  /** Keep a report with the text as it stands; a second one by the same person changes nothing. */
  "message:report": Acked<ReportMessage, Reply>;
  /** How these users want to be shown, nulls for those of whom nothing is known; as many as fit into a reply. */
  "user:get": Acked<GetUsers, UsersReply>;
  /** Go on as the caller of a newer token. */
  "auth:refresh": Acked<RefreshToken, RefreshReply>;
  /** Where the caller is connected, on all nodes that answer, the latest first. */
  "session:list": Acked<ListSessions, SessionsReply>;
  /** End one of the caller's own sessions, on whichever node. */
  "session:end": Acked<EndSession, Reply>;
  /** The caller's notifications, newest first. */
  "notification:list": Acked<ListNotifications, NotificationsPage>;
  /** Mark notifications as read, and tell the caller's other devices; again is no error. */
  "notification:read": Acked<ReadNotifications, NotificationsReadReply>;
  /** Tell the others of a room that the caller is typing, unless they have just been told. */
  "typing:start": Acked<InRoom, Reply>;
  /** Tell them that the caller has stopped, if they have been told of the beginning. */
  "typing:stop": Acked<InRoom, Reply>;
  /** Put the calling device into a status. Everybody can read it from now on, while Redis is there. */
  "presence:set": Acked<SetPresence, Reply>;
  /** How these users look to the caller; who is not for them to see looks offline. */
  "presence:get": Acked<GetPresence, PresenceReply>;
  /** The same, and be told from now on when it changes; of who is not for the caller to see, nothing is told. */
  "presence:subscribe": Acked<WatchPresence, PresenceReply>;
  /** Be told no longer, except of the other sides of direct rooms. */
  "presence:unsubscribe": Acked<WatchPresence, Reply>;
}

/** What the server sends: `socket.on`. */
export interface ServerToClientEvents {
  /** The first event of every connection: who it is, and the caller's rooms as they stand. */
  "session:ready": (payload: SessionReady) => void;
  /** The server is about to end this connection, and whether to come back. */
  "session:closed": (payload: SessionClosed) => void;
  /** The session's token is about to expire: `auth:refresh` with a newer one keeps the session. */
  "session:expiring": (payload: SessionExpiring) => void;
  /** A user is shown in another way. */
  "user:updated": (payload: UserUpdated) => void;
  /** The failure of an event that carried no callback. */
  "event:error": (payload: EventFailed) => void;
  /** The user's devices have one room more. */
  "room:added": (payload: RoomAdded) => void;
  /** The user's devices have one room less. */
  "room:removed": (payload: RoomRemoved) => void;
  /** What all members see of a room has changed. */
  "room:updated": (payload: RoomUpdated) => void;
  /** The room is no more. */
  "room:deleted": (payload: RoomDeleted) => void;
  /** Someone became a member. */
  "member:joined": (payload: MemberJoined) => void;
  /** Someone is no longer a member; `by` is themselves, or who removed them. */
  "member:left": (payload: MemberLeft) => void;
  /** A member has another role. */
  "member:role": (payload: MemberRoleChanged) => void;
  /** A message, to every connection of the members but the sending one. */
  "message:received": (payload: Message) => void;
  /** A message with another text; of several, the one with the latest `editedAt` holds. */
  "message:edited": (payload: Message) => void;
  /** A message is no more, for good, but for its place. */
  "message:deleted": (payload: MessageDeleted) => void;
  /** Someone's reaction has come or gone; the counts are those after it, and of several the latest `at` holds. */
  "message:reaction": (payload: MessageReaction) => void;
  /** A message is shown on top of its room, or no longer. */
  "message:pinned": (payload: MessagePinned) => void;
  /** A member's devices have all messages up to this one. */
  "message:delivered": (payload: DeliveredUpTo) => void;
  /** A member has read all messages up to this one. */
  "message:read": (payload: ReadUpTo) => void;
  /** What is unread has changed, other than by a message: for the user's devices. */
  "unread:updated": (payload: UnreadUpdated) => void;
  /** Something the user's devices are told of. */
  "notification": (payload: Notification) => void;
  /** Another device of the user has marked notifications as read: `ids` or `all`, the other is left out. */
  "notification:read": (payload: NotificationsRead) => void;
  /** Someone is typing; without word of them for so long they no longer are. */
  "typing:start": (payload: TypingStarted) => void;
  /** Someone is no longer typing. */
  "typing:stop": (payload: TypingStopped) => void;
  /** A watched user has come. */
  "user:online": (payload: UserOnline) => void;
  /** A watched user is here as before, in another status. */
  "user:status": (payload: UserStatusChanged) => void;
  /** A watched user has gone, or hides; `lastSeen` is null when it is not known, or not for others to know. */
  "user:offline": (payload: UserOffline) => void;
}
