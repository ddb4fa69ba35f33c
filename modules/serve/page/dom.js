// Elements made of names, properties and children. Text is always a text node: nothing here parses HTML.

export const $ = (id) => document.getElementById(id);

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'style') Object.assign(element.style, value);
    else if (name in element && typeof value !== 'string') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  plus: 'M12 5v14M5 12h14',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M8 8h8v8H8z',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM14 7l3 3',
  again: 'M19 12a7 7 0 1 1-2-5l2 2M19 4v5h-5',
  copy: 'M9 9h10v10H9zM15 9V5H5v10h4',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  gear: 'M4 7h8M18 7h2M4 17h2M12 17h8M15 4.8v4.4M9 14.8v4.4',
  save: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  look: 'M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14M16 16l4 4',
  back: 'M9 7l-5 5 5 5M4 12h10a5 5 0 0 1 5 5',
  left: 'M15 5l-7 7 7 7',
  right: 'M9 5l7 7-7 7',
};

export function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(space, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

// One Tab stop for many elements; arrows move among them. `columns`: of a grid.
export function rove(container, columns = 0) {
  const items = () => [...container.querySelectorAll('[data-item]')];
  container.onkeydown = (event) => {
    const list = items();
    const at = list.indexOf(document.activeElement);
    if (at < 0) return;
    const steps = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns || 1, ArrowUp: -(columns || 1),
      Home: -at, End: list.length - 1 - at};
    const to = list[at + steps[event.key]];
    if (!to) return;
    event.preventDefault();
    list[at].tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  const list = items();
  list.forEach((item) => { item.tabIndex = -1; });
  const first = list.find((item) => item.getAttribute('aria-selected') === 'true') ?? list[0];
  if (first) first.tabIndex = 0;
}

export function say(text) { $('announcer').textContent = text; }

// Browsers give the clipboard to pages of this machine or of https alone; elsewhere there is the older way.
export async function copy(text) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else {
    const field = document.body.appendChild(h('textarea', {class: 'unseen'}));
    field.value = text;
    field.select();
    document.execCommand('copy');
    field.remove();
  }
  say('Copied.');
}

export function showProblem(error) {
  const box = $('problem');
  box.hidden = !error;
  box.replaceChildren(error ? error.message : '', error ? h('button', {class: 'quiet', onclick: () => showProblem(null)}, 'Close') : '');
}

// A question with an answer to type (`value`), or to confirm alone. Gives null where it is cancelled.
export function question(text, yes, value) {
  const [dialog, input] = [$('question'), $('question-input')];
  $('question-text').textContent = text;
  dialog.querySelector('.main').textContent = yes;
  input.hidden = value === undefined;
  input.value = value ?? '';
  input.setAttribute('aria-label', text);
  // Enter in the field must confirm, and the first button of a form would cancel.
  input.onkeydown = (event) => { if (event.key === 'Enter') { event.preventDefault(); dialog.close('yes'); } };
  dialog.returnValue = '';
  dialog.showModal();
  if (!input.hidden) input.select();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === 'yes' ? input.value : null);
  });
}
