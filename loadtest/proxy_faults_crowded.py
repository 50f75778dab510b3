"""What thousands of connections cost those who use theirs, and a limit of memory: rows of proxy_faults.py."""
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import time

from cache_faults_tools import free_port
from measure import LOAD_CPU, PROXY_CPU, Failed, built, lean_load
from proxy_faults_scene import Scene
from proxy_faults_tools import Crowd, until

CGROUP = pathlib.Path("/sys/fs/cgroup/memory")


def lean_scene(stage, name, options):
    """lean_load plays the servers: it costs less than any."""
    ports = [free_port() for _ in range(3)]
    # The servers are there only while they are needed.
    off = {name: value for name, value in (("--health-check", "off"), ("--eject-after", "0")) if name in stage.flags}
    scene = Scene(stage, name, {"--workers": "1", "log": "off", **off, **options}, origins=0, servers=[f"127.0.0.1:{port}" for port in ports], health=False)
    pin(scene.proxy.process.pid, PROXY_CPU)
    return scene, ",".join(map(str, ports))


def pin(pid, cpu):
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {cpu})


def lean(scene, ports, connections, seconds, rate=0):
    return lean_load([scene.port, ports, connections, seconds, 1024, 0.3, rate], scene.proxy.process.pid)


def slowloris(stage):
    """4s: two kinds of rounds in turn, with them and without."""
    count, rounds, seconds = (2000, 3, 0.5) if stage.quick else (10_000, 7, 3)
    what = f"{count} clients stuck in a request's head, beside 64 that ask as fast as they can"
    if not shutil.which("gcc"):
        return stage.tell("4s", what, "needs gcc", "not tried")
    scene, ports = lean_scene(stage, "slowloris", {"--client-head-timeout": "10m", "--client-idle-timeout": "10m", "--max-connections": "11000"})
    with scene:
        lean(scene, ports, 64, seconds)
        # Until its connections are gone.
        time.sleep(0.7)
        before, ratios, work, p99, grown = scene.proxy.memory(), [], [], [], 0
        fds = scene.proxy.descriptors()
        for number in range(rounds):
            calm = lean(scene, ports, 64, seconds)
            # As the issue has it: a byte per 9 s, spread over time.
            crowd = Crowd("head", scene.port, count, 600, every=9)
            pin(crowd.process.pid, LOAD_CPU)
            held = until(lambda: scene.proxy.descriptors() - fds >= count, 10)
            stuck = lean(scene, ports, 64, seconds)
            # Both with 64 connections open, in KiB.
            grown = max(grown, (stuck["memory"] - calm["memory"]) << 10)
            figures = crowd.end()
            ratios.append(stuck["rps"] / calm["rps"])
            # The crowd and the load share a CPU here. What the proxy itself has to do for a request tells what it could.
            work.append(calm["cpu"] / stuck["cpu"])
            p99.append(stuck["p99"] / calm["p99"])
            if calm["errors"] or stuck["errors"] or figures["open"] != count or held is None:
                raise Failed(f"round {number}: {calm['errors']} and {stuck['errors']} errors, {figures['open']} stuck clients, all there after {held} s")
            time.sleep(0.3)
        ratio, capacity = statistics.median(ratios), statistics.median(work)
        time.sleep(2 if stage.quick else 5)
        after, left = scene.proxy.memory() - before, scene.proxy.descriptors() - fds
        loss = 0.15 if stage.quick else 0.05
        good = grown < (32 << 20) and capacity > 1 - loss and left < 10 and after < max(4 << 20, before * 0.05)
        stage.tell("4s", what, f"RSS +{grown / 1e6:.1f} MB (limit 33.5), requests per CPU time x {capacity:.3f} (median of {rounds} rounds in turn: {', '.join(f'{one:.2f}' for one in work)};"
                   f" limit {1 - loss:.2f}), requests/s beside such a crowd on the load's CPU x {ratio:.2f}, p99 x {statistics.median(p99):.2f}", good, (f"RSS {after / 1e6:+.1f} MB, fd {left:+}", True))
    return None


def idle(stage):
    """32: under a limit of 20,000 descriptors."""
    many, active, rounds, seconds = (2000, 200, 2, 0.7) if stage.quick else (10_000, 1000, 5, 3)
    what = f"{many} idle connections and {active} active ones, at a limit of {2 * many} descriptors"
    if not shutil.which("gcc"):
        return stage.tell(32, what, "needs gcc", "not tried")
    # Of the active ones some are asked to do nothing for long.
    scene, ports = lean_scene(stage, "idle", {"--client-idle-timeout": "10m", "--client-head-timeout": "10m"})
    with scene:
        limit = 2 * many
        scene.proxy.stop()
        scene.proxy.start(prefix=("prlimit", f"--nofile={limit}:{limit}"))
        pin(scene.proxy.process.pid, PROXY_CPU)
        rate = 1500 if stage.quick else 3000
        ratios, shown, errors, lost = [], [], 0, 0
        for _ in range(rounds):
            calm = lean(scene, ports, active, seconds, rate)
            # While the crowd comes somebody must play the servers: the idle ones ask once, before they idle.
            crowd = with_servers(scene, ports, many)
            busy = lean(scene, ports, active, seconds, rate)
            figures = crowd.end()
            errors += calm["errors"] + busy["errors"]
            lost = max(lost, many - figures["open"])
            # Below some milliseconds it is the machine's noise.
            ratios.append(max(busy["p99"], 5) / max(calm["p99"], 5))
            shown.append(f"{calm['p99']:.1f} → {busy['p99']:.1f}")
            time.sleep(0.3)
        ratio = statistics.median(ratios)
        good = errors == 0 and ratio < (3 if stage.quick else 1.5)
        stage.tell(32, what, f"p99 of the active x {ratio:.2f} (ms: {', '.join(shown)}) at {rate} requests/s; {errors} failed; {lost} idle ones closed to make room", good)
    return None


def with_servers(scene, ports, many):
    """A crowd that has got its answers."""
    command = [built("lean_load"), scene.port, ports, 1, 600, 1024, 600]
    servers = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.1)
        return Crowd("idle", scene.port, many, 600, stay=1, path="/1024")
    finally:
        servers.kill()
        servers.wait()


def memory(stage):
    """28: cgroup v1 or v2."""
    count, what = (500, 2000)[not stage.quick], "a memory limit of 1.3 times what it takes at rest (40 MiB at the least)"
    group = cgroup()
    if group is None:
        return stage.tell(28, what, "needs root and a memory cgroup", "not tried")
    limit_file = group / ("memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max")
    try:
        patient = {"--client-head-timeout": "10s", "--client-body-timeout": "10s"}
        with Scene(stage, "memory", {"log": "off", **patient}).warm() as scene:
            # --max-memory knows nothing below 32 MiB, and finds the group's limit by itself.
            limit = max(int(scene.proxy.memory() * 1.3), 40 << 20)
            limit_file.write_text(str(limit), encoding="ascii")
            scene.proxy.stop()
            scene.proxy.start(prefix=("sh", "-c", f"echo $$ > {group}/cgroup.procs; exec \"$@\"", "sh"))
            scene.warm()
            with scene.load() as load, scene.peak() as peak:
                crowds = [Crowd(kind, scene.port, times * count, 20, wait=False, **more) for kind, times, more in
                          (("head", 5, {"every": 2}), ("stall", 2, {}), ("ask", 1, {"path": "/slow/1000/memory/9000"}))]
                time.sleep(4 if stage.quick else 9)
            told = [crowd.end() for crowd in crowds]
            alive = scene.proxy.alive()
            shed = sum(crowd["statuses"].get("503", 0) + crowd["refused"] + crowd["ends"].get("reset", 0) for crowd in told)
            words = {one[3][:3] for one in load.failed}
            good = alive and not load.wrong and words <= {"503", "Con", "Cut", "Bro"}
            rest = scene.rest() if alive else ("process gone", False)
            stage.tell(28, what, f"limit {limit / 1e6:.1f} MB, {8 * count} greedy clients: {'alive' if alive else f'KILLED (exit status {scene.proxy.process.returncode})'}, at most"
                       f" {peak.rss / 1e6:.1f} MB, {shed} of them shed{'' if '--max-memory' in stage.flags else ' (this program has no --max-memory)'}; {load.figures()}", good, rest)
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
    return None


def cgroup():
    """A new group with a memory limit, or None."""
    if os.geteuid():
        return None
    for parent in (CGROUP, pathlib.Path("/sys/fs/cgroup")):
        group = parent / f"proxy-faults-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
            if (group / "memory.limit_in_bytes").exists() or (group / "memory.max").exists():
                return group
            group.rmdir()
    return None


