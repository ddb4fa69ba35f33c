#!/usr/bin/env python3
"""Every file and symbol that a comment of C++ or a page names is in the tree; one line for each that is not.

Paths: a word that ends in .h or .cpp, or that begins with a folder of the tree, is the end of a path of the tree (with or
without .h or .cpp), or a pattern of some; the target of a link is there, and so is each line of the tree in README. Symbols:
what stands in `backticks` and looks like an identifier, and `name()` in a comment, is a word somewhere in the code, comments
aside. Blocks of code in pages are left to the tests that run them, and docs/log.md to history.
"""
import fnmatch, itertools, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What belongs to other programs, and words about words.
FOREIGN = set("""ggml.h ggml-common.h llama.h transformer.h src/llama-vocab.cpp fmt/core.h docs/gguf.md docs/spec.md
    ggml_type llama_ftype ffn_gate_exps ffn_up_exps ffn_down_exps Gemma3ForConditionalGeneration CamelCase snake_case get_""".split())

STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])+\'|//.*')
PATH = re.compile(r"(?<![\w./$~:\"{<>-])(?:[\w.*+-]+/)*[\w.*+-]+/?")
SYMBOL = re.compile(r"`([A-Za-z_]\w*(?:(?:::|\.|->)[A-Za-z_~]\w*)*)(?:\([^`]*\))?`")
CALL = re.compile(r"(?<![\w`.:])([A-Za-z_]\w*(?:::\w+)*)\(\)")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def code_and_comments(text):
    """The lines without their // comments, and (line number, comment) of those that have one."""
    code, comments = [], []
    for number, line in enumerate(text.splitlines(), 1):
        start = next((m.start() for m in STRING_OR_COMMENT.finditer(line) if m[0].startswith("//")), len(line))
        code.append(line[:start])
        if start < len(line):
            comments.append((number, line[start + 2:]))
    return "\n".join(code), comments


def prose(text):
    """(line number, line) of a page outside its blocks of code, and the files that it writes (```cpp path)."""
    lines, written, fenced = [], set(), False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            written.update(line.split()[1:])
        elif not fenced and not line.startswith("    "):
            lines.append((number, line))
    return lines, written


class Tree:
    """What can be named."""

    def __init__(self, files):
        self.paths = set(files) | {str(parent) for file in files for parent in pathlib.PurePath(file).parents}
        self.ends = {"/".join(parts[i:]) for parts in (path.split("/") for path in self.paths) for i in range(len(parts))}
        self.folders = {part for file in files for part in file.removeprefix("modules/").split("/")[:1] if "/" in file}
        self.words = set(itertools.chain(re.findall(r"\w+", " ".join(files)), FOREIGN))
        self.comments = {}
        for file in files:
            if file.endswith(".md") or file.startswith("tests/fuzz/corpus/") or file == "scripts/check_comments.py":
                continue
            try:
                text = (ROOT / file).read_text()
            except UnicodeDecodeError:
                continue  # binary: goldens, the fuzzers' corpus
            if file.endswith((".h", ".cpp")):
                text, self.comments[file] = code_and_comments(text)
            self.words.update(re.findall(r"\w+", text))

    def has(self, path):
        there = any(path + ending in self.ends for ending in ("", ".h", ".cpp"))
        return there or path in FOREIGN or ("*" in path and any(fnmatch.fnmatch(end, path) for end in self.ends))

    def missing_paths(self, line):
        for match in PATH.finditer(line):
            path = match[0].rstrip("/.")
            named = re.search(r"\w\.(h|cpp)$", path) or ("/" in path and path.split("/")[0] in self.folders)
            if named and not self.has(path):
                yield path

    def missing_symbols(self, line, *patterns):
        for match in itertools.chain.from_iterable(pattern.finditer(line) for pattern in patterns):
            if any(part.lstrip("~") not in self.words for part in re.split(r"::|\.|->", match[1])):
                yield match[1]


def missing_in_tree_of_readme(text):
    """The paths of the indented tree that are not there."""
    parents = []
    for line in text.partition("\n## The tree\n")[2].partition("\n## ")[0].splitlines():
        match = re.match(r"    ( *)([\w.]+)(/|(?=  ))", line)
        depth = len(match[1]) // 2 if match else -1
        if 0 <= depth <= len(parents):
            parents[depth:] = [match[2]]
            if not ROOT.joinpath(*parents).exists():
                yield "/".join(parents)


def violations(files):
    """`files`: all of the tree, as paths from its root."""
    tree = Tree(files)
    for file, comments in tree.comments.items():
        for number, comment in comments:
            for name in itertools.chain(tree.missing_paths(comment), tree.missing_symbols(comment, SYMBOL, CALL)):
                yield f"{file}:{number}: a comment names {name}, which is not in the tree"
    for file in files:
        if not file.endswith(".md") or file == "docs/log.md":
            continue
        text = (ROOT / file).read_text()
        lines, written = prose(text)
        for number, line in lines:
            links = [link for link in LINK.findall(re.sub("`[^`]*`", "", line)) if "://" not in link and not link.startswith("mailto:")]
            missing = [link for link in links if not ((ROOT / file).parent / link).exists()]
            missing += [path for path in tree.missing_paths(LINK.sub("]", line)) if path not in written]
            for name in itertools.chain(missing, tree.missing_symbols(line, SYMBOL)):
                yield f"{file}:{number}: names {name}, which is not in the tree"
        if file == "README.md":
            yield from (f"README.md: the tree has {path}, which is not there" for path in missing_in_tree_of_readme(text))


if __name__ == "__main__":
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    found = list(violations([file for file in tracked.stdout.split() if (ROOT / file).is_file()]))
    print("\n".join(found) or "comments: ok")
    sys.exit(1 if found else 0)
