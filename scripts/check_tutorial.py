#!/usr/bin/env python3
"""Follows docs/tutorial_whole_life.md: every file is written, every command is run, with smaller numbers.

    check_tutorial.py [--lathe build/lathe] [--whole] [--keep]

The numbers are changed in the page's own text, so that page and test cannot part: one that is not there is a failure. --whole runs the
page as it is (some minutes). Blocks of Python are run where transformers is there, and else skipped. One line a block, then "N passed,
N failed, N skipped".
"""
import argparse, importlib.util, os, pathlib, shutil, subprocess, sys, tempfile

from check_guide import BLOCK, place

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial_whole_life.md"
SMALLER = {"--stories 6000": "--stories 150", "--stories 1000": "--stories 16", "--stories 200": "--stories 8", "--stories 100": "--stories 8",
           "hidden_size: 96, intermediate_size: 256, num_hidden_layers: 4": "hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2",
           "steps: 1200": "steps: 12", "warmup_steps: 50": "warmup_steps: 2", "every: 400": "every: 6", "epochs: 3": "epochs: 1"}


def smaller(page):
    for number, other in SMALLER.items():
        if number not in page:
            raise SystemExit(f"FAIL {PAGE.name} has no {number!r}\n0 passed, 1 failed, 0 skipped")
        page = page.replace(number, other)
    return page


def run(words, folder, lathe):
    environment = {**os.environ, "PATH": f"{lathe.parent}:{os.environ['PATH']}"}
    result = subprocess.run(words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise RuntimeError(f"exit code {result.returncode}:\n" + "\n".join(result.stdout.splitlines()[-30:]))
    return result.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lathe", default=ROOT / "build" / "lathe")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    page, lathe = PAGE.read_text(), pathlib.Path(options.lathe).resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="lathe-tutorial-"))
    (work / "scripts").symlink_to(ROOT / "scripts")
    life = work / "runs" / "life"
    life.mkdir(parents=True)
    passed = failed = skipped = 0
    for language, name, _, text in BLOCK.findall(page if options.whole else smaller(page)):
        if language == "python" and not importlib.util.find_spec("transformers"):
            skipped += 1
            print("SKIP a block of Python: transformers is not there", flush=True)
            continue
        try:
            if name:
                done = place(life, name, None, text)
            else:
                shown = run([sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text], life, lathe)
                done = text.strip().splitlines()[-1] + (f"\n{shown}" if options.whole else "")
            passed += 1
            print("ok  ", done, flush=True)
        except RuntimeError as error:
            failed += 1
            print("FAIL", text, error, flush=True)
            break  # what follows builds on it
    if options.keep:
        print("left in", life)
    else:
        shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)


main()
