#!/usr/bin/env python3
"""lm-evaluation-harness (PyPI lm_eval) through `lathe serve` and through its own `hf` back end: the same scores.

  usage: check_lm_eval.py LATHE [--model DIR] [--hellaswag FILE] [--limit N]     in an environment with lm_eval[api] and torch

A task of HellaSwag's questions (acc and acc_norm), and one that continues their contexts greedily (exact_match with what the
server says for every second one and with nonsense for the others), both made here from a local file. Then every sum of
log-probabilities of both runs in float32, and every greedy text; and beside transformers itself, the log-probability of every
token of some prompts, and embeddings. Closing line "N passed, N failed, N skipped".
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from check_serve import ROOT, Server

SHARED = pathlib.Path(os.environ.get("LATHE_SHARED", ROOT.parent / "shared"))

TASKS = {
    "local_hellaswag": """task: local_hellaswag
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {folder}/hellaswag.jsonl}}}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: choices
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
""",
    "local_greedy": """task: local_greedy
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {folder}/greedy.jsonl}}}}
validation_split: validation
output_type: generate_until
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], do_sample: false, temperature: 0, max_gen_toks: 16}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
""",
}


def greedy_text(server, context):
    ids = server.post("/tokenize", {"prompt": context, "add_special_tokens": False})["tokens"]
    body = {"prompt": ids, "max_tokens": 16, "temperature": 0, "skip_special_tokens": False, "stop": ["\n"]}
    return server.post("/v1/completions", body)["choices"][0]["text"]


def write_tasks(server, folder, hellaswag, limit):
    """Records of a context, the right ending's number and the endings, six lines each."""
    lines = pathlib.Path(hellaswag).read_text(encoding="utf-8").splitlines()
    records = [lines[i:i + 6] for i in range(0, len(lines) - 5, 6)][:limit]
    with open(folder / "hellaswag.jsonl", "w", encoding="utf-8") as file:
        for context, label, *endings in records:
            file.write(json.dumps({"query": context, "label": int(label), "choices": endings}) + "\n")
    with open(folder / "greedy.jsonl", "w", encoding="utf-8") as file:
        # How the text goes on behind a special token is each back end's own, so texts in which the model begins anew say nothing.
        texts = [(context, greedy_text(server, context)) for context, *_ in records[:limit // 4]]
        for i, (context, text) in enumerate(pair for pair in texts if "<s>" not in pair[1]):
            file.write(json.dumps({"query": context, "answer": "none" if i % 2 else text}) + "\n")
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))


def run(kind, model_args, folder, name):
    """The results, and the samples of each task by document."""
    output = folder / name
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OPENAI_API_KEY": "none"}
    subprocess.run([sys.executable, "-m", "lm_eval", "--model", kind, "--model_args", model_args, "--tasks", ",".join(TASKS), "--include_path",
                    str(folder), "--output_path", str(output), "--log_samples", "--batch_size", "1" if kind == "hf" else "8", "--device", "cpu"],
                   check=True, env=environment, stdout=subprocess.DEVNULL)
    results = json.loads(next(output.rglob("results_*.json")).read_text())["results"]
    samples = {}
    for task in TASKS:
        text = next(output.rglob(f"samples_{task}_*.jsonl")).read_text()
        samples[task] = sorted((json.loads(line) for line in text.splitlines()), key=lambda s: s["doc_id"])
    return results, samples


def compare_with_transformers(server, model, contexts, expect):
    """Every token's log-probability, cold and again, and embeddings of both poolings."""
    import torch
    import transformers
    reference = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    worst, worst_embedding, again = 0.0, 0.0, True
    for context in contexts:
        ids = server.post("/tokenize", {"prompt": context})["tokens"]
        scored = {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0}
        ours = server.post("/v1/completions", scored)["choices"][0]["logprobs"]["token_logprobs"]
        server.post("/v1/completions", {"prompt": ids, "max_tokens": 1})  # leaves its pages in the cache
        again &= server.post("/v1/completions", scored)["choices"][0]["logprobs"]["token_logprobs"] == ours
        with torch.no_grad():
            hidden = reference.model(torch.tensor([ids])).last_hidden_state[0]
            logprobs = reference.lm_head(hidden).log_softmax(-1)
        worst = max([worst] + [abs(x - logprobs[i, ids[i + 1]].item()) for i, x in enumerate(ours[1:])])
        for pooling, pooled in ("mean", hidden.mean(0)), ("last", hidden[-1]):
            vector = server.post("/v1/embeddings", {"input": ids, "pooling": pooling})["data"][0]["embedding"]
            worst_embedding = max(worst_embedding, (pooled / pooled.norm() - torch.tensor(vector)).abs().max().item())
    expect(worst < 1e-3, f"log-probabilities of the tokens of {len(contexts)} prompts within {worst:.1e} of transformers")
    expect(again, "the same floats cold and with the prompt in the cache")
    expect(worst_embedding < 1e-4, f"embeddings within {worst_embedding:.1e}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("lathe")
    parser.add_argument("--model", default=str(SHARED / "models/stories260K/hf"))
    parser.add_argument("--hellaswag", default=str(SHARED / "text/hellaswag/hellaswag_val_0_2000.txt"))
    parser.add_argument("--limit", type=int, default=200)
    arguments = parser.parse_args()
    if not (os.path.exists(arguments.model) and os.path.exists(arguments.hellaswag)):
        print(f"SKIP: needs {arguments.model} and {arguments.hellaswag}\n0 passed, 0 failed, 1 skipped")
        return
    outcomes = []

    def expect(holds, what):
        outcomes.append(bool(holds))
        print("ok  " if holds else "FAIL", what, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        server = Server(arguments.lathe, arguments.model).wait_until_ready()
        write_tasks(server, folder, arguments.hellaswag, arguments.limit)
        url = f"http://127.0.0.1:{server.port}/v1/completions"
        remote = f"model=tiny,base_url={url},tokenizer_backend=remote,num_concurrent=4,max_length=512,seed=1234"
        ours, our_samples = run("local-completions", remote, folder, "ours")
        cold_again = run("local-completions", remote, folder, "again")[1]
        theirs, their_samples = run("hf", f"pretrained={arguments.model},dtype=float32,max_length=512,add_bos_token=False", folder, "theirs")
        contexts = [json.loads(line)["query"] for line in (folder / "greedy.jsonl").read_text().splitlines()]
        compare_with_transformers(server, arguments.model, contexts, expect)
        server.close()
    for metric in "acc,none", "acc_norm,none":
        expect(ours["local_hellaswag"][metric] == theirs["local_hellaswag"][metric],
               f"{metric}: {ours['local_hellaswag'][metric]} by the server, {theirs['local_hellaswag'][metric]} by transformers")
    expect(ours["local_greedy"]["exact_match,none"] == theirs["local_greedy"]["exact_match,none"],
           f"exact_match: {ours['local_greedy']['exact_match,none']} and {theirs['local_greedy']['exact_match,none']}")

    def scores(samples):
        return [float(r[0][0]) for s in samples["local_hellaswag"] for r in s["resps"]]

    def texts(samples):
        return [s["resps"][0][0] for s in samples["local_greedy"]]

    worst = max(abs(a - b) for a, b in zip(scores(our_samples), scores(their_samples)))
    expect(worst < 1e-3, f"{len(scores(our_samples))} sums of log-probabilities within {worst:.1e}")
    expect(scores(our_samples) == scores(cold_again), "the same floats a second time, whatever the cache holds")
    for a, b in zip(texts(our_samples), texts(their_samples)):
        if a != b:
            print(f"    {a!r}\n    {b!r} by transformers")
    same = sum(a == b for a, b in zip(texts(our_samples), texts(their_samples)))
    expect(same == len(texts(our_samples)), f"{same} of {len(texts(our_samples))} greedy texts equal")
    print(f"{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed, 0 skipped")
    sys.exit(not all(outcomes))


if __name__ == "__main__":
    main()
