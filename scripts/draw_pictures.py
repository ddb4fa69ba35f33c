#!/usr/bin/env python3
"""Draws the pictures of docs/ as SVG, from what the code says where it says it.

    draw_pictures.py             writes docs/*.svg; a file, constant or name that is no longer in the code is an error
    draw_pictures.py --check     writes nothing; one line for each picture that is not what this script draws
    draw_pictures.py --record    asks build/lathe the question of `make demo` and keeps what it prints for demo.svg
"""
import functools, re, subprocess, sys, textwrap

import drawing, lint
from drawing import Drawing

ROOT = lint.ROOT
DEMO = ROOT / "docs" / "demo.txt"


# ---- what the code says ----

@functools.cache
def path_of(end):
    """The one file of the tree whose path ends so."""
    found = [path for path in lint.tracked("modules", "kernels") if f"/{path}".endswith(f"/{end}")]
    if len(found) != 1:
        raise ValueError(f"{len(found)} files are called {end}")
    return found[0]


def shown(end):
    """A path as an #include has it."""
    return path_of(end).removeprefix("modules/")


@functools.cache
def source(end):
    return (ROOT / path_of(end)).read_text()


def named(end, *names):
    """The path, after a look whether the file has these names."""
    missing = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", source(end))]
    if missing:
        raise ValueError(f"{path_of(end)} has no {', '.join(missing)}")
    return shown(end)


def find(pattern, text, where, begin=0):
    found = re.compile(pattern).search(text, begin)
    if not found:
        raise ValueError(f"{where} has no {pattern} where the picture expects it")
    return found


def constant(end, name):
    return int(find(rf"\b{name} = (\d+);", source(end), end)[1])


@functools.cache
def recorded():
    """The names under which operations record themselves on the tape."""
    files = lint.tracked("modules/autograd/*.cpp")
    return {name for path in files for name in re.findall(r'Tape::record(?:_columns)?\(\s*"(\w+)"', (ROOT / path).read_text())}


# ---- the pictures ----

def one_step():
    d = Drawing("One step: from requests to the next token of each", 448)
    top, middle, bottom = 68, 196, 362  # the upper edges of the three rows
    d.named_box(20, top, 120, 66, "request", ["prompt, options"])
    d.named_box(330, top, 160, 66, "scheduler", ["whose tokens next"])
    d.named_box(640, top, 140, 66, "Batch", ["tokens (N), pages"])
    d.named_box(20, middle, 120, 66, "embed", ["x (N, C)"])
    d.named_box(310, middle - 8, 200, 82, "L × block", ["x += attention(norm(x))", "x += mlp(norm(x))"])
    d.named_box(640, middle, 140, 66, "head", ["logits (R, V)"])
    d.named_box(640, bottom, 140, 66, "sample", ["tokens (R)"])
    d.named_box(20, bottom, 120, 66, "text", ["as it comes"])

    def across(begin, end, y, file):
        """An arrow with the folder above it and the file below."""
        sign = 1 if end > begin else -1
        d.arrow([(begin + 3 * sign, y), (end - 3 * sign, y)])
        folder, _, name = shown(file).rpartition("/")
        d.text((begin + end) / 2, y - 8, folder + "/", "code blue")
        d.text((begin + end) / 2, y + 19, name, "code blue")

    across(140, 330, top + 33, "generate/engine.cpp")
    across(490, 640, top + 33, "generate/scheduler.cpp")
    across(140, 310, middle + 33, "common/embedding.h")
    across(510, 640, middle + 33, "llm/decoder.h")
    across(640, 140, bottom + 33, "tokenizer/tokenizer.cpp")
    d.arrow([(710, top + 69), (710, 160), (80, 160), (80, middle - 3)])
    d.text(395, 153, shown("attention/batch.cpp"), "code blue")
    d.arrow([(710, middle + 69), (710, bottom - 3)])
    d.text(702, 316, shown("autograd/head.cpp"), "code blue end")
    d.arrow([(783, bottom + 33), (801, bottom + 33), (801, 30), (410, 30), (410, top - 3)])
    d.text(606, 23, "the next token of each sequence, until it ends", "note grey")
    d.text(606, 47, shown("autograd/sampling.cpp"), "code blue")
    inside = ["block/pre_norm_block.h", "attention/grouped_query_attention.cpp", "attention/attend.cpp"]
    d.lines(410, middle + 96, [shown(file) for file in inside], "code blue")
    return d


# Name, what it brings, new tokens, tokens in the cache, page of each 16 positions, first new token that wants logits, colour.
SEQUENCES = [("A", "a chunk of a prompt", [504, 3575, 282, 4649, 314], 16, [7, 2], 5, "blue"),
             ("B", "decode", [284], 18, [7, 9], 0, "orange"),
             ("C", "a token and three drafts to verify", [30, 198, 504, 260], 29, [3, 5, 8], 0, "green")]


def batch():
    page = constant("kernels/paged_attention.h", "kPageTokens")
    shapes = {"tokens": "(N) i32", "positions": "(N) i32", "slots": "(N) i32", "logit_rows": "(R) i32",
              "seq_start": "(S + 1) i32", "context_len": "(S) i32"}
    y = dict(zip(shapes, (68, 98, 128, 158, 198, 228)))
    d = Drawing("A Batch: three sequences in one pass", 532)
    left, cell, row = 140, 58, 0
    end = left + cell * sum(len(new) for _, _, new, *_ in SEQUENCES)
    for name, shape in shapes.items():
        d.text(20, y[name] + 16, name, "code start")
        d.text(end + 22, y[name] + 16, shape, "note grey start")
    for s, (name, brings, new, cached, pages, logits_from, colour) in enumerate(SEQUENCES):
        x, width = left + cell * row, cell * len(new)
        d.text(x + width / 2, 30, name, f"name {colour}")
        d.text(x + width / 2, 50, brings, "note grey")
        positions = range(cached, cached + len(new))
        d.cells(x, y["tokens"], cell, new, colour)
        d.cells(x, y["positions"], cell, positions, colour)
        d.cells(x, y["slots"], cell, [pages[p // page] * page + p % page for p in positions], colour)
        d.cells(x, y["logit_rows"], cell, [row + i if i >= logits_from else None for i in range(len(new))], colour)
        d.text(x, y["seq_start"] + 16, str(row), "code")
        d.cells(x, y["context_len"], width, [cached + len(new)], colour)
        d.text(20, 335 + 68 * s, name, f"name {colour} start")
        d.lines(40, 335 + 68 * s, [f"{cached} cached,", f"{len(new)} new"], "note grey start", 16)
        pages_of_sequence(d, left, 324 + 68 * s, page, pages, positions, colour)
        row += len(new)
    d.text(end, y["seq_start"] + 16, str(row), "code")
    d.line([(20, 268), (drawing.WIDTH - 20, 268)])
    d.text(20, 290, "pages (S, P) i32", "code start")
    d.text(160, 290, f"of {page} tokens each; -1: none. A and B begin alike and share page 7. Grey is in the cache already.",
           "note grey start")
    d.text(20, 516, named("attention/batch.h", *shapes, "page_tables", "pages"), "code blue start")
    return d


def pages_of_sequence(d, left, y, page, pages, positions, colour):
    """A row of the page table, each page as a strip of its slots; `positions`: of the new tokens."""
    strip, gap = 12, 14
    for i in range(max(len(s[4]) for s in SEQUENCES)):
        x = left + (page * strip + gap) * i
        if i >= len(pages):
            d.text(x, y - 7, "-1", "code start")
            continue
        d.text(x, y - 7, f"page {pages[i]}", "code start")
        for p in range(page * i, page * (i + 1)):
            d.box(x + strip * (p % page), y, strip, 14, colour if p in positions else "grey" if p < positions[0] else "faint", 0)
        first = next((p % page for p in positions if p // page == i), None)
        if first is not None:
            at, anchor = (x, "start") if first < page / 2 else (x + page * strip, "end")
            d.text(at, y + 30, f"slot {pages[i] * page + first} = {pages[i]} × {page} + {first}", f"code {colour} {anchor}")


def page():
    tokens = constant("kernels/paged_attention.h", "kPageTokens")
    d = Drawing("A page of the key-value cache", 526)
    cell, drawn, offset, chosen, top = 17, 10, 5, 3, 92
    keys, values = 90, 510
    long = cell * tokens

    def grid(x, rows, columns, marked, written):
        kind = lambda r, c: "orange" if written(r, c) else "blue" if marked(r, c) else "faint"
        every = [(kind(r, c), r, c) for r in range(rows) for c in range(columns)]
        for k, r, c in sorted(every, key=lambda cell: cell[0] != "faint"):  # the coloured borders on top
            d.box(x + cell * c, top + cell * r, cell, cell, k, 0)

    d.text(keys + long / 2, 30, f"keys [Hk][D][{tokens}]", "name")
    d.text(keys + long / 2, 50, "a row: one component of all keys", "note grey")
    grid(keys, drawn, tokens, lambda r, c: r == chosen, lambda r, c: c == offset)
    d.text(keys + long / 2, top - 12, f"token 0 ... {tokens - 1}", "note grey")
    d.text(keys - 8, top + 13, "d = 0", "note grey end")
    d.text(keys - 8, top + cell * drawn - 4, "D - 1", "note grey end")
    d.text(keys - 8, top + cell * chosen + 13, "d", "name blue end")
    under = top + long + 30
    d.text(keys + long / 2, under, f"score[0..{tokens - 1}] += q[d] * keys[d][0..{tokens - 1}]", "code blue")
    d.lines(keys + long / 2, under + 20, [f"{tokens} scores grow side by side in one register;", "no sum across its lanes is ever needed"],
            "note grey")

    wide = cell * drawn
    d.text(values + wide / 2, 30, f"values [Hk][{tokens}][D]", "name")
    d.text(values + wide / 2, 50, "a row: all components of one value", "note grey")
    grid(values, tokens, drawn, lambda r, c: r == chosen, lambda r, c: r == offset)
    d.text(values + wide / 2, top - 12, "d = 0 ... D - 1", "note grey")
    d.text(values - 8, top + 13, "token 0", "note grey end")
    d.text(values - 8, top + long - 4, str(tokens - 1), "note grey end")
    d.text(values - 8, top + cell * chosen + 13, "t", "name blue end")
    d.text(values + wide / 2, under, "out[0..D-1] += p[t] * values[t][0..D-1]", "code blue")
    d.lines(values + wide / 2, under + 20, ["whole vectors of the output grow,", "one fused multiply-add each"], "note grey")

    y = top + cell * drawn + 30
    d.lines(keys, y, ["Orange: one token, written to its slot,", f"page * {tokens} + {offset}: a column of keys,", "a row of values"],
            "orange start", 18)
    y = under + 62
    d.text(20, y + 16, "a page", "start")
    for i, words in enumerate(["layer 0: keys", "values", "layer 1: keys", "values", "...", "layer L - 1: keys", "values"]):
        d.box(90 + 101 * i, y, 101, 24, "blue" if i < 2 else "faint", 0)
        d.text(140.5 + 101 * i, y + 16, words, "note")
    files = [named("kernels/paged_attention.h", "kPageTokens"), named("attention/kv_cache.h", "KVCache")]
    d.text(20, y + 52, ", ".join(files), "code blue start")
    return d


def packed_matrix():
    layout = "kernels/cpu/packed_layout.h"
    rows, columns, word = (constant(layout, name) for name in ("kGroupRows", "kBlockColumns", "kWordBytes"))
    bits, offset, _, bytes_a_row = map(int, find(r"//   q4_0 +(\d+) +(\d+) +(\d+) +f16 +(\d+) ", source(layout), layout).groups())
    words, per_lane = columns * bits // 8 * rows // word, word // rows
    block = bytes_a_row * rows
    d = Drawing("A packed matrix: one block of q4_0", 552)
    left, right, group, height = 20, drawing.WIDTH - 20, 2, 46

    def zoom(x0, x1, y0, y1):
        """The ground between a part and itself enlarged."""
        d.polygon([(x0, y0 + 1), (x1, y0 + 1), (right, y1), (left, y1)], "zoom orange")

    def part(x, y, width, what, where, kind):
        d.box(x, y, width, height, kind, 0)
        d.text(x + width / 2, y + 19, what, "note")
        d.text(x + width / 2, y + 36, where, "note grey")

    d.text(left, 30, "W (N, K)", "name start")
    for g, b in [(g, b) for g in range(group + 1) for b in range(6)]:
        d.box(left + 44 * b, 42 + 28 * g, 44, 28, "faint" if g < group else "orange" if b == 1 else "blue", 0)
    d.lines(left + 296, 50, [f"Rows go in groups of {rows}, one vector lane a row, and a group is one",
                             f"linear stream of blocks of {columns} columns. Lane r sums output row r:",
                             "one accumulator an output, and no sum across lanes.",
                             f"Below, block 1 of group {group} in q4_0: {block} bytes, {bytes_a_row} a row, as in the file."], "start", 22)
    y, scale = 172, (right - left) / block
    zoom(left + 44, left + 88, 42 + 28 * (group + 1), y)
    for i in range(words):
        low, high = per_lane * i, columns // 2 + per_lane * i
        part(left + scale * word * i, y, scale * word, f"word {i}, {word} bytes",
             f"columns {low}-{low + per_lane - 1}, {high}-{high + per_lane - 1}", "orange" if i == 1 else "blue")
    part(left + scale * word * words, y, scale * (block - word * words), f"{rows} scales", "f16", "green")

    y, lane, row = y + 102, (right - left) / rows, 5
    zoom(left + scale * word, left + 2 * scale * word, y - 102 + height, y)
    for r in range(rows):
        part(left + lane * r, y, lane, f"row {r}", f"{per_lane} bytes", "orange" if r == row else "blue")

    y, nibble = y + 102, (right - left) / per_lane / 2
    zoom(left + lane * row, left + lane * (row + 1), y - 102 + height, y)
    for j in range(per_lane):
        part(left + 2 * nibble * j, y, nibble, "low nibble", f"column {per_lane + j}", "blue")
        part(left + nibble * (2 * j + 1), y, nibble, "high nibble", f"column {columns // 2 + per_lane + j}", "grey")
        d.text(left + nibble * (2 * j + 1), y + 64, f"byte {j}", "note grey")

    d.text(drawing.WIDTH / 2, 474, f"w[r, k] = (nibble - {offset}) * scale[r]", "code")
    d.text(drawing.WIDTH / 2, 496, f"The low nibbles of a word are {per_lane} columns of {rows} rows, the high ones {per_lane} more: "
           "each the operand of one vpdpbusd,", "note grey")
    d.text(drawing.WIDTH / 2, 513, "which adds the products of four neighbouring bytes to a lane.", "note grey")
    d.text(left, 538, named(layout, "QuantisedLayout"), "code blue start")
    return d


# What a block of Llama leaves on the tape: entry, shape of its output, the part of the block, what the closure keeps.
TAPE = [("rms_norm", "(N, C)", "input_layernorm", "x, rstd"), ("linear", "(N, (Hq + 2 Hk) D)", "q_proj, k_proj, v_proj", "x"),
        ("slice_columns", "(N, Hq D)", "q", ""), ("slice_columns", "(N, Hk D)", "k", ""), ("slice_columns", "(N, Hk D)", "v", ""),
        ("rope", "(N, Hq, D)", "q", "angles"), ("rope", "(N, Hk, D)", "k", "angles"),
        ("attention", "(N, Hq, D)", "attend", "q, k, v, out, logsumexp"), ("linear", "(N, C)", "o_proj", "x"),
        ("add", "(N, C)", "residual", ""), ("rms_norm", "(N, C)", "post_attention_layernorm", "x, rstd"),
        ("linear", "(N, 2 F)", "gate_proj, up_proj", "x"), ("slice_columns", "(N, F)", "gate", ""), ("slice_columns", "(N, F)", "up", ""),
        ("activated_linear", "(N, C)", "silu(gate) * up, down_proj", "gate, up"),
        ("add", "(N, C)", "residual", "")]
GRADIENTS = {"rms_norm": "dx, dw", "linear": "dx, dW", "slice_columns": "its columns of dx", "rope": "dx, rotated back",
             "attention": "dq, dk, dv", "add": "dy to both, not copied", "activated_linear": "dgate, dup, dW"}


def tape():
    unknown = {entry for entry, *_ in TAPE} - recorded()
    if unknown:
        raise ValueError(f"nothing records {', '.join(sorted(unknown))} on the tape")
    top, row = 74, 25
    d = Drawing("A tape: what one block of Llama leaves on it", top + row * len(TAPE) + 66)
    columns = {"number": 118, "entry": 130, "output": 246, "part of the block": 362, "keeps for backward": 526, "gradients": 672}
    y = lambda i: top + row * i
    second = [i for i, entry in enumerate(TAPE) if entry[0] == "add"][0] + 1
    d.box(92, top, 716, row * second, "blue")
    d.box(92, y(second), 716, row * (len(TAPE) - second), "green")
    for name, x in list(columns.items())[1:]:
        d.text(x, top - 10, name, "note grey start")
    for i, (entry, shape, part, keeps) in enumerate(TAPE):
        base = y(i) + 17
        d.text(columns["number"], base, str(i + 1), "note grey end")
        d.text(columns["entry"], base, entry, "code start")
        d.text(columns["output"], base, shape, "note start")
        d.text(columns["part of the block"], base, part, "note start")
        d.text(columns["keeps for backward"], base, keeps or "nothing", "note start" if keeps else "note grey start")
        d.text(columns["gradients"], base, GRADIENTS[entry], "note start")
    # The residual stream goes round both halves.
    x, begin, end = 72, 30, y(len(TAPE))
    d.text(x, 22, "x", "name")
    d.text(92, 22, "(N, C), the residual stream", "note grey start")
    for first, last in ((0, second - 1), (second, len(TAPE) - 1)):
        d.arrow([(x, begin), (x, y(last) + 8), (90, y(last) + 8)])
        d.arrow([(x, y(first) + 12), (90, y(first) + 12)])
        begin = y(last) + 18
        d.line([(90, begin), (x, begin)])
    d.arrow([(x, begin), (x, end + 24)])
    d.arrow([(22, top), (22, end)], "blue")
    d.text(10, top - 10, "forward", "note blue start")
    d.arrow([(42, end), (42, top)], "orange")
    d.text(10, end + 38, "backward", "note orange start")
    d.text(92, end + 24, "Forward appends an entry for each operation. Backward runs them from the last to the first and frees what each keeps.",
           "note grey start")
    d.text(92, end + 46, named("autograd/tape.h", "record", "backward", "Gradients"), "code blue start")
    return d


# Lines of an operation: the step that they begin, their code, the file that they need, a name of that, a note.
STEPS = [("check", r"check\(.*", "tensor/errors.h", "check", "operation, fact, expected, found"),
         ("allocate", r"Tensor y = .*", "tensor/tensor.h", "like", "storage from a pool by size"),
         ("compute", r"dispatch\(.*", "autograd/dispatch.h", "dispatch", "chooses device and element type"),
         ("", r"\w+::rms_norm\(.*", "kernels/norm.h", "rms_norm", "pointers and sizes; cpu/ behind it"),
         ("record", r"Tape::record\(.*", "autograd/tape.h", "record", "a closure over what it needs"),
         ("backward", r"\w+::rms_norm_backward\(.*", "kernels/norm.h", "rms_norm_backward", "the gradient's kernel, beside it"),
         ("", r"g\.put\(.*", "autograd/tape.h", "Gradients", "sums what all users of x give")]


def operation():
    d = Drawing("An operation: rms_norm, and the files that its lines need", 108 + 54 * len(STEPS))
    code, at, room = source("autograd/rms_norm.cpp"), 0, 56
    d.text(20, 32, named("autograd/rms_norm.cpp", "rms_norm"), "code blue start")
    d.text(680, 32, "what the line needs", "note grey")
    d.box(20, 44, 520, 54 * len(STEPS) + 8, "grey")
    for i, (step, pattern, file, name, note) in enumerate(STEPS):
        y = 48 + 54 * i
        found = find(pattern, code, "autograd/rms_norm.cpp", at)
        at = found.end()
        line = found[0] if len(found[0]) <= room else found[0][:room - 2].rsplit(" ", 1)[0] + " …"
        d.text(34, y + 31, step, "name start")
        d.text(122, y + 31, line, "code start")
        d.arrow([(543, y + 27), (577, y + 27)])
        d.box(580, y + 4, 220, 46)
        d.text(690, y + 22, named(file, name), "code blue")
        d.text(690, y + 40, note, "note grey")
    d.text(20, 84 + 54 * len(STEPS), f"Declared in {named('autograd/ops.h', 'rms_norm')}; its gradient is held against central differences "
           "in tests/autograd.", "note grey start")
    return d


# What stands in a room, in the order in which neighbours stand on a floor.
ROOMS = {"tensor": "Tensor, dtypes, pooled storage, thread team, errors", "mpi": "ranks over MPI", "kernels": "arithmetic on raw pointers",
         "formats": "files as bytes", "autograd": "tape, Parameter, operations", "config": "ModelConfig from files",
         "common": "linear, embedding, norms, nets", "load_model": "weight mapping, checkpoints",
         "attention": "batch, paged cache, rope tables, grouped-query attention", "block": "residual blocks",
         "llm": "CausalLM, registry, loading, one file a family", "generate": "sampler, scheduler, engine, chat",
         "evaluate": "perplexity, tasks", "train": "recipe, data, optimizers, report", "cli": "the program", "python": "the package", "serve": "HTTP, the APIs, a page",
         "unicode": "classes, cases", "tokenizer": "text to ids and back", "chat_template": "messages to a prompt",
         "grammar": "JSON Schemas at the sampler"}
ANNEX = ("text", "tokenizer", "chat_template")


def floors():
    """By lint's table: the rooms of each floor, a floor above all that they may include; the annex's; its users' lowest floor."""
    table = {**lint.MAY_INCLUDE, **{room: list(lint.MAY_INCLUDE) for room in lint.FOLDERS - set(lint.MAY_INCLUDE) - {"tests"}}}
    of = lambda entry: max((r for r in table if f"{entry}/".startswith(f"{r}/")), key=len)
    aside = lambda room: room.split("/")[0] in ANNEX
    uses = {room: {of(entry) for entry in entries} - {room} for room, entries in table.items()}

    @functools.cache
    def floor(room):  # a circle in the table would end in a RecursionError
        return 1 + max([floor(below) for below in uses[room] if aside(below) <= aside(room)], default=-1)

    unknown = {room.split("/")[-1] for room in table} - set(ROOMS)
    if unknown:
        raise ValueError(f"ROOMS does not say what is in {', '.join(sorted(unknown))}")

    def by_floor(rooms):
        order = lambda room: list(ROOMS).index(room.split("/")[-1])
        return [sorted([r for r in rooms if floor(r) == f], key=order) for f in range(max(map(floor, rooms)) + 1)]

    annex = [room for room in table if aside(room)]
    users = min(floor(room) for room in table if not aside(room) and uses[room] & set(annex))
    ground = max(floor(room) for a in annex for room in uses[a] - set(annex))
    return by_floor([r for r in table if not aside(r)]), [r for rooms in by_floor(annex) for r in rooms], users, ground


def house():
    storeys, annex, users, ground = floors()
    height, left, width, roof = 48, 30, 520, 62
    d = Drawing("The house: a room uses what is below it", roof + height * len(storeys) + 80)
    bottom = 18 + roof + height * len(storeys)
    top_of = lambda floor: bottom - height * (floor + 1)
    exists = lambda room: any((ROOT / parent / room).is_dir() for parent in ("modules", "."))

    def room(x, y, wide, name, kind):
        last = name.split("/")[-1]
        d.named_box(x, y, wide, height, last + "/", [ROOMS[last]], kind if exists(name) else "grey dashed", 0)

    d.polygon([(left - 14, top_of(len(storeys) - 1)), (left + width / 2, 16), (left + width + 14, top_of(len(storeys) - 1))], "box blue")
    d.text(left + width / 2, roof - 2, "Lathe", "name")
    for f, rooms in enumerate(storeys):
        for i, name in enumerate(rooms):
            room(left + width / len(rooms) * i, top_of(f), width / len(rooms), name, "blue")
    at, wide = 620, 180
    for i, name in enumerate(annex):
        room(at, bottom - height * (i + 1), wide, name, "green")
    annex_top = bottom - height * len(annex)
    d.polygon([(at - 10, annex_top), (at + wide / 2, annex_top - 36), (at + wide + 10, annex_top)], "box green")
    d.text(at + wide / 2, annex_top - 10, "text", "name")
    d.line([(14, bottom), (drawing.WIDTH - 14, bottom)])
    # From the floors that may use the annex to it, and from it to the floor that it uses.
    edge, upper, lower = left + width, top_of(len(storeys) - 1) + 10, top_of(users) + height - 10
    level = (upper + lower) / 2
    d.line([(edge + 10, upper), (edge + 24, upper), (edge + 24, lower), (edge + 10, lower)])
    d.arrow([(edge + 24, level), (at + wide / 2, level), (at + wide / 2, annex_top - 39)])
    d.text(at + wide / 2, level - 10, "these floors may use text", "note grey")
    d.arrow([(at - 3, top_of(ground) + height / 2), (edge + 3, top_of(ground) + height / 2)])
    d.text(drawing.WIDTH / 2, bottom + 26, "A room uses rooms on the floors below its own and never those above: scripts/lint.py, "
           "whose table this is, refuses it.", "note grey")
    d.text(drawing.WIDTH / 2, bottom + 43, "Dashed rooms are still to come.", "note grey")
    return d


def demo():
    """The last frame of a terminal; docs/demo.txt has what was printed."""
    columns, step = 104, 19
    default = find(r"\$\{1:-(.*)\}", (ROOT / "scripts" / "demo.sh").read_text(), "scripts/demo.sh")[1]
    lines = DEMO.read_text().splitlines()
    if f"Question: {default}" not in lines:
        raise ValueError(f"docs/demo.txt does not hold the question of scripts/demo.sh: {default}")
    wrapped = [(part, line) for line in ["$ make demo", *lines] for part in textwrap.wrap(line, columns)]
    d = Drawing("make demo: " + " ".join(lines), 64 + step * len(wrapped))
    d.line([(1, 32), (drawing.WIDTH - 1, 32)], "faint")
    for i, colour in enumerate(("orange", "green", "blue")):
        d.shapes.append(f'<circle class="{colour}" cx="{22 + 18 * i}" cy="17" r="5"/>')
    for i, (part, line) in enumerate(wrapped):
        d.text(20, 58 + step * i, part, "code start" + (" grey" if line.startswith("lathe:") else " blue" if line.startswith("$") else ""))
    return d


PICTURES = {f.__name__: f for f in (one_step, batch, page, packed_matrix, tape, operation, house, demo)}


def violations():
    """A line for each picture that is out of date or shows what is no longer there."""
    for name, draw in PICTURES.items():
        path = ROOT / "docs" / f"{name}.svg"
        try:
            if not path.is_file() or path.read_text() != draw().svg():
                yield f"docs/{name}.svg: not what scripts/draw_pictures.py draws (run it)"
        except (ValueError, OSError, RecursionError) as error:
            yield f"docs/{name}.svg: scripts/draw_pictures.py: {error}"


def record():
    printed = subprocess.run(["scripts/demo.sh"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if printed.returncode:
        sys.exit(f"scripts/demo.sh: {printed.stdout.strip()}")
    DEMO.write_text(printed.stdout)


def main():
    if "--check" in sys.argv:
        found = list(violations())
        print("\n".join(found) or "pictures: ok")
        return 1 if found else 0
    if "--record" in sys.argv:
        record()
    for name, draw in PICTURES.items():
        (ROOT / "docs" / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    sys.exit(main())
