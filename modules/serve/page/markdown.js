// The little of Markdown that models write, as elements: headings, lists, quotes, tables, code, emphasis, links. What is
// none of it is shown as it is written; HTML is text.
import {copy, h, icon} from './dom.js';

const INLINE = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|\*(?=[^\s*])([^*]*?[^\s*])\*|(?<![\w_])_(?=[^\s_])([^_]*?[^\s_])_(?![\w_])|~~(?=\S)([\s\S]*?\S)~~|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/;

function inline(text, depth = 0) {
  const nodes = [];
  while (text) {
    const match = depth < 6 ? INLINE.exec(text) : null;
    if (!match) { nodes.push(text); break; }
    if (match.index) nodes.push(text.slice(0, match.index));
    const [whole, , code, strong, emphasis, emphasis2, gone, label, address] = match;
    const within = (part) => inline(part, depth + 1);
    if (code !== undefined) nodes.push(h('code', {}, code));
    else if (strong) nodes.push(h('strong', {}, within(strong)));
    else if (emphasis ?? emphasis2) nodes.push(h('em', {}, within(emphasis ?? emphasis2)));
    else if (gone) nodes.push(h('s', {}, within(gone)));
    else nodes.push(h('a', {href: address, target: '_blank', rel: 'noopener noreferrer'}, within(label)));
    text = text.slice(match.index + whole.length);
  }
  return nodes;
}

function codeBlock(language, text) {
  const button = h('button', {class: 'icon', type: 'button', 'aria-label': 'Copy code', onclick: () => copy(text)}, icon('copy'));
  return h('div', {class: 'code'}, h('div', {class: 'code-head'}, h('span', {}, language), button), h('pre', {tabindex: '0'}, h('code', {}, text)));
}

const cells = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
const BULLET = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

// Lists go as deep as their indentation.
function list(lines) {
  const indent = BULLET.exec(lines[0])[1].length;
  const number = parseInt(BULLET.exec(lines[0])[2], 10);
  const items = [];
  for (const line of lines) {
    const match = BULLET.exec(line);
    if (match && match[1].length <= indent) items.push([match[3]]);
    else items.at(-1).push(line.replace(new RegExp(`^\\s{0,${indent + 2}}`), ''));
  }
  return h(Number.isNaN(number) ? 'ul' : 'ol', {start: Number.isNaN(number) || number === 1 ? undefined : String(number)},
    items.map((item) => h('li', {}, item.length === 1 ? inline(item[0]) : blocks(item))));
}

function blocks(lines) {
  const nodes = [];
  let at = 0;
  const take = (holds) => {
    const begin = at;
    while (at < lines.length && holds(lines[at])) ++at;
    return lines.slice(begin, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^\s*(`{3,}|~{3,})\s*([\w+#.-]*)/.exec(line);
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (!line.trim()) ++at;
    else if (fence) {
      ++at;
      const body = take((l) => !l.trim().startsWith(fence[1]));
      ++at;
      nodes.push(codeBlock(fence[2], body.join('\n')));
    } else if (heading) {
      ++at;
      nodes.push(h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      ++at;
      nodes.push(h('hr'));
    } else if (line.startsWith('>')) {
      nodes.push(h('blockquote', {}, blocks(take((l) => l.startsWith('>')).map((l) => l.replace(/^>\s?/, '')))));
    } else if (BULLET.test(line)) {
      nodes.push(list(take((l) => BULLET.test(l) || /^\s+\S/.test(l))));
    } else if (line.includes('|') && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[at + 1] ?? '')) {
      const [head, , ...rows] = take((l) => l.includes('|'));
      nodes.push(h('div', {class: 'table'}, h('table', {}, h('tr', {}, cells(head).map((c) => h('th', {}, inline(c)))),
        rows.map((row) => h('tr', {}, cells(row).map((c) => h('td', {}, inline(c))))))));
    } else {
      const paragraph = take((l) => l.trim() && !/^(#{1,6}\s|>|\s*(`{3,}|~{3,}))/.test(l) && !BULLET.test(l));
      if (!paragraph.length) paragraph.push(lines[at++]);
      nodes.push(h('p', {}, inline(paragraph.join('\n'))));
    }
  }
  return nodes;
}

export function markdown(text) { return blocks(text.split('\n')); }
