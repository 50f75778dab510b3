"""Packets that are dropped, refused or lost, and ports that run out: rows of proxy_faults.py."""
import pathlib
import time

from proxy_faults_scene import Filter, Scene
from proxy_faults_tools import Crowd, next_right, until

# Clients with an address of their own.
SOURCE = "127.0.0.77"
RANGE = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")


def not_here(stage, row, what):
    """Says so if the packet filter does not work here."""
    why = Filter.missing()
    if why:
        stage.tell(row, what, why, "not tried")
    return bool(why)


def black_hole(stage):
    """10: a server from which nothing comes, and to which nothing goes."""
    what, seconds = "a server's packets are dropped", 4 if stage.quick else 10
    if not_here(stage, 10, what):
        return
    health = "--health-check" in stage.flags
    with Scene(stage, "black-hole").warm() as scene:
        victim = scene.origins[2]
        with scene.load(threads=16) as load:
            time.sleep(0.5)
            with Filter(f"tcp dport {victim.port} drop", f"tcp sport {victim.port} drop"):
                begun = time.monotonic()
                time.sleep(seconds)
                last = time.time()
                late, slow = load.failures(since=time.monotonic() - 1), load.percentile(0.5, since=time.monotonic() - 1)
            removed = time.monotonic()
            back = until(lambda: scene.proxy.shares(victim, time.time() - 0.5, time.time())[0] > 0.15, 20, 0.1)
            time.sleep(0.5)
        _, again = scene.proxy.shares(victim, last - 1.2, last - 0.1)
        # What was under way is answered by 504 when its time is up; whoever connects is helped by the next server.
        first = {why[:3] for *_, why in load.failures(to=begun + 2.6)}
        others = [one for one in load.failed if one[0] > begun + 2.2]
        out = again < 0.05
        good = not load.wrong and first <= {"504"} and not others and not late and back is not None and out
        scene.tell(10, f"{what} for {seconds} s",
                   f"under way: {len(load.failed) - len(others)} x {'/'.join(first) or 'nothing'}, later {len(others)} failed; in the last second {again:.0%} of the requests met it"
                   f" ({'out of' if out else 'STILL IN'} rotation), median {slow:.0f} ms; back {back if back is not None else -1:.1f} s after the rule is gone"
                   f"{'' if health else ' (this program has no health checks)'}; {load.figures()}", good)
        del removed


def refused(stage):
    """12: RST to all that is sent to a server."""
    what, seconds = "a server is refused by the network (RST to all)", 1.2 if stage.quick else 10
    if not_here(stage, 12, what):
        return
    with Scene(stage, "refused").warm() as scene:
        with scene.load(posts=0) as load:
            time.sleep(0.5)
            rules = [f"tcp dport {origin.port} reject with tcp reset" for origin in scene.origins[:2]]
            with Filter(*rules[:1]):
                time.sleep(seconds)
            time.sleep(0.5)
            with Filter(*rules):
                time.sleep(seconds / 2)
        # With two of three down the one retry may meet the other one: that is what the setting says.
        two_down = [one for one in load.failed if one[3].startswith("502")]
        with scene.load(posts=0) as one_down, Filter(rules[0]):
            time.sleep(seconds)
        with Filter(rules[0]):
            time.sleep(1.5)
            # No connection of before is left that could break under a POST.
            with scene.load(posts=0.5) as posts:
                time.sleep(seconds)
        good = one_down.good() and posts.good() and not load.wrong and len(two_down) == len(load.failed)
        scene.tell(12, f"{what} for {seconds} s; two of three; with POSTs",
                   f"one down: {one_down.figures()}; with POSTs: {posts.figures()}; two down for a while: {load.figures()}", good)


def loss(stage):
    """15: numgen."""
    what, seconds = "5 % of all packets are lost", 4 if stage.quick else 30
    if not_here(stage, 15, what):
        return
    # Time for what is sent again.
    long = {"--client-head-timeout": "10s", "--client-body-timeout": "10s", "--client-idle-timeout": "20s", "--upstream-connect-timeout": "7s",
            "--upstream-response-timeout": "10s", "--upstream-read-timeout": "10s", "--client-write-timeout": "10s"}
    with Scene(stage, "loss", long, health=False).warm() as scene:
        with scene.load(threads=24) as load:
            with Filter("numgen random mod 100 < 5 drop"):
                time.sleep(seconds)
            lossy = time.monotonic()
            time.sleep(1)
        scene.tell(15, f"{what} for {seconds} s", f"p50 {load.percentile(0.5, to=lossy):.0f} ms, p99 {load.percentile(0.99, to=lossy):.0f} ms; {load.figures()}", load.good())


def vanished(stage):
    """18: both sides, with and without something under way."""
    what, count = "peers vanish", 50 if stage.quick else 500
    if not_here(stage, 18, what):
        return
    with Scene(stage, "vanished", addresses=("127.0.0.1", "127.0.0.1", "127.0.0.88")).warm() as scene:
        far, source = scene.origins[2], SOURCE
        with scene.load(posts=0) as load:
            time.sleep(0.5)
        crowds = [Crowd(kind, scene.port, count, 30, source=source, **more) for kind, more in
                  (("idle", {}), ("silent", {}), ("head", {"every": 60}), ("body", {"every": 60}), ("zero", {"path": "/big/30000000"}))]
        held = scene.proxy.descriptors()
        slow = Crowd("ask", scene.port, 30, 20, path="/slow/10000/a/10")
        with Filter(f"ip saddr {source} drop", f"ip daddr {source} drop", f"ip daddr {far.address} drop", f"ip saddr {far.address} drop"):
            begun = time.monotonic()
            for crowd in crowds:
                crowd.kill()
            # Idle 3 s, body, head, writing, server's answer 2 s each; and what a retry takes.
            freed = until(lambda: scene.proxy.descriptors() <= scene.base.fds + 4, 12, 0.05)
            asked = slow.end(wait=True)
            took = time.monotonic() - begun
        good = load.good() and freed is not None and freed < 6 and set(asked["statuses"]) <= {"504"} and asked["answered"] == 30
        scene.tell(18, f"{5 * count} clients (idle, silent, in head, in body, in answer) and a server vanish without a packet",
                   f"{held} descriptors, all freed after {freed if freed is not None else -1:.1f} s (the longest timeout is 3 s); under way: {asked['statuses']};"
                   f" {took:.0f} s; before it {load.figures()}", good)


def no_ports(stage):
    """33: 51 ports for each server."""
    what = "51 ports for connections to each of three servers, 250 requests at a time"
    try:
        before = RANGE.read_text(encoding="ascii")
        RANGE.write_text("40000 40050" if not Filter.missing() else before, encoding="ascii")
        RANGE.write_text(before, encoding="ascii")
    except OSError as error:
        return stage.tell(33, what, f"needs root: {error}", "not tried")
    if not_here(stage, 33, what):
        return None
    with Scene(stage, "no-ports").warm() as scene:
        # Clients here have ports of their own; those of the load are connected before.
        with scene.load(threads=4, fresh=0, posts=0, rate=100) as load:
            time.sleep(0.3)
            RANGE.write_text("40000 40050", encoding="ascii")
            try:
                crowd = Crowd("ask", scene.port, 250, 15, wait=False, path="/slow/1500/ports/50", source=SOURCE, first=20_000)
                crowd.ready()
                with scene.peak() as peak:
                    asked = crowd.end(wait=True)
                during = load.figures()
                # What was closed keeps its port for a second more (TIME_WAIT, on this loopback).
                more = iter(range(21_000, 30_000, 50))
                ask = lambda: Crowd("ask", scene.port, 50, 15, wait=False, path="/slow/10/ports/50", source=SOURCE, first=next(more)).end(wait=True)["statuses"]
                back = until(lambda: ask() == {"200": 50}, 6, 0.2)
            finally:
                RANGE.write_text(before, encoding="ascii")
        statuses = asked["statuses"]
        good = set(statuses) <= {"200", "503"} and statuses.get("503", 0) > 0 and statuses.get("200", 0) >= 100 and sum(statuses.values()) == 250
        # The load has connections, which others may take: it may get a 503 as well, and nothing else.
        shed = [one for one in load.failed if one[3].startswith("503")]
        good = good and not asked["wrong"] and back is not None and back < 4 and peak.cpu < 0.5 and not load.wrong and len(shed) == len(load.failed)
        recovered = next_right(scene.port)
        scene.tell(33, what, f"{', '.join(f'{n} x {status}' for status, n in statuses.items())}, the last after {asked['last_answer']:.1f} s; CPU {peak.cpu:.0%};"
                   f" 50 more were all served within {back if back is not None else -1:.1f} s; {during}", good and recovered)
    return None
