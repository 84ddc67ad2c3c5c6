"""The order of sources: which is tried, when the next one is, and what is told when all fail.

Sources are tried in rounds. Within a round each is tried once, in order, so a mirror that is down
costs one attempt before the next one helps. Sources that failed in passing (connection, timeout,
429, 5xx) are tried again in the next round after a wait; "not there", "not allowed" and wrong bytes
are final. The waits follow decorrelated jitter (M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015), and never fall below a server's ``Retry-After``.
"""

from __future__ import annotations

from . import urls
from .errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
)
from .stores import Source, open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    T = TypeVar("T")

#: Seconds: first and longest wait between two rounds, and the longest ``Retry-After`` obeyed.
FIRST_WAIT, LONGEST_WAIT, LONGEST_RETRY_AFTER = 0.25, 20.0, 120.0


class Mirrors:
    """Ordered base URLs that are expected to hold the same bytes.

    Parameters
    ----------
    bases : sequence of str
        URLs with placeholders, in order; repeated ones count once.
    rules : mapping of str to str
        Site rewrites of URL prefixes.
    timeout : float
        Seconds to connect, and between bytes.
    values : mapping of str to str or None
        What the placeholders stand for.
    """

    def __init__(
        self,
        bases: Sequence[str],
        rules: Mapping[str, str],
        timeout: float,
        values: Mapping[str, str | None],
    ) -> None:
        self._rules = rules
        self._timeout = timeout
        self._values = values
        self._bases = list(dict.fromkeys(bases))

    def sources(self, name: str, own: Sequence[str] = ()) -> list[Source]:
        """Return where an object should be, in order.

        Parameters
        ----------
        name : str
        own : sequence of str
            Addresses of this object alone; they come first.

        Returns
        -------
        list of Source

        Raises
        ------
        ConfigError
            A URL is malformed.
        """
        found: dict[str, Source] = {}
        for url, rest in [(url, "") for url in own] + [(base, name) for base in self._bases]:
            url = urls.expand(url, self._values)
            store = open_store(urls.rewrite(url, self._rules), self._timeout)
            found.setdefault(store.address(rest), Source(store, rest))
        return list(found.values())


def first_good(
    name: str,
    sources: Sequence[Source],
    attempt: Callable[[Source], T],
    retries: int,
    sleep: Callable[[float], None] | None = None,
    uniform: Callable[[float, float], float] | None = None,
) -> T:
    """Return what the first source that works gives.

    Parameters
    ----------
    name : str
        For errors.
    sources : sequence of Source
    attempt : callable
        Called with a source; raises a `PkgdataError` if that source fails.
    retries : int
        Further rounds after the first.
    sleep, uniform : callable, optional
        Stand-ins for `time.sleep` and `random.uniform`.

    Returns
    -------
    object

    Raises
    ------
    IntegrityError
        Bytes came, and were wrong, and nothing else may help.
    AllMirrorsFailedError
        Each source failed; ``attempts`` lists why.
    """
    import random
    import time

    sleep = sleep or time.sleep
    uniform = uniform or random.uniform
    failures: dict[str, PkgdataError] = {}
    pending, wait, slept = [(source, 0.0) for source in sources], FIRST_WAIT, 0.0
    for left in range(retries, -1, -1):
        again = []
        for source, due in pending:
            if due > slept:
                again.append((source, due))
                continue
            try:
                return attempt(source)
            except (StoreError, IncompleteTransferError, IntegrityError) as error:
                failures[source.address] = error
                if _may_help(error):
                    again.append((source, slept + (getattr(error, "retry_after", None) or 0.0)))
        if not again or not left:
            break
        wait = min(LONGEST_WAIT, uniform(FIRST_WAIT, wait * 3))
        # the first that may be asked again ends a wait; the last round has all of them
        first_due = (min if left > 1 else max)(due for _, due in again)
        pause = max(wait, first_due - slept)
        sleep(pause)
        slept = max(slept + pause, first_due)  # rounding must not leave it short of the due time
        pending = again
    raise _verdict(name, failures)


def _may_help(error: PkgdataError) -> bool:
    after = getattr(error, "retry_after", None) or 0.0
    return bool(getattr(error, "transient", False)) and after <= LONGEST_RETRY_AFTER


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
    if isinstance(first, IntegrityError) and not any(_may_help(error) for _, error in attempts):
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
