#!/usr/bin/env python3
"""Holds one checkpoint against transformers, and against itself: `make test-model MODEL=DIR`.

    scripts/test_model.py MODEL [--lathe build/lathe] [--text TEXT] [--new-tokens 24]

MODEL is a Hugging Face folder or a GGUF file of a family that transformers reads; of others the laws alone are checked. Beside transformers in float32, on the ids of a text
(pseudo-random ids where the model has no vocabulary):

    logits             largest difference over the reference's spread: at most 1e-4 in float32
    log-probabilities  of the given tokens, mean: within 1e-4 in float32, within 0.03 with --dtype auto; of the generated ones: within 1e-3
    greedy text        each token is the reference's first choice after the same text, or as probable to within the logits' error

And laws, equal bits with --dtype auto: logits on one thread and on two; log-probabilities decoded one by one and continued from a prompt
that holds the first of them; alone and in a batch of other lengths; drafted tokens change nothing.

Memory for the model in float32 once in each program. One line a check, a closing line "N passed, N failed", exit code 1 if any failed.
"""
import argparse, json, pathlib, subprocess, sys, tempfile
import numpy as np, torch
import transformers as T

TEXT = ("The harbour was quiet when the first boat came in. Two men carried the nets ashore and counted: 12, 40, 117. \"Not bad,\" said the older "
        "one, \"for a morning like this.\" He wrote the number down, as he had done every day since 1987, and went to make coffee.\n\n"
        "def total(nets):\n    return sum(len(net) for net in nets)\n")
passed = failed = 0


def say(ok, what, text):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {what:30} {text}", flush=True)


def one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class Lathe:
    def __init__(self, program, model):
        self.program, self.model = program, model

    def run(self, command, *arguments, model=None):
        words = [self.program, command, "--model", model or self.model, *map(str, arguments)]
        result = subprocess.run(words, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(next((l for l in result.stderr.splitlines() if "error" in l), f"lathe {command}: exit code {result.returncode}"))
        return result.stdout

    def logits(self, tokens, dtype, *options):
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            self.run("logits", "--tokens", ",".join(map(str, tokens)), "--dtype", dtype, "--output", file.name, *options)
            return np.load(file.name)

    def greedy(self, tokens, count, dtype, *options):
        """The new ids and their log-probabilities."""
        answer = json.loads(self.run("generate", "--tokens", ",".join(map(str, tokens)), "--greedy", "--ignore-eos", "--max-new-tokens",
                                     count, "--dtype", dtype, "--logprobs", 1, "--json", *options))
        return answer["tokens"], [step["logprob"] for step in answer["logprobs"]]

    def batch(self, prompts, count, dtype):
        requests = [dict(tokens=p, temperature=0, ignore_eos=True, max_new_tokens=count, logprobs=1) for p in prompts]
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write("".join(json.dumps(r) + "\n" for r in requests))
            file.flush()
            answers = [json.loads(line) for line in self.run("generate", "--batch", file.name, "--dtype", dtype, "--json").splitlines()]
        return [(a["tokens"], [step["logprob"] for step in a["logprobs"]]) for a in answers]


def reference(path):
    path = pathlib.Path(path)
    where = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name) if path.suffix == ".gguf" else dict(pretrained_model_name_or_path=path)
    model, info = T.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, output_loading_info=True)
    words = {k: sorted(map(str, v))[:3] for k, v in info.items() if v}
    say(not words, "transformers reads it", f"{type(model).__name__}, {model.num_parameters():,} parameters" + (f"; it says {words}" if words else ""))
    return model.eval()


def prompt(lathe, text, vocabulary):
    try:
        ids = json.loads(lathe.run("tokenize", "--text", text, "--json"))["tokens"]
        return ids, "tokens of a text"
    except RuntimeError:
        return [int(i) for i in np.random.default_rng(1).integers(0, vocabulary, 100)], "pseudo-random tokens: no vocabulary"


def log_softmax(rows):
    return torch.log_softmax(torch.from_numpy(np.asarray(rows, np.float32)).double(), -1).numpy()


def likelihood(logits, tokens):
    """Mean log-probability of the tokens after the first."""
    return float(np.mean(log_softmax(logits[:-1])[np.arange(len(tokens) - 1), tokens[1:]]))


def compare(lathe, model, tokens, count):
    with torch.no_grad():
        want = model(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()
    got = lathe.logits(tokens, "float32")
    if got.shape != want.shape:
        return say(False, "logits", f"{got.shape}, expected {want.shape}")
    error = float(np.abs(got - want).max())
    say(error / want.std() <= 1e-4, "logits", f"max difference / spread {error / want.std():.1e} (at most 1e-4)")
    for dtype, bound in [("float32", 1e-4), ("auto", 0.03)]:
        ours, theirs = likelihood(got if dtype == "float32" else lathe.logits(tokens, dtype), tokens), likelihood(want, tokens)
        say(abs(ours - theirs) <= bound, f"log-probability, {dtype}", f"{ours:.5f} and {theirs:.5f} a token (within {bound:g})")

    new, ours = lathe.greedy(tokens, count, "float32")
    with torch.no_grad():
        rows = model(torch.tensor([tokens + new]), use_cache=False).logits[0].float().numpy()[len(tokens) - 1:-1]
    gaps = rows.max(-1) - rows[np.arange(len(new)), new]
    ties = int(np.count_nonzero(gaps))
    say(gaps.max() <= 2 * error, "greedy text", f"{len(new) - ties} of {len(new)} tokens are the reference's first choice"
        + (f", {ties} within {gaps.max():.1e} of it (a tie up to {2 * error:.1e})" if ties else ""))
    worst = float(np.abs(log_softmax(rows)[np.arange(len(new)), new] - ours).max())
    say(worst <= 1e-3, "log-probabilities, generated", f"max difference {worst:.1e} (at most 1e-3)")


def check_laws(lathe, tokens, count):
    say(np.array_equal(lathe.logits(tokens, "auto", "--threads", 1), lathe.logits(tokens, "auto", "--threads", 2)), "1 thread = 2", "logits, equal bits")
    whole = new, values = lathe.greedy(tokens, count, "auto")
    for k in (1, count // 2):
        rest = lathe.greedy(tokens + new[:k], count - k, "auto")
        say(rest == (new[k:], values[k:]), f"decoded = prefilled, {k} tokens", "ids and log-probabilities, equal bits")
    prompts = [tokens[:7], tokens, tokens[:len(tokens) // 2]]
    say(lathe.batch(prompts, count, "auto")[1] == whole, "alone = batched", f"beside prompts of {len(prompts[0])} and {len(prompts[2])} tokens")
    say(lathe.greedy(tokens, count, "auto", "--speculate", "ngram") == whole, "drafted = decoded", "--speculate ngram")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--lathe", default="build/lathe")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--new-tokens", type=int, default=24)
    arguments = parser.parse_args()
    T.logging.set_verbosity_error()
    T.utils.logging.disable_progress_bar()
    lathe = Lathe(arguments.lathe, arguments.model)
    model, skipped = None, 0
    try:
        model = reference(arguments.model)
    except (ImportError, OSError, KeyError, ValueError) as error:  # it lacks the family, or what it needs to read the form
        skipped = 1
        print(f"SKIP transformers: {one_line(error)}")
    except Exception as error:  # it has the family, and this model is wrong for it
        say(False, "transformers reads it", one_line(error))
    try:
        config = json.loads(lathe.run("inspect", "--json"))["config"]
        tokens, what = prompt(lathe, arguments.text, config["vocab_size"])
        tokens = tokens[:max(2, min(config["context_limit"], 512) - arguments.new_tokens)]
        print(f"     {len(tokens)} {what}", flush=True)
        if model:
            compare(lathe, model, tokens, arguments.new_tokens)
        del model
        check_laws(lathe, tokens, arguments.new_tokens)
    except (RuntimeError, OSError) as error:
        say(False, "stopped", error)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
