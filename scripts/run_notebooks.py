#!/usr/bin/env python3
"""Executes the notebooks whose names contain one of the arguments (all without any) in their own folder, as Jupyter does, and writes their output
back, unless --check is given. Prints one line a notebook and a closing line "N passed, N failed". A notebook that fails is left as it was."""
import argparse
import os
import pathlib
import sys
import time

import nbclient
import nbformat
from traitlets.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent


def execute(path, write):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    os.chdir(path.parent)  # the sockets have relative names, for this process and the kernel
    local = Config({"KernelManager": {"transport": "ipc"}})  # nothing listens on a port
    nbclient.NotebookClient(notebook, config=local, timeout=300, kernel_name="python3", record_timing=False, coalesce_streams=True,
                            resources={"metadata": {"path": str(path.parent)}}).execute()
    # What is committed does not name the machine: no versions, no times.
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    if write:
        nbformat.write(notebook, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true", help="leave the files as they are")
    arguments = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm misses its widgets, which nobody draws here
    failed = 0
    chosen = [p for p in sorted((ROOT / "notebooks").glob("*.ipynb")) if not arguments.names or any(a in p.name for a in arguments.names)]
    for path in chosen:
        start = time.monotonic()
        try:
            execute(path, write=not arguments.check)
            print(f"ok   {path.name} ({time.monotonic() - start:.0f} s)", flush=True)
        except nbclient.exceptions.CellExecutionError as problem:
            print(f"FAIL {path.name}\n{problem}", flush=True)
            failed += 1
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
