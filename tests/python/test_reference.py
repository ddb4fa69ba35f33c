"""lathe.reference: agreement with transformers in every family, and planted faults that it must name."""
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import lathe
from conftest import GOLDENS, read_safetensors, write_safetensors

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from lathe import reference  # noqa: E402

# The first Qwen is not among them: transformers lacks it.
FAMILIES = sorted(p.name for p in GOLDENS.iterdir() if (p / "config.json").exists() and not p.name.startswith("qwen_")) if GOLDENS.exists() else []
FAMILIES = [f for f in FAMILIES if f != "qwen"]
TOKENS = np.arange(5, 42, dtype=np.int32)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_operation_of_a_golden_errs(name):
    # llama_dynamic: transformers chooses the frequencies anew at every token.
    report = reference.compare_folders(GOLDENS / name, tokens=TOKENS, new_tokens=0 if name == "llama_dynamic" else 8)
    assert report.ok, str(report)
    compared = {re.sub(r"^model.layers.[0-9]+.", "", o.tap) for o in report.operations}
    assert {"model.embed_tokens", "input_layernorm", "self_attn.q", "self_attn.v", "self_attn.heads", "self_attn", "mlp", "output",
            "model.norm", "logits"} - compared <= ({"input_layernorm"} if name == "olmo2" else set())


@pytest.fixture
def candidate(tmp_path):
    """candidate(name, change): a copy of a golden after change(config, tensors)."""

    def make(name, change):
        folder = tmp_path / name
        shutil.copytree(GOLDENS / name, folder)
        config = json.loads((folder / "config.json").read_text())
        tensors = {n: t.copy() for n, t in read_safetensors(folder / "model.safetensors").items()}
        change(config, tensors)
        (folder / "config.json").write_text(json.dumps(config))
        write_safetensors(folder / "model.safetensors", tensors)
        return folder

    return make


def find(name, folder):
    return reference.compare_folders(GOLDENS / name, folder, tokens=TOKENS, new_tokens=0)


def test_a_rope_layout(candidate):
    def interleave(config, tensors):  # as GGUF files of Llama have their rows
        for part, heads in (("q", 4), ("k", 2)):
            name = f"model.layers.1.self_attn.{part}_proj.weight"
            rows = tensors[name]
            tensors[name] = rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)

    report = find("llama_untied_gqa", candidate("llama_untied_gqa", interleave))
    assert report.first.tap == "model.layers.1.self_attn.q"
    assert report.cause.startswith("rope layout: Lathe's rows stand in adjacent pairs"), str(report)


def test_an_eps(candidate):
    report = find("llama_untied_gqa", candidate("llama_untied_gqa", lambda config, _: config.update(rms_norm_eps=1e-3)))
    assert report.first.tap == "model.layers.0.input_layernorm"
    assert report.cause == "eps: Lathe computes with 0.001, the reference with 1e-06", str(report)


def test_a_norm_weight(candidate):
    def change(config, tensors):
        tensors["model.layers.1.post_attention_layernorm.weight"][7] += 0.01

    report = find("llama_untied_gqa", candidate("llama_untied_gqa", change))
    assert report.first.tap == "model.layers.1.post_attention_layernorm"
    assert report.cause.startswith("norm weight: 1 of 32 channels differ (7)"), str(report)


def test_norm_plus_one(candidate):
    def change(config, tensors):
        tensors["model.norm.weight"] += 1

    report = find("llama_untied_gqa", candidate("llama_untied_gqa", change))
    assert (report.first.tap, report.cause[:10]) == ("model.norm", "norm + 1: "), str(report)


def test_a_transposed_weight(candidate):
    def change(config, tensors):
        name = "model.layers.0.self_attn.o_proj.weight"
        tensors[name] = tensors[name].T.copy()

    report = find("llama_untied_gqa", candidate("llama_untied_gqa", change))
    assert report.first.tap == "model.layers.0.self_attn"
    assert report.cause.startswith("transposed weight"), str(report)


def test_a_bias(candidate):
    def change(config, tensors):
        tensors["model.layers.1.self_attn.v_proj.bias"] *= 0

    report = find("llama_biases_head_dim_yarn", candidate("llama_biases_head_dim_yarn", change))
    assert report.first.tap == "model.layers.1.self_attn.v"
    assert report.cause.startswith("bias: Lathe leaves"), str(report)


def test_a_scale(candidate):
    def change(config, tensors):
        tensors["model.layers.0.mlp.down_proj.weight"] *= 3

    report = find("llama_untied_gqa", candidate("llama_untied_gqa", change))
    assert report.first.tap == "model.layers.0.mlp"
    assert report.cause.startswith("missing scale: Lathe's value is 3 times"), str(report)


def test_a_rotation_of_the_other_kind(monkeypatch):
    from transformers.models.llama import modeling_llama

    def adjacent(q, k, cos, sin):
        def turn(x):
            half = cos.shape[-1] // 2
            c, s = (a[..., :half].repeat_interleave(2, -1)[:, None] for a in (cos, sin))
            partner = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
            return x * c + partner * s

        return turn(q), turn(k)

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", adjacent)
    report = find("llama_untied_gqa", None)
    assert report.first.tap == "model.layers.0.self_attn.q_rope"
    assert report.cause.startswith("rope layout: Lathe rotates halves, the reference adjacent pairs: add .rows(interleaved_rope_rows"), str(report)


def test_an_unknown_fault_is_said_to_be_unknown(candidate):
    def change(config, tensors):
        random = np.random.default_rng(0)
        name = "model.layers.0.mlp.up_proj.weight"
        tensors[name] += random.normal(size=tensors[name].shape).astype(np.float32)

    report = find("llama_untied_gqa", candidate("llama_untied_gqa", change))
    assert report.first.tap == "model.layers.0.mlp.up" and report.cause is None and "none that is known" in str(report)


def test_a_tie_is_told_from_a_difference():
    """Two ids with equal rows of the head have equal logits: whoever wins, it is a tie. A real change is none."""
    model = lathe.load(GOLDENS / "llama_untied_gqa", trainable=True)
    reference_model = reference.load_reference(GOLDENS / "llama_untied_gqa")
    head = model.parameters["lm_head.weight"]
    best = int(model.logits(TOKENS)[-1].argmax())
    other = 40 if best != 40 else 41
    head[other] = head[best]
    with torch.no_grad():
        theirs = reference_model.lm_head.weight
        theirs[other] = theirs[best]
        theirs[max(best, other)] *= 1 + 2**-23  # the reference now prefers the higher id, by a rounding
        if theirs[best] @ torch.from_numpy(model.hidden(TOKENS)[-1]) < 0:
            pytest.skip("the best logit is negative: the change does not raise it")
    report = reference.compare(model, reference_model, TOKENS, new_tokens=1)
    assert report.greedy.equal == 0 and report.greedy.tie and "numerical tie" in str(report), str(report)
    head[other] += 1.0
    report = reference.compare(model, reference_model, TOKENS, new_tokens=1)
    assert not report.ok


def test_another_vocabulary_cannot_be_compared(candidate):
    def cut(config, tensors):
        config["vocab_size"] = 48
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = tensors[name][:48]

    smaller = candidate("llama_untied_gqa", cut)
    for folder, other, words in ((GOLDENS / "llama_untied_gqa", smaller, "48 tokens in Lathe's model, 61 in the reference's"),
                                 (smaller, GOLDENS / "llama_untied_gqa", "61 tokens in Lathe's model, 48 in the reference's")):
        result = subprocess.run([sys.executable, "-m", "lathe.reference", str(folder), "--candidate", str(other)], capture_output=True, text=True)
        assert result.returncode == 2 and words in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_the_program(candidate):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "lathe.reference", *map(str, arguments)], capture_output=True, text=True)

    good = GOLDENS / "llama_untied_gqa"
    result = run(good)
    assert result.returncode == 0 and "no operation errs by more than float32 explains" in result.stdout, result.stderr
    assert "all 24 tokens equal" in result.stdout or "numerical tie" in result.stdout
    bad = candidate("llama_untied_gqa", lambda config, _: config.update(rms_norm_eps=1e-3))
    result = run(good, "--candidate", bad, "--tokens", "5,6,7,8")
    assert result.returncode == 1 and "cause: eps" in result.stdout
    result = run(good, "--candidate", good / "nothing")
    assert result.returncode == 2 and "lathe.reference:" in result.stderr
    assert run(good, "--tokens", "5,x").returncode == 2
    result = run(good, "--candidate", GOLDENS / "gpt2")
    assert result.returncode == 2 and "features in Lathe" in result.stderr
