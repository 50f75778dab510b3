"""The file servers that `loadtest/files` compares, the site that all of them serve, and a look at what they answer."""
import dataclasses
import gzip
import http.client
import os
import random
import resource
import subprocess

from peers import BUILT, TARGET, built, which, write

PILB = os.environ.get("PILB_ORIGIN", os.path.join(TARGET, "release", "pilb-origin"))
# Another pilb-origin, to see what a change is worth.
BEFORE = os.environ.get("PILB_ORIGIN_BEFORE", "")
SIZES = (1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20)
MANY = 10_000


# --- The site ----------------------------------------------------------------------------------------------------------------

def words(size, seed=1):
    """Text that compresses about as prose does."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 9))) for _ in range(4000)]
    weights = [1 / rank for rank in range(1, len(known) + 1)]
    return " ".join(draw.choices(known, weights, k=size // 4)).encode()[:size]


def make_site(folder, many):
    """Files named by their sizes, texts, a folder to list, and the same once more with a compressed file beside the text."""
    folders = [os.path.join(folder, name) for name in ("site", "site/list", "site/many", "beside")]
    for path in folders:
        os.makedirs(path)
        os.chmod(path, 0o755)
    site, listed, small, beside = folders
    save = lambda path, name, content: open(os.path.join(path, name), "wb").write(content)
    noise = random.Random(2).randbytes(max(SIZES))
    for size in SIZES:
        save(site, str(size), noise[:size])
    for number in range(100):
        save(listed, f"chapter-{number:03}.html", noise[:100 + number])
    for number in range(MANY if many else 0):
        save(small, f"{number:04}", noise[number:number + (4 << 10)])
    text = words(64 << 10)
    save(site, "words.txt", text)
    save(site, "cold.txt", words(8 << 20, 3))
    save(beside, "words.txt", text)
    save(beside, "words.txt.gz", gzip.compress(text, 9))
    return site


# --- The servers -------------------------------------------------------------------------------------------------------------

def floor(folder, port, site):
    return [built("lean_origin"), str(port)]


def pilb(folder, port, site, program=PILB):
    return [program, "--listen", f"127.0.0.1:{port}", "--root", site, "--listing", "--workers", "1", "--access-log", "off",
            "--cache-dir", os.path.join(folder, "cache")]


def pilb_before(folder, port, site):
    return pilb(folder, port, site, BEFORE)


def nginx(folder, port, site, root=None, gzip="gzip on; gzip_types text/plain;"):
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    temp = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf = write(folder, "nginx.conf", f"""daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
worker_rlimit_nofile {files};
events {{ worker_connections 4000; multi_accept on; }}
http {{ access_log off; {temp} keepalive_requests 100000000; keepalive_timeout 300s; types {{ text/plain txt; text/html html; }}
 sendfile on; tcp_nopush on; open_file_cache max={min(20000, files // 2)} inactive=60s; log_not_found off; {gzip}
 server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ root {root or site}; autoindex on; }} }} }}""")
    return [which("nginx"), "-c", conf, "-p", folder]


def nginx_static(folder, port, site):
    return nginx(folder, port, site, os.path.join(os.path.dirname(site), "beside"), "gzip_static on;")


def h2o(folder, port, site):
    conf = write(folder, "h2o.yaml", f"""num-threads: 1
max-connections: 9000
error-log: {folder}/h2o.err
http1-request-timeout: 300
gzip: ON
file.dirlisting: ON
hosts:
  default:
    listen: {{host: 127.0.0.1, port: {port}}}
    paths:
      "/":
        file.dir: {site}
""")
    return [which("h2o"), "-c", conf]


# Each gives the command line, from the folder for its files, the port to listen on, and the site. The pilb-… are the same program
# asked for something else.
SERVERS = {"floor": floor, "pilb": pilb, "nginx": nginx, "nginx-static": nginx_static, "h2o": h2o,
           "pilb-plain": pilb, "pilb-same": pilb, "pilb-before": pilb_before}


def program(peer):
    """What must be there for it to run, or None if it is not."""
    if peer == "floor":
        return which("gcc") or (os.path.join(BUILT, "lean_origin") if os.path.exists(os.path.join(BUILT, "lean_origin")) else None)
    if peer == "pilb-before":
        return BEFORE if os.path.exists(BEFORE) else None
    if peer.startswith("pilb"):
        return PILB if os.path.exists(PILB) else None
    return which(peer.removesuffix("-static"))


# --- What they answer --------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    fields: http.client.HTTPMessage
    body: bytes

    def decoded(self):
        """The content without its coding; None where this program cannot take it off."""
        coding = self.fields.get("Content-Encoding", "identity")
        if coding == "zstd":
            done = subprocess.run(["zstd", "-dc"], input=self.body, stdout=subprocess.PIPE) if which("zstd") else None
            return done.stdout if done else None
        return {"identity": lambda body: body, "gzip": gzip.decompress}.get(coding, lambda _: None)(self.body)


def ask(port, path, fields=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "identity"} | dict(fields))
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()
