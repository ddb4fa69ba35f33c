"""lathe.Trainer and log_probabilities: values against generation and against gradients, coherence with generation, refusals."""
import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import lathe
from conftest import GOLDENS, ROOT, read_safetensors

FOLDER = GOLDENS / "llama_untied_gqa"  # 61 ids, a context of 64
IDS = [(7 * i + 3) % 61 for i in range(40)]  # two whole pages of the cache
GREEDY = dict(greedy=True, ignore_eos=True, max_new_tokens=8)


@pytest.fixture
def model():
    return lathe.load(FOLDER, "float32", trainable=True)


def test_log_probabilities_are_those_of_logits_and_of_generation(model):
    got = model.log_probabilities(IDS)
    logits = model.logits(IDS)[:-1].astype(np.float64)
    want = logits[np.arange(39), IDS[1:]] - np.log(np.exp(logits).sum(1))
    assert got.shape == (39,) and got.dtype == np.float32 and np.abs(got - want).max() < 1e-5
    answer = model.generate(IDS[:20], logprobs=0, **GREEDY)
    again = lathe.load(FOLDER, "float32").log_probabilities(IDS[:20] + answer.tokens)  # packed for inference
    assert np.abs(again[19:] - [t.logprob for t in answer.logprobs]).max() < 1e-5
    both = model.log_probabilities([IDS, np.array(IDS[:7])])
    assert [b.shape for b in both] == [(39,), (6,)] and np.abs(both[0] - got).max() < 1e-5 and np.abs(both[1] - got[:6]).max() < 1e-5


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_step_moves_the_loss_and_generation_follows(model, optimizer):
    before = model.generate(IDS, **GREEDY).tokens
    trainer = lathe.Trainer(model, optimizer=optimizer, learning_rate=0.02)
    losses = []
    for _ in range(8):
        losses.append(trainer.backward(IDS))
        assert trainer.step() > 0
    assert losses[-1] < losses[0] - 0.1 and trainer.steps == 8
    assert math.isclose(losses[0], -np.mean(lathe.load(FOLDER, "float32").log_probabilities(IDS)), rel_tol=1e-5)
    after = model.generate(IDS, **GREEDY)
    assert after.cached_tokens == 0 and after.tokens != before  # nothing of the old weights is used
    assert model.generate(IDS, **GREEDY).cached_tokens > 0  # but the cache works on


def test_generation_uses_the_weights_of_now(model, tmp_path):
    trainer = lathe.Trainer(model, learning_rate=0.02)
    for _ in range(3):
        model.generate(IDS, **GREEDY)
        trainer.backward(IDS)
        trainer.step()
    model.generate(IDS[:20], **GREEDY)
    model.save(tmp_path / "saved")
    fresh = lathe.load(tmp_path / "saved", "float32", trainable=True)
    assert fresh.generate(IDS, **GREEDY).tokens == model.generate(IDS, **GREEDY).tokens
    assert np.array_equal(fresh.logits(IDS), model.logits(IDS))


def test_gradients_add_up_and_weights_weigh(model):
    """SGD without momentum, clipping and decay moves weights by the gradient, which gradients() knows."""
    _, gradients = model.gradients(IDS)
    trainer = lathe.Trainer(model, optimizer="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip=0)
    weights = model.parameters
    before = {n: w.copy() for n, w in weights.items()}
    share = np.full(39, 1 / 39)
    trainer.backward(IDS, share * (np.arange(39) < 11))
    other = model.gradients(IDS[:9])[1]  # leaves what is summed alone
    assert set(other) == set(gradients)
    trainer.backward([IDS, IDS[:5]], [share * (np.arange(39) >= 11), [0, 0, 0, 0]])
    norm = trainer.step()
    assert math.isclose(norm, math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values())), rel_tol=1e-5)
    for name, gradient in gradients.items():
        assert np.abs(before[name] - weights[name] - gradient).max() < 1e-5 * norm, name
    trainer.backward(IDS, -share)
    assert math.isclose(trainer.backward(IDS), -trainer.backward(IDS, -share), rel_tol=1e-6)
    trainer.step(learning_rate=0.0)
    with pytest.raises(lathe.Error, match="no gradients: backward"):
        trainer.step()


def test_what_is_clipped_is_the_norm(model):
    trainer = lathe.Trainer(model, optimizer="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip=0.01)
    weights = model.parameters
    before = {n: w.copy() for n, w in weights.items()}
    trainer.backward(IDS)
    assert trainer.step() > 0.01
    moved = math.sqrt(sum(float(((weights[n] - b).astype(np.float64) ** 2).sum()) for n, b in before.items()))
    assert math.isclose(moved, 0.01, rel_tol=1e-3)


@pytest.mark.parametrize("tokens, weights, error, words", [
    (IDS, [1.0], lathe.Error, r"shape \(39,\) for sequence 0.*its 40 tokens but the first; found \(1,\)"),
    (IDS, np.ones((39, 1)), lathe.Error, r"found \(39, 1\)"),
    (IDS, 1.0, lathe.Error, r"found \(\)"),
    (IDS, ["a"] * 39, TypeError, "numbers, found an array of <U1"),
    (IDS, np.ones(39, bool), TypeError, "numbers, found an array of bool"),
    (IDS[:4], [1, 2, math.nan], lathe.Error, "number 2 of sequence 0 is nan"),
    (IDS[:4], [1, -math.inf, 2], lathe.Error, "number 1 of sequence 0 is -inf"),
    (IDS[:3], [1, 1e300], lathe.Error, r"number 1 of sequence 0 is 1e\+300"),
    ([IDS[:3], IDS[:4]], [[1, 1]], TypeError, "a list of 2, one for each sequence"),
    ([IDS[:3], IDS[:4]], [[1, 1], [1, 1]], lathe.Error, "for sequence 1"),
    ([3, 61], None, lathe.Error, "number 1 is 61, the vocabulary has 61"), ([3, -1], [1.0], lathe.Error, "number 1 is -1"),
    ([3], None, lathe.Error, "at least two, found one"), ([], None, lathe.Error, "at least one, found none"),
    ([1.5, 2.5], None, TypeError, "integers"), ("text", None, TypeError, "tokenizer.encode"), (np.ones(4), None, TypeError, "integers"),
    ([3] * 65, None, lathe.Error, "found 65, the context holds 64"),
])
def test_wrong_input_is_refused_and_changes_nothing(model, tokens, weights, error, words):
    before = model.logits(IDS)
    trainer = lathe.Trainer(model, learning_rate=1.0)
    with pytest.raises(error, match=words):
        trainer.backward(tokens, weights)
    if weights is None:
        with pytest.raises(error, match=words):
            model.log_probabilities(tokens)
    with pytest.raises(lathe.Error, match="backward"):
        trainer.step()
    assert np.array_equal(model.logits(IDS), before)


def test_a_step_over_gradients_that_are_not_finite_is_refused(model):
    trainer = lathe.Trainer(model)
    weights = model.parameters
    kept = weights["model.norm.weight"][3]
    weights["model.norm.weight"][3] = math.nan
    before = weights["model.layers.0.mlp.up_proj.weight"].copy()
    assert math.isnan(trainer.backward(IDS))
    with pytest.raises(lathe.Error, match="the gradient of .* is -?nan at element .*; the weights are as they were"):
        trainer.step()
    assert np.array_equal(weights["model.layers.0.mlp.up_proj.weight"], before)
    weights["model.norm.weight"][3] = kept
    assert trainer.backward(IDS) > 0 and trainer.step() > 0 and trainer.steps == 1


@pytest.mark.parametrize("settings, words", [
    (dict(optimizer="adam"), "one of adamw, sgd, muon"), (dict(learning_rate=-1.0), "at least 0"), (dict(learning_rate=math.nan), "number"),
    (dict(beta2=1.5), "at most 0.9999999"), (dict(wight_decay=0.1), "optimizer.wight_decay"), (dict(clip=-1), "at least 0"),
    (dict(coefficients=[1.0]), "has 1 numbers, expected 3"), (dict(dropout=1.5), "at most 0.9"), (dict(dtype="float16"), "one of float32, bfloat16"),
    (dict(recompute=True), "one of none, block"), (dict(states="int4"), "one of float32, int8"), (dict(router_balance=-1), "at least 0"),
    (dict(ema=0.9), "optimizer.ema is for `lathe train`"), (dict(decayed=["lm_head.weight"]), "optimizer.decayed is not asked for"),
])
def test_settings_are_those_of_a_recipe(model, settings, words):
    with pytest.raises(lathe.Error, match=words):
        lathe.Trainer(model, **settings)
    lathe.Trainer(model, learning_rate=np.float32(1e-3), coefficients=[1, 2, 3], nesterov=False)


def test_which_models_have_a_trainer(model, tmp_path):
    with pytest.raises(lathe.Error, match="packed for inference") as error:
        lathe.Trainer(lathe.load(FOLDER, "float32"))
    assert "trainable=True" in error.value.hint
    with pytest.raises(lathe.Error, match="loaded with an adapter") as error:
        lathe.Trainer(lathe.load(GOLDENS / "gpt2", "float32", trainable=True, adapter=GOLDENS / "adapters" / "gpt2"))
    assert "give `adapter`" in error.value.hint
    with pytest.raises(lathe.Error, match="multiplies in int8"):
        lathe.Trainer(lathe.load(FOLDER, quantize="q8_0"), adapter=ADAPTER)
    with pytest.raises(TypeError, match="expected a lathe.Model, found a str"):
        lathe.Trainer("model")
    held = model.parameters["model.norm.weight"]
    with pytest.raises(lathe.Error, match="model.norm.weight from model.parameters"):
        lathe.Trainer(model)
    del held
    first = lathe.Trainer(model)
    with pytest.raises(lathe.Error, match="has one already"):
        lathe.Trainer(model)
    weights = model.parameters  # these stay where they are
    del first
    second = lathe.Trainer(model, learning_rate=0.1)
    before = weights["model.norm.weight"].copy()
    second.backward(IDS)
    second.step()
    assert not np.array_equal(weights["model.norm.weight"], before)
    with pytest.raises(lathe.Error, match="learning_rate: expected"):
        second.step(learning_rate=math.nan)


LATHE = pathlib.Path(sys.executable).with_name("lathe")
CONTEXT, BATCH, STEPS = 16, 2, 3
ADAPTER = dict(rank=4, alpha=8, dropout=0.1, targets="all-linear")


def trained_by_the_program(folder, golden, dtype, sections):
    """The tensors that three steps of `lathe train` make of a golden, and the ids that it saw: window after window."""
    ids = np.array([(7 * i * i + 3 * i) % 61 for i in range(CONTEXT * BATCH * STEPS + 1)], np.int32)
    np.save(folder / "ids.npy", ids)
    training = dict(context=CONTEXT, batch_size=BATCH, steps=STEPS, dtype=dtype, **sections.get("training", {}))
    recipe = {**sections, "model": {"checkpoint": str(GOLDENS / golden), **sections.get("model", {})}, "training": training,
              "data": {"train": str(folder / "ids.npy"), "order": "sequential"}, "schedule": {"name": "constant"}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))  # YAML holds JSON
    subprocess.run([LATHE, "train", "--config", folder / "recipe.yaml", "--output", folder / "run"], check=True, capture_output=True)
    return ids, read_safetensors(folder / "run/model" / ("adapter_model.safetensors" if "adapter" in sections else "model.safetensors"))


@pytest.mark.parametrize("golden, dtype, settings, sections", [
    ("llama_untied_gqa", "float32", dict(dropout=0.2, recompute="block"), dict(model=dict(dropout=0.2))),
    ("llama_untied_gqa", "bfloat16", {}, {}),
    ("mixtral", "float32", dict(router_balance=0.5), dict(training=dict(router_balance=0.5))),
    ("gpt2", "float32", dict(adapter=ADAPTER, dropout=0.1, seed=5), dict(adapter=ADAPTER, model=dict(dropout=0.1), training=dict(seed=5))),
    ("gpt2", "float32", dict(momentum=0.9, states="int8"), {}),
])
def test_steps_are_those_of_lathe_train(tmp_path, golden, dtype, settings, sections):
    """The program divides a step's sum of losses by its targets; so does the mean over two windows. SGD moves weights by the gradients'
    differences: sums of f32 in other orders, 1e-7 of it; bf16 rounds what they differ in to a 2^-9 at times; codes of 8 bits likewise."""
    optimizer = dict(learning_rate=0.1, momentum=settings.get("momentum", 0.0), weight_decay=0.01)
    states = {"states": settings["states"]} if "states" in settings else {}
    ids, wanted = trained_by_the_program(tmp_path, golden, dtype, {**sections, "optimizer": {"name": "sgd", **optimizer, **states}})
    adapter = "adapter" in settings
    model = lathe.load(GOLDENS / golden, dtype if adapter else "float32", trainable=not adapter)
    trainer = lathe.Trainer(model, optimizer="sgd", dtype=dtype, **{**optimizer, **settings})
    for step in range(STEPS):
        firsts = [CONTEXT * (step * BATCH + row) for row in range(BATCH)]
        trainer.backward([ids[first:first + CONTEXT + 1] for first in firsts])
        trainer.step()
    model.save(tmp_path / "saved")
    got = read_safetensors(tmp_path / "saved" / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    assert set(got) == set(wanted)
    before = {} if adapter else read_safetensors(GOLDENS / golden / "model.safetensors")
    moved = max(np.abs(wanted[n] - before.get(n, 0)).max() for n in wanted)
    bound = 1e-2 if dtype == "bfloat16" or states else 1e-5
    assert max(np.abs(got[n] - wanted[n]).max() for n in wanted) < bound * moved


@pytest.mark.parametrize("settings", [dict(dropout=0.3), dict(dtype="bfloat16"), dict(router_balance=1.0), dict(adapter={"targets": ["q_proj"]})])
def test_each_setting_changes_a_step_and_recompute_none(tmp_path, settings):
    def stepped(**settings):
        model = lathe.load(GOLDENS / "mixtral", "float32", trainable=True)
        trainer = lathe.Trainer(model, optimizer="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip=0, **settings)
        return trainer.backward(IDS), trainer.step(), model.logits(IDS)

    plain, changed = stepped(), stepped(**settings)
    assert plain[1] != changed[1] and not np.array_equal(plain[2], changed[2])
    again = stepped(recompute="block", **settings)
    assert again[:2] == changed[:2] and np.array_equal(again[2], changed[2])


def test_an_adapter_is_trained_beside_packed_weights(tmp_path):
    model = lathe.load(FOLDER, "float32", quantize="q4_0")
    before, text = model.logits(IDS), model.generate(IDS, **GREEDY)
    trainer = lathe.Trainer(model, learning_rate=0.02, adapter=ADAPTER)
    assert np.array_equal(model.logits(IDS), before)  # B is zero
    losses = []
    for _ in range(12):
        losses.append(trainer.backward(IDS))
        trainer.step()
    assert losses[-1] < losses[0] - 0.3
    after = model.generate(IDS, **GREEDY)
    assert after.cached_tokens == 0 and after.tokens != text.tokens
    model.save(tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8, "LORA")
    again = lathe.load(FOLDER, "float32", quantize="q4_0", adapter=tmp_path / "adapter")
    assert np.abs(again.logits(IDS) - model.logits(IDS)).max() < 1e-4 * np.abs(before).max()
    with pytest.raises(lathe.Error, match="without dtype and quantize"):
        model.save(tmp_path / "other", "bfloat16")
    del trainer
    with pytest.raises(lathe.Error, match="another adapter, are trained already"):
        lathe.Trainer(model, adapter=ADAPTER)
    goes_on = lathe.Trainer(model, learning_rate=0.0)  # with the adapter that is there
    assert goes_on.backward(IDS) < losses[0] - 0.3


@pytest.mark.parametrize("adapter, error, words", [
    (dict(targets=["q_prj"]), lathe.Error, "q_prj"), (dict(rank=4), lathe.Error, "adapter.targets is missing"),
    (dict(rnak=4, targets="all-linear"), lathe.Error, "adapter.rnak"), ("all-linear", TypeError, "found a str"),
    (dict(rank=0, targets="all-linear"), lathe.Error, "at least 1|of at least 1"),
])
def test_a_wrong_adapter_is_refused_and_a_right_one_can_follow(adapter, error, words):
    model = lathe.load(FOLDER, "float32")
    with pytest.raises(error, match=words):
        lathe.Trainer(model, adapter=adapter)
    lathe.Trainer(model, adapter=ADAPTER).backward(IDS)


RECIPE = """
model:
  architecture: {architecture: LlamaForCausalLM, vocab_size: 512, hidden_size: 48, intermediate_size: 128, num_hidden_layers: 2,
                 num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 128, tie_word_embeddings: true}
data: {train: stories.txt, tokenizer: {vocab_size: 512}}
training: {context: 64, batch_size: 8, steps: 150}
optimizer: {name: muon, learning_rate: 1.0e-2, scale: rms}
"""


def test_the_example_of_a_policy_gradient(tmp_path):
    """A model that tells of ten animals tells of foxes after twelve steps, and begins at a divergence of zero."""
    run = lambda *words: subprocess.run(list(map(str, words)), cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    run(sys.executable, ROOT / "scripts/make_stories.py", "stories.txt", "--stories", 400)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    run(LATHE, "train", "--config", "tiny.yaml", "--output", "run")
    shown = run(sys.executable, ROOT / "examples/policy_gradient.py", "run/model", "--steps", 12, "--output", "taught")
    steps = [(float(r), float(kl)) for r, kl in re.findall(r"^step \d+: reward (\S+), KL (\S+) a token$", shown, re.MULTILINE)]
    assert len(steps) == 13 and abs(steps[0][1]) < 1e-5
    rewards = [r for r, _ in steps]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3 and steps[-1][1] > 1e-3
    assert lathe.load(tmp_path / "taught").generate("Once there was a", greedy=True, max_new_tokens=8).text
