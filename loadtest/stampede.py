"""The scenario `stampede` of `loadtest/files`: many clients ask at once for one cold text, compressed. Is it made once?"""
import asyncio
import collections
import hashlib
import tempfile

import measure
from file_peers import pilb
from measure import Failed, serve, stop
from peers import free_ports

REQUEST = b"GET /cold.txt HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\nConnection: close\r\n\r\n"


async def whole(port):
    """The head and a hash of the content of one answer; its chunks put together."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    content = hashlib.blake2b()
    if "transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            content.update((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
    else:
        content.update(await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0])))
    writer.close()
    return head, content.digest()


async def all_at_once(port, clients):
    return await asyncio.gather(*(whole(port) for _ in range(clients)))


def one(site, clients):
    """Seconds, CPU seconds, and answers of so many clients of a server whose cache is empty."""
    with tempfile.TemporaryDirectory(prefix="pilb-load.") as folder:
        port, = free_ports(1)
        process = serve(pilb(folder, port, site), measure.PROXY_CPU, port, folder)
        try:
            meter = measure.Meter(process.pid)
            answers = asyncio.run(asyncio.wait_for(all_at_once(port, clients), 120))
            meter.stop()
            return meter.wall, meter.cpu / 1e9, answers
        finally:
            stop(process)


def kind(head):
    """What an answer says about how it came to be."""
    if " 200 " not in head or "content-encoding: br" not in head:
        return "failed"
    return "joined" if "; collapsed" in head else "made" if "; fwd=miss" in head else "kept" if "; hit" in head else "failed"


def measured(site, clients):
    try:
        _, alone, first = one(site, 1)
        wall, together, answers = one(site, clients)
    except (OSError, EOFError, ValueError, asyncio.TimeoutError) as why:
        raise Failed(f"stampede: {why!r}") from None
    kinds = collections.Counter(kind(head) for head, _ in answers)
    if kinds["failed"] or len({content for _, content in first + answers}) != 1:
        raise Failed(f"stampede: {dict(kinds)}, {len({content for _, content in answers})} different contents")
    return (f"Stampede: {clients} clients ask at once for a text of 8 MiB as br that nobody asked for before: it is made {kinds['made']} time(s), "
            f"{kinds['joined']} wait and stream along, {kinds['kept']} get it from the cache, all within {wall:.2f} s. The server's CPU time is {together:.2f} s; "
            f"with one client alone it is {alone:.2f} s.")
