"""Runs the program's clients against the servers of one part, or its server against the clients of
one, and judges what they say and do.

    check.py PROGRAM FOLDER PART

PART is one of those that `run` names. FOLDER takes what the programs print. Exit status 1 if
anything did not hold.
"""
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import names

HERE = os.path.dirname(os.path.abspath(__file__))
OTHERS = os.path.join(HERE, "../../target/others")
SERVERS = {
    "websockets": (os.path.join(OTHERS, "python/bin/python"), os.path.join(HERE, "server.py")),
    "ws": ("node", os.path.join(HERE, "server.js")),
}
CLIENTS = {
    "websockets-clients": (SERVERS["websockets"][0], os.path.join(HERE, "clients.py")),
    "ws-clients": ("node", os.path.join(HERE, "clients.js")),
}
# How long anything may take.
PATIENCE = 25
SOON = ("--log", "info", "--set", "client.delay=100ms", "--set", "client.delay_max=300ms",
        "--set", "client.broken_for=1s")
# Of clients that are made of libraries: how many messages, where not all ways are tried, and what
# becomes of those that are too many.
MESSAGES = int(os.environ.get("MESSAGES", 0))
POLICY = os.environ.get("POLICY", "drop_oldest")
# A mebibyte.
LARGE = "\u00fc" * (1 << 19)


class Part:
    """The processes of a part, and what is wrong with them."""

    def __init__(self, program, place):
        self.program, self.place = program, place
        self.faults, self.processes = [], []

    def check(self, holds, *what):
        if not holds:
            self.faults.append(" ".join(str(word) for word in what)[:2000])
        return holds

    def until(self, holds, *what):
        """Waits until something holds. Returns whether it does."""
        gives_up_at = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > gives_up_at:
                return self.check(False, "did not happen in time:", *what)
            time.sleep(0.02)
        return True

    def start(self, name, *words, **more):
        run = Run(self, name, words, **more)
        self.processes.append(run.process)
        return run

    def client(self, name, *words, **more):
        return self.start(name, self.program, *words, *SOON, **more)

    def clean(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


class Run:
    """A process whose output goes to files."""

    def __init__(self, part, name, words, stdin=None):
        self.part, self.name = part, name
        self.path = os.path.join(part.place, name)
        with open(self.path + ".out", "wb") as out, open(self.path + ".log", "wb") as log:
            self.process = subprocess.Popen(words, stdout=out, stderr=log,
                                            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL)
        if stdin:
            self.process.stdin.write(stdin)
            self.process.stdin.close()

    def read(self, end=".log"):
        with open(self.path + end, encoding="utf-8") as file:
            return file.read()

    def lines(self):
        # The last line may still be on its way.
        whole = self.read(".out").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def failures(self):
        """Returns why each try and each connection ended."""
        whys = re.findall(r"program::client\] client state=\w+ failures=\d+ why=(.*)", self.read())
        return [why for why in whys if why != "stopped by the application"]

    def count(self, state):
        return len(re.findall("client state=%s\\b" % state, self.read()))

    def ends(self, status, *said, patience=PATIENCE):
        """Waits for the end; the status and the words of the last line must be these."""
        try:
            got = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return self.part.check(False, self.name, "does not end:", self.read()[-500:])
        fits = got == status and all(word in self.read() for word in said)
        return self.part.check(fits, self.name, "ended with", got, "and not with", status, *said,
                               "but said:", self.read()[-500:])


# -- Servers made of libraries ---------------------------------------------------------------------


def say(**message):
    return {"say": json.dumps(message, ensure_ascii=False)}


def event(number, data, **more):
    id = "%d-1" % (1000 + number)
    said = {"op": "event", "topic": "events", "id": id, **data}
    return {"id": id, **say(**said), "line": {"topic": "events", "id": id, **data}, **more}


def events():
    """Forty events of all kinds, with the ends of the connection between them."""
    ends = {8: (say(op="goaway", retry_ms=200), {"close": 1012, "reason": "retry=200"}),
            16: ({"close": 1001, "reason": "going"},),
            24: ({"kill": True},),
            32: ({"reset": True},)}
    for number in range(1, 41):
        if number % 8 == 3:
            yield event(number, {"data": "%d %s" % (number, LARGE)})
        elif number % 8 == 5:
            text = "%d in pieces: \u00fc \u20ac \U0001f600" % number
            yield event(number, {"data": text}, pieces=True)
        elif number % 8 == 6:
            yield event(number, {"data": {"number": number, "list": [1.50, None]}})
        elif number % 8 == 7:
            yield event(number, {"base64": "AP8="})
        else:
            yield event(number, {"data": "event %d" % number})
        yield from ends.get(number, ())


SCRIPT = {
    "events": list(events()),
    "quiet": [say(op="event", topic="quiet", id="1-1", data="a"), {"pause": 3.5},
              say(op="event", topic="quiet", id="2-1", data="b")],
    "gap": [say(op="gap", topic="gap", first="7-1"),
            say(op="event", topic="gap", id="7-1", data="c")],
    "refused": [{"close": 1008, "reason": "not for you"}],
    "gone": [{"close": 4500, "reason": "no more of this"}],
}


class Library(Part):
    """Our clients and a server that is made of a library, with compression or without."""

    def run(self, part):
        library, _, self.compresses = part.partition("-")
        self.command, self.servers = SERVERS[library], []
        self.script = SCRIPT
        port = self.serve(0)
        self.host = "127.0.0.1:%d" % port
        self.url = "ws://" + self.host
        quiet = self.client("quiet", "subscribe", self.url, "quiet", "--count", "2",
                            "--set", "heartbeat.interval=1s", "--set", "heartbeat.pong=1s",
                            *self.compression("compression.history=off"))
        self.judge_ends()
        self.judge_publications()
        quiet.ends(0)
        self.check(quiet.count("open") == 1, "a quiet connection was lost:", quiet.failures())
        self.judge_events(port)
        for server in self.servers:
            for line in server.lines():
                self.check(line["is"] != "fault", "the library found fault:", line)
                if line["is"] == "open":
                    extensions = 1 if self.compresses else 0
                    fits = (line["subprotocol"], line["extensions"]) == ("heartwheel.v1", extensions)
                    self.check(fits, "agreed on something else:", line)

    def client(self, *words, **more):
        return super().client(*words, *self.compression("compression.mode=on"), **more)

    def compression(self, setting):
        return ("--set", setting) if self.compresses else ()

    def serve(self, port):
        script = os.path.join(self.place, "script")
        with open(script, "w", encoding="utf-8") as file:
            json.dump(self.script, file)
        name = "server-%d" % len(self.servers)
        server = self.start(name, *self.command, str(port), script)
        self.servers.append(server)
        listens = lambda: any(line["is"] == "listening" for line in server.lines())
        if not self.until(listens, "the server listens:", server.read()):
            raise SystemExit("\n".join(self.faults))
        return server.lines()[0]["port"]

    def said(self, what, **more):
        found = (line for server in self.servers for line in server.lines() if line["is"] == what)
        return [line for line in found if more.items() <= line.items()]

    def judge_ends(self):
        """Codes that stop a client, and a gap."""
        refused = self.client("refused", "subscribe", self.url, "refused")
        gone = self.client("gone", "subscribe", self.url, "gone")
        refused.ends(1, 'heartwheel: %s: closed with 1008 "not for you"' % self.host)
        gone.ends(1, 'heartwheel: %s: closed with 4500 "no more of this"' % self.host)
        for topic in ("refused", "gone"):
            self.check(len(self.said("subscribe", topic=topic)) == 1, topic, "was tried again")
        gap = self.client("gap", "subscribe", self.url, "gap", "--after", "5-1", "--json",
                          "--count", "1")
        gap.ends(0)
        expected = [{"topic": "gap", "gap": "7-1"}, {"topic": "gap", "id": "7-1", "data": "c"}]
        self.check(gap.lines() == expected, "a gap is printed as", gap.lines())

    def judge_publications(self):
        """Each line is published once and has its id, though the connection broke between."""
        lines = ["line %d \u20ac" % number for number in range(60)]
        lines[30] = LARGE
        publisher = self.client("publish", "publish", self.url, "room", "-", "--timeout", "30s",
                                "--set", "client.pending_bytes=16m",
                                stdin="\n".join(lines).encode())
        publisher.ends(0)
        told = self.said("publish")
        first = [line for line in told if not line["again"]]
        published, ids = [line["data"] for line in first], [line["id"] for line in first]
        self.check(published == lines, "published were", len(first), "others")
        self.check(len(told) > len(first), "nothing was sent again")
        self.check(publisher.read(".out").split() == ids, "other ids were printed")
        self.check(publisher.count("open") == 2, "connected", publisher.count("open"), "times")

    def judge_events(self, port):
        """Each event comes once and in order, whatever ends the connection."""
        client = self.client("events", "subscribe", self.url, "events", "--json", "--count", "40",
                             *self.compression("client.history_bytes=1k"))
        is_killed = lambda: self.servers[0].process.poll() is not None
        if self.until(is_killed, "the server is killed"):
            # The server that is started anew has no end left but the last.
            self.script = {"events": [step for step in self.script["events"]
                                      if "close" not in step and "kill" not in step]}
            self.serve(port)
        client.ends(0)
        expected = [step["line"] for step in SCRIPT["events"] if "id" in step]
        got = client.lines()
        self.check(got == expected, "events came otherwise:", [line["id"] for line in got])
        whys = client.failures()
        self.check(whys[:2] == ['closed with 1012 "retry=200"', 'closed with 1001 "going"'], whys)
        self.check(client.count("open") == 5, client.count("open"), "times open:", whys)
        afters = [line["after"] for line in self.said("subscribe", topic="events")]
        self.check(afters[:3] == [None, "1008-1", "1016-1"], "resumed at", afters)
        for server, codes in zip(self.servers, ([1012, 1001], [None, 1000])):
            got = [line["code"] for line in server.lines() if line["is"] == "closed"]
            self.check(got[-2:] == codes, server.name, "saw the codes", got)


# -- Clients made of libraries ---------------------------------------------------------------------


class Clients(Part):
    """Our server, which compresses, and clients that are made of a library."""

    def run(self, part):
        # What is published faster than it may leave is dropped, before it is compressed.
        settings = ("compression.mode=on", "limits.send_per_second=50", "limits.outbox_bytes=8k",
                    "overflow.policy=drop_oldest", "listen=127.0.0.1:0", "admin_listen=off",
                    "limits.topics=1000")
        if MESSAGES:
            settings += ("limits.send_per_second=5000", "overflow.policy=" + POLICY,
                         "heartbeat.interval=1s")
        words = [word for setting in settings for word in ("--set", setting)]
        server = self.start("server", self.program, "serve", "--log", "info", *words)
        listens = lambda: re.search(r"listening .*?(127\.0\.0\.1:\d+)", server.read())
        if not self.until(listens, "the server listens:", server.read()):
            return
        clients = self.start("clients", *CLIENTS[part], listens()[1])
        clients.ends(0, patience=PATIENCE + MESSAGES // 500)
        told = {what: [line for line in clients.lines() if line["is"] == what]
                for what in ("agreed", "read", "fault", "done")}
        for fault in told["fault"]:
            self.check(False, fault)
        ways = sum(line["ways"] for line in told["done"])
        self.check(ways == 1 if MESSAGES else ways > 10, "went", ways, "ways")
        counts = [line["count"] for line in told["agreed"]]
        self.check(counts == [1] * ways, "agreed on", counts)
        missed = [line["missed"] for line in told["read"]]
        # Where the machine is slow, some publish slowly.
        dropped = sum(1 for count in missed if count)
        self.check(len(missed) == ways and 2 * dropped >= ways, "of what was dropped missed", missed)
        if MESSAGES:
            print("%s: of %d messages %s were dropped by %s" % (part, MESSAGES, missed, POLICY))


# -- A wall of HTTP --------------------------------------------------------------------------------

PORTAL = b"<!DOCTYPE html><title>Welcome</title><form>Your room number</form>"
WALL = [(502, {}, 0), (503, {"Retry-After": "2"}, 2), (429, {"Retry-After": "1"}, 1),
        (302, {"Location": "/portal"}, 0), (200, {"Content-Type": "text/html"}, 0)]


class Wall(http.server.BaseHTTPRequestHandler):
    """Answers all requests of a path by one status; of `/ws` by one after the other of WALL."""

    def do_GET(self):
        seen = self.server.seen
        seen.append((time.monotonic(), self.path, self.headers.get("Authorization")))
        status, headers = self.server.status, {}
        if not status:
            status, headers, _ = WALL[(len(seen) - 1) % len(WALL)]
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.send_header("Content-Length", str(len(PORTAL)))
        self.end_headers()
        self.wfile.write(PORTAL)

    def log_message(self, *_):
        pass


class Walls(Part):
    """Our clients before HTTP servers of python, which let nobody through."""

    def run(self, _):
        for status in (400, 403, 404, 405, 426):
            wall = self.build(status)
            client = self.client("status-%d" % status, "publish", wall.url, "room", "x")
            client.ends(1, "heartwheel: %s: HTTP status %d" % (wall.host, status))
            self.check(len(wall.seen) == 1, status, "was asked", len(wall.seen), "times")
        self.judge_token()
        self.judge_wall()

    def build(self, status=None):
        wall = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wall)
        wall.status, wall.seen = status, []
        wall.host = "127.0.0.1:%d" % wall.server_address[1]
        wall.url = "ws://" + wall.host
        # A client that has the head does not wait for the page.
        wall.handle_error = lambda *_: None
        threading.Thread(target=wall.serve_forever, daemon=True).start()
        return wall

    def judge_token(self):
        """After 401 the file of the token is read once more."""
        path = os.path.join(self.place, "token")
        with open(path, "w", encoding="ascii") as file:
            file.write("t0ken\n")
        wall = self.build(401)
        client = self.client("status-401", "subscribe", wall.url, "room", "--token-file", path)
        client.ends(1, "heartwheel: %s: HTTP status 401" % wall.host)
        tokens = [token for *_, token in wall.seen]
        self.check(tokens == ["Bearer t0ken"] * 2, "after 401 it sent", tokens)
        wall = self.build(401)
        client = self.client("status-401-bare", "subscribe", wall.url, "room")
        client.ends(1, "heartwheel: %s: HTTP status 401" % wall.host)
        self.check(len(wall.seen) == 1, "401 was asked for", len(wall.seen), "times")

    def judge_wall(self):
        """What passes is waited for, for as long as was asked; then the server is there."""
        wall = self.build()
        client = self.client("wall", "subscribe", wall.url, "room", "--after", "0-0",
                             "--count", "1")
        if not self.until(lambda: len(wall.seen) > len(WALL), "tries at the wall:", client.read()):
            return
        wall.shutdown()
        wall.server_close()
        for (at, path, _), (after, *_), (status, _, least) in zip(wall.seen, wall.seen[1:], WALL):
            self.check(after - at >= least, status, "was tried again after", after - at, "s")
            self.check(path == "/ws", path, "was asked for")
        whys = ["HTTP status %d" % status for status, *_ in WALL]
        self.check(client.failures()[:len(WALL)] == whys, "at the wall it said", client.failures())
        self.start("server", self.program, "serve", "--listen", wall.host, "--admin-listen", "off")
        self.client("wall-publish", "publish", wall.url, "room", "through").ends(0)
        client.ends(0)
        self.check(client.read(".out") == "through\n", "behind the wall was", client.read(".out"))


# -- Name servers ----------------------------------------------------------------------------------

TOO_LATE = "too late while resolving"
# Which reasons fit: what garbage is to the C library is its own affair.
NAMES = {"nothing": ["no address: "], "broken": ["no address: "], "never": [TOO_LATE],
         "late": [TOO_LATE], "garbage": ["no address: ", TOO_LATE]}


class Names(Part):
    """Our clients and a name server, in a network of their own."""

    def run(self, _):
        names.enter(self.place)
        self.names = names.NameServer()
        self.names.start()
        server = self.serve()
        self.client("publish", "publish", "ws://127.0.0.1:8765", "room", "hello").ends(0)
        clients = {name: self.subscribe(name) for name in NAMES}
        in_time = self.subscribe("late-in-time", within="20s")
        never = self.client("never-published", "publish", "ws://never.example:8765", "room", "x",
                            "--timeout", "3s", "--set", "client.resolve=1s")
        never.ends(1, "heartwheel: never.example:8765: not done within 3s: " + TOO_LATE)
        for name, client in clients.items():
            self.judge(name, client)
        in_time.ends(0)
        self.check(not in_time.failures(), "an answer in time was", in_time.failures())
        self.judge_loss(server)

    def serve(self):
        server = self.start("server", self.program, "serve", "--listen", "127.0.0.1:8765",
                            "--admin-listen", "off", "--set", "admission.hosts=*", "--log", "info")
        self.until(lambda: " listening " in server.read(), "the server listens")
        return server

    def subscribe(self, name, within="1s", count=1):
        return self.client(name, "subscribe", "ws://%s.example:8765" % name, "room",
                           "--after", "0-0", "--count", str(count),
                           "--set", "client.resolve=" + within)

    def judge(self, name, client):
        """It tries again until there is an answer, and then it is connected."""
        if not self.until(lambda: len(client.failures()) > 2, name, "fails thrice:", client.read()):
            return
        self.names.good.add(name)
        client.ends(0)
        whys = client.failures()
        unfit = [why for why in whys if not any(why.startswith(fit) for fit in NAMES[name])]
        self.check(not unfit, name, "failed by", unfit)
        self.check(client.count("waiting") == len(whys), name, "did not wait after each failure")
        self.check(client.read(".out") == "hello\n", name, "printed", client.read(".out"))

    def judge_loss(self, server):
        """A connection outlives its name, and one that is lost comes back with the name."""
        name = "nothing-later"
        self.names.good.add(name)
        client = self.subscribe(name, count=2)
        self.until(lambda: client.read(".out") == "hello\n", "the first event", client.read())
        self.names.good.remove(name)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        self.serve()
        failed = lambda: any(why.startswith("no address: ") for why in client.failures())
        self.until(failed, "the name is gone:", client.read())
        self.client("publish-again", "publish", "ws://127.0.0.1:8765", "room", "again").ends(0)
        self.names.good.add(name)
        client.ends(0)
        self.check(client.read(".out") == "hello\nagain\n", "it printed", client.read(".out"))


PARTS = {"websockets": Library, "ws": Library, "websockets-compressed": Library,
         "ws-compressed": Library, "wall": Walls, "names": Names,
         "websockets-clients": Clients, "ws-clients": Clients}


def main(program, place, name):
    place = os.path.join(place, name)
    os.makedirs(place, exist_ok=True)
    part = PARTS[name](program, place)
    # The end of a time limit is an end in good order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("%s FAILED: took too long" % name))
    begun = time.monotonic()
    try:
        part.run(name)
    finally:
        part.clean()
        for fault in part.faults[:20]:
            print("  NOT SO: %s: %s" % (name, fault))
    took = time.monotonic() - begun
    print("%-21s %s in %.0f s" % (name, "FAILED" if part.faults else "held", took), flush=True)
    return bool(part.faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
