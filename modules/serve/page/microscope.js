// The microscope: a text's tokens with their probabilities and alternatives, the logit lens, attention.
import {$, h, rove, showProblem} from './dom.js';
import {ask, modelOf, stream} from './api.js';
import {css, isDark, percent, scale, tint} from './colour.js';

const ALTERNATIVES = 8;
const LOOKED_AT = 512;            // tokens: the inspect endpoint's most
const MAPS_AT_ONCE = 250000;      // probabilities of one answer, for all heads of a layer
const LABELS = 32;                // tokens of a map that are named beside it
const s = {tokens: [], selected: 0, model: undefined, layer: 0, head: 0, cell: null};
const known = new Map();          // answers of v1/inspect, by their request
let controller, stale = false;

// ---- what is looked at ----

export function start() {
  $('specimen').onsubmit = (event) => { event.preventDefault(); look(typed()); };
  $('specimen-text').onkeydown = (event) => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) look(typed()); };
  $('specimen-stop').onclick = () => controller?.abort();
  drawLegend();
  addEventListener('resize', () => { if (!$('microscope').hidden) redraw(); });
}

function typed() {
  const prompt = $('specimen-text').value;
  const ids = /^\s*\[\s*\d+(\s*,\s*\d+)*\s*\]\s*$/.test(prompt);
  return {...(ids ? {tokens: JSON.parse(prompt)} : {prompt}), model: $('model').value || undefined};
}

export function shown() { if (stale) redraw(); }

export function redraw() {
  drawLegend();
  if (!s.tokens.length) return;
  stale = $('microscope').hidden;
  if (!stale) draw();
}

const count = () => Math.max(0, Number($('specimen-count').value) || 0);
const ids = (until = s.tokens.length) => s.tokens.slice(0, until).map((token) => token.id);

// {prompt} or {tokens}, with the model that they are for. Tokens alone (a conversation) are looked at as they are.
export async function look(specimen) {
  const model = modelOf(specimen.model)?.id;
  if (s.model !== model) Object.assign(s, {model, layer: 0, head: 0, heads: undefined});
  if (specimen.tokens && specimen.prompt === undefined) $('specimen-text').value = JSON.stringify(specimen.tokens);
  else $('specimen-text').value = specimen.prompt;
  s.tokens = [];
  s.selected = 0;
  known.clear();
  await follow({prompt: specimen.tokens ?? specimen.prompt, echo: true, max_tokens: count()});
}

// The token at `at` is another one; what follows is written anew.
function goOn(at, alternative) {
  s.tokens = [...s.tokens.slice(0, at), {...s.tokens[at], ...alternative, picked: true}];
  s.selected = at;
  follow({prompt: ids(), max_tokens: Math.max(1, count())});
}

async function follow(request) {
  controller?.abort();
  const mine = controller = new AbortController();
  $('specimen-stop').hidden = false;
  showProblem(null);
  const begin = s.tokens.length;
  let due = false;
  try {
    const body = {model: s.model, logprobs: ALTERNATIVES, return_token_ids: true, temperature: Number($('specimen-temperature').value) || 0, ...request};
    for await (const event of stream('v1/completions', body, mine.signal)) {
      for (const choice of event.choices) if (choice.logprobs) s.tokens.push(...read(choice.logprobs));
      if (!due) { due = true; requestAnimationFrame(() => { due = false; drawTokens(); }); }
    }
  } catch (error) {
    if (error.name !== 'AbortError') showProblem(error);
  }
  if (controller !== mine) return;
  $('specimen-stop').hidden = true;
  if (!s.tokens.length) return;
  if (begin === 0) s.selected = Math.max(0, s.tokens.length - Math.max(1, count()));
  draw();
}

function read(lists) {
  return lists.token_ids.map((id, i) => ({id, text: lists.tokens[i], logprob: lists.token_logprobs[i],
    top: Object.entries(lists.top_token_ids[i] ?? {}).map(([text, of]) => ({id: of, text, logprob: lists.top_logprobs[i][text]})).sort((a, b) => b.logprob - a.logprob)}));
}

function draw() {
  $('findings').hidden = false;
  drawTokens();
  drawToken();
  drawLens();
  drawAttention();
}

// ---- tokens ----

// Blanks that would not be seen.
const visible = (text) => text.replace(/ /g, '·').replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/\r/g, '␍') || '∅';

function select(at, focus) {
  s.selected = at;
  s.cell = null;
  draw();
  if (focus) $('tokens').children[at]?.focus();
}

function drawTokens() {
  $('findings').hidden = !s.tokens.length;
  const focused = $('tokens').contains(document.activeElement);
  $('tokens').replaceChildren(...s.tokens.flatMap((token, i) => {
    const chip = h('button', {class: token.picked ? 'chip picked' : 'chip', type: 'button', role: 'option', 'data-item': '', 'data-at': String(i),
      'aria-selected': String(i === s.selected), 'aria-label': `${token.text}, ${token.logprob === null ? 'the first token' : percent(token.logprob)}`,
      style: {background: tint(token.logprob)}, onclick: () => select(i, true)},
      h('span', {}, visible(token.text)), h('i', {style: {width: token.logprob === null ? '0' : `${100 * Math.exp(token.logprob)}%`}}));
    return [chip];
  }));
  rove($('tokens'));
  if (focused) $('tokens').children[s.selected]?.focus();
}

function drawLegend() {
  $('legend').replaceChildren('sure', h('span', {class: 'ramp', style: {background: `linear-gradient(to right, ${[0, 1, 2, 3, 4, 5, 6.9].map((x) => tint(-x)).join(', ')})`}}), 'one in a thousand');
}

const bar = (logprob) => h('span', {class: 'bar'}, h('i', {style: {width: `${100 * Math.exp(logprob)}%`}}));

function drawToken() {
  const token = s.tokens[s.selected];
  if (!token) return;
  const rank = token.top.findIndex((t) => t.id === token.id);
  const facts = [`position ${s.selected}`, `id ${token.id}`, token.logprob === null ? 'nothing came before it' : `${percent(token.logprob)} (log ${token.logprob.toFixed(4)})`,
    token.logprob !== null && (rank >= 0 && rank < ALTERNATIVES ? `choice ${rank + 1}` : `not among the first ${ALTERNATIVES}`)];
  $('token').replaceChildren(
    h('p', {class: 'facts'}, h('code', {class: 'big'}, visible(token.text)), ...facts.filter(Boolean).map((fact) => h('span', {}, fact))),
    token.top.length ? h('ol', {class: 'alternatives', 'aria-label': 'What it might have been'}, token.top.map((t) => h('li', {class: t.id === token.id ? 'chosen' : ''},
      h('button', {type: 'button', title: `Go on with this token (id ${t.id})`, 'aria-label': `Go on with ${t.text}, ${percent(t.logprob)}`, onclick: () => goOn(s.selected, t)}, h('code', {}, visible(t.text)), bar(t.logprob), h('span', {class: 'number'}, percent(t.logprob)))))) : '');
}

// ---- what v1/inspect shows ----

async function inspect(box, request) {
  const body = {model: s.model, ...request}, key = JSON.stringify(body);
  box.dataset.wanted = key;
  if (!known.has(key)) {
    const waiting = setTimeout(() => { box.setAttribute('aria-busy', 'true'); }, 100);
    try { known.set(key, await ask('v1/inspect', body)); } catch (error) {
      if (box.dataset.wanted === key) box.replaceChildren(h('p', {class: 'error'}, error.message));
      return null;
    } finally {
      clearTimeout(waiting);
      box.removeAttribute('aria-busy');
    }
  }
  return box.dataset.wanted === key ? known.get(key) : null;
}

function tooFar(box) {
  if (s.selected < LOOKED_AT) return false;
  box.replaceChildren(h('p', {class: 'note'}, `The first ${LOOKED_AT} tokens can be looked into; choose one of them.`));
  return true;
}

async function drawLens() {
  const box = $('lens');
  if (tooFar(box)) return;
  const columns = Math.max(3, Math.min(12, Math.floor((box.clientWidth - 70) / 92)));
  const end = Math.min(Math.min(s.tokens.length, LOOKED_AT), Math.max(columns, s.selected + 1)), begin = Math.max(0, end - columns);
  const view = await inspect(box, {what: 'logit_lens', tokens: ids(end), positions: [begin, end], top: 5});
  if (!view) return;
  const layers = view.layers.slice().reverse();
  const cells = [];
  const rows = layers.map(({layer, positions}) => h('tr', {}, h('th', {scope: 'row'}, layer === 'embed_tokens' ? 'input' : String(layer + 1)), positions.map((of, i) => {
    const at = begin + i, next = s.tokens[at + 1]?.id;
    const cell = h('button', {type: 'button', 'data-item': '', class: of.top[0].id === next ? 'right' : '', 'aria-selected': String(s.cell?.layer === layer && s.cell?.at === at),
      'aria-label': `layer ${layer}, after ${s.tokens[at].text}: ${of.top[0].token}, ${percent(of.top[0].logprob)}`,
      style: {background: tint(of.top[0].logprob)}, onclick: () => { s.cell = {layer, at}; detail(of, layer, at, cell); }}, visible(of.top[0].token));
    cells.push([cell, of, layer, at]);
    return h('td', {}, cell);
  })));
  const head = h('tr', {}, h('th', {scope: 'col'}, 'after'), s.tokens.slice(begin, end).map((token, i) => h('th', {scope: 'col', class: begin + i === s.selected ? 'selected' : ''}, h('code', {}, visible(token.text)))));
  const out = h('div', {class: 'detail', 'aria-live': 'polite'});
  function detail(of, layer, at, cell) {
    box.querySelectorAll('button[aria-selected=true]').forEach((b) => b.setAttribute('aria-selected', 'false'));
    cell.setAttribute('aria-selected', 'true');
    const next = s.tokens[at + 1], known = view.layers.find((l) => l.layer === layer).positions[at - begin].next;
    out.replaceChildren(h('p', {}, layer === 'embed_tokens' ? 'Before the first layer' : `After layer ${layer + 1}`, ', behind ', h('code', {}, visible(s.tokens[at].text)), ':'),
      h('ol', {class: 'alternatives'}, of.top.map((t) => h('li', {class: t.id === next?.id ? 'chosen' : ''}, h('div', {}, h('code', {}, visible(t.token)), bar(t.logprob), h('span', {class: 'number'}, percent(t.logprob)))))),
      known ? h('p', {class: 'note'}, 'What came next, ', h('code', {}, visible(known.token)), `, has ${percent(known.logprob)} here.`) : '');
  }
  const table = h('table', {class: 'lens'}, h('thead', {}, head), h('tbody', {}, rows));
  box.replaceChildren(h('div', {class: 'table', tabindex: '-1'}, table), out);
  const last = cells.find(([, , layer, at]) => s.cell ? layer === s.cell.layer && at === s.cell.at : at === Math.max(begin, s.selected - 1)) ?? cells[0];
  detail(last[1], last[2], last[3], last[0]);
  rove(table, end - begin);
}

// ---- attention ----

function picture(canvas, rows, pixels) {
  const n = rows.length, image = new ImageData(n, n);
  const ramp = Array.from({length: 256}, (_, i) => scale(i / 255));
  rows.forEach((row, i) => row.forEach((p, j) => {
    const [r, g, b] = ramp[Math.round(255 * Math.sqrt(p))];  // the square root, so that a tenth is seen
    image.data.set([r, g, b, 255], 4 * (i * n + j));
  }));
  canvas.width = canvas.height = n;
  canvas.style.width = canvas.style.height = `${pixels}px`;
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

async function drawAttention() {
  const box = $('attention');
  if (tooFar(box)) return;
  const until = Math.min(s.tokens.length, LOOKED_AT), tokens = ids(until), size = until * (until + 1) / 2;
  const request = {what: 'attention', tokens, layer: s.layer};
  const view = await inspect(box, (s.heads ?? 16) * size <= MAPS_AT_ONCE ? request : {...request, head: s.head});
  if (!view) return;
  s.heads = view.head_count;
  s.head = Math.min(s.head, s.heads - 1);
  const one = view.heads.find((of) => of.head === s.head) ?? view.heads[0];
  const choose = (change) => { Object.assign(s, change); return drawAttention(); };
  const chooser = (name, label, most, value) => h('label', {}, label, h('input', {type: 'range', min: '0', max: String(most - 1), value: String(value), 'data-name': name,
    'aria-valuetext': String(value + 1), onchange: async (event) => { await choose({[name]: Number(event.target.value)}); box.querySelector(`[data-name=${name}]`)?.focus(); }}), h('output', {}, `${value + 1} of ${most}`));
  const at = Math.min(s.selected, until - 1);
  const pixels = Math.max(180, Math.min(440, box.clientWidth - (until <= LABELS ? 90 : 0)));
  const labels = h('div', {class: 'labels', 'aria-hidden': 'true', style: {height: `${pixels}px`, fontSize: `${Math.min(13, 0.8 * pixels / until)}px`}},
    s.tokens.slice(0, until).map((token, i) => h('code', {class: i === at ? 'selected' : ''}, visible(token.text))));
  const cell = h('p', {class: 'note', 'aria-live': 'off'}, `${isDark() ? 'Brighter' : 'Darker'} is more. Point at the map to read it; click to choose a token.`);
  const map = picture(h('canvas', {class: 'map', role: 'img', 'aria-label': `Attention of layer ${s.layer + 1}, head ${s.head + 1}: ${until} tokens to those before them`}), one.rows, pixels);
  const place = (event) => {
    const box = map.getBoundingClientRect();
    return [Math.floor((event.clientY - box.top) / box.height * until), Math.floor((event.clientX - box.left) / box.width * until)];
  };
  map.onpointermove = (event) => {
    const [i, j] = place(event);
    if (one.rows[i]?.[j] !== undefined) cell.replaceChildren(h('code', {}, visible(s.tokens[i].text)), ' takes ', h('b', {}, `${(100 * one.rows[i][j]).toFixed(1)}%`), ' from ', h('code', {}, visible(s.tokens[j].text)), ` (${i} from ${j})`);
  };
  map.onclick = (event) => { const [i] = place(event); if (s.tokens[i]) select(i); };
  const row = one.rows[at];
  const order = row.map((p, j) => [p, j]).sort((a, b) => b[0] - a[0]).slice(0, 8);
  const thumbs = view.heads.length > 1 && h('div', {class: 'heads', role: 'listbox', 'aria-label': 'Heads'}, view.heads.map((of) => h('button', {type: 'button', role: 'option', 'data-item': '', 'aria-selected': String(of.head === s.head), 'aria-label': `Head ${of.head + 1}`, title: `Head ${of.head + 1}`,
    onclick: async () => { await choose({head: of.head}); box.querySelector('.heads [aria-selected=true]')?.focus(); }}, picture(h('canvas', {}), of.rows, 60))));
  box.replaceChildren(
    h('div', {class: 'row choosers'}, chooser('layer', 'Layer', view.layer_count, s.layer), chooser('head', 'Head', s.heads, s.head)),
    thumbs || '',
    h('div', {class: 'attention'}, h('div', {}, h('div', {class: 'labelled'}, until <= LABELS && labels, map), cell),
      h('div', {}, h('p', {}, h('code', {}, visible(s.tokens[at].text)), ' takes most from'),
        h('ol', {class: 'alternatives'}, order.map(([p, j]) => h('li', {}, h('div', {}, h('code', {}, visible(s.tokens[j].text)), h('span', {class: 'bar'}, h('i', {style: {width: `${100 * p}%`, background: css(scale(Math.sqrt(p)))}})), h('span', {class: 'number'}, `${(100 * p).toFixed(1)}%`)))))))) ;
  if (thumbs) rove(thumbs);
}
