"""How a call gets on: bars, and a recording of when each object was transferred, and how fast."""

from __future__ import annotations

import contextlib
import enum
import functools
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...base.progress import Bar
from .paths import listed


class IOEnum(enum.Enum):
    """Which way the bytes went."""

    RX = 1
    TX = 2


class TransmissionMonitor:
    """The transfers of objects: when each began and ended, and its bytes as stored.

    Parameters
    ----------
    direction : IOEnum
    """

    def __init__(self, direction: IOEnum) -> None:
        self.direction = direction
        self._lock = threading.Lock()
        self._running: dict[uuid.UUID, float] = {}
        self._done: list[tuple[float, float, int]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def start_io(self, num_bytes: int = 0, start_time: float | None = None) -> uuid.UUID:
        """Note that the transfer of an object begins.

        Parameters
        ----------
        num_bytes : int
            Accepted for compatibility, without effect; `end_io` counts the bytes.
        start_time : float, optional
            Of `time.monotonic`; by default now.

        Returns
        -------
        uuid.UUID
            Identifies the transfer in `end_io` and `end_error`.
        """
        flight = uuid.uuid4()
        with self._lock:
            self._running[flight] = time.monotonic() if start_time is None else start_time
        return flight

    def end_io(self, flight_id: uuid.UUID, num_bytes: int) -> None:
        """Note that a transfer is complete.

        Parameters
        ----------
        flight_id : uuid.UUID
            As `start_io` returned it.
        num_bytes : int
            As stored.
        """
        with self._lock:
            start = self._running.pop(flight_id)
            self._done.append((start, max(time.monotonic(), start + 1e-6), num_bytes))

    def end_error(self, flight_id: uuid.UUID) -> None:
        """Note that a transfer failed.

        Parameters
        ----------
        flight_id : uuid.UUID
            As `start_io` returned it.
        """
        with self._lock:
            self._running.pop(flight_id, None)

    @classmethod
    def merge(cls, tms: Iterable[TransmissionMonitor]) -> TransmissionMonitor:
        """Put several records together.

        Parameters
        ----------
        tms : iterable of TransmissionMonitor

        Returns
        -------
        TransmissionMonitor
        """
        tms = list(tms)
        merged = cls(tms[0].direction if tms else IOEnum.TX)
        for one in tms:
            merged._done += one._done
        return merged

    def total_bytes(self) -> int:
        """Return the bytes of all objects.

        Returns
        -------
        int
        """
        with self._lock:
            return sum(count for _, _, count in self._done)

    def start_unix_time(self) -> float:
        """Return when the first transfer began, on the clock of `time.monotonic`.

        Returns
        -------
        float
        """
        with self._lock:
            return min(start for start, _, _ in self._done)

    def end_unix_time(self) -> float:
        """Return when the last transfer ended, on the clock of `time.monotonic`.

        Returns
        -------
        float
        """
        with self._lock:
            return max(end for _, end, _ in self._done)

    def total_bps(self) -> float:
        """Return the mean bits per second.

        Returns
        -------
        float
            0 if no transfer is complete.
        """
        if not self._done:
            return 0.0
        return self.total_bytes() * 8 / (self.end_unix_time() - self.start_unix_time())

    def current_bps(self, look_back_sec: float = 2.0) -> float:
        """Return the bits per second of the last seconds.

        Parameters
        ----------
        look_back_sec : float, default 2.0
            How many seconds.

        Returns
        -------
        float
        """
        now = time.monotonic()
        since = now - look_back_sec
        with self._lock:
            recent = [flight for flight in self._done if flight[1] > since]
        if not recent:
            return 0.0
        inside = (n * (end - max(start, since)) / (end - start) for start, end, n in recent)
        return sum(inside) * 8 / min(look_back_sec, max(1e-6, now - self.start_unix_time()))

    def histogram(self, resolution: float = 1.0) -> list[int]:
        """Return the bytes of each interval of time.

        Parameters
        ----------
        resolution : float, default 1.0
            Length of an interval in seconds.

        Returns
        -------
        list of int
        """
        if resolution <= 0:
            raise ValueError(f"Resolution must be positive. Got: {resolution}")
        if not self._done:
            return []
        begin = math.floor(self.start_unix_time())
        intervals = [0.0] * (int((self.end_unix_time() - begin) / resolution) + 1)
        for start, end, count in list(self._done):
            for i in range(int((start - begin) / resolution), int((end - begin) / resolution) + 1):
                first = begin + i * resolution
                inside = min(end, first + resolution) - max(start, first)
                intervals[i] += count * inside / (end - start)
        return [round(interval) for interval in intervals]

    def peak_bps(self) -> float:
        """Return the bits per second of the best second.

        Returns
        -------
        float
        """
        return max(self.histogram(), default=0) * 8.0

    def total_Mbps(self) -> float:
        """Return megabits per second; see `total_bps`."""
        return self.total_bps() / 1e6

    def total_Gbps(self) -> float:
        """Return gigabits per second; see `total_bps`."""
        return self.total_bps() / 1e9

    def total_MBps(self) -> float:
        """Return megabytes per second; see `total_bps`."""
        return self.total_bps() / 8e6

    def total_GBps(self) -> float:
        """Return gigabytes per second; see `total_bps`."""
        return self.total_bps() / 8e9

    def current_Mbps(self, look_back_sec: float = 2.0) -> float:
        """Return megabits per second; see `current_bps`."""
        return self.current_bps(look_back_sec) / 1e6

    def current_Gbps(self, look_back_sec: float = 2.0) -> float:
        """Return gigabits per second; see `current_bps`."""
        return self.current_bps(look_back_sec) / 1e9

    def current_MBps(self, look_back_sec: float = 2.0) -> float:
        """Return megabytes per second; see `current_bps`."""
        return self.current_bps(look_back_sec) / 8e6

    def current_GBps(self, look_back_sec: float = 2.0) -> float:
        """Return gigabytes per second; see `current_bps`."""
        return self.current_bps(look_back_sec) / 8e9


@contextlib.contextmanager
def recorded(monitor: TransmissionMonitor) -> Iterator[Callable[[int], None]]:
    """Record one transfer; what is given is called with its bytes once they are known."""
    flight = monitor.start_io()
    try:
        yield functools.partial(monitor.end_io, flight)
    except BaseException:
        monitor.end_error(flight)
        raise


def bar_of(progress: Any, title: str, items: Any, total: int | None = None) -> Bar:
    """Return a bar over items for an argument ``progress``: bool, text, or a bar to advance."""
    if hasattr(progress, "update"):
        return Bar(title, drawn=progress)
    many = listed(items)[0]
    if total is None and hasattr(many, "__len__"):
        total = len(many)
    title = f"{title} {progress}" if isinstance(progress, str) else title
    return Bar(title, total, in_bytes=False, shown=bool(progress))
