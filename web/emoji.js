/** Choosing an emoji: a few common ones, or one that is typed. */
import { h } from './elements.js';
import { closable, openDialog } from './dialogs.js';

export const QUICK = [
  ['👍', 'Thumbs up'],
  ['❤️', 'Heart'],
  ['😂', 'Laughing'],
  ['🎉', 'Celebration'],
  ['👀', 'Looking'],
];

const COMMON = [
  ...QUICK,
  ['✅', 'Done'],
  ['🙏', 'Thank you'],
  ['😊', 'Smile'],
  ['😍', 'Delighted'],
  ['🤔', 'Thinking'],
  ['😮', 'Surprised'],
  ['😢', 'Sad'],
  ['😡', 'Angry'],
  ['😅', 'Relieved'],
  ['🥳', 'Party'],
  ['🙌', 'Hands up'],
  ['👏', 'Applause'],
  ['💪', 'Strong'],
  ['🤝', 'Agreed'],
  ['👋', 'Wave'],
  ['👎', 'Thumbs down'],
  ['🔥', 'Fire'],
  ['💯', 'Hundred'],
  ['🚀', 'Rocket'],
  ['✨', 'Sparkles'],
  ['💡', 'Idea'],
  ['🐛', 'Bug'],
  ['☕', 'Coffee'],
  ['❌', 'No'],
  ['❓', 'Question'],
];
const TEXT_BY_DEFAULT = /^(?!\p{Emoji_Presentation})\p{Extended_Pictographic}$/u;

export class EmojiDialog {
  #dialog;
  #onEmoji = null;

  constructor(dialog) {
    this.#dialog = dialog;
    closable(dialog);
    const buttons = COMMON.map(([emoji, name]) => {
      const on = { click: () => this.#choose(emoji) };
      return h('button', { type: 'button', class: 'emoji-choice', 'aria-label': name, title: name, on }, emoji);
    });
    dialog.querySelector('[data-part=choices]').append(...buttons);
    dialog.querySelector('form').addEventListener('submit', (event) => {
      event.preventDefault();
      const typed = new FormData(event.target).get('emoji').trim();
      if (typed) this.#choose(TEXT_BY_DEFAULT.test(typed) ? `${typed}\uFE0F` : typed);
    });
  }

  /** Opens; `onEmoji(emoji)` follows, unless it is closed without a choice. */
  open(onEmoji) {
    this.#onEmoji = onEmoji;
    openDialog(this.#dialog);
    this.#dialog.querySelector('.emoji-choice').focus();
  }

  #choose(emoji) {
    this.#dialog.close();
    this.#onEmoji(emoji);
  }
}
