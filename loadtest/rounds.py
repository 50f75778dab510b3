"""What `loadtest/run` and `loadtest/files` share of a measurement: peers that take turns round by round, and the record that is kept."""
import argparse
import csv
import os
import resource
import sys

import measure
from measure import Failed


def names(known):
    """Reads a list of names from the command line."""
    def read(text):
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return text.split(",")
    return read


def prepare():
    """As many open files as there may be; and a word if the machine is too small."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if measure.PROXY_CPU == measure.LOAD_CPU:
        print("only one CPU: server and load share it, and requests/s mean nothing", file=sys.stderr)


def take_turns(scenario, peers, count, keep):
    """All rounds of a scenario, interleaved. `peers`: for each name what plays one round and gives its figures."""
    rows = []
    for number in range(1, count + 1):
        for name, play in peers.items():
            if sys.stderr.isatty():
                print(f"\r\033[K{scenario}, round {number} of {count}: {name}", end="\r", file=sys.stderr)
            rows.append({"scenario": scenario, "peer": name, "round": number, **once_more(play, f"{scenario}: {name}")})
            keep(rows[-1])
    return rows


def once_more(play, name):
    for _ in range(2):
        try:
            return play()
        except Failed as why:
            # A port may have been taken meanwhile. Once more, and it is a result.
            print(f"{name}: {why}", file=sys.stderr)
            figures = {"requests": 0, "errors": 1, "detail": str(why).replace("\n", " ")}
    return figures


class Record:
    """The files of a measurement: results.csv, written row by row, and machine.txt."""

    def __init__(self, folder, columns):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.before = folder, measure.time_spent()
        self.file = open(os.path.join(folder, "results.csv"), "w", newline="")
        self.table = csv.DictWriter(self.file, columns, extrasaction="ignore")
        self.table.writeheader()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def keep(self, row):
        self.table.writerow(row)
        self.file.flush()

    def end(self, lines):
        """Writes what the figures depend on, and gives it back with the noise in them: what others did meanwhile."""
        everything, by_others = (after - first for after, first in zip(measure.time_spent(), self.before))
        lines = [*lines[:-1], f"{lines[-1]}, while others took {max(0, by_others / everything):.0%} of the machine's CPU time"]
        with open(os.path.join(self.folder, "machine.txt"), "w") as f:
            f.write("\n".join(lines) + "\n")
        return lines
