#!/usr/bin/env python3
"""`lathe perplexity` and `lathe evaluate` on the demo model against transformers' figures in tests/evaluate.

    scripts/check_evaluation.py [PROGRAM] [--long]

Perplexity of wikitext-2's first 32 windows of 512 tokens: at float32 within 0.5%, at auto within 2%. HellaSwag's first 200 tasks and 100
MMLU questions: at float32 the same choice for every task; where it differs, the reference must hold the two within 0.001 nats (a tie
within rounding), which is printed. Q8_0 weights at --dtype auto beside the F16 weights that they were made from: a mean divergence of at
most 0.006 nats over 4 windows (the F16 file is the demo model dequantised by the Python package gguf, not by us). --long: all that
reference_whole.json has (a quarter of an hour on two cores). One line a check and a closing line "N passed, N failed, N skipped"; without
../shared/text or the demo model all is skipped.
"""
import json, os, pathlib, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = pathlib.Path(os.environ.get("LATHE_SHARED", ROOT.parent / "shared")) / "text"
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
FLOAT16 = MODEL.with_name("SmolLM2-135M-Instruct.F16.gguf")
WIKITEXT = TEXT / "wikitext-2" / "wiki.test.raw"
HELLASWAG = TEXT / "hellaswag" / "hellaswag_val_0_2000.txt"
TIE = 0.001
LOGPROB = 0.02
DIVERGENCE = 0.006
count = dict(passed=0, failed=0, skipped=0)


def line(holds, text):
    count["passed" if holds else "failed"] += 1
    print("ok  " if holds else "FAIL", text, flush=True)


def skip(why):
    count["skipped"] += 1
    print("SKIP", why, flush=True)


def run(program, *arguments, model=MODEL):
    result = subprocess.run([program, *map(str, arguments), "--model", model, "--json"], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{arguments[0]}: exit code {result.returncode}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def check_perplexity(program, reference, dtype, tolerance):
    got = run(program, "perplexity", "--text-file", WIKITEXT, "--dtype", dtype,
              "--context", reference["context"], "--stride", reference["stride"], "--limit", reference["windows"])
    deviation = got["perplexity"] / reference["perplexity"] - 1
    line(abs(deviation) <= tolerance and got["tokens_counted"] == reference["tokens_counted"],
         f"perplexity, {got['windows']} windows, {got['tokens_counted']} tokens, {dtype}: {got['perplexity']:.4f} +/- "
         f"{got['perplexity_stderr']:.2f}; transformers' {reference['perplexity']:.4f} on {reference['tokens_counted']}: {deviation:+.4%}, "
         f"at most {tolerance:.1%}")


def check_divergence(program):
    made = subprocess.run([sys.executable, ROOT / "scripts" / "make_float16_model.py", MODEL, FLOAT16], capture_output=True, text=True)
    if made.returncode:
        return skip(f"divergence of Q8_0 from F16: {made.stderr.strip().splitlines()[-1]} (make reference has the package)")
    got = run(program, "perplexity", "--text-file", WIKITEXT, "--context", 512, "--limit", 4, "--quantize", "q8_0", "--dtype", "auto",
              "--compare-with", FLOAT16, "--compare-dtype", "float32", model=FLOAT16)["compare_with"]
    line(got["kl_divergence"] <= DIVERGENCE,
         f"Q8_0 at auto from F16 at float32, 4 windows of 512: mean divergence {got['kl_divergence']:.5f} +/- "
         f"{got['kl_divergence_stderr']:.5f} nats, at most {DIVERGENCE}")


def hellaswag_lengths():
    """The lengths of the endings by task, which acc_norm divides by."""
    lines = HELLASWAG.read_text().splitlines()
    return [[len(ending) for ending in lines[at + 2:at + 6]] for at in range(0, len(lines), 6)]


def check_tasks(program, name, reference, lengths, *arguments):
    got = run(program, "evaluate", "--task", name, "--dtype", "float32", "--limit", reference["count"], *arguments)
    worst, ties, wrong = 0.0, [], []

    def compare(number, mine, theirs, logprobs):
        if mine != theirs:
            (ties if logprobs[theirs] - logprobs[mine] <= TIE else wrong).append(number)

    for number, (task, (label, choice, choice_norm, logprobs)) in enumerate(zip(got["tasks"], reference["tasks"], strict=True)):
        worst = max(worst, *(abs(a - b) for a, b in zip(task["logprobs"], logprobs, strict=True)))
        compare(number, task["choice"], choice, logprobs)
        shortest = min(lengths[number])
        compare(number, task["choice_norm"], choice_norm, [p * shortest / n for p, n in zip(logprobs, lengths[number])])
        if task["label"] != label:
            wrong.append(number)
    line(not wrong and worst <= LOGPROB,
         f"{name}, {got['count']} tasks: acc {got['acc']:.4f} +/- {got['acc_stderr']:.4f}, acc_norm {got['acc_norm']:.4f} +/- "
         f"{got['acc_norm_stderr']:.4f}; transformers' {reference['acc']:.4f}, {reference['acc_norm']:.4f}; {len(wrong)} choices differ"
         f"{f' {wrong[:9]}' if wrong else ''}, {len(ties)} ties{f' {ties}' if ties else ''}; log-probabilities within {worst:.5f}")


def check(program, reference):
    check_perplexity(program, reference["perplexity"], "float32", 0.005)
    check_perplexity(program, reference["perplexity"], "auto", 0.02)
    check_tasks(program, "hellaswag", reference["hellaswag"], hellaswag_lengths(), "--file", HELLASWAG)
    if "mmlu" in reference:
        mmlu = reference["mmlu"]
        check_tasks(program, "mmlu", mmlu, [[1] * 4] * mmlu["count"],
                    "--file", TEXT / "mmlu" / f"{mmlu['subject']}_test.csv", "--shots", mmlu["shots"])


def main():
    arguments = [a for a in sys.argv[1:] if a != "--long"]
    program = arguments[0] if arguments else str(ROOT / "build" / "lathe")
    names = ["reference.json"] + (["reference_whole.json"] if "--long" in sys.argv else [])
    for name in names:
        if not MODEL.exists() or not TEXT.is_dir():
            skip(f"{name}: needs {'../shared/text' if MODEL.exists() else 'the demo model (make demo)'}")
            continue
        try:
            if name == "reference.json":
                check_divergence(program)
            check(program, json.loads((ROOT / "tests" / "evaluate" / name).read_text()))
        except (RuntimeError, OSError, KeyError, ValueError) as error:
            line(False, f"{name}: {error}")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**count))
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
