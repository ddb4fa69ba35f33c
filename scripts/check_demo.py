#!/usr/bin/env python3
"""What `make demo` promises, measured on the demo model: the answers, time to the first token, memory, speed.

    check_demo.py PROGRAM [--timed]

One line a check and a closing line "N passed, N failed". Speeds are measured with --timed only: they say something on a quiet machine
alone.
"""
import json, os, pathlib, resource, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
FIRST_TOKEN_SECONDS = 1.0
DECODE_TOKENS_PER_SECOND = 60
failed = passed = 0


def line(holds, text):
    global failed, passed
    passed, failed = passed + holds, failed + (not holds)
    print("ok  " if holds else "FAIL", text, flush=True)


def ask(program, question, new_tokens, dtype="auto"):
    """The JSON answer, the wall time in seconds."""
    start = time.monotonic()
    result = subprocess.run([program, "generate", "--model", MODEL, "--dtype", dtype, "--chat", "--prompt", question, "--greedy", "--json",
                             "--max-new-tokens", str(new_tokens)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    return json.loads(result.stdout), time.monotonic() - start


def main():
    program = sys.argv[1]
    try:
        capital, _ = ask(program, "What is the capital of France?", 64, "int16")  # as make demo asks
        line("Paris" in capital["text"], f"the capital of France: {capital['text'].strip()!r}")
        other, _ = ask(program, "Name three colours.", 64, "int16")
        line(other["text"] != capital["text"] and len(other["text"]) > 4, f"another question: {other['text'].strip()[:80]!r}")
        story, _ = ask(program, "Tell me a long story about a lighthouse.", 256)
        # The cache of a few hundred tokens is within the 100 MB that are allowed beside 1.5 x the file.
        peak, limit = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, 1.5 * os.path.getsize(MODEL) + 100e6
        line(peak <= limit, f"peak resident memory {peak / 1e6:.0f} MB, at most {limit / 1e6:.0f}")
        if "--timed" in sys.argv:
            seconds = min(ask(program, "What is the capital of France?", 1)[1] for _ in range(3))
            line(seconds < FIRST_TOKEN_SECONDS, f"one token in {seconds:.2f} s from the start, file in the page cache")
            speed = story["timing"]["decode_tokens_per_second"]
            line(speed >= DECODE_TOKENS_PER_SECOND, f"decoding at {speed:.0f} tokens/s, at least {DECODE_TOKENS_PER_SECOND}")
    except (RuntimeError, OSError, KeyError, TypeError, ValueError) as error:
        line(False, f"{type(error).__name__}: {error}")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
