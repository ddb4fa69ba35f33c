#!/usr/bin/env python3
"""Breaks CUDA kernels in one place at a time, and says which of these mutants no test finds.

    scripts/mutate_kernels.py                                                     # kernels/cuda, by tests/cuda
    scripts/mutate_kernels.py kernels/cuda/norm.cu --builds build                 # one file, in one build
    scripts/mutate_kernels.py tests/simt/examples/*.cu --program test_simt

A mutant drops a barrier or a fence (__syncthreads, __syncwarp, __threadfence), waits for one cp.async group less, drops one
term of a condition (`if`, `while`, ternary, `const bool`), goes once too often through a loop, or takes one argument of
min or max. Only bodies of __global__ and __device__ functions are changed.

All mutants are compiled at once, into a copy of the program whose environment chooses one; the source tree is not touched.
Which test cases reach a mutant is seen in a run of each. A mutant is run with these alone, up to the first that fails, in
one build after the other until one finds it. A run that takes ten times the processor's time of the cases is ended: found.

Mutants that are no bugs are listed in tests/simt/survivors.txt, one a line: file: line of code -> its mutant: reason.
Exit code 1 when another one is not found, or a line of the list names no mutant that survives; 2 when a test fails without a
mutant.
"""
import argparse, collections, concurrent.futures, dataclasses, functools, json, math, os, pathlib, re, resource, shlex, shutil, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SURVIVORS = ROOT / "tests/simt/survivors.txt"
PER_FILE = 1000  # mutants that a file has at most
DEVICE = re.compile(r"__global__|__device__")
WORD = r"[A-Za-z_]\w*"

# What every kernel is compiled with. Only the program of the first build, which no sanitizer watches, notes what it reaches.
HEADER = """#pragma once
#include <cstdio>
#include <cstdlib>
namespace mutants {
struct State {
  const char *chosen = std::getenv("MUTANT"), *file = std::getenv("REACHED");
  int number = chosen != nullptr ? std::atoi(chosen) : -1;
  unsigned char reached[COUNT + 1] = {};
  ~State() {
    std::FILE* f = file != nullptr ? std::fopen(file, "wb") : nullptr;
    if (f == nullptr) return;
    std::fwrite(reached, 1, COUNT, f);
    std::fclose(f);
  }
};
inline State state;
__attribute__((always_inline)) inline bool mutated(int number) {
  if (state.file != nullptr) state.reached[number] = 1;
  return number == state.number;
}
}  // namespace mutants
using mutants::mutated;
"""


@functools.cache
def text_of(file):
    """As it was when the mutants were found."""
    return (ROOT / file).read_text()


def blank_comments(text):
    """The same text with comments, strings, preprocessor lines and what nvcc alone reads as spaces."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])
    text = re.sub(r"(?<=#if defined\(__CUDACC__\)\n).*?(?=#else|#endif)", blank, text, flags=re.DOTALL)
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


@dataclasses.dataclass
class Mutant:
    """What is found in place of text[begin:end]; `code` says what is compiled there: {} is what stood there."""
    begin: int
    end: int
    replacement: str
    code: str
    # In which part of the text another one stands, where that is not all of it; for the report.
    part: tuple = ()
    number: int = -1
    file: str = ""
    name: str = ""
    lines: range = range(0)


def taken(begin, end, neutral):
    return Mutant(begin, end, neutral, "(mutated(NUMBER) || ({}))" if neutral.strip() == "true" else "(!mutated(NUMBER) && ({}))")


def instead(begin, end, replacement, name=None, part=()):
    return Mutant(begin, end, name or replacement, "(mutated(NUMBER) ? " + replacement.replace("{", "{{").replace("}", "}}") + " : {})", part)


def dropped_terms(text, begin, end):
    """A condition with one of its terms taken for true (of `||`: false)."""
    begin = list(split(text, begin, end, ";"))[-1][0]  # if (declaration; condition)
    for separator, neutral in (("&&", " true "), ("||", " false ")):
        terms = list(split(text, begin, end, separator))
        if len(terms) > 1:
            return [taken(a, b, neutral) for a, b in terms]
    return [taken(begin, end, "true")]


def mutants_of(text):
    """All mutants of a kernel file."""
    clean = blank_comments(text)
    for body, body_end in device_bodies(clean):
        find = lambda pattern: re.compile(pattern).finditer(clean, body, body_end)
        for match in find(r"__(?:syncthreads|syncwarp|threadfence|threadfence_block)\([^()]*\);"):
            yield instead(match.start(), match.end() - 1, "void()", "")
        for match in find(r"cp_async_wait<\s*(\d+)\s*>\(\)"):
            yield instead(match.start(), match.end(), f"cp_async_wait<{int(match[1]) + 1}>()")
        for match in find(r"\b(?:if|while)\s*\("):
            yield from dropped_terms(clean, match.end(), closing(clean, match.end() - 1))
        for match in find(rf"\bconst bool {WORD} = "):
            for begin, end in split(clean, match.end(), clean.index(";", match.end()), ","):
                name = re.match(rf"\s*{WORD} = ", clean[begin:end]) if begin != match.end() else None
                yield from dropped_terms(clean, begin + (name.end() if name else 0), end)
        for match in find(r"(?<![!<>=])[=(,]\s*((?:[^?:;{}=(,]|[!<>=]=)*[<>](?:[^?:;{}=,]|[!<>=]=)*?)\s\? "):
            if all(match[1].count(a) == match[1].count(b) for a, b in ("()", "[]")):
                yield taken(match.start(1), match.end(1), "true")
        for match in find(r"\bfor\s*\("):
            parts = list(split(clean, match.end(), closing(clean, match.end() - 1), ";"))
            bound = re.compile(r" < (\w)").search(clean, *parts[1]) if len(parts) == 3 else None
            # A loop over registers has a constant for its bound, and the compiler, not a test, is to be trusted with it.
            if bound and (re.search(r"(?:thread|block)Idx", clean[slice(*parts[0])]) or bound[1].islower() and
                          not re.match(rf"k[A-Z]", clean[bound.start(1):])):
                begin, end = parts[1]
                longer = text[begin:bound.start()] + " <= " + text[bound.start(1):end]
                yield instead(begin, end, f"({longer.strip()})", " <= ", (bound.start(), bound.start(1)))
        for match in find(r"\b(?:min|max|fminf|fmaxf)\("):
            end = closing(clean, match.end() - 1)
            for a, b in split(clean, match.end(), end, ","):
                yield instead(match.start(), end + 1, f"({text[a:b].strip()})")


def line_of(text, at):
    return re.sub(r"\s+", " ", text[text.rfind("\n", 0, at) + 1:(text.find("\n", at) + len(text) + 1) % (len(text) + 1)]).strip()


def numbered(files):
    """All mutants of files, numbered, with their names."""
    mutants = []
    for file in files:
        text = text_of(file)
        # A change of one file leaves the numbers of others, which ccache knows then.
        number = PER_FILE * sorted((ROOT / file).parent.iterdir()).index(ROOT / file)
        seen = {}
        for m in sorted(mutants_of(text), key=lambda m: (m.begin, -m.end)):
            constexpr = re.search(r"constexpr\s*\($", text[:m.begin]) or re.search(r"constexpr\b[^;{}]*$", text[:m.begin])
            if constexpr or (m.begin, m.end, m.replacement) in seen:
                continue
            seen[m.begin, m.end, m.replacement] = m
            begin, end = m.part or (m.begin, m.end)
            m.file, m.number = file, number + len(seen) - 1
            m.name = f"{file}: {line_of(text, begin)} -> {line_of(text[:begin] + m.replacement + text[end:], begin)}"
            m.lines = range(text.count("\n", 0, m.begin) + 1, text.count("\n", 0, m.end) + 2)
            mutants.append(m)
    return mutants


def with_mutants(text, begin, end, mutants):
    """text[begin:end] with all mutants in it, of which the environment chooses; they come by their place, outer ones first."""
    made, at = "", begin
    while mutants:
        first = mutants[0]
        inner = [m for m in mutants if m.begin < first.end]
        same = [m for m in inner if (m.begin, m.end) == (first.begin, first.end)]
        code = with_mutants(text, first.begin, first.end, [m for m in inner[len(same):] if m.end <= first.end])
        for m in same:
            code = m.code.replace("NUMBER", str(m.number)).format(code)
        made, at = made + text[at:first.begin] + code, first.end
        mutants = mutants[len(inner):]
    return made + text[at:end]


Run = collections.namedtuple("Run", "mark seconds")


class Build:
    """A build folder's program, with the mutants in it."""

    def __init__(self, folder, program, mutants):
        self.folder, self.made, self.program, self.baselines = ROOT / folder, ROOT / folder / "mutants", program, {}
        self.mutants = list(mutants)
        ninja = ["ninja", "-C", str(self.folder)]
        subprocess.run([*ninja, "build.ninja"], check=True, stdout=subprocess.DEVNULL)
        commands = subprocess.run([*ninja, "-t", "commands", program], check=True, capture_output=True, text=True).stdout
        link = next(c for c in reversed(commands.splitlines()) if f" -o {program} " in c)
        self.link = shlex.split(re.sub(r"^: && (.*) && :$", r"\1", link))
        headers = any(m.file.endswith(".h") for m in mutants)
        self.sources = {}
        for entry in json.loads((self.folder / "compile_commands.json").read_text()):
            command, source = shlex.split(entry["command"]), pathlib.Path(entry["file"])
            target = command[command.index("-o") + 1]
            file = str(source.relative_to(ROOT)) if source.is_relative_to(ROOT) else ""
            if target in self.link and source.suffix == ".cu" and (headers or any(m.file == file for m in mutants)):
                self.sources[file] = (command, target)
        made = {target for _, target in self.sources.values()}
        others = [word for word in self.link if re.search(r"\.(o|a|so)$", word) and not word.startswith("/") and word not in made]
        subprocess.run([*ninja, *others], check=True, stdout=subprocess.DEVNULL)
        self.compile_all()

    def compile_all(self):
        shutil.rmtree(self.made, ignore_errors=True)  # ccache remembers what was compiled before
        (self.made / "objects").mkdir(parents=True)
        self.write("mutants.h", HEADER.replace("COUNT", str(100 * PER_FILE)))
        while True:
            files = {m.file for m in self.mutants} | set(self.sources)
            for file in files:
                text = text_of(file)
                self.write(file, with_mutants(text, 0, len(text), [m for m in self.mutants if m.file == file]))
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                errors = "".join(pool.map(self.compile, self.sources))
            if not errors:
                break
            # A mutant that no compiler takes is none.
            at = {(m[1], int(m[2])) for m in re.finditer(rf"{re.escape(str(self.made))}/(\S+?):(\d+):\d+: (?:error|.*required from)", errors)}
            refused = [m for m in self.mutants if any((m.file, line) in at for line in m.lines)]
            if not refused:
                sys.exit(f"mutate_kernels: {self.folder.name} does not compile\n{errors}")
            for m in refused:
                print(f"no compiler takes {m.name}")
            self.mutants = [m for m in self.mutants if m not in refused]
        swap = {target: self.object(file) for file, (_, target) in self.sources.items()} | {self.program: str(self.made / self.program)}
        subprocess.run([swap.get(word, word) for word in self.link], cwd=self.folder, check=True)

    def write(self, file, text):
        path = self.made / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def object(self, file):
        return str(self.made / "objects" / (pathlib.Path(file).name + ".o"))

    def compile(self, file):
        command, target = self.sources[file]
        made = self.object(file)
        swap = {target: made, str(ROOT / file): str(self.made / file), f"{target}.d": f"{made}.d"}
        at = 1 + ("ccache" in command[0])
        command = [swap.get(word, word) for word in command]
        command[at:at] = ["-include", str(self.made / "mutants.h"), f"-I{self.made}", f"-I{(ROOT / file).parent}", "-w"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        return done.stderr if done.returncode else ""

    def cases(self):
        names = subprocess.run([self.made / self.program, "~[long]", "--list-test-names-only"], capture_output=True, text=True)
        return names.stdout.splitlines()

    def run(self, cases, number, limit=None, reached=""):
        """'.' no test failed, W a test failed, E the emulator found a fault, S a sanitizer, T time ran out."""
        environment = dict(os.environ, MUTANT=str(number), REACHED=reached, LATHE_THREADS="1",
                           TSAN_OPTIONS="halt_on_error=1:exitcode=66:atexit_sleep_ms=0:symbolize=0",
                           ASAN_OPTIONS="exitcode=67:symbolize=0", UBSAN_OPTIONS="halt_on_error=1:symbolize=0")
        if not reached:
            del environment["REACHED"]
        named = ",".join(re.sub(r"([\\,\[\]\"])", r"\\\1", case) for case in cases)
        most = None if limit is None else math.ceil(limit)
        program = subprocess.Popen([self.made / self.program, named, "--abort"], cwd=self.folder, env=environment, text=True, errors="replace",
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   preexec_fn=most and (lambda: resource.setrlimit(resource.RLIMIT_CPU, (most, most + 5))))
        output = program.stdout.read()
        _, status, used = os.wait4(program.pid, 0)
        code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        program.returncode = code
        if code == 0:
            return Run(".", seconds)
        if most and seconds >= most - 1:
            return Run("T", seconds)
        if code in (66, 67) or "runtime error:" in output or "Sanitizer" in output:
            return Run("S", seconds)
        return Run("E" if "[block " in output else "W", seconds)

    def baseline(self, case):
        """The processor's seconds of a case without a mutant."""
        if case not in self.baselines:
            found = self.run([case], -1)
            if found.mark != ".":
                print(f"mutate_kernels: {self.folder.name}: '{case}' fails without a mutant")
                sys.exit(2)
            self.baselines[case] = found.seconds
        return self.baselines[case]

    def reaching(self):
        """Of each mutant's number the cases that reach it."""
        reached, file = collections.defaultdict(list), self.made / "reached"
        for case in self.cases():
            found = self.run([case], -1, reached=str(file))
            if found.mark != ".":
                print(f"mutate_kernels: {self.folder.name}: '{case}' fails without a mutant")
                sys.exit(2)
            for number, is_reached in enumerate(file.read_bytes()):
                if is_reached:
                    reached[number].append(case)
        return reached

    def mark(self, mutant, cases):
        if mutant not in self.mutants:
            return "B"
        # First the cases that cost least.
        cases = sorted(cases, key=self.baseline)
        for share in (cases[:len(cases) // 2], cases[len(cases) // 2:]):
            found = share and self.run(share, mutant.number, 10 + 10 * sum(map(self.baseline, share)))
            if found and found.mark != ".":
                return found.mark
        return "."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="kernel files, from the root of the tree; all of kernels/cuda where none are named")
    parser.add_argument("--program", default="test_cuda", help="the test program that links them")
    parser.add_argument("--builds", nargs="+", default=["build", "build-asan", "build-tsan"], help="build folders, the fastest first")
    parser.add_argument("--only", default="", help="mutants with this text in their line")
    options = parser.parse_args()
    files = [os.path.relpath(f, ROOT) for f in options.files] or sorted(str(p.relative_to(ROOT)) for p in (ROOT / "kernels/cuda").iterdir() if p.suffix in (".cu", ".h"))
    listed = collections.Counter(line.rsplit(": ", 1)[0] for line in SURVIVORS.read_text().splitlines() if line.split(": ")[0] in files)
    if absent := [file for file in files if not (ROOT / file).is_file()]:
        parser.error(f"no such file: {', '.join(absent)}")
    if len({pathlib.Path(file).parent for file in files}) > 1:
        parser.error("files of several folders would share their mutants' numbers: name those of one folder")
    mutants = numbered(files)
    if not any(options.only in m.name for m in mutants):
        parser.error("no mutant has this text in its line" if options.only else "these files have no mutants")
    first = Build(options.builds[0], options.program, mutants)
    reaching = first.reaching()
    builds = [first]
    counts = {file: collections.Counter() for file in files}
    for mutant in first.mutants:
        if options.only not in mutant.name:
            continue
        marks, cases = "", reaching[mutant.number]
        for i in range(len(options.builds) if cases else 0):
            if i == len(builds):
                builds.append(Build(options.builds[i], options.program, mutants))
            marks += builds[i].mark(mutant, cases)
            if marks[-1] not in ".B":
                break
        survives = not set(marks) - set(".B")
        reason = survives and listed[mutant.name] > 0
        listed[mutant.name] -= bool(reason)
        outcome = "found" if not survives else "listed" if reason else "survive"
        counts[mutant.file][outcome] += 1
        print(f"{marks or '-':4s} {'' if outcome == 'found' else 'listed ' if reason else 'SURVIVES ' if cases else 'NOT REACHED '}{mutant.name}", flush=True)
    for file, count in counts.items():
        if count:
            print(f"{file}: " + ", ".join(f"{count[key]} {key}" for key in ("found", "listed", "survive")))
    stale = [] if options.only else [name for name, left in listed.items() if left > 0]
    for name in stale:
        print(f"listed, but found or not there: {name}")
    total = sum(counts.values(), collections.Counter())
    failed = total["survive"] + len(stale)
    print(f"{total['found']} passed, {failed} failed, {total['listed']} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
