"""Lathe and transformers side by side over the same tokens: see `compare` and `Report`."""
import dataclasses
import math
import typing

import numpy as np
import torch

import lathe

from . import causes as known
from .causes import listed
from .taps import Reference

UNIT = {"float32": 2.0**-24, "bfloat16": 2.0**-9}  # half the distance of two neighbours at 1


@dataclasses.dataclass
class Operation:
    """One tapped operation: the error that it makes itself, from Lathe's inputs, and what rounding explains."""

    tap: str
    grown: float  # relative error of the value, all before it included
    made: float  # relative error of this operation alone
    explained: float

    @property
    def ok(self):
        return self.made <= self.explained


@dataclasses.dataclass
class Greedy:
    steps: int  # that were compared
    equal: int  # tokens until the texts part
    gap: float = math.nan  # between the logits of the two tokens, where they part, in the reference
    noise: float = math.nan  # largest difference of the logits there
    tie: bool = False  # the gap is under what rounding moves

    def __str__(self):
        if self.equal == self.steps:
            return f"greedy text: all {self.steps} tokens equal"
        verdict = "numerical tie" if self.tie else "a real difference"
        return (f"greedy text: parts at token {self.equal} of {self.steps}: {verdict} "
                f"(gap {self.gap:.2g}, the logits differ by up to {self.noise:.2g})")


@dataclasses.dataclass
class Report:
    dtype: str
    operations: list
    first: typing.Optional[Operation] = None  # whose error is more than rounding
    cause: typing.Optional[str] = None  # the known cause that mends it
    mended: float = math.nan  # its error then
    nearest: str = ""  # where none mends: the one that leaves least
    greedy: typing.Optional[Greedy] = None
    weights: str = "f32"  # how Lathe's are stored

    @property
    def ok(self):
        return self.first is None and (self.greedy is None or self.greedy.equal == self.greedy.steps or self.greedy.tie)

    def layers(self):
        """Rows (layer, grown error of its output, its worst operation): the embedding, the blocks, the norm, the logits."""
        rows = {}
        for operation in self.operations:
            parts = operation.tap.split(".")
            name = ".".join(parts[1:3]) if parts[1:2] == ["layers"] else parts[-1]
            rows.setdefault(name, []).append(operation)
        return [(name, group[-1].grown, max(group, key=lambda o: o.made / o.explained)) for name, group in rows.items()]

    def __str__(self):
        lines = [f"{'':14} {'error so far':>12} {'worst operation':30} {'its own':>9} {'rounding':>9}"]
        for name, grown, worst in self.layers():
            short = worst.tap.split(name + ".")[-1]
            flag = "" if worst.ok else "  <-- more than rounding"
            lines.append(f"{name:14} {grown:12.1e} {short:30} {worst.made:9.1e} {worst.explained:9.1e}{flag}")
        if self.first is None:
            lines.append(f"no operation errs by more than {self.dtype} explains")
        else:
            lines.append(f"first: {self.first.tap} errs by {self.first.made:.1e}, {self.dtype} explains {self.first.explained:.1e}")
            lines.append(f"cause: {self.cause} (then {self.mended:.1e})" if self.cause else
                         f"cause: none that is known mends it; nearest: {self.nearest} (leaves {self.mended:.1e})")
            if self.weights != "f32":
                lines.append(f"Lathe's weights are stored as {self.weights}: where the reference's are wider, that differs, too")
        if self.greedy is not None:
            lines.append(str(self.greedy))
        return "\n".join(lines)


def explained(tap, dtype, config, tokens):
    """What rounding explains of an operation's relative error: eight times a random walk over its longest sum.

    Norms, sums and activations round a few times in float32. A product of K terms walks over them; attention's weights inherit the
    rounding of its scores, which can be large, and rotation that of the angles, which grows with the position.
    """
    single, part = UNIT["float32"], tap.rsplit(".", 1)[-1]
    if part.endswith("rope"):
        return 8 * single * (2 + tokens)
    if part.endswith("norm") or part in ("output", "hidden"):
        return 32 * single
    if part == "heads":
        return 8 * single * 66
    width = max(config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    return 8 * single * (2 + math.sqrt(width)) + (8 * UNIT[dtype] if dtype != "float32" else 0.0)


def find_cause(report, records, traced, reference):
    tap = report.first.tap
    found = traced[tap].reshape(records[tap].value.shape)
    best = (math.inf, "")
    for text, value in known.causes(tap, records, found, traced, reference):
        error = known.relative_error(found, value)
        if error <= report.first.explained:
            report.cause, report.mended = text, error
            return
        best = min(best, (error, text))
    report.mended, report.nearest = best


def greedy(model, reference, tokens, steps, operations_ok):
    """Both continue `tokens` greedily; where they part, the gap of the two tokens is held against the noise of the logits."""
    mine = list(model.generate(tokens, greedy=True, ignore_eos=True, max_new_tokens=steps).tokens)
    text = list(tokens)
    for step, token in enumerate(mine):
        with torch.no_grad():
            theirs = reference.model(torch.tensor([text]), use_cache=False).logits[0, -1].float().numpy()
        if int(theirs.argmax()) != token:
            noise = float(np.abs(model.logits(text)[-1] - theirs).max())
            gap = float(theirs.max() - theirs[token])
            return Greedy(len(mine), step, gap, noise, operations_ok and gap <= 2 * noise)
        text.append(token)
    return Greedy(len(mine), len(mine))


def compare(model, reference, tokens, dtype="float32", new_tokens=0):
    """Holds `model` (lathe.Model) against `reference` (a causal model of transformers) over `tokens`: a Report.

    Every operation is judged by the error that it makes itself: the reference's operation is given Lathe's inputs, so nothing that
    went wrong before it counts. The first one that errs by more than `dtype` explains is then tried with all known causes.
    """
    reference = reference if isinstance(reference, Reference) else Reference(reference)
    rows = reference.model.get_input_embeddings().weight.shape[0]
    if rows != model.config.vocab_size:
        raise ValueError(f"the vocabularies differ: {model.config.vocab_size} tokens in Lathe's model, {rows} in the reference's")
    if len(tokens) == 0 or not 0 <= min(tokens) <= max(tokens) < rows:
        raise ValueError(f"tokens: expected some from 0 to {rows - 1}, found {listed(tokens)}")
    traced = {name: np.asarray(x).reshape(len(tokens), -1) for name, x in model.trace(tokens).items() if not name.endswith("probabilities")}
    free = reference.run(tokens)
    for tap, value in traced.items():
        if tap in free and value.shape != free[tap].value.shape:
            raise ValueError(f"{tap}: {value.shape[1]} features in Lathe, {free[tap].value.shape[1]} in the reference")
    local = reference.run(tokens, forced=traced)
    reference.heads.rotary = model.config.rotary_dim
    report = Report(dtype, [], weights=model.weight_dtype)
    for tap, value in traced.items():
        if tap in free:
            report.operations.append(Operation(
                tap, known.relative_error(value, free[tap].value), known.relative_error(value, local[tap].value),
                explained(tap, dtype, reference.config, len(tokens))))
    report.first = next((o for o in report.operations if not o.ok), None)
    if report.first is not None:
        find_cause(report, local, traced, reference)
    if new_tokens > 0:
        report.greedy = greedy(model, reference, list(map(int, tokens)), new_tokens, report.first is None)
    return report


def load_reference(path):
    """The model of a Hugging Face folder, in float32."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(path)
        # The fast forms of attention know no softcap.
        form = {"attn_implementation": "eager"} if getattr(config.get_text_config(), "attn_logit_softcapping", None) else {}
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **form).eval()
    except Exception as problem:  # every family of transformers has its own
        raise ValueError(f"{path}: transformers cannot read it: {type(problem).__name__}: {' '.join(str(problem).split())}") from problem


def compare_folders(reference, candidate=None, dtype="float32", tokens=None, new_tokens=24):
    """`compare` by paths: transformers reads `reference`, Lathe reads `candidate` (by default the same folder)."""
    model = lathe.load(candidate or reference, dtype)
    if tokens is None:
        tokens = np.random.default_rng(0).integers(3, model.config.vocab_size, 37)
    return compare(model, load_reference(reference), np.asarray(tokens, np.int32), dtype, new_tokens)
