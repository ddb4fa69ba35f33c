#!/usr/bin/env python3
"""Compiles every kernels/cuda/*.cu with nvcc, warnings as errors, and fails on register spills.

    check_cuda.py [--all] [--arch 90 ...] [--jobs N] [--json F] [NAME ...]      NAME: files alone, such as gemm

Prints registers, static shared memory and spilled bytes of the kernels of each file, the greediest instance of a template.
The default architecture is sm_90; --all takes 80, 86, 89, 90, 100, 120 and PTX of the newest. A spill is allowed where
tests/cuda/spills.txt lists it, one a line (`file kernel architecture bytes: reason`; bytes are the most of spill stores and
loads of an instance), and an entry that is too high fails as well. Closing line "N passed, N failed, N skipped", in files
times architectures. Without nvcc nothing is checked, and one is skipped.
"""
import argparse, concurrent.futures, json, os, pathlib, re, shutil, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS, ALLOWED = ROOT / "kernels/cuda", ROOT / "tests/cuda/spills.txt"
ARCHITECTURES = ("80", "86", "89", "90", "100", "120")
ENTRY = re.compile(r"Compiling entry function '(?P<symbol>\w+)' for 'sm_\w+'.*?(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes "
                   r"spill loads\n[^\n]*Used (?P<registers>\d+) registers(?:[^\n]*?(?P<shared>\d+) bytes smem)?", re.DOTALL)


def find_nvcc():
    return shutil.which("nvcc") or next((p for p in (os.path.join(os.environ.get("CUDA_HOME", ""), "bin/nvcc"), "/usr/local/cuda/bin/nvcc")
                                         if os.access(p, os.X_OK)), None)


def allowed_spills():
    """{(file, kernel, architecture): bytes}"""
    table = {}
    for line in ALLOWED.read_text().splitlines():
        if line and not line.startswith("#"):
            file, kernel, architecture, spilled = re.fullmatch(r"(\S+) (\S+) (\S+) (\d+): \S.*", line).groups()
            table[file, kernel, architecture] = int(spilled)
    return table


def kernel_name(demangled):
    """lathe::kernel::(anonymous namespace)::gemm_kernel<1, 2>(float*) -> gemm_kernel"""
    text = re.sub(r"\(anonymous namespace\)|_GLOBAL__N__\w+", "", demangled).removeprefix("void ")
    return re.split(r"[<(]", text)[0].split("::")[-1]


def kernels_of(log):
    """{kernel: {registers, shared, spilled}} of what ptxas says; the most of all instances of a template."""
    entries = [match.groupdict() for match in ENTRY.finditer(log)]
    names = [entry["symbol"] for entry in entries]
    if names and shutil.which("c++filt"):
        names = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout.splitlines()
    kernels = {}
    for entry, name in zip(entries, names):
        found = dict(registers=int(entry["registers"]), shared=int(entry["shared"] or 0), spilled=max(int(entry["stores"]), int(entry["loads"])))
        known = kernels.setdefault(kernel_name(name), found)
        known.update({key: max(known[key], found[key]) for key in found})
    return kernels


def compile_one(nvcc, file, architecture, folder):
    """Exit code and what nvcc and ptxas said. ccache, where it is installed, repeats it for a file that did not change."""
    target = f"arch=compute_{architecture[3:]},code={architecture}" if architecture.startswith("ptx") else f"arch=compute_{architecture},code=sm_{architecture}"
    target = target.replace("code=ptx", "code=compute_")
    command = [*([shutil.which("ccache")] if shutil.which("ccache") else []), nvcc, "-std=c++20", "-O3", "-gencode", target, "-Werror", "all-warnings",
               "-Xptxas", "-v", "-ccbin", os.environ.get("CXX") or "g++", "-I", str(ROOT), "-I", str(ROOT / "modules"), "-c", str(file),
               "-o", os.path.join(folder, f"{file.stem}.{architecture}.o")]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def judge(file, architecture, kernels, allowed):
    """One line for each kernel whose spills are not those of the table."""
    for kernel, found in kernels.items():
        most = allowed.get((file, kernel, architecture), 0)
        if found["spilled"] > most:
            yield f"{kernel} spills {found['spilled']} bytes on sm_{architecture}, {most} are allowed"
        elif found["spilled"] < most:
            yield f"{kernel} spills {found['spilled']} bytes on sm_{architecture}: lower its line of {ALLOWED.relative_to(ROOT)}, which allows {most}"
    for name, kernel, on in allowed:
        if (name, on) == (file, architecture) and kernel not in kernels:
            yield f"{ALLOWED.relative_to(ROOT)} lists {kernel}, which {file} does not have"


def check(nvcc, files, architectures, jobs):
    """Whether each (file, architecture) holds, printed as it is known; {file: {architecture: kernels}}, failures."""
    allowed, result, failed = allowed_spills(), {}, 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tasks = {pool.submit(compile_one, nvcc, f, a, folder): (f.name, a) for a in architectures for f in files}
        for task in concurrent.futures.as_completed(tasks):
            (file, architecture), (code, log) = tasks[task], task.result()
            kernels = kernels_of(log)
            wrong = [log] if code else list(judge(file, architecture, kernels, allowed))
            if not code and not kernels and not architecture.startswith("ptx"):
                wrong = ["ptxas says nothing of its kernels"]
            failed += bool(wrong)
            print("FAIL" if wrong else "ok  ", file, architecture if architecture.startswith("ptx") else "sm_" + architecture, flush=True)
            for kernel, found in sorted(kernels.items()):
                print(f"       {kernel:44} {found['registers']:4} registers {found['shared']:6} B shared"
                      + (f" {found['spilled']:5} B spilled" if found["spilled"] else ""))
            for text in wrong:
                print("       " + text)
            result.setdefault(file, {})[architecture] = kernels
    return result, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--arch", action="append")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print("nvcc is not installed: no kernel was compiled for a GPU\n0 passed, 0 failed, 1 skipped")
        return 0
    # The longest first, so that none is left alone at the end.
    files = sorted((f for f in KERNELS.glob("*.cu") if not options.names or f.stem in options.names), key=lambda f: -f.stat().st_size)
    if unknown := set(options.names) - {f.stem for f in files}:
        parser.error(f"no such file in {KERNELS.relative_to(ROOT)}: {', '.join(sorted(unknown))}")
    architectures = options.arch or ([*ARCHITECTURES, "ptx" + ARCHITECTURES[-1]] if options.all else ["90"])
    result, failed = check(nvcc, files, architectures, options.jobs)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(result))
    print(f"{len(files) * len(architectures) - failed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
