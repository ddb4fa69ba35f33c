"""One style for the pictures of docs/: SVG that reads in light and dark, and that finds its own overlaps."""
import itertools, textwrap
from xml.sax.saxutils import escape

WIDTH = 820  # what GitHub shows of a page without shrinking it, so 12 px stay 12 px
COLOURS = {  # of light and dark: lines and letters, then the ground behind them
    "blue": ("#1f5fa8", "#eaf2fb", "#6cb0f5", "#14263f"),
    "orange": ("#b3500f", "#fdf0e4", "#f0a35e", "#38220f"),
    "green": ("#2a7448", "#e8f5ec", "#63c586", "#12301e"),
    "grey": ("#59636e", "#f1f3f5", "#9aa4ae", "#1e242c"),
    "faint": ("#d0d7de", "#ffffff", "#30363d", "#0d1117"),
}
SANS = "-apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace"


def style():
    def rules(page, frame, ink, first):
        yield f".page {{ fill: {page}; stroke: {frame} }} text {{ fill: {ink} }}"
        for name, colours in COLOURS.items():
            line, ground = colours[first:first + 2]
            yield (f".{name} {{ fill: {line} }} .box.{name} {{ fill: {ground}; stroke: {line} }} "
                   f".line.{name} {{ fill: none; stroke: {line} }} .zoom.{name} {{ fill: {ground} }}")
    yield f"text {{ font: 13px {SANS}; text-anchor: middle }} .start {{ text-anchor: start }} .end {{ text-anchor: end }}"
    yield f".name {{ font-size: 15px; font-weight: bold }} .note {{ font-size: 12px }} .code {{ font: 12px {MONO}; white-space: pre }}"
    yield ".line { stroke-width: 1.5 } .dashed { stroke-dasharray: 5 4 }"
    yield from rules("#ffffff", "#d0d7de", "#1f2328", 0)
    yield "@media (prefers-color-scheme: dark) {"
    yield from rules("#0d1117", "#30363d", "#e6edf3", 2)
    yield "}"


def text_width(words, kind):
    """In pixels, a little more than any of the usual fonts takes."""
    if "code" in kind:
        return 7.25 * len(words)
    size = 15 if "name" in kind else 12 if "note" in kind else 13
    ems = sum(0.3 if c in "ijl.,:;'|!()[] tfr" else 0.85 if c in "mwMW→×" else 0.7 if c.isupper() else 0.58 for c in words)
    return ems * size * (1.06 if "name" in kind else 1)


class Drawing:
    """Shapes in the order drawn. `kind` is a list of classes in one string: a colour and what the style above names."""

    def __init__(self, title, height):
        self.title, self.height, self.shapes = title, height, []
        self.texts, self.segments = [], []  # what must not meet: (x0, y0, x1, y1) each

    def text(self, x, y, words, kind="", covers=False):
        """Centred on x, or from it (start) or up to it (end); y is the base line. `covers`: may lie on a line."""
        width = text_width(words, kind)
        left = x - (0 if "start" in kind else width if "end" in kind else width / 2)
        self.texts.append((left, y - 10, left + width, y + 3, words, covers))
        chosen = f' class="{kind}"' if kind else ""
        self.shapes.append(f'<text x="{x:g}" y="{y:g}"{chosen}>{escape(words)}</text>')

    def lines(self, x, y, words, kind="", step=17):
        for i, line in enumerate(words):
            self.text(x, y + step * i, line, kind)

    def box(self, x, y, width, height, kind="blue", radius=6):
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
        self._keep(corners)
        self.shapes.append(f'<rect class="box {kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"/>')

    def named_box(self, x, y, width, height, name, notes=(), kind="blue", radius=6):
        """A box with a name and lines of notes in its middle."""
        self.box(x, y, width, height, kind, radius)
        first = y + (height - 17 * len(notes)) / 2 + 5
        self.text(x + width / 2, first, name, "name")
        self.lines(x + width / 2, first + 19, notes, "note grey")

    def cells(self, x, y, width, values, kind="blue", height=24, text="code"):
        """A row of cells, `width` of each. A value None leaves its cell out."""
        for i, value in enumerate(values):
            if value is not None:
                self.box(x + i * width, y, width, height, kind, 2)
                self.text(x + (i + 0.5) * width, y + height / 2 + 4.5, str(value), text)

    def polygon(self, points, kind):
        self.shapes.append(f'<polygon class="{kind}" points="{self._points(points)}"/>')

    def line(self, points, kind="grey"):
        self._keep(points)
        self.shapes.append(f'<polyline class="line {kind}" points="{self._points(points)}"/>')

    def arrow(self, points, kind="grey"):
        """A line through the points, the last of its parts along an axis, with a head at its end."""
        (bx, by), (x, y) = points[-2:]
        dx, dy = (x > bx) - (x < bx), (y > by) - (y < by)
        self.line([*points[:-1], (x - 6 * dx, y - 6 * dy)], kind)
        head = [(x, y), (x - 9 * dx + 4 * dy, y - 9 * dy + 4 * dx), (x - 9 * dx - 4 * dy, y - 9 * dy - 4 * dx)]
        self.polygon(head, kind.replace("dashed", "").strip())

    def svg(self):
        self._check()
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img">', f"<title>{escape(self.title)}</title>",
            "<style>", textwrap.indent("\n".join(style()), "  "), "</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="8"/>',
            *self.shapes, "</svg>"]) + "\n"

    @staticmethod
    def _points(points):
        return " ".join(f"{x:g},{y:g}" for x, y in points)

    def _keep(self, points):
        for (ax, ay), (bx, by) in itertools.pairwise(points):
            if ax == bx or ay == by:
                self.segments.append((min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)))

    def _check(self):
        """Words must not meet each other, a line or the edge of the page."""
        meet = lambda a, b: a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        for i, (x0, y0, x1, y1, words, covers) in enumerate(self.texts):
            where = (x0, y0, x1, y1)
            if x0 < 6 or x1 > WIDTH - 6 or y0 < 4 or y1 > self.height - 4:
                raise ValueError(f'"{words}" reaches beyond the page')
            for other in self.texts[:i]:
                if meet(where, other):
                    raise ValueError(f'"{words}" lies on "{other[4]}"')
            for s in self.segments:
                if not covers and meet(where, (s[0] - 0.5, s[1] - 0.5, s[2] + 0.5, s[3] + 0.5)):
                    raise ValueError(f'"{words}" lies on a line at {s}')
