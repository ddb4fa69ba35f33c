#!/usr/bin/env python3
"""Compute with transformers what scripts/check_evaluation.py holds `lathe perplexity` and `lathe evaluate` against.

    scripts/make_evaluation_reference.py [--lathe build/lathe] [--whole]

Needs the reference environment (`make reference`) with `accelerate` besides, ../shared/text and the demo model. transformers reads the
GGUF, dequantises its weights to float32 and computes in float32; ids are those of `lathe tokenize`. Writes tests/evaluate/reference.json:
HellaSwag's first 200 tasks, 100 questions of an MMLU subject, perplexity on the first 32 windows of wikitext-2 (10 minutes on two cores);
with --whole tests/evaluate/reference_whole.json: all tasks, all windows (an hour). A run that was cut short goes on where the file ends.
"""
import argparse, csv, hashlib, json, math, os, pathlib, subprocess

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = pathlib.Path(os.environ.get("LATHE_SHARED", ROOT.parent / "shared")) / "text"
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
WIKITEXT = TEXT / "wikitext-2" / "wiki.test.raw"
HELLASWAG = TEXT / "hellaswag" / "hellaswag_val_0_2000.txt"
SUBJECT = "world_religions"
CONTEXT = 512


class Ids:
    """Texts to ids with `lathe tokenize`, each once; how many of them transformers reads differently is printed.

    Its reader of GGUF files builds GPT-2's pre-tokeniser whatever the file's `tokenizer.ggml.pre` says; "smollm" splits digits (and
    fractions such as one half) from the space before them. Wikitext-2 has one such place.
    """

    def __init__(self, program, texts):
        texts = list(dict.fromkeys(texts))
        result = subprocess.run([program, "tokenize", "--model", MODEL, "--batch", "/dev/stdin"], input="\n".join(map(json.dumps, texts)),
                                capture_output=True, text=True, check=True)
        self.ids = dict(zip(texts, map(json.loads, result.stdout.splitlines()), strict=True))
        tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL.parent, gguf_file=MODEL.name)
        self.differing = sum(tokenizer(text)["input_ids"] != self.ids[text] for text in texts)
        print(f"{len(texts)} texts, {self.differing} that transformers' tokenizer reads differently", flush=True)

    def __getitem__(self, text):
        return self.ids[text]


class Reference:
    """The figures under way: a file that is whole at every moment, and that a later run goes on with."""

    def __init__(self, name):
        self.path = ROOT / "tests" / "evaluate" / name
        self.figures = json.loads(self.path.read_text()) if self.path.exists() else {}

    def write(self):
        text = json.dumps(self.figures, indent=1)
        for part in ("hellaswag", "mmlu"):
            for task in self.figures.get(part, {}).get("tasks", []):  # one line a task
                text = text.replace(json.dumps(task, indent=1).replace("\n", "\n   "), json.dumps(task), 1)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text + "\n")
        temporary.replace(self.path)


@torch.no_grad()
def window_losses(model, ids):
    log_probabilities = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
    return -log_probabilities.gather(1, torch.tensor(ids)[1:, None])


def perplexity(reference, model, ids, windows):
    """Disjoint windows of CONTEXT tokens, each alone; the last one may be shorter."""
    figures = reference.figures.setdefault("perplexity", dict(context=CONTEXT, stride=CONTEXT, windows=0, tokens_counted=0, losses=0.0, squares=0.0))
    for begin in range(figures["windows"] * CONTEXT, len(ids) - 1, CONTEXT):
        if figures["windows"] == windows:
            break
        losses = window_losses(model, ids[begin:begin + CONTEXT])
        figures["windows"] += 1
        figures["tokens_counted"] += len(losses)
        figures["losses"] += losses.sum().item()
        figures["squares"] += losses.square().sum().item()
        mean, n = figures["losses"] / figures["tokens_counted"], figures["tokens_counted"]
        figures["perplexity"] = math.exp(mean)
        figures["perplexity_stderr"] = math.exp(mean) * math.sqrt((figures["squares"] / n - mean * mean) / (n - 1))
        if figures["windows"] % 16 == 0:
            reference.write()
            print(f"{figures['windows']} windows: perplexity {figures['perplexity']:.4f}", flush=True)
    reference.write()


@torch.no_grad()
def choice_logprobs(model, ids, context, endings):
    """The log-probability of each ending given its context, every row whole: no cache, nothing shared."""
    context_ids = ids[context]
    rows = [context_ids + ids[context + ending][len(context_ids):] for ending in endings]
    fed = list(dict.fromkeys(tuple(row[:-1]) for row in rows))  # the last token's own logits are not wanted
    longest = max(map(len, fed))
    batch = torch.tensor([row + (0,) * (longest - len(row)) for row in fed])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in fed])
    hidden = model.model(input_ids=batch, attention_mask=mask).last_hidden_state
    for row in rows:
        states = hidden[fed.index(tuple(row[:-1]))][len(context_ids) - 1:len(row) - 1]
        targets = torch.tensor(row[len(context_ids):])[:, None]
        yield model.lm_head(states).double().log_softmax(-1).gather(1, targets).sum().item()


def score(reference, name, model, ids, tasks, **about):
    """tasks: (context, endings, label, lengths of the endings)."""
    figures = reference.figures.setdefault(name, dict(about, count=0, columns=["label", "choice", "choice_norm", "logprobs"], tasks=[]))
    scored = figures["tasks"]
    for context, endings, label, lengths in tasks[len(scored):]:
        logprobs = list(choice_logprobs(model, ids, context, endings))
        best = max(range(len(endings)), key=lambda i: logprobs[i])
        best_norm = max(range(len(endings)), key=lambda i: logprobs[i] / lengths[i])
        scored.append([label, best, best_norm, [round(x, 4) for x in logprobs]])
        figures.update(count=len(scored), acc=sum(s[0] == s[1] for s in scored) / len(scored),
                       acc_norm=sum(s[0] == s[2] for s in scored) / len(scored))
        if len(scored) % 25 == 0:
            reference.write()
            print(f"{len(scored)} tasks of {name}: acc {figures['acc']:.4f}, acc_norm {figures['acc_norm']:.4f}", flush=True)
    reference.write()


def hellaswag(limit):
    lines = HELLASWAG.read_text().splitlines()[:6 * limit]
    for at in range(0, len(lines), 6):
        endings = lines[at + 2:at + 6]
        yield lines[at], [" " + ending for ending in endings], int(lines[at + 1]), [len(ending) for ending in endings]


def mmlu(limit):
    def rows(part):
        with open(TEXT / "mmlu" / f"{SUBJECT}_{part}.csv", newline="") as file:
            return list(csv.reader(file))[1:]

    def question(row):
        return row[0].strip() + "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", row[1:5])) + "\nAnswer:"

    head = f"The following are multiple choice questions (with answers) about {SUBJECT.replace('_', ' ')}.\n\n"
    shots = "".join(f"{question(row)} {'ABCD'[int(row[5])]}\n\n" for row in rows("dev"))
    for row in rows("test")[:limit]:
        yield head + shots + question(row), [" A", " B", " C", " D"], int(row[5]), [1] * 4


def provenance():
    return dict(made_by="scripts/make_evaluation_reference.py", model=MODEL.name, model_sha256=hashlib.sha256(MODEL.read_bytes()).hexdigest(),
                library=f"transformers {transformers.__version__}, torch {torch.__version__}",
                arithmetic="weights dequantised to float32, float32 on the CPU, log-softmax in float64",
                texts={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (WIKITEXT, HELLASWAG)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lathe", default=str(ROOT / "build" / "lathe"))
    parser.add_argument("--whole", action="store_true", help="all windows and tasks")
    arguments = parser.parse_args()
    tasks = list(hellaswag(2000 if arguments.whole else 200))
    questions = [] if arguments.whole else list(mmlu(100))
    text = WIKITEXT.read_bytes().decode()
    ids = Ids(arguments.lathe, [text, *(context + e for context, endings, _, _ in tasks + questions for e in ["", *endings])])
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL.parent, gguf_file=MODEL.name, dtype=torch.float32).eval()
    reference = Reference("reference_whole.json" if arguments.whole else "reference.json")
    reference.figures.update(provenance())
    score(reference, "hellaswag", model, ids, tasks)
    if questions:
        score(reference, "mmlu", model, ids, questions, subject=SUBJECT, shots=5)
    perplexity(reference, model, ids[text], None if arguments.whole else 32)


if __name__ == "__main__":
    main()
