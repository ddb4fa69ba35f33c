// What a conversation chooses for its requests. The fields are the API's.
import {$, h} from './dom.js';
import {modelOf} from './api.js';

const FIELDS = [
  ['temperature', 'Temperature', {min: 0, max: 2, step: 0.05}],
  ['top_p', 'Top p', {min: 0, max: 1, step: 0.01}],
  ['top_k', 'Top k', {min: 0, step: 1}],
  ['min_p', 'Min p', {min: 0, max: 1, step: 0.01}],
  ['max_tokens', 'Most new tokens', {min: 1, step: 1}, 'what fits'],
  ['seed', 'Seed', {min: 0, step: 1}, 'any'],
];

export const options = (settings) =>
  Object.fromEntries(FIELDS.map(([name]) => [name, settings[name]]).filter(([, value]) => value !== undefined));

export function edit(settings, onChange) {
  const dialog = $('settings');
  const form = dialog.querySelector('form');
  const defaults = modelOf(settings.model)?.default_sampling ?? {};
  form.querySelector('.fields').replaceChildren(...FIELDS.map(([name, label, range, otherwise]) => {
    const field = h('input', {type: 'number', name, placeholder: otherwise ?? String(Number(defaults[name]?.toFixed(3)))});
    Object.assign(field, range, {value: settings[name] ?? ''});
    return h('label', {}, label, field);
  }));
  form.system.value = settings.system ?? '';
  const read = () => {
    for (const [name] of FIELDS) {
      const field = form.elements[name];
      if (field.value === '' || !field.validity.valid) delete settings[name];
      else settings[name] = Number(field.value);
    }
    settings.system = form.system.value || undefined;
    onChange();
  };
  form.oninput = read;
  $('settings-clear').onclick = () => {
    for (const field of form.querySelectorAll('input, textarea')) field.value = '';
    read();
  };
  dialog.showModal();
}
