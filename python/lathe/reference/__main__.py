"""python -m lathe.reference: see --help."""
import argparse
import sys

import lathe

EPILOG = """\
One row per layer: the error so far, and the operation with the largest error of its own, for which the reference's operation is given
Lathe's inputs. The first one that errs by more than rounding is tried with the known causes: rope layout, eps, norm + 1, a weight that is
off, exchanged or transposed, windows, softcaps, scales, biases, activations. Exit code: 0 where the two agree, 1 where they do not, 2 where they could not be compared."""


def ids(text):
    return [int(token) for token in text.split(",")]


def encode(text, folder, candidate):
    try:
        return lathe.Tokenizer.load(folder).encode(text)
    except lathe.Error:  # a folder made from GGUF has no vocabulary
        return lathe.Tokenizer.load(candidate).encode(text)


def fail(problem, hint):
    print(f"lathe.reference: {' '.join(str(problem).split())}" + (f"\n  hint: {hint}" if hint else ""), file=sys.stderr)
    return 2


def main():
    parser = argparse.ArgumentParser(prog="python -m lathe.reference", description="Lathe and transformers side by side.",
                                     epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="MODEL_DIR", help="a Hugging Face folder, which transformers reads")
    parser.add_argument("--candidate", help="what Lathe reads, where it is another form of the model: a folder, a GGUF (default: the same)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="Lathe's arithmetic")
    parser.add_argument("--tokens", type=ids, help="ids separated by commas; default: 37 random ones")
    parser.add_argument("--text", help="a text in place of --tokens, by the model's tokenizer")
    parser.add_argument("--new-tokens", type=int, default=24, help="of the greedy text; 0: none")
    arguments = parser.parse_args()
    try:
        from . import compare_folders
    except ImportError as problem:
        return fail(problem, "pip install '.[reference]' in the source tree brings torch and transformers")
    candidate = arguments.candidate or arguments.folder
    try:
        tokens = encode(arguments.text, arguments.folder, candidate) if arguments.text else arguments.tokens
        report = compare_folders(arguments.folder, candidate, arguments.dtype, tokens, arguments.new_tokens)
    except (RuntimeError, ValueError, LookupError, OSError) as problem:  # lathe.Error is a RuntimeError
        return fail(problem, getattr(problem, "hint", ""))
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
