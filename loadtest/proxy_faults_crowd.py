#!/usr/bin/env python3
"""Clients in number for proxy_faults.py, as a process of their own: they would disturb the clients whose answers are checked.

usage: proxy_faults_crowd.py KIND PORT COUNT SECONDS [key=value...]
    head   a byte of a head every `every` s        body   a byte of a body every `every` s       silent  not a byte
    stall  some of a body, and then nothing        zero   GET `path`, never reads                 read    GET `path`, reads `piece` bytes every `every` s
    idle   one answer, then keeps the connection   ask    GET `path`, once                        storm   connects, asks and resets, `rate` times a second
Says `ready` when all are connected (idle: answered) and ends after SECONDS or when its stdin ends, with a line of JSON: connected, refused, ended (by
the proxy), statuses, the first and last end and the last answer in s after each connect, bytes, and whether they were the right ones.
Options: source=ADDRESS, first=PORT (ports of its own from there), stay (no end when all have ended), hold (answers do not end a client).
"""
import collections
import errno
import heapq
import json
import os
import select
import socket
import struct
import sys
import time

from cache_faults_tools import more_descriptors
from proxy_faults_origin import BLOCK, text

HEAD = b"GET /b/crowd/100 HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 4000
BODY = b"POST /echo/crowd HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n"


class One:
    def __init__(self, crowd, number):
        self.crowd, self.number, self.begun, self.sent = crowd, number, time.monotonic(), 0
        self.status, self.head, self.left, self.got, self.end = None, b"", None, 0, None
        self.socket = socket.socket()
        if crowd.kind in ("zero", "read"):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if crowd.first:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if crowd.source or crowd.first:
            self.socket.bind((crowd.source or "127.0.0.1", crowd.first and crowd.first + number))
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", crowd.port))

    def send(self, data):
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.over("sending")
            return 0

    def connected(self):
        """Its first words."""
        crowd = self.crowd
        crowd.connected += 1
        kind = crowd.kind
        if kind == "head":
            self.sent = self.send(HEAD[:50])
        elif kind in ("body", "stall"):
            self.send(BODY + b"x" * 10)
        elif kind != "silent":
            self.send(f"GET {crowd.path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        if kind in ("head", "body", "read"):
            heapq.heappush(crowd.dues, (time.monotonic() + crowd.every * (0.1 + 0.9 * (self.number % 97) / 97), self.number, self))

    def tick(self):
        crowd = self.crowd
        if crowd.kind in ("head", "body"):
            self.send(HEAD[50 + self.sent % 1000:][:1] if crowd.kind == "head" else b"x")
        elif crowd.kind == "read":
            self.read(crowd.piece)

    def read(self, most=1 << 16):
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return
        except OSError as error:
            return self.over("reset" if error.errno == errno.ECONNRESET else "error")
        if not data:
            return self.over("closed")
        self.take(data)

    def take(self, data):
        crowd = self.crowd
        if self.left is None:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            self.status = int(head[9:12])
            crowd.statuses[self.status] += 1
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
            self.left = int(length[0][16:]) if length else 0
        if self.status == 200 and crowd.path.startswith(("/big", "/trickle")):
            at = self.got % len(BLOCK)
            crowd.wrong += data != (BLOCK + BLOCK)[at:at + len(data)]
        elif self.status == 200 and crowd.expected is not None:
            crowd.wrong += data != crowd.expected[self.got:self.got + len(data)]
        self.got += len(data)
        self.left -= len(data)
        crowd.bytes += len(data)
        if self.left <= 0 and not crowd.hold:
            crowd.answered += 1
            crowd.whole += self.status == 200
            crowd.last_answer = time.monotonic() - crowd.begun
            if crowd.kind == "ask":
                self.over("answered")

    def over(self, why):
        self.end = why
        crowd = self.crowd
        crowd.ends[why] += 1
        if why != "answered":
            crowd.end_times.append(time.monotonic() - self.begun)
        crowd.drop(self)


class Crowd:
    def __init__(self, kind, port, count, seconds, every=1.0, path="/b/crowd/100", piece=1024, source="", first=0, stay=0, hold=0, rate=5000):
        self.kind, self.port, self.count, self.seconds, self.every, self.path = kind, int(port), int(count), float(seconds), float(every), path
        self.piece, self.source, self.first, self.stay, self.hold, self.rate = int(piece), source, int(first), int(stay), int(hold), float(rate)
        words = path.split("/") if "/" in path else ["", ""]
        self.expected = text(words[-2], int(words[-1])) if words[1] in ("b", "c", "slow") and words[1] != "c" else None
        self.ones, self.dues, self.epoll, self.begun = {}, [], select.epoll(), time.monotonic()
        self.connected = self.refused = self.answered = self.whole = self.wrong = self.bytes = 0
        self.last_answer, self.ends, self.statuses, self.end_times = 0.0, collections.Counter(), collections.Counter(), []

    def drop(self, one):
        self.ones.pop(one.socket.fileno(), None)
        one.socket.close()

    def events(self, wait):
        for fd, event in self.epoll.poll(wait):
            one = self.ones.get(fd)
            if fd == 0:
                return False
            if one is None:
                continue
            if event & select.EPOLLOUT:
                if one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.refused += 1
                    self.drop(one)
                    continue
                self.epoll.modify(fd, self.wanted())
                one.connected()
            elif event & (select.EPOLLERR | select.EPOLLHUP) and self.kind in ("zero", "read"):
                # Only a reset shows to one that does not read.
                one.over("reset")
            elif event & select.EPOLLIN:
                one.read()
        return True

    def wanted(self):
        return 0 if self.kind in ("zero", "read") else select.EPOLLIN

    def run(self):
        self.epoll.register(0, select.EPOLLIN | select.EPOLLHUP)
        end, told, started, before, since = time.monotonic() + self.seconds, False, 0, 0, time.monotonic()
        while time.monotonic() < end:
            # A hundred at a time, so that the proxy is not asked for more than it can accept in between.
            for _ in range(100):
                if started < self.count:
                    try:
                        one = One(self, started)
                    except OSError:
                        self.refused += 1
                    else:
                        self.ones[one.socket.fileno()] = one
                        self.epoll.register(one.socket.fileno(), select.EPOLLOUT)
                    started += 1
            if not self.events(0.001 if started < self.count else 0.02):
                break
            known = self.refused + (self.answered if self.kind == "idle" else self.connected)
            if known != before:
                before, since = known, time.monotonic()
            # Who waits in vain for a place waits on.
            if not told and started == self.count and (known >= self.count or time.monotonic() > since + 3):
                told = True
                print("ready", flush=True)
            now = time.monotonic()
            while self.dues and self.dues[0][0] <= now:
                one = heapq.heappop(self.dues)[2]
                if not one.end:
                    one.tick()
                    heapq.heappush(self.dues, (now + self.every, one.number, one))
            if not self.ones and started == self.count and not self.stay:
                break
        self.tell(told)

    def tell(self, told):
        times = sorted(self.end_times) or [0]
        print(json.dumps({"ready": told, "connected": self.connected, "refused": self.refused, "open": len(self.ones), "statuses": self.statuses,
                          "ends": self.ends, "first_end": times[0], "last_end": times[-1], "answered": self.answered, "whole": self.whole,
                          "last_answer": self.last_answer, "bytes": self.bytes, "wrong": self.wrong}), flush=True)
        linger = struct.pack("ii", 1, 0)
        for one in self.ones.values():
            one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os._exit(0)

    def storm(self):
        """Blocking connects, one after the other: what is asked for, and the reset behind it."""
        # Without a path it is the proxy that answers.
        first = f"GET {self.path} HTTP/1.1\r\nHost: a\r\n" if self.path != "-" else "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n"
        linger, request = struct.pack("ii", 1, 0), f"{first}\r\n".encode()
        print("ready", flush=True)
        begun = time.monotonic()
        end = begun + self.seconds
        while (now := time.monotonic()) < end:
            if self.connected > (now - begun) * self.rate:
                time.sleep(0.001)
                continue
            with socket.socket() as one:
                try:
                    one.settimeout(2)
                    one.connect(("127.0.0.1", self.port))
                    one.send(request)
                    self.connected += 1
                except OSError:
                    self.refused += 1
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.tell(True)


def main():
    more_descriptors()
    words = sys.argv[1:]
    crowd = Crowd(*words[:4], **dict(word.split("=", 1) for word in words[4:]))
    crowd.storm() if crowd.kind == "storm" else crowd.run()


if __name__ == "__main__":
    main()
