"""Servers that die, hang, lie and come back: rows of proxy_faults.py."""
import signal
import time

from proxy_faults_origin import BAD
from proxy_faults_scene import Scene
from proxy_faults_tools import Talk, next_right, once, tried, until

# Nothing of these is to reach a client as a complete answer.
DIES = ("length", "chunked", "in-chunk", "in-trailers", "in-head", "nothing")
SLACK = 0.7


def mid_body(stage):
    """8: FIN, RST and SIGKILL in the middle of an answer."""
    with Scene(stage, "mid-body").warm() as scene:
        rounds, seen, complete = 3 if stage.quick else 30, {}, []
        with scene.load() as load:
            for kind in DIES:
                for how in ("fin", "rst"):
                    for _ in range(rounds):
                        status, _body = tried(scene.port, "GET", f"/bad/{kind}-{how}")
                        seen[status] = seen.get(status, 0) + 1
                        if status in (200, "hangs"):
                            complete.append(f"{kind}-{how}: {status}")
            killed = [kill_while_big(scene) for _ in range(2 if stage.quick else 10)]
        # The answer of a killed server may have been the load's.
        good = not complete and all(killed) and not load.wrong and len(load.failed) <= len(killed) * load.count
        scene.tell(8, f"servers die in mid-answer: {len(DIES)} places, FIN and RST, {rounds} times; SIGKILL in mid-body {len(killed)} times",
                   f"clients saw {', '.join(f'{count} x {status}' for status, count in sorted(seen.items(), key=str))}, {sum(killed)} cut by SIGKILL"
                   f"{'; COMPLETE: ' + complete[0] if complete else ''}; {load.figures()}", good)


def kill_while_big(scene):
    """Was a large answer visibly cut, when its server was killed?"""
    client = Talk(scene.port)
    client.request("GET", "/big/400000000")
    answer = client.head()
    client.exactly(1 << 20)
    origin = next(origin for origin in scene.origins if origin.name == answer.fields["x-server"])
    origin.kill()
    try:
        for _ in range(400):
            client.exactly(1_000_000)
        return False
    except Exception:  # pylint: disable=broad-except
        return True
    finally:
        client.close()
        origin.start()


def before_first_byte(stage):
    """9: the server closes a used connection when the next request has come."""
    with Scene(stage, "first-byte", {"--workers": "1"}, origins=1).warm() as scene:
        rounds = 40 if stage.quick else 400
        with scene.load() as load:
            gets = [tried(scene.port, "GET", f"/once/get-{n}/500")[0] for n in range(rounds)]
            posts, twice = [], 0
            for n in range(rounds):
                status = tried(scene.port, "POST", f"/once/seen-{n}", b"x" * 50)[0]
                posts.append(status)
                twice += scene.origins[0].count(f"post /once/seen-{n}") != 1
        good = load.good() and set(gets) == {200} and set(posts) <= {200, 502} and twice == 0
        scene.tell(9, "servers close a used connection before the first byte",
                   f"GET: {gets.count(200)} of {rounds} right; POST: {posts.count(200)} right, {posts.count(502)} x 502, {twice} seen more or less than once;"
                   f" {load.figures()}", good)


def bad(stage):
    """8b: servers that never end, contradict themselves, or say more than they were asked."""
    with Scene(stage, "bad").warm() as scene:
        kinds = [kind for kind in BAD if not kind.endswith(("-fin", "-rst"))]
        if stage.quick:
            kinds = [kind for kind in kinds if not kind.endswith("hang")]
        notes, wrong, longest = {}, [], 0.0
        with scene.load() as load, scene.peak() as peak:
            for kind in kinds:
                begun = time.monotonic()
                status, body = tried(scene.port, "GET", f"/bad/{kind}")
                longest = max(longest, time.monotonic() - begun)
                notes[status] = notes.get(status, 0) + 1
                # What comes behind an answer that is right is nobody's; all else must not look like an answer.
                right = (status, body) == (200, b"ok") if kind.startswith("after-") else status in (502, 504, "cut", "reset")
                if not right or not next_right(scene.port):
                    wrong.append(f"{kind}: {status} {body[:20]}")
        endless = sum(origin.count("endless") for origin in scene.origins) / 1e6
        good = not wrong and load.good() and peak.growth < 10 and longest < 4
        scene.tell("8b", f"{len(kinds)} answers that are endless (1xx, fields, lines, trailers), contradict themselves, are garbage, hang, or have something behind them",
                   f"{', '.join(f'{count} x {status}' for status, count in sorted(notes.items(), key=str))}, the longest took {longest:.1f} s, {endless:.0f} MB of the"
                   f" endless ones read; RSS +{peak.growth:.1f} MB{'; WRONG: ' + '; '.join(wrong[:3]) if wrong else ''}; {load.figures()}", good)


def hang(stage):
    """11: SIGSTOP."""
    seconds, health = (3.5 if stage.quick else 8), "--health-check" in stage.flags
    with Scene(stage, "hang").warm() as scene:
        victim = scene.origins[1]
        client, name = None, None
        while name != victim.name:
            client = client and client.close()
            client = Talk(scene.port)
            client.request("GET", "/trickle/10000000/200000")
            answer = client.head()
            name = answer.fields["x-server"]
        with scene.load(threads=12) as load:
            time.sleep(0.5)
            victim.signal(signal.SIGSTOP)
            stopped, wall = time.monotonic(), time.time()
            cut = until(lambda: swallow(client), 6)
            time.sleep(max(0.0, stopped + seconds - time.monotonic()))
            share, _ = scene.proxy.shares(victim, time.time() - 1.2, time.time() - 0.2)
            late = load.failures(since=time.monotonic() - 1.2)
            victim.signal(signal.SIGCONT)
            on, wall_on = time.monotonic(), time.time()
            back = until(lambda: scene.proxy.shares(victim, time.time() - 0.6, time.time())[0] > 0.2 and time.monotonic() > on + 0.7, 12, 0.1)
        client.close()
        time.sleep(0.3)
        # Nobody but those who were sent to it notices anything.
        others = [line for line in scene.proxy.lines() if wall < line[0] < wall_on and line[3].get("upstream") not in (f"127.0.0.1:{victim.port}", "-") and line[2] != "done"]
        kinds = {why[:3] for *_, why in load.failures(since=stopped - 0.1, to=on + 2.5)}
        outside = [one for one in load.failed if one[1] < stopped or one[1] > on + 2.5]
        good = cut is not None and cut < 3 and not load.wrong and kinds <= {"504"} and not others and not outside and back is not None and (not health or not late)
        scene.tell(11, f"a server is stopped (SIGSTOP) for {seconds:.0f} s, also in mid-answer",
                   f"the answer under way is cut after {cut or -1:.1f} s; failures only {'/'.join(kinds) or 'none'}; of the last second {share:.0%} of the requests went to it and"
                   f" {len(late)} failed; {len(others)} of other servers' failed; after SIGCONT back in {back if back is not None else -1:.1f} s; {load.figures()}", good)


def swallow(client):
    """Reads on; true when it is cut."""
    try:
        client.exactly(1000)
        return False
    except Exception:  # pylint: disable=broad-except
        return True


def all_down(stage):
    """13: nobody there."""
    interval = 0.5
    with Scene(stage, "all-down").warm() as scene:
        with scene.load() as load:
            time.sleep(0.3)
            down = time.monotonic()
            for origin in scene.origins:
                origin.kill()
            gone = time.monotonic()
            time.sleep(1.5 if stage.quick else 6)
            statuses = [once(scene.port, "GET", "/b/down/10") for _ in range(10)]
            slowest = load.percentile(1, since=gone + 0.1)
            for origin in scene.origins:
                origin.start(wait=False)
            for origin in scene.origins:
                origin.wait()
            up = time.monotonic()
            since = lambda origin: scene.proxy.shares(origin, time.time() - 0.4, time.time())[0]
            back = until(lambda: all(since(origin) > 0.15 for origin in scene.origins) and not load.failures(since=time.monotonic() - 0.4), 15, 0.05)
            time.sleep(0.5)
            late = load.failures(since=up + (back or 0) + 0.1)
        # Recovery is seen in a window of the log of 0.4 s, which is written every 0.1 s.
        recovered = max(0.0, (back if back is not None else 99) - 0.5)
        before, words = load.failures(to=down), {why[:3] for *_, why in load.failed}
        health = "--health-check" in stage.flags
        hint = statuses[-1].fields.get("retry-after")
        good = not load.wrong and words <= {"502", "503"} and not before and not late and slowest < 250 and recovered < interval + 1 and (not health or hint is not None)
        scene.tell(13, "all servers killed, and started again",
                   f"answers meanwhile {'/'.join(sorted(words))}, the slowest after {slowest:.0f} ms, Retry-After {hint}; all three have their share again"
                   f" {recovered:.1f} s after they listen, {len(late)} failed after that; {load.figures()}", good)


def flapping(stage):
    """14: goes and comes."""
    seconds = 5 if stage.quick else 60
    with Scene(stage, "flapping").warm() as scene:
        victim, toggles = scene.origins[0], 0
        with scene.load(posts=0) as load:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                victim.signal(signal.SIGUSR2 if toggles % 2 else signal.SIGUSR1)
                toggles += 1
                time.sleep(0.2)
            if toggles % 2:
                victim.signal(signal.SIGUSR2)
        share = len(load.failed) / load.asked
        scene.tell(14, f"a server goes and comes every 200 ms, {toggles} times", f"{share:.2%} of the GETs failed; {load.figures()}",
                   share < 0.01 and not load.wrong)


def kill_in_turn(stage):
    """The issue's own: SIGKILL, restart, next."""
    seconds, pause = (12, 2.0) if stage.quick else (60, 3.0)
    with Scene(stage, "kill").warm() as scene:
        times, turn = [], 0
        with scene.load(rate=300 if stage.quick else 1000, threads=64, posts=0, fresh=0, most=6000) as load:
            time.sleep(1)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                victim = scene.origins[turn % 3]
                turn += 1
                victim.kill()
                time.sleep(0.5)
                victim.start()
                wall = time.time()
                time.sleep(pause)
                times.append(full_share(scene.proxy, victim, wall, time.time()))
        known = [took for took in times if took is not None]
        lost = [line for line in scene.proxy.lines() if line[1] in ("502", "503", "504")]
        shown = f"; e.g. {lost[0][2]}, attempts={lost[0][3]['attempts']}, reused={lost[0][3]['reused']}" if lost else ""
        # A probe, its rise of 2 and a slow start of 1 s; the log tells it in steps of 0.3 s.
        good = load.good() and len(known) == len(times) and max(known) < 2.5 + SLACK
        scene.tell("kill", f"each of three servers in turn killed and restarted 0.5 s later, {turn} times in {seconds} s, 64 connections",
                   f"{load.figures()}; a third of the requests again after {sorted(known)[len(known) // 2] if known else -1:.1f} s (median),"
                   f" {max(known) if known else -1:.1f} s (worst), never {len(times) - len(known)} times{shown}", good)


def full_share(proxy, origin, since, to):
    """Seconds until the server had 0.9 of a third of the requests over 0.3 s."""
    at = since
    name = f"{origin.address}:{origin.port}"
    lines = [(line[0], line[3].get("upstream") == name) for line in proxy.lines() if since <= line[0] < to]
    while at + 0.3 <= to - 0.2:
        window = [own for when, own in lines if at <= when < at + 0.3]
        if window and sum(window) >= 0.9 * len(window) / 3:
            return at - since
        at += 0.1
    return None


