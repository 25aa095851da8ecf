#!/usr/bin/env python3
"""The server inside a loop of Python, through ctypes: nothing is compiled but the library.

    cargo build --release --features ffi
    python3 examples/python/echo.py target/release/libheartwheel.so 127.0.0.1:8765

Echoes on ws://127.0.0.1:8765/echo and answers GET /hello, until SIGTERM or SIGINT.
"""

import ctypes
import selectors
import signal
import socket
import sys
from ctypes import byref, c_char_p, c_int, c_int64, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p

OK, DONE = 0, 1
TEXT, BINARY, REQUEST = 2, 3, 7


class Event(ctypes.Structure):
    """heartwheel_event of the header."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_uint32),
        ("close_code", c_uint16),
        ("reserved", c_uint16),
        ("peer", c_uint64),
        ("data", c_void_p),
        ("len", c_size_t),
    ]

    def bytes(self):
        """Copies the data: it is the library's, and good until the next event."""
        return ctypes.string_at(self.data, self.len)


def load(path):
    """Loads the library and says what its functions take and give."""
    library = ctypes.CDLL(path)
    for name, result, *arguments in [
        ("new", c_int, c_char_p, c_void_p),
        ("listen", c_int, c_void_p, c_char_p),
        ("route_websocket", c_int, c_void_p, c_char_p),
        ("route_request", c_int, c_void_p, c_char_p, c_char_p),
        ("fd", c_int, c_void_p),
        ("next_timeout_ms", c_int64, c_void_p),
        ("turn", c_int, c_void_p),
        ("next_event", c_int, c_void_p, c_void_p),
        ("send_text", c_int, c_void_p, c_uint64, c_char_p, c_size_t),
        ("send_binary", c_int, c_void_p, c_uint64, c_char_p, c_size_t),
        ("query_value", c_int, c_void_p, c_uint64, c_char_p, c_char_p, c_size_t),
        ("respond", c_int, c_void_p, c_uint64, c_int, c_char_p, c_char_p, c_size_t),
        ("drain", c_int, c_void_p),
        ("last_error", c_char_p, c_void_p),
        ("free", None, c_void_p),
    ]:
        function = getattr(library, "heartwheel_" + name)
        function.restype, function.argtypes = result, arguments
    return library


class Server:
    """One server, whose calls raise what went wrong."""

    def __init__(self, library):
        self.functions, self.handle = library, c_void_p()
        self.check(library.heartwheel_new(None, byref(self.handle)))

    def check(self, code):
        """Returns what a call returned, unless it failed."""
        if code < 0:
            raise OSError(self.functions.heartwheel_last_error(self.handle).decode())
        return code

    def __getattr__(self, name):
        """Calls the function of the library with the handle: server.listen(b"...")."""
        function = getattr(self.functions, "heartwheel_" + name)
        return lambda *arguments: self.check(function(self.handle, *arguments))

    def next_timeout(self):
        """Returns how long to wait at most, in seconds; None: for as long as it takes."""
        wait = self.functions.heartwheel_next_timeout_ms(self.handle)
        return None if wait < 0 else wait / 1000

    def events(self):
        """Pulls events until none is left."""
        event = Event(struct_size=ctypes.sizeof(Event))
        while self.next_event(byref(event)) == OK:
            yield event


def handle(server, event):
    """Does what this server is for."""
    data = event.bytes()
    if event.kind == TEXT:
        server.send_text(event.peer, data, len(data))
    elif event.kind == BINARY:
        server.send_binary(event.peer, data, len(data))
    elif event.kind == REQUEST:
        name = ctypes.create_string_buffer(256)
        known = server.functions.heartwheel_query_value(
            server.handle, event.peer, b"name", name, len(name)
        )
        answer = b"hello " + (name.value if known >= 0 else b"world") + b"\n"
        server.respond(event.peer, 200, b"text/plain; charset=utf-8", answer, len(answer))


def main():
    server = Server(load(sys.argv[1]))
    server.route_websocket(b"/echo")
    server.route_request(b"GET", b"/hello")
    port = server.listen(sys.argv[2].encode() if len(sys.argv) > 2 else b"127.0.0.1:8765")

    loop = selectors.DefaultSelector()
    loop.register(server.fd(), selectors.EVENT_READ)
    # A signal is a byte at a descriptor of the loop's, and so ends its wait.
    woken = wake_by_signals(signal.SIGINT, signal.SIGTERM)
    loop.register(woken, selectors.EVENT_READ)
    print("listening on port", port, flush=True)

    is_over = False
    while not is_over:
        ready = loop.select(server.next_timeout())
        if any(key.fileobj is woken for key, _ in ready):
            woken.recv(64)
            server.drain()
        is_over = server.turn() == DONE
        for event in server.events():
            try:
                handle(server, event)
            except OSError as error:
                # The peer is gone, or takes nothing more for now: the others are served on.
                print(error, file=sys.stderr)
    server.functions.heartwheel_free(server.handle)


def wake_by_signals(*numbers):
    """Returns what becomes readable when one of these signals comes."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.detach())
    for number in numbers:
        signal.signal(number, lambda *_: None)
    return woken


if __name__ == "__main__":
    main()
