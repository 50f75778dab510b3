#!/usr/bin/env python3
"""A server for proxy_faults.py: answers whose bytes follow from their path, and every way in which a server goes wrong.

    GET /b/KEY/SIZE       text(KEY, SIZE), with its length       GET /c/KEY/SIZE    the same in chunks
    POST /echo/KEY        the body back                          POST /sink/RATE    read at RATE bytes/s; its length and hash back
    GET /big/SIZE         BLOCK again and again                  GET /trickle/SIZE/RATE   the same at RATE bytes/s
    GET /slow/MS/KEY/SIZE after a while                          GET,POST /once/KEY answers the first of a connection, closes at the second
    GET /bad/KIND         one of BAD                             GET /count         what came so far, as JSON; GET /health  ok

USR1 closes the listener and all connections, USR2 listens again. usage: proxy_faults_origin.py NAME ADDRESS PORT
"""
import asyncio
import collections
import hashlib
import json
import signal
import socket
import struct
import sys

BLOCK = hashlib.shake_128(b"block").digest(1 << 16)
FIELDS = b"HTTP/1.1 200 OK\r\n"
LENGTH, CHUNKED = FIELDS + b"Content-Length: 1000\r\n\r\n", FIELDS + b"Transfer-Encoding: chunked\r\n\r\n"
GO_ON = 200 << 20
# What is sent, and how it goes on: FIN, RST, silence, the next request, or a piece sent again and again.
BAD = {
    "length-fin": (LENGTH + b"only this", "fin"), "length-rst": (LENGTH + b"only this", "rst"),
    "chunked-fin": (CHUNKED + b"9\r\nonly this\r\n", "fin"), "chunked-rst": (CHUNKED + b"9\r\nonly this\r\n", "rst"),
    "in-chunk-fin": (CHUNKED + b"ff\r\nonly this", "fin"), "in-chunk-rst": (CHUNKED + b"ff\r\nonly this", "rst"),
    "in-trailers-fin": (CHUNKED + b"9\r\nonly this\r\n0\r\nX: y", "fin"), "in-trailers-rst": (CHUNKED + b"9\r\nonly this\r\n0\r\nX: y", "rst"),
    "in-head-fin": (b"HTTP/1.1 200 OK\r\nContent-Le", "fin"), "in-head-rst": (b"HTTP/1.1 200 OK\r\nContent-Le", "rst"),
    "nothing-fin": (b"", "fin"), "nothing-rst": (b"", "rst"), "nothing-hang": (b"", "hang"),
    "length-hang": (LENGTH + b"only this", "hang"), "head-hang": (b"HTTP/1.1 200 OK\r\nContent-Le", "hang"),
    "endless-1xx": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 40),
    "endless-100": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 80),
    "endless-fields": (b"HTTP/1.1 200 OK\r\n", b"X-Field: 0123456789\r\n" * 100),
    "endless-line": (b"HTTP/1.1 200 OK\r\nX-Field: ", b"0123456789" * 400),
    "endless-status": (b"HTTP/1.1 200 ", b"O" * 4000), "endless-crlf": (b"", b"\r\n" * 2000),
    "endless-trailers": (CHUNKED + b"2\r\nok\r\n0\r\n", b"X-Trailer: 0123456789\r\n" * 100),
    "endless-extension": (CHUNKED + b"2;x=", b"0123456789" * 400), "endless-chunk-size": (CHUNKED, b"0" * 4000),
    "two-lengths": (FIELDS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "fin"), "minus": (FIELDS + b"Content-Length: -2\r\n\r\nok", "fin"),
    "both": (FIELDS + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "fin"),
    "huge-length": (FIELDS + b"Content-Length: 99999999999999999999999\r\n\r\nok", "fin"),
    "huge-chunk": (CHUNKED + b"fffffffffffffffff\r\nok", "fin"), "no-hex": (CHUNKED + b"xyz\r\nok\r\n0\r\n\r\n", "fin"),
    "garbage": (hashlib.shake_128(b"garbage").digest(5000), "fin"), "words": (b"hello there\r\n\r\n", "fin"),
    # Right answers with something behind them: they are to arrive, and what is behind them nowhere.
    "after-length": (FIELDS + b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "next"),
    "after-chunked": (CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "next"),
    "after-garbage": (FIELDS + b"Content-Length: 2\r\n\r\nok" + b"\0" * 5000, "next"),
}


def text(key, size):
    return hashlib.shake_128(key.encode()).hexdigest(size // 2 + 1)[:size].encode()


class Gone(Exception):
    """The connection is of no more use."""


class Origin:
    def __init__(self, name, address, port):
        self.name, self.address, self.port = name, address, port
        self.count, self.open, self.server = collections.Counter(), set(), None

    async def listen(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.address, self.port))
        self.server = await asyncio.start_server(self.serve, sock=listener, backlog=4096, limit=1 << 17)

    def shut(self):
        if self.server:
            self.server.close()
            self.server = None
        for writer in list(self.open):
            writer.transport.abort()

    async def serve(self, reader, writer):
        self.count["connections"] += 1
        self.open.add(writer)
        nth = 0
        try:
            while True:
                await self.one(reader, writer, nth)
                nth += 1
        except (Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def one(self, reader, writer, nth):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        # Paths are in lower case.
        method, path, _ = head[0].split(" ")
        kind, *words = path[1:].split("/")
        self.count["requests"] += 1
        self.count[f"{method} {path}" if kind in ("once", "echo") and "seen" in path else kind] += 1
        if kind == "sink":
            return await self.sink(reader, writer, int(words[0]), fields)
        body = await self.body(reader, fields)
        if kind == "once" and nth:
            raise Gone
        if kind in ("b", "c", "once"):
            answer = text(words[0], int(words[1])) if len(words) > 1 else body
        elif kind == "slow":
            self.count["slow now"] += 1
            try:
                await asyncio.wait_for(reader.read(1), int(words[0]) / 1000)
                self.count["cancelled"] += 1
                raise Gone
            except asyncio.TimeoutError:
                answer = text(words[1], int(words[2]))
            finally:
                self.count["slow now"] -= 1
        elif kind in ("big", "trickle"):
            return await self.pour(writer, int(words[0]), int(words[1]) if kind == "trickle" else 0)
        elif kind == "bad":
            return await self.bad(writer, *BAD[words[0]])
        else:
            answer = {"echo": lambda: body, "health": lambda: b"ok", "count": lambda: json.dumps({**self.count, "open": len(self.open)}).encode()}[kind]()
        await self.send(writer, answer, kind == "c")

    async def body(self, reader, fields):
        if "chunked" not in fields.get("transfer-encoding", ""):
            return await reader.readexactly(int(fields.get("content-length", 0)))
        pieces = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(pieces)

    async def send(self, writer, answer, chunked=False):
        start = f"HTTP/1.1 200 OK\r\nX-Server: {self.name}\r\n".encode()
        if chunked:
            middle = len(answer) // 2 or len(answer)
            parts = [part for part in (answer[:middle], answer[middle:]) if part]
            answer = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
            writer.write(start + b"Transfer-Encoding: chunked\r\n\r\n" + answer)
        else:
            writer.write(start + b"Content-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()

    async def sink(self, reader, writer, rate, fields):
        left, digest, piece = int(fields["content-length"]), hashlib.sha256(), 1 << 16
        writer.transport.set_write_buffer_limits(0)
        while left:
            data = await reader.read(min(left, piece))
            if not data:
                raise Gone
            left -= len(data)
            digest.update(data)
            self.count["sunk"] += len(data)
            if rate:
                await asyncio.sleep(len(data) / rate)
        await self.send(writer, digest.hexdigest().encode())

    async def pour(self, writer, size, rate):
        writer.transport.set_write_buffer_limits(1 << 17)
        writer.write(b"HTTP/1.1 200 OK\r\nX-Server: %s\r\nContent-Length: %d\r\n\r\n" % (self.name.encode(), size))
        piece = min(len(BLOCK), max(1, rate // 10)) if rate else len(BLOCK)
        sent = 0
        while sent < size:
            at = sent % len(BLOCK)
            data = BLOCK[at:at + min(piece, size - sent)]
            writer.write(data)
            await writer.drain()
            sent += len(data)
            self.count["poured"] += len(data)
            if rate:
                await asyncio.sleep(len(data) / rate)

    async def bad(self, writer, first, then):
        writer.write(first)
        await writer.drain()
        if isinstance(then, bytes):
            for _ in range(GO_ON // len(then)):
                writer.write(then)
                await writer.drain()
                self.count["endless"] += len(then)
        elif then == "hang":
            await asyncio.sleep(60)
        elif then == "next":
            return
        elif then == "rst":
            # What came before it shall arrive.
            await asyncio.sleep(0.05)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        raise Gone


async def main():
    origin = Origin(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, origin.shut)
    loop.add_signal_handler(signal.SIGUSR2, lambda: asyncio.ensure_future(origin.listen()))
    await origin.listen()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
