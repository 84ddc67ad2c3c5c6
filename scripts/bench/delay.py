"""A network inside one machine whose packets take their time, for kernels without netem.

    unshare --net python scripts/bench/delay.py MILLISECONDS

Run as root in a network namespace of its own. It makes a TUN device whose own address is NEAR;
whatever is sent to FAR comes back in after the time given, with its two addresses exchanged, which
leaves all checksums right. So a server that listens at NEAR is reached at FAR, and a round trip
takes twice the time. It prints "ready" and works until its standard input ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

NEAR, FAR = "10.99.0.1", "10.99.0.2"

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_LARGEST = 1 << 16
#: Packets read before those that are due are looked at again.
_AT_ONCE = 64


def open_device(name: str = "delay0") -> int:
    """Make the device in this process's namespace and return its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    for line in (
        f"addr add {NEAR} peer {FAR} dev {name}",
        f"link set {name} txqueuelen 10000 up",
        "link set lo up",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    return device


def turned(packet: bytes) -> bytes | None:
    """Return an IPv4 packet with source and destination exchanged; None for any other."""
    if packet[0] >> 4 != 4:
        return None
    return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]


def relay(device: int, seconds: float) -> None:
    """Send back what comes, late; the delay is the same for all, so that the first is due first."""
    waiting: deque[tuple[float, bytes]] = deque()
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            os.write(device, waiting.popleft()[1])
        # not epoll, which counts in milliseconds
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready = select.select([device, sys.stdin], [], [], pause)[0]
        if sys.stdin in ready:
            return
        if device in ready:
            _take(device, waiting, seconds)


def _take(device: int, waiting: deque[tuple[float, bytes]], seconds: float) -> None:
    for _ in range(_AT_ONCE):
        try:
            packet = turned(os.read(device, _LARGEST))
        except BlockingIOError:
            return
        if packet is not None:
            waiting.append((time.monotonic() + seconds, packet))


if __name__ == "__main__":
    opened = open_device()
    print("ready", flush=True)
    relay(opened, float(sys.argv[1]) / 1e3)
