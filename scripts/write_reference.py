#!/usr/bin/env python3
"""Compares every registered family with transformers and writes the figures into docs/reference.md: the end of `make reference`.

    scripts/write_reference.py [--lathe build/lathe] [--output docs/reference.md] [--only PREFIX]

The checkpoints of tests/goldens, and those of scripts/reference_cases.py made on the spot, all tiny and random. Each is asked through the
command line for logits (float32 and bfloat16), a greedy continuation of 16 tokens, loss and gradients, and is trained for ten steps of AdamW
beside torch. A line a checkpoint, then "N passed, N failed", which counts comparisons; the page has the worst of each family.
"""
import argparse, copy, json, pathlib, subprocess, sys, tempfile, zlib
import numpy as np, torch
import transformers as T
from safetensors.torch import load_file

import make_goldens
import reference_cases
import torch_training

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Float32 on both sides in other orders of summation (tests/llm/test_goldens.cpp derives it). With bfloat16 products the mean is bounded:
# a router may choose another expert where two are nearly as good, and that token's logits are then others. Of ten steps each loss is off by
# what rounding makes of it, the weights by a hundred times as much: AdamW divides small gradients by their own size.
BOUNDS = dict(logits=1e-4, bfloat16=3e-2, gradients=1e-4, loss=1e-5, ten_losses=1e-5, ten_weights=1e-4)


class Lathe:
    def __init__(self, program):
        self.program = program

    def run(self, command, folder, tokens, *options):
        words = [self.program, command, "--model", folder, "--tokens", ",".join(map(str, tokens)), *options]
        result = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
        if result.returncode:
            raise RuntimeError(result.stderr.strip().splitlines()[-1])
        return result.stdout

    def logits(self, folder, tokens, dtype):
        with tempfile.NamedTemporaryFile(suffix=".npy") as f:
            self.run("logits", folder, tokens, "--dtype", dtype, "--output", f.name)
            return np.load(f.name)

    def greedy(self, folder, tokens, count):
        return json.loads(self.run("generate", folder, tokens, "--greedy", "--ignore-eos", "--max-new-tokens", count, "--dtype", "float32",
                                   "--json"))["tokens"]

    def train(self, recipe, output):
        """The loss of each step."""
        result = subprocess.run([self.program, "train", "--config", recipe, "--output", output], capture_output=True, text=True, timeout=300)
        if result.returncode:
            raise RuntimeError(result.stderr.strip().splitlines()[-1])
        return [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]

    def gradients(self, folder, tokens):
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as f:
            self.run("trace", folder, tokens, "--dtype", "float32", "--gradients", "--filter", "none", "--output", f.name)
            return load_file(f.name)


def compare(lathe, folder, expected):
    """The figures of one checkpoint, worst first."""
    tokens, want = expected["tokens"].tolist(), expected["logits"].numpy()
    difference = lambda dtype: np.abs(lathe.logits(folder, tokens, dtype) - want) / want.std()
    figures = dict(logits=float(difference("float32").max()), bfloat16=float(np.sqrt(np.square(difference("bfloat16")).mean())))
    if "greedy" in expected:
        greedy = expected["greedy"].tolist()
        figures["greedy"] = (sum(a == b for a, b in zip(greedy, lathe.greedy(folder, tokens, len(greedy)))), len(greedy))
    got = lathe.gradients(folder, tokens)
    gradients = {n: t for n, t in expected.items() if n.startswith("grad.")}
    total = torch.cat([t.flatten() for t in gradients.values()]).norm().item()
    figures["loss"] = abs(got["loss"].item() - expected["loss"].item())
    figures["gradients"] = max((got[n].reshape(t.shape) - t).norm().item() / (t.norm().item() + 1e-3 * total) for n, t in gradients.items())
    figures["tensors"] = len(gradients)
    return figures


def compare_training(lathe, folder, load, work):
    """Ten steps of AdamW on the same ids, then the weights as transformers loads both: their difference over the way they went."""
    # Rows as long as the goldens' tokens, to which the first Qwen's frequencies belong. A gradient that is zero but for rounding (of a key's
    # bias, of a router that chooses one) is no step of full length with this epsilon, as it is with 1e-8.
    steps, batch, context, rate, epsilon = 10, 2, 37, 1e-3, 1e-6
    ids = np.random.default_rng(5).zipf(1.3, batch * context * steps + 1).clip(1, 55).astype(np.int32) + 2
    np.save(work / "ids.npy", ids)
    torch_training.write_recipe(work / "recipe.yaml", dict(
        model=dict(checkpoint=str(folder)), data=dict(train=str(work / "ids.npy"), order="sequential"),
        training=dict(batch_size=batch, context=context, steps=steps, router_balance=0.0), optimizer=dict(learning_rate=rate, epsilon=epsilon),
        schedule=dict(name="constant"), logging=dict(every=1)))
    losses = lathe.train(work / "recipe.yaml", work / "run")
    model, trained = load(folder), load(work / "run/model")
    before = copy.deepcopy(model)
    want = torch_training.train(model, ids, lambda step: rate, epsilon=epsilon, steps=steps, batch=batch, context=context)
    distance = lambda a, b: sum((p - q).square().sum().item() for p, q in zip(a.parameters(), b.parameters(), strict=True)) ** 0.5
    return dict(ten_losses=max(abs(g - w) / w for g, w in zip(losses, want, strict=True)), ten_weights=distance(trained, model) / distance(before, model))


def holds(figures):
    """One truth a comparison."""
    within = [figures[key] <= bound for key, bound in BOUNDS.items()]
    return within + ([figures["greedy"][0] == figures["greedy"][1]] if "greedy" in figures else [])


def load_model(folder):
    return T.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def checkpoints(prefix, work):
    """(name, folder, what transformers loads it with, what the reference computes) of each."""
    for config in sorted(make_goldens.GOLDENS.glob("*/config.json")):
        if config.parent.name.startswith(prefix):
            load = make_goldens.LOADERS.get(config.parent.name, load_model)
            yield config.parent.name, config.parent, load, load_file(config.parent / "expected.safetensors")
    for name, make in reference_cases.CASES.items():
        if not name.startswith(prefix):
            continue
        torch.manual_seed(zlib.crc32(name.encode()))
        model, folder = make().eval().float(), work / name
        make_goldens.perturb(model)
        model.save_pretrained(folder)
        names = [n for n in load_file(folder / "model.safetensors")]
        yield name, folder, load_model, make_goldens.expectations(model, names)


def page(rows, program):
    said = subprocess.run([program, "logits", "--model", make_goldens.GOLDENS / "gpt2", "--tokens", "1", "--output", "/dev/null"], capture_output=True, text=True)
    isa = said.stderr.split(" threads, ")[-1].split(",")[0]
    lines = ["# Against the reference", "",
             f"Written by `make reference`: transformers {T.__version__} with torch {torch.__version__.split('+')[0]}, in float32, and Lathe on `{isa}`. "
             "Tiny random checkpoints, those", "of `tests/goldens` and of `scripts/reference_cases.py`, through the command line; each figure is the worst of its "
             "family. Logits: the largest", "difference over the reference's spread in float32, its root mean square with bfloat16 products. Greedy: tokens equal "
             "of 16 a checkpoint (of `dynamic`", "rope none is compared: transformers rotates anew with every token). Gradients: the norm of the difference over the "
             "norm, of the worst tensor.", "Ten steps: AdamW on the same ids by `lathe train` and by torch, the largest relative difference of a step's "
             "loss, and the distance between the weights", "afterwards over the way that they went.", "",
             "| `model_type` | checkpoints | logits, float32 | logits, bfloat16 | greedy | loss | gradients | of tensors | ten steps: losses | weights |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for family in sorted({row["family"] for row in rows}):
        of = [row for row in rows if row["family"] == family]
        worst = lambda key: f"{max(row[key] for row in of):.1e}"
        equal, all_ = (sum(row["greedy"][i] for row in of if "greedy" in row) for i in (0, 1))
        lines.append(f"| `{family}` | {len(of)} | {worst('logits')} | {worst('bfloat16')} | {equal} of {all_} | {worst('loss')} | {worst('gradients')} | "
                     f"{sum(row['tensors'] for row in of)} | {worst('ten_losses')} | {worst('ten_weights')} |")
    lines += ["", f"Bounds: logits {BOUNDS['logits']:g} (bfloat16 {BOUNDS['bfloat16']:g}), loss {BOUNDS['loss']:g}, gradients {BOUNDS['gradients']:g}; losses of ten steps "
              f"{BOUNDS['ten_losses']:g}, weights {BOUNDS['ten_weights']:g}. But for the steps, the goldens", "are held to them on every instruction set by `make test`, without "
              "Python.", "The first Qwen, which transformers lacks, is compared with Qwen2's class "
              "and its published arithmetic (`scripts/make_goldens.py`).", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lathe", default="build/lathe")
    parser.add_argument("--output", default=ROOT / "docs" / "reference.md")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # of models so small, a second one takes longer to wait for than to do without
    T.logging.set_verbosity_error()
    T.utils.logging.disable_progress_bar()
    lathe, rows, results = Lathe(arguments.lathe), [], []
    with tempfile.TemporaryDirectory() as work:
        for name, folder, load, expected in checkpoints(arguments.only, pathlib.Path(work)):
            try:
                figures = compare(lathe, folder, expected)
                with tempfile.TemporaryDirectory() as run:
                    figures |= compare_training(lathe, folder, load, pathlib.Path(run))
            except (RuntimeError, KeyError) as error:
                results.append(False)
                print(f"FAIL {name:28} {error}", flush=True)
                continue
            rows.append(dict(figures, family=json.loads((folder / "config.json").read_text())["model_type"]))
            results += holds(figures)
            print(f"{'ok  ' if all(holds(figures)) else 'FAIL'} {name:28} " + ", ".join(
                f"{key} {value:.1e}" if isinstance(value, float) else f"{key} {value}" for key, value in figures.items()), flush=True)
    if all(results) and not arguments.only:
        pathlib.Path(arguments.output).write_text(page(rows, arguments.lathe))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


main()
