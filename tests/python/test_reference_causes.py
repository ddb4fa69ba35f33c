"""lathe.reference names the place and the cause of faults in windows, softcaps, scales, norms and the order of rows."""
import json
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
from lathe.reference import attention  # noqa: E402

TOKENS = np.arange(5, 42, dtype=np.int32)  # 37, four windows of the golden
LAYER = "model.layers.{}.".format


@pytest.fixture
def folders(tmp_path):
    """folders(change): a Gemma 3 whose layers all rotate alike, and a copy of it after change(config, tensors)."""

    def write(name, change):
        folder = tmp_path / name
        shutil.copytree(GOLDENS / "gemma3", folder)
        config = json.loads((folder / "config.json").read_text())
        alike = {"rope_type": "default", "rope_theta": 1000.0}
        config["rope_parameters"] = {"full_attention": alike, "sliding_attention": alike}
        tensors = {n: t.copy() for n, t in read_safetensors(folder / "model.safetensors").items()}
        change(config, tensors)
        (folder / "config.json").write_text(json.dumps(config))
        write_safetensors(folder / "model.safetensors", tensors)
        return folder

    return lambda change: (write("reference", lambda *_: None), write("candidate", change))


def report_of(pair):
    return reference.compare_folders(*pair, tokens=TOKENS, new_tokens=0)


@pytest.mark.parametrize("change, tap, cause", [
    ({"sliding_window": 9}, LAYER(0) + "self_attn.heads", "window of attention: Lathe's query sees 9 keys, the reference's 8 keys, one more"),
    ({"sliding_window": 7}, LAYER(0) + "self_attn.heads", "window of attention: Lathe's query sees 7 keys, the reference's 8 keys, one less"),
    ({"sliding_window": 20}, LAYER(0) + "self_attn.heads", "window of attention: Lathe's query sees 20 keys, the reference's 8 keys"),
    ({"sliding_window": 64}, LAYER(0) + "self_attn.heads", "window of attention: Lathe's query sees all keys before, the reference's 8 keys"),
    ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, LAYER(0) + "self_attn.heads",
     "window of attention: Lathe's query sees all keys before, the reference's 8 keys; "
     "another phase of the layers: Lathe's windows are 0, 8, 0, the reference's 8, 0, 8"),
    ({"query_pre_attn_scalar": 12}, LAYER(0) + "self_attn.heads",
     "scale of attention: Lathe's is 1 / sqrt(D) of D = 12, the reference's 0.223607"),
    ({"query_pre_attn_scalar": 30}, LAYER(0) + "self_attn.heads", "scale of attention: Lathe's is 0.182574, the reference's 0.223607"),
    ({"final_logit_softcapping": None}, "logits", "softcap of the logits: Lathe leaves it out, the reference's is 5"),
    ({"final_logit_softcapping": 8.0}, "logits", "softcap of the logits: Lathe's is 8, the reference's is 5"),
])
def test_a_setting(folders, change, tap, cause):
    report = report_of(folders(lambda config, _: config.update(change)))
    assert (report.first.tap, report.cause) == (tap, cause), str(report)


def test_what_differs_in_nothing(folders):
    assert report_of(folders(lambda *_: None)).ok


def test_a_window_of_one_later_layer(folders):
    types = ["sliding_attention", "full_attention", "full_attention"]
    report = report_of(folders(lambda config, _: config.update(layer_types=types)))
    assert report.first.tap == LAYER(2) + "self_attn.heads"
    assert report.cause.startswith("window of attention: Lathe's query sees all keys before, the reference's 8 keys"), str(report)


def test_angles_of_another_kind_of_layer(tmp_path):
    folder = tmp_path / "candidate"
    shutil.copytree(GOLDENS / "gemma3", folder)
    config = json.loads((folder / "config.json").read_text())
    config["layer_types"] = ["full_attention", "full_attention", "sliding_attention"]
    (folder / "config.json").write_text(json.dumps(config))
    report = report_of((GOLDENS / "gemma3", folder))
    assert report.first.tap == LAYER(0) + "self_attn.q_rope"
    assert report.cause.startswith("rope: Lathe's angles are those of the reference's model.layers.1."), str(report)


def test_exchanged_norms(folders):
    def change(config, tensors):
        a, b = (LAYER(1) + n + ".weight" for n in ("post_attention_layernorm", "pre_feedforward_layernorm"))
        tensors[a], tensors[b] = tensors[b], tensors[a]

    report = report_of(folders(change))
    assert report.first.tap == LAYER(1) + "post_attention_layernorm"
    assert report.cause == ("norm weight: Lathe's is that of the reference's model.layers.1.pre_feedforward_layernorm, "
                            "and the other way round: the two are exchanged"), str(report)


def test_a_norm_of_another_layer(folders):
    def change(config, tensors):
        tensors[LAYER(2) + "input_layernorm.weight"] = tensors[LAYER(0) + "input_layernorm.weight"]

    report = report_of(folders(change))
    assert report.first.tap == LAYER(2) + "input_layernorm"
    assert report.cause == "norm weight: Lathe's is that of the reference's model.layers.0.input_layernorm", str(report)


def test_a_projection_of_another_layer(folders):
    def change(config, tensors):
        a, b = (LAYER(layer) + "mlp.down_proj.weight" for layer in (0, 1))
        tensors[a], tensors[b] = tensors[b], tensors[a]

    report = report_of(folders(change))
    assert report.first.tap == LAYER(0) + "mlp"
    assert report.cause == "weight: Lathe's is that of the reference's model.layers.1.mlp, and the other way round: the two are exchanged", str(report)


@pytest.mark.parametrize("turn, remedy", [
    (lambda rows: rows.swapaxes(0, 1), "rope layout: Lathe's rows stand in adjacent pairs, the reference's in halves: add .rows(interleaved"),
    (lambda rows: rows.reshape(rows.shape[1], rows.shape[0], -1).swapaxes(0, 1),
     "rope layout: Lathe turns rows that stand in halves already: take away .rows(interleaved"),
])
def test_the_order_of_rows(tmp_path, turn, remedy):
    folder = tmp_path / "candidate"
    shutil.copytree(GOLDENS / "llama_untied_gqa", folder)
    tensors = {n: t.copy() for n, t in read_safetensors(folder / "model.safetensors").items()}
    for part, heads in (("q", 4), ("k", 2)):
        name = LAYER(0) + f"self_attn.{part}_proj.weight"
        rows = tensors[name]
        turned = [turn(head.reshape(2, -1, rows.shape[1])) for head in rows.reshape(heads, -1, rows.shape[1])]
        tensors[name] = np.stack(turned).reshape(rows.shape)
    write_safetensors(folder / "model.safetensors", tensors)
    report = reference.compare_folders(GOLDENS / "llama_untied_gqa", folder, tokens=TOKENS, new_tokens=0)
    assert report.first.tap == LAYER(0) + "self_attn.q"
    assert report.cause.startswith(remedy), str(report)


def test_a_softcap_of_attention_that_lathe_lacks(monkeypatch):
    """It is the reference that is changed: Gemma 3's attention in transformers could cap scores, and its model never asks."""
    import transformers
    from transformers.models.gemma3 import modeling_gemma3

    plain = modeling_gemma3.eager_attention_forward
    monkeypatch.setattr(modeling_gemma3, "eager_attention_forward", lambda *args, **named: plain(*args, **{**named, "softcap": 3.0}))
    model = transformers.AutoModelForCausalLM.from_pretrained(GOLDENS / "gemma3", dtype=torch.float32, attn_implementation="eager").eval()
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = 3.0
    report = reference.compare(lathe.load(GOLDENS / "gemma3"), model, TOKENS)
    assert report.first.tap == LAYER(0) + "self_attn.heads"
    assert report.cause == "softcap of attention: Lathe leaves it out, the reference's is 3", str(report)


def first_cause(own, lathes, tolerance=1e-6):
    """What is said of an attention by torch under Lathe's settings, where the reference's are `own`."""
    random = torch.Generator().manual_seed(0)
    q, k, v = (3 * torch.randn(37, heads, 20, generator=random, dtype=torch.float64) for heads in (4, 2, 2))
    kk, vv = (x.repeat_interleave(2, 1) for x in (k, v))
    scores = torch.einsum("nhd,mhd->hnm", q, kk) * lathes.scale
    if lathes.softcap:
        scores = lathes.softcap * torch.tanh(scores / lathes.softcap)
    seen = torch.ones(37, 37, dtype=torch.bool).tril()
    if lathes.window:
        seen &= ~torch.ones(37, 37, dtype=torch.bool).tril(-lathes.window)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    found = torch.einsum("hnm,mhd->nhd", weights, vv).reshape(37, -1).numpy()
    mine = attention.Attention(q.numpy(), k.numpy(), v.numpy())
    trials = attention.attention_causes(mine, own, found, None, lambda window: "")
    return next((text for text, value in trials if attention.relative_error(found, value) < tolerance), None)


SETTINGS = attention.Settings(scale=20**-0.5, window=8, softcap=3.0)


@pytest.mark.parametrize("changes, cause", [
    ({"softcap": 50.0}, "softcap of attention: Lathe's is 50, the reference's is 3"),
    ({"softcap": 0.0}, "softcap of attention: Lathe leaves it out, the reference's is 3"),
    ({"scale": 1.0}, "scale of attention: Lathe's is 1: the factor 1 / sqrt(D) is missing, the reference's 0.223607"),
    ({"scale": 0.3}, "scale of attention: Lathe's is 0.3, the reference's 0.223607"),
    ({"scale": 0.3, "softcap": 0.0}, "scale of attention: Lathe's is 0.3, the reference's 0.223607, and it leaves the softcap out"),
    ({"scale": 0.3, "window": 0}, "scale of attention: Lathe's is 0.3, the reference's 0.223607, and it has no window"),
    ({"window": 5}, "window of attention: Lathe's query sees 5 keys, the reference's 8 keys"),
])
def test_settings_of_attention_are_found_from_its_values(changes, cause):
    assert first_cause(SETTINGS, attention.dataclasses.replace(SETTINGS, **changes)) == cause


def test_what_cannot_be_compared_is_one_line(tmp_path):
    def run(*arguments):
        result = subprocess.run([sys.executable, "-m", "lathe.reference", *map(str, arguments)], capture_output=True, text=True)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        return result.stderr

    good = GOLDENS / "llama_untied_gqa"
    strange = tmp_path / "strange"
    shutil.copytree(GOLDENS / "gemma3", strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "query_pre_attn_scalar": "twenty"}))
    message = run(strange, "--candidate", GOLDENS / "gemma3")
    assert "transformers cannot read it" in message and "query_pre_attn_scalar" in message
    (strange / "config.json").write_text(json.dumps({**config, "model_type": "nothing_known"}))
    assert "transformers cannot read it" in run(strange, "--candidate", GOLDENS / "gemma3")
    other = tmp_path / "other"
    shutil.copytree(good, other)
    tensors = read_safetensors(other / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][:40]
    write_safetensors(other / "model.safetensors", tensors)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 40}))
    assert "the vocabularies differ: 40 tokens in Lathe's model" in run(good, "--candidate", other)
    assert "tokens: expected some from 0" in run(good, "--tokens", "5,100000")
