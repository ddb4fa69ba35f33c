#!/usr/bin/env python3
"""Shows that lint refuses what it says it refuses: plants one breach of each rule in a copy of the tree.

Run by `make lint`.
"""
import json, os, pathlib, shutil, subprocess, sys, tempfile

import lint

# What is planted: the file, what of it becomes what (None: a file that is not there yet), and what lint must say.
BREACHES = {
    "a folder includes what stands above it": (
        "modules/tensor/tensor.cpp", '#include "', '#include "llm/load.h"\n#include "',
        "modules/tensor/tensor.cpp:.*tensor/ may not include llm/load.h"),
    "a room of the annex includes its neighbour": (
        "modules/text/unicode/utf8.cpp", '#include "', '#include "text/tokenizer/tokenizer.h"\n#include "',
        "text/unicode/ may not include text/tokenizer/tokenizer.h"),
    "what lies below llm/ includes the annex": (
        "modules/common/linear.h", '#include "', '#include "text/unicode/utf8.h"\n#include "',
        "common/ may not include text/unicode/utf8.h"),
    "an include is no path from the root": (
        "modules/tensor/tensor.cpp", '#include "', '#include "tensor.h"\n#include "', '"tensor.h" is not a path'),
    "a model asks for its mode": (
        "modules/llm/llama.cpp", "namespace lathe {", "namespace lathe {\nvoid f(bool training) { if (training) return; }",
        "modules/llm/llama.cpp:.*does not ask for its mode"),
    "a kernel is called outside of a dispatch": (
        "modules/common/linear.h", "namespace lathe {", "namespace lathe {\ninline void f() { kernel::rms_norm(); }",
        "modules/common/linear.h:.*a kernel is called outside of a dispatch"),
    "a kernel for CUDA has no test": (
        "kernels/rope.h", "namespace lathe {", "namespace lathe {\nvoid untried(Cuda);",
        "kernels/rope.h: no test of .* calls untried"),
    "a module names the CPU's own": (
        "modules/autograd/tape.h", "namespace lathe {", "namespace lathe {\nusing X = cpu::Y;", "stays in kernels/cpu"),
    "a module reads elements without a check": (
        "modules/common/linear.h", "namespace lathe {", "namespace lathe {\nauto x = t.data<float>();",
        "modules/common/linear.h:.*elements are read by Tensor::host"),
    "an operation makes a tensor on no device": (
        "modules/autograd/rms_norm.cpp", "namespace lathe {",
        "namespace lathe {\nTensor x() { return Tensor::empty({1, 2}, DType::f32); }",
        "modules/autograd/rms_norm.cpp:.*a tensor is made without a device"),
    "a comment names a file that is not there": (
        "modules/tensor/tensor.cpp", "\n", "\n// See tensor/nowhere.h.\n", "modules/tensor/tensor.cpp:.*nowhere.h"),
    "a page names a symbol that is not there": ("docs/chat.md", "\n", "\nSee `no_such_" + "name`.\n", "docs/chat.md:.*no_such_"),
    "the include table names a header that is not there": (
        "scripts/lint.py", '"llm/causal_lm.h"', '"llm/causal_lms.h"', "include table names llm/causal_lms.h"),
    "a file is too long": (
        "modules/tensor/tensor.cpp", "\n", "\n" + "//\n" * 800, "modules/tensor/tensor.cpp: [0-9]+ lines, at most 800"),
    "a path of one machine": ("docs/chat.md", "\n", "\n/ho" + "me/me/models\n", "docs/chat.md:.*an absolute path"),
    "README counts wrong": (
        "README.md", " lines take a model", "9 lines take a model", 'README.md: ".*lines take a model.*there are'),
    "README names a file that is not there": (
        "README.md", "`modules/llm/llama.cpp`", "`modules/llm/lama.cpp`", "README.md: there is no modules/llm/lama.cpp"),
    "the picture was edited by hand": ("docs/one_step.svg", "<title>", "<title>A ", "docs/one_step.svg: not what"),
    "a constant hides another one": (
        "kernels/cpu/gemm.cpp", "kPartRows = ", "kBlockColumns = 1;\nconstexpr int64_t kPartRows = ",
        "kernels/: kBlockColumns is a constant in kernels/cpu/gemm.cpp and in kernels/cpu/packed_layout.h"),
    "a folder outgrows its budget": (
        "modules/text/chat_template/page.h", None, "// A line.\n" * 800,
        "modules/text/chat_template/: .* lines, its budget is .*raised only by a commit that says why"),
    "a folder has no budget": ("modules/nowhere/loop.cpp", None, "int x;\n", "modules/nowhere/: 1 lines and no budget"),
    "a header twice": ("modules/text/unicode/utf8.cpp", "\n", '\n#include <string>\n#include <string>\n', "<string> is there twice"),
    "a file is not formatted": ("modules/tensor/tensor.cpp", "\n", "\nint   x;\n", "modules/tensor/tensor.cpp: not formatted"),
}

# What clang-tidy finds, in two files that it reads as one.
UNIT = ("modules/text/unicode/unicode.cpp", "modules/text/unicode/utf8.cpp")
TIDY_BREACHES = {
    "clang-tidy: what it looks for in the file alone": (
        UNIT[1], "\n", "\n#include <vector>\nusing std::vector;\n", "utf8.cpp:3:.*misc-unused-using-decls"),
    "clang-tidy: in one of several files": (
        UNIT[1], "namespace lathe {", "namespace lathe {\nbool planted(const std::string& s) { return s.size() == 0; }",
        "utf8.cpp:[0-9]+:.*readability-container-size-empty"),
    "clang-tidy: in a header": (
        "modules/text/unicode/utf8.h", "namespace lathe {",
        "namespace lathe {\ninline bool planted(const std::string& s) { return s.size() == 0; }",
        "modules/text/unicode/utf8.h:[0-9]+:.*readability-container-size-empty"),
    "clang-tidy: a file that does not compile": (UNIT[0], "\n", "\nint x = y;\n", "unicode.cpp:2:.*undeclared identifier"),
}


def copy_of_tree(folder):
    for path in lint.tracked():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(lint.ROOT / path, folder / path)
    subprocess.run(["git", "init", "-q", folder], check=True)


def lint_of(folder, *options):
    result = subprocess.run([sys.executable, "scripts/lint.py", *options], cwd=folder, capture_output=True, text=True,
                            env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")})
    return result.returncode, result.stdout + result.stderr


def write_compile_commands(folder):
    """A build that compiles UNIT and nothing else."""
    unit = folder / "build/Unity/unity_0.cxx"
    unit.parent.mkdir(parents=True)
    unit.write_text("".join(f'#include "{folder / path}"\n' for path in UNIT))
    command = f"ccache c++ -DNAME=\\\"x\\\" -I{folder} -I{folder}/modules -std=c++20 --param ggc-min-heapsize=1 -o x -c {unit}"
    (folder / "build/compile_commands.json").write_text(json.dumps([{"file": str(unit), "command": command}]))


def planted(folder, path, old, new):
    """Plants it; returns what takes it away again."""
    file = folder / path
    before = file.read_text() if old else None
    assert old is None or old in before, f"{path} has no {old!r}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(before.replace(old, new, 1) if old else new)
    return lambda: file.write_text(before) if old else file.unlink()


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy_of_tree(folder)
        write_compile_commands(folder)
        for check, pattern in (("rules", "rules: ok"), ("clang-tidy", r"^(?!.*(unicode|utf8)\.(cpp|h)\b)")):
            code, output = lint_of(folder, check)
            if not lint.re.search(pattern, output, lint.re.DOTALL):
                print(output + "test_lint: the tree itself breaks a rule")
                return 1
        for breach, (path, old, new, expected) in {**BREACHES, **TIDY_BREACHES}.items():
            take_away = planted(folder, path, old, new)
            check = "clang-tidy" if breach in TIDY_BREACHES else "clang-format" if "formatted" in breach else "rules"
            code, output = lint_of(folder, check)
            if code != 1 or not lint.re.search(expected, output):
                failed += 1
                print(f"test_lint: {breach}: lint ended with {code} and did not say {expected!r}:\n{output}")
            take_away()
    print(f"{len(BREACHES | TIDY_BREACHES) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
