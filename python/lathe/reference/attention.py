"""What attention does otherwise, found from what goes in and what comes out: its window, its softcap, its scale and its mask.

The inputs are Lathe's, the outputs of the reference and of Lathe are both known: so either's settings are those under which a
plain attention over these inputs gives its output.
"""
import dataclasses

import numpy as np

WINDOWS = 256  # tried one by one up to here


@dataclasses.dataclass(frozen=True)
class Settings:
    scale: float
    window: int = 0  # keys that a query sees, itself included; 0: all before it
    softcap: float = 0.0  # c tanh(score / c); 0: none
    causal: bool = True


class Attention:
    """Plain attention in double over q (N, Hq, D), k and v (N, Hk, D), rotated and normed."""

    def __init__(self, q, k, v):
        groups = q.shape[1] // k.shape[1]
        k, self.v = (np.repeat(np.asarray(x, np.float64), groups, axis=1) for x in (k, v))
        self.products = np.einsum("nhd,mhd->hnm", np.asarray(q, np.float64), k)
        self.tokens, self.width = q.shape[0], q.shape[2]
        self.distance = np.arange(self.tokens)[:, None] - np.arange(self.tokens)

    def __call__(self, settings):
        """(N, Hq * D)"""
        scores = self.products * settings.scale
        if settings.softcap:
            scores = settings.softcap * np.tanh(scores / settings.softcap)
        hidden = self.distance < 0 if settings.causal else np.zeros_like(self.distance, bool)
        if settings.window:
            hidden = hidden | (self.distance >= settings.window)
        scores = np.where(hidden, -np.inf, scores)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hnm,mhd->nhd", weights / weights.sum(-1, keepdims=True), self.v).reshape(self.tokens, -1)


def relative_error(found, expected):
    """Root mean square of the difference over that of what was expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    scale = np.sqrt(np.mean(expected**2))
    return float(np.sqrt(np.mean((found - expected) ** 2)) / scale) if scale > 0 else float(np.abs(found - expected).max())


def searched(value, found, low, high):
    """The x in [low, high] whose value(x) comes nearest to `found`: the best of a geometric grid, then golden sections."""
    def error(t):
        return relative_error(found, value(np.exp(t)))

    grid = np.linspace(np.log(low), np.log(high), 49)
    best = int(np.argmin([error(t) for t in grid]))
    a, b = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(48):  # the bracket shrinks by 1e-10
        c, d = b - golden * (b - a), a + golden * (b - a)
        a, b = (a, d) if error(c) < error(d) else (c, b)
    return float(np.exp((a + b) / 2))


def searched_cap(raw, found):
    """The c under which c tanh(raw / c) comes nearest to `found`."""
    largest = max(float(np.abs(raw).max()), 1e-30)
    return searched(lambda cap: cap * np.tanh(raw / cap), found, largest / 64, largest * 64)


def named(window):
    return f"{window} keys" if window else "all keys before"


def best_of(attention, target, candidates):
    errors = [(relative_error(target, attention(settings)), i) for i, settings in enumerate(candidates)]
    error, index = min(errors)
    return candidates[index], error


def declared(module, config, width):
    """The settings that a module of transformers names, and what else they might be: it is the outputs that decide."""
    scale = next((float(s) for s in (getattr(module, n, None) for n in ("scaling", "scale", "scale_attn")) if isinstance(s, float)), width**-0.5)
    cap = getattr(module, "attn_logit_softcapping", None) or getattr(config, "attn_logit_softcapping", None) or 0.0
    own, common = getattr(module, "sliding_window", None) or 0, getattr(config, "sliding_window", None) or 0
    return [Settings(s, w, c) for w in dict.fromkeys([own, common, 0]) for c in dict.fromkeys([cap, 0.0]) for s in dict.fromkeys([scale, width**-0.5])]


def window_causes(attention, own, found, phase):
    windows = dict.fromkeys([0, own.window + 1, own.window - 1, *range(1, min(attention.tokens, WINDOWS))])
    for window in windows:
        if window == own.window or window < 0:
            continue
        more = {1: ", one more", -1: ", one less"}.get(window - own.window, "") if window and own.window else ""
        value = attention(dataclasses.replace(own, window=window))
        text = f"window of attention: Lathe's query sees {named(window)}, the reference's {named(own.window)}{more}"
        yield text + (phase(window) if relative_error(found, value) < 1e-3 else ""), value


def scale_names(width, config):
    names = {width**-0.5: f"1 / sqrt(D) of D = {width}", 1.0: "1: the factor 1 / sqrt(D) is missing", 1.0 / width: "1 / D"}
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if scalar:
        names.setdefault(float(scalar) ** -0.5, f"1 / sqrt(query_pre_attn_scalar) of {scalar}")
    return names


def attention_causes(attention, own, found, config, phase):
    """(text, value): what Lathe might do in place of the reference's settings `own`; phase(window) may add what other layers say."""
    def value(**changes):
        return attention(dataclasses.replace(own, **changes))

    yield from window_causes(attention, own, found, phase)
    if own.softcap:
        yield f"softcap of attention: Lathe leaves it out, the reference's is {own.softcap:g}", value(softcap=0.0)
    largest = max(float(np.abs(attention.products * own.scale).max()), 1e-30)
    cap = searched(lambda c: value(softcap=c), found, largest / 64, largest * 64)
    theirs = f"the reference's is {own.softcap:g}" if own.softcap else "the reference has none"
    yield f"softcap of attention: Lathe's is {cap:.4g}, {theirs}", value(softcap=cap)
    names = scale_names(attention.width, config)
    for scale, name in names.items():
        yield f"scale of attention: Lathe's is {name}, the reference's {own.scale:.6g}", value(scale=scale)
    for softcap, window in dict.fromkeys([(own.softcap, own.window), (0.0, own.window), (own.softcap, 0), (0.0, 0)]):
        scale = searched(lambda s: value(scale=s, softcap=softcap, window=window), found, own.scale / 64, own.scale * 64)
        besides = (", and it leaves the softcap out" if softcap != own.softcap else "") + (", and it has no window" if window != own.window else "")
        yield f"scale of attention: Lathe's is {scale:.6g}, the reference's {own.scale:.6g}{besides}", value(scale=scale, softcap=softcap, window=window)
    yield "mask of attention: Lathe sees the keys that follow", value(causal=False)
