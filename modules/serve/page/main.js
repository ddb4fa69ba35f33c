// The frame: which view is shown, and waiting for the model.
import {$, showProblem} from './dom.js';
import {loadModels} from './api.js';
import * as chat from './chat.js';
import * as engine from './engine.js';
import * as microscope from './microscope.js';

const VIEWS = ['chat', 'microscope', 'engine'];

function show() {
  const view = VIEWS.find((name) => location.hash === `#${name}`) ?? document.body.dataset.view ?? 'chat';
  document.body.dataset.view = view;
  for (const name of VIEWS) $(name).hidden = name !== view;
  for (const link of document.querySelectorAll('nav a')) link.setAttribute('aria-current', link.hash === `#${view}` ? 'page' : 'false');
  engine.show(view === 'engine');
  if (view === 'microscope') microscope.shown();
}

async function begin() {
  chat.start((specimen) => { location.hash = '#microscope'; microscope.look(specimen); });
  microscope.start();
  addEventListener('hashchange', show);
  document.querySelector('.skip').onclick = (event) => { event.preventDefault(); $('main').focus(); };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => microscope.redraw());
  show();
  while (true) {
    try {
      const models = await loadModels();
      showProblem(null);
      chat.render();
      document.body.dataset.ready = '';
      if (models.length) return;
    } catch (error) { showProblem(error); }
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
  }
}

begin();
