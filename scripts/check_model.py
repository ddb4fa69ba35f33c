#!/usr/bin/env python3
"""Ticks the list of CONTRIBUTING.md, "Adding a model", for one family or all: what a family consists of and what it is held against.

    scripts/check_model.py NAME | --all

NAME is that of the family's line in modules/llm/registry.cpp. Reads files alone: nothing is built or run. One line a point and a closing
line "N passed, N failed".
"""
import argparse, json, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
REGISTRY = ROOT / "modules" / "llm" / "registry.cpp"
MOST_LINES = 200
passed = failed = 0


def tick(holds, what, detail):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print(f"[{'x' if holds else ' '}] {what:14} {detail}")


def registry():
    """The families of the registry's list."""
    text = REGISTRY.read_text()
    return re.findall(r"^  LATHE_FAMILY\((\w+)\);", text, re.MULTILINE)


def source_of(name):
    return ROOT / "modules" / "llm" / f"{name}.cpp"


def classes_of(name):
    """The class names that a family's file gives it."""
    found = source_of(name).is_file() and re.search(r"f\.architectures = \{([^{}]*)\}", source_of(name).read_text())
    return re.findall(r'"(\w+)"', found[1]) if found else []


def headings(page):
    return re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)


def check_source(name, classes):
    path = source_of(name)
    lines = len(path.read_text().splitlines()) if path.is_file() else 0
    where = f"{path.relative_to(ROOT)}, {lines} lines" if lines else f"{path.relative_to(ROOT)} is missing"
    tick(0 < lines <= MOST_LINES, "source file", f"{where} (at most {MOST_LINES})")
    text = path.read_text() if lines else ""
    tick(f"Family {name}_family()" in text and classes, "description", f"{name}_family(): {', '.join(classes) or 'no architectures'}")


def check_sizes(name):
    files = sorted((ROOT / "configs" / name).glob("*.yaml"))
    counted = [f for f in files if re.search(r"^# [\d,]+ parameters", f.read_text(), re.MULTILINE)]
    tick(files and counted == files, "sizes", f"configs/{name}: {len(files)} files, {len(counted)} with their number of parameters")


def check_short_names(name, classes):
    text = source_of(name).read_text() if source_of(name).is_file() else ""
    table = re.search(r"f\.published = \{(.*?)\};", text, re.DOTALL)
    series = re.findall(r'\{"([\w.-]+)",\s*\{', table[1]) if table else []
    unpublished = classes and classes[0].startswith("Toy")
    tick(series or unpublished, "short names", ", ".join(dict.fromkeys(series)) or "f.published has none")


def check_page(name, classes):
    wanted = headings(ROOT / "docs" / "models" / "Llama.md")
    pages = [p for p in sorted((ROOT / "docs" / "models").glob("*.md")) if classes and classes[0] in p.read_text() or p.stem.lower() == name]
    if not pages:
        return tick(False, "page", f"no page of docs/models names {name}")
    lacking = [h for h in wanted if h not in headings(pages[0])]
    tick(not lacking, "page", f"{pages[0].relative_to(ROOT)}" + (", lacks the headings " + ", ".join(lacking) if lacking else ""))


def check_goldens(classes):
    goldens = [p.parent for p in sorted((ROOT / "tests" / "goldens").glob("*/config.json"))
               if json.loads(p.read_text())["architectures"][0] in classes]
    whole = [g for g in goldens if (g / "expected.safetensors").is_file() and any(g.glob("model*.safetensors"))]
    tick(whole, "golden", ", ".join(f"tests/goldens/{g.name}" for g in whole) or "none of its classes")
    tick(whole, "laws", 'test_generate "every golden*" takes its architecture' if whole else "without a golden no law is held")
    cases = (ROOT / "scripts" / "make_goldens.py").read_text()
    refused = (ROOT / "tests" / "llm" / "test_export.cpp").read_text()
    refused = refused[refused.index("kNoGguf[] = {"):]
    refused = refused[:refused.index("};")]
    again = [g.name for g in whole if f'"{g.name}"' not in refused]
    tick(again, "exports", "to GGUF and back: " + (", ".join(again) or "none, all are in kNoGguf of tests/llm/test_export.cpp"))
    unmade = [g.name for g in whole if f'"{g.name}":' not in cases]
    tick(whole and not unmade, "made anew by", "scripts/make_goldens.py --only " + (whole[0].name if whole else "NAME") + (f"; not by it: {unmade}" if unmade else ""))


def check_fields():
    """Every field of the configuration is named for YAML and inspect, and is an attribute of lathe.Config."""
    config = ROOT / "modules" / "config"
    headers = (config / "model_sizes.h").read_text() + (config / "model_config.h").read_text()
    bodies = re.findall(r"^struct Model\w+ (?:: ModelSizes )?\{(.*?)^\};", headers, re.MULTILINE | re.DOTALL)
    fields = [m[1] for body in bodies for m in re.finditer(r"^  (?!static|//)[\w:<>, ]+ (\w+)(?: = [^;(]+)?;", body, re.MULTILINE)]
    named = set(re.findall(r'\{"(\w+)", &M::\w+\}', (config / "family_config.cpp").read_text().split("& config_fields()")[1]))
    aside = {"source", "extra", "misspelt", "rope_frequency_factors", "heads_before"}
    lacking = [f for f in fields if f not in named | aside]
    tick(fields and not lacking, "fields", f"{len(fields)} of ModelConfig; config_fields() lacks " + (", ".join(lacking) or "none"))
    bound = set(re.findall(r"&C::(\w+)", (ROOT / "python" / "src" / "bind_config.cpp").read_text()))
    lacking = sorted(named - bound - {"rope_scaling"})
    tick(named and not lacking, "lathe.Config", "python/src/bind_config.cpp lacks " + (", ".join(lacking) or "none"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    names = registry()
    if not arguments.all and arguments.name not in names:
        parser.error(f"the registry has no line {arguments.name!r}; it has {', '.join(names)}")
    for name in names if arguments.all else [arguments.name]:
        classes = classes_of(name)
        print(f"{name}: {', '.join(classes)}")
        tick(True, "registry line", f"{REGISTRY.relative_to(ROOT)}: LATHE_FAMILY({name})")
        check_source(name, classes)
        check_sizes(name)
        check_short_names(name, classes)
        check_page(name, classes)
        check_goldens(classes)
    check_fields()
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
