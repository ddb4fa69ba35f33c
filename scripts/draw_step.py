#!/usr/bin/env python3
"""Draws docs/one_step.svg, the picture of one step in README: what is handed on, and by which file."""
import pathlib, sys
from xml.sax.saxutils import escape

ROOT = pathlib.Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "one_step.svg"
WIDTH, HEIGHT, TOP, BOTTOM = 1000, 350, 66, 206  # the upper edges of the two rows

STYLE = """
  .page { fill: #ffffff } .box { fill: #eef4fb; stroke: #1f5fa8 } .line { stroke: #57606a; fill: none; stroke-width: 1.5 }
  .head { fill: #57606a } text { fill: #1f2328; text-anchor: middle; font: 13px sans-serif }
  .name { font-weight: bold; font-size: 15px } .what { fill: #57606a; font-size: 12px }
  .file { fill: #1f5fa8; font: 12px monospace }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .box { fill: #14233a; stroke: #6cb0f5 } .line { stroke: #9aa4ae } .head { fill: #9aa4ae }
    text { fill: #e6edf3 } .what { fill: #9aa4ae } .file { fill: #6cb0f5 }
  }
"""

# name: left edge, width, row, what it holds
BOXES = {
    "request": (20, 112, TOP, ["prompt, options"]),
    "scheduler": (262, 140, TOP, ["whose tokens next"]),
    "Batch": (534, 150, TOP, ["tokens (N), pages"]),
    "embed": (20, 92, BOTTOM, ["x (N, C)"]),
    "L × block": (232, 196, BOTTOM, ["x += attention(norm(x))", "x += mlp(norm(x))"]),
    "head": (524, 100, BOTTOM, ["logits (R, V)"]),
    "sampler": (706, 92, BOTTOM, ["tokens (R)"]),
    "text": (908, 76, BOTTOM, ["as it comes"]),
}
BOX_HEIGHT = 74


def text(x, y, kind, words):
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>'


def arrow(points):
    """A line through the points with a head at its end."""
    (bx, by), (x, y) = points[-2:]
    dx, dy = (x > bx) - (x < bx), (y > by) - (y < by)
    tip = [(x, y), (x - 9 * dx + 4 * dy, y - 9 * dy + 4 * dx), (x - 9 * dx - 4 * dy, y - 9 * dy - 4 * dx)]
    line = [*points[:-1], (x - 6 * dx, y - 6 * dy)]
    joined = lambda ps: " ".join(f"{px},{py}" for px, py in ps)
    return f'<polyline class="line" points="{joined(line)}"/>\n<polygon class="head" points="{joined(tip)}"/>'


def file(x, y, path, shown=None):
    """A file of modules/, or the part of its path that is `shown`."""
    if not (ROOT / "modules" / path).is_file():
        sys.exit(f"scripts/draw_step.py: there is no modules/{path}")
    return text(x, y, "file", shown or path)


def across(left, right, path):
    """From one box to its neighbour on the right, the folder above the arrow and the file below."""
    x, width, y, _ = BOXES[left]
    begin, end, middle = x + width, BOXES[right][0], y + BOX_HEIGHT // 2
    *_, folder, name = path.split("/")
    at = (begin + end) // 2 - 3
    return [arrow([(begin + 3, middle), (end - 3, middle)]), file(at, middle - 8, path, folder + "/"),
            file(at, middle + 19, path, name)]


def centre(name):
    return BOXES[name][0] + BOXES[name][1] // 2


def picture():
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'role="img">', "<title>One step: from requests to the next token of each</title>", f"<style>{STYLE}</style>",
           f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>']
    for name, (x, width, y, lines) in BOXES.items():
        out.append(f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{BOX_HEIGHT}" rx="6"/>')
        first = y + (34 if len(lines) == 1 else 24)
        out.append(text(centre(name), first, "name", name))
        out += [text(centre(name), first + 20 + 17 * i, "what", words) for i, words in enumerate(lines)]
    out += across("request", "scheduler", "generate/engine.cpp")
    out += across("scheduler", "Batch", "generate/scheduler.cpp")
    out += across("embed", "L × block", "common/embedding.h")
    out += across("L × block", "head", "llm/decoder.h")
    out += across("head", "sampler", "autograd/head.cpp")
    out += across("sampler", "text", "text/tokenizer/tokenizer.cpp")
    # The Batch goes down to the model, the new tokens back to the scheduler.
    between, above = (TOP + BOX_HEIGHT + BOTTOM) // 2, 30
    out.append(arrow([(centre("Batch"), TOP + BOX_HEIGHT + 3), (centre("Batch"), between), (centre("embed"), between),
                      (centre("embed"), BOTTOM - 3)]))
    out.append(file((centre("Batch") + centre("embed")) // 2, between - 8, "attention/batch.cpp"))
    out.append(arrow([(centre("sampler"), BOTTOM - 3), (centre("sampler"), above), (centre("scheduler"), above),
                      (centre("scheduler"), TOP - 3)]))
    out.append(text((centre("scheduler") + centre("sampler")) // 2, above - 8, "what",
                    "the next token of each sequence, until it ends"))
    out.append(file(centre("sampler") + 80, (TOP + BOTTOM) // 2, "generate/sampler.cpp"))
    under = BOTTOM + BOX_HEIGHT
    block = ["block/pre_norm_block.h", "attention/grouped_query_attention.cpp", "attention/attend.cpp"]
    out += [file(centre("L × block"), under + 20 + 17 * i, path) for i, path in enumerate(block)]
    return "\n".join([*out, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture())
