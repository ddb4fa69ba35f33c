#!/usr/bin/env python3
"""Holds `lathe plan` against the memory that runs take: within 5% of the measured peak, on Llamas and GPT-2s made on the spot and on
goldens of the tests widened to some 100 MB of weights, and of training recipes.

    check_plan.py PROGRAM [--all]         --all: every golden, as it is and quantised; otherwise four of them as they are

Also the bound on the peak itself: 1.3 x the file + the cache + 80 MB. Needs the Python packages numpy and gguf. One line a model and a closing line
"N passed, N failed"; about a minute (two more with --all) and 400 MB in the folder for temporary files.
"""
import argparse, json, os, pathlib, re, struct, subprocess, sys, tempfile

import gguf, numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
GOLDENS = ROOT / "tests" / "goldens"
SOME_GOLDENS = ("falcon_7b", "gemma3", "gpt2", "mixtral_fused")  # tables of positions, windows, experts, one key-value head
TOLERANCE, SHARE_OF_FILE, BESIDE, WIDENED = 0.05, 1.3, 80e6, 100e6
WIDTHS = re.compile(r"((ffn_)?hidden|(moe_)?intermediate|vocab)_size|head_dim|kv_channels|n_embd|d_model|n_positions|sliding_window|"
                    r"(original_)?max_position_embeddings|(max_)?seq_(len|length)|(short|long)_factor")
failed = passed = 0
NOISE = np.random.default_rng(7).standard_normal(1 << 20, dtype=np.float32)


def line(holds, text):
    global failed, passed
    passed, failed = passed + holds, failed + (not holds)
    print("ok  " if holds else "FAIL", text, flush=True)


def noise(*shape):
    """Deviation 1 / sqrt(columns), so that the activations stay within bounds; a repeated pattern, which is made at once."""
    return np.resize(NOISE, shape) * np.float32(shape[-1] ** -0.5)


def blocks(kind, rows, columns):
    """Rows of a block format: one scale, and random quants behind it."""
    size, scale, offset = {"Q8_0": (34, 1 / 64, 0), "Q4_0": (18, 1 / 4, 0)}[kind]
    data = np.resize((NOISE * 40).astype(np.int8).view(np.uint8), (rows, columns // 32, size)).copy()
    data[..., :2] = np.frombuffer(np.float16(scale * columns ** -0.5).tobytes(), np.uint8)
    return data.reshape(rows, columns // 32 * size)


class Gguf:
    def __init__(self, path, architecture, kind, sizes):
        self.path, self.kind, w = path, kind, gguf.GGUFWriter(path, architecture)
        w.add_context_length(4096), w.add_embedding_length(sizes["C"]), w.add_block_count(sizes["L"]), w.add_feed_forward_length(sizes["F"])
        w.add_head_count(sizes["H"]), w.add_head_count_kv(sizes["K"]), w.add_vocab_size(sizes["V"]), w.add_tokenizer_model("none")
        if architecture == "llama":
            w.add_layer_norm_rms_eps(1e-5), w.add_rope_dimension_count(sizes["C"] // sizes["H"]), w.add_rope_freq_base(10000.0)
        else:
            w.add_layer_norm_eps(1e-5)
        self.writer = w

    def matrix(self, name, rows, columns):
        if self.kind in ("Q8_0", "Q4_0"):
            self.writer.add_tensor(name, blocks(self.kind, rows, columns), raw_dtype=gguf.GGMLQuantizationType[self.kind])
        else:
            self.writer.add_tensor(name, noise(rows, columns).astype({"F16": np.float16, "F32": np.float32}[self.kind]))

    def vector(self, name, n, value):
        self.writer.add_tensor(name, np.full(n, value, np.float32))

    def close(self):
        self.writer.write_header_to_file(), self.writer.write_kv_data_to_file(), self.writer.write_tensors_to_file(), self.writer.close()


def llama_gguf(path, kind, tied, **s):
    g, C, F, D = Gguf(path, "llama", kind, s), s["C"], s["F"], s["C"] // s["H"]
    g.matrix("token_embd.weight", s["V"], C), g.vector("output_norm.weight", C, 1)
    if not tied:
        g.matrix("output.weight", s["V"], C)
    for i in range(s["L"]):
        b = f"blk.{i}."
        g.vector(b + "attn_norm.weight", C, 1), g.vector(b + "ffn_norm.weight", C, 1)
        for name, rows, columns in (("attn_q", C, C), ("attn_k", s["K"] * D, C), ("attn_v", s["K"] * D, C), ("attn_output", C, C),
                                    ("ffn_gate", F, C), ("ffn_up", F, C), ("ffn_down", C, F)):
            g.matrix(f"{b}{name}.weight", rows, columns)
    g.close()


def gpt2_gguf(path, kind, **s):
    g, C, F = Gguf(path, "gpt2", kind, s), s["C"], s["F"]
    g.matrix("token_embd.weight", s["V"], C), g.matrix("position_embd.weight", 4096, C)
    norms = ["output_norm"]
    for i in range(s["L"]):
        b = f"blk.{i}."
        norms += [b + "attn_norm", b + "ffn_norm"]
        for name, rows, columns in (("attn_qkv", 3 * C, C), ("attn_output", C, C), ("ffn_up", F, C), ("ffn_down", C, F)):
            g.matrix(f"{b}{name}.weight", rows, columns), g.vector(f"{b}{name}.bias", rows, 0)
    for name in norms:
        g.vector(name + ".weight", C, 1), g.vector(name + ".bias", C, 0)
    g.close()


def hugging_face(folder, config, tensors, dtype):
    """config.json and model.safetensors: names and shapes, matrices of noise, vectors of ones."""
    os.makedirs(folder)
    (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
    size, header, at = {"F32": 4, "BF16": 2}[dtype], {}, 0
    for name, shape in tensors.items():
        end = at + size * int(np.prod(shape))
        header[name], at = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}, end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # as the library pads it, so that tensors are aligned
    with open(pathlib.Path(folder) / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for shape in tensors.values():
            values = noise(*shape) if len(shape) > 1 else np.ones(shape, np.float32)
            f.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes() if dtype == "BF16" else values.tobytes())


def gpt2_folder(folder, C, L, H, V, F):
    tensors = {"transformer.wte.weight": [V, C], "transformer.wpe.weight": [1024, C], "transformer.ln_f.weight": [C], "transformer.ln_f.bias": [C]}
    for i in range(L):
        b = f"transformer.h.{i}."
        for name, columns, rows in (("attn.c_attn", C, 3 * C), ("attn.c_proj", C, C), ("mlp.c_fc", C, F), ("mlp.c_proj", F, C)):
            tensors |= {f"{b}{name}.weight": [columns, rows], f"{b}{name}.bias": [rows]}
        tensors |= {b + norm + kind: [C] for norm in ("ln_1", "ln_2") for kind in (".weight", ".bias")}
    hugging_face(folder, {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": V, "n_positions": 1024, "n_embd": C, "n_layer": L,
                          "n_head": H, "n_inner": F, "activation_function": "gelu_new"}, tensors, "F32")


def llama_folder(folder, C, L, H, K, V, F):
    tensors, D = {"model.embed_tokens.weight": [V, C], "model.norm.weight": [C], "lm_head.weight": [V, C]}, C // H
    for i in range(L):
        b = f"model.layers.{i}."
        tensors |= {b + "input_layernorm.weight": [C], b + "post_attention_layernorm.weight": [C]}
        for name, rows, columns in (("self_attn.q_proj", C, C), ("self_attn.k_proj", K * D, C), ("self_attn.v_proj", K * D, C), ("self_attn.o_proj", C, C),
                                    ("mlp.gate_proj", F, C), ("mlp.up_proj", F, C), ("mlp.down_proj", C, F)):
            tensors[f"{b}{name}.weight"] = [rows, columns]
    hugging_face(folder, {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": V, "hidden_size": C, "intermediate_size": F,
                          "num_hidden_layers": L, "num_attention_heads": H, "num_key_value_heads": K, "max_position_embeddings": 4096,
                          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False}, tensors, "BF16")


def widened_config(config, factor):
    """Every width times `factor`; the numbers of layers, heads and experts stay. A list of factors by frequency is repeated."""
    if not isinstance(config, dict):
        return config
    return {key: value * factor if value and WIDTHS.fullmatch(key) else widened_config(value, factor) for key, value in config.items()}


def widened_golden(folder, name):
    """A golden with all its widths, context and vocabulary multiplied until its weights take 100 MB: every dimension of every tensor is then
    as many times as large, but for the number of experts."""
    golden = GOLDENS / name
    config = json.loads((golden / "config.json").read_text())
    with open(golden / "model.safetensors", "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    experts = config.get("num_local_experts", config.get("num_experts"))

    def tensors(factor):  # without GPT-2's masks of four dimensions
        return {tensor: [n if n == experts else n * factor for n in entry["shape"]] for tensor, entry in header.items()
                if tensor != "__metadata__" and len(entry["shape"]) < 4}

    factor = next(f for f in range(2, 200, 2) if 4 * sum(map(np.prod, tensors(f).values())) >= WIDENED)
    hugging_face(folder, widened_config(config, factor), tensors(factor), "F32")


def start(program, *arguments):
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise RuntimeError(f"lathe {arguments[0]}: {result.stderr.strip()}")
    return result


def run(program, *arguments):
    return json.loads(start(program, *arguments).stdout)


def compare(program, name, model, prompt, answer, batch=1, options=(), size=None, generates=False):
    plan = run(program, "plan", "--model", model, "--context", prompt + answer, "--batch", batch, "--json", *options)["memory_bytes"]
    if generates:  # the vocabulary is a part of what runs take, and of the plan
        result = start(program, "generate", "--model", model, "--tokens", ",".join(str(7 * i % 1000) for i in range(prompt)), "--max-new-tokens", answer,
                       "--ignore-eos", "--json", "--verbose")
        peak = float(re.search(r"peak resident memory ([0-9.]+) MB", result.stderr)[1]) * 1e6
    else:
        peak = run(program, "bench", "--model", model, "--prompt-tokens", prompt, "--new-tokens", answer, "--batch", batch, "--repetitions", 1, "--json",
                   *options)["peak_memory_bytes"]
    parts = ", ".join(f"{part} {plan[part] / 1e6:.0f}" for part in ("weights", "tables", "cache", "activations", "runtime"))
    error = plan["total"] / peak - 1
    line(abs(error) <= TOLERANCE, f"{name}: peak {peak / 1e6:.1f} MB, planned {plan['total'] / 1e6:.1f} ({error:+.1%}): {parts}")
    if size:
        limit = SHARE_OF_FILE * size + plan["cache"] + BESIDE
        line(peak <= limit, f"{name}: peak {peak / 1e6:.1f} MB, at most 1.3 x {size / 1e6:.0f} + cache + 80 = {limit / 1e6:.1f}")


RECIPE = """model: {{architecture: {{architecture: {family}, vocab_size: 128, hidden_size: {width}, intermediate_size: {inner},
  num_hidden_layers: {layers}, num_attention_heads: 8, max_position_embeddings: 256, {more}}}}}
data: {{train: {text}, tokenizer: character, validation: 0.1}}
training: {{context: 256, batch_size: 8, steps: 5}}
"""
ADAPTER = """model: {{checkpoint: {model}}}
data: {{train: {text}, validation: 0.1}}
training: {{context: 256, batch_size: 2, steps: 2}}
adapter: {{rank: 8, targets: all-linear}}
"""


# A process counts what the one that started it held at that moment among its own peak, so a small one starts it.
MEASURED = """import os, sys
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(process, 0)
print(usage.ru_maxrss * 1024, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status) != 0)"""


def train(program, folder, name, recipe, *settings):
    """Some steps with evaluation, a checkpoint and samples, as a process of its own."""
    path, output = os.path.join(folder, "recipe.yaml"), os.path.join(folder, "run")
    pathlib.Path(path).write_text(recipe)
    options = [part for setting in settings for part in ("--set", setting)]
    try:
        plan = run(program, "plan", "--config", path, "--json", *options)["memory_bytes"]
        command = [sys.executable, "-c", MEASURED, program, "train", "--config", path, "--output", output, *options]
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if result.returncode:
            raise RuntimeError(result.stderr.strip())
        peak = int(result.stderr.splitlines()[-1])
        error = plan["total"] / peak - 1
        line(abs(error) <= TOLERANCE, f"train, {name}: peak {peak / 1e6:.1f} MB, planned {plan['total'] / 1e6:.1f} ({error:+.1%})")
    except (RuntimeError, KeyError, ValueError) as error:
        line(False, f"train, {name}: {error}")
    subprocess.run(["rm", "-rf", output], check=True)


def train_all(program, folder):
    text = os.path.join(folder, "text.txt")
    pathlib.Path(text).write_text("".join("the %d cats sat on %d mats.\n" % (i * 7919 % 1009, i * 104729 % 997) for i in range(20000)))
    gpt2 = RECIPE.format(family="GPT2LMHeadModel", width=512, inner=2048, layers=6, more="", text=text)
    train(program, folder, "GPT-2 of 19 million", gpt2)
    train(program, folder, "the same with recomputation", gpt2, "training.recompute=block")
    train(program, folder, "the same by Muon", gpt2, "training.recompute=block", "optimizer.name=muon")
    stories = os.path.join(folder, "stories.txt")
    subprocess.run([sys.executable, ROOT / "scripts/make_stories.py", stories], check=True)
    train(program, folder, "the recipe of examples/stories", (ROOT / "configs/llama/stories.yaml").read_text(), f"data.train={stories}", "training.steps=30")
    experts = "num_experts: 4, num_experts_per_tok: 2, num_key_value_heads: 4"
    train(program, folder, "Mixtral of 25 million, SGD", RECIPE.format(family="MixtralForCausalLM", width=384, inner=768, layers=6, more=experts, text=text),
          "optimizer.name=sgd")
    if DEMO.exists():
        adapter = ADAPTER.format(model=DEMO, text=text)
        train(program, folder, "an adapter beside SmolLM2 in Q4_1", adapter)
        train(program, folder, "the same with recomputation", adapter, "training.recompute=block", "training.batch_size=4")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    program = os.path.abspath(options.program)
    with tempfile.TemporaryDirectory(prefix="lathe_check_plan_") as folder:
        def made(name, make, sizes, *run_options, **kind):
            path = os.path.join(folder, "model.gguf" if "gguf" in make.__name__ else "model")
            make(path, **kind, **sizes)
            size = os.path.getsize(path) if os.path.isfile(path) else os.path.getsize(os.path.join(path, "model.safetensors"))
            try:
                compare(program, name, path, *run_options[:3], options=run_options[3:], size=None if "--quantize" in run_options else size)
            except (RuntimeError, KeyError, ValueError) as error:
                line(False, f"{name}: {type(error).__name__}: {error}")
            subprocess.run(["rm", "-r", path], check=True)

        wide, narrow = dict(C=1024, L=10, H=16, K=4, V=32000, F=2816), dict(C=768, L=8, H=12, K=4, V=32000, F=2048)
        made("llama F16, tied", llama_gguf, narrow, 512, 32, 1, kind="F16", tied=True)
        made("llama Q8_0, untied, 4 sequences", llama_gguf, wide, 400, 48, 4, kind="Q8_0", tied=False)
        made("llama BF16 folder to q4_0, f32 cache", llama_folder, narrow, 2000, 48, 1, "--quantize", "q4_0", "--kv-cache-dtype", "float32")
        made("gpt2 F32 folder", gpt2_folder, dict(C=768, L=8, H=12, V=32000, F=3072), 512, 32, 1)
        made("gpt2 Q4_0", gpt2_gguf, dict(C=1024, L=16, H=16, K=16, V=32000, F=4096), 976, 24, 1, kind="Q4_0")
        every = sorted(path.parent.name for path in GOLDENS.glob("*/config.json"))
        for golden in every if options.all else SOME_GOLDENS:
            made(f"{golden}, widened", widened_golden, dict(name=golden), 512, 32, 1)
            if options.all:
                made(f"{golden}, widened, to q8_0", widened_golden, dict(name=golden), 512, 32, 1, "--quantize", "q8_0")
        train_all(program, folder)
    if DEMO.exists():
        compare(program, "SmolLM2 135M Q4_1", DEMO, 512, 128, size=os.path.getsize(DEMO), generates=True)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
