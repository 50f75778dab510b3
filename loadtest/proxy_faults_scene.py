"""The stage of proxy_faults.py: rules of the packet filter, and a scene on which a fault is played: servers, the proxy before them, and what it was
like at rest."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from cache_faults_tools import Baseline
from proxy_faults_tools import HEALTH, OPTIONS, RINGS, Load, Origin, Proxy, Talk, end_living, next_right


# --- Network -----------------------------------------------------------------------------------------------------------------

class Filter:
    """Rules of the packet filter for what leaves, in a network namespace of our own."""

    @staticmethod
    def missing():
        if "PROXY_FAULTS_INSIDE" not in os.environ:
            return "needs root and a network namespace"
        if not shutil.which("nft"):
            return "needs nft"
        return "" if Filter.run("add table inet faults_probe") and Filter.run("delete table inet faults_probe") else "nft does not work here"

    @staticmethod
    def run(words):
        return subprocess.run(["nft", words], check=False, capture_output=True).returncode == 0

    def __init__(self, *rules):
        self.rules = rules

    def __enter__(self):
        commands = ["add table inet faults", "add chain inet faults out { type filter hook output priority 0; }"]
        commands += [f"add rule inet faults out {rule}" for rule in self.rules]
        if not Filter.run("; ".join(commands)):
            raise RuntimeError(f"nft takes no {self.rules}")
        return self

    def __exit__(self, *_):
        Filter.run("delete table inet faults")


def mount(*words):
    return subprocess.run(["mount", *map(str, words)], check=False, capture_output=True).returncode == 0


# --- Scene -------------------------------------------------------------------------------------------------------------------

class Rest(Baseline):
    """Less than before is as good; some bytes and descriptors are nothing."""

    def look(self, bytes_more=0, fds_more=4):
        return super().look(bytes_more, fds_more)


class Scene:
    """Servers, the proxy before them, and what it was like at rest. As a context it ends them all."""

    def __init__(self, stage, name, options=None, origins=3, servers=None, addresses=(), health=True, **start):
        self.stage, self.folder = stage, stage.folder / name
        self.folder.mkdir(exist_ok=True)
        addresses = addresses or ["127.0.0.1"] * origins
        self.origins = [Origin(self.folder, "abcdef"[n], address) for n, address in enumerate(addresses)]
        for origin in self.origins:
            origin.start(wait=False)
        for origin in self.origins:
            origin.wait()
        log = (options or {}).pop("log", "register.log")
        has = {name: value for name, value in (HEALTH if health else {}).items() if name in stage.flags}
        self.options = OPTIONS | has | ({"--upstream-idle-timeout": "400ms"} if stage.quick else {}) | (options or {})
        self.proxy = Proxy(stage.program, self.folder, servers or self.origins, self.options, log)
        stage.scenes.append(self)
        self.base = None
        self.proxy.start(**start)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(f"{'alive' if self.proxy.alive() else 'GONE'}: {self.proxy.said()[-1500:]}", file=sys.stderr)
        self.end()

    def end(self):
        end_living()
        for origin in self.origins:
            origin.kill()
        if self.proxy.process:
            with contextlib.suppress(OSError):
                self.proxy.process.send_signal(signal.SIGCONT)
            self.proxy.stop()
        if self in self.stage.scenes:
            self.stage.scenes.remove(self)

    @property
    def port(self):
        return self.proxy.port

    def load(self, rate=None, **more):
        return Load(self.port, rate or (200 if self.stage.quick else 500), **more)

    def warm(self, seconds=None):
        """The same load as later, so that memory is what it takes; at rest again."""
        with self.load() as load:
            self.fill_rings()
            client = Talk(self.port)
            client.request("GET", "/big/3000000")
            client.big(3_000_000)
            client.close()
            time.sleep(seconds or (0.3 if self.stage.quick else 3))
        if not load.good():
            raise RuntimeError(f"without a fault: {load.figures()}")
        self.base = Rest(self.proxy, 1 if self.stage.quick else 2)
        return self

    def fill_rings(self):
        """Requests that the proxy answers by itself."""
        # Few at a time, as some proxies here have room for few, and not so fast that a ring would be full.
        for _ in range(5):
            clients = [Talk(self.port) for _ in range(8)]
            for _ in range(RINGS // 40 // 50):
                for client in clients:
                    client.socket.sendall(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n" * 50)
                for client in clients:
                    for _ in range(50):
                        client.answer()
            for client in clients:
                client.close()

    def rest(self):
        """Is all back to what it was, and the next request right?"""
        text_, good = self.base.check(1.2 if self.stage.quick else 5)
        if good and not next_right(self.port):
            text_, good = text_ + ", THE NEXT REQUEST FAILS", False
        if self.proxy.said("panicked"):
            text_, good = text_ + ", PANICKED", False
        return text_, good

    def tell(self, row, what, figure, good):
        self.stage.tell(row, what, figure, good, self.rest())

    def peak(self):
        return Peak(self.proxy)


class Peak:
    """The most memory and descriptors, and the CPU time, while it is a context."""

    def __init__(self, proxy):
        self.proxy, self.going = proxy, True
        self.rss = self.fds = 0

    def __enter__(self):
        self.before, self.cpu, self.begun = self.proxy.memory(), self.proxy.cpu(), time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self):
        while self.going:
            with contextlib.suppress(OSError):
                self.rss, self.fds = max(self.rss, self.proxy.memory()), max(self.fds, self.proxy.descriptors())
            time.sleep(0.05)

    def __exit__(self, *_):
        self.going = False
        self.thread.join()
        self.cpu = (self.proxy.cpu() - self.cpu) / (time.monotonic() - self.begun)

    @property
    def growth(self):
        """In MB."""
        return max(0, self.rss - self.before) / 1e6


