// The live view of the engine: who is in the batch, and what each page of the cache is for.
import {$, h} from './dom.js';
import {ask} from './api.js';
import {isDark} from './colour.js';

const EVERY = 500;  // ms
const KINDS = {free: ['Free', '#e4e4e0', '#33353b'], cached: ['Kept for later prompts', '#9fc3b8', '#3f6f66'],
  used: ['In use', '#4a74b4', '#6b9ae0'], shared: ['Shared by several', '#c2542f', '#f0885a']};
let timer, last;
const speeds = Array(120).fill(0);

export function show(on) {
  clearTimeout(timer);
  last = undefined;
  if (on) look();
}

async function look() {
  let view;
  try {
    view = await ask(`v1/engine/${encodeURIComponent($('model').value)}`);
    draw(view);
  } catch (error) {
    $('engine').replaceChildren(h('p', {class: 'note'}, error.message));
  }
  timer = setTimeout(look, document.hidden ? 4 * EVERY : EVERY);
}

const card = (name, value, more) => h('div', {class: 'card'}, h('span', {class: 'note'}, name), h('strong', {}, value), more && h('span', {class: 'note'}, more));

function draw(view) {
  const now = performance.now();
  const since = last ? (now - last.now) / 1000 : 0;
  speeds.push(since ? (view.generated_tokens - last.view.generated_tokens) / since : 0);
  speeds.shift();
  last = {view, now};
  const running = view.sequences.filter((s) => s.running);
  const counts = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, view.pages.flat().filter(([k]) => k === kind).reduce((sum, [, n]) => sum + n, 0)]));
  const total = Object.values(counts).reduce((a, b) => a + b, 0);
  const percent = (n, of) => of ? `${(100 * n / of).toFixed(0)}%` : '0%';
  const dark = isDark() ? 2 : 1;
  $('engine').replaceChildren(
    h('div', {class: 'cards'},
      card('In the batch', String(running.length), `of at most ${view.max_sequences}`),
      card('Waiting', String(view.sequences.length - running.length)),
      card('Tokens a second', speeds.at(-1).toFixed(0), `${view.generated_tokens.toLocaleString('en')} so far`),
      card('Pages in use', percent(counts.used + counts.shared, total), `of ${total.toLocaleString('en')}, ${view.page_tokens} tokens each`),
      card('Prompts from the cache', percent(view.cached_tokens, view.prompt_tokens), `of ${view.prompt_tokens.toLocaleString('en')} tokens`)),
    h('div', {class: 'panel'}, h('h2', {}, 'Cache pages'),
      h('ul', {class: 'kinds'}, Object.entries(KINDS).map(([kind, of]) => h('li', {}, h('span', {class: 'swatch', style: {background: of[dark]}}), `${of[0]}: ${counts[kind].toLocaleString('en')}`))),
      view.pages.map((runs, group) => [view.pages.length > 1 && h('h3', {}, `Layer group ${group}`), pages(runs, dark)])),
    h('div', {class: 'panel'}, h('h2', {}, 'Batch'), speedLine(), view.sequences.length ? batch(view) : h('p', {class: 'note'}, 'Nobody asks anything.')));
}

function batch(view) {
  const head = ['Sequence', 'State', 'Prompt', 'From the cache', 'Answer', 'Pages', 'Computed'];
  return h('div', {class: 'table'}, h('table', {}, h('tr', {}, head.map((name) => h('th', {scope: 'col'}, name))),
    view.sequences.slice(0, 100).map((s) => h('tr', {}, [s.id, s.running ? 'runs' : 'waits', s.prompt_tokens, s.cached_tokens, s.tokens - s.prompt_tokens, s.pages].map((cell) => h('td', {}, String(cell))),
      h('td', {}, h('progress', {max: String(s.tokens), value: String(s.computed_tokens), 'aria-label': 'computed'}))))));
}

function speedLine() {
  const canvas = h('canvas', {class: 'speed', width: 600, height: 60, role: 'img', 'aria-label': `Tokens a second over the last minute, now ${speeds.at(-1).toFixed(0)}`});
  const context = canvas.getContext('2d'), most = Math.max(1, ...speeds);
  context.strokeStyle = KINDS.used[isDark() ? 2 : 1];
  context.lineWidth = 2;
  context.lineJoin = 'round';
  context.beginPath();
  speeds.forEach((speed, i) => context.lineTo(600 * i / (speeds.length - 1), 56 - 50 * speed / most));
  context.stroke();
  return canvas;
}

// A square a page while there is room; then each stands for the busiest of several.
function pages(runs, dark) {
  const order = Object.keys(KINDS), list = runs.flatMap(([kind, n]) => Array(n).fill(kind));
  const each = Math.ceil(list.length / 4096), squares = [];
  for (let i = 0; i < list.length; i += each) squares.push(order[Math.max(...list.slice(i, i + each).map((kind) => order.indexOf(kind)))]);
  const width = Math.max(240, Math.min(1000, $('engine').clientWidth - 60)), size = squares.length > 1500 ? 8 : squares.length > 300 ? 12 : 18;
  const columns = Math.floor(width / size), rows = Math.ceil(squares.length / columns), density = devicePixelRatio || 1;
  const canvas = h('canvas', {role: 'img', 'aria-label': `${list.length} pages`, width: Math.round(columns * size * density), height: Math.round(rows * size * density), style: {width: `${columns * size}px`, height: `${rows * size}px`}});
  const context = canvas.getContext('2d');
  context.scale(density, density);
  squares.forEach((kind, i) => {
    context.fillStyle = KINDS[kind][dark];
    context.fillRect(i % columns * size, Math.floor(i / columns) * size, size - 2, size - 2);
  });
  return [canvas, each > 1 && h('p', {class: 'note'}, `Each square is ${each} pages.`)];
}
