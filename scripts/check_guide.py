#!/usr/bin/env python3
"""Follows docs/adding_a_model.md to the letter: every snippet is written where the guide puts it, every command is run.

    scripts/check_guide.py [--keep]

The tree is copied to a temporary folder. A fenced block whose first line names a file ("```cpp modules/llm/toy.cpp") is written as that
file, one that names a place besides ("after "TEXT"") is inserted behind the one line that holds TEXT, and a block "```sh" is run with
bash. Needs the compiler and, for the golden, the Python environment of the reference; builds the library once (minutes, or seconds with
ccache). One line a step and a closing line "N passed, N failed". --keep leaves the folder and prints where.
"""
import argparse, os, pathlib, re, shutil, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "adding_a_model.md"
BLOCK = re.compile(r'^```(\w+)(?: ([^\s"]+))?(?: after "([^"\n]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def copy_tree(to):
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    if (ROOT / ".venv-reference").exists():
        (to / ".venv-reference").symlink_to((ROOT / ".venv-reference").resolve())


def place(tree, name, after, text):
    path = tree / name
    if after is None:
        if path.exists():
            raise RuntimeError(f"{name} exists already")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return f"wrote {name}, {text.count(chr(10))} lines"
    lines = path.read_text().splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if after in line]
    if len(places) != 1:
        raise RuntimeError(f'{name}: {len(places)} lines hold "{after}", expected one')
    lines.insert(places[0] + 1, text)
    path.write_text("".join(lines))
    return f"inserted {text.count(chr(10))} lines into {name}"


def run(tree, script):
    environment = {**os.environ, "CCACHE_BASEDIR": str(tree), "CCACHE_NOHASHDIR": "1",
                   "LATHE_SHARED": os.environ.get("LATHE_SHARED", str(ROOT.parent / "shared")), "BUILD": "build"}
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tree, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        raise RuntimeError(f"exit code {result.returncode}:\n" + "\n".join(result.stdout.splitlines()[-30:]))
    return "ran " + "; ".join(line.split("#")[0].strip() for line in script.splitlines() if line.strip())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true")
    keep = parser.parse_args().keep
    tree = pathlib.Path(tempfile.mkdtemp(prefix="lathe-guide-")) / "main"
    passed = failed = 0
    try:
        copy_tree(tree)
        for language, name, after, text in BLOCK.findall(GUIDE.read_text()):
            try:
                if name:
                    done = place(tree, name, after or None, text)
                elif language == "sh":
                    done = run(tree, text)
                else:
                    raise RuntimeError(f"a block of {language} that names no file and is no command")
                passed += 1
                print("ok  ", done, flush=True)
            except (RuntimeError, OSError) as error:
                failed += 1
                print("FAIL", error, flush=True)
                break  # what follows builds on it
    finally:
        if keep:
            print("left in", tree)
        else:
            shutil.rmtree(tree.parent)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


if __name__ == "__main__":
    main()
