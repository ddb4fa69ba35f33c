#!/usr/bin/env python3
"""Breaks CUDA kernels in one place at a time, and says which of these mutants no test finds.

    scripts/mutate_kernels.py tests/simt/examples/gemm.cu --program test_simt --builds build build-asan build-tsan
    scripts/mutate_kernels.py kernels/cuda/gpu_operations.h --program test_simt --through tests/simt/examples/rms_norm.cu
    scripts/mutate_kernels.py kernels/cuda/norm.cu --program test_cuda --arguments "[#test_norm] -#"

A mutant drops a barrier or a fence (__syncthreads, __syncwarp, __threadfence), waits for one cp.async group less, drops one
term of a condition (`if`, `while`, ternary, `const bool`), goes once too often through a loop, or takes one argument of
min or max. Only bodies of __global__ and __device__ functions are changed. Each is compiled with the command of the build
in place of the file itself (a header: in front of it, for the file --through) and linked into a copy of the program, which
is run in one build after the other until it fails; --every runs all. The source tree is not touched.

Survivors that are no bugs are listed in tests/simt/survivors.txt, one a line: file: line of code -> its mutant: reason.
Exit code 1 when another one survives; 2 when the program fails without a mutant.
"""
import argparse, itertools, json, os, pathlib, re, shlex, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SURVIVORS = ROOT / "tests/simt/survivors.txt"
DEVICE = re.compile(r"__global__|__device__")
WORD = r"[A-Za-z_]\w*"


def blank_comments(text):
    """The same text with comments, strings and preprocessor lines as spaces."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', blank, text, flags=re.DOTALL | re.MULTILINE)


def closing(text, begin):
    """Where the bracket that opens at `begin` is closed."""
    depth = 0
    for at in range(begin, len(text)):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0:
            return at
    return len(text)


def device_bodies(text):
    """Begin and end of the bodies of functions that run on a GPU."""
    end = 0
    for match in DEVICE.finditer(text):
        brace, semicolon = text.find("{", match.end()), text.find(";", match.end())
        if match.start() < end or brace < 0 or 0 <= semicolon < brace:
            continue
        end = closing(text, brace)
        yield brace, end


def split(text, begin, end, separator):
    """Begin and end of the parts of text[begin:end] between separators outside of brackets."""
    depth, start = 0, begin
    for at in range(begin, end):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0 and text.startswith(separator, at):
            yield start, at
            start = at + len(separator)
    yield start, end


def dropped_terms(text, begin, end):
    """A condition with one of its terms taken for true (of `||`: false)."""
    for separator, neutral in (("&&", "true"), ("||", "false")):
        terms = list(split(text, begin, end, separator))
        if len(terms) > 1:
            yield from ((a, b, f" {neutral} ") for a, b in terms)
            return
    if "constexpr" not in text[begin - 12:begin]:
        yield begin, end, "true"


def mutations(text):
    """(begin, end, replacement) of all mutants of a kernel file."""
    clean = blank_comments(text)
    for body, body_end in device_bodies(clean):
        find = lambda pattern: re.compile(pattern).finditer(clean, body, body_end)
        for match in find(r"__(?:syncthreads|syncwarp|threadfence|threadfence_block)\([^()]*\);"):
            yield match.start(), match.end(), ";"
        for match in find(r"cp_async_wait<\s*(\d+)\s*>"):
            yield match.start(), match.end(), f"cp_async_wait<{int(match[1]) + 1}>"
        for match in find(r"\b(?:if|while)\s*\("):
            yield from dropped_terms(clean, match.end(), closing(clean, match.end() - 1))
        for match in find(rf"\bconst bool {WORD} = "):
            for begin, end in split(clean, match.end(), clean.index(";", match.end()), ","):
                name = re.match(rf"\s*{WORD} = ", clean[begin:end]) if begin != match.end() else None
                yield from dropped_terms(clean, begin + (name.end() if name else 0), end)
        for match in find(r"[=(,]\s*([^?:;{}=(,]*[<>][^?:;{}=,]*?)\s\? "):
            yield match.start(1), match.end(1), "true"
        for match in find(r"\bfor\s*\("):
            parts = list(split(clean, match.end(), closing(clean, match.end() - 1), ";"))
            bound = re.compile(r" < (\w)").search(clean, *parts[1]) if len(parts) == 3 else None
            # A loop over registers has a constant for its bound, and the compiler, not a test, is to be trusted with it.
            if bound and (re.search(r"(?:thread|block)Idx", clean[slice(*parts[0])]) or bound[1].islower() and
                          not re.match(rf"k[A-Z]", clean[bound.start(1):])):
                yield bound.start(), bound.start(1), " <= "
        for match in find(r"\b(?:min|max|fminf|fmaxf)\("):
            end = closing(clean, match.end() - 1)
            for a, b in split(clean, match.end(), end, ","):
                yield match.start(), end + 1, f"({text[a:b].strip()})"


def line_of(text, at):
    return re.sub(r"\s+", " ", text[text.rfind("\n", 0, at) + 1:(text.find("\n", at) + len(text) + 1) % (len(text) + 1)]).strip()


class Build:
    """How a build folder makes a program, with another source in one object's place."""

    def __init__(self, folder, program, source):
        self.folder, self.program, self.source = ROOT / folder, program, ROOT / source
        subprocess.run(["ninja", "-C", str(self.folder), program], check=True, stdout=subprocess.DEVNULL)
        commands = json.loads((self.folder / "compile_commands.json").read_text())
        entry = next((c for c in commands if pathlib.Path(c["file"]) == self.source), None)
        if entry is None:
            sys.exit(f"mutate_kernels: {folder} does not compile {source} by itself")
        self.directory, self.compile = entry["directory"], shlex.split(entry["command"])
        self.object = self.compile[self.compile.index("-o") + 1]
        ninja = subprocess.run(["ninja", "-C", str(self.folder), "-t", "commands", program], check=True, capture_output=True, text=True)
        link = next(c for c in reversed(ninja.stdout.splitlines()) if f" -o {program} " in c)
        self.link = shlex.split(re.sub(r"^: && (.*) && :$", r"\1", link))
        if self.object not in self.link:
            sys.exit(f"mutate_kernels: {program} of {folder} does not link {source}")

    def outcome(self, scratch, source, arguments, timeout):
        """'.' no test failed, W a test failed, E the emulator found a fault, S a sanitizer, T time ran out, B no compiler takes it."""
        made, program = str(scratch / "mutant.o"), str(scratch / self.program)
        environment = dict(os.environ, CCACHE_DISABLE="1", TSAN_OPTIONS="halt_on_error=1:exitcode=66:atexit_sleep_ms=0:symbolize=0",
                           ASAN_OPTIONS="exitcode=67:symbolize=0", UBSAN_OPTIONS="halt_on_error=1:symbolize=0")
        swap = {self.object: made, str(self.source): str(source), f"{self.object}.d": f"{made}.d", self.program: program}
        compile = [swap.get(word, word) for word in self.compile]
        compile[1 + ("ccache" in compile[0]):1 + ("ccache" in compile[0])] = [f"-I{scratch}", f"-I{self.source.parent}", "-w"]
        for command in (compile, [swap.get(word, word) for word in self.link]):
            if subprocess.run(command, cwd=self.directory, env=environment, capture_output=True).returncode:
                return "B"
        try:
            run = subprocess.run([program, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True,
                                 errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired:
            return "T"
        if run.returncode == 0:
            return "."
        if run.returncode in (66, 67) or "runtime error:" in run.stderr or "Sanitizer" in run.stderr:
            return "S"
        return "E" if "[block " in run.stdout + run.stderr else "W"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="kernel files, from the root of the tree")
    parser.add_argument("--program", required=True, help="the test program that links them")
    parser.add_argument("--arguments", default="", help="for the program: which tests to run")
    parser.add_argument("--builds", nargs="+", default=["build"], help="build folders, the fastest first")
    parser.add_argument("--through", help="the .cu file that is compiled with a header of `files`")
    parser.add_argument("--only", default="", help="mutants with this text in their line")
    parser.add_argument("--every", action="store_true", help="run every build, not only until one finds the mutant")
    parser.add_argument("--timeout", type=float, default=120, help="seconds a run may take")
    options = parser.parse_args()
    arguments = shlex.split(options.arguments)
    listed = [line.rsplit(": ", 1)[0] for line in SURVIVORS.read_text().splitlines()] if SURVIVORS.exists() else []
    found = survived = expected = 0
    for file in options.files:
        text = (ROOT / file).read_text()
        builds = [Build(folder, options.program, options.through or file) for folder in options.builds]
        with tempfile.TemporaryDirectory() as folder:
            scratch = pathlib.Path(folder)
            copy = scratch / file
            copy.parent.mkdir(parents=True)
            source = ROOT / options.through if options.through else copy
            for build in builds:
                copy.write_text(text)
                if build.outcome(scratch, source, arguments, options.timeout) != ".":
                    print(f"mutate_kernels: {options.program} fails in {build.folder.name} without a mutant")
                    sys.exit(2)
            for begin, end, replacement in sorted(set(mutations(text))):
                if options.only not in line_of(text, begin):
                    continue
                mutant = text[:begin] + replacement + text[end:]
                copy.write_text(mutant)
                marks = ""
                for build in builds:
                    marks += build.outcome(scratch, source, arguments, options.timeout)
                    if marks[-1] != "." and not options.every:
                        break
                if marks == "B" * len(marks):
                    continue
                name = f"{file}: {line_of(text, begin)} -> {line_of(mutant, begin)}"
                survives = not set(marks) - set(".B")
                reason = survives and name in listed
                found, survived, expected = found + (not survives), survived + bool(survives and not reason), expected + bool(reason)
                print(f"{marks:4s} {'listed ' if reason else 'SURVIVES ' if survives else ''}{name}", flush=True)
    print(f"{found} mutants found, {expected} survive and are listed, {survived} survive")
    print(f"{found + expected} passed, {survived} failed")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
