"""A server of topics made of the library `websockets`. server.js is the same, made of `ws`.

    server.py PORT SCRIPT

SCRIPT is a file of JSON: of each topic the steps that its subscribers are led through.

    {"id": ID, "say": TEXT}     sends an event; with "pieces" a byte in each frame, and pings between
    {"say": TEXT}               sends a message that is no event
    {"pause": SECONDS}          says nothing for so long
    {"close": CODE, "reason": TEXT}, {"reset": true}, {"kill": true}
                                end the connection or the process, the first time they are reached

Publications are taken; at the tenth the connection is broken, once. Prints lines of JSON: what
clients did, and as a `fault` each breach of the protocol that the library found.
"""
import asyncio
import json
import logging
import os
import signal
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

MESSAGE_BYTES = 8 << 20
# Codes by which the library says that its peer broke the protocol, or that it failed itself.
FAULTS = {1002, 1003, 1007, 1009, 1010, 1011}


def tell(what, **more):
    print(json.dumps({"is": what, **more}), flush=True)


class Faults(logging.Handler):
    def emit(self, record):
        tell("fault", what="%s: %s" % (record.getMessage(), record.exc_info))


class Topics:
    def __init__(self, script):
        self.script, self.done = script, set()
        self.connections, self.published, self.has_broken = 0, {}, False

    async def serve(self, socket):
        self.connections += 1
        tell("open", subprotocol=socket.subprotocol, extensions=len(socket.protocol.extensions))
        hello = {"op": "hello", "connection": str(self.connections << 24), "heartbeat_ms": 30000,
                 "read_idle_ms": 60000, "message_bytes": MESSAGE_BYTES}
        leading, client = [], None
        try:
            await socket.send(json.dumps(hello))
            async for text in socket:
                message = json.loads(text)
                if message["op"] == "hello":
                    client = message["client"]
                elif message["op"] == "publish":
                    await self.take(socket, client, message)
                else:
                    leading.append(asyncio.create_task(self.lead(socket, message)))
        except ConnectionClosed:
            pass
        await socket.wait_closed()
        for task in leading:
            task.cancel()
        ends = await asyncio.gather(*leading, return_exceptions=True)
        for error in (end for end in ends if isinstance(end, Exception)):
            tell("fault", what=repr(error))
        sent, got = socket.protocol.close_sent, socket.protocol.close_rcvd
        if sent and sent.code in FAULTS:
            tell("fault", what="%s %s" % (sent.code, sent.reason))
        tell("closed", code=got and got.code)

    async def lead(self, socket, message):
        topic, after = message["topic"], message.get("after")
        tell("subscribe", topic=topic, after=after)
        steps = self.script[topic]
        ids = [step.get("id") for step in steps]
        begin = ids.index(after) + 1 if after and after in ids else 0
        try:
            await (await socket.ping(b"are you there?"))
            tell("pong")
            last = after if begin else "0-0"
            await socket.send(json.dumps({"op": "subscribed", "topic": topic, "last": last}))
            for number in range(begin, len(steps)):
                step = steps[number]
                is_first = (topic, number) not in self.done
                self.done.add((topic, number))
                await self.do(socket, step, is_first)
        except ConnectionClosed:
            pass

    async def do(self, socket, step, is_first):
        if "say" in step:
            pieces = self.pieces(socket, step["say"].encode())
            await socket.send(pieces if "pieces" in step else step["say"], text=True)
        elif "pause" in step:
            await asyncio.sleep(step["pause"])
        elif not is_first:
            pass
        elif "close" in step:
            await socket.close(step["close"], step["reason"])
        elif "reset" in step:
            socket.transport.abort()
        elif "kill" in step:
            os.kill(os.getpid(), signal.SIGKILL)

    async def pieces(self, socket, message):
        for number in range(len(message)):
            yield message[number:number + 1]
            if number % 8 == 0:
                await socket.ping()

    async def take(self, socket, client, message):
        key = client, message["ref"]
        is_again = key in self.published
        id = self.published.setdefault(key, "%d-1" % (1000 + len(self.published)))
        tell("publish", data=message["data"], id=id, again=is_again)
        if len(self.published) == 10 and not self.has_broken:
            self.has_broken = True
            socket.transport.abort()
        else:
            await socket.send(json.dumps({"op": "published", "ref": message["ref"], "id": id}))


async def main(port, script):
    with open(script, encoding="utf-8") as file:
        topics = Topics(json.load(file))
    logging.getLogger("websockets").addHandler(Faults(logging.ERROR))
    async with serve(topics.serve, "127.0.0.1", port, max_size=MESSAGE_BYTES,
                     subprotocols=["heartwheel.v1"]) as server:
        tell("listening", port=server.sockets[0].getsockname()[1])
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
