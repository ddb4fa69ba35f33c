#!/usr/bin/env python3
"""Ticks the list of CONTRIBUTING.md, "Adding a model", for one family or all: what a family consists of and what it is held against.

    scripts/check_model.py NAME | --all

NAME is the first name of the family's line in modules/llm/registry.cpp. Reads files alone: nothing is built or run. One line a point and
a closing line "N passed, N failed". A family whose arithmetic is another's (Mistral is Llama with options) has that one's source file.
"""
import argparse, json, pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
REGISTRY = ROOT / "modules" / "llm" / "registry.cpp"
MOST_LINES = 150
passed = failed = 0


def tick(holds, what, detail):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print(f"[{'x' if holds else ' '}] {what:14} {detail}")


def registry():
    """What the registry's lines say: {name: (class names, functions)}."""
    text = re.sub(r"//.*", "", REGISTRY.read_text())
    body = text[text.index("families = {"):text.index("return families;")]
    starts = list(re.finditer(r'\{\s*"(\w+)",\s*\{([^{}]*)\}', body))
    ends = [m.start() for m in starts[1:]] + [len(body)]
    entries = {}
    for entry, end in zip(starts, ends):
        functions = re.findall(r"\b(?:make_\w+|\w+_weight_mapping|\w+_config)\b", body[entry.end():end])
        entries[entry[1]] = (re.findall(r'"(\w+)"', entry[2]), functions)
    return entries


def headings(page):
    return re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)


def defining_file(function):
    """The file of modules/ that defines it."""
    for path in sorted((ROOT / "modules").rglob("*.cpp")):
        if re.search(rf"^[\w:<>]+ {function}\([^;]*\{{", path.read_text(), re.MULTILINE):
            return path
    return None


def check_source(classes, functions):
    for function in functions:
        path = defining_file(function)
        lines = len(path.read_text().splitlines()) if path else 0
        where = f"{path.relative_to(ROOT)}, {lines} lines" if path else "is defined nowhere"
        tick(path and lines <= MOST_LINES, "source file", f"{function}: {where} (at most {MOST_LINES})")
    tables = [p for p in (ROOT / "modules").rglob("*.cpp") if p != REGISTRY and f'"{classes[0]}"' in p.read_text()]
    tick(tables, "configuration", f"{classes[0]} is read by " + (str(tables[0].relative_to(ROOT)) if tables else "nothing"))


def check_sizes(name):
    files = sorted((ROOT / "configs" / name).glob("*.yaml"))
    counted = [f for f in files if re.search(r"^# [\d,]+ parameters", f.read_text(), re.MULTILINE)]
    tick(files and counted == files, "sizes", f"configs/{name}: {len(files)} files, {len(counted)} with their number of parameters")


def model_types(classes):
    """The model types that config tables give to the class names."""
    text = "".join(p.read_text() for p in sorted((ROOT / "modules").rglob("*.cpp")))
    return [m[1] for m in re.finditer(r'ConfigFamily family\{"(\w+)",\s*\{([^{}]*)\}', text) if f'"{classes[0]}"' in m[2]]


def check_short_names(classes):
    table = (ROOT / "modules" / "config" / "published_models.cpp").read_text()
    series = [m[1] for m in re.finditer(r'\{"([\w.-]+)",\s*"(\w+)",', table) if m[2] in model_types(classes)]
    tick(series or classes[0].startswith("Toy"), "short names", ", ".join(dict.fromkeys(series)) or "modules/config/published_models.cpp has none")


def check_page(name, classes):
    wanted = headings(ROOT / "docs" / "models" / "Llama.md")
    pages = [p for p in sorted((ROOT / "docs" / "models").glob("*.md")) if classes[0] in p.read_text() or p.stem.lower() == name]
    if not pages:
        return tick(False, "page", f"no page of docs/models names {classes[0]}")
    lacking = [h for h in wanted if h not in headings(pages[0])]
    tick(not lacking, "page", f"{pages[0].relative_to(ROOT)}" + (", lacks the headings " + ", ".join(lacking) if lacking else ""))


def check_goldens(classes):
    goldens = [p.parent for p in sorted((ROOT / "tests" / "goldens").glob("*/config.json"))
               if json.loads(p.read_text())["architectures"][0] in classes]
    whole = [g for g in goldens if (g / "expected.safetensors").is_file() and any(g.glob("model*.safetensors"))]
    tick(whole, "golden", ", ".join(f"tests/goldens/{g.name}" for g in whole) or f"none is a {classes[0]}")
    tick(whole, "laws", 'test_generate "every golden*" takes its architecture' if whole else "without a golden no law is held")
    cases = (ROOT / "scripts" / "make_goldens.py").read_text()
    exported = (ROOT / "tests" / "llm" / "test_export.cpp").read_text()
    exported = exported[exported.index("kGoldens[] = {"):]
    exported = exported[:exported.index("};")]
    again = [g.name for g in whole if f'"{g.name}"' in exported]
    tick(again, "exports", ", ".join(again) + " in kGoldens of tests/llm/test_export.cpp" if again else "kGoldens of tests/llm/test_export.cpp has none")
    unmade = [g.name for g in whole if f'"{g.name}":' not in cases]
    tick(whole and not unmade, "made anew by", "scripts/make_goldens.py --only " + (whole[0].name if whole else "NAME") + (f"; not by it: {unmade}" if unmade else ""))


def check_fields():
    """Every field of the configuration is named for YAML and inspect, and is an attribute of lathe.Config."""
    config = ROOT / "modules" / "config"
    headers = (config / "model_sizes.h").read_text() + (config / "model_config.h").read_text()
    bodies = re.findall(r"^struct Model\w+ (?:: ModelSizes )?\{(.*?)^\};", headers, re.MULTILINE | re.DOTALL)
    fields = [m[1] for body in bodies for m in re.finditer(r"^  (?!static|//)[\w:<>, ]+ (\w+)(?: = [^;(]+)?;", body, re.MULTILINE)]
    named = set(re.findall(r'\{"(\w+)", &M::\w+\}', (config / "config_families.cpp").read_text().split("& config_fields()")[1]))
    aside = {"source", "extra", "misspelt", "rope_frequency_factors"}
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
    entries = registry()
    if not arguments.all and arguments.name not in entries:
        parser.error(f"the registry has no line {arguments.name!r}; it has {', '.join(entries)}")
    for name in entries if arguments.all else [arguments.name]:
        classes, functions = entries[name]
        print(f"{name}: {', '.join(classes)}")
        tick(True, "registry line", f"{REGISTRY.relative_to(ROOT)}: {', '.join(functions)}")
        check_source(classes, functions)
        check_sizes(name)
        check_short_names(classes)
        check_page(name, classes)
        check_goldens(classes)
    check_fields()
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
