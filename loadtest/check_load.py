#!/usr/bin/env python3
"""Does lean_load tell what goes wrong? Puts proxies before it that fail in one way each, since a load generator that hides failures
makes the worst proxy the fastest. Takes about twenty seconds; needs gcc."""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from peers import built, free_ports

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# With requests from a file: what it is, the status that is expected, and what comes.
REQUESTS = [("good 304", 304, [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"]), ("200 for 304", 304, [GOOD]),
            ("good large", 200, [GOOD.replace(b": 1", b": 3000000") + b"x" * 2_999_999]), ("large, too long", 200, [GOOD.replace(b": 1", b": 3000000") + b"x" * 3_000_000]),
            ("good chunked", 200, [CHUNKED + b"1\r\nx\r\n0\r\n\r\n"]), ("chunked without end", 200, [CHUNKED + b"1\r\nx\r\n"])]


def load(port, origin=None, rate=0):
    """(requests, p99 in ms, errors) of a second with four connections."""
    command = [built("lean_load"), port, origin or free_ports(1)[0], 4, 1, 1024, 0.2, rate]
    words = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split()
    return int(words[0]), int(words[3]) / 1e3, int(words[6])


def load_requests(port, status):
    with tempfile.NamedTemporaryFile() as requests:
        requests.write(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        requests.flush()
        command = [built("lean_load"), port, "-", 4, 1, 0, 0.2, 0, requests.name, status]
        words = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split()
    return int(words[0]), int(words[3]) / 1e3, int(words[6])


@contextlib.contextmanager
def proxy(*answers):
    """Answers each request of a connection with the next of these, the last one again and again; closes at an empty one."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client):
        with client, contextlib.suppress(OSError):
            number = 0
            while client.recv(4096):
                answer = answers[min(number, len(answers) - 1)]
                if answer == b"":
                    return
                client.sendall(answer or b"")
                number += 1

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def stalled():
    """A relay that stands still for 0.4 of the second, at a fixed rate."""
    port, origin = free_ports(2)
    relay = subprocess.Popen([built("floor"), str(port), str(origin)])
    try:
        time.sleep(0.2)
        for delay, what in ((0.6, signal.SIGSTOP), (1.0, signal.SIGCONT)):
            threading.Timer(delay, os.kill, (relay.pid, what)).start()
        return load(port, origin, rate=1000)
    finally:
        relay.kill()
        relay.wait()


def main():
    found = {"nobody listens": load(free_ports(1)[0])}
    for name, answers in {"good": [GOOD], "no answer": [None], "one answer, then none": [GOOD, None], "502": [GOOD.replace(b"200", b"502")],
                          "too long": [GOOD + b"x"], "no head": [b"x"], "closes": [GOOD, b""]}.items():
        with proxy(*answers) as port:
            found[name] = load(port)
    for name, status, answers in REQUESTS:
        with proxy(*answers) as port:
            found[name] = load_requests(port, status)
    requests, p99, errors = stalled()
    wrong = [name for name, (_, _, failed) in found.items() if (failed == 0) != name.startswith("good")]
    if p99 < 300 or errors:
        wrong.append(f"a stall of 400 ms at 1000 requests/s gives a p99 of {p99} ms, {requests} requests, {errors} errors")
    for name in wrong:
        print(f"lean_load does not tell what happens: {name} {found.get(name, '')}")
    print(f"lean_load: {len(found) + 1 - len(wrong)} of {len(found) + 1} told")
    sys.exit(bool(wrong))


main()
