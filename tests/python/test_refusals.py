"""What is refused by name, and what stands beside it that is taken."""
import array
import collections
import pathlib
import shutil
import signal
import subprocess

import numpy as np
import pytest

import lathe
from conftest import GOLDENS

FOLDER = GOLDENS / "llama_untied_gqa"  # 61 ids, a context of 64


@pytest.fixture(scope="module")
def model():
    return lathe.load(FOLDER, "float32", trainable=True)


@pytest.fixture
def tokenizer(talking_model):
    return lathe.Tokenizer.load(talking_model)


@pytest.mark.parametrize("bad, words", [
    (array.array("f", [3, 4]), "integers, found an array of float32"), (memoryview(np.array([2.5, 3])), "integers, found an array of float64"),
    (memoryview(np.array([True])), "integers, found"), (bytearray(b"ab"), "a bytearray"), (memoryview(b"ab"), "a memoryview"),
    (np.ma.array([7, 8, 9], mask=[0, 1, 0]), "masked items"), ([[7, 8], [9]], "list at place 0: one dimension"),
    ([7, (8, 9)], "tuple at place 1: one dimension"), (np.array([[7, 8]], object), "ndarray at place 0: one dimension"),
])
def test_containers_that_hold_no_ids(model, tokenizer, bad, words):
    for use in (model.logits, model.trace, tokenizer.decode):
        with pytest.raises(TypeError, match=words):
            use(bad)


def test_a_buffer_of_two_dimensions_tells_its_shape(model):
    with pytest.raises(lathe.Error, match=r"one dimension, found the shape \(3, 2\)"):
        model.logits(memoryview(np.ones((3, 2), np.int32)))


def test_every_sequence_of_ids_is_a_prompt(model):
    ids, options = [7, 30, 11], dict(greedy=True, ignore_eos=True, max_new_tokens=4)
    logits, tokens = model.logits(ids), model.generate(ids, **options).tokens
    forms = [array.array("i", ids), array.array("q", ids), array.array("B", ids), collections.deque(ids), collections.UserList(ids),
             memoryview(np.array(ids)), np.ma.array(ids), [np.array(i) for i in ids]]
    for form in forms:
        assert np.array_equal(model.logits(form), logits), form
        assert model.generate(form, **options).tokens == tokens, form
    assert [c.tokens for c in model.generate([forms[0], forms[3], ids], **options)] == [tokens] * 3
    for bad in (bytearray(b"ab"), memoryview(b"ab")):
        with pytest.raises(TypeError, match=type(bad).__name__):
            model.generate(bad)


def test_negative_ids_have_no_text(tokenizer):
    for skip in (False, True):
        with pytest.raises(lathe.Error, match="number 2 is -4"):
            tokenizer.decode([7, 8, -4], skip_special_tokens=skip)
    with pytest.raises(lathe.Error, match="id.*-6"):
        tokenizer.token_text(-6)
    assert tokenizer.decode([7, 500]) == "a" and tokenizer.token_text(500) == ""


def test_several_texts_are_a_list_or_a_tuple(tokenizer):
    assert tokenizer(("ab", "c")) == tokenizer(["ab", "c"]) == [[7, 8], [9]]
    for bad, words in ((7, "found a int"), ({"ab"}, "found a set"), (("ab", None), "NoneType in it")):
        with pytest.raises(TypeError, match=words):
            tokenizer(bad)


def test_assigned_parameters_are_written_into_the_model():
    model = lathe.load(FOLDER, trainable=True)
    before, array = model.logits([5, 6]), model.parameters["model.norm.weight"]
    model.parameters["model.norm.weight"] *= 2
    assert np.allclose(model.logits([5, 6]), 2 * before, rtol=1e-5)
    model.parameters["model.norm.weight"] = np.zeros(array.shape)
    assert not array.any() and not model.logits([5, 6]).any()
    with pytest.raises(ValueError):
        model.parameters["model.norm.weight"] = np.zeros(array.shape[0] + 1)
    with pytest.raises(KeyError, match="no parameter"):
        model.parameters["model.norm.weigth"] = 1.0
    with pytest.raises(TypeError):
        del model.parameters["model.norm.weight"]


def test_misspelt_keywords_of_methods(model, tokenizer, tmp_path):
    for use, wrong, near in ((lambda **k: model.save(tmp_path / "s", **k), "quantise", "quantize"), (lambda **k: tokenizer("a", **k), "parse_specials", "parse_special"),
                             (lambda **k: tokenizer.encode("a", **k), "add_special_token", "add_special_tokens"),
                             (lambda **k: tokenizer.decode([7], **k), "skip_specials_tokens", "skip_special_tokens"),
                             (lambda **k: model.trace([7], **k), "filtre", "filter")):
        with pytest.raises(TypeError, match=f"{wrong}'; did you mean '{near}'"):
            use(**{wrong: None})


def test_paths(model, tmp_path, monkeypatch):
    for use in (lathe.load, lathe.Tokenizer.load, lathe.load_plugin, model.save, lambda p: lathe.load(FOLDER, speculate=p)):
        for path in ("some\0where", b"some\0where", pathlib.Path("some\0where")):
            with pytest.raises(ValueError, match="NUL character at place 4"):
                use(path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lathe.Error, match="save: .*empty path"):
        model.save("")
    with pytest.raises(lathe.Error, match="speculate: .*empty"):
        lathe.load(FOLDER, speculate="")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["context", "kv_memory", "threads"])
def test_whole_numbers_of_a_load(name):
    for bad in (True, np.True_, 2.5, "12"):
        with pytest.raises(TypeError, match=f"{name}: expected a whole number, found"):
            lathe.load(FOLDER, **{name: bad})
    for bad in (0, -3):
        with pytest.raises(lathe.Error, match=f"{name}.* 1 to .*{bad}"):
            lathe.load(FOLDER, **{name: bad})


def test_none_is_the_default(model, tmp_path):
    plain = lathe.load(FOLDER, None, context=None, kv_memory=None, threads=None)
    assert plain.context == 64 and np.array_equal(plain.logits([7, 8]), lathe.load(FOLDER).logits([7, 8]))
    model.save(tmp_path / "saved", None)
    assert np.array_equal(lathe.load(tmp_path / "saved", "float32").logits([7, 8]), model.logits([7, 8]))


def test_options_name_what_was_found(model):
    for stop, words in (({"b"}, "found a set"), (b"b", "found a bytes"), (["b", 2.5], "found a float in it")):
        with pytest.raises(TypeError, match=f"stop: .*{words}"):
            model.generate([7], stop=stop)
    assert model.generate([7], greedy=np.True_, max_tokens=2, ignore_eos=np.bool_(True)).tokens == model.generate([7], greedy=True, max_tokens=2, ignore_eos=True).tokens
    with pytest.raises(TypeError, match="top_k: expected a whole number"):
        model.generate([7], top_k=np.False_)


def test_one_token_has_no_loss(model):
    with pytest.raises(lathe.Error, match="at least two.*no next token"):
        model.gradients([7])
    assert np.isfinite(model.gradients([7, 8])[0])


def test_an_export_can_be_interrupted(model, tmp_path):
    """The handler raises only where it sees an unfinished export, so only from within one."""
    def handler(*_):
        if any(not entry.name.isdigit() for entry in tmp_path.iterdir()):
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        with pytest.raises(KeyboardInterrupt):
            for number in range(5000):
                model.save(tmp_path / str(number))
                shutil.rmtree(tmp_path / str(number))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert list(tmp_path.iterdir()) == []
    model.save(tmp_path / "again")
    assert np.array_equal(lathe.load(tmp_path / "again", "float32").logits([7, 8]), model.logits([7, 8]))


def test_the_program_tells_its_version():
    program = pathlib.Path(lathe._lathe.__file__).parent / "bin" / "lathe"
    if not program.exists():
        pytest.skip("this build of the package has no program")
    told = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (0, f"lathe {lathe.__version__}\n"), told.stderr
