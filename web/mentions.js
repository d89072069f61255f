/** Mentions in texts: finding whom a text names, and showing those whom a message mentions. */
import { h } from './elements.js';

export const EVERYBODY = '@room';
const MENTIONS_MAX = 50; // mentions of one message:send (protocol, section 4).
const NAMED = /(?<![\p{L}\p{N}_@.:-])@([A-Za-z0-9_.:-][A-Za-z0-9_.:@-]{0,63})/gu;
const PUNCTUATION = /[.:@-]+$/;

/** The ids that a text names with @; `isMember` decides whether a full stop behind a name belongs to it. */
export function mentionsIn(text, isMember, mayMentionRoom) {
  const found = new Set();
  for (const [, written] of text.matchAll(NAMED)) {
    const userId = isMember(written) ? written : written.replace(PUNCTUATION, '');
    if (userId === 'room' && !isMember(userId)) {
      if (mayMentionRoom) found.add(EVERYBODY);
    } else if (userId) found.add(userId);
  }
  return [...found].slice(0, MENTIONS_MAX);
}

/** A message's text as nodes, its mentions marked; those of the reader more than others. */
export function textNodes(text, mentions, userId, nameOf) {
  if (!mentions.length) return [text];
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(NAMED)) {
    const written = [match[1], match[1].replace(PUNCTUATION, '')].find((one) => isMentioned(one, mentions));
    if (!written) continue;
    const end = match.index + 1 + written.length;
    const everybody = written === 'room' && !mentions.includes('room');
    const mine = everybody || written === userId;
    const title = everybody ? 'Everybody in this room' : nameOf(written);
    nodes.push(text.slice(from, match.index));
    nodes.push(h('span', { class: mine ? 'mention mine' : 'mention', title }, text.slice(match.index, end)));
    from = end;
  }
  return [...nodes, text.slice(from)];
}

function isMentioned(written, mentions) {
  return mentions.includes(written) || (written === 'room' && mentions.includes(EVERYBODY));
}
