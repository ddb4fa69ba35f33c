"""The package as such: names, docstrings, stubs, the command, the notebooks."""
import ast
import collections.abc
import inspect
import json
import pathlib
import re
import subprocess
import sys
import typing

import numpy
import pytest

import lathe
from conftest import GOLDENS, ROOT

STUB = ast.parse(pathlib.Path(lathe._lathe.__file__).with_name("_lathe.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}


def test_everything_public_is_documented():
    for name in set(lathe.__all__) - {"__version__"}:
        assert getattr(lathe, name).__doc__, name
        for member, value in inspect.getmembers(getattr(lathe, name)):
            if inspect.isclass(getattr(lathe, name)) and member in vars(getattr(lathe, name)) and not member.startswith("_"):
                assert value.__doc__ or name in ("Config", "Completion", "GenerationEvent", "TokenLogprobs", "Options"), (name, member)


def test_the_version_is_the_tree_s():
    assert f"VERSION {lathe.__version__} " in (ROOT / "CMakeLists.txt").read_text()


def test_the_stub_has_every_name_of_the_extension():
    defined = {node.name for node in STUB.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    compiled = {name for name, value in vars(lathe._lathe).items() if not name.startswith("_") and callable(value)}
    assert compiled <= defined
    for name, node in CLASSES.items():
        members = {n.name if isinstance(n, ast.FunctionDef) else n.target.id for n in node.body if isinstance(n, (ast.FunctionDef, ast.AnnAssign))}
        assert members >= {m for m in vars(getattr(lathe._lathe, name)) if not m.startswith("_")}, name
    assert ast.unparse(CLASSES["Error"].bases[0]) == "RuntimeError"


def annotation(node):
    """A stub's annotation as a type. Every name in it must be one that the stub imports or defines."""
    imported = {alias.name.split(".")[0] for n in STUB.body if isinstance(n, ast.Import) for alias in n.names}
    imported |= {alias.asname or alias.name for n in STUB.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    known = imported | set(CLASSES) | {"str", "int", "float", "bool", "list", "dict", "tuple", "None", "object"}
    assert {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} <= known, ast.unparse(node)
    import os
    names = {**vars(typing), **vars(collections.abc), **vars(lathe._lathe), "numpy": numpy, "typing": typing, "lathe": lathe, "os": os,
             "collections": collections}
    return eval(ast.unparse(node), names)


def matches(value, kind):
    """Whether a value is of an annotated type, elements included."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is type(None):
        return value is None
    if arguments and origin not in (list, dict, collections.abc.MutableMapping, tuple, numpy.ndarray):
        return any(matches(value, a) for a in arguments)
    if origin is numpy.ndarray:
        return isinstance(value, numpy.ndarray) and value.dtype == typing.get_args(arguments[1])[0]
    if origin is list:
        return isinstance(value, list) and all(matches(v, arguments[0]) for v in value)
    if origin in (dict, collections.abc.MutableMapping):
        return isinstance(value, origin) and all(matches(k, arguments[0]) and matches(v, arguments[1]) for k, v in value.items())
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(matches, value, arguments))
    return isinstance(value, (int, float) if kind is float else kind)


def test_the_stub_tells_the_truth(talking_model, tmp_path):
    import numpy.typing  # noqa: F401  annotations name it

    model = lathe.load(talking_model, trainable=True)
    stream = model.stream([1, 2], max_tokens=2, ignore_eos=True)
    messages = [{"role": "user", "content": "a"}]
    trainer = lathe.Trainer(model)
    calls = {
        ("Model", "hidden"): lambda: model.hidden([1]), ("Model", "logits"): lambda: model.logits([1]), ("Model", "trace"): lambda: model.trace([1]),
        ("Model", "gradients"): lambda: model.gradients([1, 2]), ("Model", "_save"): lambda: model._save(tmp_path / "s", "auto", None),
        ("Tokenizer", "load"): lambda: lathe.Tokenizer.load(talking_model), ("Tokenizer", "encode"): lambda: model.tokenizer.encode("a"),
        ("Tokenizer", "__call__"): lambda: model.tokenizer(["a"]), ("Tokenizer", "decode"): lambda: model.tokenizer.decode([7]),
        ("Tokenizer", "render_chat"): lambda: model.tokenizer.render_chat(messages), ("Tokenizer", "token_text"): lambda: model.tokenizer.token_text(7),
        ("Tokenizer", "encode_chat"): lambda: model.tokenizer.encode_chat(messages), ("Tokenizer", "token_id"): lambda: model.tokenizer.token_id("a"),
        ("Stream", "_next"): stream._next, ("Stream", "_result"): stream._result, ("Stream", "close"): stream.close,
        ("Model", "_log_probabilities"): lambda: model._log_probabilities([[1, 2]]), ("Trainer", "_step"): lambda: trainer._step(None),
        ("Trainer", "_backward"): lambda: trainer._backward([[1, 2]], None),
    }
    objects, checked = {"Model": model, "Tokenizer": model.tokenizer, "Config": model.config, "Stream": stream, "Trainer": trainer}, set()
    for name, node in CLASSES.items():
        for member in node.body:
            if not isinstance(member, ast.FunctionDef) or member.returns is None:
                continue
            for argument in member.args.args + member.args.kwonlyargs:
                if argument.annotation is not None:
                    annotation(argument.annotation)
            if any(ast.unparse(d) == "property" for d in member.decorator_list):
                value = getattr(objects[name], member.name)
            elif (name, member.name) in calls:
                value = calls[name, member.name]()
                checked.add((name, member.name))
            else:
                continue
            assert matches(value, annotation(member.returns)), (name, member.name, ast.unparse(member.returns), value)
    assert checked == calls.keys()


def test_the_options_are_those_of_the_one_list():
    model = lathe.load(GOLDENS / "llama_untied_gqa")
    listed = {name: f"{kind} | None" for name, kind, _ in lathe._lathe._request_options() if name != "num_sequences"}
    declared = {name: getattr(a, "__forward_arg__", a) for name, a in lathe.Options.__annotations__.items()}
    assert {name: a for name, a in declared.items() if name not in ("max_tokens", "tools", "chat_template_kwargs")} == listed
    for name in declared:
        assert name in lathe.Options.__doc__, name
        assert name in inspect.signature(lathe.Model.generate).parameters and name in inspect.signature(lathe.Model.stream).parameters
        model.generate([1], max_tokens=None if name == "max_new_tokens" else 1, **({name: None} if name != "max_tokens" else {}))


@pytest.mark.parametrize("where", ["notebooks", ".", "modules/llm", None])
def test_a_notebook_finds_its_files_from_anywhere(where, tmp_path, monkeypatch):
    """The cells that define where files are, as Jupyter would run them in the notebook's folder, and elsewhere with $LATHE_TREE."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        everything = "\n".join(cells)
        assert not re.search(r"""["'](models|modules|configs|docs)/""", everything.replace("in_tree(\"", "")), path.name
        found = re.search(r"^def in_tree.*?^    return found$", everything, re.S | re.M)
        if not found:
            continue
        monkeypatch.chdir(ROOT / where if where else tmp_path)
        monkeypatch.setenv("LATHE_TREE", "" if where else str(ROOT))
        names = {}
        exec("import os, pathlib\n" + found.group(0), names)
        assert names["in_tree"]("modules/llm").samefile(ROOT / "modules/llm")
        with pytest.raises(AssertionError, match="LATHE_TREE"):
            names["in_tree"]("modules/nothing.cpp")


def test_the_command_is_the_program():
    program = pathlib.Path(lathe._lathe.__file__).parent / "bin" / "lathe"
    if not program.exists():
        pytest.skip("this build of the package has no program")

    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "lathe", *arguments], capture_output=True, text=True)

    listed = run("models")
    assert listed.returncode == 0 and "LlamaForCausalLM" in listed.stdout, listed.stderr
    assert run("generat").returncode == 2
    missing = run("inspect", "--model", "/nothing here")
    assert missing.returncode == 1 and "/nothing here" in missing.stderr


def test_without_its_program_the_command_says_so(tmp_path, monkeypatch, capsys):
    from lathe import __main__

    monkeypatch.setattr(lathe._lathe, "__file__", str(tmp_path / "_lathe.so"))
    assert __main__.main() == 1
    assert re.fullmatch(r"lathe: error: .*bin/lathe: No such file or directory\n  hint: .*\n", capsys.readouterr().err)
