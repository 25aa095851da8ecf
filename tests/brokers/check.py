"""Runs the program with bridges to Mosquitto and to NATS, and prints what held.

    check.py SERVER [CASE...]

Everything stays on 127.0.0.1. Exit status 1 if anything did not hold.
"""
import collections
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import processes
from processes import children, free_port, start, stop

PATIENCE = 20
HERE = os.path.dirname(os.path.abspath(__file__))
CERTIFICATES = os.path.join(os.path.dirname(HERE), "tls", "certificates")

work = tempfile.mkdtemp(prefix="heartwheel-brokers-")


def until(what, holds, seconds=PATIENCE):
    return processes.until(what, holds, seconds)


class Broker:
    """Mosquitto on a port of its own, which stays the same when it is started again."""

    def __init__(self, *lines, listener=()):
        self.port = free_port()
        self.path = os.path.join(work, "mosquitto-%d.conf" % self.port)
        with open(self.path, "w") as text:
            text.write("\n".join(("user root", "listener %d 127.0.0.1" % self.port,) + tuple(listener) + lines
                                 + ("" if listener else "allow_anonymous true",)) + "\n")
        self.process = None
        self.begin()

    def begin(self):
        with open(self.path + ".log", "a") as log:
            self.process = start("mosquitto", "-c", self.path, log=log)
        until("the broker listens", self.is_there)

    def is_there(self):
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def kill(self):
        stop(self.process)


class Nats(Broker):
    """nats-server, which takes MQTT 3.1.1, and no point in the name of a topic."""

    def __init__(self):
        self.port = free_port()
        self.path = os.path.join(work, "nats-%d.conf" % self.port)
        with open(self.path, "w") as text:
            text.write("listen: 127.0.0.1:%d\nserver_name: one\njetstream { store_dir: \"%s\" }\n"
                       "mqtt { listen: \"127.0.0.1:%d\" }\n"
                       % (free_port(), self.path + ".store", self.port))
        self.process = None
        self.begin()

    def begin(self):
        with open(self.path + ".log", "a") as log:
            self.process = start("nats-server", "-c", self.path, log=log)
        until("the broker listens", self.is_there)


class Server:
    """The program with bridges."""

    def __init__(self, program, **keys):
        path = os.path.join(work, "server-%d.log" % free_port())
        words = [word for pair in keys.items() for word in ("--set", "%s=%s" % pair)]
        with open(path, "w") as log:
            self.process = start(program, "--listen", "127.0.0.1:0", "--set", "workers=0", "--set",
                                 "admin_listen=127.0.0.1:0", "--set", "client.delay_max=300ms",
                                 "--set", "client.delay=100ms", "--set", "client.broken_for=1s", "--set", "client.stable=100ms",
                                 *words, log=log)
        self.path = path
        self.port, self.admin = until("two ports", self.ports)
        self.wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ports(self):
        ports = re.findall(r"listening address=127.0.0.1:(\d+)", self.log())
        return len(ports) == 2 and [int(port) for port in ports]

    def log(self):
        with open(self.path) as log:
            return log.read()

    def post(self, topic, body, kind="text/plain"):
        self.wire.request("POST", "/topics/" + topic, body, {"Content-Type": kind})
        answer = self.wire.getresponse()
        answer.read()
        assert answer.status == 200, (topic, answer.status)

    def read(self, topic):
        """The events of a topic that are retained."""
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        wire.request("GET", "/topics/%s?after=0-0" % topic,
                     headers={"Accept": "application/json"})
        answer = wire.getresponse()
        text = answer.read()
        wire.close()
        return json.loads(text) if answer.status == 200 else []

    def figure(self, name):
        wire = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        wire.request("GET", "/metrics")
        text = wire.getresponse().read().decode()
        wire.close()
        return sum(float(line.split()[-1]) for line in text.splitlines()
                   if re.match(name + r"[ {]", line))

    def has_sent(self, count):
        until(lambda: "sent %s of %s" % (self.figure("heartwheel_bridge_sent_total"), count),
              lambda: self.figure("heartwheel_bridge_sent_total") >= count)


class Listener:
    """mosquitto_sub: topics and payloads, in their order."""

    def __init__(self, broker, *words, version="mqttv5"):
        self.path = os.path.join(work, "sub-%d" % free_port())
        with open(self.path, "wb") as out:
            self.process = start("mosquitto_sub", "-p", str(broker.port), "-V", version, "-q", "1",
                                 "-F", "%t %x", *words, out=out)
        # What is retained shows that the subscription is there.
        time.sleep(0.5)

    def got(self):
        with open(self.path) as text:
            lines = [line.split(" ") for line in text.read().split("\n")[:-1]]
        return [(topic, bytes.fromhex(payload)) for topic, payload in lines]

    def wait(self, count):
        until(lambda: "%d messages of %d" % (len(self.got()), count),
              lambda: len(self.got()) >= count)
        return self.got()


def publish(broker, topic, payload, *words, version="mqttv5"):
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-V", version, "-q", "1", "-t", topic,
                    "-m", payload, *words], check=True, timeout=PATIENCE)


class Between:
    """A proxy that notes which publications a broker has acknowledged."""

    def __init__(self, broker):
        self.broker = broker
        self.acknowledged = collections.Counter()
        self.is_cut = False
        self.ends = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.socket.accept()
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.broker.port), 5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            sent = {}
            self.ends += [near, far]
            for ends in ((near, far, sent, self.note_sent), (far, near, sent, self.note_answer)):
                threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def cut(self):
        """Ends all connections, and takes no others until `is_cut` says so."""
        self.is_cut = True
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.ends = []

    def carry(self, source, target, sent, note):
        rest = b""
        try:
            while True:
                got = source.recv(65536)
                if not got:
                    break
                rest += got
                while True:
                    packet, rest = split(rest)
                    if packet is None:
                        break
                    note(packet, sent)
                target.sendall(got)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def note_sent(self, packet, sent):
        head, body = packet
        if head >> 4 == 3 and head & 6:
            length = int.from_bytes(body[:2], "big")
            number = int.from_bytes(body[2 + length:4 + length], "big")
            sent[number] = body[4 + length:]

    def note_answer(self, packet, sent):
        head, body = packet
        if head >> 4 == 4:
            payload = sent.pop(int.from_bytes(body[:2], "big"), b"")
            # What tells a gap has no number.
            if number := re.search(rb"#(\d+)$", payload):
                self.acknowledged[int(number.group(1))] += 1


def split(data):
    """Returns the head and body of the first packet, and what follows."""
    length, shift, place = 0, 0, 1
    while place < len(data):
        length |= (data[place] & 127) << shift
        shift += 7
        place += 1
        if data[place - 1] < 128:
            if len(data) < place + length:
                break
            return (data[0], data[place:place + length]), data[place + length:]
    return None, data


# -- Cases -----------------------------------------------------------------------------------------

def out(program):
    """What is published here arrives, in order, in both versions, text and bytes."""
    for version, heard in (("auto", "mqttv5"), ("5", "mqttv311"), ("3.1.1", "mqttv5")):
        broker = Broker()
        listener = Listener(broker, "-t", "plant7/#", version=heard)
        server = Server(program, **{
            "bridge.cloud.url": "mqtt://127.0.0.1:%d" % broker.port,
            "bridge.cloud.out": "devices.* -> plant7/{topic}",
            "bridge.cloud.version": version})
        wanted = []
        for n in range(300):
            topic, body = "devices.%d" % (n % 3), b"%d" % n if n % 5 else bytes((n % 256, 255, 0))
            server.post(topic, body, "text/plain" if n % 5 else "application/octet-stream")
            wanted.append(("plant7/" + topic, body))
        server.post("other", b"stays here")
        assert listener.wait(300) == wanted, version
        server.has_sent(300)
        assert server.figure("heartwheel_bridge_connected") == 1
        assert server.figure("heartwheel_bridge_lag_events") == 0
        stop(server.process, signal.SIGTERM)
        broker.kill()


def incoming(program):
    """What others publish comes in, also what they published while the server was away."""
    for version in ("5", "3.1.1"):
        broker = Broker()
        keys = {"bridge.cloud.url": "mqtt://127.0.0.1:%d" % broker.port,
                "bridge.cloud.in": "plant7/commands/# -> commands.{rest}",
                "bridge.cloud.version": version, "bridge.cloud.client_id": "box"}
        server = Server(program, **keys)
        until("it is connected", lambda: server.figure("heartwheel_bridge_connected"))
        time.sleep(0.3)
        publish(broker, "plant7/commands/pump/1", "on")
        publish(broker, "plant7/commands/no topic", "refused and counted")
        publish(broker, "plant7/commands/pump/1", "off")
        events = until("two events", lambda: len(server.read("commands.pump.1")) == 2
                       and server.read("commands.pump.1"))
        assert [event["data"] for event in events] == ["on", "off"], events
        until("one is refused", lambda: server.figure("heartwheel_bridge_gaps_total") == 1)
        stop(server.process)
        publish(broker, "plant7/commands/pump/1", "later")
        server = Server(program, **keys)
        until("what came meanwhile", lambda: [event["data"] for event in
                                              server.read("commands.pump.1")] == ["later"])
        stop(server.process)
        broker.kill()


def kills(program):
    """The broker is killed under load: each event is acknowledged, doubles fit the window."""
    count, rounds = 0, int(os.environ.get("KILLS", 10))
    broker = Broker()
    between = Between(broker)
    server = Server(program, **{"bridge.cloud.url": "mqtt://127.0.0.1:%d" % between.port,
                                "bridge.cloud.out": "load -> load",
                                "topics.retain_events": "100000"})
    for _ in range(rounds):
        begun = time.monotonic()
        while time.monotonic() - begun < 0.4:
            server.post("load", b"#%d" % count)
            count += 1
        broker.kill()
        for _ in range(100):
            server.post("load", b"#%d" % count)
            count += 1
        broker.begin()
    until(lambda: "%d of %d" % (len(between.acknowledged), count),
          lambda: len(between.acknowledged) == count, 60)
    doubles = sum(between.acknowledged.values()) - count
    assert doubles <= rounds * 20, doubles
    assert server.figure("heartwheel_bridge_gaps_total") == 0
    print("    %d events, %d kills, %d doubles" % (count, rounds, doubles))
    stop(server.process)
    broker.kill()


def stopped(program):
    """A broker that stands still is left after `ack`, and comes back."""
    broker = Broker()
    between = Between(broker)
    server = Server(program, **{"bridge.cloud.url": "mqtt://127.0.0.1:%d" % between.port,
                                "bridge.cloud.out": "load -> load", "bridge.cloud.ack": "2s"})
    server.post("load", b"#0")
    server.has_sent(1)
    os.killpg(broker.process.pid, signal.SIGSTOP)
    for n in range(1, 50):
        server.post("load", b"#%d" % n)
    until("it is left", lambda: server.figure("heartwheel_bridge_reconnects_total") > 0)
    os.killpg(broker.process.pid, signal.SIGCONT)
    until("all have arrived", lambda: len(between.acknowledged) == 50, 60)
    stop(server.process)
    broker.kill()


def orders(program):
    """The box loses power, line and broker in every order: what it has said to be safe arrives."""
    for order in itertools.permutations(("power", "line", "broker")):
        broker = Broker()
        between = Between(broker)
        keys = {"bridge.cloud.url": "mqtt://127.0.0.1:%d" % between.port,
                "bridge.cloud.out": "load -> load", "topics.retain_events": "10000",
                "store.file": os.path.join(work, "-".join(order)), "store.topics": "load",
                "store.ack": "flash", "store.sync": "10ms"}
        box, safe, count = Server(program, **keys), [], 0
        lose = {"power": lambda: stop(box.process), "line": between.cut, "broker": broker.kill}
        for lost in order + order:
            for _ in range(25):
                try:
                    box.post("load", b"#%d" % count)
                    safe.append(count)
                except (OSError, http.client.HTTPException):
                    box.wire.close()
                count += 1
            if lost in lose:
                lose.pop(lost)()
            elif lost == "power":
                box = Server(program, **keys)
            elif lost == "line":
                between.is_cut = False
            else:
                broker.begin()
        until(lambda: "%s: %d of %d" % (order, len(between.acknowledged), len(safe)),
              lambda: not set(safe) - set(between.acknowledged))
        doubles = sum(between.acknowledged.values()) - len(between.acknowledged)
        assert len(safe) >= 75 and doubles <= 3 * 20, (order, len(safe), doubles)
        # A box that has lost power does not know that nothing was lost: one gap may be told.
        assert box.figure("heartwheel_bridge_gaps_total") <= 1, order
        stop(box.process)
        broker.kill()


def gaps(program):
    """What was evicted while the broker was away is told, with the first that follows."""
    broker = Broker()
    server = Server(program, **{"bridge.cloud.url": "mqtt://127.0.0.1:%d" % broker.port,
                                "bridge.cloud.out": "load -> load",
                                "topics.retain_events": "10"})
    server.post("load", b"first")
    server.has_sent(1)
    broker.kill()
    for n in range(200):
        server.post("load", b"%d" % n)
    broker.begin()
    listener = Listener(broker, "-t", "load/#", "-t", "load")
    until("the rest has come", lambda: any(payload == b"199" for _, payload in listener.got())
          or server.figure("heartwheel_bridge_lag_events") == 0)
    server.post("load", b"last")
    until("the last has come", lambda: ("load", b"last") in listener.got())
    told = [json.loads(payload) for topic, payload in listener.got() if topic == "load/$gap"]
    seen = server.figure("heartwheel_bridge_gaps_total")
    assert seen >= 1, seen
    for gap in told:
        assert gap["topic"] == "load" and gap["first"], gap
    stop(server.process)
    broker.kill()


def refused(program):
    """A topic that the broker does not allow is told as a gap, and does not hold up others."""
    path = os.path.join(work, "acl")
    with open(path, "w") as acl:
        acl.write("topic readwrite ok/#\ntopic read #\n")
    broker = Broker("acl_file " + path)
    listener = Listener(broker, "-t", "#")
    server = Server(program, **{"bridge.cloud.url": "mqtt://127.0.0.1:%d" % broker.port,
                                "bridge.cloud.out": "no -> no/{topic}, ok -> ok/{topic}",
                                "bridge.cloud.version": "5"})
    for n in range(20):
        server.post("no" if n % 2 else "ok", b"%d" % n)
    assert len([one for one in listener.wait(10) if one[0] == "ok/ok"]) == 10
    until("refusals are counted", lambda: server.figure("heartwheel_bridge_gaps_total") >= 10)
    stop(server.process)
    broker.kill()


def second(program):
    """Another broker: out in order, in, and killed under load."""
    if not shutil.which("nats-server"):
        print("\n== NATS WAS NOT TESTED: nats-server IS ABSENT\n")
        return
    broker = Nats()
    between = Between(broker)
    keys = {"bridge.cloud.url": "mqtt://127.0.0.1:%d" % between.port,
            "bridge.cloud.out": "load -> plant7/{topic}", "bridge.cloud.version": "3.1.1",
            "bridge.cloud.in": "commands/# -> commands.{rest}", "bridge.cloud.client_id": "box",
            "topics.retain_events": "100000"}
    server = Server(program, **keys)
    listener = Listener(broker, "-t", "plant7/#", version="mqttv311")
    for n in range(200):
        server.post("load", b"#%d" % n)
    assert listener.wait(200) == [("plant7/load", b"#%d" % n) for n in range(200)]
    until("it is connected", lambda: server.figure("heartwheel_bridge_connected"))
    publish(broker, "commands/pump", "on", version="mqttv311")
    until("it comes in", lambda: [event["data"] for event in server.read("commands.pump")] == ["on"])
    count = 200
    for _ in range(3):
        for n in range(200):
            server.post("load", b"#%d" % count)
            count += 1
            if n == 100:
                broker.kill()
        broker.begin()
    until(lambda: "%d of %d" % (len(between.acknowledged), count),
          lambda: len(between.acknowledged) == count, 60)
    assert sum(between.acknowledged.values()) - count <= 3 * 20
    stop(server.process)
    broker.kill()


def secured(program):
    """TLS with a certificate of the client's."""
    file = lambda name: os.path.join(CERTIFICATES, name)
    broker = Broker(listener=("cafile " + file("ca.crt"), "certfile " + file("server.crt"),
                              "keyfile " + file("server.key"), "require_certificate true",
                              "use_identity_as_username true", "allow_anonymous true"))
    listener = Listener(broker, "-t", "plant7/#", "--cafile", file("ca.crt"), "--cert",
                        file("client.crt"), "--key", file("client.key"), "--insecure")
    server = Server(program, **{
        "bridge.cloud.url": "mqtts://localhost:%d" % broker.port,
        "bridge.cloud.out": "devices.* -> plant7/{topic}", "bridge.cloud.ca": file("ca.crt"),
        "bridge.cloud.certificate": file("client.crt"), "bridge.cloud.key": file("client.key")})
    for n in range(50):
        server.post("devices.1", b"%d" % n)
    assert [payload for _, payload in listener.wait(50)] == [b"%d" % n for n in range(50)]
    stop(server.process)
    broker.kill()


def loop(program):
    """Two servers and one broker share topics: each event is once everywhere."""
    broker = Broker()
    servers = []
    for version in ("5", "3.1.1"):
        servers.append(Server(program, **{
            "bridge.cloud.url": "mqtt://127.0.0.1:%d" % broker.port,
            "bridge.cloud.client_id": "node" + version.replace(".", ""),
            "bridge.cloud.out": "up.* -> shared/{topic}",
            "bridge.cloud.in": "shared/# -> down.{rest}", "bridge.cloud.version": version}))
    for server in servers:
        until("it is connected", lambda: server.figure("heartwheel_bridge_connected"))
    time.sleep(0.5)
    listener = Listener(broker, "-t", "#")
    for n in range(40):
        servers[n % 2].post("up.x", b"%d" % n)
    listener.wait(40)
    time.sleep(1)
    assert len(listener.got()) == 40, "nothing goes round"
    for which, server in enumerate(servers):
        events = [event["data"] for event in server.read("down.up.x")]
        assert events == ["%d" % n for n in range(40) if n % 2 != which], (which, events)
        stop(server.process)
    broker.kill()


def speed(program):
    """Messages a second beside a client in C with the same window, in turns."""
    client = os.path.join(work, "client")
    subprocess.run(["cc", "-O2", "-o", client, os.path.join(HERE, "client.c"), "-lmosquitto"],
                   check=True)
    count, rounds, ours, theirs = 20000, 3, [], []
    for _ in range(rounds):
        broker = Broker("max_queued_messages 0")
        lines = subprocess.run([client, str(broker.port), str(count)], check=True, timeout=120,
                               capture_output=True, text=True).stdout
        theirs.append(count / float(lines))
        ours.append(throughput(program, broker, count))
        broker.kill()
    ratio = sorted(ours)[1] / sorted(theirs)[1]
    print("    ours %s a second, the client in C %s: %.2f" % (
        [int(one) for one in ours], [int(one) for one in theirs], ratio))
    assert ratio >= 0.4, ratio


def latency(program):
    """How much later an event arrives that a bridge passes on, at rest."""
    client = os.path.join(work, "latency")
    subprocess.run(["cc", "-O2", "-o", client, os.path.join(HERE, "latency.c"), "-lmosquitto"],
                   check=True)
    broker = Broker("set_tcp_nodelay true")
    server = Server(program, **{"bridge.cloud.url": "mqtt://127.0.0.1:%d" % broker.port,
                                "bridge.cloud.out": "load -> load"})
    until("it is connected", lambda: server.figure("heartwheel_bridge_connected"))
    for _ in range(3):
        lines = subprocess.run([client, str(broker.port), str(server.port), "2000"], check=True,
                               timeout=120, capture_output=True, text=True).stdout.split("\n")
        print("    to the broker: p50 and p99 %s us, through the bridge: %s us" % (lines[0], lines[1]))
    stop(server.process)
    broker.kill()


def memory(program):
    """What each other bridge owns at rest: 32 of them, 100 events through each."""
    broker, owned = Broker(), []
    for count in (1, 32):
        keys = {}
        for n in range(count):
            keys["bridge.b%d.url" % n] = "mqtt://127.0.0.1:%d" % broker.port
            keys["bridge.b%d.out" % n] = "load -> b%d" % n
        server = Server(program, **keys)
        until("all are connected",
              lambda: server.figure("heartwheel_bridge_connected") == count)
        for _ in range(100):
            server.post("load", b"x" * 200)
        server.has_sent(100 * count)
        # The program gives memory back a second after it has come to rest.
        time.sleep(3)
        with open("/proc/%d/smaps_rollup" % server.process.pid) as text:
            owned.append(int(re.search(r"^Anonymous: +(\d+) kB", text.read(), re.M).group(1)))
        stop(server.process)
    broker.kill()
    print("    %d kB with a bridge, %d kB with 32: %.1f kB for each other"
          % (owned[0], owned[1], (owned[1] - owned[0]) / 31))


def throughput(program, broker, count):
    """Events are there before the broker is: what is measured is the bridge."""
    port = broker.port
    broker.kill()
    server = Server(program, **{"topics.retain_events": str(count), "topics.retain_bytes": "64m",
                                "bridge.cloud.url": "mqtt://127.0.0.1:%d" % port,
                                "bridge.cloud.out": "load -> load"})
    for _ in range(count):
        server.post("load", b"x" * 200)
    broker.begin()
    until("it is connected", lambda: server.figure("heartwheel_bridge_connected"))
    begun, first = time.monotonic(), server.figure("heartwheel_bridge_sent_total")
    while server.figure("heartwheel_bridge_sent_total") < count:
        time.sleep(0.01)
    took = time.monotonic() - begun
    assert server.figure("heartwheel_bridge_gaps_total") == 0
    stop(server.process)
    return (count - first) / took


CASES = [out, incoming, kills, stopped, orders, gaps, refused, second, secured, loop]
FIGURES = [speed, latency, memory]
if os.environ.get("LONG"):
    CASES += FIGURES


def main():
    program, names = sys.argv[1], sys.argv[2:]
    failed = 0
    for case in CASES + [case for case in FIGURES if case.__name__ in names and case not in CASES]:
        if names and case.__name__ not in names:
            continue
        try:
            case(program)
            print("ok      %-10s %s" % (case.__name__, case.__doc__))
        except (AssertionError, OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            failed += 1
            print("FAILED  %-10s %r" % (case.__name__, error))
            for name in sorted(os.listdir(work)):
                if name.startswith("server-"):
                    with open(os.path.join(work, name)) as log:
                        print("    %s: %s" % (name, "    ".join(log.readlines()[-8:])))
        finally:
            for process in list(children):
                stop(process)
        sys.stdout.flush()
    shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if failed else 0)


main()
