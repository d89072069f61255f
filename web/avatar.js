/** A round sign for a person or a shared room: initials or a mark of its kind, in a colour that follows from the id. */
import { h, icon } from './elements.js';

const HUES = 8;
const KIND_ICONS = { group: 'people', channel: 'hash' };

/** With a dot for the status, where one is given; what it means must be said in words beside it. */
export function personAvatar(userId, name = userId, status = null) {
  const marks = { 'aria-hidden': 'true', 'data-user': userId, 'data-status': status };
  return h('span', { class: `avatar hue-${hue(userId)}`, ...marks }, initials(name));
}

export function roomAvatar(room) {
  const mark = icon(KIND_ICONS[room.kind] ?? 'people');
  return h('span', { class: `avatar avatar-room hue-${hue(room.roomId)}`, 'aria-hidden': 'true' }, mark);
}

function initials(name) {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = words.length > 1 ? words[0][0] + words[1][0] : (words[0] ?? name).slice(0, 2);
  return letters.toUpperCase();
}

/** FNV-1a, its halves folded together: similar ids get different colours. */
function hue(id) {
  let hash = 0x811c9dc5;
  for (const character of id) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  return ((hash >>> 16) ^ (hash & 0xffff)) % HUES;
}
