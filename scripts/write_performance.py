#!/usr/bin/env python3
"""Measures the kernels and the demo model on this machine and writes docs/performance.md with its charts: `make bench`.

    scripts/write_performance.py [--build build] [--output docs] [--threads N] [--kernels FILE.json] [--models FILE.json]

Runs BUILD/bench_kernels and `lathe bench` on the demo model at several contexts, and on its F16 copy where the Python package gguf is
there to make it. Five minutes or so on two quiet cores. Files are replaced when all is measured; a measurement that fails leaves them as
they were. --kernels and --models: figures that an earlier run left (BUILD/performance_kernels.json, ..._models.json), instead of new ones.
"""
import argparse, datetime, json, os, pathlib, re, subprocess, sys

from performance_chart import line_chart

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEMO = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
FLOAT16 = ROOT / "models" / "SmolLM2-135M-Instruct.F16.gguf"
CONTEXTS = [128, 512, 1024, 2048, 4096, 8192]
BATCHES = [1, 4, 16]
NEW_TOKENS = 32


# ---- measuring ----

def log(text):
    print(text, flush=True)


def lathe_bench(program, threads, model, prompt, *more):
    # Long prompts take seconds each: fewer rounds say as much.
    rounds = 3 if prompt <= 1024 else 1
    command = [program, "bench", "--model", model, "--prompt-tokens", prompt, "--new-tokens", NEW_TOKENS, "--context",
               max(CONTEXTS) + 2 * NEW_TOKENS, "--repetitions", rounds, "--json", *more]
    if threads:
        command += ["--threads", threads]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"lathe bench failed: {result.stderr.strip()}")
    got = json.loads(result.stdout)
    prefill, decode = got["prefill_tokens_per_second"], got["decode_tokens_per_second"]
    figures = dict(prompt=prompt, prefill=prefill["max"], decode=decode["max"], memory=got["peak_memory_bytes"] / 2**20,
                   weights=got["weight_bytes"] / 2**20, share=got["decode_bandwidth_share"] * decode["max"] / decode["median"])
    log(f"{model.name:38} {' '.join(map(str, more)):32} {prompt:5} tokens: prefill {figures['prefill']:8.1f} tok/s, decode "
        f"{figures['decode']:7.1f} tok/s, {figures['memory']:.0f} MiB")
    return figures


def measure_models(program, threads):
    if not FLOAT16.exists():
        made = subprocess.run([sys.executable, ROOT / "scripts" / "make_float16_model.py", DEMO, FLOAT16], capture_output=True)
        if made.returncode:
            log(f"{FLOAT16.name} is left out: the Python package gguf, which makes it, is not here (make reference has it)")
    runs = [("Q4_1", DEMO, []), ("Q4_1, q8_0 cache", DEMO, ["--kv-cache-dtype", "q8_0"])]
    if FLOAT16.exists():
        runs.insert(1, ("F16", FLOAT16, []))
    contexts = {name: [lathe_bench(program, threads, model, prompt, *more) for prompt in CONTEXTS] for name, model, more in runs}
    batches = {name: [lathe_bench(program, threads, model, 128, "--batch", batch) | {"batch": batch} for batch in BATCHES]
               for name, model, _ in runs[:len(runs) - 1]}
    return dict(contexts=contexts, batches=batches)


def measure_kernels(program, threads, target):
    environment = dict(os.environ) | ({"LATHE_THREADS": str(threads)} if threads else {})
    if subprocess.run([program, "--json", target], env=environment).returncode:
        sys.exit("bench_kernels failed")
    return json.loads(target.read_text())


# ---- writing ----

def table(head, rows):
    align = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, align, *rows])


def machine(build, threads):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    cache = (build / "CMakeCache.txt").read_text() if (build / "CMakeCache.txt").exists() else ""
    found = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache, re.MULTILINE)
    compiler = subprocess.run([found[1], "--version"], capture_output=True, text=True).stdout.splitlines()[0] if found else "?"
    return f"{cpu[1] if cpu else os.uname().machine}, {threads} threads, {memory:.0f} GiB; {compiler}"


class Kernels:
    """The rows of bench_kernels' JSON by (isa, section, kernel, shape)."""

    def __init__(self, data):
        self.data, self.isas = data, data["isas"]
        self.rows = data["speeds"]

    def some(self, **wanted):
        return [r for r in self.rows if all(r[key] == value for key, value in wanted.items())]

    @staticmethod
    def cell(rows, share=True):
        if not rows:
            return "-"
        row = rows[0]
        return f"{row['rate']:.1f} ({row['share']:.0%})" if share and "share" in row else f"{row['rate']:.1f}"

    def grid(self, section, isa):
        """kernels x shapes of a section, in the order in which they were measured."""
        rows = self.some(section=section, isa=isa)
        kernels, shapes = (list(dict.fromkeys(r[key] for r in rows)) for key in ("kernel", "shape"))
        cells = [[k, *(self.cell([r for r in rows if (r["kernel"], r["shape"]) == (k, s)]) for s in shapes)] for k in kernels]
        return table(["", *shapes], cells)

    def by_isa(self, section, shape):
        """kernel x instruction set, what all of them were timed with."""
        common = [r["kernel"] for r in self.some(section=section, shape=shape, isa=self.isas[-1])]
        return table(["", *self.isas], [[k, *(self.cell(self.some(section=section, shape=shape, isa=isa, kernel=k))
                                              for isa in self.isas)] for k in common])

    def by_isa_attention(self, section):
        common = [(r["kernel"], r["shape"]) for r in self.some(section=section, isa=self.isas[-2 if len(self.isas) > 1 else -1])]
        return table(["", *self.isas], [[f"{k}, {s}", *(self.cell(self.some(section=section, shape=s, isa=isa, kernel=k))
                                                        for isa in self.isas)] for k, s in common])

    def ceilings(self):
        return table(["", "read, GB/s", "copy in cache, GB/s", "f32, Gop/s", "bf16, Gop/s", "int8, Gop/s"],
                     [[c["isa"], *(f"{c[key]:.0f}" for key in ("read", "copy", "f32", "bf16", "int8"))] for c in self.data["ceilings"]])

    def small(self):
        isa = self.isas[0]
        rows = self.some(section="small", isa=isa)
        kernels = list(dict.fromkeys(r["kernel"] for r in rows))
        body = []
        for kernel in kernels:
            mine = [r for r in rows if r["kernel"] == kernel]
            one, many = ([r for r in mine if r["shape"].startswith(f"{n} x")] for n in (1, 512))
            width = mine[0]["shape"].split(" x ")[1]
            body.append([kernel, width, f"{one[0]['microseconds']:.2f}" if one else "-",
                         f"{many[0]['microseconds']:.1f}" if many else "-",
                         self.cell(many) if many and "rate" in many[0] else "-"])
        return table(["", "columns", "1 token, us", "512 tokens, us", "GB/s (of a copy)"], body)

    def training(self):
        rows = self.some(section="training", isa=self.isas[0])
        return table(["", "shape", "ms", "", "of the ceiling"],
                     [[r["kernel"], r["shape"], f"{r['microseconds'] / 1e3:.2f}", f"{r['rate']:.1f} {r['unit']}", f"{r['share']:.0%}"] for r in rows])

    def errors(self):
        """Gaussian / outliers, the largest of all instruction sets."""
        kinds, body = ["f32", "bf16", "int8"], []
        for dtype in dict.fromkeys(e["dtype"] for e in self.data["errors"]):
            cells = []
            for arithmetic in kinds:
                mine = [e for e in self.data["errors"] if (e["dtype"], e["arithmetic"]) == (dtype, arithmetic)]
                cells.append(" / ".join(f"{max(e[key] for e in mine):.1e}" for key in ("gaussian", "outliers")) if mine else "-")
            body.append([dtype, *cells])
        return table(["weights", *(f"{kind} arithmetic" for kind in kinds)], body)

    def promise(self):
        rows, dear = [], []
        for p in self.data.get("promise", []):
            cost = p["kept_microseconds"] / p["freer_microseconds"] - 1
            rows.append([f"{p['what']}; {p['shape']}", f"{p['kept_microseconds']:.1f}", f"{p['freer_microseconds']:.1f}", f"{cost:+.0%}"])
            if cost > 0.1:
                dear.append(f"{p['what']}, {p['shape']} ({cost:+.0%})")
        verdict = ("More than a tenth: " + "; ".join(dear) + "." if dear else "Nowhere more than a tenth.")
        return table(["kept; case", "kept, us", "freer, us", "cost"], rows) + "\n\n" + verdict


def model_tables(models):
    contexts, names = models["contexts"], list(models["contexts"])
    head = ["context", *(f"{name}: {what}" for name in names for what in ("prefill", "decode", "MiB"))]
    rows = []
    for i, context in enumerate(CONTEXTS):
        cells = [f"{context:,}"]
        for name in names:
            run = contexts[name]
            cells += [f"{run[i]['prefill']:.0f}", f"{run[i]['decode']:.1f}", f"{run[i]['memory']:.0f}"]
        rows.append(cells)
    kept = []
    for name in names:
        run = {f["prompt"]: f for f in contexts[name]}
        kept.append([name, *(f"{run[c]['decode'] / run[128]['decode']:.2f}" for c in (2048, 4096, 8192)),
                     *(f"{run[c]['prefill'] / run[512]['prefill']:.2f}" for c in (2048, 8192)),
                     f"{run[128]['share']:.2f}"])
    kept_head = ["", "decode at 2,048 / 128", "4,096 / 128", "8,192 / 128", "prefill of 2,048 / 512", "8,192 / 512",
                 "read bandwidth reached at 128"]
    batch_head = ["sequences", *(f"{name}: {what}" for name in models["batches"] for what in ("prefill", "decode"))]
    batch_rows = [[batch, *(f"{run[i][key]:.0f}" for run in models["batches"].values() for key in ("prefill", "decode"))]
                  for i, batch in enumerate(BATCHES)]
    return table(head, rows), table(kept_head, kept), table(batch_head, batch_rows)


def charts(models):
    made = {}
    for file, title, unit, key in [("decode.svg", "Decoding after a context", "tokens/s", "decode"),
                                   ("prefill.svg", "Prefill of a prompt", "tokens/s", "prefill"),
                                   ("memory.svg", "Peak resident memory", "MiB", "memory")]:
        made[f"performance_{file}"] = line_chart(title, unit, CONTEXTS, {name: [f[key] for f in run]
                                                                         for name, run in models["contexts"].items()})
    return made


PAGE = """# Performance

Written by `make bench` on {date}; nothing here is typed by hand. Figures compare **within a run only**: the next hour, or another
machine's neighbours, give others. Speeds are the best of several rounds (of a whole model from 2,048 tokens on: one round after an
untimed one), and so are the ceilings, which are measured in the same process before and after.

Machine: {machine}.

## Ceilings

What the machine does when nothing else is asked of it: reading memory far larger than its caches, copying within them, multiplying and
adding what lies in registers and the first-level cache (a product and its sum are two operations). int8 is the sum of products with
4-bit weights, without the scales, which cost one or two instructions more for every eight. Names are those of `LATHE_CPU`.

{ceilings}

## A whole model

`lathe bench` on SmolLM2-135M-Instruct, {new_tokens} tokens decoded after a prompt, `--dtype auto`, the default cache of 16 bits unless said: tokens per second,
and the peak resident memory in MiB. Weights: {weights}.

{contexts}

![decode](performance_decode.svg)
![prefill](performance_prefill.svg)
![memory](performance_memory.svg)

How much of the speed a long context keeps:

{kept}

Side by side, prompts of 128 tokens, all sequences together in tokens per second:

{batches}

## One token: the linears

GB/s of packed weights that come from memory, {best}; in brackets the share of the read bandwidth. The first column names the weights'
dtype and the arithmetic; the shapes are rows x columns.

{decode}

The same on every instruction set, at 2048 x 2048:

{decode_isas}

## 512 tokens: the linears

Gop/s, {best}; in brackets the share of the arithmetic's ceiling. Repacking and quantising the activations are in the time.

{prefill}

The same on every instruction set, at 2048 x 2048 (portable: 64 tokens):

{prefill_isas}

## Attention

One new token: GB/s of keys and values from memory (share of the read bandwidth). Heads are queries/keys x components.

{attend_one}

512 new tokens: Gop/s over the pairs of query and key that the mask leaves (share of the f32 ceiling).

{attend}

{attend_one_isas}

{attend_isas}

## Small kernels

{best}; data in the caches, as it is when they run. A copy reads and writes as many bytes without arithmetic.

{small}

## Training kernels

{best}; one sequence of 512 tokens at the sizes of SmolLM2-135M, in f32. Products beside the arithmetic's ceiling (attention over the pairs that
the mask leaves, its backward being five products), the others beside a copy of as many bytes.

{training}

## Errors

Relative root mean square against double on the weights as the file's blocks mean them (1536 columns): activations from a normal
distribution / the same with 1% of them times 20; the largest of all instruction sets. `make test` bounds each, on each
(`tests/kernels/test_linear_errors.cpp`). Weights are random, so a format's own loss is not in it.

{errors}

## What exact bits cost

A token's logits are the same bits however they were computed (docs/architecture.md, "Bits"). Each rule of that promise beside the same
work done without it, {best}, in turns:

{promise}

- **One sum an output.** A tile for one token keeps one sum for each of 16 rows; a freer one keeps four and adds them at the end, which
  matters where the weights lie in a cache, not where they come from memory.
- **Threads split rows.** A narrow, long matrix could be cut along its columns instead, its parts added at the end.
- **One order of columns** for 1 token and 512: a library chooses another for each shape.
- **One arithmetic** for prompts and decoding. F16 weights are multiplied in f32, exactly; where bf16 has units of its own, a prompt would
  be faster in it, but a token would then depend on how it was computed. `--dtype bfloat16` takes bf16 for both.
- **Segments of 256 keys**, merged in order: a freer kernel gives each thread an equal share of the context, as one piece.
"""


def page(kernels, models, build):
    k = Kernels(kernels)
    best = k.isas[0]
    contexts, kept, batches = model_tables(models)
    weights = ", ".join(f"{name} {run[0]['weights']:.0f} MiB" for name, run in models["contexts"].items() if "cache" not in name)
    return PAGE.format(
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), machine=machine(build, kernels["threads"]),
        ceilings=k.ceilings(), new_tokens=NEW_TOKENS, weights=weights, contexts=contexts, kept=kept, batches=batches, best=best,
        decode=k.grid("decode", best), decode_isas=k.by_isa("decode", "2048 x 2048"), prefill=k.grid("prefill", best),
        prefill_isas=k.by_isa("prefill", "2048 x 2048"), attend_one=k.grid("attend one", best), attend=k.grid("attend", best),
        attend_one_isas=k.by_isa_attention("attend one"), attend_isas=k.by_isa_attention("attend"), small=k.small(),
        training=k.training(), errors=k.errors(), promise=k.promise())


def write(path, text):
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    os.replace(partial, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kernels", type=pathlib.Path)
    parser.add_argument("--models", type=pathlib.Path)
    o = parser.parse_args()
    if not o.models and not DEMO.exists():
        sys.exit("the demo model is not there: scripts/fetch_model.py fetches it")
    for program in [o.build / "lathe"] * (not o.models) + [o.build / "bench_kernels"] * (not o.kernels):
        if not program.exists():
            sys.exit(f"{program} is not there: make bench builds it")
    if o.models:
        models = json.loads(o.models.read_text())
    else:
        models = measure_models(o.build / "lathe", o.threads)
        write(o.build / "performance_models.json", json.dumps(models))
    if o.kernels:
        kernels = json.loads(o.kernels.read_text())
    else:
        kernels = measure_kernels(o.build / "bench_kernels", o.threads, o.build / "performance_kernels.json")
    files = {"performance.md": page(kernels, models, o.build)} | charts(models)
    for name, text in files.items():
        write(o.output / name, text)
    log(f"wrote {', '.join(files)} into {o.output.name}/")


if __name__ == "__main__":
    main()
