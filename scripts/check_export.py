#!/usr/bin/env python3
"""Holds what `lathe convert` writes against those who read it: transformers, llama.cpp, and Lathe itself.

    scripts/check_export.py [build/lathe] [--only name,name] [--quick]

Every checkpoint of tests/goldens, and stories260K of ../shared where it is there, is written as a Hugging Face folder (float32, in
shards, bfloat16, float16) and as GGUF (F32, F16, BF16, Q8_0), and the GGUF file as a folder again. transformers must load both folders
without a word about keys and compute the logits of the original; llama.cpp (llama-cpp-python) must continue five prompts as Lathe does;
Lathe must read the same logits back. What torch.save makes of the same weights, in both forms and in shards, must give them, too.
The Gemma 3 270M of scripts/fetch_model.py goes from its GGUF file to a folder and into transformers, where it is in models/ or in
$LATHE_MODELS. --quick: of every checkpoint the way to GGUF, to a folder and into transformers alone.
Needs the reference environment; without llama-cpp-python that part is counted as skipped.
"""
import argparse, json, os, pathlib, shutil, subprocess, sys, tempfile
import numpy as np, torch
import transformers as T
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = pathlib.Path(os.environ.get("LATHE_SHARED", ROOT.parent / "shared"))
PROMPTS = [[5, 9, 33, 7, 40, 21], [3], [50, 12, 44, 6, 18, 27, 3, 35, 11, 9, 60, 2, 47], [17, 8], [22, 31, 4, 4, 19]]
NEW_TOKENS = 24
# What GGUF cannot say, with the words that Lathe refuses it by.
NO_GGUF = {"llama_dynamic": "cannot say", "llama_longrope": "cannot say", "falcon_rw": "alibi is true",
           "gemma3": "cannot say a field: attention_scale"}
# What GGUF cannot say of a context beyond the trained one, which these tokens are: Lathe warns.
BEYOND_CONTEXT = {"qwen_beyond_context"}
# What llama.cpp does not do with what the file says.
NO_LLAMA_CPP = {"mistral_window_head_dim": "no window in this architecture", "qwen2_windowed_layers": "no window in this architecture",
                "mixtral_fused": "no window in this architecture", "qwen3_moe_plain_layer": "asks for experts in every layer",
                "qwen3_moe_sparse_step": "asks for experts in every layer", "qwen3_untied": "no biases in this architecture"}
# A divisor of each frequency is a float32 in GGUF, where config.json has the formula.
NEARLY_EQUAL = {"llama_tied_llama3_rope": 1e-5}
# Their weights are drawn four times as wide as a model's and a row has 32 to 48: an error has little to cancel against.
GOLDENS_Q8_0, GOLDENS_BFLOAT16 = 15e-2, 6e-2
passed = failed = skipped = 0


def say(ok, name, what, text):
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name:28} {what:20} {text}", flush=True)


class Lathe:
    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        result = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        if result.returncode:
            raise RuntimeError(next((l for l in result.stderr.splitlines() if "error" in l), "no message")[:300])
        return result.stdout

    def logits(self, model, tokens):
        with tempfile.NamedTemporaryFile(suffix=".npy") as f:
            self.run("logits", "--model", model, "--tokens", ",".join(map(str, tokens)), "--dtype", "float32", "--output", f.name)
            return np.load(f.name)

    def greedy(self, model, tokens):
        out = self.run("generate", "--model", model, "--tokens", ",".join(map(str, tokens)), "--greedy", "--ignore-eos",
                       "--max-new-tokens", NEW_TOKENS, "--dtype", "float32", "--json")
        return json.loads(out)["tokens"]


def distance(a, b):
    return float(np.abs(a - b).max() / b.std())


def compare(name, what, get, want, bound):
    try:
        d = distance(get(), want)
        say(d <= bound, name, what, f"max difference / spread {d:.1e} (at most {bound:g})")
    except Exception as error:
        say(False, name, what, one_line(error))


def reference_logits(folder, tokens):
    model, info = T.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    words = {k: v for k, v in info.items() if v}
    with torch.no_grad():
        return model.eval()(torch.tensor([tokens]), use_cache=False).logits[0].numpy(), words


def convert(lathe, source, output, *options):
    lathe.run("convert", "--model", source, "--output", output, *options)
    return output


def check_pickled(lathe, name, source, work, tokens, want):
    weights = {n: t for f in source.glob("*.safetensors") if f.name != "expected.safetensors" for n, t in load_file(f).items()}
    names, half = sorted(weights), len(weights) // 2
    shards = {"a.bin": names[:half], "b.bin": names[half:]}

    def folder(label):
        path = work / label
        path.mkdir()
        shutil.copy(source / "config.json", path)
        return path

    for label, zip_form in [("zip", True), ("older", False)]:
        path = folder(label)
        torch.save(weights, path / "pytorch_model.bin", _use_new_zipfile_serialization=zip_form)
        compare(name, f"torch.save, {label}", lambda: lathe.logits(path, tokens), want, 0)
    path = folder("bin_shards")
    for shard, inside in shards.items():
        torch.save({n: torch.nn.Parameter(weights[n], requires_grad=False) for n in inside}, path / shard)
    index = {"metadata": {}, "weight_map": {n: shard for shard, inside in shards.items() for n in inside}}
    (path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    compare(name, "torch.save, shards", lambda: lathe.logits(path, tokens), want, 0)


def check_transformers(name, what, source, folder, tokens):
    """transformers makes of the folder what it makes of its source."""
    try:
        if json.loads((source / "config.json").read_text())["model_type"] not in T.CONFIG_MAPPING:
            return skip(name, what, "no such model there")
        (got, words), (expected, _) = reference_logits(folder, tokens), reference_logits(source, tokens)
        d = distance(got, expected)
        say(not words and d <= 1e-5, name, what, f"logits differ {d:.1e} (at most 1e-5), said about keys: {words or 'nothing'}")
    except Exception as error:
        say(False, name, what, one_line(error))


def one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def check_folder(lathe, name, source, work, tokens, want):
    folder = convert(lathe, source, work / "folder", "--dtype", "float32")
    check_transformers(name, "transformers", source, folder, tokens)
    compare(name, "folder, read back", lambda: lathe.logits(folder, tokens), want, 0)
    for label, options, bound in [("folder, shards", ["--shard-size", "20KB"], 0), ("folder, bfloat16", ["--dtype", "bfloat16"], 3e-2 if name == "stories260K" else GOLDENS_BFLOAT16),
                                  ("folder, float16", ["--dtype", "float16"], 3e-2)]:
        compare(name, label, lambda: lathe.logits(convert(lathe, source, work / label.split()[-1], *options), tokens), want, bound)


def skip(name, what, why):
    global skipped
    skipped += 1
    print(f"SKIP {name:28} {what:20} {why}", flush=True)


def check_llama_cpp(lathe, name, path, vocabulary):
    if name in NO_LLAMA_CPP:
        return skip(name, "llama.cpp", NO_LLAMA_CPP[name])
    try:
        import llama_cpp
    except ImportError:
        return skip(name, "llama.cpp", "no llama-cpp-python")
    try:
        reader = llama_cpp.Llama(str(path), n_ctx=64, type_k=0, type_v=0, n_threads=2, verbose=False, logits_all=True, flash_attn=False)
    except ValueError as error:
        return say(False, name, "llama.cpp", str(error))
    for prompt in PROMPTS:
        prompt = [t % vocabulary for t in prompt]
        text, ours, followed, smallest = list(prompt), lathe.greedy(path, prompt), 0, 9e9
        ok = True
        for token in ours:
            reader.reset()
            reader.eval(text)
            row = reader.scores[len(text) - 1]
            second, first = np.partition(row, -2)[-2:]
            smallest = min(smallest, first - second)
            if first - second < 0.01:
                break
            if int(row.argmax()) != token:
                ok = False
                break
            followed += 1
            text.append(token)
        say(ok, name, "llama.cpp", f"{followed} of {len(ours)} tokens followed, smallest margin {smallest:.3f}")


def check_gguf(lathe, name, source, work, tokens, want, quick):
    if name in BEYOND_CONTEXT:
        return skip(name, "GGUF", "the format does not say how to go beyond the trained context")
    path = work / "model.gguf"
    refusal = NO_GGUF.get(name)
    try:
        convert(lathe, source, path, "--dtype", "float32")
    except RuntimeError as error:
        return say(bool(refusal) and refusal in str(error), name, "GGUF F32", str(error))
    if name in NO_GGUF:
        return say(False, name, "GGUF F32", f"written, expected a refusal: {refusal}")
    compare(name, "GGUF F32", lambda: lathe.logits(path, tokens), want, NEARLY_EQUAL.get(name, 0))
    for label, options, bound in [] if quick else [("F16", ["--dtype", "float16"], 3e-2), ("BF16", ["--dtype", "bfloat16"], 3e-2 if name == "stories260K" else GOLDENS_BFLOAT16), ("Q8_0", ["--quantize", "q8_0"], 5e-2 if name == "stories260K" else GOLDENS_Q8_0)]:
        compare(name, f"GGUF {label}", lambda: lathe.logits(convert(lathe, source, work / f"{label}.gguf", *options), tokens), want, bound)
    try:
        back = convert(lathe, path, work / "back")
        compare(name, "GGUF to folder", lambda: lathe.logits(back, tokens), want, NEARLY_EQUAL.get(name, 0))
        check_transformers(name, "GGUF, transformers", source, back, tokens)
    except RuntimeError as error:
        say("which no rope_scaling" in str(error), name, "GGUF to folder", str(error))
    if not quick:
        check_llama_cpp(lathe, name, path, want.shape[1])


def check_real_gemma3(lathe):
    """The published weights: what Lathe makes of the GGUF file, transformers makes of the folder."""
    folders = [ROOT / "models", *map(pathlib.Path, filter(None, os.environ.get("LATHE_MODELS", "").split(":")))]
    path = next((f / "gemma-3-270m.Q4_K_M.gguf" for f in folders if (f / "gemma-3-270m.Q4_K_M.gguf").exists()), None)
    if not path:
        return skip("gemma-3-270m", "GGUF, transformers", "scripts/fetch_model.py gemma3 fetches it")
    tokens = [2] + [3 + (i * 7919 + 5) % 262000 for i in range(600)]  # more than its window of 512
    with tempfile.TemporaryDirectory() as work:
        try:
            folder = convert(lathe, path, pathlib.Path(work) / "folder", "--dtype", "float32")
            got, words = reference_logits(folder, tokens)
            # Sums of up to 2048 products in another order, 18 layers: some 1e-6 a layer.
            compare("gemma-3-270m", "GGUF, transformers", lambda: got, lathe.logits(path, tokens), 1e-4)
            say(not words, "gemma-3-270m", "keys", f"said: {words or 'nothing'}")
        except Exception as error:
            say(False, "gemma-3-270m", "GGUF, transformers", one_line(error))


def make_gemma3(folder, **more):
    """As it is published: no caps, scores divided by the root of a head's width, every sixth layer sees everything."""
    torch.manual_seed(7)
    sizes = dict(vocab_size=61, hidden_size=96, intermediate_size=128, num_hidden_layers=7, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=16, query_pre_attn_scalar=16, sliding_window=8, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, **more)
    model = T.Gemma3ForCausalLM(T.Gemma3TextConfig(**sizes)).float()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2) if p.dim() == 1 else p.mul_(3.0)
    model.save_pretrained(folder)
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lathe", nargs="?", default="build/lathe")
    parser.add_argument("--only")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    T.logging.set_verbosity_error()
    T.utils.logging.disable_progress_bar()
    lathe = Lathe(arguments.lathe)
    cases = {p.parent.name: p.parent for p in sorted((ROOT / "tests" / "goldens").glob("*/config.json"))}
    if (SHARED / "models/stories260K/hf").is_dir():
        cases["stories260K"] = SHARED / "models/stories260K/hf"
    made = tempfile.TemporaryDirectory()
    cases["gemma3_every_sixth"] = make_gemma3(pathlib.Path(made.name) / "sixth")
    cases["gemma3_every_third"] = make_gemma3(pathlib.Path(made.name) / "third", final_logit_softcapping=3.0,
                                              layer_types=[("sliding", "full")[i % 3 == 2] + "_attention" for i in range(7)])
    for name, source in cases.items():
        if arguments.only and name not in arguments.only.split(","):
            continue
        with tempfile.TemporaryDirectory() as folder:
            tokens = [3 + (i * 17 + 5) % 57 for i in range(20)]
            want = lathe.logits(source, tokens)
            if not arguments.quick:
                check_pickled(lathe, name, source, pathlib.Path(folder), tokens, want)
                check_folder(lathe, name, source, pathlib.Path(folder), tokens, want)
            check_gguf(lathe, name, source, pathlib.Path(folder), tokens, want, arguments.quick)
    if not arguments.quick and (not arguments.only or "gemma-3-270m" in arguments.only.split(",")):
        check_real_gemma3(lathe)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
