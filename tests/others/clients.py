"""Clients made of the library `websockets`, which agree on compression in many ways. clients.js is
the same, made of `ws`.

    clients.py HOST:PORT

MESSAGES= has one way alone, and so many messages in it.

In each way one echoes messages, one reads again what a topic retains, and one reads what is
published faster than it is sent to it. Prints lines of JSON: what was agreed on, and as a `fault`
what did not hold.
"""
import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

WAYS = [{}, {"server_no_context_takeover": True}, {"client_no_context_takeover": True},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        *({"server_max_window_bits": bits} for bits in range(9, 16)),
        *({"client_max_window_bits": bits} for bits in range(9, 16)),
        {"server_max_window_bits": 9, "client_max_window_bits": 9,
         "server_no_context_takeover": True}]
LENGTHS = (0, 1, 100, 600, 5000, 60000, 200000)
RETAINED, PUBLISHED = 100, int(os.environ.get("MESSAGES", 400))
if "MESSAGES" in os.environ:
    WAYS = WAYS[:1]


def tell(what, **more):
    print(json.dumps({"is": what, **more}), flush=True)


def event(number, way):
    # Some are too short to be compressed.
    if number % 10 == 3:
        return '{"n": %d, "way": %d}' % (number, way)
    readings = ", ".join('"k%d": %d' % (at, number * at % 1000) for at in range(number % 30 + 8))
    return '{"n": %d, "way": %d, %s}' % (number, way, readings)


def text(length):
    readings = ("reading %d: \u00fc; " % (at * 7919 % 1000) for at in range(length // 13 + 1))
    return "".join(readings)[:length]


class Way:
    def __init__(self, host, number):
        self.host, self.number = host, number
        self.options = WAYS[number]

    def open(self, path):
        # What compresses nothing agrees on nothing.
        factory = ClientPerMessageDeflateFactory(**self.options)
        return connect("ws://%s%s" % (self.host, path), extensions=[factory], compression=None,
                       max_size=1 << 24, max_queue=None, ping_interval=None)

    def check(self, holds, *what):
        if not holds:
            tell("fault", way=self.options, what=" ".join(str(word) for word in what)[:500])

    async def run(self):
        async with self.open("/echo") as socket:
            tell("agreed", count=len(socket.protocol.extensions))
            for length in LENGTHS:
                for said in (text(length), text(length).encode()):
                    await socket.send(said)
                    self.check(await socket.recv() == said, "no echo of", length)
        topic = "/topics/python-%d" % self.number
        async with self.open(topic) as publisher, self.open(topic) as reader:
            for number in range(RETAINED):
                await publisher.send(event(number, self.number))
            await self.read(reader, 0, RETAINED)
            async with self.open(topic + "?after=0-0") as late:
                missed = await self.read(late, 0, RETAINED)
                self.check(missed == 0, "again it read", missed, "too few")
                end = RETAINED + PUBLISHED
                reading = asyncio.gather(*(self.read(socket, RETAINED, end)
                                           for socket in (late, reader)))
                ignored = asyncio.create_task(self.ignore(publisher))
                for number in range(RETAINED, end):
                    await publisher.send(event(number, self.number))
                    if number % 100 == 0:
                        # What comes is taken, and pings are answered.
                        await asyncio.sleep(0)
                tell("read", missed=(await reading)[1])
                ignored.cancel()

    async def ignore(self, socket):
        """Takes what comes to a publisher, which is its own."""
        async for _ in socket:
            pass

    async def read(self, socket, begin, end):
        """Reads up to the last one. Returns how many were missing."""
        came, last = 0, begin - 1
        while last < end - 1:
            said = await socket.recv()
            number = json.loads(said)["n"]
            self.check(last < number and said == event(number, self.number), "came", said)
            came, last = came + 1, number
        return end - begin - came


async def main(host):
    await asyncio.gather(*(Way(host, number).run() for number in range(len(WAYS))))
    tell("done", ways=len(WAYS))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
