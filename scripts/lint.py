#!/usr/bin/env python3
"""Checks the rules of the house over the tracked sources: `make lint`.

1. which folder may include which (the table of docs/architecture.md), 2. no `if (training|cache|cuda|quantized)` in a
model file: modes are dispatched below the models, 3. no file over 800 lines, 4. no absolute path of one machine,
5. the numbers of lines that README states, the pictures of docs/ (draw_pictures.py), and that what comments and pages
name is there (check_comments.py), 6. no folder over its budget of lines, 7. clang-format, 8. clang-tidy with the checks of
.clang-tidy. All violations are printed, one a line; exit code 1 if any. scripts/test_lint.py plants a breach of each rule.

clang-tidy takes minutes, most of them for the headers of libraries. So it reads together what the build compiles as one, and what
it found clean is remembered in $XDG_CACHE_HOME/lathe (~/.cache/lathe) by a hash of all that it read: the file, the headers of
the tree that it includes, its flags and the checks. Only files that are not known to be clean are read. That each file would
compile by itself is seen by `lint.py alone`, which `make check-long` runs.
"""
import argparse, concurrent.futures, functools, hashlib, itertools, json, os, pathlib, re, shlex, subprocess, sys, tempfile

import check_comments

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINE_LIMIT = 800

# What each folder may include besides itself. An entry is a folder or one header.
BELOW_COMMON = ["tensor", "kernels", "formats", "config", "autograd"]
TEXT = ["text/unicode", "text/tokenizer", "text/chat_template", "text/grammar"]  # the annex: nothing below llm/ knows of text
MAY_INCLUDE = {
    "tensor": [],
    "kernels": ["tensor/dtype.h", "tensor/errors.h", "tensor/threads.h", "tensor/cpu_features.h", "tensor/random.h",
                "tensor/profiler.h"],
    "formats": ["tensor"],
    "config": ["tensor", "formats"],
    "autograd": ["tensor", "kernels"],
    "common": BELOW_COMMON,
    "attention": BELOW_COMMON + ["common"],
    "block": BELOW_COMMON + ["common", "attention"],
    "load_model": ["tensor", "formats", "config", "autograd/parameter.h"],
    "text/unicode": ["tensor"],
    "text/tokenizer": ["tensor", "formats", "text/unicode"],
    "text/chat_template": ["tensor", "formats", "text/unicode", "text/tokenizer"],
    "text/grammar": ["tensor", "formats", "text/unicode", "text/tokenizer"],
    "llm": BELOW_COMMON + TEXT + ["common", "attention", "block", "load_model"],
    # Everything above, but a concrete model.
    "generate": BELOW_COMMON + TEXT + ["common", "attention", "block", "load_model",
                                       "llm/causal_lm.h", "llm/family.h", "llm/registry.h", "llm/load.h"],
}
MAY_INCLUDE["train"] = MAY_INCLUDE["generate"] + ["llm/export.h", "llm/tensor_parallel.h", "llm/adapter.h", "llm/adapter_file.h",
                                                    "generate"]
MAY_INCLUDE["evaluate"] = MAY_INCLUDE["generate"] + ["generate"]
MAY_INCLUDE["serve"] = MAY_INCLUDE["generate"] + ["llm/trace.h", "generate"]
MAY_INCLUDE["mpi"] = ["tensor"]
FOLDERS = set(MAY_INCLUDE) | {"cli", "python", "tests"}

# What README says of lines, and what it counts; the reading order names its own files.
README_COUNTS = {
    r"([\d,]+) lines take a model": ["modules/tensor", "modules/autograd", "modules/common", "modules/attention",
                                    "modules/block", "modules/load_model", "modules/llm"],
    r"([\d,]+) more to text": ["modules/generate"],
    r"([\d,]+) lines of CPU kernels": ["kernels/cpu"],
    r"([\d,]+) of CUDA kernels": ["kernels/cuda"],
}
READING_ORDER = re.compile(r"\*\*Read it: ([\d,]+) lines.*?\n\n", re.DOTALL)
README_TOLERANCE = 0.05

# The lines of code that each folder may have, those below it included unless they have a budget of their own. A folder
# that grows past its budget is to be made simpler first; only a commit that says why raises a ceiling.
BUDGET = {
    "kernels": 10160,
    "kernels/cuda": 6000,
    "modules/tensor": 2820,
    "modules/formats": 3030,
    "modules/config": 2170,
    "modules/autograd": 3410,
    "modules/common": 610,
    "modules/attention": 880,
    "modules/block": 200,
    "modules/load_model": 1450,
    "modules/llm": 4790,
    "modules/generate": 3900,
    "modules/evaluate": 920,
    "modules/train": 6370,
    "modules/serve": 6920,
    "modules/mpi": 75,
    "modules/cli": 4860,
    "modules/text/unicode": 910,
    "modules/text/tokenizer": 6840,
    "modules/text/chat_template": 5500,
    "modules/text/grammar": 2000,
    "python": 3330,
    "scripts": 9660,
    "tests": 31850,
    "tests/cuda": 2600,
    "tests/simt": 3600,
    "examples": 140,
}
CODE = ("h", "cpp", "cu", "py", "sh")

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
UNITY_INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)
CONDITIONAL = re.compile(r"\bif\s*(?:constexpr\s*)?(?=\()")
MODE = re.compile(r"training|cache|cuda|quantized", re.IGNORECASE)
MACHINE_PATH = re.compile(r"/(root|home/[a-z]+|tmp/[a-z]+|work)/")


def tracked(*patterns):
    output = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
                            cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return sorted(f for f in output.split("\0") if f and (ROOT / f).is_file())


def folder_of(path):
    """The folder of the table that a file, or an included header, lies in."""
    parts = path.removeprefix("modules/").split("/")
    return "/".join(parts[:2]) if parts[0] == "text" else parts[0]


def check_includes(path, lines):
    allowed, seen = MAY_INCLUDE.get(folder_of(path)), set()
    for number, line in enumerate(lines, 1):
        if line.startswith("#include "):
            if line in seen:
                yield f"{path}:{number}: {line} is there twice"
            seen.add(line)
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match[1]
        target = folder_of(header)
        if "/" not in header or target not in FOLDERS:
            yield f'{path}:{number}: "{header}" is not a path from the root or modules/ (write "folder/file.h")'
        elif allowed is not None and target != folder_of(path) and target not in allowed and header not in allowed:
            yield f"{path}:{number}: {folder_of(path)}/ may not include {header} (docs/architecture.md, the include table)"


def conditions(line):
    """What stands between the parentheses of each `if` of a line."""
    for match in CONDITIONAL.finditer(line):
        depth = 0
        for end in range(match.end(), len(line)):
            depth += (line[end] == "(") - (line[end] == ")")
            if depth == 0:
                break
        yield line[match.end():end + 1]


def check_conditionals(path, lines):
    if re.fullmatch(r"modules/llm/.*\.cpp", path):
        for number, line in enumerate(lines, 1):
            if any(MODE.search(condition) for condition in conditions(line.split("//")[0])):
                yield f"{path}:{number}: a model file does not ask for its mode; the ops and the batch know it"


DISPATCH = re.compile(r"\bdispatch(?:_device|_size)?\(")
COMMENT = re.compile(r"//[^\n]*")
MAKES_TENSOR = re.compile(r"\bTensor::(?:empty|zeros)\(")


def arguments(text, begin):
    """The end of the parentheses that open before `begin`, and the number of arguments between."""
    depth, count = 1, 1
    for end in range(begin, len(text)):
        depth += (text[end] in "([{") - (text[end] in ")]}")
        count += text[end] == "," and depth == 1
        if depth == 0:
            return end, count
    return len(text), count


def check_devices(path, lines):
    """Kernels are called inside a dispatch alone, which chooses their device; ops and modules make tensors on a device that
    they name; elements are read by `host`, which checks that they can be."""
    if not path.startswith("modules/"):
        return
    text = COMMENT.sub(lambda comment: " " * len(comment[0]), "\n".join(lines))
    number = lambda at: text.count("\n", 0, at) + 1
    inside = [(call.end(), arguments(text, call.end())[0]) for call in DISPATCH.finditer(text)]
    for call in re.finditer(r"\bkernel::", text):
        if not any(begin <= call.start() < end for begin, end in inside):
            yield f"{path}:{number(call.start())}: a kernel is called outside of a dispatch (autograd/dispatch.h)"
    for call in re.finditer(r"\bcpu::", text):
        yield f"{path}:{number(call.start())}: what is the CPU's alone stays in kernels/cpu"
    folder = folder_of(path)
    if folder not in ("autograd", "tensor"):
        for call in re.finditer(r"\bdata<", text):
            yield f"{path}:{number(call.start())}: elements are read by Tensor::host, which checks the device"
    if folder in ("autograd", "common", "attention", "block"):
        for call in MAKES_TENSOR.finditer(text):
            if arguments(text, call.end())[1] < 3:
                yield f"{path}:{number(call.start())}: a tensor is made without a device"


def check_text(path, lines):
    if len(lines) > LINE_LIMIT and path.endswith((".h", ".cpp", ".cu", ".py", ".sh")):
        yield f"{path}: {len(lines)} lines, at most {LINE_LIMIT}"
    for number, line in enumerate(lines, 1):
        if MACHINE_PATH.search(line):
            yield f"{path}:{number}: an absolute path of one machine: {line.strip()[:80]}"


def check_readme():
    readme = (ROOT / "README.md").read_text()
    claims = [(re.search(pattern, readme), tracked(*(f"{folder}/*.{kind}" for folder in folders for kind in ("h", "cpp", "cu"))))
              for pattern, folders in README_COUNTS.items()]
    order = READING_ORDER.search(readme)
    claims.append((order, re.findall(r"`((?:modules|kernels)/[^`]+)`", order[0]) if order else []))
    for claim, paths in claims:
        if not claim:
            yield "README.md: a number of lines is not where scripts/lint.py looks for it"
            continue
        missing = [path for path in paths if not (ROOT / path).is_file()]
        counted = sum(len((ROOT / path).read_text().splitlines()) for path in paths if path not in missing)
        stated = int(claim[1].replace(",", ""))
        yield from (f"README.md: there is no {path}" for path in missing)
        if abs(stated - counted) > README_TOLERANCE * counted:
            yield f'README.md: "{claim[0].splitlines()[0]}": there are {counted:,} lines'


def check_pictures():
    result = subprocess.run([sys.executable, ROOT / "scripts/draw_pictures.py", "--check"], capture_output=True, text=True)
    if result.returncode:
        yield from (result.stdout or result.stderr).splitlines()


def check_table():
    """That each header named in the table is there."""
    for header in sorted({entry for entries in MAY_INCLUDE.values() for entry in entries if entry.endswith(".h")}):
        if not any((ROOT / folder / header).is_file() for folder in ("modules", ".")):
            yield f"scripts/lint.py: the include table names {header}, which is not there"


def lines_by_folder():
    """The present count of each folder of BUDGET; what no budget covers is counted under its own folder."""
    counts = dict.fromkeys(BUDGET, 0)
    for path in tracked(*(f"*.{kind}" for kind in CODE)):
        folders = [str(parent) for parent in pathlib.PurePath(path).parents]  # the nearest first
        folder = next((f for f in folders if f in BUDGET), folders[0])
        counts[folder] = counts.get(folder, 0) + len((ROOT / path).read_bytes().splitlines())
    return counts


def check_cuda_cases():
    """Every function with an overload for CUDA is called in tests/cuda, tests/device, or what these share with tests/kernels."""
    tests = "".join((ROOT / path).read_text() for path in tracked("tests/cuda/*", "tests/device/*", "tests/kernels/*.h"))
    for path in tracked(":(glob)kernels/*.h"):
        for name in sorted(set(re.findall(r"\b(\w+)\(Cuda\b", (ROOT / path).read_text()))):
            if not re.search(rf"\bkernel::{name}\b", tests):
                yield f"{path}: no test of tests/cuda or tests/device calls {name}"


NAMESPACE = re.compile(r"^namespace(?: ([\w:]+))? \{")
CONSTANT = re.compile(r"^(?:static |inline )*(?:constexpr|const) [^=({]*?\b(\w+)(?:\[[^\]]*\])*(?: =|\{)")


def check_constants():
    """Files that are compiled as one see each other's constants: one of a nearer namespace would silently take another's place."""
    found = {}  # by unit and name: the files by namespace, "" the unnamed one
    for path in tracked("kernels/*.cpp", "kernels/*.h", "modules/*.cpp", "modules/*.h"):
        unit, stack = "kernels" if path.startswith("kernels/") else folder_of(path), []
        for line in (ROOT / path).read_text().splitlines():
            if opened := NAMESPACE.match(line):
                stack.append(opened[1] or "")
            elif line.startswith("}  // namespace"):
                stack = stack[:-1]
            elif name := CONSTANT.match(line):
                found.setdefault((unit, name[1]), {}).setdefault("::".join(stack), path)
    for (unit, name), files in sorted(found.items()):
        if len(files) > 1 and any(namespace.endswith("::") for namespace in files):
            yield f"{unit}/: {name} is a constant in {' and in '.join(sorted(files.values()))}, in two namespaces: give one another name"


def check_budget():
    for folder, count in sorted(lines_by_folder().items()):
        if folder not in BUDGET:
            yield f"{folder}/: {count:,} lines and no budget (BUDGET in scripts/lint.py)"
            continue
        print(f"lint: budget: {folder}: {count:,} of {BUDGET[folder]:,} lines")
        if count > BUDGET[folder]:
            yield (f"{folder}/: {count:,} lines, its budget is {BUDGET[folder]:,}: make it simpler; the ceiling (BUDGET in "
                   "scripts/lint.py) is raised only by a commit that says why")


def check_rules():
    yield from check_readme()
    yield from check_table()
    yield from check_constants()
    yield from check_pictures()
    yield from check_comments.violations(tracked())
    yield from check_cuda_cases()
    yield from check_budget()
    for path in tracked():
        try:
            lines = (ROOT / path).read_text().splitlines()
        except UnicodeDecodeError:
            continue  # binary: goldens, the fuzzers' corpus
        yield from check_text(path, lines)
        if path.endswith((".h", ".cpp", ".cu")):
            yield from check_includes(path, lines)
            yield from check_devices(path, lines)
            yield from check_conditionals(path, lines)


def check_format():
    result = subprocess.run(["clang-format", "--dry-run", "-Werror", *tracked("*.h", "*.cpp", "*.cu")],
                            cwd=ROOT, capture_output=True, text=True)
    misformatted = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error:", result.stderr, re.MULTILINE)))
    for path in misformatted:
        yield f"{path}: not formatted (make format)"
    if result.returncode and not misformatted:
        yield f"clang-format: {result.stderr.strip()}"


@functools.cache
def included(path):
    """The file and the headers of the tree that it includes, however deep."""
    files, queue = set(), [path]
    while queue:
        current = queue.pop()
        if current in files:
            continue
        files.add(current)
        for line in (ROOT / current).read_text().splitlines():
            if match := INCLUDE.match(line):
                queue += [f for f in (match[1], "modules/" + match[1]) if (ROOT / f).is_file()]
    return sorted(files)


def tidy_key(path, flags, tool):
    digest = hashlib.sha256(f"{tool}\0{flags}".replace(str(ROOT), "").encode())
    for file in [".clang-tidy", *included(path)]:
        digest.update(file.encode() + b"\0" + (ROOT / file).read_bytes())
    return digest.hexdigest()


def units(build):
    """The files that the build compiles as one, and the flags of each such unit."""
    for command in json.loads((ROOT / build / "compile_commands.json").read_text()):
        words = shlex.split(command["command"].split(" -o ")[0])
        flags = list(itertools.dropwhile(lambda word: not word.startswith("-"), words))
        file = pathlib.Path(command["file"])
        one = UNITY_INCLUDE.findall(file.read_text()) if "/Unity/" in command["file"] else [str(file)]
        yield [os.path.relpath(path, ROOT) for path in one], flags


def tidy(flags, markers):
    """Lines of what is wrong in some files that are compiled as one. `markers`: the file that says of each that it is clean.

    They are read as one file, whose lines are then named by where they come from: some checks look at the main file alone.
    """
    lines, origin = [], []
    for path in markers:
        text = (ROOT / path).read_text().splitlines()
        lines += text
        origin += [f"{path}:{number}" for number in range(1, len(text) + 1)]
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as unit:
        unit.write("\n".join(lines) + "\n")
        unit.flush()
        result = subprocess.run(["clang-tidy", "--quiet", f"--config-file={ROOT}/.clang-tidy", unit.name, "--", *flags,
                                 "-Wno-unknown-warning-option", "-Qunused-arguments"], cwd=ROOT, capture_output=True, text=True)
        found = re.findall(r"^.*?: (?:warning|error): .*$", result.stdout, re.MULTILINE)
        found = [re.sub(rf"^{unit.name}:(\d+)", lambda line: origin[int(line[1]) - 1], line) for line in found]
    if result.returncode and not found:
        found = [f"{' '.join(markers)}: clang-tidy: {result.stderr.strip()[-300:]}"]
    for marker in markers.values() if not found else []:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return [line.replace(f"{ROOT}/", "") for line in found]


def check_tidy(build):
    tool = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True).stdout
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lathe" / "clang-tidy"
    known, left = set(tracked("modules/*.cpp", "kernels/*.cpp")), []
    for files, flags in units(build):
        markers = {path: folder / tidy_key(path, flags, tool) for path in files if path in known}
        known -= set(markers)
        left.append((flags, {path: marker for path, marker in markers.items() if not marker.exists()}))
    yield from (f"{build}/compile_commands.json does not name {path}" for path in sorted(known))
    # The largest first, so that no long one is left alone at the end.
    left.sort(key=lambda unit: -sum((ROOT / path).stat().st_size for path in unit[1]))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = set()  # a header's finding shows up in every unit that includes it
        for lines in pool.map(lambda unit: tidy(*unit), (unit for unit in left if unit[1])):
            found.update(lines)
    yield from sorted(found)


def check_alone(build):
    """That each file includes what it needs, although it is compiled behind others."""
    def compiled(file, flags):
        command = ["clang++", "-fsyntax-only", "-w", "-Qunused-arguments", *flags, file]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return re.findall(r"^.*?: (?:fatal )?error: .*$", result.stderr, re.MULTILINE)[:1]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for lines in pool.map(lambda one: compiled(*one), [(file, flags) for files, flags in units(build) for file in files]):
            yield from lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build folder with compile_commands.json")
    parser.add_argument("checks", nargs="*", metavar="CHECK", default=["rules", "clang-format", "clang-tidy"],
                        help="rules, clang-format, clang-tidy (these by default), alone (each file compiled by itself)")
    arguments = parser.parse_args()
    checks = {"rules": check_rules, "clang-format": check_format, "clang-tidy": lambda: check_tidy(arguments.build),
              "alone": lambda: check_alone(arguments.build)}
    if unknown := set(arguments.checks) - set(checks):
        parser.error(f"there is no check {', '.join(sorted(unknown))}")
    failed = 0
    for name in arguments.checks:
        count = 0
        for violation in checks[name]():
            print(violation, flush=True)
            count += 1
        print(f"lint: {name}: {count} violations" if count else f"lint: {name}: ok", flush=True)
        failed += count
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
