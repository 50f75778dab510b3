"""Everything for a long time: a row of proxy_faults.py."""
import contextlib
import random
import signal
import statistics
import sys
import threading
import time

from proxy_faults_clients import tried_raw
from proxy_faults_origin import BAD
from proxy_faults_scene import Filter, Scene
from proxy_faults_tools import Crowd, Talk, tried

CALM = 5


def soak(stage):
    """34: faults by seed, and calm after each; errors count in the calm only."""
    minutes = stage.soak
    chance = random.Random(stage.seed)
    with Scene(stage, "soak", addresses=("127.0.0.1", "127.0.0.2", "127.0.0.3")).warm() as scene:
        samples, calms, counts = [], [], {}
        with scene.load(threads=16) as load:
            begun = time.monotonic()
            while time.monotonic() - begun < minutes * 60:
                fault = chance.choice(faults())
                counts[fault.__name__] = counts.get(fault.__name__, 0) + 1
                fault(scene, chance)
                # What was under way when it ended has its timeouts.
                time.sleep(CALM)
                since = time.monotonic()
                time.sleep(2)
                calms.append((since, time.monotonic()))
                bad = load.failures(*calms[-1])
                samples.append((time.monotonic() - begun, scene.proxy.memory(), scene.proxy.descriptors()))
                if bad or load.wrong:
                    print(f"row 34: {samples[-1][0]:.0f} s, after {fault.__name__}: {len(bad)} failed, {bad[:1]} {load.wrong[:1]}", file=sys.stderr, flush=True)
                # What was checked is not kept.
                with load.lock:
                    load.keys.clear()
                    load.times.clear()
        late = [one for calm in calms for one in load.failures(*calm)]
        half = samples[len(samples) // 4:]
        rss, fds = (slope([(one[0], one[field]) for one in half]) for field in (1, 2))
        hours = lambda per_second: per_second * 3600
        low = min(one[1] for one in half) if half else 1
        # What is not a tenth more after as long again is no leak that could be told from noise.
        span = half[-1][0] - half[0][0] if len(half) > 1 else 1
        good = not load.wrong and not late and (rss * span < 0.1 * low or rss * span < (4 << 20)) and fds * span < 10
        scene.tell(34, f"{minutes:g} minutes of mixed load and faults (seed {stage.seed}): " + ", ".join(f"{count} x {name}" for name, count in sorted(counts.items())),
                   f"{len(late)} failed outside of the faults' time; RSS {hours(rss) / 1e6:+.2f} MB/h, descriptors {hours(fds):+.1f}/h; {load.figures()}", good)


def slope(points):
    """Least squares, per second."""
    if len(points) < 3:
        return 0.0
    x, y = statistics.mean(p[0] for p in points), statistics.mean(p[1] for p in points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / sum((p[0] - x) ** 2 for p in points)


def faults():
    return [stop, kill, storm, slow, bad, large, aborts, rotate, flap] + ([] if Filter.missing() else [drop, reject, loss])


def stop(scene, chance):
    origin = chance.choice(scene.origins)
    origin.signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.1, 3))
    origin.signal(signal.SIGCONT)


def kill(scene, chance):
    origin = chance.choice(scene.origins)
    origin.kill()
    time.sleep(chance.uniform(0, 2))
    origin.start()


def flap(scene, chance):
    origin = chance.choice(scene.origins)
    for _ in range(chance.randrange(1, 6)):
        origin.signal(signal.SIGUSR1)
        time.sleep(0.1)
        origin.signal(signal.SIGUSR2)
        time.sleep(0.1)


def storm(scene, chance):
    Crowd("storm", scene.port, 0, 1, path=chance.choice(["/b/storm/10", "/slow/500/storm/10", "/big/1000000"])).end(wait=True)


def slow(scene, chance):
    kind = chance.choice(["head", "body", "silent", "stall", "zero", "read"])
    Crowd(kind, scene.port, 200, 3, path="/big/10000000", every=0.3).end(wait=True)


def bad(scene, chance):
    for kind in chance.sample(list(BAD), 5):
        tried(scene.port, "GET", f"/bad/{kind}")


def large(scene, chance):
    def one():
        with contextlib.suppress(Exception):
            client = Talk(scene.port)
            client.request("GET", "/big/20000000")
            client.big(20_000_000)
            client.close()
    threads = [threading.Thread(target=one) for _ in range(chance.randrange(1, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def aborts(scene, chance):
    for _ in range(50):
        client = Talk(scene.port)
        client.request("GET", "/big/3000000")
        client.socket.settimeout(2)
        with contextlib.suppress(Exception):
            client.exactly(chance.randrange(1, 100_000))
        client.close(reset=chance.random() < 0.5)
    tried_raw(scene.port, b"GET / HTTP/1.1\nHost: a\n\n")


def rotate(scene, chance):
    for n in range(chance.randrange(1, 5)):
        with contextlib.suppress(OSError):
            scene.proxy.access.rename(scene.proxy.access.with_name(f"register.{n}"))
        scene.proxy.process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)


def drop(scene, chance):
    origin = chance.choice(scene.origins)
    with Filter(f"ip daddr {origin.address} tcp dport {origin.port} drop"):
        time.sleep(chance.uniform(0.2, 4))


def reject(scene, chance):
    origin = chance.choice(scene.origins)
    with Filter(f"ip daddr {origin.address} tcp dport {origin.port} reject with tcp reset"):
        time.sleep(chance.uniform(0.2, 4))


def loss(scene, chance):
    del scene
    with Filter("numgen random mod 100 < 3 drop"):
        time.sleep(chance.uniform(0.5, 2))
