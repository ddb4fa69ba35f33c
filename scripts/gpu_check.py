#!/usr/bin/env python3
"""Runs Lathe on a GPU: are the results right, and how fast are they beside torch and what the device can do?

    gpu_check.py [--part 1|2] [--resume] [--output F.json] [--build DIR] [--dry-run]       (`make gpu-check`)
    gpu_check.py --validate F.json ...

Part 1: probe, build, ceilings, conformance, sanitizer, parity. Part 2: kernels, inference, training. Each part ends within nine minutes,
each stage within a limit of its own; the result is written anew after each stage, and --resume goes on behind those that passed. Stages
of part 2 use the program that part 1 built. Needs a driver, nvcc, CMake and a C++ compiler; torch and transformers for the twins.
--dry-run: every stage at toy size with the emulator or on the CPU, and everything that reads and writes results; needs no GPU.
docs/benchmarks/gpu/README.md says what the figures are. Closing line: "N passed, N failed, N skipped", in stages.
"""
import argparse, copy, datetime, importlib.metadata, json, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, time

import check_cuda

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs/benchmarks/gpu"
SCHEMA = json.loads((RESULTS / "schema.json").read_text())
STAGES = {1: dict(probe=30, build=240, ceilings=40, conformance=110, sanitizer=60, parity=50), 2: dict(kernels=130, inference=240, training=160)}
TYPES = dict(object=dict, array=list, string=str, boolean=bool, null=type(None), number=(int, float))
LOGITS, LOSSES = {"float32": 1e-4, "bfloat16": 5e-2}, 1e-3  # of the logits' spread; relative


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def breaches(value, schema, where="result"):
    """What of a value breaks a schema, as far as ours goes: type, enum, required, properties, additionalProperties, items, $ref."""
    if "$ref" in schema:
        yield from breaches(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]], where)
    types = schema.get("type", list(TYPES))
    types = [types] if isinstance(types, str) else types
    if not any(isinstance(value, TYPES[t]) and (t != "number" or not isinstance(value, bool)) for t in types):
        yield f"{where}: expected {' or '.join(types)}, found {json.dumps(value)[:60]}"
    elif value not in schema.get("enum", [value]):
        yield f"{where}: expected one of {schema['enum']}, found {json.dumps(value)}"
    elif isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{where}: {key} is missing" for key in schema.get("required", []) if key not in value)
        for key, item in value.items():
            if key not in known and others is False:
                yield f"{where}: {key} is not known"
            elif key in known or isinstance(others, dict):
                yield from breaches(item, known.get(key, others), f"{where}.{key}")
    elif isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from breaches(item, schema["items"], f"{where}[{i}]")


def last_line(command):
    """Of what it prints; None where the command is missing or prints nothing."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip().splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return lines[-1].strip() if lines else None


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_properties():
    """Device, driver, compute capability and memory; nothing where there is no GPU or driver."""
    line = last_line(["nvidia-smi", "--id=0", "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader"])
    fields = [field.strip() for field in (line or "").split(",")]
    return dict(zip(("device", "driver", "compute_capability", "memory"), fields)) if len(fields) == 4 else None


class Check:
    def __init__(self, options, properties):
        self.dry, self.properties, self.output = options.dry_run, properties, pathlib.Path(options.output)
        self.build_folder = ROOT / (options.build or ("build" if self.dry else "build-cuda"))
        self.device = "cpu" if self.dry else "cuda"
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="lathe-gpu-check-"))
        commit = last_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or "unknown"
        self.result = dict(format=1, commit=commit, date=datetime.date.today().isoformat(), dry_run=self.dry, stages={})
        before = json.loads(self.output.read_text()) if self.output.exists() else None
        if options.resume and before and before["commit"] != commit:
            raise SystemExit(f"gpu-check: {self.output} is of commit {before['commit'][:12]}, this is {commit[:12]}\n  hint: without --resume it starts afresh")
        if before and before["commit"] == commit:  # of the part that is not run now, the stages stay
            kept = [name for part in STAGES if options.resume or options.part not in (None, part) for name in STAGES[part]]
            self.result["stages"] = {name: stage for name, stage in before["stages"].items() if name in kept}

    # Commands

    def run(self, command, accept=(0,)):
        """Standard output; the stage fails with its last line on standard error where it does not end well, or in time."""
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
                                   env={**os.environ, "CXX": os.environ.get("CXX") or "g++"})
        try:
            out, error = process.communicate(timeout=max(1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Failed(f"{pathlib.Path(command[0]).name} did not end in time") from None
        self.code = process.returncode
        if process.returncode not in accept:
            said = [line for line in (error.strip() or out.strip()).splitlines() if "hint: " not in line]
            raise Failed(f"{pathlib.Path(command[0]).name} ended with {process.returncode}: {said[-1] if said else 'it said nothing'}")
        return out

    def torch(self, *arguments, **sizes):
        """The value that scripts/gpu_torch.py prints; None without torch."""
        if not (version("torch") and version("transformers")):
            return None
        out = self.run([sys.executable, ROOT / "scripts/gpu_torch.py", *arguments, *(["--toy"] if self.dry else []), "--sizes", json.dumps(sizes)])
        return json.loads(out.splitlines()[-1])

    def lathe(self, *arguments):
        return self.run([self.build_folder / "lathe", *arguments])

    def bench(self, *arguments):
        return json.loads(self.lathe("bench", "--device", self.device, "--json", *arguments).splitlines()[-1])

    def program(self, name):
        return self.build_folder / name

    # Part 1

    def probe(self):
        nvcc = check_cuda.find_nvcc()
        none = dict.fromkeys(("device", "driver", "compute_capability", "memory"))
        return dict(**(self.properties or none), toolkit=last_line([nvcc, "--version"]) if nvcc else None,
                    compiler=last_line([os.environ.get("CXX") or "g++", "-dumpfullversion"]),
                    torch=version("torch"), transformers=version("transformers"))

    def build(self):
        """The program, the tests and the benchmark; registers and spills against the table."""
        tests = ["test_autograd_emulated", "test_goldens_emulated"] if self.dry else ["test_autograd", "test_llm", "test_device"]
        targets, jobs = ["lathe_cli", "test_cuda", "bench_cuda", *tests], os.cpu_count()
        if self.dry:
            self.run(["cmake", "--build", self.build_folder, "-j", jobs, "--target", *targets])
            return dict(architecture=None, prebuilt=False, kernels={})
        architecture = self.properties["compute_capability"].replace(".", "")
        prebuilt = False
        try:
            self.run(["scripts/configure.sh", self.build_folder, "-DLATHE_CUDA=ON", f"-DLATHE_CUDA_ARCHITECTURES={architecture}-real"])
            self.run(["cmake", "--build", self.build_folder, "-j", jobs, "--target", *targets])
        except Failed:  # a machine without the libraries may have been given a build of another
            prebuilt = all(self.program("lathe" if t == "lathe_cli" else t).exists() for t in targets)
            if not prebuilt:
                raise
        found = self.work / "kernels.json"
        self.run(["scripts/check_cuda.py", "--arch", architecture, "--jobs", jobs, "--json", found])
        kernels = json.loads(found.read_text()) if found.exists() else {}  # without nvcc: of a build that was given
        return dict(architecture="sm_" + architecture, prebuilt=prebuilt, kernels={file: of[architecture] for file, of in kernels.items()})

    def ceilings(self):
        found = self.torch("ceilings")
        if found is None:
            raise Skipped("torch is not installed")
        return found

    def conformance(self):
        """The tests of kernels, operations, gradients and whole models. The emulator runs all of them in `make test`: here a few."""
        programs = {"test_cuda": [], "test_autograd": [], "test_llm": ["-#", "[#test_goldens]"], "test_device": []}
        if self.dry:
            programs = {"test_cuda": ["-#", "[#test_rope]"], "test_autograd_emulated": ["-#", "[#test_convert]"],
                        "test_goldens_emulated": ["a router keeps its dtype*"]}
        counts = {}
        for name, arguments in programs.items():
            out = self.run([self.program(name), *arguments], accept=range(256))
            line = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", out, re.MULTILINE)
            counts[name] = dict(zip(("passed", "failed", "skipped"), map(int, line[-1] if line else (0, 1, 0))))
        wrong = [f"{name}: {c['failed']} failed, {c['passed']} passed" for name, c in counts.items() if c["failed"] or not c["passed"]]
        return (counts, "; ".join(wrong)) if wrong else counts

    def sanitizer(self):
        """compute-sanitizer reports each planted bug, and nothing of the kernels' own tests."""
        sanitizer = shutil.which("compute-sanitizer") or next((p for p in ["/usr/local/cuda/bin/compute-sanitizer"] if os.path.exists(p)), None)
        if self.dry:
            raise Skipped("the emulator's own bugs are in tests/simt")
        if sanitizer is None:
            raise Skipped("compute-sanitizer is not installed")
        if check_cuda.find_nvcc() is None:
            raise Skipped("nvcc, which compiles the planted bugs, is not installed")
        planted = self.work / "planted_bugs"
        self.run([check_cuda.find_nvcc(), "-ccbin", os.environ.get("CXX") or "g++", "-o", planted, "tests/cuda/planted_bugs.cu"])

        def reports(tool, *command):
            """What the program printed, and whether the tool reports of it."""
            out = self.run([sanitizer, "--tool", tool, "--error-exitcode", 9, *command], accept=(0, 9))
            return out, self.code == 9

        def is_silent(tool, *tests):
            out, reported = reports(tool, *tests)
            return not reported and re.search(r"^[1-9]\d* passed, 0 failed", out, re.MULTILINE) is not None

        found = {bug: reports(tool, planted, bug)[1] for bug, tool in
                 (("out_of_bounds", "memcheck"), ("no_barrier", "racecheck"), ("not_written", "initcheck"))}
        tests = [self.program("test_cuda"), "-#", "[#test_norm],[#test_rope],[#test_embedding]"]
        silent = {tool: is_silent(tool, *tests) for tool in ("memcheck", "racecheck", "synccheck")}
        result = dict(planted=found, silent=silent)
        wrong = [f"{bug} is not found" for bug, is_found in found.items() if not is_found] + [f"{tool} reports, or no test ran" for tool, quiet in silent.items() if not quiet]
        return (result, "; ".join(wrong)) if wrong else result

    def parity(self):
        """A seeded model's logits beside transformers', and the losses of 20 steps beside the CPU's, which other tests hold against torch's."""
        folder = self.work / "tiny"
        reference = self.torch("parity", folder)
        if reference is None:
            raise Skipped("torch and transformers are not installed")
        import numpy  # they need it too
        low, high = min(reference["logits"]), max(reference["logits"])
        differences = {}
        for dtype in LOGITS:
            self.lathe("logits", "--model", folder, "--device", self.device, "--dtype", dtype, "--tokens", ",".join(map(str, reference["tokens"])),
                       "--output", self.work / "logits.npy")
            found = numpy.load(self.work / "logits.npy").ravel().tolist()
            differences[dtype] = max(abs(a - b) for a, b in zip(found, reference["logits"], strict=True)) / (high - low)
        cpu, device = (self.losses(folder, on, self.work / name) for name, on in (("run-cpu", "cpu"), ("run-device", self.device)))
        losses = max(abs(a - b) / a for a, b in zip(cpu, device, strict=True))
        wrong = [f"logits in {d} differ by {x:.1e} of their spread" for d, x in differences.items() if not x <= LOGITS[d]]
        wrong += [f"losses differ by {losses:.1e}"] if not losses <= LOSSES else []
        result = dict(logits=differences, losses=losses)
        return (result, "; ".join(wrong)) if wrong else result

    def losses(self, checkpoint, device, output):
        import numpy
        recipe, ids = self.work / "recipe.yaml", self.work / "ids.npy"
        numpy.save(ids, numpy.array([3 + i * i % 89 for i in range(4000)], numpy.int32))
        write_recipe(recipe, dict(model=dict(checkpoint=str(checkpoint)), data=dict(train=str(ids)), training=dict(context=32, batch_size=4, steps=20),
                                  optimizer=dict(learning_rate=1e-3), logging=dict(every=1)))
        self.lathe("train", "--config", recipe, "--output", output, "--device", device)
        return [json.loads(line)["loss"] for line in (output / "metrics.jsonl").read_text().splitlines()]

    # Part 2

    def kernels(self):
        ours = [json.loads(line) for line in self.run([self.program("bench_cuda"), *(["--toy"] if self.dry else [])]).splitlines()]
        twins = {(t["kernel"], t["shape"]): t["microseconds"] for t in self.torch("kernels") or []}
        ceilings = self.result["stages"].get("ceilings", {}).get("result")
        for line in ours:
            line["torch_microseconds"], line["of_ceiling"] = twins.get((line["kernel"], line["shape"])), None
            if ceilings:
                limit = max(line["bytes"] / ceilings["copy_gb_s"] / 1e3, line["operations"] / ceilings["gemm_bf16_tflop_s"] / 1e6)
                line["of_ceiling"] = limit / line["microseconds"]
        lost = [f"{line['kernel']} {line['shape']}" for line in ours if twins and line["torch_microseconds"] is None]
        return (dict(kernels=ours), f"no twin of {', '.join(lost)}") if lost else dict(kernels=ours)

    def inference(self):
        """Decoding by batch and prefill, on seeded weights of Qwen3-0.6B's shape, in bf16."""
        folder = self.work / "model"
        if self.torch("model", folder) is None:
            raise Skipped("torch and transformers make the weights, and are not installed")
        batches, prompt, new, prefill = ([1, 2], 8, 4, 16) if self.dry else ([1, 8, 32, 64, 256], 128, 64, 4096)
        bench = lambda b, prompt, new: self.bench("--model", folder, "--dtype", "bfloat16", "--batch", b, "--prompt-tokens", prompt, "--new-tokens", new,
                                                  "--repetitions", 1 if self.dry else 2)
        decode = {str(b): dict(lathe=bench(b, prompt, new)["decode_tokens_per_second"]["median"], torch=None) for b in batches}
        fill = dict(lathe=bench(1, prefill, 2)["prefill_tokens_per_second"]["median"], torch=None)
        twin = self.torch("inference", folder, batches=batches, prompt=prompt, new=new, prefill=prefill)
        for batch, rate in twin["decode"].items():
            decode[batch]["torch"] = rate
        return dict(decode=decode, prefill={**fill, "torch": twin["prefill"]})

    def training(self):
        """Steps of the size of configs/gpt2/124m.yaml, in bf16 with float32 weights."""
        vocabulary, width, layers, heads, context, batch, steps = (97, 32, 2, 2, 16, 2, 2) if self.dry else (50257, 768, 12, 12, 1024, 16, 10)
        recipe = self.work / "training.yaml"
        gpt2 = dict(architecture="GPT2LMHeadModel", vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                    num_attention_heads=heads, max_position_embeddings=context)
        write_recipe(recipe, dict(model=dict(architecture=gpt2),
                                  training=dict(context=context, batch_size=batch, steps=1000, dtype="bfloat16"), optimizer=dict(learning_rate=1e-3)))
        ours = self.bench("--train", recipe, "--steps", steps)["tokens_per_second"]["median"]
        twin = self.torch("training", vocabulary=vocabulary, width=width, layers=layers, heads=heads, context=context, batch=batch, steps=steps)
        return dict(tokens_per_second=dict(lathe=ours, torch=twin))

    # All of them

    def stage(self, name, limit):
        start = time.monotonic()
        self.deadline, why, result = start + limit, None, None
        try:
            result, status = getattr(self, name)(), "passed"
            if isinstance(result, tuple):
                (result, why), status = result, "failed"
        except Skipped as reason:
            status, why = "skipped", str(reason)
        except (Failed, OSError, ValueError, LookupError) as reason:
            status, why = "failed", str(reason)
        self.result["stages"][name] = dict(status=status, seconds=round(time.monotonic() - start, 1), why=why, result=result)
        self.write()
        print(f"{status:8} {name:12} {time.monotonic() - start:6.1f} s" + (f"  {why}" if why else ""), flush=True)

    def write(self):
        wrong = list(breaches(self.result, SCHEMA))
        if wrong:
            raise AssertionError("; ".join(wrong))
        partial = self.output.with_suffix(".partial")
        partial.write_text(json.dumps(self.result, indent=1) + "\n")
        partial.replace(self.output)

    def all(self, parts):
        for part in parts:
            for name, limit in STAGES[part].items():
                if self.result["stages"].get(name, {}).get("status") != "passed":
                    self.stage(name, limit)
        shutil.rmtree(self.work)
        return [self.result["stages"][name]["status"] for part in parts for name in STAGES[part]]


def write_recipe(path, sections):
    path.write_text("".join(f"{name}: {json.dumps(values)}\n" for name, values in sections.items()))


def validate(files):
    """Says what breaks the schema; how many files do."""
    failed = 0
    for file in files:
        wrong = list(breaches(json.loads(pathlib.Path(file).read_text()), SCHEMA))
        failed += bool(wrong)
        for text in wrong:
            print(f"{file}: {text}")
    return failed


def schema_has_teeth(result):
    """Whether the schema notices when any value of a result is a list of one empty object."""
    def spoilt(value, path=()):
        if isinstance(value, dict):
            for key, item in value.items():
                yield path + (key,)
                yield from spoilt(item, path + (key,))
    for path in spoilt(result):
        broken = copy.deepcopy(result)
        at = broken
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = [{}]
        if not list(breaches(broken, SCHEMA)):
            print("the schema lets pass a list as " + ".".join(path))
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=STAGES)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--build", help="folder; default: build-cuda, of a dry run build")
    parser.add_argument("--output")
    parser.add_argument("--validate", nargs="+", metavar="F.json")
    options = parser.parse_args()
    if options.validate:
        return validate(options.validate) > 0
    properties = device_properties()
    if properties is None and not options.dry_run:
        print("gpu-check: nvidia-smi names no GPU, so there is nothing to check here; scripts/gpu_check.py --dry-run tries everything else", file=sys.stderr)
        return 2
    if not options.output:
        name = "dry-run.json" if options.dry_run else re.sub(r"\W+", "-", properties["device"].lower()) + ".json"
        options.output = ROOT / "build" / name if options.dry_run else RESULTS / name
    check = Check(options, properties)
    statuses = check.all([options.part] if options.part else list(STAGES))
    counts = {status: statuses.count(status) for status in ("passed", "failed", "skipped")}
    if options.dry_run:
        committed = [f for f in RESULTS.glob("*.json") if f.name != "schema.json"]
        holds = [schema_has_teeth(check.result), not validate(committed)]
        counts["passed"], counts["failed"] = counts["passed"] + sum(holds), counts["failed"] + holds.count(False)
    print(f"result: {check.output}")
    print(", ".join(f"{count} {status}" for status, count in counts.items()))
    return counts["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
