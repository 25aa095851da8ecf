"""A name server that answers well, late, with garbage, or never, in namespaces of its own.

Run as a program it says by its exit status whether such namespaces can be made here.
"""
import os
import socket
import struct
import subprocess
import tempfile
import threading

A, IN, NXDOMAIN, SERVFAIL = 1, 1, 3, 2
LATE = 2


def enter(place):
    """Has this process, which has namespaces of its own, ask the name server at 127.0.0.1."""
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    # The defaults of glibc: a question is asked twice, and each time has 5 s.
    files = {"/etc/resolv.conf": "nameserver 127.0.0.1\n",
             "/etc/nsswitch.conf": "hosts: files dns\n"}
    for path, text in files.items():
        mine = os.path.join(place, os.path.basename(path))
        with open(mine, "w", encoding="ascii") as file:
            file.write(text)
        if os.path.exists(path):
            subprocess.run(("mount", "--bind", mine, os.path.realpath(path)), check=True)


class NameServer(threading.Thread):
    """Answers each question as the first label of its name says, until that name is made good."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        self.good, self.asked = set(), 0

    def run(self):
        while True:
            question, asker = self.socket.recvfrom(4096)
            self.asked += 1
            label = question[13:13 + question[12]].decode()
            if label in self.good:
                self.send(answer(question), asker)
            elif label.startswith("late"):
                threading.Timer(LATE, self.send, (answer(question), asker)).start()
            elif label.startswith("nothing"):
                self.send(answer(question, NXDOMAIN), asker)
            elif label.startswith("broken"):
                self.send(answer(question, SERVFAIL), asker)
            elif label.startswith("garbage"):
                self.send(garbage(question, self.asked), asker)

    def send(self, answer, asker):
        self.socket.sendto(answer, asker)


def answer(question, status=0):
    """127.0.0.1, if that is asked for; else that the name has no such address."""
    end = 12 + question[12:].index(0) + 5
    kind, = struct.unpack(">H", question[end - 4:end - 2])
    has_address = kind == A and status == 0
    head = question[:2] + struct.pack(">5H", 0x8180 | status, 1, has_address, 0, 0)
    record = struct.pack(">3HIH4B", 0xC00C, A, IN, 0, 4, 127, 0, 0, 1) if has_address else b""
    return head + question[12:end] + record


def garbage(question, number):
    """No answer at all, half of one, one of another question, and a name that points to itself."""
    good = answer(question)
    loop = question[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + b"\xc0\x0c" * 20
    kinds = (os.urandom(40), good[:20], b"\0\0" + good[2:], loop, good[:4] + b"\xff" * 60)
    return kinds[number % len(kinds)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as own:
        enter(own)
        NameServer()
