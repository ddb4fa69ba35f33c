"""Steps of PyTorch's optimizers on windows of a stream of ids, in float32: what `lathe train` with `data.order: sequential` is held against."""
import json, pathlib

import numpy as np
import torch


def write_recipe(path, sections):
    pathlib.Path(path).write_text("".join(f"{name}: {json.dumps(values)}\n" for name, values in sections.items()))


def optimizers_of(model, name, rate, epsilon):
    """What docs/training.md says of each optimizer: matrices and tables decay, Muon leaves tables and the head to AdamW."""
    named = [(n, p) for n, p in model.named_parameters()]
    matrix = lambda n, p: p.dim() == 2 and "embed" not in n and "lm_head" not in n
    groups = lambda keep: [dict(params=[p for n, p in named if keep(n, p) and (p.dim() >= 2) == decays], weight_decay=0.1 * decays)
                           for decays in (True, False)]
    adamw = lambda keep: torch.optim.AdamW(groups(keep), lr=rate, betas=(0.9, 0.95), eps=epsilon)
    if name == "adamw":
        return [adamw(lambda n, p: True)]
    if name == "sgd":
        return [torch.optim.SGD(groups(lambda n, p: True), lr=rate, momentum=0.95)]
    muon = torch.optim.Muon([p for n, p in named if matrix(n, p)], lr=rate, weight_decay=0.1, momentum=0.95, nesterov=True)
    return [muon, adamw(lambda n, p: not matrix(n, p))]


def train(model, ids, rate, *, optimizer="adamw", epsilon=1e-8, steps, batch, context):
    """The loss of each step; the model's weights are those of the last. `rate`: the learning rate of a step from 1."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    all_optimizers, losses = optimizers_of(model.train(), optimizer, rate(1), epsilon), []
    count = (len(ids) - 1) // context
    for step in range(steps):
        starts = [((step * batch + r) % count) * context for r in range(batch)]
        rows = torch.from_numpy(np.stack([ids[s:s + context + 1] for s in starts]).astype(np.int64))
        logits = model(rows[:, :-1], use_cache=False).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), rows[:, 1:].reshape(-1))
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in all_optimizers:
            for group in o.param_groups:
                group["lr"] = rate(step + 1)
            o.step()
            o.zero_grad()
    return losses
