"""Clients that are slow, greedy, broken or hostile: rows of proxy_faults.py."""
import hashlib
import socket
import threading
import time

from proxy_faults_origin import BLOCK, text
from proxy_faults_scene import Scene
from proxy_faults_tools import Crowd, Cut, Talk, next_right, until

HEAD = "GET /b/bomb/10 HTTP/1.1\r\nHost: a\r\n"
POST = "POST /echo/bomb HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def slow(stage):
    """4: slow heads, bodies, readers."""
    each = 100 if stage.quick else 334
    with Scene(stage, "slow").warm() as scene:
        with scene.load() as load:
            time.sleep(1 if stage.quick else 4)
            calm, crowds = time.monotonic(), {}
            # Whatever the pace: a byte just before the deadline of 2 s shall not move it.
            for kind, more in (("head", {"every": 0.3}), ("head", {"every": 1.8}), ("body", {"every": 0.3}), ("stall", {}), ("silent", {}),
                               ("read", {"every": 0.3, "piece": 20, "path": "/trickle/6000000/3000000"})):
                crowds[f"{kind} {more.get('every', '')}".strip()] = Crowd(kind, scene.port, each, 7, wait=False, **more)
            for crowd in crowds.values():
                crowd.ready()
            begun = time.monotonic()
            time.sleep(5)
            ended = {name: crowd.end() for name, crowd in crowds.items()}
        before, during = load.percentile(0.99, to=calm), load.percentile(0.99, since=begun)
        notes, good = [], load.good() and during < max(2 * before, before + (150 if stage.quick else 20))
        for name, crowd in ended.items():
            gone = crowd["connected"] - crowd["open"]
            statuses = "/".join(f"{count} x {status}" for status, count in crowd["statuses"].items()) or "no answer"
            notes.append(f"{name}: {gone} of {crowd['connected']} cut after {crowd['first_end']:.1f}-{crowd['last_end']:.1f} s ({statuses})")
            right = gone == crowd["connected"] and crowd["last_end"] < 4.5
            if name.split()[0] in ("head", "stall", "body"):
                right = right and crowd["statuses"].get("408") == crowd["connected"]
            good = good and right
        scene.tell(4, f"{each * 6} slow clients: heads (a byte per 0.3 s, per 1.8 s; the deadline is 2 s), bodies, stalled bodies, silent ones, readers of 66 B/s",
                   f"p99 of the others {before:.1f} → {during:.1f} ms; {'; '.join(notes)}; {load.figures()}", good)


def zero_window(stage):
    """5: not a byte is read."""
    count = 40 if stage.quick else 200
    # The servers here need their time to fill all the sockets.
    with Scene(stage, "zero", {"--client-write-timeout": "2s", "--upstream-response-timeout": "20s"}).warm() as scene:
        with scene.load() as load, scene.peak() as peak:
            ends = lambda: [line[2] for line in scene.proxy.lines() if line[5] == "/big/1073741824"]
            crowd = Crowd("zero", scene.port, count, 30, path="/big/1073741824")
            freed = until(lambda: len(ends()) >= count, 15, 0.1)
            crowd.end()
        reasons = {word: ends().count(word) for word in set(ends())}
        # Two buffers of 16 KiB, and the large ones of the two workers: 64 of 144 KiB each at most.
        limit = (count * 32 * 1024 + 2 * 64 * 144 * 1024) / 1e6
        good = load.good() and peak.growth < limit and freed is not None and set(reasons) == {"client-write-timeout"}
        scene.tell(5, f"{count} clients never read an answer of 1 GiB (SO_RCVBUF 4 KiB, write timeout 2 s)",
                   f"RSS +{peak.growth:.1f} MB (limit {limit:.0f}); all closed after {freed if freed is not None else -1:.1f} s; "
                   f"{', '.join(f'{n} x {word}' for word, n in reasons.items())}; {load.figures()}", good)


def pressure(stage):
    """6: who is fast waits for who is slow."""
    count, size = (6, 6_000_000) if stage.quick else (12, 30_000_000)
    with Scene(stage, "pressure", {"--client-write-timeout": "10s", "--upstream-read-timeout": "10s", "--upstream-response-timeout": "30s"}).warm() as scene:
        results = []
        with scene.load() as load, scene.peak() as peak:
            threads = [threading.Thread(target=lambda n=n: results.append((slow_down if n % 2 else slow_up)(scene.port, size)), daemon=True) for n in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        limit = (count * 2 * 160 * 1024 + (2 << 20)) / 1e6
        good = load.good() and len(results) == count and all(results) and peak.growth < limit
        scene.tell(6, f"{count} transfers of {size / 1e6:.0f} MB: fast server and slow client, fast client and slow server",
                   f"{sum(results)} of {count} whole and right; RSS +{peak.growth:.1f} MB (limit {limit:.1f}); CPU {peak.cpu:.0%}; {load.figures()}", good)


def slow_down(port, size):
    """Reads at a tenth of what could come."""
    client = Talk(port, receive=32768)
    client.request("GET", f"/big/{size}")
    answer, done, right = client.head(), 0, True
    for data in client.pieces(answer):
        at = done % len(BLOCK)
        right = right and data == (BLOCK + BLOCK)[at:at + len(data)]
        done += len(data)
        time.sleep(len(data) / (size / 3))
    client.close()
    return right and done == size


def slow_up(port, size):
    """Sends all at once to a server that takes it slowly."""
    body = BLOCK * (size // len(BLOCK))
    client = Talk(port, timeout=40)
    client.request("POST", f"/sink/{size // 3}", body)
    answer = client.answer()
    client.close()
    return answer.status == 200 and answer.body == hashlib.sha256(body).hexdigest().encode()


def bombs(stage):
    """7: what is too much is refused, whatever it is too much of."""
    n = 1 if stage.quick else 10
    cases = {
        "line of 2 MB": (f"GET /{'a' * 2_000_000} HTTP/1.1\r\nHost: a\r\n\r\n", {400, 414, 431}),
        "field of 2 MB": (f"{HEAD}X: {'a' * 2_000_000}\r\n\r\n", {400, 431}),
        "100,000 fields": (HEAD + "A: b\r\n" * 100_000 + "\r\n", {400, 431}),
        "name of 2 MB": (f"{HEAD}{'a' * 2_000_000}: b\r\n\r\n", {400, 431}),
        "2 MB of empty lines": ("\r\n" * 1_000_000, {400, 408, 431}),
        "chunk size of 2 MB": (POST + "0" * 2_000_000 + "\r\n", {400}),
        "chunk extension of 2 MB": (f"{POST}2;{'x' * 2_000_000}\r\nok\r\n0\r\n\r\n", {400, 413, 431}),
        "100,000 trailers": (POST + "2\r\nok\r\n0\r\n" + "A: b\r\n" * 100_000 + "\r\n", {400, 413, 431}),
        "chunk of 2^64": (f"{POST}ffffffffffffffff1\r\nok", {400, 413}),
    }
    # The server here takes its time for a million chunks.
    with Scene(stage, "bombs", {"--upstream-response-timeout": "60s"}).warm() as scene:
        notes, wrong = [], []
        with scene.load() as load, scene.peak() as peak:
            for name, (bomb, allowed) in cases.items():
                statuses = {throw(scene.port, bomb) for _ in range(3 * n)}
                notes.append(f"{name}: {'/'.join(map(str, statuses))}")
                # Refused while it still sends, a client may find its connection reset rather than the answer.
                if not statuses <= allowed | {"reset"} or not next_right(scene.port):
                    wrong.append(name)
            # Chunks of a byte each are right, though there are many.
            count = 60_000 if stage.quick else 1_000_000
            client = Talk(scene.port, 90)
            threading.Thread(target=lambda: client.socket.sendall(POST.encode() + b"1\r\nx\r\n" * count + b"0\r\n\r\n"), daemon=True).start()
            right = client.answer().body == b"x" * count
            client.close()
            # And many of them with an extension each.
            extended = tried_raw(scene.port, POST.encode() + b"1;a=b\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        good = load.good() and not wrong and right and extended in (200, 400) and peak.growth < 10
        scene.tell(7, f"bombs: {len(cases)} kinds, {3 * n} times each; {count} chunks of a byte; 20,000 with extensions",
                   f"{'; '.join(notes)}; chunks of a byte {'right' if right else 'WRONG'}, with extensions {extended}; RSS +{peak.growth:.1f} MB"
                   f"{'; WRONG: ' + ', '.join(wrong) if wrong else ''}; {load.figures()}", good)


def throw(port, bomb):
    return tried_raw(port, bomb.encode())


def tried_raw(port, data):
    """The status of the first answer, sent for or not."""
    client = Talk(port)
    try:
        try:
            client.socket.sendall(data)
        except ConnectionError:
            pass
        return client.answer().status
    except TimeoutError:
        return "hangs"
    except (Cut, ConnectionError):
        return "reset"
    finally:
        client.close()


def storm(stage):
    """16: connect, ask, reset."""
    seconds = 3 if stage.quick else 15
    with Scene(stage, "storm").warm() as scene:
        aborted = lambda: sum(origin.count("cancelled") for origin in scene.origins)
        with scene.load() as load, scene.peak() as peak:
            crowds = [Crowd("storm", scene.port, 0, seconds, path=path, rate=rate) for path, rate in (("-", 4500), ("/slow/900/storm/10", 500))]
            time.sleep(seconds * 0.8)
            for crowd in crowds:
                crowd.process.wait(30)
        done = [crowd.end() for crowd in crowds]
        rate = sum(crowd["connected"] for crowd in done) / seconds
        until(lambda: not any(origin.count("slow now") for origin in scene.origins), 4)
        # A reset may be there before the request is read: then no server hears of it.
        good = load.good() and aborted() > 0 and peak.fds < scene.base.fds + 3000
        scene.tell(16, f"clients connect, ask and reset for {seconds} s, a tenth of them for answers that take 0.9 s",
                   f"{rate:.0f}/s; {aborted()} requests cancelled at the servers; at most {peak.fds} descriptors; CPU {peak.cpu:.0%}; {load.figures()}", good)


def half_closed(stage):
    """17: shutdown(WR), and then the answer."""
    rounds, size = (20, 5_000_000) if stage.quick else (200, 50_000_000)
    with Scene(stage, "half-closed").warm() as scene:
        right = 0
        with scene.load() as load:
            for n in range(rounds):
                client = Talk(scene.port)
                key = f"half-{n}"
                kind = n % 4
                if kind == 3:
                    client.request("POST", f"/echo/{key}", text(key, 5000), chunked=True)
                else:
                    client.request("GET", (f"/b/{key}/9000", f"/c/{key}/9000", f"/slow/100/{key}/9000")[kind])
                client.socket.shutdown(socket.SHUT_WR)
                right += client.answer().body == text(key, 5000 if kind == 3 else 9000)
                # Then the proxy closes as well.
                right -= client.socket.recv(1) != b""
                client.close()
            client = Talk(scene.port)
            client.request("GET", f"/big/{size}")
            client.socket.shutdown(socket.SHUT_WR)
            whole = client.big(size)[1]
            client.close()
        scene.tell(17, f"{rounds} clients close their half behind the request; one that is sent {size // 1_000_000} MB",
                   f"{right} answers whole and right, then closed; the large one {'whole' if whole else 'NOT WHOLE'}; {load.figures()}", load.good() and right == rounds and whole)


