"""Who brings the bytes of a file for pooch's users: pkgdata's transfer, or a callable of theirs."""

from __future__ import annotations

import contextlib
import functools
import os
import time

from ...base import config, hashes
from ...base.progress import DONE, FAILED, START, Event, silent, view
from ...errors import IntegrityError, PkgdataError
from . import errors
from .place import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ...base.hashes import Digest
    from ...base.progress import Callback
    from ...cache.partial import Partial
    from ...stores import Source
    from ...transfer.one import Transfer
    from .place import Spot


def logger() -> Any:
    """Return pooch's logger, which is not in the tree of `logging`."""
    return pooch_module("utils").get_logger()


@functools.cache
def pooch_module(name: str) -> Any:
    """Return a module of pooch.

    The submodule alone is asked for, and once, so that ``sys.modules["pooch"]`` may be ours.
    """
    import importlib

    return importlib.import_module(f"pooch.{name}")


def retrying(count: int, name: str, attempt: Callable[[], None]) -> None:
    """Try as often as ``retry_if_failed`` says, with pooch's waits and words.

    Parameters
    ----------
    count : int
        Further attempts.
    """
    for number in range(count + 1):
        try:
            attempt()
            return
        except Exception as error:
            left = count - number
            if not left or not _worth_retrying(error):
                raise
            logger().info(
                "Failed to download '%s'. Will attempt the download again %d more time%s.",
                name,
                left,
                "s" if left > 1 else "",
            )
            time.sleep(min(number + 1, 10))


def _worth_retrying(error: Exception) -> bool:
    import requests.exceptions

    return isinstance(error, (ValueError, requests.exceptions.RequestException))


class Call:
    """Fill a `Partial` by a callable of the user: ``downloader(url, output_file, pooch)``.

    Parameters
    ----------
    caller : object
        Passed as the third argument.
    """

    resume = False
    found = None

    def __init__(
        self, spot: Spot, url: str, downloader: Callable[..., Any], caller: object, retries: int
    ) -> None:
        self._spot = spot
        self._url = url
        self._downloader = downloader
        self._caller = caller
        self._retries = retries

    def __call__(self, partial: Partial) -> None:
        """Run it and verify what came."""
        partial.close()  # the callable opens the file itself, or puts another one in its place
        retrying(self._retries, self._spot.base, lambda: self._once(partial.path))

    def _once(self, path: str) -> None:
        with open(path, "wb"):
            pass  # nothing of an attempt that failed
        self._downloader(self._url, path, self._caller)
        expected = self._spot.digest
        if expected is None:
            return
        actual = hashes.hash_file(path, expected.alg)
        if actual != expected:
            error = IntegrityError(
                f"wrong bytes for {self._spot.name!r}",
                name=self._spot.name,
                source=self._url,
                expected=str(expected),
                actual=str(actual),
            )
            raise errors.mismatch(self._spot.base, self._spot.known or "", error)


class Engine:
    """Fill a `Partial` by pkgdata's transfer.

    Parameters
    ----------
    sources : callable
        Called at the first attempt; returns the sources in order.
    progressbar : object
        As given to pooch: a truth value or a progress bar.
    agent : str, optional
        First words of the ``User-Agent``.
    """

    def __init__(
        self,
        spot: Spot,
        sources: Callable[[], Sequence[Source]],
        progressbar: object,
        retries: int,
        agent: str | None = None,
    ) -> None:
        self._spot = spot
        self._sources = sources
        self._show = _progress(progressbar)
        self._retries = retries
        self._agent = agent
        self.resume = spot.digest is not None
        #: Of the bytes that came, for what no hash pins.
        self.found: Digest | None = None

    def __call__(self, partial: Partial) -> None:
        """Bring and verify the bytes."""
        spot, transfer = self._spot, self._transfer(partial)
        try:
            with contextlib.ExitStack() as stack:
                if self._agent:
                    stack.enter_context(
                        config.conf.set_temp("default_http_user_agent", self._agent)
                    )
                retrying(self._retries, spot.base, lambda: self._once(transfer))
        except BaseException:
            self._show(Event(spot.name, FAILED))
            raise
        size = os.fstat(partial.fd).st_size
        self._show(Event(spot.name, DONE, size, size))

    def _transfer(self, partial: Partial) -> Transfer:
        from ...transfer.limits import Limits
        from ...transfer.one import Transfer

        conf = config.conf
        limits = Limits(
            conf.download_block_size, conf.stall_bytes, conf.stall_seconds, conf.connections
        )
        return Transfer(self._spot.name, partial, self._spot.digest, None, limits, self._show)

    def _once(self, transfer: Transfer) -> None:
        from ...transfer.mirrors import first_good

        spot = self._spot
        rounds, origin = config.resolve("retries")
        try:
            transfer.others = sources = self._sources()
            self.found = first_good(
                spot.name,
                sources,
                lambda source: transfer.run(source.store, source.name),
                # pooch tries once unless told otherwise; a round more is for whoever asks for it
                retries=0 if origin == "default" else rounds,
                health=health(),
            )
        except PkgdataError as error:
            made = errors.translated(error, spot.base, spot.known)
            if made is error:
                raise
            raise made from error


def health() -> Any:
    """Return what is known of servers that are down."""
    from ...transfer.mirrors import Health

    root = settings()[1]
    return None if root is None else Health(root)


# -- progress ----------------------------------------------------------------------------------


def _progress(progressbar: Any) -> Callback:
    if progressbar is True:
        return view(True)
    return _Foreign(progressbar) if progressbar else silent


class _Foreign:
    """Moves a progress bar object of the user: ``total``, ``update``, ``reset``, ``close``."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._done = 0

    def __call__(self, event: Event) -> None:
        bar = self._bar
        if event.state == FAILED:
            return
        if event.state == START or event.total is not None:
            bar.total = event.total or 0
        if event.state == DONE:
            # as pooch ends it, whatever was counted before
            bar.reset()
            bar.update(event.done)
            bar.close()
            return
        if event.done < self._done:
            bar.reset()
            self._done = 0
        if event.done > self._done:
            bar.update(event.done - self._done)
            self._done = event.done
