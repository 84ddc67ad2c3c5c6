"""The order of sources: which is tried, when the next one is, and which error all failures make.

Sources are tried in rounds. Within a round each is tried once, in order, so a mirror that is down
costs one attempt before the next one helps. Sources that failed in passing (connection, timeout,
429, 5xx) are tried again in the next round after a wait; "not there", "not allowed" and wrong bytes
are final. The waits follow decorrelated jitter (M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015), and never fall below a server's ``Retry-After``.
"""

from __future__ import annotations

import os

from ..base import fs, hashes, retry, urls
from ..errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
)
from ..stores import Source, canonical, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    T = TypeVar("T")


#: Seconds for which a server that failed is tried last.
DOWN_SECONDS = 600.0


class Mirrors:
    """Ordered base URLs that are expected to hold the same bytes.

    ``values`` fill the placeholders of the URLs; ``rules`` are the site's rewrites of prefixes.
    """

    def __init__(
        self,
        bases: Sequence[str],
        rules: Mapping[str, str],
        timeout: float,
        values: Mapping[str, str | None],
        health: Health | None = None,
    ) -> None:
        self._health = health
        self._rules = rules
        self._timeout = timeout
        self._values = values
        self._bases = list(dict.fromkeys(bases))

    def sources(self, name: str, own: Sequence[str] = ()) -> list[Source]:
        """Return where an object should be, in order; ``own`` are addresses of it alone."""
        found: dict[str, Source] = {}
        for url in own:
            store = open_store(self.resolved(url), self._timeout)
            found.setdefault(store.address(""), Source(store, ""))
        for base in self.bases():
            store = open_store(base, self._timeout)
            found.setdefault(store.address(name), Source(store, name))
        return list(found.values())

    def is_near(self, own: Sequence[str] = ()) -> bool:
        """Return True if the first source of an object is on this computer."""
        first = self.resolved(own[0]) if own else next(iter(self.bases()), "")
        return urls.scheme(first) == "file"

    def resolved(self, url: str) -> str:
        """Return a URL with its placeholders filled and the site's rules applied."""
        return canonical(urls.rewrite(urls.expand(url, self._values), self._rules))

    def bases(self) -> list[str]:
        """Return the base URLs in the order in which they are tried."""
        found = list(dict.fromkeys(map(self.resolved, self._bases)))
        return found if self._health is None else sorted(found, key=self._health.is_down)


class Health:
    """Remembers for a while which servers failed, for all of a user's processes.

    The time of a file ``hosts-v1/<md5 of scheme and host>.down`` in the cache says when; an old one
    means nothing. It changes the order in which mirrors are tried, never the outcome.
    """

    def __init__(self, root: str, clock: Callable[[], float] | None = None) -> None:
        import time

        self._folder = os.path.join(root, "hosts-v1")
        self._clock = clock or time.time

    def _file(self, url: str) -> str:
        server = "/".join(url.split("/", 3)[:3]).rpartition("@")[2]
        return os.path.join(self._folder, f"{hashes.short_key(server)}.down")

    def is_down(self, url: str) -> bool:
        """Return True if the server of a URL failed recently."""
        try:
            return self._clock() - os.stat(self._file(url)).st_mtime < DOWN_SECONDS
        except OSError:
            return False

    def note(self, url: str, down: bool) -> None:
        """Remember that the server of a URL failed, or that it answers again."""
        path = self._file(url)
        try:
            if not down:
                os.unlink(path)
            else:
                fs.make_dirs(self._folder)
                fs.write_atomic(path, b"", sync=False, follow=True)
        except OSError:
            pass  # only the next call would have been faster


def first_good(
    name: str,
    sources: Sequence[Source],
    attempt: Callable[[Source], T],
    retries: int,
    sleep: Callable[[float], None] | None = None,
    uniform: Callable[[float, float], float] | None = None,
    health: Health | None = None,
) -> T:
    """Return what ``attempt`` returns for the first source that works.

    ``attempt`` raises a `PkgdataError` if a source fails; ``retries`` are rounds after the first.
    An `IntegrityError` means that wrong bytes came and nothing else may help; an
    `AllMirrorsFailedError` lists in ``attempts`` why each source failed.
    """
    policy = retry.POLICY._replace(sleep=sleep, uniform=uniform)
    failures: dict[str, PkgdataError] = {}
    pending, wait, slept = [(source, 0.0) for source in sources], policy.first, 0.0
    for left in range(retries, -1, -1):
        again = []
        for source, due in pending:
            if due > slept:
                again.append((source, due))
                continue
            try:
                found = attempt(source)
                if health is not None and failures:
                    _report(health, source, sources, failures)
                return found
            except (StoreError, IncompleteTransferError, IntegrityError) as error:
                failures[source.address] = error
                if policy.may_help(error):
                    again.append((source, slept + retry.asked(error)))
        if not again or not left:
            break
        wait = policy.following(wait)
        # the first that may be asked again ends a wait; the last round has all of them
        first_due = (min if left > 1 else max)(due for _, due in again)
        pause = max(wait, first_due - slept)
        policy.pause(pause)
        slept = max(slept + pause, first_due)  # rounding must not leave it short of the due time
        pending = again
    raise _verdict(name, failures)


def _report(
    health: Health, good: Source, sources: Sequence[Source], failures: dict[str, PkgdataError]
) -> None:
    for source in sources:
        error = failures.get(source.address)
        if source is not good and error is not None and getattr(error, "transient", False):
            health.note(source.store.url, down=True)
    health.note(good.store.url, down=False)


def _usefulness(error: PkgdataError) -> int:
    """Order failures by what they tell: "not there" is the least when another one is down."""
    if isinstance(error, IntegrityError):
        return 0
    if isinstance(error, AccessDeniedError):
        return 1
    if isinstance(error, ObjectNotFoundError):
        return 4
    return 3 if getattr(error, "transient", False) else 2


def _verdict(name: str, failures: dict[str, PkgdataError]) -> PkgdataError:
    if not failures:
        return ConfigError(
            f"{name!r} is not here and no dataurl says where to fetch it",
            hint="give the package a dataurl in pkgdata.toml or pkgdata.declare()",
        )
    attempts = sorted(failures.items(), key=lambda pair: _usefulness(pair[1]))
    first = attempts[0][1]
    if isinstance(first, IntegrityError) and not any(
        retry.POLICY.may_help(error) for _, error in attempts
    ):
        if len(attempts) == 1:
            return first
        return IntegrityError(
            f"no mirror has the right bytes of {name!r}:\n{_lines(attempts)}",
            hint=first.hint,
            name=name,
            source=first.source,
            expected=first.expected,
            actual=first.actual,
            attempts=attempts,
        )
    hint = next((error.hint for _, error in attempts if error.hint), None)
    if hint is None and all(isinstance(error, ObjectNotFoundError) for _, error in attempts):
        hint = "the registry names this file but no mirror holds it; tell the package's authors"
    return AllMirrorsFailedError(
        f"cannot fetch {name!r} from {'any of ' if len(attempts) > 1 else ''}"
        f"{len(attempts)} mirror{'s' if len(attempts) > 1 else ''}:\n{_lines(attempts)}",
        hint=hint or "try again later; 'pkgdata where' shows every place that is looked into",
        name=name,
        attempts=attempts,
    )


def _lines(attempts: Sequence[tuple[str, PkgdataError]]) -> str:
    return "\n".join(f"  {error.message}" for _, error in attempts)
