"""Publishes and subscribes over bad networks, and judges what became of each event.

    check.py PROGRAM SECONDS SEED FOLDER NETWORK...

Each network is a process with two network namespaces of its own and a relay between them, see
relay.py. The server is in one of them, with a subscriber and a publisher beside it: what this
subscriber hears over loopback is the truth. The clients at the far end are judged by it. Events are
published at RATE a second for SECONDS. FOLDER takes what the programs print. Exit status 1 if
anything did not hold.
"""
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import relay

# Events a second, in all: half of them from beside the server, so that there is something to miss.
RATE, FAR_PUBLISHERS = 50, 5
TOPIC = "events"
# How long all may take to arrive once nothing is published any more, and all ends to be noticed.
PATIENCE = 150
HEARTBEAT = ("--set", "heartbeat.interval=10s", "--set", "heartbeat.pong=5s")
# So many events are retained that nobody misses one.
ALL = ("--set", "topics.retain_events=100000", "--set", "topics.retain_bytes=32m",
       "--set", "topics.retain_for=1h")
# Ends of connections that a bad network may cause. `peer` is a client that ends in good order, and
# `close_send` and `close_ack` are what becomes of it when packets are lost.
FITTING = {"peer", "close_send", "close_ack", "write_stall", "heartbeat", "read_idle", "reset", "eof",
           "overflow", "handshake", "message"}
# Those that mean silence.
SILENT = {"write_stall", "heartbeat", "read_idle"}


class Network:
    """How bad a network is."""

    def __init__(self, loss=0.0, every=60, cuts=(), moves=(), remaps=(), silences=0, retain=ALL,
                 subscribers=4):
        self.loss, self.every, self.silences = loss, every, silences
        self.cuts, self.moves, self.remaps = cuts, moves, remaps
        self.retain, self.subscribers = retain, subscribers

    def happenings(self, seconds):
        """Returns what happens when: again after each span of `every` seconds."""
        for begun in range(0, seconds, self.every):
            for at in self.cuts:
                yield begun + at, "cut"
                yield begun + at + CUT_SECONDS, "join"
            for at in self.moves:
                yield begun + at, "move"
            for at in self.remaps:
                yield begun + at, "remap"


CUT_SECONDS = 45
# `silences`: so many times in each span every connection from far away falls silent for good.
NETWORKS = {
    # FAULTS 188: forty clients.
    "loss": Network(loss=0.12, subscribers=35),
    # FAULTS 201. With the default retention: what is missed is told.
    "cut": Network(every=120, cuts=[5], retain=(), silences=1),
    # FAULTS 202: a phone in another network, and a router that has forgotten.
    "address": Network(moves=[10], remaps=[35], silences=2),
    # A phone that comes back with another address.
    "all": Network(loss=0.12, every=120, cuts=[5], moves=[25], remaps=[90], silences=1),
}


class World:
    """One network, its two ends, and what is wrong with them."""

    def __init__(self, name, program, seed, place):
        self.name, self.program, self.place = name, program, place
        self.network = NETWORKS[name]
        self.faults, self.addresses = [], 1
        self.gives_up_at = time.monotonic() + PATIENCE
        self.near = relay.Namespace(relay.SERVER, "10.77.0.0/16")
        self.far = relay.Namespace(self.next_address(), relay.SERVER)
        self.relay = relay.Relay(self.near, self.far, self.network.loss, seed)
        self.relay.start()

    def next_address(self):
        self.addresses += 1
        return "10.77.%d.%d" % (self.addresses // 200, self.addresses % 200)

    def start(self, space, name, *words, **pipes):
        """Starts the program in a namespace; its output goes to files."""
        space.enter()
        out, log = (open(os.path.join(self.place, name + end), "wb") for end in (".out", ".log"))
        with out, log:
            return subprocess.Popen((self.program, *words, "--log", "info"), stdout=out, stderr=log,
                                    **pipes)

    def read(self, name, end=".out"):
        with open(os.path.join(self.place, name + end), encoding="utf-8") as file:
            return file.read()

    def check(self, holds, *what):
        if not holds:
            self.faults.append(" ".join(str(word) for word in what))
        return holds

    def until(self, holds):
        """Waits until something holds, or patience is at its end."""
        while not holds():
            if time.monotonic() > self.gives_up_at:
                return False
            time.sleep(0.1)
        return True

    def metrics(self):
        self.near.enter()
        operator = http.client.HTTPConnection("127.0.0.1", 8766, timeout=10)
        operator.request("GET", "/metrics")
        text = operator.getresponse().read().decode()
        operator.close()
        return text

    def happen(self, what):
        """Does to the network what is due."""
        if what in ("cut", "join"):
            self.relay.is_cut = what == "cut"
        elif what == "move":
            # The old connections' packets are of an address that nobody has any more.
            self.far.change_address(self.next_address())
            self.relay.map(self.far.address, self.far.address)
        elif what == "remap":
            # The old connections' packets come from an address that the server has never seen.
            self.relay.map(self.far.address, self.next_address())

    # -- The run -----------------------------------------------------------------------------------

    def run(self, seconds):
        server = self.start(self.near, "server", "serve", "--listen", "0.0.0.0:8765", "--admin-listen",
                            "127.0.0.1:8766", *HEARTBEAT, *self.network.retain)
        self.until(lambda: self.read("server", ".log").count(" listening ") == 2)
        subscribers = {"truth": self.subscribe("truth", self.near, "127.0.0.1")}
        for number in range(self.network.subscribers):
            name = "subscriber-%d" % number
            subscribers[name] = self.subscribe(name, self.far, relay.SERVER)
        # A subscriber that connects only after a cut has no connection for it to cut.
        self.until(lambda: all(self.opened(name) for name in subscribers))
        publishers = [Publisher(self, "near", self.near, "127.0.0.1", RATE / 2)]
        for number in range(FAR_PUBLISHERS):
            rate = RATE / 2 / FAR_PUBLISHERS
            publishers.append(Publisher(self, "far-%d" % number, self.far, relay.SERVER, rate))
        self.publish(publishers, seconds)
        self.relay.is_cut = False
        self.gives_up_at = time.monotonic() + PATIENCE
        self.check(self.until(lambda: not any(one.is_running() for one in publishers)),
                   "publishers were not done", PATIENCE, "s after their last line")
        # The subscriber beside the server has what the publishers were told of, or soon will.
        time.sleep(1)
        truth = self.truth()
        behind = lambda: [name for name in subscribers if not self.is_at(name, truth[-1][0])]
        self.check(truth and self.until(lambda: not behind()), "the last event is not everywhere")
        self.end(server, subscribers.values())
        self.check(truth == self.truth(), "events came when all was answered")
        for one in publishers:
            one.judge(truth)
        del subscribers["truth"]
        self.judge(truth, subscribers)
        return self.report(publishers, truth, subscribers)

    def subscribe(self, name, space, host):
        return self.start(space, name, "subscribe", "ws://%s:8765" % host, TOPIC, "--after", "0-0",
                          "--json", *HEARTBEAT)

    def publish(self, publishers, seconds):
        happenings = sorted(self.network.happenings(seconds))
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            while happenings and happenings[0][0] <= now:
                self.happen(happenings.pop(0)[1])
            for one in publishers:
                one.publish(now)
            time.sleep(0.01)
        for one in publishers:
            one.finish()

    def truth(self):
        return [(id_of(line["id"]), line["data"]) for line in self.lines("truth") if "id" in line]

    def lines(self, name):
        # The last line may still be on its way.
        whole = self.read(name).rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def is_at(self, name, last):
        with open(os.path.join(self.place, name + ".out"), "rb") as file:
            file.seek(max(0, os.path.getsize(file.name) - 4096))
            return b'"%d-%d"' % last in file.read()

    def end(self, server, subscribers):
        """Ends all in good order; before the server ends, it must have noticed every end."""
        for process in subscribers:
            process.send_signal(signal.SIGTERM)
        for process in subscribers:
            process.wait(20)
            self.check(process.returncode == 0, "a subscriber ended with", process.returncode)
        open_ones = lambda: total(self.metrics(), r'connections\{transport="websocket".*\}')
        self.check(self.until(lambda: open_ones() == 0), "connections stayed open:", open_ones())
        text = self.metrics()
        self.ends = ends_of(text)
        self.repeats = total(text, "publishes_repeated_total")
        accepted, closed = (total(text, "connections_%s_total.*" % what)
                            for what in ("accepted", "closed"))
        here = total(text, r"connections\{.*")
        self.check(accepted == closed + here, "accepted", accepted, "closed", closed, "open", here)
        server.send_signal(signal.SIGTERM)
        self.check(server.wait(40) == 0, "the server ended with", server.returncode)

    # -- What is judged ----------------------------------------------------------------------------

    def judge(self, truth, subscribers):
        told = [line for line in self.lines("truth") if "gap" in line]
        self.check(not told, "the subscriber beside the server was told of gaps:", told[:3])
        ids, payloads = [id for id, _ in truth], [payload for _, payload in truth]
        self.check(ids == sorted(set(ids)), "ids do not rise")
        twice = [payload for payload, count in Counter(payloads).items() if count > 1]
        self.check(not twice, len(twice), "were published twice, such as", twice[:3])
        self.gaps = sum(self.judge_subscriber(name, truth) for name in subscribers)
        if self.network.retain:
            self.check(self.gaps == 0, self.gaps, "gaps, though all was retained")
        unfit = {reason: count for reason, count in self.ends.items() if reason not in FITTING}
        self.check(not unfit, "ends that do not fit:", unfit)
        if self.network.silences:
            silent = sum(self.ends[reason] for reason in SILENT)
            least = self.network.silences * self.network.subscribers
            self.check(silent >= least, "at least", least, "fell silent, and", silent, "were ended")
            for name in subscribers:
                self.check(self.opened(name) > 1, name, "did not connect again")
        self.check(self.relay.overruns == 0, "the relay itself had no room for", self.relay.overruns)

    def judge_subscriber(self, name, truth):
        """Each event once, in order, or told to be missing. Returns how many gaps were told."""
        place, gaps, first = 0, 0, None
        at = {id: number for number, (id, _) in enumerate(truth)}
        for line in self.lines(name):
            if "gap" in line:
                gaps += 1
                first = id_of(line["gap"]) if line["gap"] else (1 << 63, 0)
                continue
            id = id_of(line["id"])
            here = at.get(id)
            if not self.check(here is not None and line["data"] == truth[here][1],
                              name, "got what was never published:", line):
                continue
            if not self.check(here >= place, name, "got twice, or out of order:", line):
                continue
            missing = truth[place:here]
            untold = [one for one in missing if first is None or one[0] >= first]
            self.check(not untold, name, "lost untold:", len(untold), "before", line)
            place, first = here + 1, None
        self.check(place == len(truth), name, "has not got the last", len(truth) - place)
        return gaps

    def opened(self, name):
        return self.read(name, ".log").count("state=open")

    def report(self, publishers, truth, subscribers):
        runs = [run for one in publishers if one.space is self.far for run in one.runs]
        opened = [self.opened(name) for name in subscribers]
        opened += [self.opened(run.name) for run in runs]
        ends = " ".join("%s %d" % pair for pair in sorted(self.ends.items()))
        net = self.relay
        lines = [
            "%-8s %s" % (self.name, "FAILED" if self.faults else "held"),
            "  %d events; %d were sent again and published once; %d of %d runs of publishers were told "
            "of an unknown fate" % (len(truth), self.repeats, sum(run.is_told for run in runs), len(runs)),
            "  %d clients far away opened %d connections; %d gaps were told"
            % (len(opened), sum(opened), self.gaps),
            "  ends: " + ends,
            "  packets: %d carried, %d lost, %d overtaken, %d of an address of the past"
            % (net.carried, net.lost, net.overtaken, net.strays),
        ]
        lines += ["  NOT SO: " + fault for fault in self.faults[:20]]
        return "\n".join(lines)


class Publisher:
    """Publishes lines at a rate. Where a run is told that an event's fate is not known, another
    begins behind it, as a script would do it."""

    def __init__(self, world, name, space, host, rate):
        self.world, self.name, self.space, self.host, self.rate = world, name, space, host, rate
        self.runs, self.next_at = [], 0.0
        self.begin()

    def begin(self):
        self.runs.append(Run(self.world, "%s-%d" % (self.name, len(self.runs)), self.space, self.host))

    def publish(self, now):
        if self.next_at > now:
            return
        self.next_at += 1 / self.rate
        if not self.is_running():
            self.begin()
        self.runs[-1].write()

    def finish(self):
        self.runs[-1].process.stdin.close()

    def is_running(self):
        return self.runs[-1].process.poll() is None

    def judge(self, truth):
        for run in self.runs:
            run.judge(truth)


class Run:
    """One `heartwheel publish`."""

    def __init__(self, world, name, space, host):
        self.world, self.name, self.lines, self.is_told = world, name, 0, False
        self.process = world.start(space, name, "publish", "ws://%s:8765" % host, TOPIC, "-",
                                   "--timeout", "off", *HEARTBEAT, stdin=subprocess.PIPE,
                                   bufsize=0)

    def write(self):
        try:
            self.process.stdin.write(b"%s %d\n" % (self.name.encode(), self.lines))
            self.lines += 1
        except BrokenPipeError:
            pass

    def judge(self, truth):
        """What an id was printed for was published under it. All was, or the first one of which
        that is not known is named."""
        check = self.world.check
        if self.process.poll() is None:
            return
        mine = [(id, payload) for id, payload in truth if payload.startswith(self.name + " ")]
        printed = [id_of(line) for line in self.world.read(self.name).splitlines()]
        expected = [(id, "%s %d" % (self.name, n)) for n, id in enumerate(printed)]
        check(mine[:len(expected)] == expected, self.name, "printed other ids than it published under")
        numbers = [int(payload.split()[1]) for _, payload in mine]
        check(numbers == sorted(set(numbers)), self.name, "was published twice or out of order")
        if self.process.returncode == 0:
            check(len(printed) == len(mine) == self.lines, self.name, "wrote", self.lines,
                  "printed", len(printed), "published", len(mine))
            return
        said = re.findall("^heartwheel: .*", self.world.read(self.name, ".log"), re.M)
        named = re.search(r"line (\d+) of stdin: unknown: ", " ".join(said))
        self.is_told = named is not None and int(named[1]) == len(printed) + 1
        # A break that is shorter than the server's memory is nothing to tell of.
        may_be_told = self.world.network.cuts and not self.name.startswith("near")
        check(self.is_told and may_be_told, self.name, "printed", len(printed), "and ended with",
              self.process.returncode, said)


def id_of(text):
    return tuple(int(part) for part in text.split("-"))


def total(text, name):
    found = re.findall(r"^heartwheel_%s (\S+)$" % name, text, re.M)
    return int(sum(float(value) for value in found))


def ends_of(text):
    found = re.findall(r'^heartwheel_connections_closed_total\{transport="websocket",.*'
                       r'reason="(\w+)".*\} (\S+)$', text, re.M)
    ends = Counter()
    for reason, value in found:
        ends[reason] += int(float(value))
    return +ends


def run_all(program, seconds, seed, place, names):
    unknown = set(names) - set(NETWORKS)
    if unknown:
        sys.exit("no such network: %s; there are: %s" % (" ".join(unknown), " ".join(NETWORKS)))
    print("seed %s: %s s on each of: %s" % (seed, seconds, " ".join(names)), flush=True)
    command = (sys.executable, __file__, "--one", program, seconds, seed, place)
    children = [subprocess.Popen((*command, name)) for name in names]
    # Each is waited for.
    return any([child.wait() != 0 for child in children])


def run_one(program, seconds, seed, place, name):
    place = os.path.join(place, name)
    os.makedirs(place, exist_ok=True)
    world = World(name, program, "%s %s" % (seed, name), place)
    print(world.run(int(seconds)), flush=True)
    world.relay.stop()
    return bool(world.faults)


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        sys.exit(run_one(*sys.argv[2:]))
    sys.exit(run_all(*sys.argv[1:5], sys.argv[5:]))
