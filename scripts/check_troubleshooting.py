#!/usr/bin/env python3
"""Produces each error of docs/troubleshooting.md and compares what is printed with what the page says.

    scripts/check_troubleshooting.py [build/lathe]

Breaks a copy of tests/goldens/olmo2 in one place a time. A block "```text" of the page must be the beginning of what some case prints, and
each case must print a block. Needs nothing but Python. One line a case and a closing line "N passed, N failed".
"""
import json, os, pathlib, re, shutil, struct, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "goldens" / "olmo2"
BLOCKS = re.findall(r"^```text\n(.*?)^```$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE | re.DOTALL)


class Model:
    """A copy of the golden that may be broken."""

    def __init__(self, folder):
        self.config, self.weights = folder / "config.json", folder / "model.safetensors"
        for file in (self.config, self.weights):
            shutil.copy(GOLDEN / file.name, file)

    def set(self, **keys):
        self.config.write_text(json.dumps({**json.loads(self.config.read_text()), **keys}))

    def rewrite(self, change):
        """`change` may alter the header and the data of the safetensors file."""
        raw = self.weights.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        header, data = json.loads(raw[8:8 + length]), bytearray(raw[8 + length:])
        change(header, data)
        text = json.dumps(header).encode()
        self.weights.write_bytes(struct.pack("<Q", len(text)) + text + data)


def rename(header, data):
    header["model.layers.0.self_attn.query.weight"] = header.pop("model.layers.0.self_attn.q_proj.weight")


def shorten(header, data):
    """The last 8 of 48 rows of a matrix go, and what lies behind them moves up."""
    name, lost = "model.layers.1.mlp.up_proj.weight", 8 * 32 * 4
    end = header[name]["data_offsets"][1]
    del data[end - lost:end]
    header[name]["shape"][0] -= 8
    for key, tensor in header.items():
        if key != "__metadata__":
            tensor["data_offsets"] = [offset - lost if offset >= end else offset for offset in tensor["data_offsets"]]


def poison(header, data):
    begin = header["model.layers.1.mlp.down_proj.weight"]["data_offsets"][0]
    data[begin:begin + 4] = struct.pack("<f", float("nan"))


LOGITS = ["logits", "--model", "MODEL", "--tokens", "5,6,7", "--output", "MODEL/o.npy"]
GENERATE = ["generate", "--model", "MODEL", "--greedy", "--max-new-tokens", "3", "--tokens"]
LONG = ",".join(str(i) for i in range(3, 61))
# What is broken: how, the command, the environment.
CASES = {
    "a renamed tensor": (lambda m: m.rewrite(rename), LOGITS, {}),
    "no weights": (lambda m: m.weights.unlink(), LOGITS, {}),
    "a cut file": (lambda m: m.weights.write_bytes(m.weights.read_bytes()[:50000]), LOGITS, {}),
    "a shorter matrix": (lambda m: m.rewrite(shorten), LOGITS, {}),
    "an unknown class": (lambda m: m.set(architectures=["Olmo4ForCausalLM"]), LOGITS, {}),
    "three key-value heads": (lambda m: m.set(num_key_value_heads=3), LOGITS, {}),
    "another activation": (lambda m: m.set(hidden_act="relu"), LOGITS, {}),
    "another quantisation": (lambda m: m.set(quantization_config=dict(quant_method="bitsandbytes", load_in_4bit=True)), LOGITS, {}),
    "a weight that is no number": (lambda m: m.rewrite(poison), GENERATE + ["5,6,7"], {}),
    "a tiny cache": (lambda m: None, GENERATE + ["5,6", "--kv-memory", "1KiB"], {}),
    "a long prompt": (lambda m: None, GENERATE + [LONG, "--context", "20"], {}),
    "a mistyped instruction set": (lambda m: None, LOGITS, {"LATHE_CPU": "avx1024"}),
}


def message(program, breaks, command, environment):
    with tempfile.TemporaryDirectory() as folder:
        breaks(Model(pathlib.Path(folder)))
        result = subprocess.run([program, *(word.replace("MODEL", folder) for word in command)], capture_output=True, text=True,
                                env={**os.environ, **environment})
        lines = result.stderr.replace(folder, "MODEL").splitlines(keepends=True)
    kept = "".join(line for line in lines if line.startswith(("lathe: error", "  hint")))
    return kept or f"exit code {result.returncode} and no error"


def main():
    program, failed, said = (sys.argv[1:] or ["build/lathe"])[0], 0, set()
    for name, case in CASES.items():
        got = message(program, *case)
        found = [block for block in BLOCKS if got.startswith(block.rstrip("\n"))]
        said.update(found)
        failed += not found
        print("ok  " if found else "FAIL", name, "" if found else f"prints what the page has not:\n{got}")
    unsaid = [block for block in BLOCKS if block not in said]
    for block in unsaid:
        print("FAIL no case prints:", block)
    print(f"{len(CASES) - failed} passed, {failed + len(unsaid)} failed")
    sys.exit(failed + len(unsaid) > 0)


main()
