"""When each object was on its way, and how fast: what `return_recording` adds to a result."""

from __future__ import annotations

import enum
import math
import threading
import time
import uuid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class IOEnum(enum.Enum):
    """Which way the bytes went."""

    RX = 1
    TX = 2


class TransmissionMonitor:
    """The flights of objects: when each began and ended, and its bytes as stored.

    Parameters
    ----------
    direction : IOEnum
    """

    def __init__(self, direction: IOEnum) -> None:
        self.direction = direction
        self._lock = threading.Lock()
        self._under_way: dict[uuid.UUID, float] = {}
        self._landed: list[tuple[float, float, int]] = []
        self._failed: set[uuid.UUID] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def start_io(self, num_bytes: int = 0, start_time: float | None = None) -> uuid.UUID:
        """Note that an object leaves.

        Parameters
        ----------
        num_bytes : int
            Taken for cloud-files' sake; `end_io` says what came.
        start_time : float, optional
            Of `time.monotonic`; by default now.

        Returns
        -------
        uuid.UUID
            Its name for `end_io`.
        """
        flight = uuid.uuid4()
        with self._lock:
            self._under_way[flight] = time.monotonic() if start_time is None else start_time
        return flight

    def end_io(self, flight_id: uuid.UUID, num_bytes: int) -> None:
        """Note that an object has arrived.

        Parameters
        ----------
        flight_id : uuid.UUID
        num_bytes : int
        """
        with self._lock:
            start = self._under_way.pop(flight_id)
            self._landed.append((start, max(time.monotonic(), start + 1e-6), num_bytes))

    def end_error(self, flight_id: uuid.UUID) -> None:
        """Note that an object will not arrive.

        Parameters
        ----------
        flight_id : uuid.UUID
        """
        with self._lock:
            self._failed.add(flight_id)

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
            merged._landed += one._landed
            merged._failed |= one._failed
        return merged

    def total_bytes(self) -> int:
        """Return the bytes of all objects.

        Returns
        -------
        int
        """
        with self._lock:
            return sum(count for _, _, count in self._landed)

    def start_unix_time(self) -> float:
        """Return when the first object left, as `time.monotonic` counts.

        Returns
        -------
        float
        """
        with self._lock:
            return min(start for start, _, _ in self._landed)

    def end_unix_time(self) -> float:
        """Return when the last object arrived, as `time.monotonic` counts.

        Returns
        -------
        float
        """
        with self._lock:
            return max(end for _, end, _ in self._landed)

    def total_bps(self) -> float:
        """Return the mean bits per second.

        Returns
        -------
        float
            0 if nothing has arrived.
        """
        if not self._landed:
            return 0.0
        return self.total_bytes() * 8 / (self.end_unix_time() - self.start_unix_time())

    def current_bps(self, look_back_sec: float = 2.0) -> float:
        """Return the bits per second of the last seconds.

        Parameters
        ----------
        look_back_sec : float, default 2.0

        Returns
        -------
        float
        """
        now = time.monotonic()
        since = now - look_back_sec
        with self._lock:
            landed = [flight for flight in self._landed if flight[1] > since]
        if not landed:
            return 0.0
        inside = (n * (end - max(start, since)) / (end - start) for start, end, n in landed)
        return sum(inside) * 8 / min(look_back_sec, max(1e-6, now - self.start_unix_time()))

    def histogram(self, resolution: float = 1.0) -> list[int]:
        """Return the bytes of each span of time.

        Parameters
        ----------
        resolution : float, default 1.0
            Seconds of a span.

        Returns
        -------
        list of int
        """
        if resolution <= 0:
            raise ValueError(f"Resolution must be positive. Got: {resolution}")
        if not self._landed:
            return []
        begin = math.floor(self.start_unix_time())
        spans = [0.0] * (int((self.end_unix_time() - begin) / resolution) + 1)
        for start, end, count in list(self._landed):
            for i in range(int((start - begin) / resolution), int((end - begin) / resolution) + 1):
                first = begin + i * resolution
                inside = min(end, first + resolution) - max(start, first)
                spans[i] += count * inside / (end - start)
        return [round(span) for span in spans]

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
