"""What proxy_faults.py works with: servers and the proxy as processes, a steady load whose every body is checked, and crowds of clients."""
import contextlib
import datetime
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from cache_faults_tools import Client, Cut, Server, free_port
from peers import HERE
from proxy_faults_origin import BLOCK, text

# Short, so that what must be waited for is short; a retry, two workers.
OPTIONS = {"--workers": "2", "--client-head-timeout": "2s", "--client-idle-timeout": "3s", "--client-body-timeout": "2s", "--client-write-timeout": "2s",
           "--upstream-connect-timeout": "500ms", "--upstream-response-timeout": "2s", "--upstream-read-timeout": "2s", "--upstream-idle-timeout": "1s",
           "--drain-timeout": "5s"}
HEALTH = {"--health-check": "/health", "--health-interval": "500ms", "--health-timeout": "400ms", "--eject-time": "1s", "--slow-start": "1s"}
# More than the rings of the access log have room for, which are memory that is taken as they fill for the first time.
RINGS = 12_000
TIMEOUT = 12


# --- Servers -----------------------------------------------------------------------------------------------------------------

def until(what, seconds=8.0, pause=0.01):
    """Seconds until it was so, or None."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        with contextlib.suppress(OSError, Cut, ValueError):
            if what():
                return time.monotonic() - begun
        time.sleep(pause)
    return None


class Origin:
    def __init__(self, folder, name, address="127.0.0.1"):
        self.folder, self.name, self.address, self.port, self.process = folder, name, address, free_port(), None

    def start(self, wait=True):
        command = [sys.executable, f"{HERE}/proxy_faults_origin.py", self.name, self.address, str(self.port)]
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait()
        return self

    def wait(self):
        if until(lambda: self.client().close() or True, 10) is None:
            raise RuntimeError(f"server {self.name} does not start")

    def client(self):
        return Talk(self.port, address=self.address)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def count(self, what):
        client = self.client()
        try:
            return json.loads(client.ask_for("GET", "/count").body).get(what, 0)
        finally:
            client.close()


LINE = re.compile(r'(\S+Z) (\S+) (\d+|-) (\S+) (host=.*) (?:"(\S+) ?(\S*)[^"]*"|-)')


class Proxy(Server):
    """pilb-fast, started any number of times on the same port."""

    def __init__(self, program, folder, servers, options, log="register.log"):
        self.program, self.port, self.process = program, free_port(), None
        self.log, self.access = folder / "log", log if str(log) in ("-", "off") else folder / log
        servers = ",".join(f"{origin.address}:{origin.port}" if isinstance(origin, Origin) else str(origin) for origin in servers)
        self.command = [program, "--listen", f"127.0.0.1:{self.port}", "--upstream", servers, "--access-log", self.access]
        for name, value in options.items():
            self.command += [name, value]

    def start(self, prefix=(), env=None, wait=True, **more):
        command = [str(part) for part in (*prefix, *self.command)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "RUST_LOG": "info"}, **more)
        if wait:
            self.wait()
        return self

    def lines(self, path=None):
        """The access log: (Unix time, status, word of the end, columns, method, path)."""
        found = []
        for line in (path or self.access).read_text(errors="replace").splitlines():
            match = LINE.fullmatch(line)
            if match:
                columns = dict(column.split("=", 1) for column in match[5].split(" ") if "=" in column)
                found.append((unix(match[1]), match[3], match[4], columns, match[6] or "-", match[7] or ""))
        return found

    def shares(self, origin, since, to):
        """How much of the requests of a time this server got, and how many of them had to be tried again."""
        lines = [line for line in self.lines() if since <= line[0] < to]
        own = sum(line[3].get("upstream") == f"{origin.address}:{origin.port}" for line in lines)
        again = sum(line[3].get("attempts", "1") not in "01" for line in lines)
        return own / max(1, len(lines)), again / max(1, len(lines))


def unix(stamp):
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


# --- Clients -----------------------------------------------------------------------------------------------------------------

class Talk(Client):
    """A connection of a client that can do all that is needed here."""

    def __init__(self, port, timeout=TIMEOUT, receive=None, address="127.0.0.1"):
        self.address, self.used, self.began = address, False, False
        super().__init__(port, timeout, receive) if address == "127.0.0.1" else self.far(port, timeout)

    def far(self, port, timeout):
        self.socket = socket.create_connection((self.address, port), timeout)
        self.reader = self.socket.makefile("rb", 1 << 16)

    def line(self):
        line = super().line()
        self.began = True
        return line

    def closed(self):
        """Has the proxy closed it meanwhile, or sent what nobody asked for?"""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(0))

    def request(self, method, path, body=None, chunked=False, fields=""):
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}"
        if body is None:
            data = f"{head}\r\n".encode()
        elif chunked:
            middle = len(body) // 2
            parts = [part for part in (body[:middle], body[middle:]) if part]
            data = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.socket.sendall(data)

    def answer(self):
        answer = self.head()
        while 100 <= answer.status < 200:
            answer = self.head()
        answer.body = b"".join(self.pieces(answer))
        return answer

    def ask_for(self, method, path, body=None, **more):
        self.began = False
        self.request(method, path, body, **more)
        answer = self.answer()
        self.used = True
        return answer

    def big(self, size):
        """Reads an answer of BLOCKs and compares it as it comes."""
        answer = self.head()
        if answer.status != 200:
            return answer, False
        done, right = 0, True
        for data in self.pieces(answer):
            at = done % len(BLOCK)
            right = right and data == (BLOCK + BLOCK)[at:at + len(data)]
            done += len(data)
        return answer, right and done == size


def once(port, method, path, body=None, timeout=TIMEOUT, **more):
    client = Talk(port, timeout)
    try:
        return client.ask_for(method, path, body, **more)
    finally:
        client.close()


def tried(port, method, path, body=None, timeout=TIMEOUT):
    """The status, or `cut`, `reset`, `hangs`; and what came."""
    client = None
    try:
        client = Talk(port, timeout)
        answer = client.ask_for(method, path, body)
        return answer.status, answer.body
    except TimeoutError:
        return "hangs", b""
    except Cut:
        return "cut", b""
    except ConnectionError:
        return "reset", b""
    finally:
        if client:
            client.close()


def next_right(port):
    """Is the next request answered as it should?"""
    key = f"next-{random.random()}"
    try:
        return once(port, "GET", f"/b/{key}/3000").body == text(key, 3000) and once(port, "POST", "/echo/next", text(key, 900)).body == text(key, 900)
    except (OSError, Cut, ValueError):
        return False


class Load:
    """Clients with unique requests at a steady rate; each compares what comes with what must come.

    `failed` has what a client can see to have failed: when it began and ended, method, why. `wrong` has what looks right and is not.
    `raced`: the proxy closed a connection that had been used before, without a byte of an answer; a client may ask again then, and does."""

    def __init__(self, port, rate=500, threads=8, posts=0.2, fresh=0.03, most=12_000, pause=0.0):
        self.port, self.rate, self.count, self.posts, self.fresh, self.most, self.pause = port, rate, threads, posts, fresh, most, pause
        self.seed, self.going, self.lock = random.randrange(1 << 30), True, threading.Lock()
        self.asked, self.raced, self.keys = 0, 0, []
        self.failed, self.wrong, self.times = [], [], []

    def __enter__(self):
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        for thread in self.threads:
            thread.join(TIMEOUT + 5)
        if any(thread.is_alive() for thread in self.threads):
            self.wrong.append("a client hangs")

    def run(self, number):
        chance, every, nth, client = random.Random(self.seed + number), self.count / self.rate, 0, None
        due = time.monotonic() + chance.random() * every
        while self.going:
            key = f"{self.seed:x}-{number}-{nth}"
            nth += 1
            method = "POST" if chance.random() < self.posts else "GET"
            # A closed connection is not used again, as every client with a pool does.
            if client and (chance.random() < self.fresh or client.closed()):
                client = client.close()
            client = self.one(client, method, key, chance.randrange(self.most), chance.random() < 0.3)
            due += every
            left = due - time.monotonic()
            if left > 0:
                time.sleep(left)
            else:
                due = time.monotonic()
        if client:
            client.close()

    def one(self, client, method, key, size, chunked):
        """One request, once more if its connection had been closed before; the connection, if it goes on."""
        begun = time.monotonic()
        body, path = (text(key, size), f"/echo/{key}") if method == "POST" else (None, f"/{'c' if chunked else 'b'}/{key}/{size}")
        why = None
        for _ in range(2):
            try:
                client = client or Talk(self.port)
                answer = client.ask_for(method, path, body, chunked=chunked)
                self.note(answer, method, key, size, begun)
                return client.close() if answer.fields.get("connection") == "close" else client
            except (OSError, Cut, ValueError, KeyError, IndexError) as error:
                why = repr(error)[:80]
                again = client and client.used and not client.began and not isinstance(error, TimeoutError)
                client = client and client.close()
            if not again:
                break
            with self.lock:
                self.raced += 1
        with self.lock:
            self.asked += 1
            self.failed.append((begun, time.monotonic(), method, why))
            if "TimeoutError" in why:
                self.wrong.append(f"{method} {key}: no answer in {TIMEOUT} s")
        time.sleep(0.01)
        return None

    def note(self, answer, method, key, size, begun):
        end = time.monotonic()
        right = answer.status != 200 or answer.body == text(key, size)
        with self.lock:
            self.asked += 1
            self.times.append((end, end - begun))
            self.keys.append(key)
            if not right:
                self.wrong.append(f"{method} {key}: not what was asked for")
            elif answer.status != 200:
                self.failed.append((begun, end, method, f"{answer.status} {answer.body[:60].decode('latin-1').strip()}"))

    def failures(self, since=0.0, to=float("inf"), method=None):
        with self.lock:
            return [one for one in self.failed if since <= one[0] and one[1] <= to and method in (None, one[2])]

    def percentile(self, share, since=0.0, to=float("inf")):
        """In ms."""
        with self.lock:
            found = sorted(took for at, took in self.times if since <= at <= to)
        return found[min(len(found) - 1, int(len(found) * share))] * 1000 if found else float("nan")

    def good(self, raced=0):
        return self.asked > 0 and not self.wrong and not self.failed and self.raced <= raced

    def figures(self):
        kinds = {}
        for *_, why in self.failed:
            kinds[why[:40]] = kinds.get(why[:40], 0) + 1
        shown = "; ".join(f"{count} x {why}" for why, count in sorted(kinds.items(), key=lambda kind: -kind[1])[:3])
        return (f"{self.asked} requests checked" + (f", {len(self.wrong)} WRONG ({self.wrong[0]})" if self.wrong else "")
                + (f", {len(self.failed)} failed ({shown})" if self.failed else ", 0 failed") + (f", {self.raced} asked again" if self.raced else ""))


class Crowd:
    """proxy_faults_crowd.py."""

    def __init__(self, kind, port, count, seconds, wait=True, **options):
        command = [sys.executable, f"{HERE}/proxy_faults_crowd.py", kind, port, count, seconds, *(f"{name}={value}" for name, value in options.items())]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        LIVING.append(self.process)
        if wait:
            self.ready()

    def ready(self):
        first = self.process.stdout.readline()
        if "ready" not in first:
            raise RuntimeError(f"a crowd is not ready: {first}")

    def end(self, wait=False):
        """Its figures; at once, or when it has done what it does."""
        try:
            if wait:
                self.process.wait(120)
            out, _ = self.process.communicate("")
        finally:
            LIVING.remove(self.process)
        return json.loads(out.strip().splitlines()[-1])

    def kill(self):
        """Vanishes without a word of its own; where no packet gets through, none of the system's arrives."""
        self.process.kill()
        self.process.communicate()
        LIVING.remove(self.process)


# What to end if a row breaks off.
LIVING = []


def end_living():
    while LIVING:
        process = LIVING.pop()
        process.kill()
        process.wait()
