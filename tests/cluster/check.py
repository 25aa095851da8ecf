"""Runs nodes of a cluster on real Redis servers, does to both what can be done, and prints what held.

    check.py SERVER [CASE...]

Everything stays on 127.0.0.1. Exit status 1 if anything did not hold.
"""
import base64
import collections
import http.client
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from processes import children, free_port, start, stop, until

PATIENCE = 30
ROUNDS = int(os.environ.get("ROUNDS", "2"))
CERTIFICATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tls", "certificates")

work = tempfile.mkdtemp(prefix="heartwheel-cluster-")
program = None


# -- Redis -----------------------------------------------------------------------------------------

class RedisError(OSError):
    """Redis has answered so."""


class Wire:
    """A connection to Redis."""

    def __init__(self, port, is_secure=False, password=None):
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        if is_secure:
            context = ssl.create_default_context(cafile=os.path.join(CERTIFICATES, "ca.crt"))
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")
        if password:
            self.send("AUTH", password)
            self.read()

    def send(self, *parts):
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))

    def read(self):
        line = self.file.readline()
        if not line:
            raise EOFError
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        return rest

    def close(self):
        self.file.close()
        self.socket.close()


class Redis:
    """redis-server on a port of its own, which stays the same when it is started again."""

    def __init__(self, *words, is_secure=False, password=None):
        self.port = free_port()
        self.words = words
        self.is_secure = is_secure
        self.password = password
        self.begin()

    def begin(self):
        folder = tempfile.mkdtemp(dir=work)
        with open(os.path.join(work, "redis-%d.log" % self.port), "a") as log:
            port = ("--port", "0", "--tls-port") if self.is_secure else ("--port",)
            self.process = start("redis-server", *port, str(self.port), "--bind", "127.0.0.1", "--save", "",
                                 "--appendonly", "no", "--dir", folder, "--repl-diskless-sync-delay", "0",
                                 *self.words, log=log)
        until("redis answers", self.is_there)

    def is_there(self):
        try:
            return self.ask("PING") == b"PONG"
        except RedisError as error:
            return str(error).startswith("NOAUTH")

    def ask(self, *parts):
        wire = Wire(self.port, self.is_secure, self.password)
        try:
            wire.send(*parts)
            return wire.read()
        finally:
            wire.close()

    def info(self, name):
        return re.search(name + ":(.*?)\r", self.ask("INFO").decode()).group(1)

    def kill(self):
        stop(self.process)

    def signal(self, number):
        os.kill(self.process.pid, number)


class Between:
    """A relay that can break its connections, swallow what comes, and lead elsewhere."""

    def __init__(self, port):
        self.to = port
        self.swallows = False
        self.refuses = False
        self.ends = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.socket.accept()
            try:
                if self.refuses:
                    raise OSError
                far = socket.create_connection(("127.0.0.1", self.to), 5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            self.ends += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, sink):
        try:
            while True:
                piece = source.recv(65536)
                if not piece:
                    break
                if not self.swallows:
                    sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        ends, self.ends = self.ends, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


# -- Nodes -----------------------------------------------------------------------------------------

class Node:
    """The program, as a node of a cluster."""

    def __init__(self, url, name, is_awaited=True, env=None, config=None, **keys):
        self.name = name
        self.path = os.path.join(work, "node-%s-%d.log" % (name, free_port()))
        words = {"cluster.redis": url, "cluster.node": name, "cluster.grace": "1s", "workers": 0,
                 "topics.retain_events": 100000, "topics.retain_bytes": "64m", **keys}
        words = [word for pair in words.items() for word in ("--set", "%s=%s" % pair)]
        words += ["--config", config] if config else []
        with open(self.path, "w") as log:
            self.process = start(program, "--listen", "127.0.0.1:0", "--set", "admin_listen=127.0.0.1:0", *words,
                                 log=log, env={**os.environ, "RUST_BACKTRACE": "0", **(env or {})})
        if is_awaited:
            self.port, self.admin = until(lambda: "two ports: " + self.log(), self.ports)

    def ports(self):
        ports = re.findall(r"listening address=127.0.0.1:(\d+)", self.log())
        return len(ports) == 2 and [int(port) for port in ports]

    def log(self):
        with open(self.path) as log:
            return log.read()

    def ask(self, method, path, body=None, **headers):
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            wire.request(method, path, body, headers)
            answer = wire.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            wire.close()

    def post(self, topic, body):
        """Publishes. Returns the id, or None where the server says that it did not, or may not have."""
        status, text, _ = self.ask("POST", "/topics/" + topic, body)
        assert status in (200, 503), (status, text)
        return json.loads(text)["id"] if status == 200 else None

    def is_ready(self):
        return self.ask("GET", "/readyz")[0] == 200

    def is_connected(self):
        return self.figure("heartwheel_cluster_connected") == 1

    def figure(self, name):
        wire = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        try:
            wire.request("GET", "/metrics")
            text = wire.getresponse().read().decode()
        finally:
            wire.close()
        return sum(float(line.split()[-1]) for line in text.splitlines() if re.match(re.escape(name) + r"[ {]", line))

    def kill(self, number=signal.SIGKILL):
        stop(self.process, number)

    def signal(self, number):
        os.kill(self.process.pid, number)

    def check(self):
        assert "panic" not in self.log(), self.log()
        assert self.process.poll() is None, "node %s has ended: %s" % (self.name, self.log())


class Ear:
    """Hears an event stream: a list of ("event", id, text) and ("gap", id or None)."""

    def __init__(self, node, topic, after=None):
        self.heard = []
        self.after = after
        self.has_ended = False
        self.socket = socket.create_connection(("127.0.0.1", node.port), 5)
        self.socket.settimeout(None)
        head = "GET /topics/%s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" % topic
        head += "Last-Event-ID: %s\r\n" % after if after else ""
        self.socket.sendall((head + "\r\n").encode())
        self.file = self.socket.makefile("rb")
        assert b"200" in self.file.readline()
        while self.file.readline() not in (b"\r\n", b""):
            pass
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        try:
            fields = {}
            for line in self.file:
                line = line.rstrip(b"\r\n").decode()
                # Lengths of chunks are lines of hexadecimal digits.
                name, colon, value = line.partition(":")
                if line == "":
                    if fields.get("event") == "gap":
                        self.heard.append(("gap", fields.get("id")))
                    elif "data" in fields and fields.get("event", "message") == "message":
                        self.heard.append(("event", fields.get("id"), fields["data"]))
                    fields = {}
                elif colon and name in ("event", "id", "data"):
                    fields[name] = value.removeprefix(" ")
        except (OSError, ValueError):
            pass
        self.has_ended = True

    def texts(self):
        return [one[2] for one in self.heard if one[0] == "event"]

    def gaps(self):
        return sum(1 for one in self.heard if one[0] == "gap")

    def wait(self, text, seconds=PATIENCE):
        until(lambda: "%s was heard; heard last: %s" % (text, self.heard[-3:]), lambda: text in self.texts(), seconds)

    def wait_gaps(self, count):
        until(lambda: "%d gaps of %d" % (self.gaps(), count), lambda: self.gaps() >= count)


class Said:
    """What was published, and what became of it."""

    def __init__(self):
        self.taken = {}
        self.tried = collections.Counter()
        self.lock = threading.Lock()

    def publish(self, node, topic, text):
        with self.lock:
            self.tried[text] += 1
        try:
            event = node.post(topic, text)
        except (OSError, http.client.HTTPException):
            event = None
        if event:
            with self.lock:
                self.taken[text] = event
        return event

    def keep_on(self, node, topic, name, count, pause=0.0):
        for number in range(count):
            self.publish(node, topic, "%s-%d" % (name, number))
            time.sleep(pause)


def number_of(event):
    return tuple(int(part) for part in event.split("-"))


def judge(said, *ears):
    """Nothing twice, one order on all nodes, and each event that is missing behind a gap."""
    for ear in ears:
        counts = collections.Counter(ear.texts())
        twice = [text for text, count in counts.items() if count > said.tried[text]]
        assert not twice, "twice: %s" % twice[:5]
        events = [one for one in ear.heard if one[0] == "event"]
        ids = [number_of(one[1]) for one in events]
        assert ids == sorted(set(ids)), "ids do not rise"
        have = {one[2] for one in events}
        for text, event in said.taken.items():
            place = number_of(event)
            if text in have or ear.after and place <= number_of(ear.after):
                continue
            behind = [index for index, one in enumerate(ear.heard) if one[0] == "event" and number_of(one[1]) > place]
            before = [index for index, one in enumerate(ear.heard) if one[0] == "event" and number_of(one[1]) < place]
            if not behind:
                # Nothing has come behind it: a gap must have been told since, all the same.
                behind = [len(ear.heard)]
            low, high = (before[-1] if before else -1), behind[0]
            told = any(one[0] == "gap" for one in ear.heard[low + 1:high])
            assert told, "%s %s is missing untold between %s and %s" % (
                text, event, ear.heard[max(low, 0)], ear.heard[high:high + 1])
    for one in ears:
        for other in ears:
            both = set(one.texts()) & set(other.texts())
            first = [text for text in one.texts() if text in both]
            second = [text for text in other.texts() if text in both]
            assert first == second, "two orders"


def cluster(count=2, redis=None, **keys):
    redis = redis or Redis()
    nodes = [Node("redis://127.0.0.1:%d" % redis.port, name, **keys) for name in "abc"[:count]]
    for node in nodes:
        until("node %s has reached Redis" % node.name, node.is_connected)
    return redis, nodes


def hear(nodes, topic="t"):
    ears = [Ear(node, topic) for node in nodes]
    time.sleep(0.1)
    return ears


def finish(said, nodes, ears, topic="t", seconds=PATIENCE):
    """Publishes until one more event has come to all, and judges."""
    last = "last-%d" % random.randrange(10 ** 9)
    said.publish(nodes[0], topic, last) or until("it is published", lambda: said.publish(nodes[0], topic, last), seconds)
    for ear in ears:
        ear.wait(last, seconds)
    for node in nodes:
        node.check()
    judge(said, *ears)


# -- Cases -----------------------------------------------------------------------------------------

def deliver():
    """Three nodes publish at once: each event comes to all, in one order."""
    redis, nodes = cluster(3)
    said, ears = Said(), hear(nodes)
    threads = [threading.Thread(target=said.keep_on, args=(node, "t", node.name, 200)) for node in nodes]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    finish(said, nodes, ears)
    assert len(said.taken) == 601 and all(len(ear.texts()) == 601 and not ear.gaps() for ear in ears)
    # A client that moves goes on at the other node.
    half = ears[0].heard[300]
    moved = Ear(nodes[1], "t", after=half[1])
    moved.wait(ears[0].texts()[-1])
    assert moved.texts() == ears[0].texts()[301:] and not moved.gaps()
    assert nodes[0].figure("heartwheel_cluster_published_total") == 201
    # A node that joins has what is newest.
    late = Node("redis://127.0.0.1:%d" % redis.port, "late")
    until("it has joined", late.is_connected)
    until("it has caught up", lambda: late.figure("heartwheel_cluster_lag_seconds") == 0)
    moved = Ear(late, "t", after=half[1])
    moved.wait(ears[0].texts()[-1])
    assert moved.texts() == ears[0].texts()[301:] and not moved.gaps(), moved.heard[:3]


def away():
    """A node begins while Redis is away: it serves, publishes nothing, and joins when it is there."""
    port = free_port()
    node = Node("redis://127.0.0.1:%d" % port, "a")
    ear = Ear(node, "t")
    status, text, headers = node.ask("POST", "/topics/t", "x")
    assert status == 503 and headers["Retry-After"], (status, text)
    until("it is not ready", lambda: not node.is_ready())
    redis = Redis.__new__(Redis)
    redis.port, redis.words, redis.is_secure, redis.password = port, (), False, None
    redis.begin()
    until("it has reached Redis", node.is_connected)
    assert node.is_ready()
    ear.wait_gaps(1)
    said = Said()
    finish(said, [node], [ear])
    # Again away, and publications may wait.
    redis.kill()
    until("it is away", lambda: not node.is_connected())
    assert node.ask("POST", "/topics/t", "x")[0] == 503
    assert not ear.has_ended


def queue():
    """Publications wait for Redis, where they may."""
    redis = Redis()
    between = Between(redis.port)
    node = Node("redis://127.0.0.1:%d" % between.port, "a", **{"cluster.offline": "queue"})
    until("it has reached Redis", node.is_connected)
    said, (ear,) = Said(), hear([node])
    said.publish(node, "t", "one")
    between.refuses = True
    between.cut()
    until("it is away", lambda: not node.is_connected())
    thread = threading.Thread(target=said.publish, args=(node, "t", "two"))
    thread.start()
    time.sleep(1)
    between.refuses = False
    thread.join()
    finish(said, [node], [ear])
    assert ear.texts()[:2] == ["one", "two"] and not ear.gaps(), ear.heard


def killed():
    """Redis is killed and begins with nothing: all are told a gap, and ids rise on."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    for _ in range(ROUNDS):
        gaps = [ear.gaps() for ear in ears]
        said.keep_on(nodes[0], "t", "before-%d" % random.randrange(10 ** 9), 20)
        redis.kill()
        until("both are away", lambda: not any(node.is_connected() for node in nodes))
        redis.begin()
        until("both are back", lambda: all(node.is_connected() for node in nodes))
        for ear, before in zip(ears, gaps):
            ear.wait_gaps(before + 1)
        finish(said, nodes, ears)
    assert nodes[0].figure("heartwheel_cluster_gaps_total") >= ROUNDS
    old = next(one[1] for one in ears[0].heard if one[0] == "event")
    again = Ear(nodes[1], "t", after=old)
    again.wait_gaps(1)


def stopped():
    """Redis stands still for 10 s, and goes on: nothing is missing, no gap is told."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    said.keep_on(nodes[0], "t", "before", 20)
    redis.signal(signal.SIGSTOP)
    thread = threading.Thread(target=said.keep_on, args=(nodes[1], "t", "meanwhile", 3))
    thread.start()
    time.sleep(10)
    redis.signal(signal.SIGCONT)
    thread.join()
    until("both are back", lambda: all(node.is_connected() for node in nodes))
    finish(said, nodes, ears)
    assert not any(ear.gaps() for ear in ears)


def paused():
    """CLIENT PAUSE."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    redis.ask("CLIENT", "PAUSE", 3000, "ALL")
    began = time.monotonic()
    said.publish(nodes[0], "t", "one")
    assert time.monotonic() - began > 2
    finish(said, nodes, ears)
    assert not any(ear.gaps() for ear in ears)


def flushed():
    """FLUSHALL, with traffic and without: all are told a gap."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    said.keep_on(nodes[0], "t", "before", 20)
    redis.ask("FLUSHALL")
    finish(said, nodes, ears)
    assert all(ear.gaps() == 1 for ear in ears), [ear.gaps() for ear in ears]
    redis.ask("FLUSHALL")
    for ear in ears:
        ear.wait_gaps(2)
    redis.ask("DEL", "hw:{heartwheel}:log")
    for ear in ears:
        ear.wait_gaps(3)
    finish(said, nodes, ears)


def memory():
    """Redis has no memory left: publishers are told so, and what it has is still delivered."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    said.keep_on(nodes[0], "t", "before", 20)
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    assert nodes[0].post("t", "no") is None
    assert nodes[0].figure("heartwheel_cluster_refused_total") >= 1
    redis.ask("CONFIG", "SET", "maxmemory", "0")
    # A disk that cannot be written to is told as well.
    redis.ask("CONFIG", "SET", "min-replicas-to-write", "3")
    assert nodes[0].post("t", "no") is None
    redis.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    said.tried["no"] = 0
    finish(said, nodes, ears)
    assert not any(ear.gaps() for ear in ears)


def trimmed():
    """The log is trimmed past a node that stands still, or that is cut off."""
    redis = Redis()
    between = Between(redis.port)
    a = Node("redis://127.0.0.1:%d" % redis.port, "a")
    b = Node("redis://127.0.0.1:%d" % between.port, "b")
    nodes = [a, b]
    for node in nodes:
        until("it has reached Redis", node.is_connected)
    said, ears = Said(), hear(nodes)
    said.keep_on(a, "t", "before", 20)
    b.signal(signal.SIGSTOP)
    # The kernel holds some for the node: more than that must come.
    said.keep_on(a, "t", "x" * 20000, 400)
    redis.ask("XTRIM", "hw:{heartwheel}:log", "MAXLEN", 5)
    b.signal(signal.SIGCONT)
    finish(said, nodes, ears, seconds=60)
    between.refuses = True
    between.cut()
    said.keep_on(a, "t", "cut", 50)
    redis.ask("XTRIM", "hw:{heartwheel}:log", "MAXLEN", 0)
    between.refuses = False
    ears[1].wait_gaps(1)
    until("it has reached Redis", b.is_connected)
    finish(said, nodes, ears)
    assert not ears[0].gaps() and ears[1].gaps() >= 1


def node_killed():
    """A node is killed: its clients go on at another, and it can begin anew with its name."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    said.publish(nodes[1], "t", "first")
    for _ in range(ROUNDS):
        ears[1].wait(said.publish(nodes[0], "t", "round-%d" % random.randrange(10 ** 9)) and list(said.taken)[-1])
        thread = threading.Thread(target=said.keep_on, args=(nodes[0], "t", "a-%d" % random.randrange(10 ** 9), 100))
        thread.start()
        time.sleep(0.3)
        nodes[1].kill()
        until("its stream has ended", lambda: ears[1].has_ended)
        seen = [one for one in ears[1].heard if one[0] == "event"]
        moved = Ear(nodes[0], "t", after=seen[-1][1])
        thread.join()
        finish(said, nodes[:1], [ears[0], moved])
        assert not moved.gaps()
        nodes[1] = Node("redis://127.0.0.1:%d" % redis.port, "b", is_awaited=False)
        nodes[1].port, nodes[1].admin = until("it begins anew", nodes[1].ports, 40)
        until("it has reached Redis", nodes[1].is_connected)
        again = Ear(nodes[1], "t", after=seen[-1][1])
        finish(said, nodes, [ears[0], again])
        assert not again.gaps(), again.heard[:2]
        ears[1] = again
    # One that ends as asked gives its name up at once.
    nodes[1].kill(signal.SIGTERM)
    began = time.monotonic()
    nodes[1] = Node("redis://127.0.0.1:%d" % redis.port, "b")
    assert time.monotonic() - began < 5


def twin():
    """A second node of one name refuses to start."""
    redis, nodes = cluster(1)
    second = Node("redis://127.0.0.1:%d" % redis.port, "a", is_awaited=False)
    status = second.process.wait(30)
    assert status != 0 and "another server of this name" in second.log(), (status, second.log())
    nodes[0].check()


def registry():
    """GET /nodes tells all nodes; a drain at its beginning; who is gone within 30 s."""
    redis, nodes = cluster(2)

    def rows(node):
        wire = http.client.HTTPConnection("127.0.0.1", node.admin, timeout=PATIENCE)
        wire.request("GET", "/nodes")
        text = wire.getresponse().read()
        wire.close()
        return {row["node"]: row for row in json.loads(text)}

    until("both are told", lambda: set(rows(nodes[0])) == {"a", "b"}, 20)
    row = rows(nodes[0])["b"]
    assert set(row) == {"node", "instance", "started_at", "connections", "lag_ms", "draining", "seen_ms", "version",
                        "gaps"}, row
    assert re.fullmatch(r"\d+\.\d+\.\d+", row["version"]) and row["gaps"] == 0, row
    assert not row["draining"] and abs(row["started_at"] - time.time()) < 60 and row["seen_ms"] < 20000
    assert nodes[0].figure("heartwheel_cluster_nodes") == 2
    # One that drains says so, and is gone when it has ended.
    hub = Hub(nodes[1], "0123456789abcdef")
    nodes[1].signal(signal.SIGTERM)
    key = "hw:{heartwheel}:nodes"
    until("the drain is told", lambda: (redis.ask("HGET", key, "b") or b"").split()[5:6] == [b"1"], 5)
    hub.socket.close()
    until("it is gone", lambda: redis.ask("HGET", key, "b") is None, 40)
    # One that dies is gone within 30 s.
    third = Node("redis://127.0.0.1:%d" % redis.port, "c")
    until("it is told", lambda: "c" in rows(nodes[0]), 20)
    third.kill()
    began = time.monotonic()
    until("it is gone", lambda: "c" not in rows(nodes[0]), 45)
    assert time.monotonic() - began < 31, time.monotonic() - began
    print("      a node that died was gone from /nodes after %.1f s" % (time.monotonic() - began))


def stale():
    """A replica that lacks what was acknowledged becomes master: a gap on every node."""
    for is_at_the_fork, is_alone in ((True, False), (False, False), (True, True)):
        master = Redis()
        swallower = Between(master.port)
        replica = Redis("--replicaof", "127.0.0.1 %d" % swallower.port, "--repl-timeout", "3600",
                        "--repl-ping-replica-period", "3600")
        until("the replica is there", lambda: replica.info("master_link_status") == "up")
        fronts = [Between(master.port), Between(master.port)]
        nodes = [Node("redis://127.0.0.1:%d" % front.port, name) for front, name in zip(fronts, "ab")]
        for node in nodes:
            until("it has reached Redis", node.is_connected)
        said, ears = Said(), hear(nodes)
        said.keep_on(nodes[0], "t", "both", 10)
        until("the replica has them", lambda: replica.ask("XLEN", "hw:{heartwheel}:log") == 11)
        ears[1].wait("both-9")
        swallower.swallows = True
        if is_at_the_fork:
            fronts[1].refuses = True
            fronts[1].cut()
            until("it is away", lambda: not nodes[1].is_connected())
        said.keep_on(nodes[0], "t", "lost", 10)
        ears[0].wait("lost-9")
        if is_alone:
            # Nobody is left who has seen more than the replica has: its replication id alone tells.
            nodes.pop(0).kill()
            ears.pop(0)
        for front in fronts:
            front.refuses = True
            front.cut()
        master.kill()
        swallower.cut()
        assert replica.ask("XLEN", "hw:{heartwheel}:log") == 11, "it lacks the last ten"
        replica.ask("REPLICAOF", "NO", "ONE")
        for front in fronts:
            front.to, front.refuses = replica.port, False
        until("all are back", lambda: all(node.is_connected() for node in nodes))
        said.keep_on(nodes[0], "t", "new", 3)
        finish(said, nodes, ears)
        assert all(ear.gaps() >= 1 for ear in ears), [ear.gaps() for ear in ears]
        assert all(node.figure("heartwheel_cluster_gaps_total") >= 2 for node in nodes)
        for process in [*[node.process for node in nodes], replica.process]:
            stop(process)


def watch(master, *lines, count=3, is_secure=False, password=None):
    """Starts sentinels that know each other and the master's one replica. Returns their ports."""
    ports = []
    for _ in range(count):
        port, folder = free_port(), tempfile.mkdtemp(dir=work)
        path = os.path.join(folder, "sentinel.conf")
        listens = "port 0\ntls-port %d" % port if is_secure else "port %d" % port
        with open(path, "w") as text:
            text.write("%s\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %d %d\n"
                       "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n%s\n"
                       % (listens, folder, master.port, count // 2 + 1, "\n".join(lines)))
        with open(os.path.join(folder, "log"), "w") as log:
            start("redis-sentinel", path, log=log)
        ports.append(port)

    def knows(port):
        wire = Wire(port, is_secure, password)
        wire.send("SENTINEL", "MASTER", "main")
        facts = wire.read()
        wire.close()
        facts = dict(zip(facts[::2], facts[1::2]))
        return facts[b"num-other-sentinels"] == b"%d" % (count - 1) and facts[b"num-slaves"] == b"1"

    until("the sentinels know each other", lambda: all(knows(port) for port in ports))
    return ports


def sentinel():
    """Sentinels have another master after it was killed: delivered again within seconds."""
    count = int(os.environ.get("FAILOVERS", "1"))
    took, named = [], []
    for _ in range(count):
        master = Redis()
        replica = Redis("--replicaof", "127.0.0.1 %d" % master.port)
        until("the replica is there", lambda: replica.info("master_link_status") == "up")
        before = list(children)
        sentinels = watch(master)
        url = "sentinel://%s/main" % ",".join("127.0.0.1:%d" % port for port in sentinels)
        nodes = [Node(url, name) for name in "ab"]
        for node in nodes:
            until("it has reached Redis", node.is_connected)
        said, ears = Said(), hear(nodes)
        said.keep_on(nodes[0], "t", "before", 50)
        ears[1].wait("before-49")
        is_over = threading.Event()

        def go_on():
            number = 0
            while not is_over.is_set():
                said.publish(nodes[0], "t", "during-%d" % number)
                number += 1
                time.sleep(0.01)

        thread = threading.Thread(target=go_on)
        thread.start()
        master.kill()
        began = time.monotonic()
        heard = len(ears[1].texts())
        time.sleep(0.3)
        heard = len(ears[1].texts())

        def master_of(port):
            wire = Wire(port)
            wire.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
            address = wire.read()
            wire.close()
            return int(address[1])

        until("one is named", lambda: any(master_of(port) == replica.port for port in sentinels))
        named.append(time.monotonic() - began)
        until("delivered again", lambda: len(ears[1].texts()) > heard, 30)
        took.append(time.monotonic() - began)
        time.sleep(0.5)
        is_over.set()
        thread.join()
        finish(said, nodes, ears)
        assert all(ear.gaps() >= 1 for ear in ears)
        for process in [replica.process, *[one for one in children if one not in before]]:
            stop(process)
    print("      failovers=%d delivered again after s: median %.2f, longest %.2f; a sentinel named the master after %.2f, %.2f" % (
        count, statistics.median(took), max(took), statistics.median(named), max(named)))


def locked():
    """Sentinels with passwords of their own, and by TLS: another master is found there, too."""
    files = dict(zip(("cert", "key", "ca-cert"), (os.path.join(CERTIFICATES, name)
                                                  for name in ("server.crt", "server.key", "ca.crt"))))
    tls = ["tls-%s-file %s" % pair for pair in files.items()] + ["tls-auth-clients no", "tls-replication yes"]
    for is_secure in (False, True):
        lines = tls if is_secure else []
        words = [word for line in lines for word in ("--" + line).split(" ", 1)]
        # One that becomes a replica needs the password of its master.
        words += ["--requirepass", "for-redis", "--masterauth", "for-redis"]
        master = Redis(*words, is_secure=is_secure, password="for-redis")
        replica = Redis(*words, "--replicaof", "127.0.0.1 %d" % master.port, is_secure=is_secure, password="for-redis")
        until("the replica is there", lambda: replica.info("master_link_status") == "up")
        ports = watch(master, *lines, "sentinel auth-pass main for-redis", "requirepass for-sentinels",
                      "sentinel sentinel-pass for-sentinels", is_secure=is_secure, password="for-sentinels")
        scheme, hosts = "sentinels" if is_secure else "sentinel", ",".join("127.0.0.1:%d" % port for port in ports)
        trusted = {"SSL_CERT_FILE": files["ca-cert"]}

        def at(credentials, sentinel, name="a", trusted=trusted):
            return Node("%s://%s@%s/main%s" % (scheme, credentials, hosts, sentinel), name, env=trusted)

        for credentials, sentinel in ((":for-redis", "?sentinel=:for-sentinels"),
                                      ("default:for-redis", "?sentinel=default:for%2Dsentinels")):
            node = at(credentials, sentinel)
            until("it has reached Redis", node.is_connected)
            assert node.post("t", "x")
            assert "for-redis" not in node.log() and "sentinels@" not in node.log(), node.log()
            if credentials == ":for-redis":
                node.kill(signal.SIGTERM)
        # Who has not the password of the sentinels learns nothing, nor does who trusts another.
        for other in [at(":for-redis", "", "b"), at(":for-redis", "?sentinel=:wrong", "c")]:
            until("it says why", lambda: "WRONGPASS" in other.log())
            assert not other.is_connected()
            other.kill(signal.SIGTERM)
        if is_secure:
            other = at(":for-redis", "?sentinel=:for-sentinels", "d",
                       {"SSL_CERT_FILE": os.path.join(CERTIFICATES, "other-ca.crt")})
            until("it says why", lambda: "certificate" in other.log())
            assert not other.is_connected()
            other.kill(signal.SIGTERM)
        said, (ear,) = Said(), hear([node])
        said.keep_on(node, "t", "before", 20)
        ear.wait("before-19")
        master.kill()
        finish(said, [node], [ear], seconds=60)
        node.check()
        for process in [one for one in children]:
            stop(process)


def cut():
    """Connections to Redis break all the time while four publish: nothing is in the log twice."""
    redis = Redis()
    between = Between(redis.port)
    nodes = [Node("redis://127.0.0.1:%d" % between.port, name, **{"cluster.offline": "queue"}) for name in "ab"]
    for node in nodes:
        until("it has reached Redis", node.is_connected)
    said, ears = Said(), hear(nodes)
    threads = [threading.Thread(target=said.keep_on, args=(nodes[number % 2], "t", "p%d" % number, 300, 0.005))
               for number in range(4)]
    [thread.start() for thread in threads]
    while any(thread.is_alive() for thread in threads):
        time.sleep(random.uniform(0.05, 0.4))
        between.cut()
    finish(said, nodes, ears)
    assert not any(ear.gaps() for ear in ears)
    entries = redis.ask("XRANGE", "hw:{heartwheel}:log", "-", "+")
    payloads = collections.Counter(dict(zip(one[1][::2], one[1][1::2])).get(b"d") for one in entries)
    assert max(payloads.values()) == 1, payloads.most_common(3)
    print("      published=%d of %d duplicates=%d" % (
        len(said.taken), len(said.tried), sum(node.figure("heartwheel_cluster_duplicates_total") for node in nodes)))


class Hub:
    """A client of /ws."""

    def __init__(self, node, client, token=None):
        self.socket = socket.create_connection(("127.0.0.1", node.port), PATIENCE)
        bearer = "Authorization: Bearer %s\r\n" % token if token else ""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(("GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n" % (key, bearer)).encode())
        self.file = self.socket.makefile("rb")
        assert b"101" in self.file.readline()
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.say(op="hello", client=client, version="1")

    def say(self, **message):
        data = json.dumps(message).encode()
        assert len(data) < 65536
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + data)

    def hear(self, op):
        while True:
            head = self.file.read(2)
            length = head[1] & 127
            if length == 126:
                length = struct.unpack(">H", self.file.read(2))[0]
            data = self.file.read(length)
            if head[0] & 15 == 1:
                message = json.loads(data)
                if message["op"] == op:
                    return message
                assert message["op"] != "error", message


def has_presence():
    check = [program, "check", "--set", "topics.presence=room"]
    if subprocess.run(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        print("== WHO IS ON A TOPIC WAS NOT TESTED: THE PROGRAM IS WITHOUT THE FEATURE `presence`")
        return False
    return True


def people():
    """Who is on a topic is told on every node; who moves makes no noise, and a killed node's people leave."""
    if not has_presence():
        return
    tokens = os.path.join(work, "people-tokens")
    with open(tokens, "w") as file:
        file.write("".join("%s identity=%s subscribe=*\n" % (name, name) for name in ("ann", "bob", "eve")))
    # These clients answer no pings.
    patient = {"heartbeat.interval": "5m", "heartbeat.pong": "1m", "deadlines.read_idle": "10m"}
    redis, nodes = cluster(2, **{"topics.presence": "room", "admission.tokens": tokens}, **patient)

    def there(node):
        status, text, _ = node.ask("GET", "/topics/room?presence", Authorization="Bearer eve")
        assert status == 200, (status, text)
        members = json.loads(text)["members"]
        return sorted((one["identity"], one.get("info")) for one in members)

    def told(hub, seconds):
        """What was told of joins and leaves for so long."""
        hub.socket.settimeout(seconds)
        words, until_ = [], time.monotonic() + seconds
        try:
            while time.monotonic() < until_:
                data = hub.hear("event")["data"]
                words += ["+" + one["identity"] for one in data["joined"]]
                words += ["-" + one["identity"] for one in data["left"]]
        except TimeoutError:
            pass
        hub.file = hub.socket.makefile("rb")
        return words

    watcher = Hub(nodes[1], "eve-of-the-test-000", "eve")
    watcher.say(op="subscribe", topic="$presence.room")
    ann, bob = Hub(nodes[0], "ann-of-the-test-000", "ann"), Hub(nodes[0], "bob-of-the-test-000", "bob")
    ann.say(op="subscribe", topic="room", info="phone")
    bob.say(op="subscribe", topic="room")
    for node in nodes:
        until(lambda: "both are there: %s" % there(node), lambda: there(node) == [("ann", "phone"), ("bob", None)])
    assert sorted(told(watcher, 4)) == ["+ann", "+bob"]
    # Redis begins anew with nothing: all say again who is there.
    redis.kill()
    until("both are away", lambda: not any(node.is_connected() for node in nodes))
    redis.begin()
    until("both are back", lambda: all(node.is_connected() for node in nodes))
    assert told(watcher, 8) == []
    assert there(nodes[0]) == there(nodes[1]) == [("ann", "phone"), ("bob", None)]
    # She moves to the other node.
    moved = Hub(nodes[1], "ann-of-the-test-000", "ann")
    moved.say(op="subscribe", topic="room", info="desk")
    ann.socket.close()
    ann.file.close()
    until("she is at one node", lambda: there(nodes[0]) == there(nodes[1]) == [("ann", "desk"), ("bob", None)])
    assert told(watcher, 4) == []
    nodes[0].kill()
    began = time.monotonic()
    until("his node's people have left", lambda: there(nodes[1]) == [("ann", "desk")], 40)
    span = time.monotonic() - began
    assert span < 30, span
    assert told(watcher, 2) == ["-bob"], "and nobody else"
    nodes[1].check()


def people_reload():
    """A reload of `topics.presence` holds for the people of all nodes: on, for other topics, off, and on again."""
    if not has_presence():
        return
    patient = {"heartbeat.interval": "5m", "heartbeat.pong": "1m", "deadlines.read_idle": "10m"}
    path = os.path.join(work, "people.toml")

    def write(names):
        with open(path, "w") as file:
            file.write("[topics]\npresence = %s\n" % json.dumps(names or "off"))

    write([])
    redis = Redis()
    url = "redis://127.0.0.1:%d" % redis.port
    # One that never tells of anybody else's topics, and one that is told.
    fixed = Node(url, "a", **{"topics.presence": "room,hall"}, **patient)
    node = Node(url, "b", config=path, **patient)
    for one in (fixed, node):
        until("node %s has reached Redis" % one.name, one.is_connected)
    hubs = [Hub(one, "person-of-node-%s-000" % one.name) for one in (fixed, node)]
    for hub in hubs:
        for topic in ("room", "hall"):
            hub.say(op="subscribe", topic=topic)

    def count(one, topic):
        status, text, _ = one.ask("GET", "/topics/%s?presence" % topic)
        return json.loads(text)["count"] if status == 200 else None

    def counts():
        return [[count(one, topic) for topic in ("room", "hall")] for one in (fixed, node)]

    until(lambda: "it begins without: %s" % counts(), lambda: counts() == [[1, 1], [None, None]])
    for names, expected in [(["room"], [[2, 1], [2, None]]), (["hall"], [[1, 2], [None, 2]]),
                            (["room", "hall"], [[2, 2], [2, 2]]), ([], [[1, 1], [None, None]]), (["h*"], [[1, 2], [None, 2]])]:
        write(names)
        node.signal(signal.SIGHUP)
        began = time.monotonic()
        until(lambda: "%s: %s" % (names, counts()), lambda: counts() == expected, 10)
        print("      presence = %s held on both nodes after %.1f s" % (names, time.monotonic() - began))
    # While Redis is away a topic that does not tell any more has nobody of others.
    redis.kill()
    until("both are away", lambda: not any(one.is_connected() for one in (fixed, node)))
    write([])
    node.signal(signal.SIGHUP)
    until("nobody is left", lambda: node.figure("heartwheel_presence_members") == 0, 10)
    redis.begin()
    until("he is gone there, too", lambda: counts() == [[1, 1], [None, None]], 40)
    for one in (fixed, node):
        one.check()


def repeated():
    """A client publishes again on another node what the first did not answer: it is there once."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    ids = []
    for node in nodes + nodes:
        hub = Hub(node, "0123456789abcdef")
        hub.say(op="publish", topic="t", ref=7, data="once")
        ids.append(hub.hear("published")["id"])
    assert len(set(ids)) == 1, ids
    hub = Hub(nodes[1], "0123456789abcdef")
    hub.say(op="publish", topic="t", ref=8, data="twice")
    second = hub.hear("published")["id"]
    assert second != ids[0]
    hub = Hub(nodes[0], "fedcba9876543210")
    hub.say(op="publish", topic="t", ref=7, data="of another")
    assert hub.hear("published")["id"] not in ids
    said.tried.update(["once", "twice", "of another"])
    finish(said, nodes, ears)
    assert ears[0].texts()[:3] == ["once", "twice", "of another"], ears[0].texts()
    assert nodes[1].figure("heartwheel_cluster_duplicates_total") == 1
    # In another epoch it still gets the id that the event has.
    epoch = lambda: redis.ask("HGET", "hw:{heartwheel}:epoch", "e")
    before = epoch()
    redis.ask("DEL", "hw:{heartwheel}:log")
    until("another epoch has begun", lambda: epoch() != before, 20)
    hub = Hub(nodes[0], "0123456789abcdef")
    hub.say(op="publish", topic="t", ref=8, data="twice")
    again = hub.hear("published")["id"]
    assert again == second, (again, second)


def moved():
    """A client moves between nodes under load: nothing is missing, nothing comes twice."""
    moves = int(os.environ.get("MOVES", "100"))
    redis, nodes = cluster(3)
    said, is_over, heard = Said(), threading.Event(), []

    def go_on(node, name):
        number = 0
        while not is_over.is_set():
            said.publish(node, "t", "%s-%d" % (name, number))
            number += 1

    first = Ear(nodes[0], "t")
    time.sleep(0.1)
    threads = [threading.Thread(target=go_on, args=(node, node.name)) for node in nodes[:2]]
    [thread.start() for thread in threads]
    until("the first", lambda: first.texts())
    position = first.heard[0][1]
    for move in range(moves):
        ear = Ear(nodes[move % 3], "t", after=position)
        until("more after " + position, lambda: ear.texts())
        ear.socket.shutdown(socket.SHUT_RDWR)
        until("its end", lambda: ear.has_ended)
        assert not ear.gaps(), (move, position, ear.heard[:3])
        heard += ear.heard
        position = heard[-1][1]
    is_over.set()
    [thread.join() for thread in threads]
    last = Ear(nodes[1], "t", after=position)
    said.publish(nodes[0], "t", "last")
    last.wait("last")
    first.wait("last")
    heard = [one[2] for one in heard + last.heard]
    assert heard == first.texts()[1:], (len(heard), len(first.texts()))
    print("      moves=%d events=%d" % (moves, len(heard)))


def odd():
    """Entries of others in the log, large ones among them, and keys of another type."""
    redis, nodes = cluster(2)
    said, ears = Said(), hear(nodes)
    log = "hw:{heartwheel}:log"
    said.keep_on(nodes[0], "t", "before", 5)
    redis.ask("XADD", log, "*", "temperature", "7")
    redis.ask("XADD", log, "*", "s", "nonsense")
    redis.ask("XADD", log, "*", "t", "t", "k", "t", "d", "without a place")
    redis.ask("XADD", log, "*", "large", b"x" * 9_000_000)
    wide = [part for number in range(6) for part in ("f%d" % number, b"x" * 1_500_000)]
    redis.ask("XADD", log, "*", *wide)
    finish(said, nodes, ears, seconds=60)
    assert not any(ear.gaps() for ear in ears), [ear.heard for ear in ears]
    assert nodes[0].figure("heartwheel_cluster_foreign_total") == 5, nodes[0].figure("heartwheel_cluster_foreign_total")
    redis.ask("DEL", log)
    redis.ask("SET", log, "no stream")
    assert nodes[0].post("t", "no") is None
    redis.ask("DEL", log)
    said.tried["no"] = 0
    until("all are back", lambda: all(node.is_connected() for node in nodes))
    finish(said, nodes, ears)


def hostile():
    """What is no Redis at all answers: the node goes on serving, and tells that it is not ready."""
    answers = [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*1000000000\r\n" * 20, b"$999999999999\r\n" + b"x" * 100000,
               b"+OK\r\n" * 1000, b"-ERR no\r\n", b"*1\r\n" * 1000, b"\0" * 100000, b"", b":1\r\n" * 100,
               b"+QUEUED\r\n" * 5 + b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$25\r\nrole:master\r\nmaster_replid\r\n"]
    server = socket.create_server(("127.0.0.1", 0))
    served = []

    def serve():
        while True:
            near, _ = server.accept()
            answer = answers[len(served) % len(answers)]
            served.append(answer)
            try:
                near.recv(65536)
                near.sendall(answer)
            except OSError:
                pass
            near.close()

    threading.Thread(target=serve, daemon=True).start()
    node = Node("redis://127.0.0.1:%d" % server.getsockname()[1], "a")
    until("all were tried", lambda: len(served) > 2 * len(answers), 60)
    assert node.post("t", "x") is None and not node.is_ready()
    assert node.ask("GET", "/healthz")[0] == 200
    node.check()


def others():
    """A password, a database, a Unix socket with a password and without, TLS; and the password is shown nowhere."""
    redis = Redis("--requirepass", "secret", "--unixsocket", os.path.join(work, "redis.sock"))
    url = "redis://:secret@127.0.0.1:%d/3" % redis.port
    node = Node(url, "a")
    until("it has reached Redis", node.is_connected)
    assert node.post("t", "x") and "secret" not in node.log()
    shown = subprocess.run([program, "check", "--set", "cluster.redis=" + url], capture_output=True, text=True)
    assert "127.0.0.1" in shown.stdout and "secret" not in shown.stdout + shown.stderr, shown
    node.kill()
    plain = Redis("--unixsocket", os.path.join(work, "plain.sock"))
    node = Node("unix:" + os.path.join(work, "plain.sock"), "a")
    until("it has reached Redis", node.is_connected)
    assert node.post("t", "x") and plain.ask("XLEN", "hw:{heartwheel}:log") == 2
    node.kill()
    for url in ("unix://:secret@", "unix://default:secret@"):
        node = Node(url + os.path.join(work, "redis.sock"), "a")
        until("it has reached Redis", node.is_connected)
        assert node.post("t", "x") and "secret" not in node.log()
        node.kill(signal.SIGTERM)
    node = Node("unix://:wrong@" + os.path.join(work, "redis.sock"), "a")
    until("it says why", lambda: "WRONGPASS" in node.log())
    assert not node.is_connected() and "wrong@" not in node.log()
    node.kill(signal.SIGTERM)
    port = free_port()
    files = [os.path.join(CERTIFICATES, name) for name in ("server.crt", "server.key", "ca.crt")]
    start("redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", work,
          "--tls-cert-file", files[0], "--tls-key-file", files[1], "--tls-ca-cert-file", files[2],
          "--tls-auth-clients", "no")
    for trusted, is_reached in ((files[2], True), (os.path.join(CERTIFICATES, "other-ca.crt"), False)):
        node = Node("rediss://127.0.0.1:%d" % port, "a", env={"SSL_CERT_FILE": trusted})
        if is_reached:
            until("it has reached Redis by TLS", node.is_connected)
            assert node.post("t", "x")
        else:
            until("it says why", lambda: "certificate" in node.log())
            assert not node.is_connected()
        node.kill(signal.SIGTERM)


def example():
    """examples/cluster: two of three nodes are killed behind HAProxy, and a client goes on."""
    if not shutil.which("haproxy"):
        return print("== THE EXAMPLE WAS NOT TESTED: haproxy IS ABSENT")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # Below those that the kernel gives to others.
    base = random.randrange(20000, 30000, 8)
    script = start(os.path.join(root, "examples", "cluster", "run"), program, env={**os.environ, "PORT": str(base)})

    def ask(port, method, path, body=None):
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            wire.request(method, path, body)
            answer = wire.getresponse()
            return answer.status, answer.read().decode()
        finally:
            wire.close()

    def of_node(name):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid) as line:
                    if os.getpgid(int(pid)) == script.pid and "cluster.node=" + name in line.read():
                        return int(pid)
            except OSError:
                pass
        raise AssertionError("there is no node " + name)

    until("three nodes are told", lambda: ask(base + 4, "GET", "/nodes")[1].count("instance") == 3)
    until("HAProxy passes on", lambda: ask(base, "GET", "/readyz")[0] == 200)
    figures = ask(base + 4, "GET", "/metrics")[1]
    with open(os.path.join(root, "examples", "monitoring", "dashboard.json")) as dashboard:
        named = set(re.findall(r"heartwheel_cluster_\w+", dashboard.read()))
    assert named and all("\n" + name in figures for name in named), named
    with open(os.path.join(work, "heard"), "w") as heard:
        start(program, "subscribe", "ws://127.0.0.1:%d/ws" % base, "hello", log=heard)

    def lines():
        with open(os.path.join(work, "heard")) as heard:
            return heard.read().split()

    until("it is subscribed", lambda: any(
        "heartwheel_subscriptions 1" in ask(base + 4 + n, "GET", "/metrics")[1] for n in range(3)))
    for text, victim in (("one", "a"), ("two", "b"), ("three", None)):
        until(text + " is published", lambda: ask(base, "POST", "/topics/hello", text)[0] == 200)
        until(lambda: "%s was heard: %s" % (text, lines()), lambda: text in lines())
        if victim:
            os.kill(of_node(victim), signal.SIGKILL)
    assert [line for line in lines() if line in ("one", "two", "three")] == ["one", "two", "three"], lines()
    stop(script, signal.SIGTERM)


# -- Figures ---------------------------------------------------------------------------------------

LOAD = "x" * 200


def arrivals(pipe, count, hear):
    """In a process of its own: when each event came."""
    hear()
    pipe.send(None)
    times = []
    for _ in range(count):
        hear()
        times.append(time.monotonic())
    pipe.send(times)


def delays(count, connect, publish):
    """How long `count` events take from their publisher to a listener, sorted, in microseconds."""
    ours, theirs = multiprocessing.Pipe()
    listener = multiprocessing.Process(target=arrivals, args=(theirs, count, connect()), daemon=True)
    listener.start()
    publish()
    ours.recv()
    sent = []
    for _ in range(count):
        time.sleep(0.001)
        sent.append(time.monotonic())
        publish()
    times = ours.recv()
    listener.join()
    return sorted(round(1e6 * (heard - said)) for said, heard in zip(sent, times))


def latency():
    """From a publisher on one node to a subscriber on another, in turns with XADD and XREAD."""
    redis, nodes = cluster(2)

    def listen_raw():
        wire, last = Wire(redis.port), ["0"]
        redis.ask("DEL", "raw")

        def hear():
            wire.send("XREAD", "COUNT", 1, "BLOCK", 5000, "STREAMS", "raw", last[0])
            last[0] = wire.read()[0][1][0][0]
        return hear

    def listen():
        ear = Hub(nodes[1], "0123456789abcdef")
        ear.say(op="subscribe", topic="t")
        ear.hear("subscribed")
        return lambda: ear.hear("event")

    wire, hub, refs = Wire(redis.port), Hub(nodes[0], "0123456789abcdee"), itertools.count(1)

    def publish_raw():
        wire.send("XADD", "raw", "*", "d", LOAD)
        wire.read()

    def publish():
        hub.say(op="publish", topic="t", ref=next(refs), data=LOAD)
        hub.hear("published")

    rounds = collections.defaultdict(list)
    for _ in range(7):
        for name, connect, say in (("raw", listen_raw, publish_raw), ("nodes", listen, publish)):
            times = delays(1000, connect, say)
            rounds[name].append((times[500], times[990]))
    for name, title in (("raw", "XADD and XREAD"), ("nodes", "through two nodes")):
        print("    %-18s p50 %4d us, p99 %4d us (medians of 7 rounds of 1,000, p99 from %d to %d)" % (
            title, statistics.median(one[0] for one in rounds[name]), statistics.median(one[1] for one in rounds[name]),
            min(one[1] for one in rounds[name]), max(one[1] for one in rounds[name])))


def flood(node, name, count):
    hub = Hub(node, name)
    pieces = []
    for first in range(0, count, 64):
        piece = b""
        for ref in range(first, first + 64):
            data = json.dumps({"op": "publish", "topic": name, "ref": ref, "data": LOAD}).encode()
            piece += b"\x81\xfe" + struct.pack(">H", len(data)) + b"\0\0\0\0" + data
        pieces.append(piece)

    def send():
        for piece in pieces:
            hub.socket.sendall(piece)
    threading.Thread(target=send).start()
    for _ in range(count):
        hub.hear("published")


def script_of(redis):
    """Leaves the script that publishes with Redis, and returns what it is called by."""
    with open(os.path.join(os.path.dirname(CERTIFICATES), "..", "..", "src", "core", "cluster", "scripts.rs")) as source:
        text = re.search(r'pub const PUBLISH: &str = "\\\n(.*?)\n";', source.read(), re.S).group(1)
    return redis.ask("SCRIPT", "LOAD", text.replace("\\\n", "")).decode()


def benchmark(redis, connections, depth, *command):
    """Returns how many of a command Redis takes in a second."""
    said = subprocess.run(["redis-benchmark", "-p", str(redis.port), "-n", "50000", "-c", connections, "-P", depth,
                           "-r", "1000000000", *command], capture_output=True, text=True, check=True).stdout
    return float(re.search(r"([\d.]+) requests per second", said).group(1))


def publishes():
    """Publications a second through two nodes, in turns with the same script by redis-benchmark."""
    redis, nodes = cluster(2)
    script = script_of(redis)
    epoch = redis.ask("HGET", "hw:{heartwheel}:epoch", "e").decode()
    each, rates = 12800, collections.defaultdict(list)
    for turn in range(5):
        floods = [multiprocessing.Process(target=flood, args=(nodes[k % 2], "%016x" % (4 * turn + k), each)) for k in range(4)]
        began = time.monotonic()
        [one.start() for one in floods]
        [one.join() for one in floods]
        assert not any(one.exitcode for one in floods)
        rates["through two nodes"].append(4 * each / (time.monotonic() - began))
        for depth in (1, 64):
            rates["EVALSHA, depth %d" % depth].append(benchmark(
                redis, "4", str(depth), "EVALSHA", script, "3", "hw:{heartwheel}:epoch", "hw:{heartwheel}:log",
                "hw:{heartwheel}:p:bench", epoch, "__rand_int__", "0123456789abcdef", "100000", "300000", "x:1", "t", "t", LOAD))
    for name, seen in rates.items():
        print("    %-18s %6d/s (median of 5 rounds, from %d to %d)" % (name, statistics.median(seen), min(seen), max(seen)))


def costs():
    """What Redis does in a second, and how long it takes for each command, without any node."""
    redis, nodes = cluster(1)
    script, epoch = script_of(redis), redis.ask("HGET", "hw:{heartwheel}:epoch", "e").decode()
    nodes[0].kill()

    def publish(producer):
        return ["EVALSHA", script, "3", "hw:{heartwheel}:epoch", "hw:{heartwheel}:log", "hw:{heartwheel}:p:" + producer,
                epoch, "__rand_int__", "0123456789abcdef", "100000", "300000", "x:1", "t", "t", LOAD]

    for title, command in (("the script, of one producer", publish("bench")),
                           ("the script, of producers that publish once", publish("ROUND-__rand_int__")),
                           ("XADD", ["XADD", "raw", "MAXLEN", "~", "100000", "*", "d", LOAD]),
                           ("XREAD of 1 event", ["XREAD", "COUNT", "1", "STREAMS", "raw", "0"]),
                           ("XREAD of 101 events", ["XREAD", "COUNT", "101", "STREAMS", "raw", "0"])):
        rates, spans = [], []
        for turn in range(3):
            redis.ask("CONFIG", "RESETSTAT")
            # What was random in one round may be the same in the next.
            rates.append(benchmark(redis, "2", "64", *[word.replace("ROUND", str(turn)) for word in command]))
            stats = redis.ask("INFO", "commandstats").decode()
            spans.append(float(re.search(r"cmdstat_%s:.*usec_per_call=([\d.]+)" % command[0].lower(), stats).group(1)))
        print("    %-42s %7d/s, %5.1f us each (best of 3, from %d and %.1f)" % (
            title, max(rates), min(spans), min(rates), max(spans)))


FIGURES = [latency, publishes, costs]
CASES = [people, people_reload, deliver, away, queue, killed, stopped, paused, flushed, memory, trimmed, node_killed, twin,
         registry, stale, sentinel, locked, cut, repeated, moved, odd, hostile, others, example]


def run(case):
    before = list(children)
    began = time.monotonic()
    try:
        case()
        print("  ok  %-12s %5.1f s  %s" % (case.__name__, time.monotonic() - began, case.__doc__), flush=True)
        return True
    except Exception as fault:
        print("FAILED %-12s %s: %s" % (case.__name__, type(fault).__name__, fault), flush=True)
        if os.environ.get("TRACE"):
            import traceback
            traceback.print_exc()
        return False
    finally:
        for process in [one for one in children if one not in before]:
            stop(process)


def main():
    global program
    program = sys.argv[1]
    names = sys.argv[2:]
    unknown = set(names) - {case.__name__ for case in CASES + FIGURES}
    if unknown:
        sys.exit("no such case: %s" % ", ".join(sorted(unknown)))
    try:
        results = [run(case) for case in CASES + FIGURES if case.__name__ in names or not names and case in CASES]
    finally:
        for process in list(children):
            stop(process)
        if os.environ.get("KEEP"):
            print(work)
        else:
            shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if all(results) else 1)


main()
