#!/usr/bin/env python3
"""Compare how pilb-origin, nginx and Apache serve the same files: conditions, ranges, codings.

The three serve one document root, each on a port and with a folder of its own. The requests of compare_files_requests.py go to
each, with its own validators put in. What is compared of an answer: its status, which bytes of the file it carries (every byte of
a 200 or 206 is checked, of each part of a multipart/byteranges too), Content-Range, Location, Allow, Content-Encoding and the
fields a request asks about; not the text of error pages. Prints a Markdown table. Where pilb-origin's answer is not that of both
others, a reason is printed, which names the RFC's section.
"""
import argparse
import dataclasses
import datetime
import email.utils
import gzip
import http.client
import os
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import compare_files_requests
from compare_files_requests import REASONS, REQUESTS

HERE = pathlib.Path(__file__).resolve().parent
MODIFIED = 1767323045      # 2 January 2026, 03:04:05 UTC: of every file, long enough ago to be a strong validator
EXAMPLES = """examples:
  compare_files.py                              target/release/pilb-origin beside Debian's nginx and Apache (apache2-bin)
  compare_files.py --pilb target/debug/pilb-origin --only range
                                                a debug build, requests with "range" in their name
  compare_files.py --differing                  only the rows in which pilb differs from one of the others

exit status: 0 every difference has a reason; 1 one has none, or a server sent wrong bytes; 2 a server is missing or does not start
"""


# --- The document root -------------------------------------------------------------------------------------------------------

def make_root(root):
    """The files by their paths; the coded ones by path and coding."""
    text = b"The quick brown fox jumps over the lazy dog.\n"
    packed = text * 200
    files = {
        "/hello.txt": text,
        "/data.bin": random.Random(1).randbytes(100 * 1024),
        "/empty.txt": b"",
        "/with/index.html": b"<!doctype html><title>with</title><p>A folder with an index.\n",
        "/without/a.txt": b"a\n",
        "/packed.txt": packed,
        "/packed.txt.gz": gzip.compress(packed, mtime=0),
    }
    for path, content in files.items():
        file = root / path[1:]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (MODIFIED, MODIFIED))
    for folder in (root, *root.iterdir()):
        if folder.is_dir():
            folder.chmod(0o755)
    return files


def content_of(files, path, coding):
    """The bytes that an answer's body is made of, or None."""
    path = path.partition("?")[0]
    path += "index.html" if path.endswith("/") else ""
    if coding in ("gzip", "x-gzip"):
        return files.get(path + ".gz")
    return files.get(path) if coding is None else None


# --- The servers -------------------------------------------------------------------------------------------------------------

class Missing(Exception):
    """A server is not installed or does not start."""


def nginx(folder, root, port):
    temp = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ }}
http {{ access_log off; {temp} types {{ text/plain txt; text/html html; }} default_type application/octet-stream;
 server {{ listen 127.0.0.1:{port}; root {root}; index index.html; absolute_redirect off; gzip_static on; gzip_vary on; }} }}
""")
    return [which("nginx"), "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "errors"]


def apache(folder, root, port):
    modules = pathlib.Path("/usr/lib/apache2/modules")
    names = ("mpm_event", "authz_core", "dir", "mime", "rewrite", "headers", "env", "setenvif")
    load = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in names)
    # How Apache's manual serves files that were compressed beforehand (mod_deflate, "Serving pre-compressed content").
    (folder / "apache.conf").write_text(f"""{load}ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/errors
Mutex file:{folder}
User nobody
Group nogroup
DocumentRoot {root}
DirectoryIndex index.html
TypesConfig /dev/null
AddType text/plain .txt
AddType text/html .html
<Directory {root}>
 Require all granted
</Directory>
RewriteEngine on
RewriteCond "%{{HTTP:Accept-encoding}}" "gzip"
RewriteCond "%{{DOCUMENT_ROOT}}%{{REQUEST_FILENAME}}\\.gz" "-s"
RewriteRule "^(.*)\\.txt" "$1\\.txt\\.gz" [QSA]
RewriteRule "\\.txt\\.gz$" "-" [T=text/plain,E=no-gzip:1]
<FilesMatch "\\.txt\\.gz$">
 Header append Content-Encoding gzip
 Header append Vary Accept-Encoding
</FilesMatch>
""")
    return [which("apache2"), "-X", "-d", folder, "-f", folder / "apache.conf"]


def pilb(binary):
    def command(folder, root, port):
        binary_found = which(binary)
        known = subprocess.run([binary_found, "--help"], capture_output=True, text=True, check=False).stdout
        cache = ["--cache-dir", folder / "cache"] if "--cache-dir" in known else []
        return [binary_found, "--listen", f"127.0.0.1:{port}", "--root", root, "--workers", "1", *cache]
    return command


def which(name):
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not found:
        raise Missing(f"{name} is not installed")
    return found


class Server:
    """A server that runs until `end`."""

    def __init__(self, name, command, folder, root):
        self.name, self.folder = name, folder
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        argv = [str(word) for word in command(folder, root, self.port)]
        with open(folder / "said", "wb") as said:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=folder)

    def wait(self):
        until = time.monotonic() + 10
        while time.monotonic() < until and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        said = "".join((self.folder / file).read_text(errors="replace") for file in ("said", "errors")
                       if (self.folder / file).exists())
        raise Missing(f"{self.name} does not start: {said.strip()}")

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# --- One exchange ------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Answer:
    status: int
    fields: http.client.HTTPMessage
    body: bytes

    def get(self, name):
        return self.fields.get(name)


def ask(server, request, fields):
    """The answer, on a connection of its own; None if there was none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    if request.version == "HTTP/1.0":
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
    try:
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value)
        if request.body:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.putheader("Connection", "close")
        connection.endheaders(request.body or None)
        response = connection.getresponse()
        return Answer(response.status, response.msg, response.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def validators(server, path, coded, known):
    """The words that a request's fields may hold, from the server's own answer to a plain GET."""
    if (path, coded) not in known:
        fields = [("Accept-Encoding", "gzip")] if coded else []
        answer = ask(server, compare_files_requests.get("", path), fields)
        tag, modified = answer and answer.get("ETag"), answer and answer.get("Last-Modified")
        known[path, coded] = words(tag or '"none"', modified or email.utils.formatdate(MODIFIED, usegmt=True))
    return known[path, coded]


def words(tag, modified):
    moment = email.utils.parsedate_to_datetime(modified)
    second = datetime.timedelta(seconds=1)
    return {
        "etag": tag,
        "weak": tag.removeprefix("W/"),
        "modified": modified,
        "before": email.utils.format_datetime(moment - second, usegmt=True),
        "after": email.utils.format_datetime(moment + second, usegmt=True),
        "rfc850": moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        "asctime": f"{moment:%a %b} {moment.day:2} {moment:%H:%M:%S %Y}",
    }


# --- What an answer says -----------------------------------------------------------------------------------------------------

def described(request, answer, files):
    """The answer in a few words that two servers with the same behaviour share. "WRONG" in them is a fault."""
    if answer is None:
        return "no answer"
    said = [str(answer.status)]
    coding = answer.get("Content-Encoding")
    content = content_of(files, request.path, coding)
    if coding:
        said.append(coding)
    if answer.status == 206:
        said.append(parts(request, answer, content))
    elif answer.status == 200 and request.method == "OPTIONS":
        pass
    elif answer.status == 200:
        said.append(whole(request, answer, content, files))
    elif answer.get("Content-Range"):
        said.append(answer.get("Content-Range").removeprefix("bytes "))
    if answer.get("Location"):
        said.append(re.sub(r"^http://[^/]*", "", answer.get("Location")))
    if answer.get("Allow"):
        said.append("Allow: " + ", ".join(sorted(set(re.split(r"[,\s]+", answer.get("Allow"))))))
    if request.show:
        said.append("with " + (", ".join(name for name in request.show if answer.get(name)) or "none"))
    if answer.body and (request.method == "HEAD" or answer.status in (204, 304)):
        said.append("WRONG: a body")
    return " ".join(said)


def whole(request, answer, content, files):
    if request.method == "HEAD":
        length = answer.get("Content-Length")
        right = length is None or (content is not None and length == str(len(content)))
        return "head of the whole" if right else f"WRONG: Content-Length {length}"
    plain = content_of(files, request.path, None)
    if answer.body == content or (plain is not None and decoded(answer) == plain):
        return "whole"
    return f"WRONG: {len(answer.body)} other bytes"


def decoded(answer):
    """What was coded by the server itself; None if it cannot be read back."""
    coding = answer.get("Content-Encoding")
    tool = {"gzip": "gzip", "zstd": "zstd", "br": "brotli"}.get(coding)
    if tool is None:
        return None
    done = subprocess.run([which(tool), "-dc"], input=answer.body, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def parts(request, answer, content):
    """The ranges that a 206 carries, after every byte of them was compared."""
    kind = answer.get("Content-Type") or ""
    boundary = re.fullmatch(r'multipart/byteranges; ?boundary="?([^"]+)"?', kind)
    if boundary is None:
        pieces = [(answer.get("Content-Range"), answer.body)]
    else:
        pieces = multipart(answer.body, boundary[1])
        if pieces is None or answer.get("Content-Range"):
            return "WRONG: malformed multipart"
    shown = []
    for content_range, body in pieces:
        numbers = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range or "")
        if numbers is None or content is None:
            return f"WRONG: Content-Range {content_range}"
        first, last, length = map(int, numbers.groups())
        bytes_right = request.method == "HEAD" or body == content[first:last + 1]
        if length != len(content) or not first <= last < length or not bytes_right:
            return f"WRONG: {len(body)} bytes as {content_range}"
        shown.append(f"{first}-{last}")
    if len(shown) > 4:
        shown = [*shown[:2], "...", shown[-1], f"({len(shown)} parts)"]
    return ("multipart " if boundary else "") + ", ".join(shown)


def multipart(body, boundary):
    """(Content-Range, bytes) of each part, read strictly; None if the body is no multipart."""
    pieces, rest = [], body
    delimiter = b"\r\n--" + boundary.encode()
    if not rest.startswith(b"\r\n"):
        rest = b"\r\n" + rest
    while not rest.startswith(delimiter + b"--"):
        head, _, after = rest.partition(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-range: *(bytes (\d+)-(\d+)/\d+)(?:\r\n|$)", head, re.IGNORECASE)
        if not head.startswith(delimiter + b"\r\n") or found is None:
            return None
        length = int(found[3]) - int(found[2]) + 1
        pieces.append((found[1].decode(), after[:length]))
        rest = after[length:]
    return pieces if rest in (delimiter + b"--\r\n", delimiter + b"--") else None


# --- The comparison ----------------------------------------------------------------------------------------------------------

def compare(servers, files, only, differing):
    """Prints the table and the reasons; tells whether all is well."""
    print("| # | request | " + " | ".join(server.name for server in servers) + " | |\n|--:|---|" + "---|" * (len(servers) + 1))
    known = {server.name: {} for server in servers}
    faults, reasons, total = [], [], 0
    for request in REQUESTS:
        if only not in request.name:
            continue
        total += 1
        cells = []
        for server in servers:
            own = validators(server, request.path, request.coded, known[server.name])
            fields = [(name, value.format(**own)) for name, value in request.fields]
            cells.append(described(request, ask(server, request, fields), files))
        faults += [f"{request.name}: {server.name}: {cell}" for server, cell in zip(servers, cells) if "WRONG" in cell]
        mark = judged(request, cells, faults, reasons)
        if mark or not differing:
            print(f"| {total} | {request.name} | " + " | ".join(cells) + f" | {mark} |")
    for number, why in enumerate(reasons, 1):
        print(f"\n[{number}] {why}")
    equal = total - sum(1 for request in REQUESTS if only in request.name and request.name in REASONS)
    print(f"\n{total} requests, {equal} answered as nginx and Apache both do, the rest for {len(reasons)} reasons."
          if not faults else "\n" + "\n".join(faults), file=sys.stdout if not faults else sys.stderr)
    return not faults


def judged(request, cells, faults, reasons):
    """What stands in the last column."""
    reason = REASONS.get(request.name)
    mine, others = cells[0], cells[1:]
    if all(mine == other for other in others):
        if reason:
            faults.append(f"{request.name}: all are the same: the reason is not needed")
        return ""
    if reason is None or reason.pilb != mine:
        faults.append(f"{request.name}: {mine}, without a reason (others: {' / '.join(others)})")
        return "?"
    if reason.why not in reasons:
        reasons.append(reason.why)
    return f"[{reasons.index(reason.why) + 1}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilb", default=str(HERE.parent / "target/release/pilb-origin"), help="the binary (%(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="requests with this in their name")
    parser.add_argument("--differing", action="store_true", help="leave out rows in which all three are the same")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compare-files-") as temporary:
        top = pathlib.Path(temporary)
        top.chmod(0o755)
        root = top / "root"
        root.mkdir()
        files = make_root(root)
        servers = []
        try:
            for name, command in (("pilb", pilb(os.path.abspath(arguments.pilb))), ("nginx", nginx), ("Apache", apache)):
                servers.append(Server(name, command, top / name, root))
            for server in servers:
                server.wait()
            return 0 if compare(servers, files, arguments.only, arguments.differing) else 1
        except Missing as missing:
            print(f"compare_files.py: {missing}", file=sys.stderr)
            return 2
        finally:
            for server in servers:
                server.end()


if __name__ == "__main__":
    sys.exit(main())
