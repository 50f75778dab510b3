"""Rows 29, 30 and 31 of cache_faults.py: many clients for one answer, a first client that goes away, files that change."""
import functools
import os
import random
import selectors
import socket
import threading
import time
import zlib

from cache_faults_tools import Baseline, Client, Cut, get


# --- 29 ----------------------------------------------------------------------------------------------------------------------

class Follower:
    """One of very many clients: reads a chunked or sized body as it comes, and compares it while it does."""

    def __init__(self, port, name, coding):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.request = f"GET /{name} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {coding}\r\n\r\n".encode()
        self.buffer, self.head, self.left, self.parts, self.done = b"", None, None, [], False

    def ask(self):
        self.socket.sendall(self.request)
        self.socket.setblocking(False)

    def take(self, data):
        """More bytes; an empty one is the connection's end."""
        if not data:
            raise Cut("closed")
        self.buffer += data
        if self.head is None:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self.head, self.buffer = head.decode().lower(), rest
            self.chunked = "transfer-encoding: chunked" in self.head
            self.left = 0 if self.chunked else int(self.head.partition("content-length: ")[2].split()[0])
        while self.buffer and not self.done:
            if self.left:
                part, self.buffer = self.buffer[:self.left], self.buffer[self.left:]
                self.parts.append(part)
                self.left -= len(part)
            elif self.chunked:
                # A chunk's end and the next one's size.
                line, found, rest = self.buffer.removeprefix(b"\r\n").partition(b"\r\n")
                if not found:
                    return
                if int(line, 16) == 0 and not rest:
                    return
                self.left, self.buffer = int(line, 16), rest
                self.done = self.left == 0
            if not self.chunked and not self.left:
                self.done = True

    def body(self):
        return b"".join(self.parts)


def gather(server, name, coding, count):
    """So many clients at once: cold answers made, bodies by their number, failures, seconds."""
    clients = [Follower(server.port, name, coding) for _ in range(count)]
    chooser = selectors.DefaultSelector()
    begun = time.monotonic()
    for client in clients:
        client.ask()
        chooser.register(client.socket, selectors.EVENT_READ, client)
    bodies, failed, waiting = {}, [], count
    while waiting and time.monotonic() - begun < 120:
        for key, _ in chooser.select(5):
            client = key.data
            try:
                client.take(client.socket.recv(1 << 18))
            except (OSError, Cut, ValueError) as error:
                failed.append(repr(error))
                client.done = True
            if client.done:
                body = client.body()
                # One copy of each is enough.
                bodies[body] = bodies.get(body, 0) + 1
                client.parts = []
                chooser.unregister(client.socket)
                waiting -= 1
    heads = [client.head or "" for client in clients]
    for client in clients:
        client.socket.close()
    made = sum("fwd=miss" in head and "collapsed" not in head for head in heads)
    joined = sum("collapsed" in head for head in heads)
    return made, joined, bodies, failed + ["hangs"] * waiting, time.monotonic() - begun


def stampede(stage):
    site = stage.site("crowd")
    size = (2 if stage.quick else 6) << 20
    server = stage.server("crowd", site).start()
    work = {}
    for coding in ("br", "gzip"):
        for count in (1, 200) if stage.quick else (1, 200, 2000):
            if count == 1:
                alone = site.add(f"alone-{coding}.txt", size)
                time.sleep(0.1)
                gather(server, site.add(f"warm-{coding}-{size}.txt", size), coding, 1 if stage.quick else 2000)
                base = Baseline(server)
                before = server.cpu("pilb-make"), server.cpu()
                one = gather(server, alone, coding, 1)
                work[coding] = max(server.cpu("pilb-make") - before[0], 0.01)
                good_size = len(next(iter(one[2])))
                continue
            name = site.add(f"crowd-{coding}-{count}.txt", size)
            time.sleep(0.1)
            before = server.cpu("pilb-make"), server.cpu()
            made, joined, bodies, failed, took = gather(server, name, coding, count)
            making, all_of_it = server.cpu("pilb-make") - before[0], server.cpu() - before[1]
            rest = stage.rest(base, hot=True)
            later = get(server.port, name, coding)
            right = list(bodies.values()) == [count] and later.hit and later.body in bodies
            right = right and (coding != "gzip" or site.is_right(name, coding, 0, later))
            ratio = making / work[coding]
            # A short time is mostly noise, and a quick run is not there to judge speed.
            good = made == 1 and right and not failed and (ratio <= 1.5 or stage.quick or work[coding] < 0.1)
            stage.tell(29, f"{count} clients for one cold file of {size >> 20} MiB in {coding}",
                       f"made {made} time(s), {joined} joined, {count - made - joined} hits; bodies {'right' if right else 'WRONG'},"
                       f" {len(failed)} failed{': ' + failed[0] if failed else ''}; compressing took {making:.2f} s of CPU,"
                       f" {ratio:.2f}x of that for one client; all {all_of_it:.2f} s for"
                       f" {good_size * count / 1e6:.0f} MB, {took:.1f} s", good, rest)
    server.stop()


# --- 30 ----------------------------------------------------------------------------------------------------------------------

def abort(stage):
    site = stage.site("abort")
    server = stage.server("abort", site).start()
    size, rounds = (4, 2) if stage.quick else (16, 5)
    warm = site.add("warm.txt", size << 20)
    time.sleep(0.1)
    whole = len(get(server.port, warm, "gzip").body)
    crowd_of(server, warm, 20)
    base = Baseline(server)
    for followers in (20, 0):
        made, right, later_hits, lengths = 0, 0, 0, []
        for number in range(rounds):
            name = site.add(f"abort-{followers}-{number}.txt", size << 20)
            time.sleep(0.1)
            first = Client(server.port, receive=32 << 10)
            first.ask(name)
            head = first.head()
            made += head.made
            crowd = Crowd(server, name, followers)
            got = 0
            for piece in first.pieces(head):
                got += len(piece)
                if got >= whole // 10:
                    break
            lengths.append(got / whole)
            first.close(reset=number % 2 == 0)
            answers = crowd.answers()
            right += sum(site.is_right(name, "gzip", 0, answer) for answer in answers)
            made += sum(answer.made for answer in answers)
            later = wait_hit(server, name)
            later_hits += later is not None and site.is_right(name, "gzip", 0, later)
        drafts = len(list((server.cache / "tmp").iterdir()))
        good = right == followers * rounds and made == rounds == later_hits and not drafts
        stage.tell(30, f"the first client leaves at {sum(lengths) / rounds:.0%}, {followers} follow", f"{rounds} times:"
                   f" {made} made, {right} of {followers * rounds} bodies whole and right, {later_hits} hits later,"
                   f" {drafts} files in tmp/", good, stage.rest(base, hot=True))
    server.stop()


def wait_hit(server, name):
    """What is kept in the end, whoever has left: it was not made again."""
    for _ in range(100):
        answer = get(server.port, name)
        if answer.hit:
            return answer
        if answer.made:
            return None
    return None


class Crowd:
    """Clients, each in a thread, that ask for one thing."""

    def __init__(self, server, name, count):
        self.found, self.server, self.name = [], server, name
        self.threads = [threading.Thread(target=self.ask, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        try:
            self.found.append(get(self.server.port, self.name))
        except (OSError, Cut):
            pass

    def answers(self):
        for thread in self.threads:
            thread.join(60)
        return self.found


def crowd_of(server, name, count):
    return Crowd(server, name, count).answers()


# --- 31 ----------------------------------------------------------------------------------------------------------------------

def halve(path, size):
    os.truncate(path, size // 2)


def vanish(path, _):
    os.truncate(path, 0)


def exchange(path, size):
    new = path.with_name(".new")
    new.write_bytes(random.Random(9).randbytes(size // 3))
    new.rename(path)


def grow(path, size):
    with open(path, "ab") as file:
        file.write(b"x" * (size // 2))


def remove(path, _):
    path.unlink()


def overwrite(path, size):
    with open(path, "r+b") as file:
        file.write(b"y" * size)


WAYS = (halve, vanish, exchange, grow, remove, overwrite)


def slow_answer(server, name, coding, change):
    """Asks, changes the file when the first bytes have come, and reads the rest: head, body, was it cut?"""
    client = Client(server.port, receive=16 << 10)
    client.ask(name, coding)
    head, body, cut = client.head(), bytearray(), False
    try:
        for piece in client.pieces(head):
            if not body:
                change()
                time.sleep(0.05)
            body += piece
    except (OSError, Cut):
        cut = True
    client.close()
    return head, bytes(body), cut


def changes(stage):
    site = stage.site("changes")
    server = stage.server("changes", site).start()
    large = (16 if stage.quick else 64) << 20
    base = None
    for size, name, coding, what in ((large, "large.bin", None, f"a file of {large >> 20} MiB (sendfile)"),
                                     (1 << 20, "middle.bin", None, "a file of 1 MiB"),
                                     (8_000, "small.bin", None, "a file of 8 kB (from memory)"),
                                     (8 << 20, "made.txt", "gzip", "a file of 8 MiB being compressed")):
        notes, good = [], True
        for way in WAYS:
            path, old = site.root / name, content(size)
            path.unlink(missing_ok=True)
            path.write_bytes(old)
            time.sleep(0.1)
            if base is None:
                slow_answer(server, name, coding, lambda: None)
                get(server.port, site.add("warm.txt", 8 << 20))
                base = Baseline(server)
            head, body, cut = slow_answer(server, name, coding, lambda: way(path, size))
            good = good and head.status == 200 and judge(way, old, body, cut, coding, head)
            good = good and server.alive() and next_is_right(server, path, name, coding)
            notes.append(f"{way.__name__} {'cut' if cut else 'whole'}{'' if good else ' WRONG'}")
        stage.tell(31, f"{what} changes while it is sent", "; ".join(notes) + "; next request right" * good, good, stage.rest(base, hot=True))
    server.stop()
    words = server.access.read_text().count("file-cut")
    stage.tell(31, "the access log after that", f"{words} times file-cut; exit status {server.process.returncode}",
               words > 0 and server.process.returncode == 0)


@functools.lru_cache(4)
def content(size):
    return b"".join(b"%015d\n" % n for n in range(size // 16))


def judge(way, old, body, cut, coding, head):
    """What came is the old file's beginning (unless it was overwritten in place), and said to be whole only if it is."""
    if coding:
        if cut:
            return True
        whole = decode(body, head)
        return whole in (old, content_after(way, old))
    if not cut and len(body) != len(old):
        return False
    # What sendfile has queued are the file's own pages: changed in place, they change on their way. Cut, they are zeroed.
    instead = {overwrite: b"y" * 4096, halve: bytes(4096), vanish: bytes(4096)}.get(way)
    pages = ((body[at:at + 4096], old[at:at + 4096]) for at in range(0, len(body), 4096))
    return all(new == was[:len(new)] or instead and mixed(new, was, instead) for new, was in pages)


def mixed(new, was, instead):
    return all(one in pair for one, pair in zip(new, zip(was, instead)))


def content_after(way, old):
    return {halve: old[:len(old) // 2], vanish: b"", grow: old + b"x" * (len(old) // 2), overwrite: b"y" * len(old)}.get(way)


def decode(body, head):
    return zlib.decompress(body, 31) if head.coding == "gzip" else body


def next_is_right(server, path, name, coding):
    answer = get(server.port, name, coding)
    if not path.exists():
        return answer.status == 404
    body = decode(answer.body, answer)
    return answer.status == 200 and body == path.read_bytes()
