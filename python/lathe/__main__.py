"""The command `lathe`: the program that the package brings, in place of this process."""
import os
import pathlib
import sys

from . import _lathe


def main():
    program = pathlib.Path(_lathe.__file__).parent / "bin" / "lathe"  # in an editable install, too
    try:
        os.execv(program, ["lathe", *sys.argv[1:]])
    except OSError as problem:
        print(f"lathe: error: {program}: {problem.strerror}\n  hint: pip install . in the source tree builds it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
