"""The proxies that `loadtest/run` compares: how each is configured and started. One worker each, the same work, connections kept on both
sides, and each as its documentation would have it for this work.
"""
import os
import shutil
import socket
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(os.path.dirname(HERE), "target"))
BUILT = os.path.join(TARGET, "loadtest")
PILB = os.environ.get("PILB", os.path.join(TARGET, "release", "pilb-fast"))


def which(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:" + os.path.expanduser("~/.cargo/bin"))


def built(name):
    """The C program beside this file, compiled if it has changed."""
    source, program = os.path.join(HERE, name + ".c"), os.path.join(BUILT, name)
    if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
        os.makedirs(BUILT, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source], check=True)
    return program


def free_ports(n):
    """Ports that are free now, all different: all are held until the last one is found."""
    held = [socket.socket() for _ in range(n)]
    try:
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def floor(folder, port, origins, log):
    return [built("floor"), str(port), *map(str, origins)]


def pilb(folder, port, origins, log):
    servers = ",".join(f"127.0.0.1:{o}" for o in origins)
    return [PILB, "--listen", f"127.0.0.1:{port}", "--upstream", servers, "--workers", "1",
            "--access-log", f"{folder}/register.log" if log else "off"]


def nginx(folder, port, origins, log):
    access = f"access_log {folder}/nginx.log combined buffer=64k flush=1s;" if log else "access_log off;"
    temp = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    servers = "".join(f"server 127.0.0.1:{o};" for o in origins)
    # Bodies are streamed in both directions, as the others do it; by default they would pass through files when they are large.
    conf = write(folder, "nginx.conf", f"""daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
worker_rlimit_nofile 20000;
events {{ worker_connections 9000; multi_accept on; }}
http {{ {access} {temp} keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 0;
 upstream u {{ {servers} keepalive 1024; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_request_buffering off; proxy_max_temp_file_size 0; }} }} }}""")
    return [which("nginx"), "-c", conf, "-p", folder]


def haproxy(folder, port, origins, log, options=""):
    servers = "\n".join(f" server s{i} 127.0.0.1:{o}" for i, o in enumerate(origins))
    # Its log goes to a file through stdout: the caller sends that one to the folder.
    logged = " log stdout format raw local0 info\n option httplog\n" if log else ""
    conf = write(folder, "haproxy.conf", f"""global
 nbthread 1
 maxconn 4000
defaults
 mode http
 timeout client 300s
 timeout server 300s
 timeout connect 5s
 timeout http-keep-alive 300s
 http-reuse always
{options}frontend f
 bind 127.0.0.1:{port} backlog 4096
 option forwardfor
{logged} default_backend b
backend b
 balance roundrobin
{servers}
""")
    return [which("haproxy"), "-f", conf]


def haproxy_splice(folder, port, origins, log):
    return haproxy(folder, port, origins, log, " option splice-auto\n option splice-request\n option splice-response\n")


def h2o(folder, port, origins, log):
    access = f"access-log: {folder}/h2o.log\n" if log else ""
    # Its reverse.url takes one address only.
    conf = write(folder, "h2o.yaml", f"""num-threads: 1
max-connections: 9000
{access}error-log: {folder}/h2o.err
proxy.timeout.keepalive: 300000
http1-request-timeout: 300
hosts:
  default:
    listen: {{host: 127.0.0.1, port: {port}}}
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:{origins[0]}/"
""")
    return [which("h2o"), "-c", conf]


# Each gives the command line, from the folder for its files, the port to listen on, the origins' ports, and whether to log.
PEERS = {"floor": floor, "pilb": pilb, "nginx": nginx, "haproxy": haproxy, "haproxy-splice": haproxy_splice, "h2o": h2o}


def program(peer):
    """What must be there for it to run, or None if it is not."""
    if peer == "floor":
        return which("gcc") or (os.path.join(BUILT, "floor") if os.path.exists(os.path.join(BUILT, "floor")) else None)
    if peer == "pilb":
        return PILB if os.path.exists(PILB) else None
    return which(peer.removesuffix("-splice"))
