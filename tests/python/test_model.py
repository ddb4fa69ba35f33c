"""lathe.Model: values against the goldens of transformers, memory that is shared, errors."""
import json
import math
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

import lathe
from conftest import GOLDENS, read_safetensors, read_safetensors_dtypes

FAMILIES = ["llama_untied_gqa", "gpt2", "gemma3", "qwen3_moe_sparse_step"]


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_gradients_are_those_of_transformers(golden, name):
    folder, expected = golden(name)
    tokens = expected["tokens"]
    logits = lathe.load(folder, "float32").logits(tokens)
    assert np.abs(logits - expected["logits"]).max() < 1e-4 * expected["logits"].std()

    loss, gradients = lathe.load(folder, trainable=True).gradients(tokens)
    assert abs(loss - float(expected["loss"])) < 1e-5
    wanted = {n[5:]: g for n, g in expected.items() if n.startswith("grad.")}
    assert wanted.keys() <= gradients.keys()
    total = np.sqrt(sum(float((g**2).sum()) for g in wanted.values()))
    for n, g in wanted.items():
        assert np.linalg.norm(gradients[n] - g) < 1e-4 * (np.linalg.norm(g) + 1e-3 * total), n


def test_gradients_do_not_add_up_over_calls(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, trainable=True)
    first, second = model.gradients(expected["tokens"])[1], model.gradients(expected["tokens"])[1]
    assert all(np.array_equal(first[n], second[n]) for n in first)


def test_a_trace_is_in_order_and_ends_in_the_logits(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, "float32")
    trace = model.trace(expected["tokens"])
    assert list(trace)[0] == "model.embed_tokens" and list(trace)[-1] == "logits"
    assert trace["model.layers.1.self_attn.q"].shape == (37, model.config.num_attention_heads, model.config.head_dim)
    assert np.array_equal(trace["model.norm"], model.hidden(expected["tokens"]))
    assert np.allclose(trace["model.layers.0.self_attn.probabilities"].sum(-1), 1, atol=1e-5)
    assert list(model.trace(expected["tokens"], "*.mlp")) == ["model.layers.0.mlp", "model.layers.1.mlp"]


def test_tokens_come_as_arrays_and_lists(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, "float32")
    tokens = expected["tokens"]
    forms = [tokens.astype(np.int32), tokens.astype(np.int64), tokens.tolist(), np.repeat(tokens.astype(np.int32), 2)[::2]]
    results = [model.logits(form) for form in forms]
    assert all(np.array_equal(results[0], r) for r in results)


def test_parameters_are_the_model_s_own_memory(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, trainable=True)
    before = model.logits(expected["tokens"])
    weight = model.parameters["model.norm.weight"]
    weight *= 2
    assert np.array_equal(model.parameters["model.norm.weight"], weight)
    assert np.array_equal(model.logits(expected["tokens"]), 2 * before)  # a factor of two loses no bit
    assert np.array_equal(lathe.load(folder, trainable=True).logits(expected["tokens"]), before)  # the file is as it was


def test_edited_weights_meet_no_cache_of_the_old_ones(golden):
    folder, expected = golden("llama_untied_gqa")
    ids, options = expected["tokens"], dict(greedy=True, ignore_eos=True, max_new_tokens=12)
    model, fresh = (lathe.load(folder, trainable=True) for _ in range(2))
    before = [model.generate(ids, **options) for _ in range(2)]
    assert before[1].cached_tokens > 0 and before[0].tokens == before[1].tokens
    view = model.parameters["model.layers.1.self_attn.k_proj.weight"]
    for factor in (-4, 0.5):  # by a view that was handed out once
        view *= factor
        fresh.parameters["model.layers.1.self_attn.k_proj.weight"][...] *= factor
        edited, other = model.generate(ids, **options), fresh.generate(ids, **options)
        assert edited.tokens == other.tokens and edited.cached_tokens == 0
        assert [c.tokens for c in model.generate([ids, ids], **options)] == [edited.tokens] * 2


@pytest.mark.parametrize("name", ["llama_untied_gqa", "gpt2", "gemma3", "qwen3_moe_sparse_step"])
def test_edited_weights_are_saved(golden, name, tmp_path):
    folder, expected = golden(name)
    model = lathe.load(folder, trainable=True)
    for weight in model.parameters.values():
        weight *= 1.25
    logits = model.logits(expected["tokens"])
    assert not np.array_equal(logits, lathe.load(folder, "float32").logits(expected["tokens"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a golden has no vocabulary
        model.save(tmp_path / "folder")
        if name != "gemma3":  # whose windows GGUF cannot say
            model.save(tmp_path / "model.gguf")
    for saved in ("folder", "model.gguf")[: 1 if name == "gemma3" else 2]:
        again = lathe.load(tmp_path / saved, trainable=True)
        assert np.array_equal(again.logits(expected["tokens"]), logits), saved
        assert all(np.array_equal(again.parameters[n], w) for n, w in model.parameters.items())
    with pytest.raises(lathe.Error, match="folder"):
        model.save(tmp_path / "folder")  # which is there
    with pytest.raises(lathe.Error, match="q8_0"):
        model.save(tmp_path / "other", quantize="q8_0")
    model.save(tmp_path / "half", "float16")
    halved = read_safetensors_dtypes(tmp_path / "half" / "model.safetensors")
    assert set(halved.values()) == {"F16"}


def test_a_model_for_inference_is_saved_as_its_checkpoint_has_it(golden, tmp_path):
    folder, _ = golden("llama_untied_gqa")
    lathe.load(folder).save(tmp_path / "copy")
    first, second = (read_safetensors(f / "model.safetensors") for f in (folder, tmp_path / "copy"))
    assert first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


def test_arrays_outlive_the_model(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, trainable=True)
    weight, logits = model.parameters["model.embed_tokens.weight"], model.logits(expected["tokens"])
    copies = weight.copy(), logits.copy()
    assert not logits.flags.owndata and not weight.flags.owndata
    del model
    lathe.load(folder, trainable=True).logits(expected["tokens"])
    assert np.array_equal(weight, copies[0]) and np.array_equal(logits, copies[1])


def test_config(golden):
    config = lathe.load(golden("gemma3")[0]).config
    assert (config.model_type, config.num_hidden_layers, config.norm_offset) == ("gemma3_text", 3, 1.0)
    assert "Gemma3" in repr(config)


def test_errors_say_what_to_do(golden, tmp_path):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder)
    with pytest.raises(lathe.Error, match="trainable|packed") as error:
        model.gradients(expected["tokens"])
    assert "trainable=True" in error.value.hint
    if hasattr(error.value, "__notes__"):
        assert any("trainable=True" in note for note in error.value.__notes__)
    for bad in ([], [61], [-1]):
        for call in (model.logits, model.hidden, model.trace, model.generate):
            with pytest.raises(lathe.Error):
                call(bad)
    with pytest.raises(lathe.Error):
        lathe.load(tmp_path)
    with pytest.raises(lathe.Error, match="float32"):
        lathe.load(folder, "float31")
    with pytest.raises(lathe.Error):
        lathe.load(folder, quantize="q9")
    with pytest.raises(lathe.Error):
        model.tokenizer
    with pytest.raises(TypeError):
        model.logits("text")


def test_threads_may_use_one_model(golden):
    folder, expected = golden("llama_untied_gqa")
    model = lathe.load(folder, "float32")
    alone = model.logits(expected["tokens"]), model.generate(expected["tokens"], greedy=True, ignore_eos=True, max_new_tokens=8).tokens
    results = []

    def work():
        for _ in range(5):
            answer = model.generate(expected["tokens"], greedy=True, ignore_eos=True, max_new_tokens=8).tokens
            results.append(np.array_equal(model.logits(expected["tokens"]), alone[0]) and answer == alone[1])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20


def test_plugins_are_refused_by_name(tmp_path):
    with pytest.raises(lathe.Error, match="does not exist"):
        lathe.load_plugin(tmp_path / "nothing.so")
    library = tmp_path / "library.so"
    library.write_text("no library")
    with pytest.raises(lathe.Error, match="library.so.*cannot be loaded"):
        lathe.load_plugin(library)


def test_what_does_not_fit_is_refused_before_it_is_read(tmp_path):
    rows, columns = 2**31 - 1, 32  # 275 GB, of which the file holds none
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 4 * rows * columns:
        pytest.skip("this machine has so much")
    config = json.loads((GOLDENS / "llama_untied_gqa" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": rows, "tie_word_embeddings": True}))
    tensors = read_safetensors(GOLDENS / "llama_untied_gqa" / "model.safetensors")
    shapes = {name: list(t.shape) for name, t in tensors.items() if name != "lm_head.weight"}
    shapes["model.embed_tokens.weight"] = [rows, columns]
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    with pytest.raises(lathe.Error, match="needs .* MB of memory"):
        lathe.load(tmp_path)


def test_without_torch_the_comparison_says_what_is_missing():
    hidden = "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['lathe.reference', 'DIR']; "
    result = subprocess.run([sys.executable, "-c", hidden + "runpy.run_module('lathe.reference', run_name='__main__')"],
                            capture_output=True, text=True)
    assert result.returncode == 2
    assert "torch" in result.stderr and "hint: pip install" in result.stderr and "Traceback" not in result.stderr
