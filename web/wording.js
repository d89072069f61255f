/** What people read: names of rooms, times, and a sentence for each error code. */
const TIME = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const SHORT_DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const DAY_MS = 86_400_000;

const SENTENCES = {
  AUTH_REQUIRED: 'A token is needed to sign in.',
  TOKEN_INVALID: 'This token is not valid here. Check that it was copied whole, and that this server made it.',
  TOKEN_EXPIRED: 'This token has expired. Take a new one to go on.',
  TOKEN_REVOKED: 'This token has been withdrawn. Take a new one to go on.',
  USER_BLOCKED: 'This user has been blocked by the operator of this server.',
  PROTOCOL_ERROR: 'The server ended the connection: it did not understand this page.',
  DISCONNECTED: 'The server ended the connection.',
  SERVER_DRAINING: 'The server is restarting.',
  RATE_LIMITED: 'Too much at once. Please wait a moment.',
  UNREACHABLE: 'The server cannot be reached.',
  OFFLINE: 'There is no connection right now. Please try again in a moment.',
  NOT_FOUND: 'There is no such room, or it is not open to you.',
  FORBIDDEN: 'You are not allowed to do this.',
  VALIDATION_ERROR: 'The server did not accept this.',
  CONFLICT: 'Another message was already sent under this id.',
  PAYLOAD_TOO_LARGE: 'This is too large.',
  TIMEOUT: 'The server did not answer in time. Please try again.',
  UNKNOWN_EVENT: 'This server cannot do that.',
  UNAVAILABLE: 'The server cannot reach its store. Please try again in a moment.',
};

export function sentence(code, message = '') {
  return SENTENCES[code] ?? (message ? `${message[0].toUpperCase()}${message.slice(1)}.` : 'Something went wrong.');
}

export function roomName(room) {
  if (room.kind === 'direct') return room.peerId ?? 'Direct conversation';
  return room.title || (room.kind === 'channel' ? 'Untitled channel' : 'Untitled group');
}

export function roomKind(room) {
  const members = room.memberCount ? ` · ${room.memberCount} ${room.memberCount === 1 ? 'member' : 'members'}` : '';
  if (room.kind === 'direct') return 'Direct conversation';
  return (room.kind === 'channel' ? 'Channel' : 'Group') + members;
}

const STATUS_WORDS = { online: 'Online', away: 'Away', busy: 'Busy', invisible: 'Invisible', offline: 'Offline' };

export function statusWord(status) {
  return STATUS_WORDS[status] ?? '';
}

export function lastSeenWords({ status, lastSeen }) {
  if (status !== 'offline' || !lastSeen) return statusWord(status);
  const day = dayOf(lastSeen);
  return `Last seen ${day === 'Today' ? '' : `${day}, `}${timeOf(lastSeen)}`;
}

/** "Bob", "Bob and Eve", "Bob, Eve and 2 others". */
export function listed(names, most = 2) {
  if (names.length <= 1) return names[0] ?? '';
  const rest = names.length - most;
  if (rest > 0) return `${names.slice(0, most).join(', ')} and ${rest} ${rest === 1 ? 'other' : 'others'}`;
  return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

export function timeOf(iso) {
  return TIME.format(new Date(iso));
}

/** Today, Yesterday, a weekday within the week, else the date. */
export function dayOf(iso, now = new Date()) {
  const date = new Date(iso);
  const days = daysBetween(date, now);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  if (days > 1 && days < 7) return WEEKDAY.format(date);
  return (date.getFullYear() === now.getFullYear() ? DAY : DAY_AND_YEAR).format(date);
}

/** The time for today, else the shortest form of the day. */
export function briefly(iso, now = new Date()) {
  const days = daysBetween(new Date(iso), now);
  if (days === 0) return timeOf(iso);
  return days === 1 ? 'Yesterday' : SHORT_DAY.format(new Date(iso));
}

export function sameDay(a, b) {
  return new Date(a).toDateString() === new Date(b).toDateString();
}

function daysBetween(date, now) {
  return Math.round((new Date(now).setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / DAY_MS);
}
