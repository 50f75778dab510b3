#!/usr/bin/env python3
"""Break what pilb-fast stands on, while it relays: its system calls, its clients, its servers, the network, the disk of its log.

A steady load with unique bodies runs beside each fault, and every answer is compared with what must come. Prints a row of a Markdown table for
each fault: what was done, the figures, whether descriptors and memory are back 5 s later to what they were (1.2 s with --quick; memory within
5 % and 4 MiB, descriptors within 5 % and 4) and the next request is right, and pass or FAIL.
"""
import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import proxy_faults_clients as clients
import proxy_faults_crowded as crowded
import proxy_faults_long as long
import proxy_faults_network as network
import proxy_faults_servers as servers
import proxy_faults_system as system
from cache_faults_tools import more_descriptors
from proxy_faults_tools import end_living

HERE = pathlib.Path(__file__).resolve().parent
ROWS = {
    "1": (system.torture, "system calls fail, one after the other (needs strace)"),
    "2": (system.descriptors, "64 descriptors and 200 clients"),
    "3": (system.stopped, "the proxy is stopped while thousands connect"),
    "4": (clients.slow, "slow heads, bodies and readers"),
    "4s": (crowded.slowloris, "10,000 stuck clients: what they cost (needs gcc)"),
    "5": (clients.zero_window, "clients that read nothing of a large answer"),
    "6": (clients.pressure, "fast server and slow client, and the other way round"),
    "7": (clients.bombs, "header and chunk bombs"),
    "8": (servers.mid_body, "servers die in mid-answer"),
    "8b": (servers.bad, "endless, contradicting and wrong answers"),
    "9": (servers.before_first_byte, "servers close a used connection before the first byte"),
    "10": (network.black_hole, "no packet reaches a server (needs nft)"),
    "11": (servers.hang, "a server is stopped, also in mid-answer"),
    "12": (network.refused, "a server is refused by the network (needs nft)"),
    "13": (servers.all_down, "all servers are down, and up again"),
    "14": (servers.flapping, "a server goes and comes every 200 ms"),
    "15": (network.loss, "5 % of the packets are lost (needs nft)"),
    "16": (clients.storm, "thousands of clients a second that reset"),
    "17": (clients.half_closed, "clients that close their half"),
    "18": (network.vanished, "peers that vanish (needs nft)"),
    "21": (system.graceful, "told to end with 100 long downloads"),
    "25": (system.log_full, "the log's disk is full, its pipe is blocked (needs root)"),
    "26": (system.rotation, "the log is renamed and reopened, again and again"),
    "28": (crowded.memory, "a memory limit a little above what it takes (needs cgroups)"),
    "32": (crowded.idle, "10,000 idle and 1,000 active connections (needs gcc)"),
    "33": (network.no_ports, "no ports left (needs a network namespace)"),
    "34": (long.soak, "mixed load and random faults for --soak minutes"),
    "kill": (servers.kill_in_turn, "each server is killed and restarted in turn under 64 connections"),
    "drain": (system.handover, "told to end under keep-alive load, while clients go to another one"),
}
ELSEWHERE = {"19": "reload under load: there is no reload, as there is no configuration file", "20": "bad reload: as 19",
             "22-24, 27, 29-31": "the cache: loadtest/cache_faults.py", "35": "fuzzing: fuzz/"}
NOT_QUICK = {"34"}
# With --quick these run at the same time, each lane in a network of its own; what compares times runs alone afterwards.
LANES = [["kill", "9", "8", "17"], ["12", "25", "16"], ["1", "33", "18", "2"], ["drain", "26", "10", "8b"], ["11", "13", "6", "15"], ["28", "14", "7", "3", "21"],
         ["4", "5"]]
ALONE = ["4s", "32"]
EXAMPLES = "rows:\n" + "".join(f"  {name:6} {what}\n" for name, (_, what) in ROWS.items()) + """
examples:
  proxy_faults.py                           all rows but 34 with target/release/pilb-fast
  proxy_faults.py --quick                   the same with fewer rounds and clients: a minute
  proxy_faults.py --rows 2,5,kill           some rows
  proxy_faults.py --rows 34 --soak 30       half an hour of everything

exit status: 0 all passed (or could not be tried here, which is said); 1 one failed; 2 the program is missing
"""


class Stage:
    """Where and how the rows are played."""

    def __init__(self, program, folder, asked):
        self.program, self.folder, self.quick, self.seed, self.soak = program, folder, asked.quick, asked.seed, asked.soak
        self.flags = set(re.findall(r"--[a-z0-9-]+", subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout))
        self.failed, self.scenes, self.order = False, [], 0

    def tell(self, row, what, figure, good, rest=("", True)):
        """One row of the table; `good` may be a word that says why it was not tried."""
        passed = good if isinstance(good, str) else "pass" if good and rest[1] else "FAIL"
        self.failed |= passed == "FAIL"
        cells = (str(cell).replace("|", "/").replace("\n", " ") for cell in (row, what, figure, rest[0], passed))
        print("| " + " | ".join(cells) + " |", flush=True)

    def play(self, name):
        begun = time.monotonic()
        try:
            ROWS[name][0](self)
        except Exception as error:  # pylint: disable=broad-except
            traceback.print_exc()
            self.tell(name, f"{ROWS[name][1]} (not ended)", repr(error), False)
        finally:
            for scene in list(self.scenes):
                scene.end()
            end_living()
        return time.monotonic() - begun


def options():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=HERE.parent / "target/release/pilb-fast")
    parser.add_argument("--rows", help="names with commas [default: all but 34]")
    parser.add_argument("--quick", action="store_true", help="a minute")
    parser.add_argument("--soak", type=float, default=30, metavar="MIN", help="minutes of row 34 [default: 30]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-head", action="store_true", help="no first lines of the table")
    parser.add_argument("--times", action="store_true", help="say how long each row took")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs and say where it is")
    asked = parser.parse_args()
    if asked.rows and (unknown := set(asked.rows.split(",")) - set(ROWS)):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; --help lists them")
    return asked


def own_network():
    """Rules, limits, mounts and processes that are seen by nobody else and gone afterwards, however this ends."""
    if os.geteuid() == 0 and "PROXY_FAULTS_INSIDE" not in os.environ and shutil.which("unshare") and shutil.which("ip"):
        apart = ["unshare", "-n", "-m", "-p", "-f", "--kill-child", "--mount-proc"]
        if subprocess.run([*apart, "ip", "link", "set", "lo", "up"], check=False, capture_output=True).returncode == 0:
            os.environ["PROXY_FAULTS_INSIDE"] = "1"
            os.execvp("unshare", [*apart, sys.executable, *sys.argv])
    if "PROXY_FAULTS_INSIDE" in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def in_lanes(asked):
    """The quick rows, several at a time."""
    environment = {name: value for name, value in os.environ.items() if name != "PROXY_FAULTS_INSIDE"}
    more = ["--no-head"]
    lanes = [subprocess.Popen([sys.executable, *sys.argv, *more, "--rows", ",".join(lane)], stdout=subprocess.PIPE, text=True, env=environment) for lane in LANES]
    failed, lines = False, []
    try:
        for lane in lanes:
            lines += lane.communicate()[0].splitlines()
            failed |= lane.returncode != 0
    finally:
        for lane in lanes:
            lane.kill()
    order = list(ROWS)
    print("\n".join(sorted(lines, key=lambda line: order.index(line.split(" ")[1]) if line.split(" ")[1] in order else 99)), flush=True)
    return failed


def main():
    asked = options()
    if not asked.binary.exists():
        sys.exit(print(f"proxy_faults.py: {asked.binary} is missing: cargo build --release", file=sys.stderr) or 2)
    own_network()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    more_descriptors()
    sys.setswitchinterval(0.001)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="proxy-faults-"))
    stage = Stage(asked.binary.resolve(), folder, asked)
    if not asked.no_head:
        print("| Row | Fault | Figures | At rest again | |\n|---|---|---|---|---|", flush=True)
    if asked.rows:
        rows = asked.rows.split(",")
    elif asked.quick:
        stage.failed |= in_lanes(asked)
        rows = ALONE
    else:
        rows = [name for name in ROWS if name not in NOT_QUICK]
    try:
        for name in rows:
            took = stage.play(name)
            if asked.times:
                print(f"row {name}: {took:.0f} s", file=sys.stderr)
    finally:
        for scene in list(stage.scenes):
            scene.end()
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if not asked.rows:
        for row, why in ELSEWHERE.items():
            stage.tell(row, why.split(":")[0], why.split(": ", 1)[1], "elsewhere")
    if asked.keep:
        print(folder, file=sys.stderr)
    return int(stage.failed)


if __name__ == "__main__":
    sys.exit(main())
