#!/usr/bin/env python3
"""Compares two builds of the program: the same bits, the same speed.

    compare_builds.py BEFORE AFTER [--speed]      two programs `lathe`, say of this tree and of the commit before it

Bits: the logits of every golden, its activations and its gradients, and with the demo model there the logits of that
(float32, auto, and a cache of q8_0), on every instruction set of this machine. Speed, with --speed: prefill and decode
of the demo model and its F16 copy, both programs in turns, the median of the ratios of each round: 1 is as fast.

Prints one line a comparison and a closing line "N passed, N failed".
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ISAS = ("portable", "avx2", "avx_vnni", "avx512", "avx512_vnni", "amx", "neon", "neon_dot", "neon_i8mm")
TOKENS = ",".join(str(7 * i % 29 + 1) for i in range(40))
PROMPT = ",".join(str(504 + 37 * i % 9000) for i in range(300))


def models():
    folder = subprocess.run([ROOT / "scripts/find_models.sh"], capture_output=True, text=True).stdout.strip()
    return [p for p in (Path(folder) / f"SmolLM2-135M-Instruct.{form}.gguf" for form in ("Q4_1", "F16")) if folder and p.exists()]


def output(program, isa, arguments, suffix):
    """The bytes that a command writes to --output; its error text where it fails."""
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / f"output{suffix}"
        result = subprocess.run([program, *map(str, arguments), "--output", path], env={**os.environ, "LATHE_CPU": isa},
                                capture_output=True, text=True)
        return path.read_bytes() if result.returncode == 0 else result.stderr.splitlines()[-1].encode()


def available(program):
    probe = ROOT / "tests/goldens/gpt2"
    return [isa for isa in ISAS if b"LATHE_CPU" not in output(program, isa, ["logits", "--model", probe, "--tokens", "1"], ".npy")]


def compare_bits(before, after):
    cases = []
    for golden in sorted((ROOT / "tests/goldens").iterdir()):
        if not (golden / "config.json").exists():
            continue
        tokens = json.loads((golden / "tokens.json").read_text()) if (golden / "tokens.json").exists() else None
        text = ",".join(map(str, tokens)) if tokens else TOKENS
        logits = ["logits", "--model", golden, "--tokens", text]
        if not output(before, "portable", logits, ".npy").startswith(b"\x93NUMPY"):
            print(f"     {golden.name}: {before} cannot run it, so it is not compared")
            continue
        cases.append((golden.name, logits, ".npy"))
        cases.append((golden.name + ", trace and gradients", ["trace", "--model", golden, "--tokens", text, "--gradients"], ".safetensors"))
    if found := models():
        for name, options in (("float32", ["--dtype", "float32"]), ("auto", []), ("q8_0 cache", ["--kv-cache-dtype", "q8_0"])):
            cases.append((f"{found[0].stem}, {name}", ["logits", "--model", found[0], "--tokens", PROMPT, *options], ".npy"))
    failed = 0
    for isa in available(after):
        different = [name for name, arguments, suffix in cases
                     if output(before, isa, arguments, suffix) != output(after, isa, arguments, suffix)]
        failed += len(different)
        print(f"{'ok  ' if not different else 'FAIL'} {isa}: {len(cases) - len(different)} of {len(cases)} outputs have the same bits"
              + "".join(f"\n     not {name}" for name in different), flush=True)
    return len(cases) * len(available(after)) - failed, failed


def rates(program, model):
    result = subprocess.run([program, "bench", "--model", model, "--repetitions", "3", "--json"], capture_output=True, text=True, check=True)
    figures = json.loads(result.stdout)
    return figures["prefill_tokens_per_second"]["median"], figures["decode_tokens_per_second"]["median"]


def compare_speed(before, after, rounds=7, tolerance=0.03):
    failed = count = 0
    for model in models():
        ratios = ([], [])
        for i in range(rounds):
            first, second = (before, after) if i % 2 == 0 else (after, before)
            figures = {first: rates(first, model)}
            figures[second] = rates(second, model)
            for at in range(2):
                ratios[at].append(figures[after][at] / figures[before][at])
        for name, values in zip(("prefill", "decode"), ratios):
            ratio, count = statistics.median(values), count + 1
            failed += ratio < 1 - tolerance
            print(f"{'ok  ' if ratio >= 1 - tolerance else 'FAIL'} {model.stem}, {name}: {ratio:.3f} of before "
                  f"({min(values):.3f} to {max(values):.3f} in {rounds} rounds)", flush=True)
    return count - failed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--speed", action="store_true", help="compare speeds in place of bits")
    options = parser.parse_args()
    passed, failed = (compare_speed if options.speed else compare_bits)(options.before, options.after)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
