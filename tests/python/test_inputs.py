"""What is taken for tokens, prompts, options and paths; and what is refused, with which words."""
import json
import os
import shutil
import warnings

import numpy as np
import pytest

import lathe
from conftest import GOLDENS, read_safetensors, write_safetensors

FOLDER = GOLDENS / "llama_untied_gqa"  # 61 ids, a context of 64


@pytest.fixture(scope="module")
def model():
    return lathe.load(FOLDER, "float32", trainable=True)


def uses(model):
    return [model.logits, model.hidden, model.trace, model.gradients, lambda ids: model.generate(ids, max_new_tokens=1)]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_whole_numbers_of_any_width_are_ids(model, dtype):
    expected = model.logits([1, 2, 60])
    for array in (np.array([1, 2, 60], dtype), np.array([1, 0, 2, 0, 60], dtype)[::2], np.array([60, 2, 1], dtype)[::-1]):
        assert np.array_equal(model.logits(array), expected)
    assert np.array_equal(model.logits([dtype(1), 2, dtype(60)]), expected)
    assert np.array_equal(model.logits((1, 2, 60)), expected)


@pytest.mark.parametrize("bad, words", [
    (np.array([1.0, 2.0], np.float32), "float32"), (np.array([1, 2], np.float16), "float16"), (np.array([1 + 0j]), "complex"),
    (np.ones(3, bool), "bool"), ([True, False], "bool at place 0"), ([1, 2.0], "float at place 1"), ([1, None], "NoneType at place 1"),
    ([1, "2"], "str at place 1"), ("12", "text"), (b"12", "bytes"), ({1: 2}, "dict"), (None, "NoneType"), (7, "int"),
    (np.array([1, None], object), "NoneType at place 1"), ([[1, 2]], "list at place 0"),
])
def test_what_is_no_id_is_a_type_error(model, bad, words):
    for use in uses(model)[:4]:
        with pytest.raises(TypeError, match=words):
            use(bad)


@pytest.mark.parametrize("bad, words", [
    (np.array([1, 2**31], np.uint32), "number 1 is 2147483648"), (np.array([-(2**31) - 1]), "number 0 is -2147483649"),
    (np.array([2**64 - 1], np.uint64), "18446744073709551615"), ([3, 2**32], "number 1 is 4294967296"), ([2**80], "1208925819614629174706176"),
])
def test_what_no_id_can_be_is_a_type_error_that_says_so(model, bad, words):
    for use in uses(model):
        with pytest.raises(TypeError, match=words):
            use(bad)


@pytest.mark.parametrize("bad, words", [
    (np.array([[1, 2], [3, 4]]), r"one dimension.*2, 2"), (np.array(5), r"one dimension.*\(\)"), ([61], "vocabulary has 61"),
    (np.array([1, -1]), "vocabulary"), ([], "token|one"),
])
def test_tokens_that_this_model_cannot_take(model, bad, words):
    for use in uses(model):
        with pytest.raises(lathe.Error, match=words):
            use(bad)


def test_decoding_refuses_the_same(talking_model):
    decode = lathe.load(talking_model).tokenizer.decode
    for bad in (np.array([7.0]), np.array([True]), [7.5], "7"):
        with pytest.raises(TypeError, match="tokens"):
            decode(bad)
    with pytest.raises(TypeError, match="no id"):
        decode(np.array([2**32 + 7]))
    assert decode(np.array([7, 8], np.uint64)) == "ab" == decode((7, 8))


def test_no_more_tokens_than_the_context(model):
    for use in uses(model):
        with pytest.raises(lathe.Error, match="65.*64"):
            use([5] * 65)
    assert model.logits([5] * 64).shape == (64, 61)
    with pytest.warns(UserWarning, match="context 100 is beyond the 64"):
        longer = lathe.load(FOLDER, "float32", context=100)
    assert longer.context == 100 and longer.logits([5] * 100).shape == (100, 61)
    shorter = lathe.load(FOLDER, "float32", context=10)
    for use in (shorter.logits, shorter.generate):
        with pytest.raises(lathe.Error, match="11.*10"):
            use([5] * 11)
    with pytest.raises(lathe.Error, match="learned positions"):
        lathe.load(GOLDENS / "gpt2", context=100000)


def test_lists_that_are_no_prompt(talking_model):
    model = lathe.load(talking_model)
    for bad, words in (([1.5], "list of float"), ([1, None], "int and NoneType"), ({"role": "user"}, "found a dict"), (None, "NoneType"),
                       ([1, {"role": "user", "content": "a"}], "int and dict"), ([True], "list of bool"), (7, "found a int"),
                       (b"text", "bytes"), ({1, 2}, "set")):
        with pytest.raises(TypeError, match=words):
            model.generate(bad)
    with pytest.raises(TypeError, match="prompt 1 of the batch.*float"):
        model.generate(["a", [0.5]])
    with pytest.raises(TypeError, match="prompt 2 of the batch.*4294967296"):
        model.generate(["a", [1], [2**32]])
    with pytest.raises(TypeError, match="generate takes a batch"):
        model.stream(["a", "b"])
    for bad in ("text", {"role": "user", "content": "a"}, [["role", "user"]], [None]):
        with pytest.raises(TypeError, match="messages"):
            model.tokenizer.render_chat(bad)


def test_text_that_is_no_unicode_and_numbers_that_json_lacks(talking_model):
    model = lathe.load(talking_model)
    lone = "a\udfffb"
    for use in (model.tokenizer.encode, model.tokenizer, model.tokenizer.token_id, model.generate, lambda t: model.generate("a", stop=t),
                lambda t: model.generate([{"role": t, "content": "a"}]), lambda t: model.generate(["b", t])):
        with pytest.raises(UnicodeEncodeError, match="surrogates"):
            use(lone)
    for number in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(lathe.Error, match="messages: "):
            model.generate([{"role": "user", "content": "a", "score": number}])
        for option in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
            with pytest.raises(lathe.Error, match=option):
                model.generate("a", **{option: number})


def test_misspelt_keywords_are_named_with_the_nearest(model):
    for use, wrong, near in ((lambda **k: model.generate([1], **k), "temprature", "temperature"), (lambda **k: model.stream([1], **k), "topk", "top_k"),
                             (lambda **k: lathe.load(FOLDER, **k), "quantise", "quantize"), (lambda **k: lathe.load(FOLDER, **k), "thread", "threads"), (lambda **k: lathe.load(FOLDER, **k), "dtpye", "dtype")):
        with pytest.raises(TypeError, match=f"{wrong}'; did you mean '{near}'"):
            use(**{wrong: 1})
    with pytest.raises(TypeError, match="no keyword 'zzz'$"):
        model.generate([1], zzz=1)


def test_options_of_another_kind_are_named(model):
    for options, words in ((dict(temperature="hot"), "temperature: expected a number"), (dict(top_k=2.5), "top_k: expected a whole number"),
                           (dict(greedy=1), "greedy: expected True or False"), (dict(seed=-1), "seed"), (dict(max_new_tokens=True), "max_new_tokens"),
                           (dict(max_tokens=3, max_new_tokens=3), "max_tokens is another name"), (dict(stop=7), "stop"), (dict(stop=["a", 7]), "stop")):
        with pytest.raises(TypeError, match=words):
            model.generate([1], **options)
    with pytest.raises(lathe.Error, match="greedy.*temperature"):
        model.generate([1], greedy=True, temperature=0.5)
    assert len(model.generate([1], max_tokens=3, ignore_eos=True, temperature=None, stop=None, seed=None).tokens) == 3
    assert model.generate([1], top_k=np.int64(5), temperature=np.float32(1), seed=np.uint64(2**64 - 1), max_tokens=2).seed == 2**64 - 1


@pytest.fixture
def smaller(tmp_path):
    """The golden with the first 48 tokens of its vocabulary."""
    config, tensors = json.loads((FOLDER / "config.json").read_text()), read_safetensors(FOLDER / "model.safetensors")
    folder = tmp_path / "smaller"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 48}))
    write_safetensors(folder / "model.safetensors", {n: t[:48] if len(t) == config["vocab_size"] else t for n, t in tensors.items()})
    return folder


def test_settings_of_a_load(model, smaller):
    ids, options = list(range(3, 40)), dict(greedy=True, ignore_eos=True, max_new_tokens=20)
    plain = lathe.load(FOLDER, "float32")
    expected = plain.generate(ids, **options).tokens
    for settings in (dict(kv_memory=1 << 20), dict(speculate="ngram"), dict(speculate=FOLDER), dict(threads=1), dict(context=60),
                     dict(kv_cache_dtype="float32"), dict(quantize=None)):
        assert lathe.load(FOLDER, "float32", **settings).generate(ids, **options).tokens == expected, settings
    coarse = lathe.load(FOLDER, "float32", kv_cache_dtype="q8_0").logits(ids)
    exact = plain.logits(ids)
    assert 0 < np.abs(coarse - exact).max() < 0.1 * np.abs(exact).max()
    for settings, words in ((dict(kv_cache_dtype="q9"), "q9"), (dict(context=-1), "context"), (dict(kv_memory=-1), "kv_memory"),
                            (dict(speculate=smaller), "48 tokens.*61"), (dict(speculate="nobody/there"), "nobody/there"), (dict(threads=0), "1 to 1024")):
        with pytest.raises(lathe.Error, match=words):
            lathe.load(FOLDER, "float32", **settings)
    with pytest.raises(lathe.Error, match="quantize q8_0 and trainable"):
        lathe.load(FOLDER, quantize="q8_0", trainable=True)
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(lathe.Error, match="trainable.*float32"):
            lathe.load(FOLDER, dtype, trainable=True)


def test_progress_is_told_and_ends_a_load_by_raising(capfd):
    told = []
    lathe.load(FOLDER, progress=lambda read, total: told.append((read, total)))
    size = (FOLDER / "model.safetensors").stat().st_size
    assert told[-1][0] == told[-1][1] and 0.8 * size < told[-1][1] <= size
    assert all(read <= total for read, total in told)
    with pytest.raises(ZeroDivisionError):
        lathe.load(FOLDER, progress=lambda read, total: 1 / 0)
    lathe.load(FOLDER)  # nobody watches
    assert capfd.readouterr() == ("", "")


def test_the_bar_is_drawn_of_what_takes_long(capsys, monkeypatch):
    from lathe import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.Bar("model.gguf")
    bar(1, 4)
    assert capsys.readouterr().err == ""
    now[0] = 2.0
    bar(2_000_000_000, 4_000_000_000)
    bar.close()
    assert capsys.readouterr().err == f"\rloading model.gguf [{'#' * 15}{' ' * 15}] 2.00 of 4.00 GB\n"


def test_home_and_another_working_folder(talking_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (talking_model / "generation_config.json").write_text(json.dumps({"do_sample": True, "temperature": 0.9, "top_k": 1}))
    monkeypatch.chdir(tmp_path)
    model = lathe.load("talking", "float32")  # a relative path
    assert model.path == str(talking_model)
    expected = model.generate("once upon", max_new_tokens=8, ignore_eos=True).tokens
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert model.generate("once upon", max_new_tokens=8, ignore_eos=True).tokens == expected
    shutil.move(talking_model / "generation_config.json", tmp_path / "gone.json")  # it was read when the model was loaded
    assert model.generate("once upon", max_new_tokens=8, ignore_eos=True).tokens == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save("~/saved")
    for path in ("~/talking", os.fsencode("~/saved")):
        assert np.array_equal(lathe.load(path, "float32").logits([1, 2]), model.logits([1, 2]))
    assert lathe.Tokenizer.load("~/talking").encode("abc") == model.tokenizer.encode("abc")
    with pytest.raises(lathe.Error, match=str(tmp_path / "nothing.so")):
        lathe.load_plugin("~/nothing.so")
