"""The figure of `loadtest/run`: grouped bars in panels, written as SVG by hand. It brings its own light ground, so that it can be
read on a dark page as well."""
import dataclasses
import math
from xml.sax.saxutils import escape

COLOURS = {"floor": "#adb5bd", "pilb": "#e8590c", "nginx": "#2f9e44", "haproxy": "#1971c2", "haproxy-splice": "#74c0fc", "h2o": "#9c36b5"}
DARK = ("pilb", "nginx", "haproxy", "h2o")
WIDTH, LEFT, RIGHT = 1000, 48, 20
HEAD, PLOT, FOOT = 40, 210, 56     # of a panel: title, bars, captions
LEGEND, NOTE = 44, 34
# Bars end here; longer ones are cut, and say how long they are.
HIGHEST = 3.0


@dataclasses.dataclass
class Panel:
    title: str
    groups: list    # (name, caption, {peer: value})


def svg(panels, names, note):
    shown = [peer for peer in names if any(peer in bars and not math.isnan(bars[peer]) for p in panels for _, _, bars in p.groups)]
    height = LEGEND + len(panels) * (HEAD + PLOT + FOOT) + NOTE
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           'font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif" font-size="13" fill="#212529">',
           f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>', *legend(shown, names)]
    for index, panel in enumerate(panels):
        out += draw(panel, shown, LEGEND + index * (HEAD + PLOT + FOOT))
    out += [text(LEFT, height - 14, note, size=11, fill="#495057"), "</svg>"]
    return "\n".join(out) + "\n"


def text(x, y, what, anchor="start", size=13, fill="#212529", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}" font-weight="{weight}">{escape(what)}</text>'


def line(x1, y1, x2, y2, colour, width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def label(x, top, bottom, value, peer):
    """A bar's value: upright at its foot, where no line crosses it, or above a bar that is too short."""
    inside = bottom - top > 32
    y, fill = (bottom - 5, "#ffffff" if peer in DARK else "#212529") if inside else (top - 4, "#212529")
    return (f'<text transform="translate({x + 3.8:.1f} {y:.1f}) rotate(-90)" font-size="11" fill="{fill}" '
            f'font-weight="{"bold" if peer == "pilb" else "normal"}">{value:.2f}</text>')


def legend(peers, names):
    out, x = [], LEFT
    for peer in peers:
        out += [f'<rect x="{x}" y="20" width="14" height="14" rx="2" fill="{COLOURS[peer]}"/>', text(x + 20, 32, names[peer])]
        x += 46 + 8 * len(names[peer])
    return out


def draw(panel, shown, top):
    bottom = top + HEAD + PLOT
    values = [value for _, _, bars in panel.groups for value in bars.values() if not math.isnan(value)]
    if not values:
        return [text(LEFT, top + HEAD, f"{panel.title}: nothing to compare with", weight="bold")]
    step = 0.5 if max(values) > 1.25 else 0.25
    most = min(HIGHEST, math.ceil(max(values) / step) * step)
    y = lambda value: bottom - min(value, most) / most * PLOT
    out = [text(LEFT, top + 22, panel.title, weight="bold", size=14)]
    for tick in range(round(most / step) + 1):
        at = tick * step
        out += [line(LEFT, y(at), WIDTH - RIGHT, y(at), "#dee2e6"), text(LEFT - 8, y(at) + 4, f"{at:g}", "end", 11, "#495057")]
    # A place per bar, and one more between groups.
    there = lambda bars: [(peer, bars[peer]) for peer in shown if not math.isnan(bars.get(peer, math.nan))]
    drawn = [(name, caption, there(bars)) for name, caption, bars in panel.groups]
    room = (WIDTH - LEFT - RIGHT) / len(drawn)
    width = min(26, room / (max(len(bars) for _, _, bars in drawn) + 1))
    for index, (name, caption, bars) in enumerate(drawn):
        middle = LEFT + (index + 0.5) * room
        x = middle - len(bars) * width / 2
        for peer, value in bars:
            out.append(f'<rect x="{x + 1:.1f}" y="{y(value):.1f}" width="{width - 2:.1f}" height="{bottom - y(value):.1f}" fill="{COLOURS[peer]}"/>')
            if value > 1.02 * most:
                out.append(line(x, y(most) + 12, x + width, y(most) + 6, "#ffffff", 3))
            out.append(label(x + width / 2, y(value), bottom, value, peer))
            x += width
        out.append(text(middle, bottom + 17, name, "middle", weight="bold"))
        out += [text(middle, bottom + 31 + 13 * row, words, "middle", 10.5, "#495057") for row, words in enumerate(caption.split("\n"))]
    out += [line(LEFT, y(1), WIDTH - RIGHT, y(1), "#495057", 1.5)]
    return out
