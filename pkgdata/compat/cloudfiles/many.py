"""One or many: arguments that may be either, progress bars, threads and worker processes."""

from __future__ import annotations

from ...base import pool
from ...errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    R = TypeVar("R")


def listed(items: Any) -> tuple[Any, bool]:
    """Return what may be one or many as many, and whether it was."""
    if isinstance(items, (str, dict)) or not hasattr(items, "__iter__"):
        return [items], False
    return items, True


class Bar:
    """A bar of tqdm, or nothing; a context manager.

    Parameters
    ----------
    progress : bool, str or tqdm
        A text is shown before the bar. A bar that is given is moved on and stays open.
    items : object
        Its length, if it has one, is the total.
    """

    def __init__(self, progress: Any, title: str, items: Any, total: int | None = None) -> None:
        self._bar: Any = None
        self._mine = not hasattr(progress, "update")
        if not self._mine:
            self._bar = progress
        elif progress:
            from tqdm import tqdm

            many = listed(items)[0]
            if total is None and hasattr(many, "__len__"):
                total = len(many)
            text = f"{title} {progress}" if isinstance(progress, str) else title
            self._bar = tqdm(total=total, desc=text)

    def update(self, count: int) -> None:
        """Move on."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None and self._mine:
            self._bar.close()


def each(
    function: Callable[[Any], R], items: Iterable[Any], threads: int, bar: Bar
) -> Iterator[tuple[Any, R]]:
    """Call a function for each item, several at once; the first error ends it.

    Yields
    ------
    (item, result)
        In the order of the items.
    """
    for item, value, error in pool.run(function, items, threads, ordered=True):
        if error is not None:
            raise error
        bar.update(1)
        yield item, value  # type: ignore[misc]  # without an error there is a value


def processes(parallel: Any) -> int:
    """Return how many worker processes are asked for.

    Parameters
    ----------
    parallel : int or bool
        0 for one per processor.
    """
    count = int(parallel)
    if count < 0:
        raise ConfigError(f"parallel must be >= 0. Got: {parallel}")
    if count == 0:
        import os

        count = os.cpu_count() or 1
    return count


class Part:
    """Calls a method for a list of items, in a worker process.

    Parameters
    ----------
    method : str
        Returns a list, or how many items it has done.
    """

    def __init__(self, target: Any, method: str, options: dict[str, Any]) -> None:
        self._target = target
        self._method = method
        self._options = options

    def __call__(self, items: list[Any]) -> list[Any]:
        found = getattr(self._target, self._method)(items, parallel=1, **self._options)
        return found if isinstance(found, list) else [None] * len(items)


def spread(target: Any, method: str, items: Any, count: int, bar: Bar, **options: Any) -> list[Any]:
    """Call a method for all items, in worker processes.

    Parameters
    ----------
    count : int
        Processes.
    **options
        Of the method.

    Returns
    -------
    list
        One result for each item; those of one process's turn stay in order.
    """
    results = []
    for result in pool.spread(Part(target, method, options), items, count):
        bar.update(1)
        results.append(result)
    return results


def jsonify(value: Any) -> bytes:
    """Write JSON as cloud-files does: compact UTF-8, NumPy's numbers and arrays included."""
    import json

    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        plain = _plain(value)
        text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _plain(value: Any) -> Any:
    """Return what JSON has words for; it has none for NaN, which becomes null."""
    import dataclasses
    import datetime
    import enum
    import uuid

    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value
