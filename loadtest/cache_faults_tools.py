"""What cache_faults.py works with: files whose content follows from name and version, a client that notices a cut answer, the
server's process and its figures, and a load whose every answer is checked byte for byte."""
import dataclasses
import functools
import hashlib
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib

PAGE = os.sysconf("SC_PAGE_SIZE")
WORDS = [hashlib.sha256(b"%d" % n).hexdigest()[:n % 9 + 2] for n in range(3000)]
LARGE = 1 << 20
DECODERS = {"gzip": lambda body: zlib.decompress(body, 31), None: lambda body: body}


# --- Files -------------------------------------------------------------------------------------------------------------------

def text(seed, size):
    """Half of it is information; in large files a few words, so that compressing pays."""
    if size < LARGE:
        return hashlib.shake_128(seed.encode()).hexdigest(size // 2 + 1)[:size].encode()
    return large_text(seed, size)


@functools.lru_cache(4)
def large_text(seed, size):
    return " ".join(random.Random(seed).choices(WORDS, k=size // 3))[:size].encode()


class Site:
    """Files below a folder. Their content is a function of name, version and size; versions are put in place by rename."""

    def __init__(self, root):
        self.root, self.sizes, self.versions, self.coded = root, {}, {}, {}
        root.mkdir()

    def add(self, name, size):
        self.sizes[name], self.versions[name] = size, (0, 0)
        self.write(name, 0)
        return name

    def many(self, prefix, count, least=400, most=20_000, seed=1):
        sizes = random.Random(seed)
        return [self.add(f"{prefix}-{n}.txt", sizes.randrange(least, most)) for n in range(count)]

    def text(self, name, version):
        return text(f"{name}#{version}", self.sizes[name])

    def write(self, name, version):
        draft = self.root / f".draft-{name}"
        draft.write_bytes(self.text(name, version))
        draft.rename(self.root / name)

    def renew(self, name):
        """The next version; while it is put in place either one may be seen. One thread at a time for each name."""
        _, now = self.versions[name]
        self.versions[name] = (now, now + 1)
        self.write(name, now + 1)
        self.versions[name] = (now + 1, now + 1)

    def is_right(self, name, coding, oldest, answer):
        """Is it a version that was there between question and answer? A coding that Python does not know is compared with
        the first such answer: `learn` it while nothing is damaged."""
        if coding not in DECODERS:
            known = self.coded.get((name, coding))
            return known is None or known == hashlib.sha256(answer.body).digest()
        try:
            body = DECODERS[answer.coding](answer.body)
        except (zlib.error, KeyError):
            return False
        return any(body == self.text(name, version) for version in range(oldest, self.versions[name][1] + 1))

    def learn(self, name, coding, answer):
        self.coded[name, coding] = hashlib.sha256(answer.body).digest()


# --- Client ------------------------------------------------------------------------------------------------------------------

class Cut(Exception):
    """The connection ended before the answer did."""


@dataclasses.dataclass
class Answer:
    status: int
    fields: dict
    body: bytes

    @property
    def coding(self):
        return self.fields.get("content-encoding")

    @property
    def cache(self):
        return self.fields.get("cache-status", "")

    @property
    def hit(self):
        return "; hit" in self.cache

    @property
    def made(self):
        """It is the one for which the work was done."""
        return "fwd=miss" in self.cache and "collapsed" not in self.cache

    @property
    def age(self):
        return int(self.fields["age"]) if "age" in self.fields else None


class Client:
    """One connection, kept open from request to request."""

    def __init__(self, port, timeout=30, receive=None):
        self.socket = socket.socket()
        if receive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb", 1 << 16)

    def ask(self, name, coding="gzip", method="GET"):
        accept = f"Accept-Encoding: {coding}\r\n" if coding else ""
        self.socket.sendall(f"{method} /{name} HTTP/1.1\r\nHost: a\r\n{accept}\r\n".encode())

    def line(self):
        line = self.reader.readline(16384)
        if not line.endswith(b"\r\n"):
            raise Cut(line)
        return line[:-2].decode("latin-1")

    def head(self):
        status = int(self.line().split(" ", 2)[1])
        fields = {}
        while line := self.line():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return Answer(status, fields, b"")

    def exactly(self, count):
        data = self.reader.read(count)
        if len(data) < count:
            raise Cut(f"{count - len(data)} bytes missing")
        return data

    def pieces(self, answer):
        """The body as it comes; Cut unless it is whole."""
        if answer.fields.get("transfer-encoding") == "chunked":
            while size := int(self.line(), 16):
                yield self.exactly(size)
                if self.line():
                    raise Cut("a chunk without its end")
            if self.line():
                raise Cut("trailers")
            return
        left = int(answer.fields["content-length"])
        while left:
            data = self.exactly(min(left, 1 << 16))
            left -= len(data)
            yield data

    def get(self, name, coding="gzip"):
        self.ask(name, coding)
        answer = self.head()
        answer.body = b"".join(self.pieces(answer))
        return answer

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.reader.close()
        self.socket.close()


def get(port, name, coding="gzip"):
    client = Client(port)
    try:
        return client.get(name, coding)
    finally:
        client.close()


# --- Server ------------------------------------------------------------------------------------------------------------------

def free_port():
    """Below the ports that the system gives to clients: one of those could connect to itself while no server listens."""
    while True:
        port = random.randrange(12_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """pilb-origin, started any number of times on the same folders and port."""

    def __init__(self, program, folder, site, *options, cache=None, user=None):
        self.program, self.site, self.user = program, site, user
        self.cache, self.log, self.access = cache or folder / "cache", folder / "log", folder / "access"
        self.port, self.process = free_port(), None
        self.options = ["--workers", "2", "--drain-timeout", "2s", *options]
        if "--cache-ttl" not in options:
            self.options += ["--cache-ttl", "1h"]

    def start(self, prefix=(), env=None, wait=True):
        command = [*prefix, self.program, "--root", self.site.root, "--cache-dir", self.cache, "--listen",
                   f"127.0.0.1:{self.port}", "--access-log", self.access, *self.options]
        as_user = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log,
                                            env={**os.environ, "RUST_LOG": "info", **(env or {})}, **as_user)
        if wait:
            self.wait()
        return self

    def wait(self, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.alive():
            try:
                return Client(self.port).close()
            except OSError:
                time.sleep(0.002)
        raise RuntimeError(f"the server does not start: {self.said()[-600:]}")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode if self.process else None

    def said(self, pattern=None):
        """Its log, or the times that it has the pattern."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text if pattern is None else len(re.findall(pattern, text))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * PAGE

    def cpu(self, thread=None):
        """Seconds of CPU time of all threads, or of those with this name."""
        total, tasks = 0, f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm", encoding="ascii") as comm:
                name = comm.read()
            if thread is None or name.startswith(thread):
                with open(f"{tasks}/{task}/schedstat", encoding="ascii") as stat:
                    total += int(stat.read().split()[0])
        return total / 1e9

    def objects(self):
        return [path for path in (self.cache / "objects").glob("*/*") if path.is_file()]

    def tool(self, *words):
        return subprocess.run([self.program, "cache", *words], capture_output=True, text=True, check=False)


class Baseline:
    """Descriptors and resident memory of a server at rest, to be compared with what they are later.

    Less than before is as good; memory has 4 MiB of slack besides the 5 %, which is a few stacks and allocator arenas. Workers
    have answers and open files at hand for 10 to 20 s after they were asked for: `hot` says so, and then it is waited for that
    if need be (in a hurry, what is at hand may take HOT bytes and descriptors)."""

    SLACK, HOT, HOT_FDS = 4 << 20, 64 << 20, 500

    def __init__(self, server, settle=1.0):
        time.sleep(settle)
        self.server, self.fds, self.rss = server, server.descriptors(), server.memory()

    def check(self, settle=5.0, hot=False, hurry=False):
        time.sleep(settle)
        text, good = self.look(*(self.HOT, self.HOT_FDS) if hot and hurry else ())
        if not good and hot and not hurry and self.server.alive():
            for _ in range(12):
                time.sleep(2)
                for client in [Client(self.server.port) for _ in range(8)]:
                    client.get("nothing-here")
                    client.close()
            later, good = self.look()
            text += f"; when nothing is at hand any more: {later}"
        return text, good

    def look(self, bytes_more=0, fds_more=0):
        if not self.server.alive():
            return "process gone", False
        fds, rss = self.server.descriptors(), self.server.memory()
        good = fds <= self.fds * 1.05 + fds_more and rss <= self.rss * 1.05 + self.SLACK + bytes_more
        return f"fd {self.fds} → {fds}, RSS {self.rss / 1e6:.1f} → {rss / 1e6:.1f} MB", good


# --- Load --------------------------------------------------------------------------------------------------------------------

class Load:
    """Clients that ask for random files, renew some, and check every answer. They go on through the server's restarts."""

    def __init__(self, server, names, threads=6, renew=0.1, codings=("gzip",), pause=0.004, seed=1):
        self.server, self.site, self.names, self.codings = server, server.site, names, codings
        self.renew, self.pause, self.seed, self.count = renew, pause, seed, threads
        self.going, self.lock = True, threading.Lock()
        self.asked = self.hits = self.made = self.cut = self.refused = 0
        self.wrong, self.failed = [], []

    def __enter__(self):
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        for thread in self.threads:
            thread.join(40)
        if any(thread.is_alive() for thread in self.threads):
            self.failed.append("a client hangs")

    def run(self, number):
        chance, client = random.Random(self.seed * 1000 + number), None
        own = self.names[number::self.count]
        while self.going:
            if chance.random() < self.renew:
                self.site.renew(chance.choice(own))
            name, coding = chance.choice(self.names), chance.choice(self.codings)
            oldest = self.site.versions[name][0]
            try:
                client = client or Client(self.server.port)
                self.note(name, coding, oldest, client.get(name, coding))
            except (OSError, Cut) as error:
                with self.lock:
                    if client is None:
                        self.refused += 1
                    else:
                        self.cut += 1
                        self.last_cut = f"{name}: {error!r}"
                client = client and client.close()
                time.sleep(0.005)
            time.sleep(self.pause * chance.random() * 2)
        if client:
            client.close()

    def note(self, name, coding, oldest, answer):
        right = answer.status == 200 and self.site.is_right(name, coding, oldest, answer)
        with self.lock:
            self.asked += 1
            self.hits += answer.hit
            self.made += answer.made
            if answer.status != 200:
                self.failed.append(f"{name}: {answer.status}")
            elif not right:
                self.wrong.append(f"{name} {coding} {answer.fields}")
            if (answer.age or 0) < 0 or (answer.hit and answer.age is None):
                self.wrong.append(f"{name}: age {answer.age}")

    def good(self, cuts=False):
        return self.asked > 0 and not self.wrong and not self.failed and (cuts or not self.cut)

    def figures(self):
        text = f"{self.asked} answers checked ({self.hits} hits, {self.made} made)"
        for count, what in ((len(self.wrong), "WRONG"), (len(self.failed), "failed"), (self.cut, "cut")):
            text += f", {count} {what}" if count else ""
        return text + "".join(f"; e.g. {example[0]}" for example in (self.wrong, self.failed) if example)


def more_descriptors():
    """As many as the system lets us have, for us and the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
