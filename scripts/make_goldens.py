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
import math
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

T.utils.logging.disable_progress_bar()

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"
COMMON = dict(vocab_size=61, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


def llama(**k):
    return T.LlamaForCausalLM(T.LlamaConfig(**{**COMMON, **SIZES, **k}))


def model(family, **k):
    """A tiny model of a family of transformers: "Qwen3"."""
    sizes = {**COMMON, **SIZES, "num_key_value_heads": 2, **k}
    return getattr(T, family + "ForCausalLM")(getattr(T, family + "Config")(**sizes))


def gpt_neox(parallel, rotated_share):
    return T.GPTNeoXForCausalLM(T.GPTNeoXConfig(**COMMON, **SIZES, use_parallel_residual=parallel, rope_parameters=dict(
        rope_type="default", rope_theta=10000.0, partial_rotary_factor=rotated_share)))


def falcon(**k):
    return T.FalconForCausalLM(T.FalconConfig(vocab_size=61, max_position_embeddings=64, hidden_size=32, num_hidden_layers=2,
                                              num_attention_heads=4, bos_token_id=1, eos_token_id=2, **k))


QWEN = dict(num_key_value_heads=4, attention_bias=True)


def qwen(trained_context):
    """The first Qwen, which transformers lacks: its arithmetic, as its repositories publish it, put into Qwen2's."""
    alpha = max(2 ** math.ceil(math.log2(37 / trained_context) + 1) - 1, 1)  # get_ntk_alpha of the 37 tokens; the 16 more do not raise it
    head_dim = SIZES["hidden_size"] // SIZES["num_attention_heads"]
    theta = 10000.0 * alpha ** (head_dim / (head_dim - 2))
    model = T.Qwen2ForCausalLM(T.Qwen2Config(**{**COMMON, **SIZES, **QWEN}, tie_word_embeddings=False, rms_norm_eps=1e-6,
                                             rope_parameters=dict(rope_type="default", rope_theta=theta)))

    def grow(module, inputs, projected):  # log-n attention; the rotation that follows is linear
        positions = torch.arange(1, projected.shape[1] + 1, dtype=projected.dtype)
        return projected * (positions.log() / math.log(trained_context)).clamp(min=1)[None, :, None]

    for layer in model.model.layers:
        layer.self_attn.q_proj.register_forward_hook(grow)
    model.trained_context = trained_context
    return model


QWEN_NAMES = {"transformer.wte.": "model.embed_tokens.", "transformer.h.": "model.layers.", "transformer.ln_f.": "model.norm.",
              ".ln_1.": ".input_layernorm.", ".ln_2.": ".post_attention_layernorm.", ".attn.c_proj.": ".self_attn.o_proj.",
              ".mlp.w2.": ".mlp.gate_proj.", ".mlp.w1.": ".mlp.up_proj.", ".mlp.c_proj.": ".mlp.down_proj."}


def as_qwen(state):
    """Tensors of Qwen2's class under the names that the first Qwen's files have, q, k and v fused."""
    out = {}
    for name, tensor in state.items():
        for theirs, ours in QWEN_NAMES.items():
            name = name.replace(ours, theirs)
        name = name.replace(".self_attn.q_proj.", ".attn.c_attn.")
        for part in (".self_attn.k_proj.", ".self_attn.v_proj."):
            fused = name.replace(part, ".attn.c_attn.")
            name, tensor = fused, torch.cat([out[fused], tensor]) if fused != name else tensor
        out[name] = tensor.contiguous().clone()
    return out


def save_qwen(model, folder):
    c = model.config
    folder.mkdir(parents=True)
    save_file(as_qwen(model.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(architectures=["QWenLMHeadModel"], model_type="qwen", vocab_size=c.vocab_size, hidden_size=c.hidden_size, kv_channels=8,
                  intermediate_size=2 * c.intermediate_size, num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads,
                  max_position_embeddings=64, seq_length=model.trained_context, layer_norm_epsilon=c.rms_norm_eps, no_bias=True, rotary_pct=1.0,
                  rotary_emb_base=10000, scale_attn_weights=True, use_dynamic_ntk=True, use_logn_attn=True, tie_word_embeddings=False)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_qwen(folder):
    model = qwen(json.loads((folder / "config.json").read_text())["seq_length"])
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for theirs, ours in QWEN_NAMES.items():
            name = name.replace(theirs, ours)
        parts = ("q_proj", "k_proj", "v_proj") if ".c_attn." in name else ("",)
        state.update({name.replace("attn.c_attn", "self_attn." + p): t for p, t in zip(parts, tensor.chunk(len(parts)))})
    model.load_state_dict(state)
    return model.eval()


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
    "llama_longrope": lambda: llama(num_key_value_heads=2, rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=16, short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.0, 2.0, 3.5, 4.0])),
    "gpt_neox": lambda: gpt_neox(True, 0.25),
    "gpt_neox_serial": lambda: gpt_neox(False, 0.5),
    "falcon_7b": lambda: falcon(multi_query=True, parallel_attn=True, new_decoder_architecture=False, bias=False, alibi=False),
    "falcon_40b": lambda: falcon(num_kv_heads=2, new_decoder_architecture=True, bias=False, alibi=False),
    "falcon_one_norm": lambda: falcon(num_kv_heads=2, new_decoder_architecture=True, num_ln_in_parallel_attn=1, bias=False, alibi=False, tie_word_embeddings=False),
    "falcon_rw": lambda: falcon(multi_query=False, parallel_attn=False, new_decoder_architecture=False, bias=True, alibi=True),
    # Three heads: slopes of no power of two. The clamp cuts about one value in twenty.
    "mpt": lambda: T.MptForCausalLM(T.MptConfig(vocab_size=61, d_model=36, n_heads=3, n_layers=2, max_seq_len=64, attn_config=dict(clip_qkv=1.5))),
    "gemma": lambda: model("Gemma", num_key_value_heads=1, head_dim=12),
    # Windows of 8 in the first and the last of three layers; caps that bend.
    "gemma2": lambda: model("Gemma2", num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=12, sliding_window=8, attn_logit_softcapping=2.0,
                            final_logit_softcapping=5.0),
    # Windows of 8 in two layers of three; every option that Gemma 3 has.
    "gemma3": lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(
        **COMMON, **{**SIZES, "num_hidden_layers": 3}, num_key_value_heads=2, head_dim=12, sliding_window=8, query_pre_attn_scalar=20, final_logit_softcapping=5.0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1000000.0), sliding_attention=dict(rope_type="default", rope_theta=1000.0)))),
    # What GGUF can say of it, too: a period of the layers without a window, scores divided by sqrt(D).
    "gemma3_period": lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(
        **COMMON, **SIZES, num_key_value_heads=1, head_dim=16, sliding_window=9, query_pre_attn_scalar=16, layer_types=["sliding_attention", "full_attention"])),
    "olmo2": lambda: T.Olmo2ForCausalLM(T.Olmo2Config(**COMMON, **SIZES, num_key_value_heads=2, rope_parameters=dict(rope_type="default", rope_theta=500000.0))),
    "phi3": lambda: model("Phi3", rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.75)),
    "granite": lambda: model("Granite", embedding_multiplier=3.0, residual_multiplier=0.22, attention_multiplier=0.4, logits_scaling=1.5),
    "starcoder2": lambda: model("Starcoder2", sliding_window=9),
    "qwen": lambda: qwen(64),
    "qwen_beyond_context": lambda: qwen(16),
}
# Without a class of their own in transformers.
SAVERS = {"qwen": save_qwen, "qwen_beyond_context": save_qwen}
LOADERS = {
    "qwen": load_qwen,
    "qwen_beyond_context": load_qwen,
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
    if getattr(model.config, "max_position_embeddings", 64) >= current.shape[1]:
        out["greedy"] = current[0, 37:].int()
    with tempfile.TemporaryDirectory() as folder:  # the names of files differ from those in memory in some families
        gradients.save_pretrained(folder)
        state = {**gradients.state_dict(), **load_file(folder + "/model.safetensors")}
    if hasattr(model, "trained_context"):
        state = as_qwen(state)
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
    SAVERS.get(name, lambda m, to: m.save_pretrained(to, save_original_format=name not in FUSED))(model, folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name in OLD_SPELLING:
        respell(folder, name)
    if name in BARE:
        bare(folder)
    save_file(expectations(model, load_file(folder / "model.safetensors")), folder / "expected.safetensors")


def check(name):
    folder = GOLDENS / name
    from_folder = LOADERS.get(name, lambda at: T.AutoModelForCausalLM.from_pretrained(at, dtype=torch.float32))
    model = from_folder(folder).eval()
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
    factors_at = dict(Q8_0=[0], Q4_0=[0], Q4_1=[0, 2], Q5_0=[0], Q5_1=[0, 2], Q2_K=[80, 82], Q3_K=[108], Q4_K=[0, 2], Q5_K=[0, 2], Q6_K=[208],
                      IQ4_NL=[0], IQ4_XS=[0])
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


if __name__ == "__main__":
    main()
