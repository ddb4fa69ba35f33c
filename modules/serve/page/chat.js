// The chat: conversations on the left, the messages of one, and a field to write in. A model without a chat template has
// a sheet of paper in place of messages.
import {$, copy, h, icon, question, say, showProblem} from './dom.js';
import {allModels, ask, modelOf, stream} from './api.js';
import {markdown} from './markdown.js';
import * as store from './store.js';
import {edit, options} from './settings.js';

const NEAR = 80;  // pixels from the end within which the view follows what comes
let current;
let inspect;
const running = new Map();  // conversation id: AbortController

const model = () => modelOf(current.settings.model);
const title = (c) => c.title || c.messages.find((m) => m.role === 'user')?.content.slice(0, 60) || c.text.slice(0, 60) || 'New conversation';

export function start(onInspect) {
  inspect = onInspect;
  store.open(render);
  for (const [id, name, text] of [['new', 'plus', 'New conversation'], ['export', 'save', 'Export all'], ['send', 'send'], ['menu', 'menu'],
    ['settings-open', 'gear'], ['continue', null, 'Continue'], ['take-back', 'back', 'Take back'], ['paper-look', 'look', 'Look inside']])
    $(id).replaceChildren(...[name && icon(name), text].filter(Boolean));
  $('new').onclick = () => show(store.create(current.settings));
  $('export').onclick = () => store.download(store.all(), 'conversations.json');
  $('settings-open').onclick = () => edit(current.settings, () => store.save(current));
  $('menu').onclick = () => drawer($('sidebar').dataset.open === undefined);
  $('model').onchange = () => { current.settings.model = $('model').value; store.save(current); render(); };
  $('composer').onsubmit = (event) => { event.preventDefault(); running.has(current.id) ? stop() : send(); };
  $('input').oninput = grow;
  $('input').onkeydown = (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running.has(current.id)) send();
  };
  addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || document.querySelector('dialog[open]')) return;
    if ($('sidebar').dataset.open !== undefined) { drawer(false); $('menu').focus(); } else if (running.has(current.id)) stop();
  });
  $('log').addEventListener('click', () => drawer(false));
  $('paper').onsubmit = (event) => { event.preventDefault(); running.has(current.id) ? stop() : continueText(); };
  $('text').oninput = () => { current.text = $('text').value; delete current.before; store.save(current); };
  $('take-back').onclick = () => { current.text = current.before ?? current.text; delete current.before; store.save(current); render(); };
  $('paper-look').onclick = () => inspect({prompt: current.text, model: model()?.id});
  const last = store.get(sessionStorage.getItem('lathe.current')) ?? store.all()[0];
  show(last ?? store.create({}));
}

function drawer(open) {
  const sidebar = $('sidebar');
  if (open) sidebar.dataset.open = ''; else delete sidebar.dataset.open;
  $('menu').setAttribute('aria-expanded', String(open));
  if (open) sidebar.querySelector('button').focus();
}

function grow() {
  const field = $('input');
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight}px`;
}

function show(conversation) {
  current = conversation;
  sessionStorage.setItem('lathe.current', current.id);
  drawer(false);
  render();
  $('log').scrollTop = $('log').scrollHeight;
  if (matchMedia('(hover: hover)').matches && !$('chat').hidden) $('input').focus();
}

export function render() {
  const kept = store.get(current.id);
  if (kept && !running.has(current.id)) current = kept;
  $('conversations').replaceChildren(...store.all().map(entry));
  $('model').replaceChildren(...allModels().map((m) => h('option', {value: m.id, selected: m.id === model()?.id}, m.id)));
  const texts = model() && !model().chat;
  $('model').toggleAttribute('data-alone', allModels().length < 2);
  $('talk').hidden = texts;
  $('paper').hidden = !texts;
  if (texts) {
    $('why').textContent = `${model().id} has no chat template: it was not trained to converse, so it continues a text.`;
    if ($('text').value !== current.text) $('text').value = current.text;
    $('take-back').disabled = current.before === undefined;
  }
  $('log').replaceChildren(...(current.messages.length ? current.messages.map(message) : [welcome()]));
  busy();
}

function welcome() {
  const m = model();
  return h('div', {class: 'welcome'}, h('h1', {}, 'Hello.'), h('p', {}, m ? `${m.id} answers from this machine${m.max_model_len ? `, with room for ${m.max_model_len.toLocaleString('en')} tokens` : ''}. Conversations are kept in this browser alone.` : 'The model is loading.'));
}

// What depends on whether an answer is on its way.
function busy() {
  const on = running.has(current.id);
  $('send').replaceChildren(icon(on ? 'stop' : 'send'));
  $('send').setAttribute('aria-label', on ? 'Stop' : 'Send');
  $('continue').textContent = on ? 'Stop' : 'Continue';
  $('talk').dataset.busy = String(on);
}

function entry(c) {
  const open = h('button', {class: 'title', 'aria-current': c.id === current.id ? 'true' : undefined, onclick: () => show(c)}, title(c));
  const action = (name, label, f) => h('button', {class: 'icon', 'aria-label': `${label}: ${title(c)}`, title: label, onclick: f}, icon(name));
  return h('li', {}, open,
    action('edit', 'Rename', async () => {
      const name = await question('Name of the conversation', 'Rename', title(c));
      if (name === null) return;
      c.title = name;
      store.save(c);
      render();
    }),
    action('save', 'Export', () => store.download([c], 'conversation.json')),
    action('trash', 'Delete', async () => {
      if (await question(`Delete “${title(c)}”?`, 'Delete') === null) return;
      running.get(c.id)?.abort();
      store.remove(c);
      c.id === current.id ? show(store.all()[0] ?? store.create(c.settings)) : render();
    }));
}

// ---- messages ----

function body(m) {
  const nodes = m.role === 'assistant' ? markdown(m.content) : [h('p', {class: 'plain'}, m.content)];
  if (m.reasoning) nodes.unshift(h('details', {class: 'reasoning'}, h('summary', {}, 'Thoughts'), markdown(m.reasoning)));
  if (m.role === 'assistant' && !m.content && !m.reasoning && !m.error) nodes.push(h('p', {class: 'waiting'}, '…'));
  return nodes;
}

function message(m, at) {
  const action = (name, label, f) => h('button', {class: 'icon', 'aria-label': label, title: label, onclick: f}, icon(name));
  const mine = m.role === 'user';
  return h('article', {class: m.role, 'aria-label': mine ? 'You' : 'Model'},
    h('div', {class: 'body'}, body(m)),
    m.error && h('p', {class: 'error', role: 'alert'}, m.error),
    h('div', {class: 'actions'},
      action('copy', 'Copy', () => copy(m.content)),
      mine && action('edit', 'Edit', () => editMessage(at)),
      !mine && action('again', 'Regenerate', () => answer(at)),
      !mine && action('look', 'Look inside', () => look(at)),
      m.note && h('span', {class: 'note'}, m.note)));
}

function editMessage(at) {
  const field = h('textarea', {'aria-label': 'Edited message', rows: '3'});
  field.value = current.messages[at].content;
  const send = () => {
    if (!field.value.trim()) return;
    running.get(current.id)?.abort();
    current.messages.splice(at, Infinity, {role: 'user', content: field.value});
    answer(at + 1);
  };
  field.onkeydown = (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); render(); }
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  };
  $('log').children[at].replaceChildren(h('form', {class: 'edit', onsubmit: (event) => { event.preventDefault(); send(); }}, field,
    h('div', {class: 'row end'}, h('button', {type: 'button', onclick: render}, 'Cancel'), h('button', {class: 'main'}, 'Send'))));
  field.focus();
}

function send() {
  const text = $('input').value;
  if (!text.trim() || !model()) return;
  $('input').value = '';
  grow();
  current.messages.push({role: 'user', content: text});
  answer(current.messages.length);
}

function stop() { running.get(current.id)?.abort(); }

const asked = (c, until) => [...(c.settings.system ? [{role: 'system', content: c.settings.system}] : []),
  ...c.messages.slice(0, until).map(({role, content, reasoning}) => reasoning ? {role, content, reasoning_content: reasoning} : {role, content})];

async function look(at) {
  try {
    const answerOf = current.messages[at];
    const {tokens} = await ask('tokenize', {model: model().id, messages: asked(current, at)});
    const rest = await ask('tokenize', {model: model().id, prompt: answerOf.content, add_special_tokens: false});
    inspect({tokens: tokens.concat(rest.tokens), model: model().id});
  } catch (error) { showProblem(error); }
}

// Shows what has come so far once a frame, and follows it where the view is at the end.
function painter(c, m, at) {
  let due = false;
  const paint = () => {
    due = false;
    if (c !== current || !$('log').children[at]) return;
    const log = $('log'), follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
    const open = log.children[at].querySelector('details')?.open;
    log.children[at].querySelector('.body')?.replaceChildren(...body(m));
    if (open) log.children[at].querySelector('details').open = true;
    if (follows) log.scrollTop = log.scrollHeight;
  };
  return () => { if (!due) { due = true; requestAnimationFrame(paint); } };
}

// The message at `at` anew, and all behind it gone.
async function answer(at) {
  const c = current, m = {role: 'assistant', content: ''};
  running.get(c.id)?.abort();
  const controller = new AbortController();
  running.set(c.id, controller);
  c.messages.splice(at, Infinity, m);
  store.save(c);
  render();
  $('log').scrollTop = $('log').scrollHeight;
  say('The model answers.');
  const paint = painter(c, m, at), begin = performance.now();
  let first, usage, reason;
  try {
    const request = {model: model().id, messages: asked(c, at), stream_options: {include_usage: true}, ...options(c.settings)};
    for await (const event of stream('v1/chat/completions', request, controller.signal)) {
      usage = event.usage ?? usage;
      const choice = event.choices?.[0];
      if (!choice) continue;
      reason = choice.finish_reason ?? reason;
      const {content, reasoning_content: thought} = choice.delta;
      if (!content && !thought) continue;
      first ??= performance.now();
      m.content += content ?? '';
      if (thought) m.reasoning = (m.reasoning ?? '') + thought;
      paint();
    }
    m.note = note(usage, reason, first - begin, performance.now() - first);
  } catch (error) {
    if (error.name === 'AbortError') m.note = 'stopped';
    else m.error = error.message;
  }
  if (running.get(c.id) === controller) running.delete(c.id);
  if (store.get(c.id)) store.save(c);
  if (c !== current || running.has(c.id)) return;
  const end = $('log').scrollHeight - $('log').scrollTop - $('log').clientHeight < NEAR;
  render();
  if (end) $('log').scrollTop = $('log').scrollHeight;
  say(m.error ?? (m.note === 'stopped' ? 'Stopped.' : `The answer is complete: ${m.content.slice(0, 300)}`));
}

function note(usage, reason, wait, time) {
  const parts = [];
  if (usage) parts.push(`${usage.completion_tokens} tokens`);
  if (usage?.completion_tokens > 1 && time > 0) parts.push(`${((usage.completion_tokens - 1) * 1000 / time).toFixed(0)} tokens/s`);
  if (wait >= 0) parts.push(`the first after ${(wait / 1000).toFixed(2)} s`);
  if (reason === 'length') parts.push('cut at the most tokens');
  return parts.join(' · ');
}

// ---- a model without a chat template ----

async function continueText() {
  const c = current, controller = new AbortController();
  running.set(c.id, controller);
  busy();
  c.before = c.text;
  const begin = performance.now();
  let usage;
  try {
    const request = {model: model().id, prompt: c.text, max_tokens: 128, stream_options: {include_usage: true}, ...options(c.settings)};
    for await (const event of stream('v1/completions', request, controller.signal)) {
      usage = event.usage ?? usage;
      c.text += event.choices[0]?.text ?? '';
      if (c !== current) continue;
      $('text').value = c.text;
      $('text').scrollTop = $('text').scrollHeight;
    }
  } catch (error) {
    if (error.name !== 'AbortError') showProblem(error);
  }
  running.delete(c.id);
  store.save(c);
  $('paper-status').textContent = usage ? `${usage.completion_tokens} tokens in ${((performance.now() - begin) / 1000).toFixed(1)} s` : 'stopped';
  if (c === current) render();
}
