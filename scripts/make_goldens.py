#!/usr/bin/env python3
"""Make the goldens of the C++ tests with transformers: tests/goldens/<name>/ holds a tiny random checkpoint as transformers
writes it and expected.safetensors with tokens, logits, greedy continuation, loss and gradients. tests/goldens/block_formats/ holds
blocks of every quantised GGUF format and what the Python package gguf makes of them.

    scripts/make_goldens.py [--check] [--only PREFIX]

Needs the reference environment (`make reference`). With --check nothing is written: the committed expectations are computed anew from
the committed checkpoints and compared, so that a new version of transformers that means something else by a checkpoint is noticed.
"""
import argparse
import copy
import json
import pathlib
import shutil
import sys
import tempfile
import zlib

import gguf
import numpy as np
import torch
import transformers as T
from safetensors.torch import load_file, save_file

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"
COMMON = dict(vocab_size=61, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


def llama(**k):
    return T.LlamaForCausalLM(T.LlamaConfig(**{**COMMON, **SIZES, **k}))


def model(family, **k):
    """A tiny model of a family of transformers: "Qwen3"."""
    sizes = {**COMMON, **SIZES, "num_key_value_heads": 2, **k}
    return getattr(T, family + "ForCausalLM")(getattr(T, family + "Config")(**sizes))


# Vocabulary 61 and feed-forward 48 are no multiples of 32; head_dim 12 is no multiple of 16: the padded paths are met.
CASES = {
    "gpt2": lambda: T.GPT2LMHeadModel(T.GPT2Config(vocab_size=61, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)),
    "llama_untied_gqa": lambda: llama(num_key_value_heads=2, rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    "llama_tied_llama3_rope": lambda: llama(num_key_value_heads=1, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)),
    "llama_biases_head_dim_yarn": lambda: llama(num_key_value_heads=4, attention_bias=True, mlp_bias=True, head_dim=12, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)),
    # 37 tokens over a trained context of 24: the base grows. The greedy continuation is left out, because transformers grows it anew
    # with every token where Lathe fixes it for the sequence.
    "llama_dynamic": lambda: llama(max_position_embeddings=24, num_key_value_heads=2, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0)),
    # Windows of 8 and 9 tokens: less than the prompt, and not one more than a page.
    "mistral_window_head_dim": lambda: model("Mistral", head_dim=12, sliding_window=8),
    "mixtral": lambda: model("Mixtral", num_local_experts=5, num_experts_per_tok=2),
    "mixtral_fused": lambda: model("Mixtral", num_local_experts=3, num_experts_per_tok=2, sliding_window=9),
    "qwen2_windowed_layers": lambda: model("Qwen2", num_hidden_layers=3, use_sliding_window=True, sliding_window=9, max_window_layers=1),
    "qwen3_untied": lambda: model("Qwen3", head_dim=12, attention_bias=True),
    # A plain net below a mixture whose weights do not sum to 1; experts in every second layer of the other.
    "qwen3_moe_plain_layer": lambda: model("Qwen3Moe", num_experts=6, num_experts_per_tok=3, moe_intermediate_size=20, norm_topk_prob=False,
                                           mlp_only_layers=[0], use_sliding_window=True, sliding_window=9),
    "qwen3_moe_sparse_step": lambda: model("Qwen3Moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True,
                                           decoder_sparse_step=2, tie_word_embeddings=True),
}
# rope_theta + rope_scaling, torch_dtype
OLD_SPELLING = {"llama_untied_gqa", "llama_biases_head_dim_yarn", "mistral_window_head_dim", "mixtral", "qwen3_moe_plain_layer"}
FUSED = {"mixtral_fused"}  # all experts of a layer in two tensors, as transformers 5 holds them
BARE = {"gpt2"}  # without the "transformer." prefix and with the causal masks, as GPT-2 is published


def perturb(model):
    """Give norms and biases values that matter: fresh ones are all 1 or 0."""
    with torch.no_grad():
        for _, p in model.named_parameters():
            if p.dim() == 1:
                p.add_(torch.randn_like(p) * 0.2)
            else:
                p.mul_(4.0)


def respell(folder, name):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    if config["model_type"] == "qwen3_moe":
        config["num_experts"] = config.pop("num_local_experts")
    path.write_text(json.dumps(config, indent=2) + "\n")


def bare(folder):
    path = folder / "model.safetensors"
    tensors = {n.removeprefix("transformer."): t for n, t in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64)
    save_file(tensors, path, metadata={"format": "pt"})


def expectations(model, names_in):
    """Everything that the tests compare, under the names that the checkpoint uses."""
    torch.manual_seed(1)
    ids = torch.randint(3, 61, (1, 37))
    logits = model(ids, use_cache=False).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:])
    model.zero_grad()
    loss.backward()
    current = ids.clone()
    with torch.no_grad():
        for _ in range(16):
            current = torch.cat([current, model(current, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    gradients = copy.deepcopy(model)
    with torch.no_grad():
        for p, q in zip(gradients.parameters(), model.parameters()):
            p.copy_(q.grad)
    out = {"tokens": ids[0].int(), "logits": logits.detach().contiguous(), "loss": loss.detach()}
    if hasattr(model, "num_experts"):
        out["router_loss"] = model(ids, use_cache=False, output_router_logits=True).aux_loss.detach()
    if model.config.max_position_embeddings >= current.shape[1]:
        out["greedy"] = current[0, 37:].int()
    with tempfile.TemporaryDirectory() as folder:  # the names of files differ from those in memory where experts are fused
        gradients.save_pretrained(folder)
        state = {**gradients.state_dict(), **load_file(folder + "/model.safetensors")}
    for name in names_in:
        full = name if name in state else "transformer." + name
        if full in state and ".attn.bias" not in name:
            out["grad." + name] = state[full].contiguous().clone()
    return out


def make(name):
    torch.manual_seed(zlib.crc32(name.encode()))
    folder = GOLDENS / name
    shutil.rmtree(folder, ignore_errors=True)
    model = CASES[name]().eval().float()
    perturb(model)
    model.save_pretrained(folder, save_original_format=name not in FUSED)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name in OLD_SPELLING:
        respell(folder, name)
    if name in BARE:
        bare(folder)
    save_file(expectations(model, load_file(folder / "model.safetensors")), folder / "expected.safetensors")


def check(name):
    folder = GOLDENS / name
    model = T.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    want = load_file(folder / "expected.safetensors")
    got = expectations(model, load_file(folder / "model.safetensors"))
    worst = max(((got[n].float() - w.float()).norm() / (w.float().norm() + 1e-6)).item() for n, w in want.items())
    ok = set(got) == set(want) and worst < 1e-4
    print(f"{'ok  ' if ok else 'FAIL'} {name:28} {len(want)} tensors, worst relative difference {worst:.1e}")
    return ok


def blocks():
    """Two random blocks of each format, as bytes, and their values. The f16 factors are set: random bits would make NaN."""
    random = np.random.default_rng(7)
    out = {}
    factors_at = dict(Q8_0=[0], Q4_0=[0], Q4_1=[0, 2], Q5_0=[0], Q5_1=[0, 2], Q2_K=[80, 82], Q3_K=[108], Q4_K=[0, 2], Q5_K=[0, 2], Q6_K=[208])
    for name, places in factors_at.items():
        kind = gguf.GGMLQuantizationType[name]
        rows = random.integers(0, 256, (1, 2 * gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
        for block in np.split(rows[0], 2):
            for at in places:
                block[at:at + 2] = np.frombuffer(np.float16(random.uniform(-0.05, 0.05)).tobytes(), np.uint8)
        out[name.lower() + ".bytes"] = torch.from_numpy(rows[0].astype(np.int32))
        out[name.lower() + ".values"] = torch.from_numpy(np.ascontiguousarray(gguf.quants.dequantize(rows, kind)[0]))
    return out


def check_blocks():
    want, got = load_file(GOLDENS / "block_formats" / "expected.safetensors"), blocks()
    ok = set(got) == set(want) and all(torch.equal(got[n], w) for n, w in want.items())
    print(f"{'ok  ' if ok else 'FAIL'} {'block_formats':28} {len(want)} tensors, equal bits")
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", help="the cases whose names begin so")
    arguments = parser.parse_args()
    T.logging.set_verbosity_error()
    cases = [name for name in CASES if name.startswith(arguments.only or "")]
    if not arguments.check:
        for name in cases:
            make(name)
        (GOLDENS / "block_formats").mkdir(exist_ok=True)
        save_file(blocks(), GOLDENS / "block_formats" / "expected.safetensors")
    failed = sum(not check(name) for name in cases) + (not check_blocks())
    print(f"{len(cases) + 1 - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
