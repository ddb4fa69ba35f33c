"""Known causes of a difference, tried on one operation.

The operation is that of transformers, its input Lathe's: so a cause is tried by changing the operation and looking whether it now
gives what Lathe gave. Each trial yields (what Lathe does in that case, the changed operation's value).
"""
import contextlib

import numpy as np
import torch


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


def relative_error(found, expected):
    """Root mean square of the difference over that of what was expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    scale = np.sqrt(np.mean(expected**2))
    return float(np.sqrt(np.mean((found - expected) ** 2)) / scale) if scale > 0 else float(np.abs(found - expected).max())


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


def norm_causes(record, found):
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


def linear_causes(tap, record, found, heads):
    module, tokens, expected = record.module, len(found), record.value
    part = tap.rsplit(".", 1)[-1]
    if part in ("q", "k"):
        count = heads.query if part == "q" else heads.key_value
        order = rope_permutation(count, heads.width, heads.rotary)
        yield "rope layout: Lathe's rows stand in halves, the reference's in adjacent pairs", expected[:, order]
        yield "rope layout: Lathe's rows stand in adjacent pairs, the reference's in halves", expected[:, np.argsort(order)]
    weight, bias = module.weight.detach(), getattr(module, "bias", None)
    columns = slice(None) if record.columns is None else record.columns
    if weight.dim() == 2 and weight.shape[0] == weight.shape[1]:
        with changed(module, weight=torch.nn.Parameter(weight.T.contiguous(), requires_grad=False)), torch.no_grad():
            yield "transposed weight: Lathe multiplies by the reference's, turned", flat(module(record.input), tokens)[:, columns]
    if bias is not None:
        own = bias.detach().float().numpy()[columns]
        yield "bias: Lathe leaves the reference's bias out", expected - own
    constant = np.median(found - expected, axis=0)
    if np.abs(constant).max() > 0:
        yield "bias: Lathe's bias is another, or one that the reference lacks", expected + constant
    off = np.flatnonzero(np.abs(found - expected).max(0) > 1e-4 * np.abs(expected).mean())
    if 0 < len(off) <= found.shape[1] // 2:
        mended = expected.copy()
        mended[:, off] = found[:, off]
        yield f"weight: {len(off)} of {found.shape[1]} rows differ ({listed(off)})", mended


# --- the rest


def rotation_causes(record, found, heads):
    x, (cos, sin) = record.input, record.angles
    width = x.shape[3]
    order = torch.from_numpy(rope_permutation(1, width, heads.rotary))
    back = torch.argsort(order)

    def tapped(y):
        return flat(y.transpose(1, 2), len(found))

    yield "rope layout: Lathe rotates adjacent pairs, the reference halves", tapped(record.rotate(x[..., order], cos, sin)[..., back])
    yield "rope layout: Lathe rotates halves, the reference adjacent pairs", tapped(record.rotate(x[..., back], cos, sin)[..., order])
    yield "rope: Lathe does not rotate", tapped(x)
    yield "rope: Lathe rotates the other way round", tapped(record.rotate(x, cos, -sin))
    yield "rope: Lathe's positions begin one later", tapped(record.rotate(x, *later(cos, sin)))


def later(cos, sin):
    """The angles one position further on, by the addition theorem."""
    c, s = cos[:, 1:2], sin[:, 1:2]
    return cos * c - sin * s, sin * c + cos * s


def attention_causes(prefix, lathe, found, heads):
    def tapped(*names):
        name = next(n for n in names if prefix + n in lathe)
        return lathe[prefix + name].reshape(len(found), -1, heads.width).astype(np.float64)

    q, k, v = tapped("q_rope", "q_norm", "q"), tapped("k_rope", "k_norm", "k"), tapped("v")
    k, v = (np.repeat(x, heads.query // heads.key_value, axis=1) for x in (k, v))
    scores = np.einsum("nhd,mhd->hnm", q, k)
    future = np.triu(np.ones(scores.shape[1:], bool), 1)

    def attended(scale, mask):
        s = np.where(mask, -np.inf, scores * scale)
        p = np.exp(s - s.max(-1, keepdims=True))
        return np.einsum("hnm,mhd->nhd", p / p.sum(-1, keepdims=True), v).reshape(len(found), -1)

    own = heads.width**-0.5
    for scale, text in ((own, "1 / sqrt(D), over all keys before"), (1.0, "1: the factor 1 / sqrt(D) is missing"), (own * own, "1 / D")):
        yield f"scale of attention: Lathe's is {text}", attended(scale, future)
    yield "mask of attention: Lathe sees the keys that follow", attended(own, np.zeros_like(future))


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


def causes(tap, record, found, lathe, heads):
    """All that might be the matter with `tap`, most telling first: (text, value)."""
    module, kind = record.module, type(record.module).__name__
    prefix = tap.rsplit(".", 1)[0] + "."
    if record.rotate is not None:
        yield from rotation_causes(record, found, heads)
    elif module is not None and "norm" in kind.lower():
        yield from norm_causes(record, found)
    elif tap.endswith("self_attn.heads"):
        yield from attention_causes(prefix, lathe, found, heads)
    elif tap.endswith("mlp.hidden"):
        yield from activation_causes(prefix, lathe, found)
    elif module is not None and getattr(getattr(module, "weight", None), "ndim", 0) == 2 and "Embedding" not in kind:
        yield from linear_causes(tap, record, found, heads)
    scale = best_scale(found, record.value)
    yield f"missing scale: Lathe's value is {scale:.6g} times the reference's", record.value * scale
