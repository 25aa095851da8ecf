"""Runs the program behind each proxy and prints a table of what held.

    check.py SERVER PAGE PROXY...

PAGE is src/guide/proxies.md: the configurations come out of it, with other addresses and ports.
Everything stays on 127.0.0.1. Exit status 1 if anything did not hold.
"""
import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import zlib

HOST = "chat.example.org"
SECRET = "the-secret"
PATIENCE = 10
# An event is to be with its subscriber within this time, in seconds, and half of all within the
# other: a proxy that waits for more makes them all late.
PROMPT, USUAL = 0.5, 0.1
CERTIFICATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                            "tls", "certificates")

work = tempfile.mkdtemp(prefix="heartwheel-proxies-")
children = []


# -- Processes -------------------------------------------------------------------------------------

def start(name, *command, log=subprocess.DEVNULL):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               start_new_session=True)
    process.name = name
    children.append(process)
    return process


def stop(process):
    """Ends a process and its own children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(3)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    if process in children:
        children.remove(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            value = holds()
        except (OSError, EOFError, subprocess.SubprocessError):
            value = None
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("not within %g s: %s" % (seconds, what))


class Server:
    """The program, with a port for clients and one for the operator."""

    def __init__(self, program, speech="", keys=()):
        path = os.path.join(work, "server-%d.log" % free_port())
        with open(path, "w") as log:
            self.process = start("heartwheel", program, "--listen", speech + "127.0.0.1:0",
                                 *settings(admin_listen="127.0.0.1:0", **{
                                     "admission.hosts": HOST, "deadlines.drain": "5s",
                                     "deadlines.close_ack": "10s", **dict(keys)}), log=log)
        self.port, self.admin = until("two ports", lambda: self.ports(path))

    @staticmethod
    def ports(path):
        with open(path) as log:
            ports = re.findall(r"listening address=(?:proxy:|proxy\+tls:)?127.0.0.1:(\d+)", log.read())
        return len(ports) == 2 and [int(port) for port in ports]

    def figure(self, name):
        with Wire(self.admin, host="127.0.0.1") as wire:
            text = wire.ask("GET", "/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if re.match(name + r"[ {]", line))

    def readiness(self):
        with Wire(self.admin) as wire:
            return wire.ask("GET", "/readyz").status


def settings(**values):
    return [word for pair in values.items() for word in ("--set", "%s=%s" % pair)]


# -- A client of HTTP/1.1 and of WebSocket ---------------------------------------------------------

class Answer:
    def __init__(self, status, headers):
        self.status, self.headers, self.body = status, headers, b""

    def __getitem__(self, name):
        return ", ".join(value for own, value in self.headers if own == name.lower())

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")


class Wire:
    """One connection."""

    def __init__(self, port, host=HOST):
        self.port, self.host = port, host
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest, self.is_over = b"", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self.rest += data

    def exactly(self, length):
        while len(self.rest) < length:
            self.more()
        data, self.rest = self.rest[:length], self.rest[length:]
        return data

    def line(self):
        while b"\r\n" not in self.rest:
            self.more()
        line, self.rest = self.rest.split(b"\r\n", 1)
        return line.decode("latin-1")

    def request(self, method, path, *lines, body=None):
        lines = ["%s %s HTTP/1.1" % (method, path), "Host: " + self.host, *lines]
        if body is not None:
            lines.append("Content-Length: %d" % len(body))
        return "\r\n".join(lines + ["", ""]).encode() + (body or b"")

    def ask(self, method, path, *lines, body=None):
        """Asks, on another connection if the last answer said that it ends this one."""
        if self.is_over:
            self.socket.close()
            self.connect()
        self.send(self.request(method, path, *lines, body=body))
        return self.answer(method)

    def head(self):
        """Reads the head of an answer."""
        status = int(self.line().split()[1])
        headers = []
        while line := self.line():
            name, value = line.split(":", 1)
            headers.append((name.lower(), value.strip()))
        answer = Answer(status, headers)
        self.is_over = "close" in answer["Connection"].lower()
        return answer

    def answer(self, method="GET"):
        """Reads an answer: of a stream the head alone."""
        answer = self.head()
        is_stream = answer["Content-Type"].startswith("text/event-stream")
        if method == "HEAD" or is_stream or answer.status in (101, 204, 304):
            return answer
        if "chunked" in answer["Transfer-Encoding"]:
            answer.body = b"".join(iter(self.chunk, b""))
        elif answer["Content-Length"]:
            answer.body = self.exactly(int(answer["Content-Length"]))
        else:
            answer.body = self.to_end()
        return answer

    def chunk(self):
        data = self.exactly(int(self.line().split(";")[0], 16))
        self.line()
        return data

    def to_end(self):
        try:
            while True:
                self.more()
        except (EOFError, ConnectionError):
            data, self.rest = self.rest, b""
            return data

    # WebSocket

    def upgrade(self, path):
        key = base64.b64encode(os.urandom(16)).decode()
        answer = self.ask("GET", path, "Upgrade: websocket", "Connection: Upgrade",
                          "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + key)
        assert answer.status == 101, "upgrade: %d" % answer.status
        return self

    def send_frame(self, first, payload):
        length = len(payload)
        head = bytes([first, 0x80 | min(length, 126)]) if length < 126 else \
            struct.pack(">BBH", first, 0xFE, length)
        self.send(head + bytes(4) + payload)

    def frame(self):
        first, length = self.exactly(2)
        if length == 126:
            length, = struct.unpack(">H", self.exactly(2))
        return first, self.exactly(length)


class Stream(Wire):
    """An event stream, chunked or not."""

    def __init__(self, port, path, *lines):
        super().__init__(port)
        self.head = self.ask_head(path, *lines)
        self.is_chunked = "chunked" in self.head["Transfer-Encoding"]
        self.data = b""

    def ask_head(self, path, *lines):
        self.send(self.request("GET", path, "Accept: text/event-stream", *lines))
        return Wire.head(self)

    def record(self):
        """Gives the next event, comment or `retry`, None at the end of the stream."""
        while b"\n\n" not in self.data:
            if self.is_chunked:
                data = self.chunk()
            else:
                if not self.rest:
                    self.more()
                data, self.rest = self.rest, b""
            if not data:
                return None
            self.data += data
        record, self.data = self.data.split(b"\n\n", 1)
        return record.decode()

    def record_with(self, text):
        while text not in (record := self.record() or "the end"):
            assert record != "the end", "the stream ended before " + text
        return record


# -- The proxies -----------------------------------------------------------------------------------

class Direct:
    """No proxy: the server by itself."""
    program, pool, idle = None, None, None
    # How its server listens, and with which keys; which of the checks it is for (None: all).
    speech, keys, checks = "", (), None
    seal = None  # how its clients speak TLS, if they do

    def __init__(self, server):
        self.server, self.port = server, server.port

    def is_up(self):
        return self.server.readiness() == 200

    def is_down(self):
        return True

    def end(self):
        pass


class Proxy(Direct):
    """A configuration of the page, changed by `edits`: (what stands there, what is to)."""
    language, pool, edits = None, True, ()

    def __init__(self, server):
        self.server, self.port = server, free_port()
        self.folder = tempfile.mkdtemp(dir=work)
        os.chmod(self.folder, 0o755)
        text = snippet(self.language)
        for old, new in (*self.addresses(), *self.edits):
            assert old in text, "%s: %r is not in the page" % (self.language, old)
            text = text.replace(old, new)
        with open(os.path.join(self.folder, "log"), "w") as log:
            self.process = self.launch(text, log)

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w") as file:
                file.write(text)
        return path

    def log(self):
        with open(self.path("log")) as log:
            return log.read()[-2000:]

    def status(self, path="/healthz"):
        with Wire(self.port) as wire:
            return wire.ask("GET", path).status

    def is_up(self):
        return self.status() == 200

    def is_down(self):
        return self.status() in (502, 503)

    def end(self):
        stop(self.process)


class Nginx(Proxy):
    program, language = "nginx", "nginx"
    idle = r"keepalive_timeout (\d+)s"

    def addresses(self):
        self.second = Server(self.server.process.args[0])
        return [("server 127.0.0.1:8765 max_fails=1 fail_timeout=5s;",
                 "server 127.0.0.1:%d max_fails=1 fail_timeout=5s; server 127.0.0.1:%d backup;"
                 % (self.server.port, self.second.port)),
                ("listen 80;", "listen 127.0.0.1:%d; location = /topics/secret { return 403; }"
                 % self.port)]

    def launch(self, text, log):
        temporary = "".join("%s_temp_path %s;\n" % (kind, self.path(kind)) for kind in
                            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        path = self.path("conf", "daemon off; user %s; pid %s; error_log stderr;\nevents {}\n"
                         "http {\naccess_log off;\n%s%s}\n"
                         % (user(), self.path("pid"), temporary, text))
        return start("nginx", "nginx", "-p", self.folder, "-e", "stderr", "-c", path, log=log)

    def is_down(self):
        """A server that refuses is passed over: the second one answers, and no request fails."""
        assert all(self.status() == 200 for _ in range(20)), "a request failed"
        return True

    def end(self):
        super().end()
        stop(self.second.process)


class NginxPlain(Nginx):
    pool = False
    edits = [("keepalive 16;", ""), ("keepalive_timeout 60s;", "")]


class NginxBare(Nginx):
    """Nothing but proxy_pass: HTTP/1.0 to the server, and no WebSocket."""
    pool = False
    edits = [("keepalive 16;", ""), ("keepalive_timeout 60s;", ""), ("proxy_http_version 1.1;", ""),
             ("proxy_set_header Upgrade $http_upgrade;", ""), ("proxy_buffering off;", ""),
             ("proxy_set_header Connection $connection_upgrade;", "")]


class HaProxy(Proxy):
    program, language = "haproxy", "haproxy"
    idle = r"pool-purge-delay (\d+)s"
    version = ""

    def addresses(self):
        return [("bind :80", "bind 127.0.0.1:%d\n    http-request deny if { path /topics/secret }"
                 % self.port),
                ("127.0.0.1:8765", "127.0.0.1:%d" % self.server.port),
                ("port 8766", "port %d" % self.server.admin),
                ("option httpchk GET /readyz", "option httpchk GET /readyz" + self.version)]

    def launch(self, text, log):
        path = self.path("conf", "global\n    stats socket %s\n%s" % (self.path("stats"), text))
        return start("haproxy", "haproxy", "-db", "-f", path, log=log)

    def check(self):
        """Gives what the health check says, and what it found."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(self.path("stats"))
            stats.sendall(b"show stat\n")
            rows = b"".join(iter(lambda: stats.recv(65536), b"")).decode().splitlines()
        names = rows[0].lstrip("# ").split(",")
        row = next(row for row in rows if row.startswith("heartwheel,one,"))
        row = dict(zip(names, row.split(",")))
        return row["status"], row["check_status"]

    def is_up(self):
        return self.check() == ("UP", "L7OK") and self.status() == 200

    def is_down(self):
        return self.check()[0] == "DOWN" and self.status() == 503


class HaProxyHeader(HaProxy):
    """Tells the server whom it connects for; tests tell it the same way who they are."""
    tells = "send-proxy"
    speech, keys = "proxy:", [("proxy.trusted", "127.0.0.1"), ("limits.connections_per_ip", "2")]
    checks = ["clients"]

    def addresses(self):
        bind, server, port, _ = super().addresses()
        return [bind, ("127.0.0.1:%d" % self.port, "127.0.0.1:%d accept-proxy" % self.port),
                (server[0], "%s %s" % (server[1], self.tells)), port]


class HaProxyBinaryHeader(HaProxyHeader):
    tells = "send-proxy-v2"


class HaProxySumHeader(HaProxyHeader):
    """With values behind the addresses, the checksum among them."""
    tells = "send-proxy-v2 proxy-v2-options crc32c,unique-id"

    def addresses(self):
        return [*super().addresses(),
                ("frontend web", "frontend web\n    unique-id-format %[uuid()]")]


class HaProxyForwarded(HaProxyHeader):
    speech = ""
    keys = [*HaProxyHeader.keys, ("proxy.forwarded", "x-forwarded-for")]
    tells = ""

    def addresses(self):
        return [*super().addresses(),
                ("backend heartwheel", "backend heartwheel\n    option forwardfor")]


class HaProxyPassing(HaProxyHeader):
    """Passes TLS through: the header comes before the hello."""
    speech = "proxy+tls:"
    keys = [*HaProxyHeader.keys, ("tls.certificate", CERTIFICATES + "/server.crt"),
            ("tls.key", CERTIFICATES + "/server.key")]
    seal = ssl.create_default_context(cafile=CERTIFICATES + "/ca.crt")

    def addresses(self):
        return []

    def launch(self, text, log):
        return super().launch("""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:%d accept-proxy
    default_backend heartwheel
backend heartwheel
    server one 127.0.0.1:%d send-proxy-v2
""" % (self.port, self.server.port), log)


class NginxForwarded(Nginx):
    """Takes its clients' addresses from a PROXY header, and passes them on in a line."""
    keys, checks = HaProxyForwarded.keys, ["clients"]

    def addresses(self):
        server = "server 127.0.0.1:8765 max_fails=1 fail_timeout=5s;"
        line = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
        return [(server, server.replace("8765", str(self.server.port))),
                ("listen 80;", "listen 127.0.0.1:%d proxy_protocol; set_real_ip_from 127.0.0.1; "
                 "real_ip_header proxy_protocol;" % self.port),
                ("proxy_buffering off;", "proxy_buffering off; " + line)]

    def end(self):
        Proxy.end(self)


class HaProxyPlain(HaProxy):
    pool = False
    version = "\n    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host any"
    edits = [("mode http", "mode http\n    option httpclose")]


class Varnish(Proxy):
    program, language = "varnishd", "vcl"
    idle = r"backend_idle_timeout\s+Value is: ([\d.]+)"
    FORBID = 'sub vcl_recv { if (req.url == "/topics/secret") { return (synth(403)); } }\n'

    def addresses(self):
        return [('"8765"', '"%d"' % self.server.port),
                ("vcl 4.1;", "vcl 4.1;\n" + self.FORBID)]

    def launch(self, text, log):
        return start("varnish", "varnishd", "-F", "-j", "none", "-n", self.folder, "-s",
                     "malloc,16m", "-a", "127.0.0.1:%d" % self.port, "-f", self.path("vcl", text),
                     *self.options(), log=log)

    def options(self):
        return []

    def admin(self, *command):
        return subprocess.run(["varnishadm", "-n", self.folder, *command], capture_output=True,
                              text=True, timeout=PATIENCE).stdout

    def configuration(self):
        return self.admin("param.show", "backend_idle_timeout")

    def is_up(self):
        return re.search(r"default +healthy|default .* healthy", self.admin("backend.list")) \
            and self.status() == 200

    def is_down(self):
        return "sick" in self.admin("backend.list") and self.status() == 503


class VarnishUsual(Varnish):
    """The VCL that Varnish comes with, and the lines for WebSocket of its documentation."""

    def launch(self, text, log):
        text = text[:text.index("sub vcl_recv {\n    if (req.http.Upgrade")] + """
            sub vcl_recv { if (req.http.upgrade ~ "(?i)websocket") { return (pipe); } }
            sub vcl_pipe {
                if (req.http.upgrade) {
                    set bereq.http.upgrade = req.http.upgrade;
                    set bereq.http.connection = req.http.connection;
                }
            }"""
        return super().launch(text, log)


class Caddy(Proxy):
    program, language = "caddy", "caddyfile"
    idle = r"keepalive (\d+)s"

    def addresses(self):
        return [(HOST + " {", "http://%s:%d {\n    bind 127.0.0.1\n    respond /topics/secret 403"
                 % (HOST, self.port)),
                ("127.0.0.1:8765", "127.0.0.1:%d" % self.server.port),
                ("health_port 8766", "health_port %d" % self.server.admin)]

    def launch(self, text, log):
        os.environ.update(HOME=self.folder, XDG_DATA_HOME=self.folder, XDG_CONFIG_HOME=self.folder)
        path = self.path("Caddyfile", "{\n    admin off\n    auto_https off\n}\n" + text)
        return start("caddy", "caddy", "run", "--adapter", "caddyfile", "--config", path, log=log)

    def status(self, path="/healthz"):
        with Wire(self.port, "%s:%d" % (HOST, self.port)) as wire:
            return wire.ask("GET", path).status


class CaddyPlain(Caddy):
    """No pool, and the health check on the port for clients."""
    pool = False
    edits = [("keepalive 60s", "keepalive off")]

    def addresses(self):
        return super().addresses()[:2] + [("health_port 8766", ""),
                                          ("health_uri /readyz", "health_uri /healthz")]


def user():
    return "root" if os.getuid() == 0 else "nobody"


def snippet(language):
    found = re.search(r"^```%s\n(.*?)^```$" % language, page, re.M | re.S)
    assert found, "no %s in the page" % language
    return found[1]


# -- What must hold --------------------------------------------------------------------------------

def publish(port, topic, text):
    with Wire(port) as wire:
        answer = wire.ask("POST", "/topics/" + topic, body=text.encode())
    assert answer.status == 200, "publish: %d %s" % (answer.status, answer.text)
    return json.loads(answer.text)["id"]


def check_health(proxy):
    until("the proxy finds the server well", proxy.is_up, 20)


def check_echo(proxy):
    if isinstance(proxy, NginxBare):
        return "-"
    with Wire(proxy.port) as wire:
        wire.upgrade("/echo")
        for first, payload in ((0x81, b"hello"), (0x82, os.urandom(60000)), (0x81, b"again")):
            wire.send_frame(first, payload)
            assert wire.frame() == (first, payload), "something else came back"


def check_stream(proxy):
    """Gives how late the latest event was, after its publisher began to send it."""
    # A busy machine may delay some; a proxy that waits for more delays them every time.
    for _ in range(3):
        late = sorted(delays(proxy))
        if late[-1] < PROMPT and late[len(late) // 2] < USUAL:
            return "%d ms" % (late[-1] * 1000)
    raise AssertionError("events came %s ms late" % [round(delay * 1000) for delay in late])


def delays(proxy):
    for path in ("/events?topic=live", "/topics/live"):
        began = time.monotonic()
        with Stream(proxy.port, path) as stream:
            assert stream.head.status == 200, "%s: %d" % (path, stream.head.status)
            assert stream.head["Content-Type"].startswith("text/event-stream")
            yield time.monotonic() - began
            for number in range(5):
                text = "%s-%d" % (path[1:4], number)
                began = time.monotonic()
                publish(proxy.port, "live", text)
                stream.record_with("data: " + text)
                yield time.monotonic() - began
                time.sleep(0.05)


def check_resume(proxy):
    first = publish(proxy.port, "log", "one")
    publish(proxy.port, "log", "two")
    with Stream(proxy.port, "/topics/log", "Last-Event-ID: " + first) as stream:
        record = stream.record_with("data: ")
        assert "data: two" in record, record


def check_clients(proxy):
    """The limit of an address holds for clients behind, whatever they say of themselves."""
    if proxy.checks is None:
        return "-"

    def upgrade(ip):
        wire = Wire(proxy.port)
        family = "TCP6" if ":" in ip else "TCP4"
        wire.send(b"PROXY %s %s %s 1234 80\r\n" % (family.encode(), ip.encode(), ip.encode()))
        if proxy.seal:
            try:
                wire.socket = proxy.seal.wrap_socket(wire.socket, server_hostname="localhost")
            except ssl.SSLEOFError:
                return wire, 429  # there is no TLS yet in which to say so
        key = "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode()
        wire.send(wire.request("GET", "/echo", "Connection: Upgrade", "Upgrade: websocket", key,
                               "Sec-WebSocket-Version: 13", "X-Forwarded-For: 6.6.6.6"))
        return wire, wire.head().status

    def reaches(ip):
        wire, status = upgrade(ip)
        wire.socket.close()
        return status == 101
    until("the proxy passes on", lambda: reaches("192.0.2.9"))
    wires = [upgrade(ip) for ip in ("192.0.2.1", "2001:db8::1", "192.0.2.1", "192.0.2.2")]
    assert [status for _, status in wires] == [101] * 4, [status for _, status in wires]
    for ip, expected in (("192.0.2.1", 429), ("2001:db8::2", 101), ("2001:db8::3", 429)):
        wires.append(upgrade(ip))
        assert wires[-1][1] == expected, (ip, wires[-1][1])
    with Wire(proxy.server.admin, host="127.0.0.1") as wire:
        rows = json.loads(wire.ask("GET", "/connections").text)
    peers = [row["peer"] for row in rows if row["path"] == "/echo"]
    hosts = [re.sub(r"^\[(.*)\]:\d+$|^([\d.]+):\d+$", r"\1\2", peer) for peer in peers]
    for ip, count in (("192.0.2.1", 2), ("192.0.2.2", 1), ("2001:db8::1", 1), ("2001:db8::2", 1)):
        assert hosts.count(ip) == count, (ip, peers)
    assert "6.6.6.6" not in hosts, peers
    wires[0][0].socket.close()
    until("there is room again", lambda: reaches("192.0.2.1"))
    for wire, _ in wires:
        wire.socket.close()


def check_head(proxy):
    """HEAD is an answer without a body, and the connection goes on."""
    paths = ["/events?topic=live", "/topics/live", "/", "/healthz"]
    if isinstance(proxy, VarnishUsual):
        # It asks the server by GET, and has its answer when the stream has ended.
        paths = paths[2:]
    with Wire(proxy.port) as wire:
        for path in paths:
            answer = wire.ask("HEAD", path, "Accept: text/event-stream")
            assert answer.status == 200, "%s: %d" % (path, answer.status)
            if wire.is_over:
                wire.socket.settimeout(2)
                assert wire.to_end() == b"", "%s: a body came" % path
        assert wire.ask("GET", "/healthz").status == 200
    until("no subscription is left", lambda: proxy.server.figure("heartwheel_subscriptions") == 0)


def check_caches(proxy):
    """No answer about a topic is an old one, or one to another Accept."""
    with Wire(proxy.port) as wire:
        for text in ("old", "new", "newest"):
            publish(proxy.port, "cached", text)
            for _ in range(2):
                answer = wire.ask("GET", "/topics/cached", "Accept: */*")
                assert answer.text == text, "%s came for %s" % (answer.text, text)
        after = wire.ask("GET", "/topics/cached?after=0-0")
        assert "newest" in after.text, after.text
        publish(proxy.port, "cached", "last")
        assert "last" in wire.ask("GET", "/topics/cached?after=0-0").text, "an old list came"
    with Wire(proxy.port) as wire:
        for path in ("/healthz", "/readyz"):
            rule = wire.ask("GET", path)["Cache-Control"]
            assert "no-store" in rule, "%s may be kept: %r" % (path, rule)
    for _ in range(2):
        with Stream(proxy.port, "/topics/cached") as stream:
            kind = stream.head["Content-Type"]
            assert kind.startswith("text/event-stream"), "a stream was asked, %s came" % kind
        with Wire(proxy.port) as wire:
            kind = wire.ask("GET", "/topics/cached")["Content-Type"]
            assert not kind.startswith("text/event-stream"), "a stream came for a plain request"


def check_pool(proxy):
    """A pool uses its connections again, and gives them up before the server does."""
    with Wire(proxy.server.port) as wire:
        answer = wire.ask("GET", "/healthz")
        told = re.fullmatch(r"timeout=(\d+)", answer["Keep-Alive"])
        assert told, "Keep-Alive: %r" % answer["Keep-Alive"]
        assert answer["Connection"].lower() == "keep-alive", answer["Connection"]
    if proxy.pool is None:
        return
    before = proxy.server.figure("heartwheel_connections_accepted_total")
    with Wire(proxy.port) as wire:
        for _ in range(10):
            assert wire.ask("GET", "/topics/cached").status == 200
    # Health checks and our own look at the figures come between.
    count = proxy.server.figure("heartwheel_connections_accepted_total") - before
    assert count < 8 if proxy.pool else count >= 10, "%d connections for 10 requests" % count
    if proxy.pool:
        text = proxy.configuration() if isinstance(proxy, Varnish) else page
        idle = max(float(seconds) for seconds in re.findall(proxy.idle, text))
        assert idle < int(told[1]), "kept for %g s, the server ends it after %s s" % (idle, told[1])


OFFERS = ["websocket", "WebSocket", "websocket/13", "websocket2", "WEBSOCKET/13, h2c",
          "h2c, websocket", "h2c,\twebsocket2", "h2c\r\nUpgrade: websocket/13"]
CONNECTIONS = ["Upgrade", "keep-alive", "keep-alive, Upgrade", None]
REQUESTS = [("GET", "/"), ("GET", "/healthz"), ("GET", "/nowhere"), ("GET", "/topics/cached"),
            ("GET", "/topics/none"), ("GET", "/events"), ("GET", "/events?topic=live"),
            ("GET", "/heartwheel.js"), ("GET", "/ws"),
            ("POST", "/topics/cached"), ("DELETE", "/topics/cached"), ("OPTIONS", "/topics/cached"),
            ("HEAD", "/topics/cached"), ("GET", "/echo"), ("GET", "/readyz")]


def check_piped(proxy):
    """A second request behind one that asked for a WebSocket and got something else does not reach
    the server without the proxy's knowledge, which forbids it."""
    publish(proxy.server.port, "secret", SECRET)
    publish(proxy.server.port, "cached", "newest")
    passed = []
    ports = [proxy.port] if proxy.program else [proxy.port, proxy.server.admin]
    attempts = [(request, offer, CONNECTIONS[(at + number) % len(CONNECTIONS)])
                for at, request in enumerate(REQUESTS) for number, offer in enumerate(OFFERS)]
    attempts += [(REQUESTS[0], offer, connection) for offer in OFFERS for connection in CONNECTIONS]
    for port in ports:
        for (method, path), offer, connection in attempts:
            if smuggle(port, proxy.program, method, path, offer, connection):
                passed.append("%s %s, Upgrade: %s, Connection: %s"
                              % (method, path, offer.replace("\r\n", " | "), connection))
    assert not passed, "%d requests passed, the first behind %s" % (len(passed), passed[0])
    if proxy.program is None:
        with Wire(proxy.port) as wire:
            assert wire.ask("GET", "/healthz", "Upgrade: h2c", "Connection: Upgrade").status == 200
            assert wire.ask("GET", "/healthz").status == 200, "h2c is ignored"


def smuggle(port, is_proxied, method, path, offer, connection):
    """Says whether a second request on the connection passes."""
    lines = ["Upgrade: " + offer, *(["Connection: " + connection] if connection else []),
             "Sec-WebSocket-Version: 12", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    with Wire(port) as wire:
        try:
            first = wire.request(method, path, *lines, body=b"x" if method == "POST" else None)
            second = wire.request("GET", "/topics/secret", "Connection: close")
            if method == "POST":
                wire.send(first + second)
                wire.answer(method)
            else:
                wire.send(first)
                wire.answer(method)
                wire.send(second)
            # A stream goes on.
            wire.socket.settimeout(0.1 if "events?" in path else 2)
            rest = wire.to_end()
        except TimeoutError:
            rest = wire.rest
        except (EOFError, ConnectionError):
            return False
        return SECRET.encode() in rest if is_proxied else b"HTTP/1.1 " in rest


def check_drain(proxy):
    """SIGTERM: clients are told, readiness is denied, the proxy sends nothing more, it ends."""
    server = proxy.server
    stream = Stream(proxy.port, "/events?topic=live")
    wire = None if isinstance(proxy, NginxBare) else Wire(proxy.port).upgrade("/echo")
    # It does not answer its close, so that the drain lasts for the whole of its time.
    holder = Wire(server.port).upgrade("/echo")
    server.process.send_signal(signal.SIGTERM)
    until("/readyz says 503", lambda: server.readiness() == 503, 2)
    until("the proxy stops sending", proxy.is_down, 4.5)
    if wire:
        first, payload = wire.frame()
        assert first == 0x88 and payload[:2] == struct.pack(">H", 1001), (first, payload)
        assert re.fullmatch(rb"retry=\d+", payload[2:]), payload
        wire.send_frame(0x88, payload)
    assert re.search(r"^retry: \d+", stream.record_with("retry: ")), "no time to come back at"
    with stream:
        while True:
            try:
                if stream.record() is None:
                    break
            except EOFError:
                assert not stream.is_chunked, "the stream was cut off within its chunks"
                break
    holder.socket.close()
    if wire:
        wire.socket.close()
    assert server.process.wait(PATIENCE) == 0, "exit status %d" % server.process.returncode


def check_cohorts(program):
    """HAProxy sends to another server those that heartwheel calls the canary."""
    class Canary(HaProxy):
        language = "haproxy canary"

        def addresses(self):
            return [("bind :80", "bind 127.0.0.1:%d\n    http-response set-header x-backend %%b"
                     % self.port),
                    ("127.0.0.1:8775", "127.0.0.1:%d" % other.port),
                    ("127.0.0.1:8765", "127.0.0.1:%d" % self.server.port)]

    one, other = Server(program), Server(program)
    proxy = Canary(one)
    try:
        until("it passes requests on", lambda: proxy.status() == 200)
        counts = {"canary": 0, "heartwheel": 0}
        with Wire(proxy.port) as wire:
            for number in range(1000):
                device = "device-%d" % number
                backend = wire.ask("GET", "/healthz", "X-Device-Id: " + device)["x-backend"]
                is_canary = zlib.crc32(b"SALT" + device.encode()) % 10_000 < 500
                assert backend == ("canary" if is_canary else "heartwheel"), (device, backend)
                counts[backend] += 1
            assert wire.ask("GET", "/healthz")["x-backend"] == "heartwheel", "it has no name"
        assert 30 < counts["canary"] < 70, counts
    finally:
        for process in (proxy.process, one.process, other.process):
            stop(process)


# Those that look at what is subscribed come before others leave streams: a proxy may notice
# that a client has gone when it has a comment for it.
CHECKS = [("health", check_health), ("echo", check_echo), ("HEAD", check_head),
          ("stream", check_stream), ("resume", check_resume), ("caches", check_caches),
          ("pool", check_pool), ("piped", check_piped), ("clients", check_clients),
          ("drain", check_drain)]
VARIANTS = [("direct", Direct), ("nginx", Nginx), ("nginx, no pool", NginxPlain),
            ("nginx, bare", NginxBare), ("nginx, line", NginxForwarded), ("haproxy", HaProxy),
            ("haproxy, no pool", HaProxyPlain), ("haproxy, v1", HaProxyHeader),
            ("haproxy, v2", HaProxyBinaryHeader), ("haproxy, v2 sum", HaProxySumHeader),
            ("haproxy, line", HaProxyForwarded), ("haproxy, TLS", HaProxyPassing),
            ("varnish", Varnish), ("varnish, its VCL", VarnishUsual), ("caddy", Caddy),
            ("caddy, no pool", CaddyPlain)]


def run(program, name, variant, faults):
    """Gives a row of the table."""
    server = Server(program, variant.speech, variant.keys)
    proxy = None
    row = []
    try:
        proxy = variant(server)
        for title, check in CHECKS:
            if variant.checks is not None and title not in variant.checks:
                row.append("-")
                continue
            try:
                row.append(check(proxy) or "ok")
            except (AssertionError, EOFError, OSError, ValueError,
                    subprocess.SubprocessError) as fault:
                row.append("FAILED")
                faults.append("%s, %s: %s" % (name, title, str(fault) or type(fault).__name__))
                if check is check_health:
                    faults[-1] += "\n" + (proxy.log() if proxy.program else "")
                    break
    finally:
        if proxy:
            proxy.end()
        stop(server.process)
    return row + ["-"] * (len(CHECKS) - len(row))


def has_tls(program):
    asked = subprocess.run([program, "check", *settings(**{"tls.tickets": "0"})],
                           stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    return b"has no TLS" not in asked.stdout + asked.stderr


def main(program, names):
    faults, rows, absent = [], [], set()
    for name, variant in VARIANTS:
        if name.split(",")[0] not in names:
            continue
        if variant.program and not shutil.which(variant.program):
            absent.add(variant.program)
            continue
        if variant.seal and not has_tls(program):
            absent.add("%s with TLS: the program" % variant.program)
            continue
        began = time.monotonic()
        row = run(program, name, variant, faults)
        rows.append([name, *row, "%.1f" % (time.monotonic() - began)])
    if "haproxy" in names and shutil.which("haproxy"):
        try:
            check_cohorts(program)
            print("\nhaproxy sends the canary where it belongs")
        except (AssertionError, EOFError, OSError) as fault:
            faults.append("haproxy, cohorts: %s" % (fault or type(fault).__name__))
    heads = ["proxy", *(title for title, _ in CHECKS), "seconds"]
    print()
    for row in [heads, *rows]:
        print("%-17s" % row[0] + "".join("%8s" % cell for cell in row[1:]))
    print()
    for fault in faults:
        print(fault)
    print("%s of %d checks failed" % (len(faults) or "none", len(rows) * len(CHECKS)))
    for proxy in sorted(absent):
        print("\n== NOT TESTED BEHIND %s: IT IS ABSENT" % proxy, file=sys.stderr)
    return 1 if faults or not (rows or absent) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with open(sys.argv[2]) as file:
        page = file.read()
    try:
        sys.exit(main(sys.argv[1], sys.argv[3:]))
    finally:
        for child in list(children):
            stop(child)
        shutil.rmtree(work, ignore_errors=True)
