#!/usr/bin/env python3
"""Break what pilb-origin's cache stands on, while it serves: kills, damaged files, full disks, clocks, crowds, changing files.

Each answer is checked byte for byte against the content that was on the disk when it was asked for. Prints a row of a Markdown table
for each fault: what was done, the figures, whether descriptors and memory are back to what they were 5 s later (1 s with --quick;
memory within 5 % and 4 MiB), and pass or FAIL.
"""
import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import cache_faults_crowd as crowd
import cache_faults_damage as damage
from cache_faults_tools import Baseline, Client, Cut, Load, Server, Site, get, more_descriptors

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = """rows:
  22  SIGKILL again and again under a load that writes to the cache      29  a crowd asks for one answer that is not made yet
  23  objects and index damaged, while running and while stopped         30  the first of a crowd goes away
  24  a disk that is full, read-only, or over a quota (needs root)       31  files change while they are sent
  27  clocks that jump (needs libfaketime, and root for time namespaces)

examples:
  cache_faults.py                        all rows with target/release/pilb-origin: eight minutes
  cache_faults.py --quick                the same with fewer rounds and clients: a minute
  cache_faults.py --rows 22,23 --seed 7  two rows, with other random numbers
  cache_faults.py --rows 23 --seconds 600   damage for ten minutes

exit status: 0 all passed (or could not be tried here, which is said); 1 one failed; 2 the program is missing
"""


@dataclasses.dataclass
class Stage:
    """Where and how the rows are played."""
    program: pathlib.Path
    folder: pathlib.Path
    quick: bool
    seconds: float
    seed: int
    failed: bool = False
    last: Server | None = None

    def site(self, name):
        return Site(self.folder / f"{name}-root")

    def server(self, name, site, *options, **more):
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.last = Server(self.program, folder, site, *options, **more)
        return self.last

    def rest(self, base, hot=False):
        return base.check(1.5 if self.quick else 5, hot, self.quick)

    def warm(self, *loads):
        """The same load as later, so that memory is what it takes; at rest again."""
        with contextlib.ExitStack() as going:
            for load in loads:
                going.enter_context(load)
            time.sleep(1 if self.quick else 5)
        return Baseline(loads[0].server, 0.3 if self.quick else 1)

    def tell(self, row, what, figure, good, rest=("", True)):
        """One row of the table."""
        passed = good if isinstance(good, str) else "pass" if good and rest[1] else "FAIL"
        self.failed |= passed == "FAIL"
        print(f"| {row} | {what} | {figure} | {rest[0]} | {passed} |", flush=True)


# --- 22: kills ---------------------------------------------------------------------------------------------------------------

def first_hit(server, names, begun, chance):
    """Milliseconds from the start of the program to the first answer from its cache, and how many misses came before."""
    misses = 0
    while server.alive() and time.monotonic() - begun < 10:
        name = chance.choice(names)
        try:
            answer = get(server.port, name)
        except (OSError, Cut):
            time.sleep(0.001)
            continue
        if not server.site.is_right(name, "gzip", 0, answer):
            raise AssertionError(f"wrong after a kill: {name}")
        if answer.hit:
            return (time.monotonic() - begun) * 1000, misses
        misses += 1
    raise AssertionError(f"no hit after a kill: {server.said()[-400:]}")


WALKED = r"looked through the objects: (\d+) kept, (\d+) removed"


def walk(server):
    """Starts it after a kill: how many objects were kept and removed, once the walk over them has ended."""
    before = server.said(WALKED)
    server.start()
    if until(lambda: server.said(WALKED) > before, 30) is None:
        raise AssertionError("the walk over the objects does not end")
    return map(int, re.findall(WALKED, server.said())[-1])


def kills(stage):
    chance, rounds = random.Random(stage.seed), 20 if stage.quick else 300
    site = stage.site("kills")
    names, known = site.many("w", 300 if stage.quick else 800), site.many("c", 20)
    server = stage.server("kills", site).start()
    time.sleep(0.1)
    for name in known:
        get(server.port, name)
    base = stage.warm(Load(server, names))
    server.kill()
    times, missed = [], 0
    with Load(server, names, renew=0.3, pause=0.002) as load:
        for number in range(rounds):
            if number % 5 == 4:
                # Killed while it starts.
                server.start(wait=False)
                time.sleep(chance.uniform(0.001, 0.03))
                server.kill()
            begun = time.monotonic()
            server.start(wait=False)
            took, misses = first_hit(server, known, begun, chance)
            times.append(took)
            missed += misses
            time.sleep(chance.uniform(0.005, 0.2))
            server.kill()
    kept, removed = walk(server)
    drafts, files = [path.name for path in (server.cache / "tmp").iterdir()], len(server.objects())
    server.kill()
    again, orphans = walk(server)
    stage.warm(calm := Load(server, names))
    rest = stage.rest(base, hot=True)
    server.stop()
    verify = server.tool("verify", server.cache)
    times.sort()
    good = load.good(cuts=True) and calm.good() and times[-1] < 1000 and not drafts and orphans == 0 and again == files
    good = good and verify.returncode in (0, 2)
    stage.tell(22, f"SIGKILL {rounds} times, 5-200 ms after the first hit, every fifth time also 1-30 ms after the start",
               f"first hit median {times[len(times) // 2]:.0f} ms, worst {times[-1]:.0f} ms after exec, {missed} misses before"
               f" it; {load.figures()}; last walk: {kept} kept, {removed} removed; left: {orphans} orphans in objects/, {len(drafts)}"
               f" files in tmp/; cache verify: {verify_says(verify)}", good, rest)


def verify_says(verify):
    lines = verify.stdout.strip().splitlines()
    return "not in this program" if verify.returncode == 2 else lines[-1] if lines else f"exit status {verify.returncode}"


# --- 24: disks ---------------------------------------------------------------------------------------------------------------

NOT_KEPT, KEPT_AGAIN = "answers are not kept in", "answers are kept in .* again"


def mount(*words):
    return subprocess.run(["mount", *map(str, words)], check=False, capture_output=True).returncode == 0


def until(what, seconds=8):
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if what():
            return time.monotonic() - begun
        time.sleep(0.02)
    return None


def fill(path):
    """A file that takes all the space there is."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


class Episode:
    """A time in which nothing can be stored: it is warned of once, everything is served, and then answers are stored again."""

    def __init__(self, stage, server, load):
        self.stage, self.server, self.load = stage, server, load

    def play(self, what, begin, end, seconds=None):
        server, load = self.server, self.load
        warned, again = server.said(NOT_KEPT), server.said(KEPT_AGAIN)
        asked = load.asked
        begin()
        begun = until(lambda: server.said(NOT_KEPT) > warned)
        time.sleep(seconds or (1.5 if self.stage.quick else 4))
        warnings, served = server.said(NOT_KEPT) - warned, load.asked - asked
        # What expires meanwhile makes room for something small: then it works, and fails, once more.
        between = server.said(KEPT_AGAIN) - again
        end()
        # If the last that was said is "again", nothing more will be: so what counts is which word is the last one.
        back = until(lambda: server.said(KEPT_AGAIN) - again >= server.said(NOT_KEPT) - warned)
        new = server.site.add(f"new-{warned}-{random.random()}.txt", 3000)
        hit = until(lambda: get(server.port, new).hit, 4)
        good = begun is not None and 1 <= warnings <= 1 + between and between < 5 and back is not None and hit is not None and load.good() and served > 0
        shown = "not said" if back is None else "said, no hit" if hit is None else f"after {back:.1f} s"
        self.stage.tell(24, what, f"{served} answers meanwhile, {warnings} warning(s), {between} time(s) works meanwhile,"
                        f" stored and hit again {shown}; {load.figures()}", good)


def disks(stage):
    disk = stage.folder / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", disk):
        return stage.tell(24, "a disk of 4 MiB", "mounting needs root", "not tried")
    site = stage.site("disks")
    names = site.many("d", 400, 20_000, 60_000)
    options = ["--cache-max-objects", "1000"]
    server = stage.server("disks", site, *options, "--cache-ttl", "2s", cache=disk / "own").start()
    base = stage.warm(Load(server, names, renew=0, threads=4))
    before = server.said(NOT_KEPT), server.said(KEPT_AGAIN)
    with Load(server, names, renew=0, threads=4) as load:
        cycles = until(lambda: server.said(KEPT_AGAIN) >= before[1] + 2, 20)
        warnings = server.said(NOT_KEPT) - before[0]
    rest = stage.rest(base, hot=True)
    seconds = cycles or 20
    stage.tell(24, "answers fill the disk (ENOSPC), ttl 2 s makes room", f"full and back twice in {seconds:.0f} s,"
               f" {warnings} warnings; {load.figures()}", cycles is not None and load.good() and warnings <= seconds + 2, rest)
    server.stop()
    shutil.rmtree(disk / "own")
    server = stage.server("disks-2", site, *options, cache=disk / "cache").start()
    few = names[:60]
    base = stage.warm(Load(server, few, renew=0.2, threads=4))
    with Load(server, few, renew=0.2, threads=4) as load:
        time.sleep(0.5)
        episode = Episode(stage, server, load)
        episode.play("a foreign file fills the disk (ENOSPC)", lambda: fill(disk / "foreign"), (disk / "foreign").unlink)
        drafts = server.cache / "tmp"
        episode.play("tmp/ becomes read-only (EROFS)",
                     lambda: mount("--bind", drafts, drafts) and mount("-o", "remount,bind,ro", drafts),
                     lambda: subprocess.run(["umount", drafts], check=True))
        tracer = Tracer(server)
        if tracer.missing():
            stage.tell(24, "over the quota (EDQUOT)", tracer.missing(), "not tried")
        else:
            episode.play("over the quota (EDQUOT by strace, writes to tmp/*)", tracer.begin, tracer.end)
    stage.tell(24, "after all these", load.figures(), load.good(), stage.rest(base, hot=True))
    server.stop()
    subprocess.run(["umount", disk], check=False)


class Tracer:
    """Makes writes to the cache's drafts fail. (tmpfs has no quota in many kernels.)"""

    def __init__(self, server):
        self.server, self.process = server, None

    def missing(self):
        return "" if shutil.which("strace") else "needs strace"

    def begin(self):
        # Drafts are numbered from 0 in each process.
        paths = [word for n in range(20_000) for word in ("-P", f"{self.server.cache}/tmp/{n}")][:40_000]
        self.process = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", *paths, "-e", "trace=write", "-e", "inject=write:error=EDQUOT",
             "-p", str(self.server.process.pid)], stderr=subprocess.DEVNULL)

    def end(self):
        self.process.terminate()
        self.process.wait()


# --- 27: clocks --------------------------------------------------------------------------------------------------------------

TTL = 3
DAYS = 3 * 86_400


def clocks(stage):
    faketime = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    site = stage.site("clocks")
    names = site.many("t", 30)
    server = stage.server("clocks", site, "--cache-ttl", f"{TTL}s")
    if faketime is None:
        stage.tell(27, "the wall clock jumps", "needs libfaketime", "not tried")
    else:
        wall_jumps(stage, server, names, faketime)
    boot_jumps(stage, server, names)


def wall_jumps(stage, server, names, faketime):
    """libfaketime turns what Rust's standard library and the loop read through libc (dates, "has just changed"). The cache's
    own clock reads CLOCK_BOOTTIME by a call of its own, past libc: which this shows: its ages do not move."""
    stamp = stage.folder / "now"
    fake = {"LD_PRELOAD": str(faketime), "FAKETIME_TIMESTAMP_FILE": str(stamp), "FAKETIME_NO_CACHE": "1"}
    variants = [("", {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}), (", CLOCK_MONOTONIC too", {})]
    for what, more in variants[:1] if stage.quick else variants:
        stamp.write_text("+0d\n")
        server.start(env={**fake, **more})
        # A monotonic clock that goes back is no clock of this system; the loop's stands still then, and does not look at files again.
        renew = 0 if what else 0.02
        base = stage.warm(Load(server, names, renew=renew, threads=3))
        good, notes, dates = True, [], set()
        with Load(server, names, renew=renew, threads=3) as load:
            for jump in ("+3d", "-3d") if stage.quick else ("+3d", "-3d", "+0d"):
                name = site_name(server)
                made = time.monotonic()
                first = [get(server.port, name) for _ in range(2)][1]
                stamp.write_text(jump + "\n")
                time.sleep(1)
                ages = [get(server.port, name) for _ in range(3)]
                dates.add(get(server.port, name).fields["date"][:16])
                # The loop's monotonic clock, jumping, may take what is in memory for old; the cache's is another one.
                alive = first.hit and all(answer.hit and abs(answer.age - (time.monotonic() - made)) <= 1.5 for answer in ages)
                time.sleep(TTL + 0.5)
                late = get(server.port, name)
                good = good and alive and not late.hit
                notes.append(f"{jump}: {'hit' if alive else 'NO HIT'}, age {ages[-1].age}, after ttl {'HIT' if late.hit else 'miss'}")
        server_rest = stage.rest(base, hot=True)
        stage.tell(27, f"the wall clock jumps while running{what} (ttl {TTL} s)",
                   f"{'; '.join(notes)}; {len(dates)} dates seen; {load.figures()}",
                   good and load.good(cuts=bool(what)) and len(dates) >= 2, server_rest)
        if not what:
            restarts(stage, server, fake, stamp)
        server.stop()


def site_name(server):
    """A new file, old enough to be kept, that is kept."""
    name = server.site.add(f"n{len(server.site.sizes)}.txt", 5000)
    time.sleep(0.1)
    get(server.port, name)
    return name


def restarts(stage, server, fake, stamp):
    """The server starts again under another wall clock, on the same boot."""
    good, notes = True, []
    for jump in ("+3d",) if stage.quick else ("+3d", "-3d"):
        name = site_name(server)
        server.stop()
        stamp.write_text(jump + "\n")
        server.start(env=fake)
        soon = get(server.port, name)
        time.sleep(TTL + 0.5)
        late = get(server.port, name)
        good = good and soon.hit and 0 <= soon.age <= TTL and not late.hit
        notes.append(f"{jump}: {soon.cache}, after ttl {'HIT' if late.hit else 'miss'}")
    stage.tell(27, "restart under another wall clock", "; ".join(notes), good)


def boot_jumps(stage, server, names):
    """Restarts in which the boottime differs; the boot's id, too, in the second half: a restored machine."""
    prefix = ["unshare", "-T", "--monotonic", str(DAYS), "--boottime", str(DAYS)]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        return stage.tell(27, "boottime jumps", "needs time namespaces, and root", "not tried")
    other = stage.folder / "boot_id"
    other.write_text("00000000-1111-2222-3333-444444444444\n")
    good, notes, boot = True, [], "/proc/sys/kernel/random/boot_id"
    cases = ((True, False, False), (False, False, True), (False, True, True), (True, True, True))
    for ahead, new_boot, keeps in cases[::3] if stage.quick else cases:
        server.start()
        name = site_name(server)
        kept = get(server.port, name).hit
        server.stop()
        mounted = new_boot and mount("--bind", other, boot)
        server.start(prefix=prefix if ahead else ())
        soon = get(server.port, name)
        with Load(server, names, threads=2) as load:
            time.sleep(TTL + 0.5)
        late = get(server.port, name)
        # Three days by the same boot's clock are three days: all is gone. By another boot's they are not.
        good = good and kept and soon.hit == keeps and not late.hit and 0 <= (soon.age or 0) <= TTL and load.good()
        notes.append(f"{'+3d' if ahead else 'back'}{' new boot' if mounted else ''}: {'hit' if soon.hit else 'miss'},"
                     f" after ttl {'HIT' if late.hit else 'miss'}")
        server.stop()
        if mounted:
            subprocess.run(["umount", boot], check=True)
    stage.tell(27, "restart with boottime 3 days ahead and back, on the same boot and another one", "; ".join(notes), good)


# --- The command line --------------------------------------------------------------------------------------------------------

ROWS = {22: kills, 23: damage.play, 24: disks, 27: clocks, 29: crowd.stampede, 30: crowd.abort, 31: crowd.changes}
# These wait more than they work: with --quick they are played beside the others.
WAITING = {24, 27}


def options():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--origin", type=pathlib.Path, default=HERE.parent / "target/release/pilb-origin")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="numbers with commas [default: all]")
    parser.add_argument("--quick", action="store_true", help="a minute")
    parser.add_argument("--seconds", type=float, help="of row 23's damage under load [default: 20; quick: 3]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-head", action="store_true", help="no first lines of the table")
    parser.add_argument("--times", action="store_true", help="say how long each row took")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs and say where it is")
    return parser.parse_args()


def own_mounts():
    """What is mounted here is seen by nobody else and gone afterwards."""
    if os.geteuid() == 0 and "CACHE_FAULTS_INSIDE" not in os.environ and shutil.which("unshare"):
        if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0:
            os.environ["CACHE_FAULTS_INSIDE"] = "1"
            os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])


def main():
    asked = options()
    if not asked.origin.exists():
        sys.exit(print(f"cache_faults.py: {asked.origin} is missing: cargo build --release", file=sys.stderr) or 2)
    own_mounts()
    more_descriptors()
    sys.setswitchinterval(0.001)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cache-faults-"))
    folder.chmod(0o755)
    # Where another user may start it, too.
    program = pathlib.Path(shutil.copy(asked.origin, folder / "pilb-origin"))
    stage = Stage(program, folder, asked.quick, asked.seconds or (3 if asked.quick else 20), asked.seed)
    rows, beside = [int(number) for number in asked.rows.split(",")], None
    if not asked.no_head:
        print("| Row | Fault | Figures | At rest again | |\n|---|---|---|---|---|", flush=True)
        if asked.quick and set(rows) > WAITING:
            rows = [number for number in rows if number not in WAITING]
            also = ["--no-head", "--rows", ",".join(map(str, WAITING))]
            beside = subprocess.Popen([sys.executable, *sys.argv, *also], stdout=subprocess.PIPE, text=True)
    for number in rows:
        try:
            begun = time.monotonic()
            ROWS[number](stage)
            if asked.times:
                print(f"row {number}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
        except Exception as error:  # pylint: disable=broad-except
            traceback.print_exc()
            print(stage.last.said()[-1500:] if stage.last else "", file=sys.stderr)
            stage.tell(number, "(not ended)", repr(error).replace("|", "/"), False)
        finally:
            if stage.last:
                stage.last.stop()
    if beside:
        print(beside.communicate()[0], end="")
        stage.failed |= beside.returncode != 0
    if asked.keep:
        print(folder, file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return int(stage.failed)


if __name__ == "__main__":
    sys.exit(main())
