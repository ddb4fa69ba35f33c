"""Line charts as small SVG files, for scripts/write_performance.py."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 132, 44, 48
COLOURS = ["#1f5fa8", "#c2571a", "#2f7d4f", "#8a3f8f"]


def round_step(most):
    """A step of 1, 2 or 5 times a power of ten that cuts [0, most] into four to eight."""
    step = 10 ** math.floor(math.log10(most))
    return next(step * f for f in (0.1, 0.2, 0.5, 1, 2) if most / (step * f) <= 8)


def line_chart(title, unit, places, series):
    """`places` are the values along the bottom, on a logarithmic scale; `series` maps a name to its values there, None where it has none."""
    most = max(v for values in series.values() for v in values if v is not None)
    step = round_step(most)
    top = math.ceil(most / step) * step
    x = lambda i: LEFT + (WIDTH - LEFT - RIGHT) * math.log(places[i] / places[0]) / math.log(places[-1] / places[0])
    y = lambda v: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * v / top
    text = lambda px, py, s, anchor="middle", extra="": (
        f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" {extra}>{escape(str(s))}</text>')
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="sans-serif" font-size="12" fill="#333333">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           text(LEFT, 24, f"{title}, {unit}", "start", 'font-size="14" font-weight="bold"')]
    for i in range(round(top / step) + 1):
        value = i * step
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
                   f'stroke="{"#888888" if i == 0 else "#dddddd"}"/>')
        out.append(text(LEFT - 8, y(value) + 4, f"{value:g}", "end"))
    for i, place in enumerate(places):
        out.append(text(x(i), HEIGHT - BOTTOM + 18, f"{place:,}"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "tokens of context"))
    labels = []  # from the top; pushed apart so that none covers another
    for (name, values), colour in zip(series.items(), COLOURS):
        points = [(x(i), y(v)) for i, v in enumerate(values) if v is not None]
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" '
                   f'points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        labels.append([points[-1][1] + 4, points[-1][0] + 8, name, colour])
    labels.sort()
    for above, label in zip(labels, labels[1:]):
        label[0] = max(label[0], above[0] + 15)
    out += [text(px, py, name, "start", f'fill="{colour}"') for py, px, name, colour in labels]
    return "\n".join(out + ["</svg>"]) + "\n"
