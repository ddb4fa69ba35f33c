// Conversations, kept in the browser: one key of localStorage each, so that two windows do not overwrite each other's.
import {showProblem} from './dom.js';

const PREFIX = 'lathe.conversation.';
const conversations = new Map();

function read(key) {
  try {
    const found = JSON.parse(localStorage.getItem(key));
    if (found && found.id && Array.isArray(found.messages)) conversations.set(found.id, found);
  } catch { /* not ours */ }
}

export function open(onChange) {
  for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) read(key);
  addEventListener('storage', ({key, newValue}) => {
    if (!key?.startsWith(PREFIX)) return;
    if (newValue === null) conversations.delete(key.slice(PREFIX.length));
    else read(key);
    onChange();
  });
}

export const all = () => [...conversations.values()].sort((a, b) => b.updated - a.updated);
export const get = (id) => conversations.get(id);

export function create(settings) {
  const id = crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('');
  return {id, title: '', messages: [], text: '', settings: {...settings}, updated: Date.now()};
}

// An empty conversation is not kept.
export function save(conversation) {
  conversation.updated = Date.now();
  if (!conversation.messages.length && !conversation.text && !conversation.title) return;
  conversations.set(conversation.id, conversation);
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
  } catch {
    showProblem(new Error('The browser has no room left for conversations: export and delete some.'));
  }
}

export function remove(conversation) {
  conversations.delete(conversation.id);
  localStorage.removeItem(PREFIX + conversation.id);
}

export function download(list, name) {
  const address = URL.createObjectURL(new Blob([JSON.stringify(list, null, 2)], {type: 'application/json'}));
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
