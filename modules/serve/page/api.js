// The server's endpoints: answers in one piece, and streams of server-sent events.

export class ApiError extends Error {}

async function send(path, body, signal) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {signal} : {method: 'POST', body: JSON.stringify(body), signal});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server does not answer.');
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new ApiError(answer?.error?.message ?? `The server answered ${response.status}.`);
}

export async function ask(path, body, signal) { return (await send(path, body, signal)).json(); }

// The events' data, parsed, until "[DONE]".
export async function* stream(path, body, signal) {
  const response = await send(path, {...body, stream: true}, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  while (true) {
    const {done, value} = await reader.read();
    if (done) return;
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const data = event.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('\n');
      if (!data) continue;
      if (data === '[DONE]') return;
      const parsed = JSON.parse(data);
      if (parsed.error) throw new ApiError(parsed.error.message);
      yield parsed;
    }
  }
}

let models = [];
export async function loadModels() {
  models = (await ask('v1/models')).data;
  return models;
}
export const allModels = () => models;
export const modelOf = (id) => models.find((model) => model.id === id) ?? models[0];
