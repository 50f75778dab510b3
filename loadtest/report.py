"""What `loadtest/run` (and, with other names, `loadtest/files`) makes of its results: tables as text and as Markdown, and the figure."""
import math
import statistics
import sys

import plot

NAN = float("nan")
NUMBERS = ("rps", "cpu", "busy", "p50", "p99", "p999", "max", "memory", "connections", "bytes")
COLUMNS = ("scenario", "peer", "round", "requests", *NUMBERS, "errors", "detail")
NAMES = {"floor": "floor", "pilb": "pilb-fast", "nginx": "nginx", "haproxy": "HAProxy", "haproxy-splice": "HAProxy, splice", "h2o": "h2o"}
# Figures that differ by less are the same.
NOISE = {"rps": 1.03, "cpu": 1.03, "p99": 1.15}


def from_text(row):
    """A row of the CSV file as it was measured."""
    number = lambda text: float(text) if text else NAN
    return row | {key: int(row[key]) for key in ("round", "requests", "errors")} | {key: number(row.get(key)) for key in NUMBERS}


class Results:
    """Medians and ratios of some rows, those of one scenario."""

    def __init__(self, rows):
        self.rows = rows
        self.peers = list(dict.fromkeys(row["peer"] for row in rows))

    def of(self, peer):
        return [row for row in self.rows if row["peer"] == peer]

    def middle(self, peer, key):
        return middle(row.get(key, NAN) for row in self.of(peer))

    def ratio(self, peer, key, base):
        """The median of the rounds' ratios."""
        rounds = {row["round"]: row.get(key) for row in self.of(base)}
        return middle(row[key] / rounds[row["round"]] for row in self.of(peer) if row.get(key) and rounds.get(row["round"]))

    def errors(self, peer):
        return sum(row["errors"] for row in self.of(peer))


def middle(values):
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else NAN


def text_table(s, rows, base):
    r = Results(rows)
    base = base if base in r.peers else r.peers[0]
    out = [f"\n{s.name}: {s.about}; ratios (x) against {base}",
           f"{'peer':15}{'req/s':>8}{'x':>6}{'cpu us':>9}{'x':>6}{'busy':>6}{'p50 ms':>9}{'p99 ms':>9}{'p99.9':>9}{'KiB':>8}{'failed':>8}"]
    for peer in r.peers:
        m, x = lambda key: r.middle(peer, key), lambda key: r.ratio(peer, key, base)
        line = (f"{peer:15}{m('rps'):8.0f}{x('rps'):6.2f}{m('cpu'):9.2f}{x('cpu'):6.2f}{m('busy'):6.2f}{m('p50'):9.3f}{m('p99'):9.3f}"
                f"{m('p999'):9.3f}{m('memory'):8.0f}{r.errors(peer):8}").replace("nan", "  -")
        why = next((row["detail"] for row in r.of(peer) if row["errors"] and row["detail"]), "")
        out.append(f"{line}  {why[:100]}".rstrip())
    return "\n".join(out)


# --- Markdown ----------------------------------------------------------------------------------------------------------------

def proxies(r):
    return [peer for peer in r.peers if not peer.startswith("floor")]


def cell(s, r, peer):
    if peer not in r.peers or math.isnan(r.middle(peer, "rps")):
        return ""
    cpu = r.middle(peer, "cpu")
    cost = f"{cpu:,.0f} us" if cpu >= 100 else f"{cpu:.1f} us"
    best = min(r.middle(other, "cpu") for other in proxies(r) if other.endswith("+log") == peer.endswith("+log"))
    if cpu <= best * NOISE["cpu"] and peer in proxies(r):
        cost = f"**{cost}**"
    # At a fixed rate it is the latency that differs.
    speed = f"p99 {r.middle(peer, 'p99'):.2f} ms" if s.rate else f"{r.middle(peer, 'rps'):,.0f}/s"
    failed = r.errors(peer)
    return f"{speed}, {cost}" + (f", {failed} failed" if failed else "")


def markdown(scenarios, rows, lines):
    """One row per scenario, one column per peer, and what was lost."""
    peers = [peer for peer in NAMES if any(row["peer"] == peer for row in rows)]
    out = ["| | " + " | ".join(NAMES[peer] for peer in peers) + " |", "|---" * (len(peers) + 1) + "|"]
    for s in scenarios.values():
        r = Results([row for row in rows if row["scenario"] == s.name])
        for suffix in dict.fromkeys("+log" if peer.endswith("+log") else "" for peer in r.peers):
            about = s.about if len(s.logs) == 1 else f"{s.about.split(',')[0]}, access log {'on' if suffix else 'off'}"
            out.append(f"| {about} | " + " | ".join(cell(s, r, peer + suffix) for peer in peers) + " |")
    out += ["", "Requests/s, or at a fixed rate the 99th percentile of latency, and the proxy's CPU time per request (bold: the least of the proxies).",
            "Medians. " + "; ".join(lines) + ".", "", *losses(scenarios, rows)]
    return "\n".join(out) + "\n"


def losses(scenarios, rows, names=NAMES, leave=()):
    """Where another peer (but those to leave out) was better than ours by more than noise."""
    found = []
    for s in scenarios.values():
        r = Results([row for row in rows if row["scenario"] == s.name])
        suffix = "+log" if True in s.logs else ""
        for peer in proxies(r):
            if peer.startswith(("pilb", *leave)) or not peer.endswith(suffix):
                continue
            mine = "pilb" + suffix
            # Both the rounds' ratios and the medians must say so.
            least = lambda key: min(r.ratio(peer, key, mine), r.middle(peer, key) / r.middle(mine, key))
            most = lambda key: max(r.ratio(peer, key, mine), r.middle(peer, key) / r.middle(mine, key))
            better = [f"{least('rps'):.2f} times the requests/s"] * (least("rps") > NOISE["rps"] and not s.rate)
            better += [f"{most('cpu'):.2f} of the CPU"] * (most("cpu") < 1 / NOISE["cpu"])
            better += [f"{most('p99'):.2f} of the p99"] * (most("p99") < 1 / NOISE["p99"])
            if better and mine in r.peers:
                found.append(f"- {s.about}: {names[peer.removesuffix('+log')]} has {', '.join(better)}")
    return [f"Where {names['pilb']} loses:", "", *found] if found else [f"{names['pilb']} was behind nowhere in this run."]


def between_marks(path, text, by="loadtest/run --figure"):
    """The file with what is between its two marks replaced."""
    begin, end = f"<!-- {by} writes from here -->\n", "<!-- to here -->\n"
    with open(path) as f:
        content = f.read()
    if begin not in content or end not in content:
        sys.exit(f"{path} has no place for the table: the lines {begin.strip()} and {end.strip()}")
    start = content.index(begin) + len(begin)
    return content[:start] + "\n" + text + "\n" + content[content.index(end, start):]


# --- The figure --------------------------------------------------------------------------------------------------------------

def figure(scenarios, rows, lines):
    """Two panels: requests/s against nginx, CPU per request against the relay. In the log scenario, logs are on."""
    speed, cost = [], []
    for s in scenarios.values():
        r = Results([row for row in rows if row["scenario"] == s.name])
        suffix = "+log" if True in s.logs else ""
        bars = lambda key, base, but: {peer: r.ratio(peer + suffix * (peer != "floor"), key, base) for peer in NAMES if peer != but}
        if not r.peers:
            continue
        if not s.rate:
            speed.append((s.name, s.caption, bars("rps", "nginx" + suffix, "nginx")))
        cost.append((s.name, s.caption, bars("cpu", "floor", "floor")))
    panels = [plot.Panel("Requests per second: nginx = 1, higher is better", speed),
              plot.Panel("CPU time per request: a byte relay that parses nothing = 1, lower is better", cost)]
    return plot.svg(panels, NAMES, "; ".join(lines[:1] + lines[-1:]))
