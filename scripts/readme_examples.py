#!/usr/bin/env python3
"""Writes README's examples of a language as files: readme_examples.py cpp|python FOLDER -> FOLDER/example_N.cpp or .py."""
import pathlib, re, sys

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def main():
    language, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    if not blocks:
        sys.exit(f"README.md has no example in {language}")
    folder.mkdir(parents=True, exist_ok=True)
    for number, block in enumerate(blocks, 1):
        (folder / f"example_{number}.{ {'cpp': 'cpp', 'python': 'py'}[language] }").write_text(block)


if __name__ == "__main__":
    main()
