#!/usr/bin/env python3
"""What it costs to serve a file, beside nginx and darkhttpd: benches/files/run.py [ROUNDS [SECONDS]]

It needs nginx (with sendfile on) and wrk, and target/release/heartwheel (HEARTWHEEL names another);
darkhttpd is measured where it is there (DARKHTTPD names another). The servers have
the first core, in turns, and wrk the second, with 16 connections. On a machine that others use,
compare the CPU time for each request: the throughput of a core of one's own is its inverse.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HEARTWHEEL = os.environ.get("HEARTWHEEL", "target/release/heartwheel")
DARKHTTPD = os.environ.get("DARKHTTPD", "darkhttpd")
ROUNDS, SECONDS = (int(text) for text in (sys.argv[1:] + ["5", "3"][len(sys.argv) - 1 :]))
NGINX = """
worker_processes 1; pid {d}/nginx.pid; error_log {d}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
    client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c;
    uwsgi_temp_path {d}/d; scgi_temp_path {d}/e;
    server {{ listen 127.0.0.1:18080; root {d}/www; }}
}}
"""


def cpu_seconds(pid):
    ticks = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def load(port, name):
    url = f"http://127.0.0.1:{port}/{name}"
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c16", f"-d{SECONDS}s", url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in printed, printed
    return int(re.search(r"(\d+) requests in", printed)[1])


def pinned(*command):
    return subprocess.Popen(["taskset", "-c", "0", *command])


def main():
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    os.mkdir(f"{folder}/www")
    sizes = {"4k": 4_000, "100k": 100_000, "10m": 10_000_000}
    for name, size in sizes.items():
        with open(f"{folder}/www/{name}", "wb") as file:
            file.write(os.urandom(size))
    with open(f"{folder}/nginx.conf", "w", encoding="ascii") as file:
        file.write(NGINX.format(d=folder))
    started = [pinned("nginx", "-c", f"{folder}/nginx.conf", "-g", "daemon off;")]
    servers = []
    for workers, port in ((0, 18081), (1, 18082)):
        options = ["--files", f"{folder}/www", "--listen", f"127.0.0.1:{port}"]
        options += ["--admin-listen", "off", "--workers", str(workers), "--log", "error"]
        started.append(pinned(HEARTWHEEL, *options))
        servers.append((f"heartwheel, {workers} workers", started[-1].pid, port))
    if shutil.which(DARKHTTPD):
        options = [f"{folder}/www", "--addr", "127.0.0.1", "--port", "18083", "--log", "/dev/null"]
        started.append(pinned(DARKHTTPD, *options))
        servers.append(("darkhttpd", started[-1].pid, 18083))
    time.sleep(1)
    worker = subprocess.check_output(["pgrep", "-P", str(started[0].pid)]).split()[0]
    servers.insert(0, ("nginx", int(worker), 18080))
    for name in sizes:
        costs = {server: [] for server, _, _ in servers}
        for _ in range(ROUNDS):
            for server, pid, port in servers:
                before = cpu_seconds(pid)
                count = load(port, name)
                costs[server].append((cpu_seconds(pid) - before) / count * 1e6)
        for server, each in costs.items():
            print(f"{name}: {server}: {statistics.median(each):.1f} us of CPU for each")
    for process in started:
        process.terminate()


if __name__ == "__main__":
    main()
