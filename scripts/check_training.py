#!/usr/bin/env python3
"""Holds `lathe train` against PyTorch where ../shared's check does not: every optimizer and schedule, runs by epochs that are killed.

    check_training.py [--lathe build/lathe] [--only optimizers,kills,adapters,shakespeare]

optimizers  ten steps of AdamW, SGD and Muon under each schedule, warm-ups of none, some and all steps: losses within 1e-5 of torch's. Muon
            within 1e-4: torch's iteration is in bfloat16, whose rounding of 2^-9 moves an update by about a hundredth, ours in float32
kills       a run of three epochs, killed by SIGKILL at ten moments and resumed each time, ends with the bits of one that was not and has
            seen the same rows
adapters    adapters that it trains, of every form that PEFT has, load in PEFT and give the logits that Lathe gives with them, within 5e-6 of
            their spread. PEFT comes from PyPI (1.5 MB with what it needs beside the reference environment); without network: skipped
shakespeare configs/gpt2/shakespeare-char-small.yaml ends at a loss of at most 1.90 over the whole of the validation data, and after 500 steps
            on the same batches at torch's loss within 0.5% (some minutes; by name alone)
"""
import argparse, json, math, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, time, warnings

import numpy as np
import torch
import transformers

import torch_training

ROOT = pathlib.Path(__file__).resolve().parent.parent
STEPS, BATCH, CONTEXT, PEAK, FINAL = 10, 4, 24, 3e-3, 3e-4
PEFT = ("peft==0.21.2", "accelerate==1.15.0", "psutil==7.2.2")
# One A for q, k and v; tied tables; fused matrices in the order of their rows; experts in one tensor.
ADAPTERS = {"gpt2": dict(targets="all-linear", rank_stabilised=True), "llama_tied_llama3_rope": dict(targets=["embed_tokens", "lm_head", "v_proj"]),
            "falcon_40b": dict(targets=["query_key_value", "dense"]), "phi3": dict(targets="all-linear"),
            "mixtral": dict(targets=["o_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"])}


def metrics(folder):
    return [json.loads(line) for line in open(os.path.join(folder, "metrics.jsonl"))]


def import_peft():
    """Beside the reference environment, which stays as it is."""
    folder = ROOT / ".venv-peft"
    if not (folder / "peft").is_dir():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, *PEFT], check=True, capture_output=True)
    sys.path.append(str(folder))
    import peft
    return peft


def learning_rate(schedule, warmup, step):
    """Of a step from 1, by the sentences of docs/training.md."""
    if step <= warmup:
        return PEAK * step / warmup
    begin = max(warmup, STEPS - 3) if schedule == "warmup_stable_decay" else warmup
    if schedule == "constant" or step <= begin:
        return PEAK
    t = (step - begin) / (STEPS - begin)
    return FINAL + (PEAK - FINAL) * (1 + math.cos(math.pi * t)) / 2 if schedule == "cosine" else PEAK + (FINAL - PEAK) * t


def torch_losses(checkpoint, ids, optimizer, rate, steps=STEPS, batch=BATCH, context=CONTEXT):
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    return torch_training.train(model, ids, rate, optimizer=optimizer, steps=steps, batch=batch, context=context)


class Check:
    def __init__(self, lathe, work):
        self.lathe, self.work, self.passed, self.failed, self.skipped = os.path.abspath(lathe), work, 0, 0, 0
        rng = np.random.default_rng(5)
        self.ids = (rng.zipf(1.3, 2000).clip(1, 57) + 2).astype(np.int32)
        np.save(os.path.join(work, "ids.npy"), self.ids)

    def line(self, ok, what):
        self.passed += ok
        self.failed += not ok
        print("ok  " if ok else "FAIL", what, flush=True)

    def recipe(self, name, checkpoint, training, optimizer, schedule, **more):
        path = os.path.join(self.work, name + ".yaml")
        torch_training.write_recipe(path, dict(model=dict(checkpoint=str(checkpoint)), data=dict(train=os.path.join(self.work, "ids.npy"), **more),
                                training=dict(batch_size=BATCH, context=CONTEXT, router_balance=0.0, **training),
                                optimizer=optimizer, schedule=schedule, checkpoint=dict(every=3), logging=dict(every=1)))
        return path

    def command(self, recipe, name, *more):
        return [self.lathe, "train", "--config", recipe, "--output", os.path.join(self.work, name), *more]

    def train(self, recipe, name, *more):
        result = subprocess.run(self.command(recipe, name, *more), capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(result.stderr.strip().splitlines()[-1])
        return metrics(os.path.join(self.work, name))

    def optimizers(self):
        checkpoint = ROOT / "tests/goldens/llama_untied_gqa"
        for optimizer, tolerance in (("adamw", 1e-5), ("sgd", 1e-5), ("muon", 1e-4)):
            for schedule, warmup in (("cosine", 3), ("linear", 0), ("constant", STEPS), ("warmup_stable_decay", 1)):
                name = f"{optimizer}-{schedule}-{warmup}"
                recipe = self.recipe(name, checkpoint, dict(steps=STEPS), dict(name=optimizer, learning_rate=PEAK),
                                     dict(name=schedule, warmup_steps=warmup, decay_steps=3, final_learning_rate=FINAL), order="sequential")
                got, want = [m["loss"] for m in self.train(recipe, name)], torch_losses(checkpoint, self.ids, optimizer, lambda s: learning_rate(schedule, warmup, s))
                worst = max(abs(g - w) / w for g, w in zip(got, want))
                self.line(len(got) == STEPS and worst < tolerance, f"{name}: losses {worst:.1e} ({tolerance:.0e}) of torch's; {want[0]:.4f} to {want[-1]:.4f}")

    def kills(self):
        recipe = self.recipe("epochs", ROOT / "tests/goldens/qwen3_untied", dict(epochs=3), dict(learning_rate=PEAK),
                             dict(name="constant"), validation=0.1)
        start = time.time()
        whole = self.train(recipe, "whole")
        took = time.time() - start
        kills, resumed = 0, False
        while kills < 10:
            process = subprocess.Popen(self.command(recipe, "killed", *["--resume"] * resumed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            resumed = True
            try:
                process.wait(random.uniform(0.1, 0.5) * took)
                shutil.rmtree(os.path.join(self.work, "killed"))  # it came to its end: begin again
                resumed = False
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        again = self.train(recipe, "killed", "--resume")
        same = all((pathlib.Path(self.work, "whole/model", f).read_bytes() == pathlib.Path(self.work, "killed/model", f).read_bytes())
                   for f in ("model.safetensors", "config.json"))
        losses = [(m["step"], m["loss"], m["tokens"]) for m in again] == [(m["step"], m["loss"], m["tokens"]) for m in whole]
        self.line(same and losses, f"three epochs of {len(whole) // 3} steps, {kills} kills: weights {'equal' if same else 'differ'}, "
                                   f"losses and tokens {'equal' if losses else 'differ'} bit for bit")

    def adapters(self):
        try:
            peft = import_peft()
        except subprocess.CalledProcessError as error:
            self.skipped += 1
            return print("SKIP adapters:", error.stderr.decode().strip().splitlines()[-1])
        for golden, adapter in ADAPTERS.items():
            base, name = ROOT / "tests/goldens" / golden, f"adapter-{golden}"
            recipe = self.recipe(name, base, dict(steps=STEPS), dict(learning_rate=0.02), dict(name="constant"), tokenizer="")
            with open(recipe, "a") as file:
                file.write(f"adapter: {json.dumps({'rank': 4, 'alpha': 8, **adapter})}\n")
            self.train(recipe, name)
            folder, output, ids = pathlib.Path(self.work, name, "model"), os.path.join(self.work, "logits.npy"), self.ids[:40].tolist()
            subprocess.run([self.lathe, "logits", "--model", base, "--dtype", "float32", "--adapter", folder, "--tokens", ",".join(map(str, ids)),
                            "--output", output], check=True, capture_output=True)
            model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
            with torch.no_grad():
                before = model(torch.tensor([ids])).logits[0].numpy()
                want = peft.PeftModel.from_pretrained(model, folder).eval()(torch.tensor([ids])).logits[0].numpy()
            worst, moved = np.abs(np.load(output) - want).max() / want.std(), np.abs(want - before).max() / before.std()
            self.line(worst < 5e-6 and moved > 0.1, f"an adapter of {golden}: logits {worst:.1e} of PEFT's ({5e-6:.0e}); it moves them by {moved:.2f}")

    def shakespeare(self):
        shared = pathlib.Path(os.environ.get("LATHE_SHARED", ROOT.parent / "shared"))
        text, config = shared / "text/tinyshakespeare/input.txt", str(ROOT / "configs/gpt2/shakespeare-char-small.yaml")
        last = self.train(config, "shakespeare", "--set", f"data.train={text}")[-1]
        self.line(last["validation_loss"] <= 1.90, f"shakespeare: validation loss {last['validation_loss']:.4f} (1.90), {last['seconds']:.0f} s")
        content = text.read_text()
        characters = {c: i for i, c in enumerate(sorted(set(content)))}
        ids = np.array([characters[c] for c in content[:400000]], np.int32)
        np.save(os.path.join(self.work, "characters.npy"), ids)
        data = ["--set", f"data.train={self.work}/characters.npy", "--set", "data.order=sequential", "--set", "data.validation=0.0",
                "--set", "data.tokenizer=''", "--set", "schedule.name=constant", "--set", "schedule.warmup_steps=0", "--set", "optimizer.beta2=0.95",
                "--set", "logging.every=1"]
        self.train(config, "fresh", *data, "--set", "training.steps=1", "--set", "optimizer.learning_rate=0.0")
        got = self.train(config, "steps", *data, "--set", "training.steps=500", "--set", f"model.checkpoint={self.work}/fresh/model",
                         "--set", "model.architecture=")
        want = torch_losses(os.path.join(self.work, "fresh/model"), ids, "adamw", lambda s: 1e-3, 500, 12, 64)
        mean = [sum(losses[-10:]) / 10 for losses in ([m["loss"] for m in got], want)]
        self.line(abs(mean[0] / mean[1] - 1) < 5e-3, f"shakespeare: 500 steps end at {mean[0]:.4f}, torch's at {mean[1]:.4f} (0.5%)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lathe", default="build/lathe")
    parser.add_argument("--only", default="optimizers,kills,adapters")
    a = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as work:
        check = Check(a.lathe, work)
        for name in a.only.split(","):
            getattr(check, name)()
    print(f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped")
    sys.exit(check.failed > 0)


if __name__ == "__main__":
    main()
