"""One object from the first good of its sources into a file: what every download goes through.

Sources are tried in rounds. Within a round each is tried once, in order, so a mirror that is down
costs one attempt before the next one helps. Sources whose failure was transient (connection,
timeout, 429, 5xx) are tried again in the next round after a wait; "not there", "not allowed" and
wrong bytes are final. The waits follow decorrelated jitter (M. Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015), and never fall below a server's ``Retry-After``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from ..base import fs, hashes, retry, text, urls
from ..base.config import conf
from ..base.hashes import Digest
from ..base.progress import DONE, FAILED, HIT, RETRY, Callback, Event, silent
from ..errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    MissingExtraError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
)
from ..stores import Body, Source, canonical, open_store
from .one import Receiver, Transfer, unexpected_page
from .ranges import Limits

T = TypeVar("T")

#: Scheme, host and port of a server, and the target of the request to it.
Route = tuple[tuple[str, str, int], str]

#: Seconds for which a server that failed is tried last.
DOWN_SECONDS = 600.0

#: Servers of which this process has warned that others had to stand in for them.
_warned: set[str] = set()


def configured(setting: Callable[[str], Any] = conf.__getattr__) -> Limits:
    """Return the limits that settings ask for, those of `conf` by default."""
    names = ("download_block_size", "stall_bytes", "stall_seconds", "connections")
    return Limits(*map(setting, names))


class Fetched(NamedTuple):
    """What came, and from where."""

    digest: Digest
    source: Source


def fetch(
    name: str,
    target: Receiver,
    sources: Sequence[Source],
    digest: Digest | None,
    size: int | None = None,
    show: Callback = silent,
    *,
    limits: Limits | None = None,
    check: Callable[[str, bytes, int, Body], str | None] = unexpected_page,
    **rounds: Any,
) -> Fetched:
    """Fill a file from the first source that has the right bytes; limits and retries as configured.

    See `Transfer` for ``target`` and ``check``, `first_good` for ``rounds`` and errors.
    """
    rounds.setdefault("retries", int(conf.retries))
    transfer = Transfer(
        name, target, digest, size, limits or configured(), show, others=sources, check=check
    )
    transfer.attempts = rounds["retries"] + 1
    failures: dict[str, PkgdataError] = {}
    tries: dict[str, int] = {}
    began, before = time.monotonic(), target.offset

    def attempt(source: Source) -> Fetched:
        address = source.address
        transfer.attempt = tries[address] = tries.get(address, 0) + 1
        try:
            return Fetched(transfer.run(source.store, source.name), source)
        except (StoreError, IncompleteTransferError, IntegrityError) as error:
            failures[address] = error
            why, turn = error.message.partition("\n")[0], (transfer.attempt, transfer.attempts)
            text.log(20, "%s (try %d of %d)", why, *turn)
            host = address.split("/")[2] if "://" in address else address
            show(Event(name, RETRY, target.offset, size, why.replace(address, host), *turn))
            raise

    found = first_good(name, sources, attempt, **rounds)
    report(name, found.source.address, target.offset - before, time.monotonic() - began)
    _warn_of(failures, name, found.source.address)
    return found


def report(name: str, address: str, count: int, took: float) -> None:
    """Log a download: from where, how many bytes, how long it took."""
    text.log(20, "%s: %s from %s", name, text.speed(count, took), address)


def _warn_of(failures: Mapping[str, PkgdataError], name: str, address: str) -> None:
    """Warn of wrong bytes, and once of each server for which another one stood in."""
    for bad, error in failures.items():
        wrong, server = isinstance(error, IntegrityError), "/".join(bad.split("/", 3)[:3])
        if wrong or (bad != address and server not in _warned):
            _warned.add(server)
            why = error.message.partition("\n")[0]
            text.log(30, "%s; %s came from %s", why, repr(name), address)


@contextlib.contextmanager
def shown(
    name: str, show: Callback, size: Callable[[], int], is_new: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Report at the end of a block that an object is here, of ``size()`` bytes, or has failed."""
    try:
        yield
    except BaseException:
        show(Event(name, FAILED))
        raise
    try:
        done = size()
    except OSError:
        done = 0  # another process has removed it since; the caller's use of the path tells
    show(Event(name, DONE if is_new() else HIT, done, done))


# -- the sources, and the order in which they are tried ----------------------------------------


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
        places = [(self.resolved(url), "") for url in own]
        places += [(base, name) for base in self.bases()]
        found: dict[str, Source] = {}
        for url, inside in places:
            store = open_store(url, self._timeout)
            found.setdefault(store.address(inside), Source(store, inside))
        return list(found.values())

    def is_near(self, own: Sequence[str] = ()) -> bool:
        """Return True if the first source of an object is on this computer."""
        first = self.resolved(own[0]) if own else next(iter(self.bases()), "")
        return urls.scheme(first) == "file"

    def resolved(self, url: str) -> str:
        """Return a URL with its placeholders filled and the site's rules applied."""
        found = urls.rewrite(urls.expand(url, self._values), self._rules)
        if not (urls.scheme(found) or os.path.isabs(os.path.expanduser(found))):
            raise ConfigError(  # the working directory must not decide where data come from
                f"{found!r} is no URL and no absolute path of a folder",
                hint="write https://HOST/FOLDER, or file:///FOLDER",
            )
        return canonical(found)

    def bases(self) -> list[str]:
        """Return the base URLs in the order in which they are tried."""
        found = list(dict.fromkeys(map(self.resolved, self._bases)))
        return found if self._health is None else sorted(found, key=self._health.is_down)


class Health:
    """Remembers for a while which servers failed, for all of a user's processes.

    The time of a file ``hosts-v1/<md5 of scheme and host>.down`` in the cache says when; an old one
    means nothing. It changes the order in which mirrors are tried, never the outcome.
    """

    def __init__(self, root: str) -> None:
        self._folder = os.path.join(root, "hosts-v1")

    def _file(self, url: str) -> str:
        server = "/".join(url.split("/", 3)[:3]).rpartition("@")[2]
        return os.path.join(self._folder, f"{hashes.short_key(server)}.down")

    def is_down(self, url: str) -> bool:
        """Return True if the server of a URL failed recently."""
        try:
            return time.time() - os.stat(self._file(url)).st_mtime < DOWN_SECONDS
        except OSError:
            return False

    def note(self, url: str, down: bool) -> None:
        """Remember that the server of a URL failed, or that it answers again."""
        path = self._file(url)
        with contextlib.suppress(OSError):  # only the next call would have been faster
            if not down:
                os.unlink(path)
            else:
                fs.make_dirs(self._folder)
                fs.write_atomic(path, b"", sync=False, follow=True)


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
        again, patience = [], 0.0
        for source, due in pending:
            if due > slept:
                again.append((source, due))
                patience = float("inf")
                continue
            try:
                found = attempt(source)
                if health is not None and failures:
                    _report(health, source, sources, failures)
                return found
            except (
                StoreError,
                IncompleteTransferError,
                IntegrityError,
                MissingExtraError,
            ) as error:
                failures[source.address] = error
                if policy.may_help(error):
                    again.append((source, slept + retry.asked(error)))
                    patience = max(patience, retry.patience(error))
        if not again or not left:
            break
        wait = policy.following(wait)
        # the first that may be asked again ends a wait; the last round has all of them
        first_due = (min if left > 1 else max)(due for _, due in again)
        pause = min(max(wait, first_due - slept), patience)
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
    if isinstance(error, (AccessDeniedError, MissingExtraError)):
        return 1
    if isinstance(error, ObjectNotFoundError):
        return 4
    return 3 if getattr(error, "transient", False) else 2


def _verdict(name: str, failures: dict[str, PkgdataError]) -> PkgdataError:
    if not failures:
        return ConfigError(
            f"{name!r} is not here and no dataurl says where to fetch it",
            hint="give the package a dataurl in pkgdata.toml or pkgdata.declare()",
            command="give the package a dataurl in its pkgdata.toml",
        )
    attempts = sorted(failures.items(), key=lambda pair: _usefulness(pair[1]))
    first = attempts[0][1]
    if isinstance(first, MissingExtraError) and len(attempts) == 1:
        return first
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
    command = next((error.command for _, error in attempts if error.hint), None)
    if hint is None and all(isinstance(error, ObjectNotFoundError) for _, error in attempts):
        hint = "the registry names this file but no mirror holds it; tell the package's authors"
    if hint is None:
        hint = ".where(name) shows every place that is looked into"
        command = "'pkgdata where' shows every place that is looked into"
        if any(retry.POLICY.may_help(error) for _, error in attempts):
            hint, command = f"try again later; {hint}", f"try again later; {command}"
    return AllMirrorsFailedError(
        f"cannot fetch {name!r} from {'any of ' if len(attempts) > 1 else ''}"
        f"{len(attempts)} mirror{'s' if len(attempts) > 1 else ''}:\n{_lines(attempts)}",
        hint=hint,
        command=command,
        name=name,
        attempts=attempts,
    )


def _lines(attempts: Sequence[tuple[str, PkgdataError]]) -> str:
    return "\n".join(f"  {error.message}" for _, error in attempts)


# -- which objects plain requests reach: those of `pkgdata.transfer.sockets` -------------------


class Routes:
    """How the objects of some mirrors are reached."""

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors
        self._direct: dict[str, bool] = {}
        bases = mirrors.bases()
        self._bases = [urls.join(base, "") if base[:4] == "http" else base for base in bases]
        self._reached = [self._reach(base) for base in self._bases]

    def _reach(self, url: str) -> Route | None:
        found = plain_route(url)
        if found is None:
            return None
        host = found[0][1]
        if host not in self._direct:
            self._direct[host] = is_direct(host)
        return found if self._direct[host] else None

    def route(self, name: str, own: Sequence[str], turn: int) -> Route | None:
        """Return how the n-th source of an object is reached; None if not by plain requests.

        ``own`` are the addresses of this object alone, which come first.
        """
        if turn < len(own):
            return self._reach(self._mirrors.resolved(own[turn]))
        turn -= len(own)
        found = self._reached[turn] if turn < len(self._reached) else None
        if found is None:
            return None
        if "?" in found[1]:
            return self._reach(urls.join(self._bases[turn], name))
        # the rest of the URL is the same for all of them
        return found[0], found[1] + urls.quote_name(name)


def plain_route(url: str) -> Route | None:
    """Return how a quoted URL is reached; None if it holds a login or is not plain."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None  # a bad port or bracket; a single fetch words it
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or port == 0:
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not (url.isascii() and target.isprintable()) or " " in target:
        return None
    return (parts.scheme, host, port or (443 if parts.scheme == "https" else 80)), target


def is_direct(host: str) -> bool:
    """Return True if a server is reached without a proxy and without a login from ``netrc``."""
    names = [f"{kind}_proxy" for kind in ("http", "https", "all")]
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in names):
        return False
    if sys.platform in ("darwin", "win32"):
        import urllib.request

        if urllib.request.getproxies():
            return False
    # of one that cannot be read the error of a single fetch tells
    return not urls.netrc_problem() and urls.netrc_login(host) is None
