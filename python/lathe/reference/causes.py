"""Known causes of a difference, tried on one operation.

The operation is that of transformers, its input Lathe's: so a cause is tried by changing the operation and looking whether it now
gives what Lathe gave. Each trial yields (what Lathe does in that case, the changed operation's value).
"""
import contextlib
from dataclasses import replace

import numpy as np
import torch

from . import attention as attend
from .attention import relative_error


@contextlib.contextmanager
def changed(module, **attributes):
    before = {name: getattr(module, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def flat(x, tokens):
    return x.detach().float().reshape(tokens, -1).numpy()


def best_scale(found, expected):
    return float(np.vdot(found, expected) / max(np.vdot(expected, expected), 1e-300))


def listed(indices):
    text = ", ".join(str(i) for i in indices[:6])
    return text + (f" and {len(indices) - 6} more" if len(indices) > 6 else "")


# --- norms


def eps_name(module):
    return next((n for n in ("variance_epsilon", "eps") if hasattr(module, n)), None)


def solved_eps(module, name, record, found):
    """The eps that would explain the size of what Lathe gave, to two digits."""
    x = record.input.float()
    x = (x - x.mean(-1, keepdim=True)) if isinstance(module, torch.nn.LayerNorm) else x
    variance = x.pow(2).mean(-1).reshape(-1).numpy()
    bias = getattr(module, "bias", None)
    bias = np.tile(bias.detach().numpy(), record.value.shape[1] // len(bias)) if bias is not None else 0.0
    expected, got = (a.reshape(len(variance), -1) for a in (record.value - bias, found - bias))
    ratio = (expected * got).sum(-1) / np.maximum((expected * expected).sum(-1), 1e-300)
    eps = float(np.median((variance + getattr(module, name)) / np.maximum(ratio, 1e-6) ** 2 - variance))
    return float(f"{eps:.1e}") if eps > 0 else 0.0


def same_kind(record, others):
    """[(tap, record)] of the other operations with a weight of this one's shape, those of its own layer first."""
    def weight(r):
        return getattr(r.module, "weight", None)

    def layer(tap):
        return tap.rsplit(".layers.", 1)[-1].split(".")[0]

    own = next(tap for tap, r in others.items() if r is record)
    alike = [(tap, r) for tap, r in others.items() if r.module is not record.module and type(r.module) is type(record.module)
             and weight(r) is not None and weight(r).shape == weight(record).shape]
    return sorted(alike, key=lambda pair: layer(pair[0]) != layer(own))


def with_weight(record, weight):
    with changed(record.module, weight=weight), torch.no_grad():
        y = flat(record.module(record.input), len(record.value))
    return y if record.columns is None else y[:, record.columns]


def exchanged(record, found, records, lathe, what):
    """The weight of another operation in place of this one's."""
    for tap, other in same_kind(record, records):
        value = with_weight(record, other.module.weight)
        back = ""
        if relative_error(found, value) < 1e-3 and tap in lathe and other.input is not None:
            theirs = with_weight(other, record.module.weight)
            if relative_error(lathe[tap].reshape(theirs.shape), theirs) < 1e-3:
                back = ", and the other way round: the two are exchanged"
        yield f"{what}: Lathe's is that of the reference's {tap}{back}", value


def norm_causes(record, found, records, lathe):
    module, tokens = record.module, len(found)

    def value(**attributes):
        with changed(module, **attributes), torch.no_grad():
            return flat(module(record.input), tokens)

    def parameter(values):
        return torch.nn.Parameter(values, requires_grad=False)

    name, weight = eps_name(module), module.weight.detach()
    if name:
        own = getattr(module, name)
        for eps in dict.fromkeys([1e-5, 1e-6, 1e-8, 1e-12, 0.0, 1e-3, solved_eps(module, name, record, found)]):
            if eps != own:
                yield f"eps: Lathe computes with {eps:g}, the reference with {own:g}", value(**{name: eps})
    yield "norm + 1: Lathe adds 1 to the weight, the reference does not", value(weight=parameter(weight + 1))
    yield "norm + 1: the reference adds 1 to the weight, Lathe does not", value(weight=parameter(weight - 1))
    if getattr(module, "bias", None) is not None:
        yield "bias: Lathe leaves the norm's bias out", value(bias=None)
    yield from exchanged(record, found, records, lathe, "norm weight")
    # The output is linear in the weight: what Lathe's must be follows by least squares, channel by channel.
    rest = value(weight=parameter(torch.zeros_like(weight)))
    shape = (-1, len(weight))
    unit = (value(weight=parameter(torch.ones_like(weight))) - rest).reshape(shape).astype(np.float64)
    fitted = ((found - rest).reshape(shape) * unit).sum(0) / np.maximum((unit * unit).sum(0), 1e-300)
    own = weight.double().numpy()
    off = np.flatnonzero(np.abs(fitted - own) > 1e-4 * (np.abs(own) + np.abs(own).mean()))
    if 0 < len(off):
        first = off[0]
        text = (f"norm weight: {len(off)} of {len(own)} channels differ ({listed(off)}): "
                f"{fitted[first]:.6g} in Lathe, {own[first]:.6g} in the reference at {first}")
        mended = own.copy()
        mended[off] = fitted[off]
        yield text, value(weight=parameter(torch.from_numpy(mended).to(weight.dtype)))


# --- projections


def rope_permutation(heads, width, rotary):
    """Columns of heads in adjacent pairs, listed so that they stand in halves: x[:, result] rotates pairs as halves."""
    order = np.arange(width)
    order[:rotary] = np.concatenate([np.arange(0, rotary, 2), np.arange(1, rotary, 2)])
    return (np.arange(heads)[:, None] * width + order).reshape(-1)


# What turns rows is named `interleaved_rope_rows` in a family's mapping of weights; it belongs to files that pair adjacent rows.
TURN = ".rows(interleaved_rope_rows(head_dim)) of q and k in the family's mapping for this kind of file"


def linear_causes(tap, record, found, records, lathe, heads):
    module, tokens, expected = record.module, len(found), record.value
    part = tap.rsplit(".", 1)[-1]
    if part in ("q", "k"):
        count = heads.query if part == "q" else heads.key_value
        order = rope_permutation(count, heads.width, heads.rotary)
        yield f"rope layout: Lathe turns rows that stand in halves already: take away {TURN}", expected[:, order]
        yield f"rope layout: Lathe's rows stand in adjacent pairs, the reference's in halves: add {TURN}", expected[:, np.argsort(order)]
    weight, bias = module.weight.detach(), getattr(module, "bias", None)
    columns = slice(None) if record.columns is None else record.columns
    if weight.dim() == 2 and weight.shape[0] == weight.shape[1]:
        with changed(module, weight=torch.nn.Parameter(weight.T.contiguous(), requires_grad=False)), torch.no_grad():
            yield "transposed weight: Lathe multiplies by the reference's, turned", flat(module(record.input), tokens)[:, columns]
    if bias is not None:
        own = bias.detach().float().numpy()[columns]
        yield "bias: Lathe leaves the reference's bias out", expected - own
    if weight.dim() == 2 and record.columns is None and tap != "logits":
        yield from exchanged(record, found, records, lathe, "weight")
    constant = np.median(found - expected, axis=0)
    if np.abs(constant).max() > 0:
        yield "bias: Lathe's bias is another, or one that the reference lacks", expected + constant
    off = np.flatnonzero(np.abs(found - expected).max(0) > 1e-4 * np.abs(expected).mean())
    if 0 < len(off) <= found.shape[1] // 2:
        mended = expected.copy()
        mended[:, off] = found[:, off]
        yield f"weight: {len(off)} of {found.shape[1]} rows differ ({listed(off)})", mended


# --- the rest


def rotation_causes(record, found, records, heads):
    x, (cos, sin) = record.input, record.angles
    width = x.shape[3]
    order = torch.from_numpy(rope_permutation(1, width, heads.rotary))
    back = torch.argsort(order)

    def tapped(y):
        return flat(y.transpose(1, 2), len(found))

    yield "rope layout: Lathe rotates adjacent pairs, the reference halves: change Lathe's RopeStyle to half_split", tapped(record.rotate(x[..., order], cos, sin)[..., back])
    yield "rope layout: Lathe rotates halves, the reference adjacent pairs: add " + TURN, tapped(record.rotate(x[..., back], cos, sin)[..., order])
    others = {tap: r.angles for tap, r in records.items() if r.angles is not None and not all(map(torch.equal, r.angles, record.angles))}
    for tap, angles in list(others.items())[:1]:
        yield f"rope: Lathe's angles are those of the reference's {tap}, another kind of layer", tapped(record.rotate(x, *angles))
    yield "rope: Lathe does not rotate", tapped(x)
    yield "rope: Lathe rotates the other way round", tapped(record.rotate(x, cos, -sin))
    yield "rope: Lathe's positions begin one later", tapped(record.rotate(x, *later(cos, sin)))


def later(cos, sin):
    """The angles one position further on, by the addition theorem."""
    c, s = cos[:, 1:2], sin[:, 1:2]
    return cos * c - sin * s, sin * c + cos * s


def attention_of(prefix, lathe, heads):
    def tapped(*names):
        x = lathe[prefix + next(n for n in names if prefix + n in lathe)]
        return x.reshape(len(x), -1, heads.width)

    return attend.Attention(tapped("q_rope", "q_norm", "q"), tapped("k_rope", "k_norm", "k"), tapped("v"))


def attention_causes(tap, records, found, lathe, reference):
    def own_settings(prefix):
        module = next((m for m, p in reference.attentions.items() if p + "self_attn." == prefix), None)
        attention = attention_of(prefix, lathe, reference.heads)
        candidates = attend.declared(module, reference.config, reference.heads.width)
        return attention, *attend.best_of(attention, records[prefix + "heads"].value, candidates)

    def phase(window):
        """Where Lathe has the reference's windows, but in other layers."""
        if window == own.window:
            return ""
        mine, theirs = [], []
        for prefix in [t[: -len("heads")] for t in lathe if t.endswith("self_attn.heads")]:
            its, settings, _ = own_settings(prefix)
            value = lathe[prefix + "heads"].reshape(len(found), -1)
            windows = dict.fromkeys([settings.window, window, own.window, 0])
            best, _ = attend.best_of(its, value, [replace(settings, window=w) for w in windows])
            mine.append(best.window), theirs.append(settings.window)
        if set(mine) != set(theirs) or len(set(mine)) == 1:
            return ""
        return f"; another phase of the layers: Lathe's windows are {listed(mine)}, the reference's {listed(theirs)}"

    attention, own, error = own_settings(tap[: -len("heads")])
    if error < 1e-3:  # otherwise the reference's attention does what `Attention` does not, ALiBi for one
        yield from attend.attention_causes(attention, own, found, reference.config, phase)


def logits_causes(record, found, config):
    cap = getattr(config, "final_logit_softcapping", None)
    raw = flat(record.module(record.input), len(found)).astype(np.float64)
    if cap:
        yield f"softcap of the logits: Lathe leaves it out, the reference's is {cap:g}", raw
    other = attend.searched_cap(raw, found)
    yield f"softcap of the logits: Lathe's is {other:.4g}, " + (f"the reference's is {cap:g}" if cap else "the reference has none"), other * np.tanh(raw / other)


def activation_causes(prefix, lathe, found):
    up = torch.from_numpy(lathe[prefix + "up"])
    gate = torch.from_numpy(lathe[prefix + "gate"]) if prefix + "gate" in lathe else None
    f = torch.nn.functional
    known = {"silu": f.silu, "gelu": f.gelu, "gelu (tanh form)": lambda x: f.gelu(x, approximate="tanh"), "relu": f.relu,
             "quick gelu": lambda x: x * torch.sigmoid(1.702 * x)}
    for name, activation in known.items():
        yield f"activation: Lathe's is {name}", flat(activation(up if gate is None else gate) * (1.0 if gate is None else up), len(found))
        if gate is not None:
            yield f"gate and up are exchanged ({name})", flat(activation(up) * gate, len(found))


def causes(tap, records, found, lathe, reference):
    """All that might be the matter with `tap`, most telling first: (text, value)."""
    record, heads = records[tap], reference.heads
    module, kind = record.module, type(record.module).__name__
    prefix = tap.rsplit(".", 1)[0] + "."
    if record.rotate is not None:
        yield from rotation_causes(record, found, records, heads)
    elif module is not None and "norm" in kind.lower():
        yield from norm_causes(record, found, records, lathe)
    elif tap.endswith("self_attn.heads"):
        yield from attention_causes(tap, records, found, lathe, reference)
    elif tap.endswith("mlp.hidden"):
        yield from activation_causes(prefix, lathe, found)
    elif module is not None and getattr(getattr(module, "weight", None), "ndim", 0) == 2 and "Embedding" not in kind:
        if tap == "logits":
            yield from logits_causes(record, found, reference.config)
        yield from linear_causes(tap, record, found, records, lathe, heads)
    scale = best_scale(found, record.value)
    yield f"missing scale: Lathe's value is {scale:.6g} times the reference's", record.value * scale
