"""How `loadtest/run` and `loadtest/files` measure: processes on their own CPUs, load generators, CPU time and memory from /proc, and what machine it was.

Every generator gives the same figures: requests, req/s (rps), latencies in ms (p50, p99, p999, max), the proxy's CPU time per request in
us (cpu) and its share of a CPU (busy), its memory in KiB (memory), failed requests (errors) and what they were (detail); some also how
many connections the origins got, and the bytes of an answer (bytes). Where files are served, the server stands where the proxy stands.
"""
import json
import os
import platform
import re
import signal
import socket
import subprocess
import time

from peers import HERE, built, which, write

CPUS = sorted(os.sched_getaffinity(0))
PROXY_CPU, LOAD_CPU = CPUS[0], CPUS[1 % len(CPUS)]
NAN = float("nan")


class Failed(Exception):
    """A program did not do what it should; the text says which and what."""


# --- Processes ---------------------------------------------------------------------------------------------------------------

def start(command, cpu, **streams):
    return subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {cpu}), **({"stdin": subprocess.DEVNULL} | streams))


def serve(command, cpu, port, folder):
    """Starts a server and waits until it listens."""
    with open(os.path.join(folder, "output"), "ab") as sink:
        process = start(command, cpu, stdout=sink, stderr=sink)
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.3).close()
            return process
        except OSError:
            time.sleep(0.02)
    stop(process)
    with open(os.path.join(folder, "output"), errors="replace") as f:
        raise Failed(f"{os.path.basename(command[0])} does not listen: {f.read().strip()[-300:]}")


def family(pid):
    """The process and all that descend from it."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as f:
                children.setdefault(int(f.read().rsplit(")", 1)[1].split()[1]), []).append(int(entry))
        except OSError:
            pass
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def stop(process):
    for pid in reversed(family(process.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    process.wait()


def cpu_ns(pid):
    """CPU time of all threads of the process and its children, a log writer's included."""
    total = 0
    for member in family(pid):
        try:
            for task in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
        except OSError:
            pass
    return total


def memory_kib(pid):
    total = 0
    for member in family(pid):
        try:
            with open(f"/proc/{member}/smaps_rollup") as f:
                total += int(re.search(r"Pss:\s+(\d+)", f.read()).group(1))
        except (OSError, AttributeError):
            pass
    return total


class Meter:
    """The proxy's CPU time between two moments."""

    def __init__(self, pid):
        self.pid, self.cpu, self.wall = pid, cpu_ns(pid), time.monotonic()

    def stop(self):
        self.cpu, self.wall = cpu_ns(self.pid) - self.cpu, time.monotonic() - self.wall
        return self

    def per(self, requests):
        return {"cpu": self.cpu / 1e3 / max(requests, 1), "busy": self.cpu / 1e9 / self.wall}


# --- Generators --------------------------------------------------------------------------------------------------------------

def lean(s, pid, port, origins, secs, warm, folder):
    """lean_load, which plays the origins as well."""
    return lean_load([port, ",".join(map(str, origins)), s.conns, secs, s.size, warm, s.rate], pid)


def lean_requests(conns, requests, status, pid, port, secs, warm, folder):
    """lean_load with these requests, one after the other and again from the first, for a server that should answer with `status`."""
    return lean_load([port, "-", conns, secs, 0, warm, 0, write(folder, "requests", requests), status], pid)


def lean_load(arguments, pid):
    command = [built("lean_load"), *arguments]
    load = start([str(part) for part in command], LOAD_CPU, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        first = load.stderr.readline()
        meter = Meter(pid)
        if first.strip() != "START" or load.stderr.readline().strip() != "END":
            raise Failed(f"lean_load: {first}{load.stderr.read()}")
        meter.stop()
        memory = memory_kib(pid)
        words = load.communicate()[0].split()
    finally:
        stop(load)
    requests, rps, p50, p99, p999, longest, errors, connections, _, size = map(int, words)
    return {"requests": requests, "rps": rps, "p50": p50 / 1e3, "p99": p99 / 1e3, "p999": p999 / 1e3, "max": longest / 1e3,
            **meter.per(requests), "memory": memory, "errors": errors, "detail": "", "connections": connections, "bytes": size}


def to_ms(text):
    number, unit = re.match(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def run_wrk(s, port, secs, folder):
    script = [f'wrk.method = "POST"\nwrk.body = string.rep("x", {s.post})\n'] if s.post else []
    script += ['wrk.headers["Connection"] = "close"\n'] if s.close else []
    command = [which("wrk"), "-t1", f"-c{s.conns}", f"-d{secs}s", "--latency", "--timeout", "10s"]
    command += ["-s", write(folder, "wrk.lua", "".join(script))] if script else []
    load = start([*command, f"http://127.0.0.1:{port}/{s.size}"], LOAD_CPU, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return load.communicate()[0]


def wrk(s, pid, port, origins, secs, warm, folder):
    run_wrk(s, port, 1, folder)
    meter = Meter(pid)
    out = run_wrk(s, port, secs, folder)
    meter.stop()
    found = re.search(r"(\d+) requests in", out)
    if not found:
        raise Failed(f"wrk: {out}")
    requests = int(found.group(1))
    failures = {kind: int(n) for kind, n in re.findall(r"(connect|read|write|timeout) (\d+)", out) if int(n)}
    failures |= {"not 2xx": int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out)}
    latency = dict(re.findall(r"(50|99)%\s+(\S+)", out))
    longest = re.search(r"Latency\s+\S+\s+\S+\s+(\S+)", out)
    return {"requests": requests, "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50": to_ms(latency["50"]), "p99": to_ms(latency["99"]), "p999": NAN, "max": to_ms(longest.group(1)), **meter.per(requests),
            "memory": memory_kib(pid), "errors": sum(failures.values()), "detail": ", ".join(f"{n} {kind}" for kind, n in failures.items())}


def oha(s, pid, port, origins, secs, warm, folder):
    """oha at a fixed rate, with its own correction for coordinated omission."""
    command = [which("oha"), "--no-tui", "--output-format", "json", "--latency-correction", "-c", str(s.conns), "-q", str(s.rate)]
    ask = lambda seconds: start([*command, "-z", f"{seconds}s", f"http://127.0.0.1:{port}/{s.size}"], LOAD_CPU,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).communicate()
    ask(warm)
    meter = Meter(pid)
    out, complaint = ask(secs)
    meter.stop()
    try:
        result = json.loads(out)
    except ValueError:
        raise Failed(f"oha: {complaint}{out[:300]}") from None
    statuses = result["statusCodeDistribution"]
    requests = sum(statuses.values())
    failures = {f"status {status}": n for status, n in statuses.items() if status != "200"}
    # What is under way when the time is over is given up, and no failure of the proxy's.
    failures |= {why: n for why, n in result["errorDistribution"].items() if why != "aborted due to deadline"}
    percentile = lambda p: (result["latencyPercentiles"].get(p) or NAN) * 1e3
    return {"requests": requests, "rps": requests / result["summary"]["total"], "p50": percentile("p50"), "p99": percentile("p99"),
            "p999": percentile("p99.9"), "max": (result["summary"]["slowest"] or NAN) * 1e3, **meter.per(requests),
            "memory": memory_kib(pid), "errors": sum(failures.values()), "detail": ", ".join(f"{n} {why}" for why, n in failures.items())}


# --- The machine -------------------------------------------------------------------------------------------------------------

def said(*command, line=0):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=10)
        return done.stdout.strip().splitlines()[line].strip()
    except (OSError, IndexError, TypeError, subprocess.TimeoutExpired):
        return None


def machine(pilb, *others):
    """What the figures depend on, one line each: the machine, the program of ours, and the `others`, commands that tell a version."""
    with open("/proc/cpuinfo") as f:
        cpu = f.read()
    model = re.search(r"model name\s*:\s*(.*)", cpu)
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) >> 20
    git = lambda *words: said("git", "-C", HERE, *words)
    root = os.path.dirname(HERE)
    changed = " with changes" if git("status", "--porcelain", "--", f"{root}/src", f"{root}/Cargo.toml", f"{root}/Cargo.lock") else ""
    programs = [(said(pilb, "--version"), f"git {git('rev-parse', '--short=10', 'HEAD')}{changed}"),
                *((said(which(name), *options), "") for name, *options in others)]
    tidy = lambda text: re.sub(r"nginx version: | \[epoll\].*| - https.*| 20\d\d/\d\d/\d\d", "", text)
    return [f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} CPUs, {memory} GiB, Linux {platform.release()}"
            + (", a virtual machine" if " hypervisor" in cpu else ""),
            *(tidy(text) + (f" ({note})" if note else "") for text, note in programs if text)]


def time_spent():
    """CPU seconds of the machine so far: (all there were, spent by others than this program and its children, or given to other machines)."""
    with open("/proc/stat") as f:
        user, nice, system, idle, waiting, irq, softirq, stolen = (int(n) / os.sysconf("SC_CLK_TCK") for n in f.readline().split()[1:9])
    spent = user + nice + system + irq + softirq + stolen
    return spent + idle + waiting, spent - sum(os.times()[:4])
