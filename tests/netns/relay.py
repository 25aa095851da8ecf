"""A bad network between two network namespaces: a relay of packets over a TUN device in each.

A packet is lost by chance or goes through after a time of its own, so that packets overtake each
other. The client's end may be cut off, and may get another address. IPv4 alone goes through.

Run as a program it only tries whether such a network can be made here.
"""
import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SERVER = "10.77.0.1"
DEVICE = "far0"
PACKET_MAX = 2048
# Packets under way in both directions. What comes beyond them is lost, and counted by itself.
UNDER_WAY_MAX = 8192
libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace of its own, which this thread is in once it is made. It goes with the
    last process in it."""

    def __init__(self, address, route):
        self.address = address
        checked(libc.unshare(CLONE_NEWNET))
        self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        # The device is in the namespace of the thread that opens it.
        self.device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(self.device, TUNSETIFF, request)
        ip("link", "set", "lo", "up")
        ip("address", "add", address, "dev", DEVICE)
        ip("link", "set", DEVICE, "up", "mtu", "1400")
        ip("route", "add", route, "dev", DEVICE)
        # What most machines have, whatever this one has.
        try:
            with open("/proc/sys/net/ipv4/tcp_congestion_control", "w") as setting:
                setting.write("cubic")
        except OSError:
            pass

    def enter(self):
        checked(libc.setns(self.descriptor, CLONE_NEWNET))

    def change_address(self, address):
        self.enter()
        ip("address", "add", address, "dev", DEVICE)
        ip("address", "del", self.address + "/32", "dev", DEVICE)
        self.address = address


class Relay(threading.Thread):
    """Carries packets until it is stopped."""

    def __init__(self, server, client, loss, seed):
        super().__init__(daemon=True)
        self.server, self.client = server.device, client.device
        self.loss, self.random = loss, random.Random(seed)
        # The client's own address, and the one that the server sees.
        self.inner = self.outer = packed(client.address)
        self.is_cut = self.is_over = False
        self.under_way, self.number = [], 0
        self.carried = self.lost = self.overtaken = self.strays = self.overruns = 0

    def map(self, inner, outer):
        """Lets the client be seen by another address. Packets of any other are strays."""
        self.inner, self.outer = packed(inner), packed(outer)

    def stop(self):
        self.is_over = True
        self.join()

    def run(self):
        poll = select.poll()
        poll.register(self.server, select.POLLIN)
        poll.register(self.client, select.POLLIN)
        newest = {self.server: 0, self.client: 0}
        while not self.is_over:
            wait = 0.1
            if self.under_way:
                wait = min(wait, max(self.under_way[0][0] - time.monotonic(), 0))
            for device, _ in poll.poll(wait * 1000):
                self.take(device)
            now = time.monotonic()
            while self.under_way and self.under_way[0][0] <= now:
                _, number, device, packet = heapq.heappop(self.under_way)
                self.overtaken += number < newest[device]
                newest[device] = max(number, newest[device])
                try:
                    os.write(device, packet)
                    self.carried += 1
                except BlockingIOError:
                    self.overruns += 1

    def take(self, device):
        for _ in range(64):
            try:
                packet = os.read(device, PACKET_MAX)
            except BlockingIOError:
                return
            if packet[0] >> 4 != 4:
                continue
            if self.is_cut or self.random.random() < self.loss:
                self.lost += 1
                continue
            if device == self.client:
                to, place, before, after = self.server, 12, self.inner, self.outer
            else:
                to, place, before, after = self.client, 16, self.outer, self.inner
            if packet[place:place + 4] != before:
                self.strays += 1
                continue
            if len(self.under_way) >= UNDER_WAY_MAX:
                self.overruns += 1
                continue
            if before != after:
                packet = readdress(packet, place, after)
            due = time.monotonic() + DELAY + self.random.uniform(-JITTER, JITTER)
            self.number += 1
            heapq.heappush(self.under_way, (due, self.number, to, packet))


# One way, in seconds.
DELAY, JITTER = 0.3, 0.05


def readdress(packet, place, address):
    """Puts another address into a packet, and into its checksums."""
    packet = bytearray(packet)
    words = struct.unpack("!HH", packet[place:place + 4]), struct.unpack("!HH", address)
    packet[place:place + 4] = address
    sums = [10]
    if packet[9] == socket.IPPROTO_TCP:
        sums.append((packet[0] & 15) * 4 + 16)
    for at in sums:
        # RFC 1624, equation 3.
        total = ~struct.unpack_from("!H", packet, at)[0] & 0xFFFF
        total += sum(~word & 0xFFFF for word in words[0]) + sum(words[1])
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", packet, at, ~total & 0xFFFF)
    return bytes(packet)


def packed(address):
    return socket.inet_aton(address)


def checked(status):
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ip(*words):
    subprocess.run(("ip", *words), check=True)


if __name__ == "__main__":
    Namespace(SERVER, "10.77.0.0/16")
