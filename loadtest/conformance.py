#!/usr/bin/env python3
"""Judge how HTTP/1.1 reverse proxies treat malformed, ambiguous and merely tricky messages, from both sides.

For each proxy named it starts scripted origins on the loopback interface and the proxy before them, plays the cases of
conformance_requests.py and conformance_responses.py, and records every byte that the origin and the client got. What they got
is read by two reference readers: a strict one, and one that prefers Content-Length and takes a bare LF for a line end. Where
they differ, the proxy forwarded something that two programs can take differently. After each case innocent requests are sent
on the same connection (if it is still open) and on two fresh ones; an answer that belongs to another request is a desync.

The house's own proxy (pilb) must do what its house decided. Other proxies may do whatever the RFCs allow.
"""
import argparse
import dataclasses
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import conformance_requests
import conformance_responses
from conformance_requests import ANSWER, ANY, BODY, CLOSE, HEAD, INTERIM, RESET, SHUT, TUNNEL, Case, Slow

HERE = os.path.dirname(os.path.abspath(__file__))
QUIET = 0.04      # a connection that is silent for so long after the expected answers is taken to have no more to say
SETTLE = 0.015    # what the origin did last is given so long to reach the proxy before the next request
EXAMPLES = """examples:
  conformance.py                                 judge target/release/pilb-fast
  conformance.py --proxy pilb --proxy nginx      the same, beside Debian's nginx
  conformance.py --proxy pilb=target/debug/pilb-fast --only chunk -v
                                                 a debug build, cases with "chunk" in their name, all bytes shown
  conformance.py --proxy haproxy --json out.json keep every verdict, and the transcripts of failures, for a program to read
  conformance.py --chop client                   the same cases, sent byte by byte; must end no differently
  conformance.py --list --only row:12            show the cases of row 12 of PROTOCOL.md without running them

exit status: 0 pilb passed (or was not run), 1 pilb failed a case, 2 wrong usage or a proxy that cannot be started
"""


# --- The reference readers ---------------------------------------------------------------------------------------------------

class Bad(Exception):
    """The reader refuses these bytes."""


class More(Exception):
    """The bytes end before the head does."""


@dataclasses.dataclass
class Message:
    """One request or answer as a reader understood it. `first` is (method, target, version) or (version, status, reason)."""
    first: tuple
    fields: list
    framing: str            # none, length, chunked, close
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    complete: bool = False
    extensions: bool = False
    start: int = 0
    end: int = 0

    @property
    def status(self):
        return self.first[1]

    def values(self, name, where=None):
        return [value for n, value in (self.fields if where is None else where) if n == name]

    def key(self, kind):
        """What two readers must agree on."""
        first = self.first[:2] if kind == "request" else self.first[1]
        return first, self.values(b"host"), self.body, self.complete


TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*([^\x00\r\n]*?)[ \t]*")
# CTLs other than NUL, CR and LF are "invalid but may be retained" (9110 5.5): no reader takes them for a delimiter.
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([^\x00-\x20\x7f#]+) (HTTP/1\.[01])")
STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9][0-9]) ([^\x00-\x08\x0a-\x1f\x7f]*)")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)((?:[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN
                        + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)*)')
AUTHORITY = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
LOOSE_SIZE = re.compile(rb"[ \t]*\+?(?:0[xX])?([0-9A-Fa-f]+)")
LOOSE_LENGTH = re.compile(rb"[ \t]*\+?([0-9]+)")
CODINGS = {b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress"}
NO_BODY = (204, 304)


def strict_lines(data, pos):
    """The lines of a head from `pos`, and where it ends. Any CR or LF that is not part of a CRLF is an error."""
    lines = []
    while True:
        at = data.find(b"\r\n", pos)
        line = data[pos:at] if at >= 0 else data[pos:].removesuffix(b"\r")
        if b"\r" in line or b"\n" in line:
            raise Bad("bare CR or LF in a head")
        if at < 0:
            raise More
        pos = at + 2
        if not line:
            return lines, pos
        lines.append(line)


def strict_field(line):
    match = FIELD.fullmatch(line)
    if not match:
        raise Bad(f"field line {line[:60]!r}")
    return match[1].lower(), match[2]


def loose_lines(data, pos):
    lines = []
    while True:
        at = data.find(b"\n", pos)
        if at < 0:
            raise More
        line, pos = data[pos:at].removesuffix(b"\r"), at + 1
        if not line:
            return lines, pos
        lines.append(line)


def loose_fields(lines):
    fields = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] = (fields[-1][0], (fields[-1][1] + b" " + line.strip()).strip())
        elif b":" in line:
            name, value = line.split(b":", 1)
            fields.append((name.strip().lower(), value.strip(b" \t")))
    return fields


def strict_codings(fields):
    """The transfer codings named, in order; None without the field."""
    lines = [value for name, value in fields if name == b"transfer-encoding"]
    if not lines:
        return None
    return [coding.strip(b" \t").lower() for value in lines for coding in value.split(b",")]


def strict_framing(fields, request, old):
    codings = strict_codings(fields)
    lengths = [value for name, value in fields if name == b"content-length"]
    if codings is not None:
        if lengths:
            raise Bad("Transfer-Encoding and Content-Length")
        if old:
            raise Bad("Transfer-Encoding in HTTP/1.0")
        if codings.count(b"chunked") != (codings[-1] == b"chunked") or any(c not in CODINGS for c in codings if c != b"chunked"):
            raise Bad(f"Transfer-Encoding {codings}")
        if codings[-1] == b"chunked":
            return "chunked", 0
        if request:
            raise Bad("Transfer-Encoding without final chunked")
        return "close", 0
    if lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
            raise Bad(f"Content-Length {lengths}")
        return "length", int(lengths[0])
    return ("none" if request else "close"), 0


def loose_framing(fields, request):
    length = next((value for name, value in fields if name == b"content-length"), None)
    if length is not None:
        match = LOOSE_LENGTH.match(length)
        return "length", int(match[1]) if match else 0
    if any(b"chunked" in value.lower() for name, value in fields if name == b"transfer-encoding"):
        return "chunked", 0
    return ("none" if request else "close"), 0


def read_request_head(data, pos, strict):
    if strict:
        lines, end = strict_lines(data, pos)
        if not lines:
            raise Bad("an empty line before a request")
        match = REQUEST_LINE.fullmatch(lines[0])
        if not match:
            raise Bad(f"request line {lines[0][:80]!r}")
        fields = [strict_field(line) for line in lines[1:]]
        hosts = [value for name, value in fields if name == b"host"]
        if len(hosts) > 1 or (not hosts and match[3] == b"HTTP/1.1"):
            raise Bad(f"{len(hosts)} Host fields")
        if hosts and not AUTHORITY.fullmatch(hosts[0]):
            raise Bad(f"Host {hosts[0]!r}")
        framing, size = strict_framing(fields, True, match[3] == b"HTTP/1.0")
        return Message((match[1], match[2], match[3]), fields, framing, start=pos), end, size
    while data[pos:pos + 1] in (b"\r", b"\n"):
        pos += 1
    at = data.find(b"\n", pos)
    if at >= 0 and len(data[pos:at].split()) == 2:
        method, target = data[pos:at].split()
        return Message((method, target, b"HTTP/0.9"), [], "none", start=pos), at + 1, 0
    lines, end = loose_lines(data, pos)
    words = lines[0].split()
    if len(words) < 3 or not words[-1].upper().startswith(b"HTTP/"):
        raise Bad(f"request line {lines[0][:80]!r}")
    fields = loose_fields(lines[1:])
    framing, size = loose_framing(fields, True)
    return Message((words[0], b" ".join(words[1:-1]), words[-1]), fields, framing, start=pos), end, size


def read_response_head(data, pos, strict, method):
    if strict:
        if data[pos:pos + 7] != b"HTTP/1."[:len(data) - pos]:
            raise Bad(f"not an answer: {bytes(data[pos:pos + 60])!r}")
        lines, end = strict_lines(data, pos)
        match = STATUS_LINE.fullmatch(lines[0]) if lines else None
        if not match:
            raise Bad(f"status line {lines[:1]!r}")
        fields = [strict_field(line) for line in lines[1:]]
        version, status, reason = match[1], int(match[2]), match[3]
    else:
        lines, end = loose_lines(data, pos)
        match = re.match(rb"[ \t]*(HTTP/[0-9.]+)[ \t]+([0-9]+)[ \t]*(.*)", lines[0] if lines else b"", re.I | re.S)
        if not match:
            raise Bad(f"status line {lines[:1]!r}")
        fields = loose_fields(lines[1:])
        version, status, reason = match[1], int(match[2]), match[3]
    if status < 200 or status in NO_BODY:
        framing, size = "none", 0
    elif strict:
        framing, size = strict_framing(fields, False, version == b"HTTP/1.0")
    else:
        framing, size = loose_framing(fields, False)
    if method == b"HEAD":
        framing, size = "none", 0
    return Message((version, status, reason), fields, framing, start=pos), end, size


def read_chunks(message, data, pos, strict):
    """Reads a chunked body; leaves the message incomplete if the data ends too early."""
    body = []
    try:
        while True:
            at = data.find(b"\r\n" if strict else b"\n", pos)
            line = bytes(data[pos:at] if at >= 0 else data[pos:])
            if strict:
                if b"\n" in line or b"\r" in line.removesuffix(b"\r" if at < 0 else b"") or b"\x00" in line:
                    raise Bad(f"chunk line {line[:60]!r}")
                if at < 0:
                    return
                match = CHUNK_LINE.fullmatch(line)
                if not match:
                    raise Bad(f"chunk line {line[:60]!r}")
                message.extensions |= bool(match[2])
                pos = at + 2
            else:
                if at < 0:
                    return
                match = LOOSE_SIZE.match(line)
                if not match:
                    raise Bad(f"chunk line {line[:60]!r}")
                pos = at + 1
            size = int(match[1], 16)
            if size == 0:
                break
            body.append(bytes(data[pos:pos + size]))
            pos += size
            if len(data) < pos:
                return
            if strict:
                if data[pos:pos + 2] != b"\r\n"[:len(data) - pos]:
                    raise Bad(f"chunk data followed by {bytes(data[pos:pos + 2])!r}")
                if len(data) < pos + 2:
                    return
                pos += 2
            else:
                pos += data[pos:pos + 1] == b"\r"
                if len(data) <= pos:
                    return
                pos += data[pos:pos + 1] == b"\n"
        try:
            lines, pos = (strict_lines if strict else loose_lines)(data, pos)
        except More:
            return
        message.trailers = [strict_field(line) for line in lines] if strict else loose_fields(lines)
        message.complete, message.end = True, pos
    finally:
        message.body = b"".join(body)


def read_message(data, pos, kind, strict, method=b"GET", ended=None):
    """The message that begins at `pos`. `ended`: how the sender ended the stream after the data, if it did."""
    if kind == "request":
        message, pos, size = read_request_head(data, pos, strict)
    else:
        message, pos, size = read_response_head(data, pos, strict, method)
    if message.framing == "chunked":
        read_chunks(message, data, pos, strict)
    elif message.framing == "close":
        message.body, message.end, message.complete = bytes(data[pos:]), len(data), ended == "eof"
    else:
        message.body, message.end = bytes(data[pos:pos + size]), pos + size
        message.complete = len(data) >= pos + size
    return message


def read_stream(data, kind, strict, methods=(), ended=None):
    """All messages, and how the data ends: clean, partial, tunnel (after a 101) or error: why."""
    messages, pos, asked = [], 0, iter(methods)
    method = next(asked, b"GET")
    while pos < len(data):
        try:
            message = read_message(data, pos, kind, strict, method, ended)
        except More:
            return messages, "partial"
        except Bad as why:
            return messages, f"error: {why}"
        messages.append(message)
        if not message.complete:
            return messages, "partial"
        pos = message.end
        if kind == "response" and message.status == 101:
            return messages, "tunnel"
        if kind == "response" and message.status >= 200:
            method = next(asked, b"GET")
    return messages, "clean"


def two_readers(data, kind, methods=(), ended=None):
    """What a strict reader reads, how that ends, and how a lenient one differs (None if it does not).

    Where the strict reader stops, what the lenient one reads is returned, to be told of."""
    strict, end = read_stream(data, kind, True, methods, ended)
    loose, loose_end = read_stream(data, kind, False, methods, ended)
    if end.startswith("error"):
        return loose or strict, end, f"a strict reader stops ({end[7:]}), a lenient one reads {words_of(loose, kind)}"
    if end != loose_end or [m.key(kind) for m in strict] != [m.key(kind) for m in loose]:
        return strict, end, f"one reader reads {words_of(strict, kind)} {end}, another {words_of(loose, kind)} {loose_end}"
    return strict, end, None


def shown(data, most=60):
    text = repr(bytes(data[:most]))[2:-1]
    return text + (f"...({len(data)}B)" if len(data) > most else "")


def words_of(messages, kind):
    out = []
    for m in messages:
        if kind == "request" and m.first[1].startswith(b"/innocent-") and m.complete:
            continue
        text = f"{shown(m.first[0])} {shown(m.first[1])}" if kind == "request" else str(m.status)
        if m.body or m.framing in ("length", "chunked"):
            text += f" {m.framing} {len(m.body)}B"
        out.append(text + ("" if m.complete else " unfinished"))
    return "[" + ", ".join(out) + "]"


# --- The origin --------------------------------------------------------------------------------------------------------------

def hard_close(sock):
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    sock.close()


def with_fin(after):
    """The flags for bytes that are followed by this step: the FIN is to travel with the last of them, in one segment."""
    return socket.MSG_MORE if after in (CLOSE, SHUT) else 0


def echoed(target):
    """A long target would make the head of the answer long."""
    return target if len(target) <= 300 else target[:300] + b"...%d" % len(target)


class Script:
    """What the origin does with the request whose target holds `mark`."""

    def __init__(self, mark, steps, once, needs):
        self.mark, self.steps, self.once, self.needs = mark, steps, once, needs.encode()
        self.plays, self.playing, self.conns = 0, 0, []


class Gone(Exception):
    """The connection is over."""


class OriginConn:
    """A connection that the proxy opened: all bytes received, and a thread that answers them."""

    def __init__(self, origin, sock, number):
        self.origin, self.sock, self.number = origin, sock, number
        self.received = bytearray()
        self.arrivals = []          # (order, offset): which bytes came when
        self.ended = None           # how the proxy ended it: eof, reset
        self.closed = False         # the thread is done with it
        self.tunnel_at = None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def trace(self, what, data=b""):
        self.origin.trace(f"origin#{self.number}", what, data)

    def take(self, wait):
        """Reads once, for at most `wait` seconds. False if nothing came."""
        if self.ended or not select.select([self.sock], [], [], wait)[0]:
            return False
        try:
            data = self.sock.recv(65536)
        except OSError:
            self.ended = "reset"
        else:
            if data:
                with self.origin.lock:
                    self.origin.order += 1
                    self.arrivals.append((self.origin.order, len(self.received)))
                    self.received += data
                self.trace("<", data)
                return True
            self.ended = "eof"
        self.trace(self.ended)
        return False

    def need(self):
        """More bytes, or the end of it."""
        while not self.take(0.1):
            if self.ended or self.origin.stopping or self.closed:
                raise Gone

    def send(self, data, flags=0):
        self.trace(">", data)
        self.sock.settimeout(self.origin.deadline)
        try:
            self.sock.sendall(data, flags)
        except OSError as error:
            self.trace(f"send: {error}")
            raise Gone from error

    def next_request(self, pos):
        try:
            return read_message(self.received, pos, "request", False)
        except More:
            return None

    def serve(self):
        pos, continued = 0, -1
        answered = -1
        try:
            while True:
                try:
                    message = self.next_request(pos)
                except Bad:
                    self.send(b"HTTP/1.1 400 Bad Request\r\nX-Origin: cannot read this\r\nContent-Length: 0\r\n"
                              b"Connection: close\r\n\r\n")
                    self.finish()
                if message is None:
                    self.need()
                    continue
                if answered != pos:
                    script = self.origin.script_for(message)
                    if script and (message.complete or script.steps[:1] == (HEAD,)):
                        answered = pos
                        self.play(script, pos)
                        continue
                    if message.complete:
                        answered = pos
                        self.echo(message)
                    elif continued != pos and message.values(b"expect")[:1] == [b"100-continue"]:
                        continued = pos
                        self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                if message.complete:
                    pos = message.end
                else:
                    self.need()
        except Gone:
            pass
        except (OSError, ValueError):    # closed under us at the end of a case
            self.ended = self.ended or "closed"
        finally:
            self.closed = True
            self.sock.close()

    def echo(self, message):
        method, target, version = message.first
        target = echoed(target)
        body = b"echo of " + method + b" " + target + b"\n"
        close = version != b"HTTP/1.1" or any(b"close" in value.lower() for value in message.values(b"connection"))
        head = (b"HTTP/1.1 200 OK\r\nX-Echo: " + method + b" " + target + b"\r\nContent-Length: %d\r\n" % len(body)
                + (b"Connection: close\r\n\r\n" if close else b"\r\n"))
        self.send(head + (b"" if method == b"HEAD" else body))
        if close:
            self.finish()

    def finish(self):
        """FIN, then whatever comes for a moment, then the end."""
        while self.take(0):
            pass
        self.trace("FIN")
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        end = time.monotonic() + 0.5
        while not self.ended and time.monotonic() < end and not self.origin.stopping:
            self.take(0.05)
        raise Gone

    def play(self, script, pos):
        script.playing += 1
        script.conns.append((self, len(self.received)))
        try:
            for step, after in zip(script.steps, script.steps[1:] + (None,)):
                if isinstance(step, bytes):
                    self.send(step, with_fin(after))
                elif isinstance(step, Slow):
                    for byte in step.data:
                        self.send(bytes([byte]))
                        time.sleep(step.pause)
                elif isinstance(step, (int, float)):
                    end = time.monotonic() + step
                    while (left := end - time.monotonic()) > 0:
                        if not self.take(left) and self.ended:
                            time.sleep(max(0, end - time.monotonic()))
                elif step is BODY:
                    while not ((message := self.next_request(pos)) and message.complete):
                        self.need()
                elif step is SHUT:
                    self.trace("FIN")
                    self.sock.shutdown(socket.SHUT_WR)
                elif step is CLOSE:
                    script.playing -= 1
                    script.plays += 1
                    try:
                        self.finish()
                    finally:
                        script.playing += 1
                        script.plays -= 1
                elif step is RESET:
                    while self.take(0):
                        pass
                    self.trace("RST")
                    hard_close(self.sock)
                    raise Gone
                elif step is TUNNEL:
                    self.tunnel_at = at = self.next_request(pos).end
                    while True:
                        if len(self.received) > at:
                            piece = bytes(self.received[at:])
                            self.send(b"pong:" + piece if at == self.tunnel_at else piece)
                            at += len(piece)
                        self.need()
        finally:
            script.playing -= 1
            script.plays += 1

    def shut_down(self):
        self.closed = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Origin:
    """Listens on a port of its own and keeps what every connection received."""

    def __init__(self, deadline):
        self.deadline, self.stopping = deadline, False
        self.lock, self.order = threading.Lock(), 0
        self.conns, self.scripts, self.tracer = [], [], None
        self.opened = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.trace(f"origin#{self.opened}", "accept")
                self.conns.append(OriginConn(self, sock, self.opened))
                self.opened += 1

    def trace(self, who, what, data=b""):
        if self.tracer is not None:
            self.tracer.append((time.monotonic(), who, what, bytes(data)))

    def script_for(self, message):
        for script in self.scripts:
            if script.mark in message.first[1] and not (script.once and script.plays + script.playing) \
                    and (not script.needs or message.values(script.needs)):
                return script
        return None

    def open_conns(self):
        return [conn for conn in self.conns if not conn.closed and not conn.ended]

    def forget_closed(self):
        with self.lock:
            self.conns = self.open_conns()

    def drop_conns(self):
        for conn in self.open_conns():
            conn.shut_down()

    def stop(self):
        self.stopping = True
        self.listener.close()
        self.drop_conns()


# --- The proxies under test --------------------------------------------------------------------------------------------------

class CannotStart(Exception):
    pass


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Proxy:
    """A proxy process of our own. Subclasses say how it is started."""
    house = False
    path = None

    def __init__(self, origin_port, folder, path=None):
        self.path = path or self.path
        self.folder, self.origin_port, self.process = folder, origin_port, None
        self.log = os.path.join(folder, "access.log")
        if not os.access(self.path, os.X_OK):
            raise CannotStart(f"{self.name}: no program at {self.path}")

    def start(self):
        said = os.path.join(self.folder, "said.log")
        for _ in range(5):
            self.port = free_port()
            with open(said, "ab") as out:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder)
            end = time.monotonic() + 5
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", self.port), 0.5).close()
                    return self
                except OSError:
                    time.sleep(0.02)
            self.stop()
        with open(said, "rb") as out:
            tail = out.read()[-600:].decode("latin-1").strip()
        raise CannotStart(f"{self.name} did not start: {tail or 'it said nothing'}")

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(3)


class Pilb(Proxy):
    name, house = "pilb", True
    path = os.path.join(os.path.dirname(HERE), "target", "release", "pilb-fast")

    def command(self):
        return [self.path, "--listen", f"127.0.0.1:{self.port}", "--upstream", f"127.0.0.1:{self.origin_port}",
                "--workers", "1", "--access-log", self.log]


class Nginx(Proxy):
    name, path = "nginx", "/usr/sbin/nginx"

    def command(self):
        t = self.folder
        temp = " ".join(f"{kind}_temp_path {t}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = self.write("nginx.conf", f"""
daemon off; master_process off; worker_processes 1; pid {t}/nginx.pid; error_log {t}/error.log;
events {{ worker_connections 256; }}
http {{ access_log {self.log}; {temp}
  upstream origin {{ server 127.0.0.1:{self.origin_port}; keepalive 16; }}
  server {{ listen 127.0.0.1:{self.port}; server_name a.example;
    location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_read_timeout 10s; }} }} }}
""")
        return [self.path, "-p", t, "-e", f"{t}/error.log", "-c", conf]


class Haproxy(Proxy):
    name, path = "haproxy", "/usr/sbin/haproxy"

    def command(self):
        conf = self.write("haproxy.cfg", f"""
global
  maxconn 256
  nbthread 1
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 3s
  timeout client 10s
  timeout server 10s
  timeout http-request 10s
frontend clients
  bind 127.0.0.1:{self.port}
  default_backend origin
backend origin
  server origin 127.0.0.1:{self.origin_port}
""")
        return [self.path, "-db", "-f", conf]


PROXIES = {kind.name: kind for kind in (Pilb, Nginx, Haproxy)}


# --- The client --------------------------------------------------------------------------------------------------------------

class Client:
    """A connection to the proxy: all bytes received, and how it ended."""

    def __init__(self, shard, who):
        self.shard, self.who = shard, who
        self.received, self.ended, self.shut = bytearray(), None, False
        self.sock = socket.create_connection(("127.0.0.1", shard.proxy.port), shard.deadline)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def trace(self, what, data=b""):
        self.shard.origin.trace(self.who, what, data)

    def take(self, wait):
        """Reads once, for at most `wait` seconds. False if nothing came."""
        if self.ended or not select.select([self.sock], [], [], max(0, wait))[0]:
            return False
        try:
            data = self.sock.recv(262144)
        except OSError:
            self.ended = "reset"
        else:
            if data:
                self.received += data
                self.trace("<", data)
                return True
            self.ended = "eof"
        self.trace(self.ended)
        return False

    def take_until(self, enough, seconds=None):
        """Reads until `enough()`, the end, or the deadline."""
        end = time.monotonic() + (self.shard.deadline if seconds is None else seconds)
        while not self.ended and not enough() and (left := end - time.monotonic()) > 0:
            self.take(left)

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self.take(left) and self.ended:
                time.sleep(left)
                return

    def send(self, data, flags=0):
        self.trace(">", data)
        try:
            self.sock.settimeout(self.shard.deadline)
            self.sock.sendall(data, flags)
        except OSError as error:
            self.trace(f"send: {error}")

    def close(self):
        self.sock.close()


def finals(messages):
    """The final answers, each with the codes of the interim ones before it."""
    out, interim = [], []
    for message in messages:
        if message.status < 200 and message.status != 101:
            interim.append(message.status)
        else:
            out.append((tuple(interim), message))
            interim = []
    return out, tuple(interim)


def methods_of(case):
    """The method of the first request: it decides whether its answer has a body. Later ones are no HEAD in any case."""
    sent = b"".join(step.data if isinstance(step, Slow) else step for step in case.send if isinstance(step, (bytes, Slow)))
    return tuple(re.findall(rb"\A[A-Z]+", sent))


# --- Judging -----------------------------------------------------------------------------------------------------------------

def marked(value, marks):
    """The value with its placeholders replaced, however deep they are."""
    if isinstance(value, bytes):
        for old, new in marks:
            value = value.replace(old, new)
        return value
    if isinstance(value, tuple):
        return tuple(marked(item, marks) for item in value)
    if isinstance(value, dict):
        return {name: marked(item, marks) for name, item in value.items()}
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{f.name: marked(getattr(value, f.name), marks) for f in dataclasses.fields(value)})
    return value


def chopped(steps, most=300):
    """A script with its bytes sent one by one; the rest of long ones as it was."""
    out = []
    for step in steps or ():
        if isinstance(step, bytes):
            out.append(Slow(step[:most], 0.0005))
            step = step[most:]
        if step != b"":
            out.append(step)
    return tuple(out) if steps is not ANY else ANY


def chop_case(case, side):
    """The same case, but what the client or the origin sends comes byte by byte.

    Bytes that follow an answer are then not together with it: if another request may be on its way by then, nobody can tell
    what they answer. Such cases are left as they are."""
    if side == "client":
        return dataclasses.replace(case, send=chopped(case.send))
    if (case.discard or CLOSE in (case.script or ())) and b"".join(s for s in case.send if isinstance(s, bytes)).count(b" HTTP/1.") > 1:
        return case
    return dataclasses.replace(case, script=chopped(case.script), script2=chopped(case.script2))


def one_of(value, allowed):
    return allowed is ANY or value in (allowed if isinstance(allowed, tuple) else (allowed,))


def wrong_fields(fields, has, lacks, what=""):
    out = []
    for name, want in has.items():
        values = [value for n, value in fields if n == name.encode()]
        joined = b", ".join(values)
        if not values:
            out.append(f"no {what}{name}")
        elif want is not ANY and not (want(joined) if callable(want) else one_of(joined, want)):
            out.append(f"{what}{name}: {shown(joined)}")
    for name in lacks:
        values = [value for n, value in fields if n == name.encode()]
        if values:
            out.append(f"{what}{name}: {shown(b', '.join(values))} is there")
    return out


def wrong_request(seen, message, house):
    method, target, version = message.first
    out = []
    if method != seen.method or not one_of(target, seen.target):
        out.append(f"origin read {shown(method)} {shown(target)}")
    if seen.host is not ANY and message.values(b"host") not in [[h] for h in as_tuple(seen.host)] \
            and [v.lower() for v in message.values(b"host")] not in [[h.lower()] for h in as_tuple(seen.host)]:
        out.append(f"Host {message.values(b'host')}")
    if not one_of(message.body, seen.body):
        out.append(f"body {shown(message.body)}")
    if message.extensions:
        out.append("chunk extensions forwarded")
    out += wrong_fields(message.fields, seen.has, seen.lacks)
    out += wrong_fields(message.trailers, {}, seen.trailers_lack, "trailer ")
    if house:
        out += wrong_fields(message.fields, seen.house_has, seen.house_lacks)
        out += wrong_fields(message.trailers, seen.house_trailers, (), "trailer ")
        if version != b"HTTP/1.1":
            out.append(f"version {shown(version)}")
    return out


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def wrong_answer(want, interim, message, tunnel, house):
    out = []
    if message.status not in want.status:
        return [f"status {message.status}"]
    if want.cut and message.complete:
        out.append("answer ends as if it were complete")
    if not want.cut and not message.complete:
        out.append(f"answer is cut after {len(message.body)}B")
    if want.target is not ANY:
        echo = b", ".join(message.values(b"x-echo")).split(b" ", 1)[-1]
        if not one_of(echo, tuple(echoed(t) for t in as_tuple(want.target))):
            out.append(f"answer to {shown(echo) or 'no request'}")
        elif message.framing != "none" and not message.body.startswith(b"echo of ") or not message.body.strip().endswith(
                echo if message.framing != "none" else b""):
            out.append(f"body {shown(message.body)}")
    if want.body is not ANY and not want.cut and not one_of(message.body, want.body):
        out.append(f"body {shown(message.body)}")
    if want.body is not ANY and want.cut and not want.body.startswith(message.body):
        out.append(f"body {shown(message.body)}")
    if message.extensions:
        out.append("chunk extensions forwarded")
    if want.interim is not ANY and not (want.interim(interim) if callable(want.interim) else interim == want.interim):
        out.append(f"interim {interim}")
    if want.tunnel is not ANY and tunnel != want.tunnel:
        out.append(f"tunnel {shown(tunnel)}")
    out += wrong_fields(message.fields, want.has, want.lacks)
    out += wrong_fields(message.trailers, {}, want.trailers_lack, "trailer ")
    if house:
        out += wrong_fields(message.fields, want.house_has, ())
        out += wrong_fields(message.trailers, want.house_trailers, (), "trailer ")
    return out


def brief(codes):
    return "+".join(map(str, codes)) if len(codes) <= 4 else f"{codes[0]}x{len(codes)}"


@dataclasses.dataclass
class Evidence:
    """What was recorded in one run of a case."""
    answers: list                 # [(interim, message)]
    interim: tuple                # 1xx after which nothing final came
    tail: str                     # how the client's bytes end
    client_differs: str
    tunnel: bytes
    ended: str                    # how the proxy ended the client's connection: eof, reset, None
    watched: bool                 # the client was there to see it
    requests: list                # what the origin read, strictly, innocent ones left out
    origin_tails: list            # unfinished requests: (connection, words)
    origin_differs: list

    def words(self):
        client = [brief(i) + "+" * bool(i) + f"{m.status}" + ("" if m.complete else "(cut)") for i, m in self.answers]
        client += [f"{brief(self.interim)}(interim)"] if self.interim else []
        out = [" ".join(client) if client else "no answer", self.ended or ("open" if self.watched else "client left")]
        out.append("origin read " + (words_of(self.requests, "request") if self.requests else "nothing"))
        if self.origin_tails:
            out.append("unfinished " + ", ".join(words for _, words in self.origin_tails))
        return ", ".join(out)


def wrong_outcome(outcome, seen, house):
    """Why what was recorded is not this outcome; empty if it is."""
    out = []
    if outcome.answers is not ANY:
        wanted = outcome.answers
        if outcome.silent and len(seen.answers) == len(wanted) - 1 and (seen.ended or not seen.watched):
            wanted = wanted[:-1]
        if len(seen.answers) != len(wanted):
            out.append(f"{len(seen.answers)} answers instead of {len(wanted)}")
        for want, (interim, message) in zip(wanted, seen.answers):
            out += wrong_answer(want, interim, message, seen.tunnel, house)
        if seen.tail == "partial" and all(m.complete for _, m in seen.answers):
            out.append("an answer is cut in its head")
    if outcome.closed is True and not seen.ended and seen.watched:
        out.append("connection not closed")
    if outcome.closed is False and seen.ended:
        out.append("connection closed")
    if outcome.reset and seen.ended != "reset":
        out.append("no reset")
    if outcome.origin is ANY:
        honest = {}
        for message in seen.requests:
            key = message.first[:2]
            if conformance_requests.S[1:5] in key[1]:
                out.append(f"origin read {shown(key[1])}")
            honest[key] = honest.get(key, 0) + 1
            most = (2 if house else 3) if key[0] in (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE") else 1
            if honest[key] == most + 1:
                out.append(f"{shown(key[0])} sent to the origin {most + 1} times")
    else:
        if len(seen.requests) != len(outcome.origin):
            out.append(f"origin read {len(seen.requests)} requests instead of {len(outcome.origin)}")
        for want, message in zip(outcome.origin, seen.requests):
            out += wrong_request(want, message, house)
    for conn, words in seen.origin_tails:
        if not outcome.partial:
            out.append(f"unfinished request at the origin: {words}")
        elif not (conn.ended or conn.closed):
            out.append("connection with an unfinished request left open")
    return out


def expected_words(allowed):
    """What is right, in short: all refusals as one."""
    codes = [code for o in allowed if o.words.startswith("refuse ") for code in o.words[7:].split("/") if code.isdigit()]
    words = [o.words for o in allowed if not (o.words.startswith("refuse ") and o.words[7:].replace("/", "").isdigit())]
    if codes:
        words.insert(0, "refuse " + "/".join(dict.fromkeys(codes)))
    return " or ".join(dict.fromkeys(words))


@dataclasses.dataclass
class Verdict:
    case: Case
    ok: bool
    desync: bool
    expected: str
    got: str
    transcript: list
    status: int = 0               # of the last answer, if the exchange is over
    fence: tuple = ()             # marks of the innocent requests after it
    seconds: float = 0.0


class Shard(threading.Thread):
    """A part of the cases, with an origin and a proxy process of its own."""

    def __init__(self, kind, path, cases, deadline, until, chop, folder):
        super().__init__(daemon=True)
        self.until, self.chop = until, chop
        self.kind, self.path, self.cases, self.deadline = kind, path, cases, deadline
        self.folder = folder
        os.makedirs(folder)
        self.verdicts, self.error, self.proxy, self.origin = [], None, None, None
        self.stopping = False

    def run(self):
        try:
            self.origin = Origin(self.deadline)
            self.proxy = self.kind(self.origin.port, self.folder, self.path).start()
            for case in self.cases:
                if self.stopping:
                    break
                self.verdicts.append(self.play(case))
            if self.kind.house:
                time.sleep(0.3)
        except CannotStart as why:
            self.error = str(why)
        except Exception:    # must be seen for what it is
            self.error = f"fault of the tool:\n{traceback.format_exc()}"
        finally:
            if self.proxy:
                self.proxy.stop()
            if self.origin:
                self.origin.stop()
        if not self.error and self.kind.house:
            self.read_log()

    # One case.

    def play(self, case):
        got, transcript = "not played: out of time", []
        if time.monotonic() < self.until:
            try:
                return self.judge(case)
            except OSError as why:
                got, transcript = f"no connection to the proxy: {why}", self.origin.tracer or []
                if not self.proxy.alive():
                    got = f"the proxy ended with status {self.proxy.process.returncode}"
                    self.proxy.start()
            finally:
                self.origin.tracer = None
        began = transcript[0][0] if transcript else 0
        return Verdict(case, False, False, expected_words(case.house), got,
                       [(at - began, who, what, data) for at, who, what, data in transcript])

    def judge(self, case):
        began, transcript = time.monotonic(), []
        self.origin.tracer = transcript
        tag = secrets.token_hex(6)[:11]
        marks = [(b"CASE00000000", b"C" + tag.encode()), (b"NEXT00000000", b"N" + tag.encode()),
                 (b"EVIL00000000", b"EVIL" + tag[:8].encode())]
        play = marked(case, marks)
        if self.chop:
            play = chop_case(play, self.chop)
        allowed = play.house + (() if self.kind.house else play.peers)
        self.origin.scripts = [Script(mark[1:], steps, play.once, play.script_if) for mark, steps in
                               ((marked(conformance_requests.T, marks), play.script),
                                (marked(conformance_requests.T2, marks), play.script2)) if steps is not ANY]
        problems, desync, fence = [], False, []

        def innocent(client, where, must=True):
            nonlocal desync
            target = b"/innocent-" + secrets.token_hex(8).encode()
            fence.append(target)
            said = self.innocent(client, target, must)
            if said:
                desync |= said.startswith("desync")
                problems.append(f"{said} ({where})")

        if play.warm:
            client = Client(self, "warm-up")
            innocent(client, "warm-up")
            client.close()
            time.sleep(SETTLE)
            fence.clear()
        self.origin.forget_closed()
        starts = {conn: len(conn.received) for conn in self.origin.conns}
        client = Client(self, "client")
        watched = self.converse(client, play, allowed)
        if not play.hurry:
            self.scripts_end(play)
            if self.origin.scripts:
                client.pause(SETTLE)
        heard, ended = bytes(client.received), client.ended
        methods = methods_of(play)
        messages, tail, differs = two_readers(heard, "response", methods, ended)
        answers, interim = finals(messages)
        tunnel = heard[messages[-1].end:] if tail == "tunnel" else b""
        says_close = any(b"close" in v.lower() for _, m in answers for v in m.values(b"connection"))
        if watched and answers and not ended and tail == "clean" and not client.shut and not play.owes:
            if says_close:
                problems.append("it said Connection: close and did not close")
            else:
                innocent(client, "same connection", must=False)
        if client.ended and not ended and len(client.received) == len(heard):
            ended = client.ended          # closed before the innocent request: that is a close
            fence.pop()
        client.close()
        time.sleep(SETTLE)
        for number in (1, 2, 3, 4) if play.hurry else (1, 2):
            if number == 3:
                self.scripts_end(play)
                time.sleep(SETTLE)
            fresh = Client(self, f"fresh#{number}")
            innocent(fresh, f"fresh connection {number}")
            fresh.close()
        evidence = self.evidence(play, starts, fence, watched, answers, interim, tail, differs, tunnel, ended)
        wrongs = [(wrong_outcome(o, evidence, self.kind.house), o) for o in allowed]
        matched = next((o for wrong, o in wrongs if not wrong), None)
        if differs and not (matched and matched.answers is ANY):
            problems.insert(0, f"client: {differs}")
        for words in evidence.origin_differs:
            problems.insert(0, f"origin: {words}")
        if matched is None:
            nearest = min(wrongs, key=lambda pair: (any(w.startswith("status") for w in pair[0]), len(pair[0])))
            problems.insert(0, "; ".join(nearest[0]))
        if play.side == "response" and not any(script.conns for script in self.origin.scripts) and not play.script_if:
            problems.append("the request never reached the origin")
        if self.kind.house and play.discard:
            problems += self.discarded()
        if not self.proxy.alive():
            problems.append(f"the proxy ended with status {self.proxy.process.returncode}")
            self.proxy.start()
        if problems or len(self.origin.open_conns()) > 1:
            self.origin.drop_conns()
            time.sleep(SETTLE)
        over = answers and watched and (ended or answers[-1][1].complete)    # and so due in the access log
        status = answers[-1][1].status if over else 0
        expected = expected_words(allowed)
        got = evidence.words() + (" | " + " | ".join(problems) if problems else "")
        timed = [(at - began, who, what, data) for at, who, what, data in transcript]
        return Verdict(case, not problems, desync, expected, got, timed, status,
                       tuple(m.decode() for m in fence), time.monotonic() - began)

    def scripts_end(self, play):
        until = time.monotonic() + self.deadline
        while any(script.playing for script in self.origin.scripts) and TUNNEL not in (play.script or ()) \
                and time.monotonic() < until:
            time.sleep(0.002)

    def converse(self, client, play, allowed):
        """The client's script, then reading until nothing more is to be expected. False if the client left itself."""
        methods = methods_of(play)

        def heard():
            messages, tail = read_stream(bytes(client.received), "response", True, methods, client.ended)
            return finals(messages), tail, messages

        def whole():
            (answers, _), _, _ = heard()
            return sum(m.complete for _, m in answers)

        for step, after in zip(play.send, play.send[1:] + (None,)):
            if isinstance(step, bytes):
                client.send(step, with_fin(after))
            elif isinstance(step, Slow):
                for byte in step.data:
                    client.send(bytes([byte]))
                    client.pause(step.pause)
            elif isinstance(step, (int, float)):
                client.pause(step)
            elif step is SHUT:
                client.trace("FIN")
                client.shut = True
                try:
                    client.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            elif step in (CLOSE, RESET):
                client.trace("close" if step is CLOSE else "RST")
                hard_close(client.sock) if step is RESET else client.sock.close()
                client.ended = "left"
                time.sleep(0.05)
                return False
            elif step is INTERIM:
                client.take_until(lambda: len(client.received) > 0 and heard()[2])
            elif step is ANSWER:
                before = whole()
                client.take_until(lambda: whole() > before)

        def enough():
            (answers, _), tail, messages = heard()
            if tail == "partial" or tail.startswith("error"):
                return False
            tunnel = bytes(client.received[messages[-1].end:]) if tail == "tunnel" else b""
            for outcome in allowed:
                if outcome.closed is True or outcome.answers is ANY or len(outcome.answers) != len(answers):
                    continue
                if all(m.status in want.status and m.complete and want.tunnel in (ANY, tunnel)
                       for want, (_, m) in zip(outcome.answers, answers)):
                    if not any(b"close" in v.lower() for _, m in answers for v in m.values(b"connection")):
                        return True
            return False

        client.take_until(enough)
        if not client.ended:
            before = -1
            while before != len(client.received) and not client.ended:
                before = len(client.received)
                client.take(QUIET)
        return True

    def innocent(self, client, target, must):
        """An honest request. Returns what is wrong with its answer; nothing if it is its own."""
        start = len(client.received)
        client.send(b"GET " + target + b" HTTP/1.1\r\nHost: a.example\r\n\r\n")

        def answer():
            messages, tail = read_stream(bytes(client.received[start:]), "response", True, (), client.ended)
            return next((m for m in messages if m.status >= 200 or m.status == 101), None), tail

        client.take_until(lambda: (answer()[0] and answer()[0].complete) or answer()[1].startswith("error"))
        message, tail = answer()
        if message is None:
            if client.ended and start == len(client.received) and not must:
                return None
            heard = shown(client.received[start:])
            said = f"innocent request got no answer ({client.ended or 'nothing in time'}{': ' + heard if heard else ''})"
            return "desync: " + said if tail.startswith("error") else said
        echo = b", ".join(message.values(b"x-echo"))
        if message.status == 200 and (echo != b"GET " + target or message.body != b"echo of GET " + target + b"\n"):
            return f"desync: innocent request got {message.status} for {shown(echo) or shown(message.body) or 'nothing'}"
        if message.status != 200:
            return f"{'desync: ' if echo else ''}innocent request got {message.status}"
        if len(client.received) > start + message.end:
            return f"desync: bytes after the innocent request's answer: {shown(client.received[start + message.end:])}"
        return None

    def evidence(self, play, starts, fence, watched, answers, interim, tail, differs, tunnel, ended):
        until = time.monotonic() + self.deadline
        while True:
            requests, tails, problems = [], [], []
            for conn in list(self.origin.conns):
                start = starts.get(conn, 0)
                data = bytes(conn.received[start:conn.tunnel_at])
                messages, end, differ = two_readers(data, "request")
                if differ:
                    problems.append(differ)
                for message in messages:
                    if message.first[1] in fence and message.complete:
                        continue
                    if message.complete:
                        order = next(o for o, at in reversed(conn.arrivals) if at <= start + message.start)
                        requests.append((order, conn.number, message.start, message))
                if end == "partial":
                    last = [m for m in messages if not m.complete]
                    tails.append((conn, words_of(last, "request") if last else f"head {shown(data[-40:])}"))
            if not any(not (conn.ended or conn.closed) for conn, _ in tails) or time.monotonic() > until:
                break
            time.sleep(0.01)
        requests.sort(key=lambda item: item[:3])
        return Evidence(answers, interim, tail, differs, tunnel, ended, watched, [item[3] for item in requests], tails, problems)

    def discarded(self):
        """The connection that the script was played on must end and carry no further request."""
        out, until = [], time.monotonic() + self.deadline
        for script in self.origin.scripts[:1]:
            for conn, length in script.conns[:1]:
                while not (conn.ended or conn.closed) and time.monotonic() < until:
                    time.sleep(0.01)
                if len(conn.received) > length:
                    out.append("the upstream connection was used again")
                elif not (conn.ended or conn.closed):
                    out.append("the upstream connection was not closed")
        return out

    # The access log.

    def read_log(self):
        """Each refused request must have a line with its status, before those of the innocent requests that came after it."""
        try:
            with open(self.proxy.log, "rb") as file:
                lines = [line.decode("latin-1") for line in file]
        except OSError as error:
            self.error = f"access log: {error}"
            return
        begin = 0
        for verdict in self.verdicts:
            if not verdict.fence:    # not played
                continue
            fences = [i for i, line in enumerate(lines) if any(mark in line for mark in verdict.fence)]
            if not fences:
                verdict.ok = False
                verdict.got += " | no access log line for the innocent requests after it"
                continue
            if verdict.status >= 400:
                own = lines[begin:max(fences)]
                if not any(line.split(" ")[2:3] == [str(verdict.status)] for line in own):
                    verdict.ok = False
                    verdict.got += f" | no access log line with {verdict.status}"
                    verdict.transcript.append((0, "log", "has only: " + "".join(own), b""))
            begin = max(fences) + 1


# --- The run -----------------------------------------------------------------------------------------------------------------

def print_transcript(verdict, most=1500):
    for at, who, what, data in verdict.transcript:
        text = repr(data[:most])[1:] if data else ""
        print(f"    {at:7.3f} {who:<10} {what:<5} {text}{f' ...({len(data)}B)' if len(data) > most else ''}")


def run_proxy(kind, path, cases, options, scratch):
    shards = []
    for number in range(min(options.shards, len(cases))):
        folder = os.path.join(scratch, f"{kind.name}{number}")
        shards.append(Shard(kind, path, cases[number::options.shards], options.deadline, time.monotonic() + options.limit,
                            options.chop, folder))
    try:
        for shard in shards:
            shard.start()
        for shard in shards:
            while shard.is_alive():
                shard.join(0.2)
    finally:
        for shard in shards:
            shard.stopping = True
        for shard in shards:
            if shard.proxy:
                shard.proxy.stop()
    errors = [shard.error for shard in shards if shard.error]
    verdicts = {id(v.case): v for shard in shards for v in shard.verdicts}
    return [verdicts[id(case)] for case in cases if id(case) in verdicts], errors


def summary(verdicts):
    failed = [v for v in verdicts if not v.ok]
    return {"cases": len(verdicts), "passed": len(verdicts) - len(failed),
            "failed_request": sum(v.case.side == "request" for v in failed),
            "failed_response": sum(v.case.side == "response" for v in failed),
            "desyncs": sum(v.desync for v in verdicts)}


def as_json(verdict):
    out = {"side": verdict.case.side, "name": verdict.case.name, "row": verdict.case.row, "ok": verdict.ok,
           "desync": verdict.desync, "expected": verdict.expected, "got": verdict.got, "seconds": round(verdict.seconds, 3)}
    if not verdict.ok:
        out["transcript"] = [f"{at:.3f} {who} {what} {shown(data, 4000)}".rstrip()
                             for at, who, what, data in verdict.transcript]
    return out


def parse_options(args):
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", action="append", metavar="NAME[=PATH]",
                        help="pilb, nginx or haproxy; may be repeated or a list with commas (default: pilb)")
    parser.add_argument("--only", metavar="SUBSTR", help="only cases whose side/name/row:N contains this")
    parser.add_argument("--json", metavar="FILE", help="write all verdicts, and the transcripts of failures")
    parser.add_argument("--deadline", type=float, default=2.0, metavar="S", help="longest wait for anything (default: 2 s)")
    parser.add_argument("--shards", type=int, default=16, metavar="N", help="cases played side by side (default: 16)")
    parser.add_argument("--limit", type=float, default=170, metavar="S",
                        help="cases not begun by then are not played, and failed (default: 170 s per proxy)")
    parser.add_argument("--chop", choices=("client", "origin"), help="what this side sends comes byte by byte")
    parser.add_argument("--list", action="store_true", help="show the cases and what is expected, run nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the bytes of every case that is played")
    options = parser.parse_args(args)
    options.proxies = []
    for name in ",".join(options.proxy or ["pilb"]).split(","):
        name, _, path = name.partition("=")
        if name not in PROXIES:
            parser.error(f"no proxy '{name}': one of {', '.join(PROXIES)}")
        options.proxies.append((PROXIES[name], os.path.abspath(path) if path else None))
    if options.shards < 1 or options.deadline <= 0:
        parser.error("--shards and --deadline must be positive")
    return options


def chosen_cases(only):
    cases = conformance_requests.CASES + conformance_responses.CASES
    names = [(case.side, case.name) for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f"two cases have the same name: {sorted(twice)}")
    return [case for case in cases if not only or only in f"{case.side}/{case.name}/row:{case.row}/"]


def main(args=None):
    options = parse_options(args)
    cases = chosen_cases(options.only)
    if not cases:
        print(f"no case matches '{options.only}'", file=sys.stderr)
        return 2
    if options.list:
        for case in cases:
            peers = " | others: " + " or ".join(o.words for o in case.peers) if case.peers else ""
            print(f"{case.side:<8} row {case.row:<2} {case.name}: {' or '.join(o.words for o in case.house)}{peers}")
        return 0
    scratch, results, broken = tempfile.mkdtemp(prefix="conformance."), {}, False
    try:
        for kind, path in options.proxies:
            began = time.monotonic()
            verdicts, errors = run_proxy(kind, path, cases, options, scratch)
            shutil.rmtree(scratch, ignore_errors=True)
            os.makedirs(scratch, exist_ok=True)
            print(f"{kind.name}: {len(verdicts)} cases in {time.monotonic() - began:.0f} s")
            for verdict in verdicts:
                case = verdict.case
                if not verdict.ok:
                    print(f"FAIL {case.side} {case.name} {case.row}: expected {verdict.expected}, got {verdict.got}")
                elif options.verbose:
                    print(f"pass {case.side} {case.name} {case.row}: {verdict.got}")
                if options.verbose:
                    print_transcript(verdict)
            for error in dict.fromkeys(errors):
                print(f"ERROR {kind.name}: {error}", file=sys.stderr)
                broken = True
            results[kind.name] = verdicts
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{'proxy':<8} {'cases':>6} {'passed':>7} {'failed request':>15} {'failed response':>16} {'desyncs':>8}")
    for name, verdicts in results.items():
        s = summary(verdicts)
        print(f"{name:<8} {s['cases']:>6} {s['passed']:>7} {s['failed_request']:>15} {s['failed_response']:>16} {s['desyncs']:>8}")
    if options.json:
        with open(options.json, "w") as out:
            json.dump({name: {"summary": summary(v), "cases": [as_json(x) for x in v]} for name, v in results.items()}, out, indent=1)
    if broken:
        return 2
    return 1 if any(not v.ok for v in results.get("pilb", ())) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        os._exit(141)
