"""The system says no, the disk of the log is full, and signals: rows of proxy_faults.py."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from proxy_faults_origin import text
from proxy_faults_scene import Scene, mount
from proxy_faults_tools import LIVING, Crowd, Proxy, Talk, next_right, tried, until

# What each call may say, as the kernel's manual has it. EAGAIN although there is something is a lie that no kernel tells: the request hit
# by it waits for an event that does not come, until its time is up. (close is not among them: what fails here is not done, while the
# kernel closes whatever it says.)
TORTURES = {
    "accept4": ["EMFILE", "ECONNABORTED", "ENOBUFS", "EINTR", "EPERM"], "socket": ["EMFILE", "ENOBUFS"],
    "connect": ["EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT", "EINTR", "ECONNREFUSED", "EACCES"],
    "recvfrom": ["ECONNRESET", "EIO", "EINTR", "ENOMEM", "EAGAIN"], "sendto": ["ECONNRESET", "EPIPE", "EINTR", "ENOBUFS", "ENOMEM", "EAGAIN"],
    "sendmsg": ["ECONNRESET", "EPIPE", "EINTR", "ENOBUFS"], "splice": ["EINVAL", "EIO", "ECONNRESET", "EINTR", "ENOMEM"], "pipe2": ["EMFILE", "ENFILE"],
    "epoll_ctl": ["ENOMEM", "ENOSPC"], "epoll_wait": ["EINTR"], "getsockopt": ["ENOBUFS"], "setsockopt": ["ENOBUFS", "EINVAL"], "shutdown": ["ENOTCONN"],
    "write": ["ENOSPC", "EIO", "EINTR"], "fcntl": ["EINVAL"], "getpeername": ["ENOTCONN"], "futex": ["EINTR"], "madvise": ["EINVAL"],
}
# What is called for new connections to servers only.
CONNECTS = {"socket", "connect", "getsockopt", "setsockopt", "epoll_ctl"}
QUICK = {("accept4", "EMFILE"), ("socket", "EMFILE"), ("recvfrom", "ECONNRESET"), ("sendto", "ENOBUFS"), ("splice", "EINVAL"), ("epoll_ctl", "ENOMEM"),
         ("pipe2", "EMFILE"), ("epoll_wait", "EINTR"), ("connect", "ENETUNREACH"), ("write", "ENOSPC")}


def torture(stage):
    """1: the cheapest strong method."""
    what = "each system call fails once, at its n-th time, under 20 requests"
    if not shutil.which("strace"):
        return stage.tell(1, what, "needs strace", "not tried")
    with Scene(stage, "torture", {"--workers": "1"}, health=False).warm() as scene:
        if not Injection(scene.proxy, "getpid", "EIO", 1).works():
            return stage.tell(1, what, "strace may not trace here", "not tried")
        runs = hurt = worst = 0
        problems, silent = [], {call for call in TORTURES if not stage.quick or any(call == one for one, _ in QUICK)}
        times = (1, 2) if stage.quick else range(1, 13)
        for call, errors in TORTURES.items():
            for error in errors:
                if stage.quick and (call, error) not in QUICK:
                    continue
                for nth in times:
                    if call in CONNECTS:
                        cut_idle(scene)
                    elif call in ("pipe2", "splice"):
                        # Kept pipes are closed by that, and that splicing was refused is forgotten.
                        scene.proxy.stop()
                        scene.proxy.start()
                    with Injection(scene.proxy, call, error, nth) as injection:
                        failed, wrong, took = script(scene.port)
                    runs += 1
                    hurt += failed > 0
                    worst = max(worst, took)
                    # A connection that is lost takes its next request along, if that was sent before.
                    if wrong or failed > 1 or took > 6 or not scene.proxy.alive() or not next_right(scene.port):
                        problems.append(f"{call} {error} {nth}: {failed} failed{', WRONG' if wrong else ''}, {took:.1f} s{'' if scene.proxy.alive() else ', GONE'}")
                    if not scene.proxy.alive():
                        scene.proxy.start()
                    if not injection.hits:
                        break
                    silent.discard(call)
        scene.tell(1, f"{what}: {runs} times", f"{hurt} times a request failed, and always one; the longest script took {worst:.1f} s"
                   + (f"; {len(problems)} WRONG: {'; '.join(problems[:8])}" if problems else "") + (f"; never called: {', '.join(sorted(silent))}" if silent else ""),
                   not problems)
    return None


def cut_idle(scene):
    """The servers close what they have, so that the next requests need connections."""
    for origin in scene.origins:
        origin.signal(signal.SIGUSR1)
    time.sleep(0.1)
    for origin in scene.origins:
        origin.signal(signal.SIGUSR2)
        origin.wait()


class Injection:
    """strace, attached to the threads that serve and the one that writes the log."""

    def __init__(self, proxy, call, error, nth):
        self.proxy, self.hits, self.trace = proxy, 0, proxy.log.parent / "trace"
        self.words = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={nth}"]

    def works(self):
        with self:
            pass
        return self.process.returncode in (0, -signal.SIGINT, -signal.SIGTERM, 130, 143)

    def __enter__(self):
        tasks = f"/proc/{self.proxy.process.pid}/task"
        name = lambda task: pathlib.Path(f"{tasks}/{task}/comm").read_text(encoding="ascii").strip()
        # The thread that waits for signals reads from a pair of sockets of its own, which no kernel resets.
        threads = [task for task in os.listdir(tasks) if name(task) != "pilb-signals" and task != str(self.proxy.process.pid)]
        targets = [word for task in threads for word in ("-p", task)]
        self.trace.unlink(missing_ok=True)
        self.process = subprocess.Popen(["strace", "-o", str(self.trace), *self.words, *targets], stderr=subprocess.DEVNULL)
        LIVING.append(self.process)
        until(lambda: all("TracerPid:\t0" not in pathlib.Path(f"{tasks}/{task}/status").read_text(encoding="ascii") for task in threads), 2, 0.002)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        LIVING.remove(self.process)
        self.hits = self.trace.read_text(errors="replace").count("(INJECTED)") if self.trace.exists() else 0


def script(port):
    """20 requests of all kinds, one after the other: how many failed visibly, whether one was wrong, seconds."""
    begun, failed, wrong, client = time.monotonic(), 0, False, None
    for n in range(20):
        key, kind = f"torture-{n}", n % 5
        size = 300_000 if n in (2, 12) else 900
        try:
            client = client or Talk(port, 5)
            if n in (4, 14):
                client.request("GET", "/big/2000000")
                answer, right = client.big(2_000_000)
                right = right or answer.status >= 500
                if answer.status != 200:
                    # Its body was not read.
                    client = client.close()
            elif kind in (1, 2):
                answer = client.ask_for("POST", f"/echo/{key}", text(key, size), chunked=n > 10)
                right = answer.status >= 500 or answer.body == text(key, size)
            else:
                answer = client.ask_for("GET", f"/{'cb'[n % 2]}/{key}/{size}")
                right = answer.status >= 500 or answer.body == text(key, size)
            wrong |= not right and answer.status == 200
            failed += answer.status != 200
            if client and (answer.fields.get("connection") == "close" or n % 7 == 6):
                client = client.close()
        except Exception:  # pylint: disable=broad-except
            failed += 1
            client = client and client.close()
    if client:
        client.close()
    return failed, wrong, time.monotonic() - begun


def descriptors(stage):
    """2: ulimit -n 64."""
    with Scene(stage, "descriptors", {"--client-idle-timeout": "30s", "--client-head-timeout": "30s", "--workers": "1"}, prefix=("prlimit", "--nofile=64:64")) as scene:
        scene.warm()
        with scene.load(threads=4, fresh=0, rate=100) as load:
            time.sleep(0.5)
            crowd = Crowd("ask", scene.port, 200, 40, hold=1)
            time.sleep(0.5)
            with scene.peak() as peak:
                time.sleep(2 if stage.quick else 10)
            # At 100 requests/s the load itself takes some; what may not be is a loop without rest.
            held = crowd.end()
            recovered = until(lambda: next_right(scene.port), 5)
        # Who idles has to make room, and may be about to ask just then.
        good = load.good(raced=load.asked // 20) and peak.cpu < 0.5 and recovered is not None and recovered < 1 and held["connected"] == 200
        scene.tell(2, "64 descriptors, 200 clients that stay, beside four that were there before",
                   f"{held['answered'] or sum(held['statuses'].values())} of 200 served meanwhile, {held['open']} still open, CPU {peak.cpu:.0%}, at most {peak.fds} descriptors;"
                   f" a new client is served {recovered if recovered is not None else -1:.2f} s after they went; {load.figures()}", good)


def stopped(stage):
    """3: SIGSTOP, and the accept queue."""
    count, seconds = (600, 1) if stage.quick else (3000, 5)
    with Scene(stage, "stopped", {"--client-head-timeout": "20s", "--client-idle-timeout": "20s"}).warm() as scene:
        with scene.load() as load:
            time.sleep(0.3)
            scene.proxy.process.send_signal(signal.SIGSTOP)
            crowd = Crowd("ask", scene.port, count, 30, wait=False)
            begun = time.monotonic()
            time.sleep(seconds)
            scene.proxy.process.send_signal(signal.SIGCONT)
            slept = time.monotonic() - begun
            crowd.ready()
            asked = crowd.end(wait=True)
            time.sleep(0.3)
        drained = max(0.0, asked["last_answer"] - slept)
        good = load.good() and asked["whole"] + asked["refused"] == count and not asked["wrong"] and drained < 2
        scene.tell(3, f"the proxy is stopped for {seconds} s while {count} clients connect and ask",
                   f"{asked['whole']} answered, {asked['refused']} refused, {asked['ends'].get('reset', 0)} reset; the last {drained:.1f} s after it goes on; {load.figures()}", good)


def graceful(stage):
    """21: SIGTERM."""
    count = 30 if stage.quick else 100
    with Scene(stage, "graceful", {"--drain-timeout": "15s", "--client-idle-timeout": "20s"}).warm() as scene:
        idle = [Talk(scene.port) for _ in range(20)]
        right = all(client.ask_for("GET", f"/b/idle-{n}/100").body == text(f"idle-{n}", 100) for n, client in enumerate(idle))
        crowd = Crowd("ask", scene.port, count, 30, path="/trickle/300000/100000")
        time.sleep(0.5)
        begun = time.monotonic()
        scene.proxy.process.terminate()
        refused = until(lambda: tried(scene.port, "GET", "/b/x/1", timeout=1)[0] == "reset", 2)
        living = scene.proxy.alive()
        closed = until(lambda: all(at_end(client) for client in idle), 2)
        downloads = crowd.end(wait=True)
        code = scene.proxy.process.wait(20)
        took = time.monotonic() - begun
        good = right and refused is not None and living and closed is not None and closed < 2.5 and downloads["whole"] == count and not downloads["wrong"] and code == 0 and took < 15
        stage.tell(21, f"told to end (SIGTERM) with {count} downloads of 3 s and 20 idle connections",
                       f"new clients are refused after {(refused if refused is not None else -1) * 1000:.0f} ms, idle ones closed after {(closed if closed is not None else -1) * 1000:.0f} ms;"
                       f" {downloads['whole']} downloads whole and right; exit status {code} after {took:.1f} s (drain timeout 15 s)", good)


def at_end(client):
    client.socket.settimeout(0.5)
    return client.socket.recv(1) == b""


def log_full(stage):
    """25: ENOSPC, and a pipe that nobody reads."""
    small = stage.folder / "small"
    small.mkdir(exist_ok=True)
    what = "the log's disk is full"
    if not mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", small):
        stage.tell(25, what, "mounting needs root", "not tried")
    else:
        try:
            with Scene(stage, "log-full", {"log": str(small / "register.log")}) as scene:
                # Memory for lines that wait is taken while there is no fault as well.
                scene.proxy.access = small / "register.log"
                full_disk(stage, scene, what)
        finally:
            subprocess.run(["umount", small], check=False)
    blocked_pipe(stage)


def full_disk(stage, scene, what):
    path = scene.proxy.access
    until(lambda: path.exists(), 2)
    scene.warm(0.3)
    foreign = path.with_name("foreign")
    with scene.load() as load:
        with open(foreign, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        full = until(lambda: scene.proxy.said("cannot write"), 20)
        # More than the 1 MiB of lines that is kept.
        scene.fill_rings()
        time.sleep(0.5 if stage.quick else 15)
        asked = load.asked
        foreign.unlink()
        again = until(lambda: scene.proxy.said("writing again"), 8)
        gap = until(lambda: re.search(r"gap: \d+ lines lost", path.read_text(errors="replace")), 3)
    warnings = scene.proxy.said("cannot write")
    good = load.good() and full is not None and again is not None and gap is not None and asked > 0 and warnings < 10
    rest = scene.rest()
    scene.proxy.stop()
    totals = re.findall(r"access log: (\d+) written, (\d+) lost", scene.proxy.said())
    counted = bool(totals) and sum(map(int, totals[-1])) >= load.asked
    stage.tell(25, what, f"{warnings} warnings, writing again {again if again is not None else -1:.1f} s after there was room; counted at the end: {totals[-1][0] if totals else '?'} written,"
               f" {totals[-1][1] if totals else '?'} lost{'; a line tells the gap' if gap is not None else ''}; {load.figures()}", good and counted, rest)


def blocked_pipe(stage):
    """A FIFO: first nobody has it open, then somebody who does not read."""
    with Scene(stage, "log-pipe", {"log": "pipe"}, wait=False) as scene:
        scene.proxy.stop()
        scene.proxy.access.unlink(missing_ok=True)
        os.mkfifo(scene.proxy.access)
        scene.proxy.start(wait=False)
        alone = until(lambda: next_right(scene.port), 3)
        if alone is None and scene.proxy.alive():
            scene.proxy.kill()
        ended = not scene.proxy.alive()
        reader = os.open(scene.proxy.access, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if ended:
                scene.proxy.start()
            scene.warm()
            with scene.load(rate=600) as load, scene.peak() as peak:
                time.sleep(3 if stage.quick else 20)
            rest = scene.rest()
        finally:
            os.close(reader)
        begun = time.monotonic()
        scene.proxy.process.terminate()
        code = until(lambda: not scene.proxy.alive(), 20)
        took = time.monotonic() - begun
        start = f"serves without a reader {alone:.1f} s after the start" if alone is not None else "does not start without a reader" if not ended else "without a reader it ends"
        # To wait for a reader for ever would be no service; to end with a word is as good as to serve.
        good = load.good() and peak.cpu < 0.7 and code is not None and took < 8
        stage.tell(25, "the log is a pipe that nobody reads", f"{start}; with one that does not read: CPU {peak.cpu:.0%}, ends {took:.1f} s after it is told to; {load.figures()}", good, rest)


def rotation(stage):
    """26: rename and USR1."""
    seconds = 3 if stage.quick else 30
    with Scene(stage, "rotation").warm() as scene:
        files, lost = [], 0
        before = len(scene.proxy.lines())
        with scene.load() as load:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                target = scene.proxy.access.with_name(f"register.{len(files)}")
                try:
                    scene.proxy.access.rename(target)
                    files.append(target)
                except OSError:
                    pass
                scene.proxy.process.send_signal(signal.SIGUSR1)
                time.sleep(0.02 if len(files) % 10 else 0.2)
        rest = scene.rest()
        scene.proxy.stop()
        files.append(scene.proxy.access)
        whole = [line for file in files for line in file.read_text(errors="replace").split("\n") if line]
        keys = {}
        for file in files:
            for line in scene.proxy.lines(file):
                key = line[5].split("/")[2] if line[5].count("/") >= 2 else ""
                keys[key] = keys.get(key, 0) + 1
        lost = sum(keys.get(key, 0) != 1 for key in load.keys)
        parsed = sum(keys.values())
        good = load.good() and lost == 0 and parsed == len(whole) and parsed >= load.asked + before
        stage.tell(26, f"renamed and told to reopen (USR1) {len(files) - 1} times in {seconds} s",
                   f"{len(whole)} lines in {len(files)} files, {len(whole) - parsed} of another shape, {lost} requests without exactly one line; {load.figures()}", good, rest)


def handover(stage):
    """drain: two proxies, of which one at a time is told to end; clients go to the other one."""
    turns = 4 if stage.quick else 20
    with Scene(stage, "drain", {"--client-idle-timeout": "20s"}) as scene:
        scene.warm()
        other = Proxy(stage.program, scene.folder, scene.origins, scene.options, "register-2.log")
        both, codes, took = [scene.proxy, other.start()], [], []
        try:
            with scene.load(rate=600, threads=64, fresh=0.02) as load:
                for turn in range(turns):
                    time.sleep(0.6)
                    old, new = both[turn % 2], both[1 - turn % 2]
                    # What a balancer before them does: new connections go to the other one; kept ones are closed by who ends.
                    load.port = new.port
                    begun = time.monotonic()
                    old.process.terminate()
                    codes.append(old.process.wait(20))
                    took.append(time.monotonic() - begun)
                    old.start()
        finally:
            other.stop()
        good = not load.wrong and not load.failed and set(codes) == {0} and max(took) < 5
        scene.tell("drain", f"told to end {turns} times under the load of 64 keep-alive clients, who go to another one when they are told that the connection closes",
                   f"exit statuses {set(codes)}, each at an end within {max(took):.1f} s; closed by the proxy at the very moment of the next request, which the client sent again:"
                   f" {load.raced}; {load.figures()}", good)
